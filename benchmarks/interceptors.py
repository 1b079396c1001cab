"""What is around every call, measured on a call with nothing in it.

    python -m benchmarks.interceptors bare|around

serves such a call, with nothing around it or with what the services have around theirs.
"""

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import attrgetter
from typing import Final

import grpc
from prometheus_client import CollectorRegistry

from benchmarks.processes import MeasuredProcess, calls_of, cpu_seconds
from benchmarks.rounds import Contender, in_turns
from benchmarks.row import Row, comparison
from benchmarks.stage import Stage
from shared import logs
from shared.server.handlers import Around
from shared.server.interceptors import identify, log_call, measure, report_errors
from shared.server.metrics import ServerMetrics

_CALL: Final = "/benchmarks.Nothing/Call"
_THREADS: Final = 8


def interceptors(stage: Stage) -> list[Row]:
    """What a server spends on a call with the interceptors, metrics and log line around it."""
    with ExitStack() as stack:
        segments = in_turns(
            stage.effort,
            {mode: stack.enter_context(_served(stage, mode)) for mode in ("around", "bare")},
        )
    return [
        comparison(
            "interceptors, metrics and log line around an empty call",
            segments,
            ("around", "bare"),
            attrgetter("total_cpu"),
            target=1.5,
        )
    ]


def bare_server(stage: Stage) -> MeasuredProcess:
    """Return the process, to be started, that serves the empty call with nothing around it."""
    return _server(stage, "bare")


def _server(stage: Stage, mode: str) -> MeasuredProcess:
    log = stage.logs / f"interceptors-{mode}.log"
    return MeasuredProcess("benchmarks.interceptors", mode, environment={}, log=log)


@contextmanager
def _served(stage: Stage, mode: str) -> Iterator[Contender]:
    with (
        _server(stage, mode) as process,
        calls_of(process.address(), _CALL) as call,
    ):
        clocks = {"server": partial(cpu_seconds, process.pid)}
        yield Contender(calls=[partial(call, b"")], clocks=clocks)


def main() -> None:
    """Serve the empty call until killed."""
    logs.configure(service="nothing", level="INFO")
    steps = [identify, measure(ServerMetrics(CollectorRegistry())), log_call, report_errors]
    around: list[grpc.ServerInterceptor] = [Around(steps, threads={})]
    given = around if sys.argv[1] == "around" else []
    server = grpc.server(ThreadPoolExecutor(_THREADS), interceptors=given)
    service, _, method = _CALL[1:].partition("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda request, _context: request
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    logging.getLogger(__name__).info("serving", extra={"address": f"127.0.0.1:{port}"})
    server.wait_for_termination()


if __name__ == "__main__":
    main()
