"""A storm of watchers and changes must not wedge the server, as it does grpcio's own servicer.

It lasts for KITH_STORM_SECONDS, with KITH_STORM_WATCHERS.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

_STORM = [sys.executable, "-m", "tests.support.health_stress"]
_ROOT = Path(__file__).parents[2]
_WATCHERS = int(os.environ.get("KITH_STORM_WATCHERS", "250"))
_CEILING_SECONDS = 150
_SECONDS = int(os.environ.get("KITH_STORM_SECONDS", "2"))


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    # A process of its own, because a server that is wedged can only be killed.
    with subprocess.Popen(
        [*_STORM, "serve"], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.timeout(_SECONDS + 3 * _CEILING_SECONDS)
def test_a_server_answers_and_stops_after_a_storm_of_watchers_and_flips(
    server: subprocess.Popen[str],
) -> None:
    assert server.stdout is not None
    target = f"127.0.0.1:{server.stdout.readline().strip()}"

    storm = subprocess.run(
        [*_STORM, "watch", target, str(_WATCHERS), str(_SECONDS), "1"],
        cwd=_ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_SECONDS + _CEILING_SECONDS,
    )

    # Counts of watches or statuses would tell how fast the machine is. A server that is wedged
    # answers no watcher, however long that waits.
    answered, failed = map(int, storm.stdout.split())
    assert (answered, failed) == (_WATCHERS, 0)
    with grpc.insecure_channel(target) as channel:
        health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=_CEILING_SECONDS
        )
    server.communicate(timeout=_CEILING_SECONDS)
    assert server.returncode == 0
