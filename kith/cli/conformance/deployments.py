"""What checks call: both services, and the gateway in front of them."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final, Self
from urllib.parse import SplitResult, urlsplit

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from kith.cli.conformance.evidence import BrokenPromiseError, NotTriedError
from kith.cli.conformance.world import World
from kith.cli.terminal import UsageError
from kith.client import KithClient
from kith.client.settings import UNENCRYPTED, Targets, TargetSettings
from kith.environment import SettingsError
from kith.errors.v1 import errors_pb2
from kith.exceptions import AppException
from kith.tls.certificates import CertificateFiles

_SECONDS: Final = 30
# As for a person at a terminal, and what loses against a concurrent call is made again.
_ALSO_RETRIED: Final = ("ABORTED",)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """What the body has to hold; raises BrokenPromiseError."""
        kind = self.headers.get("content-type", "nothing")
        if not kind.startswith("application/json"):
            raise BrokenPromiseError(f"was {self.status} with {kind} instead of JSON")
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise BrokenPromiseError(f"was {self.status} with malformed JSON") from error


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The gateway, over HTTP."""

    url: SplitResult
    access: TargetSettings

    @classmethod
    def at(cls, url: str, access: TargetSettings) -> Self:
        """Read a URL such as http://127.0.0.1:8080; raises UsageError or SettingsError."""
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or parts.path.strip("/") or parts.query:
            raise UsageError(f"--gateway must be a URL such as http://127.0.0.1:8080, not {url!r}")
        gateway = cls(url=parts, access=access)
        is_private = parts.scheme == "https" or access.permits_tokens(gateway.target)
        if access.token is not None and not is_private:
            raise SettingsError(f"TARGET_TOKEN_FILE {UNENCRYPTED}")
        return gateway

    @property
    def target(self) -> str:
        """Its address for gRPC."""
        port = self.url.port or (443 if self.url.scheme == "https" else 80)
        host = self.url.hostname or ""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def natively(self) -> KithClient:
        """Open channels of gRPC through it; nothing is sent before the first call."""
        access = self.access
        if self.url.scheme == "http":
            none = CertificateFiles(chain=None, key=None, authorities=None)
            access = replace(access, certificates=none)
        return KithClient(
            graph=self.target, feed=self.target, access=access, channels=1, waits=False
        )

    def call(
        self, verb: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make a call; a body that is not bytes already becomes JSON.

        Raises NotTriedError if the token does not permit it, and BrokenPromiseError if there is no
        answer.
        """
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        kind = {} if body is None else {"content-type": "application/json"}
        try:
            answer = self._answer(verb, path, sent, {**kind, **self._shown(), **(headers or {})})
        except HTTPException as error:
            raise BrokenPromiseError(f"was not HTTP: {type(error).__name__}") from error
        except OSError as error:
            raise BrokenPromiseError(f"{self.url.geturl()} cannot be reached: {error}") from error
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise NotTriedError(f"the token does not permit it: {answer.status} over HTTP")
        return answer

    def _answer(
        self, verb: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        connection = self._connection()
        try:
            connection.request(verb, path, body, headers)
            response: HTTPResponse = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=received, body=response.read())
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        host = self.url.hostname or ""
        if self.url.scheme == "http":
            return HTTPConnection(host, self.url.port, timeout=_SECONDS)
        # The authority of a gateway's certificate may be public, and that of the services' not.
        trust = ssl.create_default_context()
        if self.access.certificates.authorities is not None:
            trust.load_verify_locations(self.access.certificates.authorities)
        return HTTPSConnection(host, self.url.port, timeout=_SECONDS, context=trust)

    def _shown(self) -> dict[str, str]:
        token = self.access.token
        return {} if token is None else {"authorization": f"Bearer {token.read_text().strip()}"}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One of the two services, for calls of protocols that other services have too."""

    name: str
    """The full name in its contract."""
    channel: grpc.Channel
    """Shows what the settings say."""
    nameless: grpc.Channel
    """Shows no token, as probes of health do not."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Both services and, where it is to be tried too, the gateway."""

    kith: KithClient
    services: tuple[Service, Service]
    world: World
    gateway: Gateway | None = None
    short_seconds: float = 0.3
    """The deadline of a call that has no end of its own."""

    def require_reachable(self) -> None:
        """Raise an AppException if a service cannot be reached, or says that it does not serve."""
        for service in self.services:
            try:
                HealthStub(service.nameless).Check(HealthCheckRequest(), timeout=_SECONDS)
            except AppException as error:
                if error.reason == errors_pb2.ERROR_REASON_SERVICE_UNREACHABLE:
                    raise

    def through_gateway(self) -> Gateway:
        """Return the gateway; raises NotTriedError without one."""
        if self.gateway is None:
            raise NotTriedError("no --gateway was given")
        return self.gateway


@contextmanager
def opened(*, graph: str, feed: str, gateway: str) -> Iterator[Deployment]:
    """Open channels to a deployment, by default where the environment says.

    Raises SettingsError, and UsageError for a gateway that is no URL. The caller has to erase its
    world.
    """
    targets = Targets.from_environment(graph=graph, feed=feed)
    with (
        _client(targets, targets.access) as kith,
        _client(targets, replace(targets.access, token=None)) as nameless,
    ):
        yield Deployment(
            kith=kith,
            services=(
                Service(
                    name="kith.graph.v1.GraphService",
                    channel=kith.graph_channel,
                    nameless=nameless.graph_channel,
                ),
                Service(
                    name="kith.feed.v1.FeedService",
                    channel=kith.feed_channel,
                    nameless=nameless.feed_channel,
                ),
            ),
            world=World(kith),
            gateway=Gateway.at(gateway, targets.access) if gateway else None,
        )


def _client(targets: Targets, access: TargetSettings) -> KithClient:
    return KithClient(
        graph=targets.graph,
        feed=targets.feed,
        access=access,
        channels=1,
        waits=False,
        also_retried=_ALSO_RETRIED,
    )
