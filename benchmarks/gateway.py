"""What the scripts in Envoy cost a call over HTTP: the checks, etags and names of deploy/envoy."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from operator import attrgetter
from typing import Any, Final, TypeAlias

from benchmarks.processes import cpu_seconds
from benchmarks.rounds import Contender, in_turns
from benchmarks.row import Row, comparison
from benchmarks.stage import Stage, feed_page
from shared.cli.envoy import configuration
from shared.cli.gateway import envoy_program
from shared.cli.gateway_settings import GatewaySettings

_SCRIPTS: Final = "envoy.filters.http.lua"
_START_SECONDS: Final = 60
_PAGE: Final = 50

Sent: TypeAlias = tuple[str, str, str | None]


def gateway(stage: Stage) -> list[Row]:
    """What Envoy spends on a page, a post and a count, with its scripts and without them."""
    with ExitStack() as stack:
        segments = in_turns(
            stage.effort,
            {
                "scripts": stack.enter_context(_served(stage, "scripts", with_scripts=True)),
                "bare": stack.enter_context(_served(stage, "bare", with_scripts=False)),
            },
        )
    return [
        comparison(
            "CPU of Envoy for calls over HTTP: with its scripts vs without",
            segments,
            ("scripts", "bare"),
            attrgetter("total_cpu"),
            target=1.5,
        )
    ]


def _calls(stage: Stage) -> Sequence[Sent]:
    """Return a page of each viewer, its first post, and a count, which has a body."""
    calls: list[Sent] = []
    for viewer in stage.dataset.viewer_ids(stage.dataset.usual):
        own = f"/v1/users/{viewer}"
        calls.append(("GET", f"{own}/feed?pageSize={_PAGE}", None))
        calls.extend(
            ("GET", f"{own}/authors/{post.author_id}/posts/{post.post_id}", None)
            for post in feed_page(stage.pair.kith, viewer).posts[:1]
        )
        counted = json.dumps({"userIds": [str(viewer)]})
        calls.append(("POST", f"{own}/connections:count", counted))
    return calls


@contextmanager
def _served(stage: Stage, name: str, *, with_scripts: bool) -> Iterator[Contender]:
    port, metrics_port, admin_port = _free_ports(3)
    settings = GatewaySettings.read(
        {
            "GRAPH_TARGET": stage.pair.graph_address,
            "FEED_TARGET": stage.pair.feed_address,
            "GATEWAY_PORT": str(port),
            "GATEWAY_METRICS_PORT": str(metrics_port),
            "GATEWAY_ADMIN_PORT": str(admin_port),
        }
    )
    start = configuration(settings)[0]
    path = stage.logs / f"gateway-{name}.json"
    path.write_text(json.dumps(start if with_scripts else _without_scripts(start)))
    command = [envoy_program(), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
    with (
        (stage.logs / f"gateway-{name}.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as envoy,
        closing(HTTPConnection("127.0.0.1", port)) as connection,
    ):
        try:
            calls = [partial(_call, connection, *sent) for sent in _calls(stage)]
            for call in calls[-1], calls[0]:
                _wait(call)
            yield Contender(calls=calls, clocks={"envoy": partial(cpu_seconds, envoy.pid)})
        finally:
            envoy.kill()


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [each.getsockname()[1] for each in sockets]


def _without_scripts(part: Any) -> Any:
    """Return a part of a configuration without the filter."""
    if isinstance(part, dict):
        return {key: _without_scripts(value) for key, value in part.items() if key != _SCRIPTS}
    if isinstance(part, list):
        return [_without_scripts(each) for each in part if not _is_scripts(each)]
    return part


def _is_scripts(part: Any) -> bool:
    return isinstance(part, dict) and part.get("name") == _SCRIPTS


def _call(connection: HTTPConnection, verb: str, path: str, body: str | None) -> None:
    headers = {} if body is None else {"content-type": "application/json"}
    try:
        connection.request(verb, path, body, headers)
        response = connection.getresponse()
        told = response.read()
    except OSError:
        connection.close()  # or it takes no further request
        raise
    if response.status != HTTPStatus.OK:
        raise RuntimeError(f"{verb} {path}: {response.status} {told[:200]!r}")


def _wait(call: Callable[[], object]) -> None:
    """Call until Envoy sees the services."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError, RuntimeError):
            call()
            return
        time.sleep(0.05)
    raise TimeoutError("Envoy does not serve")
