"""Several processes of one service: deaths, replacements, restarts, and metrics across them."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from kith.client.channel_options import client_options
from shared.processes.memory import resident_bytes
from tests.support.credentials import Issuer
from tests.support.expansion import expand_headers
from tests.support.load import PLAIN, Load
from tests.support.pair import Databases
from tests.support.processes import ServiceProcess, is_there, run, until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other kernels share no port and tell no child"
)

_WORKERS = 2
_GROWTH_BYTES = 16 * 1024 * 1024
_MOST_BURSTS = 30
_LOOK_SECONDS = 0.1
_METHOD = "/kith.graph.v1.GraphService/CountConnections"


@pytest.fixture(scope="module")
def environment(databases: Databases) -> dict[str, str]:
    return {
        "GRAPH_DATABASE_URL": databases.new("graph"),
        "GRAPH_WORKERS": str(_WORKERS),
        "MAX_CONNECTION_AGE_SECONDS": "0.5",
        "DRAIN_SECONDS": "0.1",
    }


@pytest.fixture(scope="module")
def service(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    with ServiceProcess(
        "graph_service", environment, tmp_path_factory.mktemp("workers") / "log", by_exec=True
    ) as running:
        yield running


def test_a_killed_worker_is_replaced_and_no_call_of_a_shipped_client_fails(
    service: ServiceProcess,
) -> None:
    with Load(service.address, client_options("graph")) as load:
        for _ in range(2):
            listening = len(service.logged("listening"))
            load.wait_for_calls()
            os.kill(_workers(service)[0], signal.SIGKILL)
            # Not only started: the next to be killed may otherwise be the last that listens.
            until(lambda listening=listening: len(service.logged("listening")) > listening)  # type: ignore[misc]  # mypy knows no default of a lambda
            load.wait_for_calls()

    assert load.failures == []
    assert len(service.logged("worker died")) == 2
    assert "\nworker_deaths_total 2.0\n" in service.metrics()


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What a client who never retries, and Prometheus, saw of one replacement of all workers."""

    failures: list[str]
    succeeded: int
    handled: list[float]
    """How many calls all workers had answered, seen again and again, and last after the load."""


@pytest.fixture(scope="module")
def replacement(service: ServiceProcess) -> Replacement:
    seen = [_handled(service)]

    def look() -> None:
        # To add up the counts of all workers takes processors from those that are to start.
        time.sleep(_LOOK_SECONDS)
        seen.append(_handled(service))

    with Load(service.address, PLAIN) as load:
        load.wait_for_calls()
        _replace_all(service, meanwhile=look)
        load.wait_for_calls()
    seen.append(_handled(service))
    return Replacement(failures=load.failures, succeeded=load.succeeded, handled=seen)


def test_workers_are_replaced_one_by_one_without_a_failed_call_of_clients_who_never_retry(
    replacement: Replacement,
) -> None:
    assert replacement.failures == []


def test_metrics_are_sums_over_workers_that_never_fall_and_files_do_not_pile_up(
    service: ServiceProcess, replacement: Replacement
) -> None:
    seen = replacement.handled

    assert seen[-1] - seen[0] == replacement.succeeded
    assert seen == sorted(seen)
    files = [path.name for path in service.metrics_directory().iterdir()]
    assert {name.rpartition("_")[2] for name in files} == {"0.db", "1.db", "2.db"}


def test_the_supervisor_tells_the_version_and_what_every_process_uses(
    service: ServiceProcess,
) -> None:
    text = service.metrics()

    assert service.total("kith_build_info") == 1
    for metric in (
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ):
        seen = re.findall(rf'^{metric}{{process="(\w+)"}} (\S+)$', text, re.MULTILINE)
        assert len(seen) == 1 + _WORKERS
        assert all(float(value) > 0 for _, value in seen)


def test_slots_and_connections_are_those_of_all_workers(service: ServiceProcess) -> None:
    text = service.metrics()

    assert f'call_slots{{weight="ordinary"}} {_WORKERS * 8}.0' in text
    assert f'db_connections_limit{{pool="calls"}} {_WORKERS * 23}.0' in text
    for metric in ("call_slots_in_use", "call_slots_waiting"):
        assert f'{metric}{{weight="heavy"}} 0.0' in text
    for state in ("in_use", "idle", "waiting"):
        assert f'db_connections_{state}{{pool="calls"}} ' in text


