"""`kith gateway`: Envoy in front of both services, for callers over HTTP, gRPC-web and gRPC.

What Envoy is told stands in deploy/envoy/envoy.yaml. Here it gets what depends on settings and on
the contracts, which it takes from the stubs, so that it knows the calls that this version has.
"""

import base64
import ipaddress
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2
from rich.console import Console

from shared.cli.processes import ATTACHED
from shared.cli.terminal import CommandError
from shared.gen.kith.feed.v1 import feed_pb2
from shared.gen.kith.graph.v1 import graph_pb2
from shared.settings import DatabaseSettings, Environment, ServerSettings, TargetSettings

TEMPLATE: Final = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
GRAPH: Final[ServiceDescriptor] = graph_pb2.DESCRIPTOR.services_by_name["GraphService"]
FEED: Final[ServiceDescriptor] = feed_pb2.DESCRIPTOR.services_by_name["FeedService"]
_HTTP: Final[Any] = annotations_pb2.http  # as an extension, which its stub does not say
# What of an HTTP method may be repeated is said by RFC 9110, section 9.2.2.
_IDEMPOTENT = {"get", "put", "delete"}
# Characters of JSON that a byte of protobuf becomes at worst, as control characters may.
_JSON_GROWTH = 6
_PATIENCE_SECONDS = 0.25
_WATCH_SECONDS = 0.5
_POLL_SECONDS = 0.05
_ADMIN_SECONDS = 5
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_CONDITION = "only_with"
_LEFT_OUT = object()


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Where the gateway listens, what is behind it, and whom it lets through."""

    server: ServerSettings
    """GATEWAY_HOST, GATEWAY_PORT, GATEWAY_METRICS_PORT; certificates and tokens as in a service."""
    admin_port: int
    """Envoy's own page, on the loopback address alone: GATEWAY_ADMIN_PORT."""
    timeout: timedelta
    """For a call that brings no deadline: GATEWAY_TIMEOUT_SECONDS."""
    origins: list[str]
    """Web pages of other origins that may call: GATEWAY_ORIGINS."""
    graph_target: str
    feed_target: str
    target: TargetSettings
    folder: Path
    """Where to put what Envoy reads."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "GatewaySettings":
        """Read the environment; raises SettingsError naming every variable that cannot be used."""
        environment = Environment(variables)
        graph_target = environment.text("GRAPH_TARGET", "127.0.0.1:50051")
        feed_target = environment.text("FEED_TARGET", "127.0.0.1:50052")
        settings = cls(
            server=ServerSettings.read(environment, "GATEWAY", port=8080, metrics_port=9103),
            admin_port=environment.integer("GATEWAY_ADMIN_PORT", 9901, minimum=1, maximum=65_535),
            timeout=environment.duration("GATEWAY_TIMEOUT_SECONDS", 10, minimum=0.1, maximum=60),
            origins=environment.words("GATEWAY_ORIGINS"),
            graph_target=graph_target,
            feed_target=feed_target,
            target=TargetSettings.read(environment, graph_target, feed_target),
            folder=DatabaseSettings.read(environment, "FEED").data_dir / "gateway",
        )
        settings._check(environment)
        environment.check()
        return settings

    def _check(self, environment: Environment) -> None:
        """Refuse what would make a stranger's call one of the gateway's own."""
        tokens = self.server.auth and self.server.auth.tokens
        if self.target.token is not None:
            environment.problem("TARGET_TOKEN_FILE", "is not for a gateway: callers show tokens")
        if self.target.certificates.chain and not tokens:
            environment.problem(
                "TARGET_CERT_FILE", "needs AUTH_JWKS, or everybody could act as the gateway"
            )
        if self.server.certificates and self.server.certificates.authorities:
            environment.problem("TLS_CLIENT_CA_FILE", "is not for a gateway: callers show tokens")
        if tokens and str(tokens.keys).startswith("https:") and not _system_authorities():
            environment.problem("AUTH_JWKS", "needs SSL_CERT_FILE, whose server to believe")
        environment.require("GATEWAY_HOST", lambda: ipaddress.ip_address(self.server.host))
        for name, target in (
            ("GRAPH_TARGET", self.graph_target),
            ("FEED_TARGET", self.feed_target),
        ):
            environment.require(name, lambda target=target: _hosts(target))  # type: ignore[misc]


def gateway(console: Console) -> None:
    """Run Envoy until told to stop, and stop it without a lost call.

    Raises CommandError or SettingsError when it cannot start or ends by itself.
    """
    settings = GatewaySettings.read(os.environ)
    command = [*ATTACHED, str(os.getpid()), _envoy(), *_arguments(settings)]
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    # Ctrl-C is for this process, which then lets Envoy finish.
    with subprocess.Popen(command, process_group=0) as envoy:
        _welcome(settings, console)
        while not stopping.wait(_WATCH_SECONDS):
            if envoy.poll() is not None:
                raise CommandError(f"Envoy ended with status {envoy.returncode}")
        _drain(settings)
        envoy.terminate()


def _arguments(settings: GatewaySettings) -> list[str]:
    server = settings.server
    level = server.log_level.lower()
    return [
        *("-c", str(write_configuration(settings))),
        *("--log-level", "warning" if level == "info" else level),
        *("--concurrency", str(server.workers)),
        *("--file-flush-interval-msec", "1000"),
        # While it drains, every answer tells its client to connect elsewhere.
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(max(1, round(server.drain.total_seconds())))),
        # Two gateways on one machine would take each other for their successors.
        "--disable-hot-restart",
    ]


def _drain(settings: GatewaySettings) -> None:
    """Say that it stops, as the services do, and return when no call is in flight or it takes long.

    An Envoy that does not answer any more is not waited for.
    """
    server = settings.server
    with suppress(OSError):
        _admin(settings, "POST", "/healthcheck/fail")
        _admin(settings, "POST", "/drain_listeners?graceful&skip_exit")
        time.sleep(server.drain.total_seconds())
        deadline = time.monotonic() + server.grace.total_seconds()
        while _calls_in_flight(settings) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _calls_in_flight(settings: GatewaySettings) -> int:
    name = "http.gateway.downstream_rq_active"
    page = _admin(settings, "GET", f"/stats?filter=^{name}$")
    return int(page.rpartition(":")[2])


def _admin(settings: GatewaySettings, method: str, path: str) -> str:
    address = ("127.0.0.1", settings.admin_port)
    with closing(HTTPConnection(*address, timeout=_ADMIN_SECONDS)) as connection:
        connection.request(method, path)
        return connection.getresponse().read().decode()


def write_configuration(settings: GatewaySettings) -> Path:
    """Write what Envoy reads; returns the file to start with."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    start, *certificates = configuration(settings)
    path = settings.folder / "envoy.json"
    path.write_text(json.dumps(start, indent=2))
    for certificate in certificates:
        [held] = certificate["resources"]
        (settings.folder / f"{held['name']}.json").write_text(json.dumps(certificate))
    return path


