"""The settings of the gateway."""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kith.client.settings import TargetSettings
from kith.environment import Environment
from shared.database.settings import DatabaseSettings
from shared.server.settings import ServerSettings

_COLLECTOR_PORT: Final = 4317  # of OTLP over gRPC


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Where the gateway listens, the services behind it, and the callers that it admits."""

    server: ServerSettings
    """GATEWAY_HOST, GATEWAY_PORT, GATEWAY_METRICS_PORT; certificates and tokens as in a service."""
    admin_port: int
    """Envoy's own page, on the loopback address alone: GATEWAY_ADMIN_PORT."""
    timeout: timedelta
    """For a call that brings no deadline: GATEWAY_TIMEOUT_SECONDS."""
    origins: list[str]
    """Web pages of other origins that may call: GATEWAY_ORIGINS."""
    pages: bool
    """Serve the console and the reference of the API: GATEWAY_PAGES."""
    graph_target: str
    feed_target: str
    target: TargetSettings
    traced_share: float
    """Which share of the traces that begin here is kept: OTEL_TRACES_SAMPLER_ARG."""
    folder: Path
    """Where to put what Envoy reads."""

    @property
    def published_keys(self) -> Path:
        """The public keys of AUTH_JWKS, when that is a file, for Envoy to serve."""
        return self.folder / "signing-keys.json"

    @property
    def written_pages(self) -> Path:
        """The folder of the pages that are made of the contracts."""
        return self.folder / "pages"

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "GatewaySettings":
        """Read the environment; raises SettingsError naming every variable that cannot be used."""
        environment = Environment(variables)
        settings = cls.read_from(environment)
        environment.check()
        return settings

    @classmethod
    def read_from(cls, environment: Environment) -> "GatewaySettings":
        """Read the variables; what cannot be used is noted in the environment."""
        graph_target = environment.text("GRAPH_TARGET", "127.0.0.1:50051")
        feed_target = environment.text("FEED_TARGET", "127.0.0.1:50052")
        settings = cls(
            server=ServerSettings.read(environment, "GATEWAY", port=8080, metrics_port=9103),
            admin_port=environment.port("GATEWAY_ADMIN_PORT", 9901, minimum=1),
            timeout=environment.duration("GATEWAY_TIMEOUT_SECONDS", 10, minimum=0.1, maximum=60),
            origins=environment.words("GATEWAY_ORIGINS"),
            pages=environment.switch("GATEWAY_PAGES", default=False),
            graph_target=graph_target,
            feed_target=feed_target,
            target=TargetSettings.read(environment, graph_target, feed_target),
            traced_share=environment.number("OTEL_TRACES_SAMPLER_ARG", 1, minimum=0, maximum=1),
            folder=DatabaseSettings.read(environment, "FEED").data_dir / "gateway",
        )
        settings._check(environment)
        return settings

    def _check(self, environment: Environment) -> None:
        """Refuse what would make a stranger's call one of the gateway's own."""
        tokens = self.server.auth and self.server.auth.tokens
        if self.target.token is not None:
            environment.problem(
                "TARGET_TOKEN_FILE", "is not supported by the gateway: callers show tokens"
            )
        if self.target.certificates.chain and not tokens:
            environment.problem(
                "TARGET_CERT_FILE",
                "needs AUTH_JWKS, otherwise every caller could act as the gateway",
            )
        if self.server.certificates and self.server.certificates.authorities:
            environment.problem(
                "TLS_CLIENT_CA_FILE", "is not supported by the gateway: callers show tokens"
            )
        if tokens and str(tokens.keys).startswith("https:") and not system_authorities():
            environment.problem("AUTH_JWKS", "needs SSL_CERT_FILE, the authorities of its server")
        if self.server.trace_collector:
            environment.require(
                "OTEL_EXPORTER_OTLP_ENDPOINT", lambda: collector(self.server.trace_collector)
            )
        environment.require("GATEWAY_HOST", lambda: ipaddress.ip_address(self.server.host))
        for name, target in (
            ("GRAPH_TARGET", self.graph_target),
            ("FEED_TARGET", self.feed_target),
        ):
            environment.require(name, lambda target=target: hosts(target))  # type: ignore[misc]  # mypy knows no default of a lambda


def hosts(target: str) -> list[tuple[str, int]]:
    """Return the hosts of a gRPC target; raises ValueError."""
    named = re.sub(r"^(dns:(///)?|ipv4:|ipv6:)", "", target).split(",")
    return [_host(host.strip()) for host in named]


def collector(url: str) -> tuple[str, int, bool]:
    """Return the host and port of a URL such as http://127.0.0.1:4317, and whether it is encrypted.

    Raises ValueError.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL such as http://127.0.0.1:4317")
    return parts.hostname, parts.port or _COLLECTOR_PORT, parts.scheme == "https"


def _host(host: str) -> tuple[str, int]:
    address, _, port = host.rpartition(":")
    if not address or not port.isdecimal():
        raise ValueError(f"{host!r} is not HOST:PORT")
    return address.strip("[]"), int(port)


def system_authorities() -> str | None:
    """Return the file of authorities that this system trusts, or that SSL_CERT_FILE names."""
    return ssl.get_default_verify_paths().cafile
