"""What the health protocol answers, and that nothing keeps it from answering."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from kith.exceptions import UnavailableError
from shared.server.health import HealthServicer, add_to_server
from shared.server.readiness import Readiness
from tests.support.errors import succeeds
from tests.support.processes import until

_SERVICE = "kith.test.v1.TestService"
_TIMEOUT = 30
_SERVING = pb.HealthCheckResponse.SERVING
_NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Served:
    """A health servicer behind a port, on a server with two busy-able threads."""

    def __init__(self) -> None:
        self.servicer = HealthServicer(service_names=[_SERVICE], max_watchers=3)
        self._server = grpc.server(ThreadPoolExecutor(2))
        add_to_server(self.servicer, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = health_pb2_grpc.HealthStub(self.channel)
        self._calls = ExitStack()

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._calls.close()
        self.servicer.close()
        self._server.stop(_TIMEOUT).wait()
        self.channel.close()

    def add(self, handler: grpc.GenericRpcHandler) -> None:
        self._server.add_generic_rpc_handlers((handler,))

    def check(self, name: str) -> "pb.HealthCheckResponse.ServingStatus":
        request = pb.HealthCheckRequest(service=name)
        response: pb.HealthCheckResponse = self.stub.Check(request, timeout=_TIMEOUT)
        return response.status

    def watch(self, name: str) -> Iterator["pb.HealthCheckResponse.ServingStatus"]:
        call = self.stub.Watch(pb.HealthCheckRequest(service=name), timeout=6 * _TIMEOUT)
        self._calls.callback(call.cancel)
        return (response.status for response in call)


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    served.start()
    yield served
    served.stop()


@pytest.mark.parametrize("name", ["ready", "", _SERVICE])
def test_readiness_is_told_under_every_name_of_the_service(served: Served, name: str) -> None:
    before = served.check(name)
    served.servicer.set_ready(True)
    ready = served.check(name)
    served.servicer.set_ready(False)
    after = served.check(name)

    assert (before, ready, after) == (_NOT_SERVING, _SERVING, _NOT_SERVING)


def test_a_process_that_is_not_ready_lives(served: Served) -> None:
    assert served.check("live") == _SERVING


def test_checking_an_unknown_name_is_not_found(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.check("kith.nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_watching_an_unknown_name_says_so_and_stays_open(served: Served) -> None:
    statuses = served.watch("kith.nobody")
    assert next(statuses) == _UNKNOWN

    served.servicer.set_ready(True)
    later = _eventually(statuses)
    with pytest.raises(queue.Empty):
        later.get(timeout=0.3)
    served.servicer.drain()

    assert later.get(timeout=_TIMEOUT) is None


def test_the_list_has_every_name(served: Served) -> None:
    response = served.stub.List(pb.HealthListRequest(), timeout=_TIMEOUT)

    assert {name: answer.status for name, answer in response.statuses.items()} == {
        "live": _SERVING,
        "ready": _NOT_SERVING,
        "": _NOT_SERVING,
        _SERVICE: _NOT_SERVING,
    }


def test_a_watch_sends_the_status_at_once_and_then_every_change(served: Served) -> None:
    statuses = served.watch("ready")
    seen = [next(statuses)]
    for is_ready in (True, False, True):
        served.servicer.set_ready(is_ready)
        seen.append(next(statuses))

    assert seen == [_NOT_SERVING, _SERVING, _NOT_SERVING, _SERVING]


def test_a_watch_does_not_repeat_a_status_that_did_not_change(served: Served) -> None:
    statuses = served.watch("ready")
    seen = [next(statuses)]
    served.servicer.set_ready(False)
    served.servicer.set_ready(False)
    served.servicer.set_ready(True)
    seen.append(next(statuses))

    assert seen == [_NOT_SERVING, _SERVING]


def test_one_watcher_too_many_is_refused_and_gets_in_when_another_leaves(served: Served) -> None:
    calls = [served.stub.Watch(pb.HealthCheckRequest(service="ready")) for _ in range(3)]
    for call in calls:
        next(call)

    with pytest.raises(grpc.RpcError) as caught:
        next(served.watch("ready"))
    calls[0].cancel()

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert _first_status_that_comes(served) == _NOT_SERVING
    assert served.check("live") == _SERVING
    for call in calls:
        call.cancel()


@pytest.mark.parametrize("name", ["ready", "live", "kith.nobody"])
def test_draining_ends_every_watch(served: Served, name: str) -> None:
    statuses = served.watch(name)
    next(statuses)

    served.servicer.drain()

    assert list(statuses) == []


def test_draining_tells_watchers_first_and_is_for_ever(served: Served) -> None:
    served.servicer.set_ready(True)
    statuses = served.watch("ready")
    next(statuses)

    served.servicer.drain()
    served.servicer.set_ready(True)

    assert list(statuses) == [_NOT_SERVING]
    assert served.check("ready") == _NOT_SERVING
    assert served.check("live") == _SERVING


def test_health_answers_while_every_worker_is_busy() -> None:
    served = Served()
    release = threading.Event()
    entered = threading.Semaphore(0)

    def wait(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        entered.release()
        release.wait(_TIMEOUT)
        return b""

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(wait)
    served.add(grpc.method_handlers_generic_handler("test.Busy", {"Wait": handler}))
    served.start()
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
    call = served.channel.unary_unary("/test.Busy/Wait")
    busy = [call.future(b"", timeout=_TIMEOUT) for _ in range(10)]
    for _ in range(2):
        assert entered.acquire(timeout=_TIMEOUT)

    status = served.check("live")
    watched = next(served.watch("ready"))

    assert (status, watched) == (_SERVING, _NOT_SERVING)
    assert not any(future.done() for future in busy)
    release.set()
    for future in busy:
        future.result()
    served.stop()


class Dependency:
    """Something to be checked, which can be broken and mended."""

    def __init__(self) -> None:
        self.is_broken = False
        self.is_unexpected = False

    def check(self) -> None:
        if self.is_unexpected:
            raise ZeroDivisionError
        if self.is_broken:
            raise UnavailableError("broken")


@pytest.fixture
def watched(served: Served) -> Iterator[Callable[..., Iterator[object]]]:
    """Starts checking dependencies, and returns the statuses that a watcher sees."""
    with ExitStack() as stack:

        def start(**dependencies: Dependency) -> Iterator[object]:
            readiness = Readiness(
                served.servicer,
                checks={name: dependency.check for name, dependency in dependencies.items()},
                grace_seconds={},
                interval_seconds=0.01,
            )
            stack.callback(readiness.join, _TIMEOUT)
            stack.callback(readiness.stop)
            statuses = served.watch("ready")
            assert next(statuses) == _NOT_SERVING
            readiness.start()
            return statuses

        yield start


def test_a_service_is_ready_as_long_as_all_its_dependencies_are_good(
    watched: Callable[..., Iterator[object]],
) -> None:
    database, graph = Dependency(), Dependency()
    statuses = watched(database=database, graph=graph)
    seen = [next(statuses)]
    for dependency, is_broken in [
        (database, True),
        (database, False),
        (graph, True),
        (graph, False),
    ]:
        dependency.is_broken = is_broken
        seen.append(next(statuses))

    assert seen == [_SERVING, _NOT_SERVING, _SERVING, _NOT_SERVING, _SERVING]


def test_a_check_that_fails_unexpectedly_makes_not_ready_and_is_run_again(
    watched: Callable[..., Iterator[object]],
) -> None:
    database = Dependency()
    statuses = watched(database=database)
    next(statuses)

    database.is_unexpected = True
    broken = next(statuses)
    database.is_unexpected = False

    assert (broken, next(statuses)) == (_NOT_SERVING, _SERVING)


def test_a_dependency_that_was_good_may_fail_for_its_grace_period(served: Served) -> None:
    graph = Dependency()
    now = 100.0
    readiness = Readiness(
        served.servicer,
        checks={"graph": graph.check},
        grace_seconds={"graph": 10},
        clock=lambda: now,
    )
    readiness.check()
    graph.is_broken = True

    seen = list[object]()
    for seconds in (0, 9.9, 10, 11):
        now = 100.0 + seconds
        readiness.check()
        seen.append(served.check("ready"))
    graph.is_broken = False
    readiness.check()

    assert seen == [_SERVING, _SERVING, _NOT_SERVING, _NOT_SERVING]
    assert served.check("ready") == _SERVING


def test_a_good_dependency_is_left_alone_while_its_grace_would_cover_a_failure(
    served: Served,
) -> None:
    asked = []
    rounds = threading.Semaphore(0)
    readiness = Readiness(
        served.servicer,
        checks={"graph": lambda: asked.append("graph"), "database": rounds.release},
        grace_seconds={"graph": 3600},
        interval_seconds=0.01,
    )
    readiness.start()
    for _ in range(3):
        assert rounds.acquire(timeout=_TIMEOUT)
    readiness.stop()
    readiness.join(_TIMEOUT)

    assert asked == ["graph"]
    assert served.check("ready") == _SERVING


def test_a_dependency_that_was_never_good_has_no_grace_period(served: Served) -> None:
    graph = Dependency()
    graph.is_broken = True
    rounds = threading.Semaphore(0)

    def check() -> None:
        rounds.release()
        graph.check()

    readiness = Readiness(
        served.servicer,
        checks={"graph": check},
        grace_seconds={"graph": 3600},
        interval_seconds=0.01,
    )
    readiness.start()
    for _ in range(3):
        assert rounds.acquire(timeout=_TIMEOUT)
    status = served.check("ready")
    readiness.stop()
    readiness.join(_TIMEOUT)

    assert status == _NOT_SERVING


def _eventually(statuses: Iterator[object]) -> "queue.Queue[object]":
    """Return a queue of what comes, with None at the end."""
    later = queue.Queue[object]()

    def read() -> None:
        try:
            for status in statuses:
                later.put(status)
        except grpc.RpcError as error:
            later.put(error)
        later.put(None)

    threading.Thread(target=read, daemon=True).start()
    return later


def _first_status_that_comes(served: Served) -> object:
    """Try again until the server has noticed that a watcher left."""
    came = list[object]()
    until(lambda: succeeds(lambda: came.append(next(served.watch("ready")))))
    return came[0]