def test_a_worker_that_grows_is_replaced_without_a_failed_call(
    service: ServiceProcess, environment: dict[str, str], tmp_path: Path
) -> None:
    ordinary = max(map(resident_bytes, service.workers()))
    limited = {
        **environment,
        "WORKER_MAX_MEMORY_BYTES": str(ordinary + _GROWTH_BYTES),
        # On a busy machine the worker that leaves copies for longer than other tests allow.
        "GRACE_SECONDS": "120",
    }
    with ServiceProcess("graph_service", limited, tmp_path / "log") as process:
        before = _workers(process)
        port = int(process.address.rpartition(":")[2])
        with Load(process.address, PLAIN) as load, ExitStack() as attack:
            load.wait_for_calls()
            for _ in range(_MOST_BURSTS):
                if process.logged("worker is too large"):
                    break
                # The calls of others wait until the workers have copied this.
                for _ in range(2 * _WORKERS):
                    attack.enter_context(expand_headers(port, _METHOD, calls=32, times=4_000))
                load.wait_for_calls()
                time.sleep(1)
            until(lambda: set(_workers(process)) - set(before))
            until(lambda: process.total("worker_replacements_total") > 0)
            load.wait_for_calls()

        assert load.failures == []
        assert process.logged("worker died") == []
        for line in process.logged("worker is too large"):
            assert line["resident_bytes"] > line["limit_bytes"] == ordinary + _GROWTH_BYTES


def test_a_killed_supervisor_leaves_no_worker(environment: dict[str, str], tmp_path: Path) -> None:
    with ServiceProcess("graph_service", environment, tmp_path / "log") as process:
        workers = _workers(process)
        process.kill()

        until(lambda: not any(is_there(pid) for pid in workers))


def test_workers_stay_when_those_that_are_to_replace_them_cannot_start(
    environment: dict[str, str], issuer: Issuer, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(issuer.jwks.read_bytes())
    secured = {**environment, **issuer.environment, "AUTH_JWKS": str(keys)}
    with ServiceProcess("graph_service", secured, tmp_path / "log") as process:
        before = _workers(process)
        keys.unlink()
        process.terminate(signal.SIGHUP)
        until(lambda: process.logged("replacement given up"))

        assert _workers(process) == before
        assert process.is_serving("live")


def test_what_keeps_workers_from_starting_is_told_once() -> None:
    ended = run("graph_service", {"GRAPH_WORKERS": "3", "PAGE_TOKEN_KEYS": "short"})

    assert ended.returncode == 2
    assert ended.stdout == "PAGE_TOKEN_KEYS must contain keys of at least 32 characters each\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_service_on_the_same_port_is_refused(
    service: ServiceProcess, environment: dict[str, str], workers: str
) -> None:
    port = service.address.rpartition(":")[2]

    ended = run("graph_service", {**environment, "GRAPH_PORT": port, "GRAPH_WORKERS": workers})

    assert ended.returncode == 1
    assert '"cannot listen"' in ended.stdout
    assert service.address in ended.stdout
    assert service.is_serving("ready")


# The last test, because it ends the service of the others.
def test_a_restarted_service_is_only_waited_for_by_clients_who_never_retry(
    service: ServiceProcess, environment: dict[str, str], tmp_path: Path
) -> None:
    port = service.address.rpartition(":")[2]
    # One worker is enough to wait for, and starts in a tenth of the time.
    same = {**environment, "GRAPH_PORT": port, "GRAPH_WORKERS": "1"}
    with Load(service.address, PLAIN, waits=True) as load:
        load.wait_for_calls()
        service.terminate()
        status = service.wait()
        with ServiceProcess("graph_service", same, tmp_path / "log"):
            load.wait_for_calls()
            load.stop()

    assert load.failures == []
    assert status == 0


def _workers(service: ServiceProcess) -> list[int]:
    """The workers that run, as the supervisor tells it."""
    started = [line["pid"] for line in service.logged("worker started")]
    return [pid for pid in started if is_there(pid)]


def _replace_all(
    service: ServiceProcess, *, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Ask for new workers, and return when the last old one has gone."""
    before = _workers(service)
    service.terminate(signal.SIGHUP)

    def is_done() -> bool:
        meanwhile()
        return not set(before) & set(_workers(service))

    until(is_done)
    until(lambda: len(_workers(service)) == _WORKERS)


def _handled(service: ServiceProcess) -> float:
    return service.counted("grpc_server_handled_total", "CountConnections")
