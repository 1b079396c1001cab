"""The gateway as a person runs it: `kith gateway`, and what can be asked of it."""

import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

from tests.support import programs
from tests.support.ports import free_ports
from tests.support.processes import until

_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body holds, which has to be JSON."""
        assert self.headers["content-type"].startswith("application/json"), self
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of an error."""
        [info] = [
            detail for detail in self.json["details"] if detail["@type"].endswith(".ErrorInfo")
        ]
        assert info["domain"] == "kith"
        return str(info["reason"])


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A running gateway."""

    process: programs.Process
    port: int
    metrics_port: int
    admin_port: int
    output: Path

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        port: int | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> Answer:
        """Make a call over HTTP; a body that is not bytes already becomes JSON."""
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        to = ("127.0.0.1", port or self.port)
        connection = (
            HTTPSConnection(*to, timeout=_SECONDS, context=trust)
            if trust
            else HTTPConnection(*to, timeout=_SECONDS)
        )
        with closing(connection):
            kind = {} if body is None else {"content-type": "application/json"}
            connection.request(method, path, sent, {**kind, **(headers or {})})
            return _received(connection.getresponse())

    def answer(self, head: bytes, *, trust: ssl.SSLContext | None = None) -> Answer:
        """Return what is answered to a request without a body, also if no library sends it."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=_SECONDS)
        with trust.wrap_socket(plain, server_hostname="127.0.0.1") if trust else plain as peer:
            peer.sendall(head + b"\r\n\r\n")
            with closing(HTTPResponse(peer)) as response:
                response.begin()
                return _received(response)

    def healthy(self, cluster: str) -> int:
        """Return how many hosts of a service calls are sent to."""
        page = self.call("GET", "/clusters?format=json", port=self.admin_port).json
        [hosts] = [
            each.get("host_statuses", [])
            for each in page["cluster_statuses"]
            if each["name"] == cluster
        ]
        return sum(host["health_status"] == {"eds_health_status": "HEALTHY"} for host in hosts)

    def logged(self, request_id: str) -> dict[str, Any]:
        """Return the line that it has written of a call."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            lines = [line for line in self.output.read_text().splitlines() if request_id in line]
            found.extend(json.loads(line) for line in lines)
            return bool(found)

        until(is_there)
        return found[0]


def _received(response: HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(status=response.status, headers=headers, body=response.read())


@contextmanager
def running_gateway(
    folder: Path, *, graph: str, feed: str, environment: Mapping[str, str] | None = None
) -> Iterator[Gateway]:
    """Start it in front of two services, and wait until it sees them."""
    port, metrics_port, admin_port = free_ports(3)
    log = folder / "gateway.log"
    with log.open("wb") as output:
        process = programs.start(
            "shared.cli",
            "gateway",
            environment={
                **os.environ,
                "KITH_DATA_DIR": str(folder),
                "GRAPH_TARGET": graph,
                "FEED_TARGET": feed,
                "GATEWAY_PORT": str(port),
                "GATEWAY_METRICS_PORT": str(metrics_port),
                "GATEWAY_ADMIN_PORT": str(admin_port),
                "GATEWAY_WORKERS": "1",
                "DRAIN_SECONDS": "0",
                "GRACE_SECONDS": "5",
                **(environment or {}),
            },
            output=output,
        )
    gateway = Gateway(
        process=process, port=port, metrics_port=metrics_port, admin_port=admin_port, output=log
    )

    def is_ready() -> bool:
        assert process.poll() is None, gateway.output.read_text()
        with suppress(OSError):
            return all(gateway.healthy(name) for name in ("graph_service", "feed_service"))
        return False

    try:
        until(is_ready)
        yield gateway
    finally:
        process.terminate()
        process.wait(_SECONDS)
