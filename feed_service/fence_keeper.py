"""The keeper of fences, as graph_service sees it: contract kith.graph.v1.FenceKeeperService.

It is served at a port of its own, by threads and over connections of its own: calls of the feed
wait for the graph, and changes of the graph wait for this.
"""

import logging
from typing import Final

import grpc

from feed_service.metrics import FeedMetrics
from feed_service.queries import fences
from feed_service.queries.fences import EVERYBODY, Change, KeeperName
from kith.exceptions import UnavailableError
from kith.graph.v1 import fence_keeper_pb2 as pb
from kith.graph.v1 import fence_keeper_pb2_grpc
from kith.timestamps import timestamp
from shared.api.fields import Fields
from shared.api.limits import limits
from shared.database.database import RETRY_AFTER
from shared.database.reader import Reader

NAME: Final = "kith.graph.v1.FenceKeeperService"

THREADS: Final = 4
"""How many calls run at once in a process. Each waits for a commit, and little else."""

_MAX_USERS: Final = limits(pb.OpenFencesRequest, "user_ids").max_items
_MAX_CHANGES: Final = limits(pb.CloseFencesRequest, "change_ids").max_items
_TRANSACTION_LENGTH: Final = limits(pb.OpenFencesRequest, "transaction").max_length
_XID8S: Final = 2**64
_HISTORY_LENGTH: Final = limits(pb.OpenFencesRequest, "graph_history").max_length
_PAGE: Final = 1_000
_log = logging.getLogger("kith.fences")


class FenceKeeperServicer(fence_keeper_pb2_grpc.FenceKeeperServiceServicer):
    """The service of protos/kith/graph/v1/fence_keeper.proto, which documents every call."""

    def __init__(self, reader: Reader, metrics: FeedMetrics) -> None:
        """Run the statements over the connections of a reader."""
        self._reader = reader
        self._metrics = metrics

    def Identify(
        self, request: pb.IdentifyRequest, context: grpc.ServicerContext
    ) -> pb.IdentifyResponse:
        return pb.IdentifyResponse(keeper=_named(fences.keeper(self._reader)))

    def OpenFences(
        self, request: pb.OpenFencesRequest, context: grpc.ServicerContext
    ) -> pb.OpenFencesResponse:
        with Fields() as fields:
            change_id = fields.required_uuid("change_id", request.change_id)
            user_ids = fields.identifiers(
                "user_ids",
                request.user_ids,
                min_items=0 if request.everybody else 1,
                max_items=_MAX_USERS,
            )
            if user_ids != sorted(user_ids):
                fields.reject("user_ids", "must be in ascending order")
            transaction = request.transaction
            if not _is_xid8(transaction):
                fields.reject("transaction", "must be a decimal number below 2^64")
            graph_history = fields.text(
                "graph_history", request.graph_history, max_length=_HISTORY_LENGTH
            )
        change = Change(
            change_id=change_id,
            user_ids=[EVERYBODY, *user_ids] if request.everybody else user_ids,
            transaction=transaction,
            graph_history=graph_history,
        )
        opened = fences.open_fences(self._reader, change)
        if opened.is_claimed:
            self._metrics.fence_claims.inc()
            _log.warning("another graph has claimed the fences", extra={"history": graph_history})
        return pb.OpenFencesResponse(keeper=_named(opened.keeper))

    def CloseFences(
        self, request: pb.CloseFencesRequest, context: grpc.ServicerContext
    ) -> pb.CloseFencesResponse:
        with Fields() as fields:
            fields.count("change_ids", len(request.change_ids), min_items=1, max_items=_MAX_CHANGES)
            change_ids = [
                fields.required_uuid(f"change_ids[{index}]", change_id)
                for index, change_id in enumerate(request.change_ids[:_MAX_CHANGES])
            ]
        fences.close_fences(self._reader, change_ids=change_ids)
        return pb.CloseFencesResponse()

    def ListOpenFences(
        self, request: pb.ListOpenFencesRequest, context: grpc.ServicerContext
    ) -> pb.ListOpenFencesResponse:
        with Fields() as fields:
            after = fields.request_id("after_change_id", request.after_change_id)
        keeper, changes = fences.open_fence_page(self._reader, after=after, limit=_PAGE)
        return pb.ListOpenFencesResponse(
            keeper=_named(keeper),
            open_fences=[
                pb.ListOpenFencesResponse.OpenFence(
                    change_id=each.change_id,
                    transaction=each.transaction,
                    graph_history=each.graph_history,
                    open_time=timestamp(each.opened_at),
                )
                for each in changes
            ],
        )


def _is_xid8(text: str) -> bool:
    """Whether a text is the number of a transaction; fences of others would never be closed."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _TRANSACTION_LENGTH
    return is_number and int(text) < _XID8S


def _named(keeper: KeeperName) -> pb.FenceKeeperName:
    """Return the name of a keeper; raises UnavailableError where there is none now."""
    if keeper.history is None:
        raise UnavailableError("the database is no primary", retry_after=RETRY_AFTER)
    return pb.FenceKeeperName(keeper_id=keeper.keeper_id, history=keeper.history)