def configuration(settings: GatewaySettings) -> list[Any]:
    """Return the documents of envoy.yaml with the settings in them."""
    documents = [*yaml.safe_load_all(TEMPLATE.read_text())]
    return _filled(documents, _values(settings))  # type: ignore[no-any-return]  # a list, as given


def exposed(service: ServiceDescriptor) -> Iterator[tuple[MethodDescriptor, str]]:
    """Yield the calls that the gateway lets through, each with its method in HTTP."""
    for method in service.methods:
        options = method.GetOptions()
        if options.HasExtension(_HTTP):
            yield method, options.Extensions[_HTTP].WhichOneof("pattern")


def _values(settings: GatewaySettings) -> Mapping[str, object]:
    server = settings.server
    seconds = settings.timeout.total_seconds()
    return {
        "HOST": server.host,
        "PORT": server.port,
        "METRICS_PORT": server.metrics_port,
        "ADMIN_PORT": settings.admin_port,
        "GRAPH_TARGET": _endpoints(settings.graph_target),
        "FEED_TARGET": _endpoints(settings.feed_target),
        "TARGET_NAMES": _names(settings.graph_target, settings.feed_target),
        "LONGER_TIMEOUT": f"{seconds + _PATIENCE_SECONDS:.3f}s",
        "GRPC_TIMEOUT": f"{seconds * 1_000:.0f}m",
        "CORS_ORIGINS": [{"exact": origin} for origin in settings.origins],
        "MAX_REQUEST_BYTES": server.max_message_bytes,
        "MAX_RESPONSE_BYTES": server.max_message_bytes * _JSON_GROWTH,
        "FOLDER": str(settings.folder),
        "CONTRACTS": base64.b64encode(_contracts().SerializeToString()).decode(),
        "SERVICES": [GRAPH.full_name, FEED.full_name],
        **_paths("GRAPH", GRAPH),
        **_paths("FEED", FEED),
        **_certificates(settings),
        **_tokens(server),
    }


