"""Clients that call all the time, and remember what went wrong."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import grpc

from kith.graph.v1 import graph_pb2 as graph
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from tests.support.processes import until

_CALLERS = 4
_TIMEOUT_SECONDS = 120
_CALLS_A_CHANNEL = 50
# Without it they would take the time of a processor from the processes that are to start meanwhile.
_PAUSE_SECONDS = 0.03
_REQUEST = graph.CountConnectionsRequest(user_ids=[1])

# A client with these has no policy for retries. gRPC itself repeats a call that a server has not
# looked at, as when it crosses with the server's good-bye; clients would have to switch that off.
PLAIN: Sequence[tuple[str, Any]] = (("grpc.use_local_subchannel_pool", 1),)


class Load:
    """Calls graph_service inside the block, over several connections that are now and then new."""

    def __init__(
        self, address: str, options: Sequence[tuple[str, Any]], *, waits: bool | None = None
    ) -> None:
        self._address = address
        self._options = options
        self._waits = waits
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_CALLERS)
        self._lock = threading.Lock()
        self._futures: list[Future[None]] = []
        self.succeeded = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._futures = [self._pool.submit(self._call) for _ in range(_CALLERS)]
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End with the calls that are under way."""
        self._stopping.set()
        self._pool.shutdown()
        for future in self._futures:
            future.result()

    def wait_for_calls(self, number: int = 50) -> None:
        """Return when so many more calls have succeeded, or one has failed."""
        enough = self.succeeded + number
        until(lambda: self.succeeded >= enough or bool(self.failures))

    def _call(self) -> None:
        while not self._stopping.is_set():
            with grpc.insecure_channel(self._address, options=self._options) as channel:
                stub = GraphServiceStub(channel)
                for _ in range(_CALLS_A_CHANNEL):
                    if self._stopping.wait(_PAUSE_SECONDS):
                        return
                    self._count(stub)

    def _count(self, stub: GraphServiceStub) -> None:
        try:
            stub.CountConnections(_REQUEST, timeout=_TIMEOUT_SECONDS, wait_for_ready=self._waits)
        except grpc.RpcError as error:
            with self._lock:
                self.failures.append(str(error))
        else:
            with self._lock:
                self.succeeded += 1
