"""The only caller of the services that keep fences."""

import json
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import Message

from graph_service.queries.fences import KeeperName, OpenChanges, ToldChange
from kith.client.channel_options import client_options
from kith.client.channels import open_channel
from kith.client.settings import TargetSettings
from kith.errors.v1 import errors_pb2
from kith.exceptions import UnavailableError
from kith.graph.v1 import fence_keeper_pb2 as pb
from kith.graph.v1 import fence_keeper_pb2_grpc
from kith.trace_context import Metadata, Span, asking, begun, outgoing
from shared import deadlines, logs
from shared.api.limits import limits
from shared.metrics import ClientMetrics

_RETRY_AFTER: Final = timedelta(seconds=1)
# A change of more users than that has a fence for everybody.
_MOST_USERS: Final = limits(pb.OpenFencesRequest, "user_ids").max_items
_SERVICE: Final = "kith.graph.v1.FenceKeeperService"
_METHODS: Final = ("OpenFences", "CloseFences", "ListOpenFences")
_SPANS: Final = {
    method: {"rpc.system": "grpc", "rpc.service": _SERVICE, "rpc.method": method}
    for method in _METHODS
}
_PAGE: Final = limits(pb.CloseFencesRequest, "change_ids").max_items
# Two users are locked meanwhile, and registrations keep all changes waiting. But a connection may
# take a second: its first packet is dropped and sent again if a worker of the keeper is leaving.
_OPEN_SECONDS: Final = 1.5
# What has no caller may take longer than that.
_UPKEEP_SECONDS: Final = 5.0
# A connection that a restarted keeper has closed is noticed by the first call over it. A worker
# that is stopped cancels those calls that cross with its farewell.
_RETRIES: Final = {
    "maxAttempts": 3,
    "initialBackoff": "0.02s",
    "maxBackoff": "0.2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}


class OpenFences(NamedTuple):
    """A page of the changes that a keeper has open.

    `opened` is when it opened each, in seconds since 1970.
    """

    page: OpenChanges
    opened: Mapping[uuid.UUID, int]


class FenceKeepers:
    """Calls keepers of fences, each by its gRPC target. Thread-safe."""

    def __init__(self, access: TargetSettings, client_metrics: ClientMetrics) -> None:
        self._access = access
        self._metrics = {
            method: client_metrics.of("unary", _SERVICE, method) for method in _METHODS
        }
        self._lock = threading.Lock()
        self._channels = dict[str, grpc.Channel]()
        self._stubs = dict[str, fence_keeper_pb2_grpc.FenceKeeperServiceStub]()

    def open(
        self, change: ToldChange, user_ids: Collection[int] | None, *, targets: Sequence[str]
    ) -> list[KeeperName]:
        """Open fences of users, or of everybody for None, at all targets at the same time.

        Returns who has committed them, in the order of the targets. Raises UnavailableError if any
        does not say so in time: then they may be open or not.
        """
        is_everybody = user_ids is None or len(user_ids) > _MOST_USERS
        request = pb.OpenFencesRequest(
            change_id=str(change.change_id),
            user_ids=[] if is_everybody else sorted(user_ids or ()),
            everybody=is_everybody,
            transaction=change.transaction,
            graph_history=change.history,
        )
        *others, last = targets
        answers = [self._begin(target, "OpenFences", request, _OPEN_SECONDS) for target in others]
        # The usual one keeper is called without a future, which would go through another thread.
        names = [_name(self._call(last, "OpenFences", request, _OPEN_SECONDS).keeper)]
        return [*(_name(answer().keeper) for answer in answers), *names]

    def close(self, target: str, change_ids: Sequence[uuid.UUID]) -> None:
        """Close the fences of changes that are over. Raises UnavailableError."""
        for first in range(0, len(change_ids), _PAGE):
            ids = [str(change_id) for change_id in change_ids[first : first + _PAGE]]
            self._call(target, "CloseFences", pb.CloseFencesRequest(change_ids=ids))

    def open_changes(self, target: str) -> Iterator[OpenFences]:
        """Yield the open changes in pages, of which there is at least one.

        Raises UnavailableError.
        """
        after = ""
        while True:
            request = pb.ListOpenFencesRequest(after_change_id=after)
            response = self._call(target, "ListOpenFences", request)
            listed = response.open_fences
            changes = [
                ToldChange(uuid.UUID(each.change_id), each.transaction, each.graph_history)
                for each in listed
            ]
            opened = {
                change.change_id: each.open_time.seconds
                for change, each in zip(changes, listed, strict=True)
            }
            yield OpenFences(OpenChanges(target, _name(response.keeper), changes), opened)
            if len(listed) < _PAGE:
                return
            after = listed[-1].change_id

    def shut(self) -> None:
        """Close all channels."""
        with self._lock:
            for channel in self._channels.values():
                channel.close()

    def _call(
        self, target: str, method: str, request: Message, seconds: float = _UPKEEP_SECONDS
    ) -> Any:
        with _translated(target):
            metrics = self._metrics[method]
            metrics.started.inc()
            code = grpc.StatusCode.OK
            with metrics.handling.time(), asking(f"{_SERVICE}/{method}", _SPANS[method]):
                try:
                    return getattr(self._stub(target), method)(
                        request, timeout=_timeout(seconds), metadata=_metadata()
                    )
                except grpc.RpcError as error:
                    code = _code(error)
                    raise
                finally:
                    metrics.handled[code.name].inc()

    def _begin(
        self, target: str, method: str, request: Message, seconds: float
    ) -> Callable[[], Any]:
        span = begun(f"{_SERVICE}/{method}", _SPANS[method])
        call = getattr(self._stub(target), method).future(
            request, timeout=_timeout(seconds), metadata=_metadata(span)
        )
        if span is not None:
            call.add_done_callback(lambda done: span.end(done.exception()))
        metrics = self._metrics[method]
        metrics.started.inc()
        call.add_done_callback(lambda done: metrics.handled[done.code().name].inc())

        def answer() -> Any:
            with _translated(target):
                return call.result()

        return answer

    def _stub(self, target: str) -> fence_keeper_pb2_grpc.FenceKeeperServiceStub:
        with self._lock:
            if target not in self._stubs:
                channel = open_channel(target, self._access, _options())
                self._channels[target] = channel
                self._stubs[target] = fence_keeper_pb2_grpc.FenceKeeperServiceStub(channel)
            return self._stubs[target]


class _translated:  # noqa: N801 -- used like a function, and cheaper than a generator
    """Raises what a keeper does not answer as an error of the graph's caller."""

    __slots__ = ("_target",)

    def __init__(self, target: str) -> None:
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, grpc.RpcError):
            raise unavailable() from error


def unavailable(
    message: str = "a service that caches connections cannot be told now",
) -> UnavailableError:
    """Return why a change is not made, for its caller."""
    return UnavailableError(
        message,
        reason=errors_pb2.ERROR_REASON_FENCE_KEEPER_UNAVAILABLE,
        retry_after=_RETRY_AFTER,
    )


def _options() -> Sequence[tuple[str, Any]]:
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": [{"service": _SERVICE}], "retryPolicy": _RETRIES}],
    }
    usual = dict(client_options("graph", waits=False))
    # As in the keeper: see `shared/server/internal_port.py`.
    unprobed = {"grpc.http2.bdp_probe": 0}
    return list({**usual, **unprobed, "grpc.service_config": json.dumps(config)}.items())


def _timeout(seconds: float) -> float:
    return max(0.0, min(seconds, deadlines.seconds_left()))


def _metadata(span: Span | None = None) -> Metadata:
    request_id = logs.request_id.get()
    named = ((logs.REQUEST_ID, request_id),) if request_id else ()
    traced = outgoing() if span is None else span.trace.metadata()
    return (*named, *(traced or ()))


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN


def _name(keeper: pb.FenceKeeperName) -> KeeperName:
    return KeeperName(keeper.keeper_id, keeper.history)