def descriptor_set(*files: FileDescriptor) -> FileDescriptorSet:
    """Return files with all that they import, each after what it imports."""
    found: dict[str, FileDescriptor] = {}

    def collect(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            collect(imported)
        found.setdefault(file.name, file)

    for file in files:
        collect(file)
    result = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(result.file.add())
    return result


def _contracts() -> FileDescriptorSet:
    # The transcoder leaves an error empty whose details it has no descriptor of.
    return descriptor_set(graph_pb2.DESCRIPTOR, feed_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)


def _paths(prefix: str, service: ServiceDescriptor) -> Mapping[str, str]:
    """Return as regular expressions the paths of calls that may be repeated, and of the others."""
    calls = [(method.name, verb in _IDEMPOTENT) for method, verb in exposed(service)]

    def pattern(*, is_idempotent: bool) -> str:
        names = "|".join(name for name, may_be in calls if may_be is is_idempotent)
        return f"/{re.escape(service.full_name)}/({names})"

    return {
        f"{prefix}_IDEMPOTENT": pattern(is_idempotent=True),
        f"{prefix}_OTHERS": pattern(is_idempotent=False),
    }


def _certificates(settings: GatewaySettings) -> Mapping[str, str | None]:
    own, target = settings.server.certificates, settings.target.certificates
    return {
        **_file("TLS_CERT", own.chain if own else None),
        **_file("TLS_KEY", own.key if own else None),
        **_file("TARGET_CA", target.authorities),
        **_file("TARGET_CERT", target.chain),
        **_file("TARGET_KEY", target.key),
    }


def _tokens(server: ServerSettings) -> Mapping[str, object]:
    tokens = server.auth.tokens if server.auth else None
    if tokens is None:
        return {"AUTH_JWKS": None, **_file("AUTH_JWKS", None)}
    file = tokens.keys if isinstance(tokens.keys, Path) else None
    url = urlsplit(f"http://{_here(server)}/signing-keys" if file else str(tokens.keys))
    is_encrypted = url.scheme == "https"
    return {
        "AUTH_JWKS": url.geturl(),
        **_file("AUTH_JWKS", file),
        "AUTH_JWKS_HOST": url.hostname,
        "AUTH_JWKS_PORT": url.port or (443 if is_encrypted else 80),
        "AUTH_JWKS_ENCRYPTED": is_encrypted,
        "SYSTEM_CA_FILE": _system_authorities(),
        "AUTH_ISSUER": tokens.issuer,
        "AUTH_AUDIENCE": tokens.audience,
        "AUTH_LEEWAY_SECONDS": int(tokens.leeway.total_seconds()),
    }


def _system_authorities() -> str | None:
    return ssl.get_default_verify_paths().cafile


def _here(server: ServerSettings) -> str:
    """Return where the gateway reaches its own page of metrics."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 -- nothing is bound here
    return f"{everywhere.get(server.host, server.host)}:{server.metrics_port}"


def _file(name: str, path: Path | None) -> Mapping[str, str | None]:
    return {
        f"{name}_FILE": str(path) if path else None,
        f"{name}_FOLDER": str(path.parent) if path else None,
    }


def _hosts(target: str) -> list[tuple[str, int]]:
    """Return the hosts of a gRPC target; raises ValueError."""
    named = re.sub(r"^(dns:(///)?|ipv4:|ipv6:)", "", target).split(",")
    return [_host(host.strip()) for host in named]


def _host(host: str) -> tuple[str, int]:
    address, _, port = host.rpartition(":")
    if not address or not port.isdecimal():
        raise ValueError(f"{host!r} is not HOST:PORT")
    return address.strip("[]"), int(port)


def _endpoints(target: str) -> list[object]:
    """Return a target's hosts to call. Every address of a name is used."""
    return [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in _hosts(target)
    ]


def _names(*targets: str) -> list[object]:
    """Return what a certificate has to be for, one of them."""
    addresses = sorted({address for target in targets for address, _ in _hosts(target)})
    return [
        {"san_type": "IP_ADDRESS" if _is_ip(address) else "DNS", "matcher": {"exact": address}}
        for address in addresses
    ]


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _filled(node: Any, values: Mapping[str, object]) -> Any:
    """Return a document with values in the place of variables, without what has no condition."""
    match node:
        case dict():
            if _CONDITION in node and not _filled(node[_CONDITION], values):
                return _LEFT_OUT
            filled = {key: _filled(held, values) for key, held in node.items()}
            return {
                key: held
                for key, held in filled.items()
                if key != _CONDITION and held is not _LEFT_OUT
            }
        case list():
            return [held for item in node if (held := _filled(item, values)) is not _LEFT_OUT]
        case str() if variable := _VARIABLE.fullmatch(node):
            return values[variable[1]]
        case str():
            return _VARIABLE.sub(lambda variable: str(values[variable[1]]), node)
        case _:
            return node


def _envoy() -> str:
    """Return where Envoy is: beside this Python, or wherever the system finds it."""
    beside = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise CommandError("there is no Envoy here: `make gateway` installs it where it can be had")
    return found


def _welcome(settings: GatewaySettings, console: Console) -> None:
    scheme = "https" if settings.server.certificates else "http"
    url = f"{scheme}://{settings.server.host}:{settings.server.port}"
    lines = [
        f"The gateway is at {url}, in front of {settings.graph_target} and {settings.feed_target}",
        f"its metrics at http://{settings.server.host}:{settings.server.metrics_port}/metrics",
        "what can be called is in protos/openapi.yaml; for example",
        f"\n    curl {url}/v1/users/17/feed\n\nCtrl-C stops it.",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
