"""How a client calls the services, and what it shows them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from kith.environment import Environment, SettingsError
from kith.tls.certificates import CertificateFiles
from kith.tls.settings import certificate_files, is_loopback

GRAPH: Final = "127.0.0.1:50051"
FEED: Final = "127.0.0.1:50052"
UNENCRYPTED: Final = (
    "would be sent unencrypted: set TARGET_CA_FILE, or ALLOW_PLAINTEXT=on if something in between "
    "encrypts"
)
"""Why a token is not sent, for an error."""


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """How a client calls a service: feed_service the graph, and the command line both."""

    certificates: CertificateFiles
    """TARGET_CA_FILE, without which nothing is encrypted, TARGET_CERT_FILE and TARGET_KEY_FILE."""
    token: Path | None
    """A file with the token to show: TARGET_TOKEN_FILE."""
    may_be_overheard: bool
    """Whether tokens may be sent unencrypted to other machines: ALLOW_PLAINTEXT."""

    @property
    def shows_something(self) -> bool:
        """Whether a channel is encrypted or shows a token."""
        return bool(self.certificates.paths) or self.token is not None

    def permits_tokens(self, *targets: str) -> bool:
        """Whether these gRPC targets may be sent tokens."""
        return bool(
            self.certificates.authorities or self.may_be_overheard or all(map(_is_here, targets))
        )

    @classmethod
    def read(cls, environment: Environment, *targets: str) -> "TargetSettings":
        """Read the variables; `targets` are the services that will be called so."""
        files = certificate_files(
            environment,
            chain="TARGET_CERT_FILE",
            key="TARGET_KEY_FILE",
            authorities="TARGET_CA_FILE",
        )
        if files.chain and not files.authorities:
            environment.problem("TARGET_CERT_FILE", "needs TARGET_CA_FILE")
        settings = cls(
            certificates=files,
            token=environment.file("TARGET_TOKEN_FILE"),
            may_be_overheard=environment.switch("ALLOW_PLAINTEXT", default=False),
        )
        if settings.token is not None:
            environment.require("TARGET_TOKEN_FILE", settings.token.read_bytes)
            if not settings.permits_tokens(*targets):
                environment.problem("TARGET_TOKEN_FILE", UNENCRYPTED)
        return settings


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where both services are, and what a client shows them."""

    graph: str
    feed: str
    access: TargetSettings

    @classmethod
    def from_environment(cls, *, graph: str, feed: str) -> Self:
        """Read GRAPH_TARGET, FEED_TARGET, TARGET_CA_FILE and its companions.

        Targets that are given count more than those variables. Raises SettingsError.
        """
        environment = Environment(os.environ)
        graph = graph or environment.text("GRAPH_TARGET", GRAPH)
        feed = feed or environment.text("FEED_TARGET", FEED)
        access = TargetSettings.read(environment, graph, feed)
        environment.check()
        return cls(graph=graph, feed=feed, access=access)


def require_token(token: str, *, is_permitted: bool) -> None:
    """Check the token of a user before it is sent.

    An empty one must not count as none: the call would then be the service's own.

    Raises ValueError for an empty token, and SettingsError if tokens are not permitted.
    """
    if not token:
        raise ValueError("the token of the user is empty")
    if not is_permitted:
        raise SettingsError(f"the token of a user {UNENCRYPTED}")


def _is_here(target: str) -> bool:
    """Whether a gRPC target, such as `dns:///localhost:50051`, is surely on this machine."""
    return is_loopback(target.rpartition("/")[2].rpartition(":")[0])
