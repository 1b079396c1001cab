"""A keeper of fences that remembers in memory what it was told, on a real port.

It is a second implementation of the contract, beside feed_service's.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from kith.graph.v1 import fence_keeper_pb2 as pb
from kith.graph.v1 import fence_keeper_pb2_grpc
from tests.support.processes import Session

EVERYBODY = 0


@dataclass
class Keeper(fence_keeper_pb2_grpc.FenceKeeperServiceServicer):
    """What it has been told, and what it has open.

    `before_open` is called before fences are opened, and may abort the call. `history` is that of
    its database, to which its name adds the claim of a graph.
    """

    keeper_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    history: str = "first"
    opened: list[pb.OpenFencesRequest] = field(default_factory=list)
    open: dict[str, pb.OpenFencesRequest] = field(default_factory=dict)
    generations: dict[int, uuid.UUID] = field(default_factory=dict)
    claimed_by: str = ""
    claims: int = 0
    closed: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    is_closing: bool = True
    not_closed: list[str] = field(default_factory=list)
    before_open: Callable[[pb.OpenFencesRequest, grpc.ServicerContext], None] = lambda *_: None
    target: str = ""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def Identify(self, _request: pb.IdentifyRequest, _context: object) -> pb.IdentifyResponse:  # noqa: N802 -- as the contract names it
        return pb.IdentifyResponse(keeper=self.name)

    def OpenFences(  # noqa: N802 -- as the contract names it
        self, request: pb.OpenFencesRequest, context: grpc.ServicerContext
    ) -> pb.OpenFencesResponse:
        self.before_open(request, context)
        with self.changed:
            if request.graph_history != self.claimed_by:
                self.claimed_by = request.graph_history
                self.claims += 1
            if request.change_id not in self.open:
                self.opened.append(request)
                self.open[request.change_id] = request
                for user_id in request.user_ids or [EVERYBODY]:
                    self.generations[user_id] = uuid.uuid4()
            return pb.OpenFencesResponse(keeper=self.name)

    def CloseFences(  # noqa: N802 -- as the contract names it
        self, request: pb.CloseFencesRequest, context: grpc.ServicerContext
    ) -> pb.CloseFencesResponse:
        if not self.is_closing:
            self.not_closed.extend(request.change_ids)
            context.abort(grpc.StatusCode.UNAVAILABLE, "closes nothing now")
        with self.changed:
            for change_id in request.change_ids:
                self.open.pop(change_id, None)
            self.closed.extend(request.change_ids)
            self.changed.notify_all()
        return pb.CloseFencesResponse()

    def ListOpenFences(  # noqa: N802 -- as the contract names it
        self, request: pb.ListOpenFencesRequest, _context: object
    ) -> pb.ListOpenFencesResponse:
        with self.changed:
            self.listed.append(request.after_change_id)
            ids = sorted(each for each in self.open if each > request.after_change_id)[:1000]
            return pb.ListOpenFencesResponse(
                keeper=self.name,
                open_fences=[
                    pb.ListOpenFencesResponse.OpenFence(
                        change_id=each,
                        transaction=self.open[each].transaction,
                        graph_history=self.open[each].graph_history,
                        open_time=Timestamp(seconds=int(time.time())),
                    )
                    for each in ids
                ],
            )

    @property
    def name(self) -> pb.FenceKeeperName:
        """Who it is."""
        return pb.FenceKeeperName(keeper_id=self.keeper_id, history=f"{self.history}/{self.claims}")

    def forget(self) -> None:
        """Forget what it was told until now, once all of that is closed."""
        self.wait_until_closed()
        self.opened.clear()
        self.closed.clear()

    def wait_until_closed(self) -> None:
        """Wait until nothing is open."""
        with self.changed:
            assert self.changed.wait_for(lambda: not self.open, timeout=20), self.open


def open_fence(
    keeper: fence_keeper_pb2_grpc.FenceKeeperServiceStub, session: Session, *user_ids: int
) -> str:
    """Open the fence of users, or of everybody for none, for the transaction of a session.

    The session is one of the graph's database. Returns the id of the change.
    """
    [(transaction, history)] = session.rows(
        "SELECT CAST(pg_current_xact_id() AS text), fences_history()"
    )
    change_id = str(uuid.uuid4())
    keeper.OpenFences(
        pb.OpenFencesRequest(
            change_id=change_id,
            user_ids=user_ids,
            everybody=not user_ids,
            transaction=transaction,
            graph_history=history,
        )
    )
    return change_id


@contextmanager
def serving_keeper(keeper: Keeper | None = None, *, port: int = 0) -> Iterator[Keeper]:
    """Serve a keeper; yields it with the target it is at."""
    keeper = keeper or Keeper()
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    fence_keeper_pb2_grpc.add_FenceKeeperServiceServicer_to_server(keeper, server)
    keeper.target = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield keeper
    finally:
        server.stop(None).wait()
