"""The only caller of graph_service: deadline, errors, and what is asked instead of cached."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import cycle
from types import MappingProxyType, TracebackType

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feed_service.connections_cache import CachedViewer, ConnectionsCache
from feed_service.fences import Fences, history_of, of_everybody
from feed_service.metrics import FeedMetrics
from feed_service.queries.erasure import ErasedUpTo
from feed_service.viewers import Viewer
from kith.client.channel_options import client_options
from kith.client.channels import open_channel
from kith.client.settings import TargetSettings
from kith.errors.v1 import errors_pb2
from kith.exceptions import (
    AppException,
    DeadlineError,
    InternalError,
    UnauthenticatedError,
    UnauthorizedError,
    UnavailableError,
    from_rpc_error,
)
from kith.graph.v1 import graph_pb2 as pb
from kith.graph.v1 import graph_pb2_grpc
from kith.graph.v1.fence_keeper_pb2 import FenceKeeperName
from kith.positions import ANY_WORD, KEY
from kith.trace_context import Metadata, asking, outgoing
from shared import deadlines, logs
from shared.access.suspended import Suspended, SuspendedUsers
from shared.circuit import Circuit
from shared.database.arrays import array_literal
from shared.metrics import ClientMetrics, MethodMetrics

_SERVICE = "kith.graph.v1.GraphService"
_KINDS = {
    "GetConnectedUserIds": "unary",
    "GetSuspendedUserIds": "unary",
    "WatchConnections": "server_stream",
}
# Their names and attributes.
_SPANS = {
    method: (
        f"{_SERVICE}/{method}",
        {"rpc.system": "grpc", "rpc.service": _SERVICE, "rpc.method": method},
    )
    for method in _KINDS
}
_ENDINGS = (pb.CONNECTION_EVENT_KIND_REMOVED, pb.CONNECTION_EVENT_KIND_BLOCKED)
_RETRY_AFTER = timedelta(seconds=1)
_PING_SECONDS = 1.0
# After so many calls in a row without an answer, all others fail at once for so long.
_FAILURES = 5
_PAUSE = timedelta(seconds=0.5)
# A call with less time than this fails by its own deadline.
_FAIR_SECONDS = 0.1
# As many users as GetConnectedUserIds takes.
_MOST_USERS = 100
# And as many as it says of whether they are suspended.
_MOST_AMONG = 10_000
# What it takes to say that the graph did not answer, before the caller finds out by the clock.
_TELL_SECONDS = 0.05
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.name
_LATE = grpc.StatusCode.DEADLINE_EXCEEDED.name
# Each is a connection to one of the graph's workers; see `kith/client/channel_options.py`.
_CHANNELS = 2
# The thread that reads a stream waits for the next message itself. Otherwise grpcio has another
# thread for that, and the reader looks ten times a second whether there is one.
_SINGLE_THREADED = ("SingleThreadedUnaryStream", 1)
# Otherwise gRPC pings after answers to find out how much may be under way, and these pings are most
# of what an idle connection carries. It need not: a mebibyte holds the connections of 100 people.
_UNPROBED = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024 * 1024))
# Between the services CPU is dearer than bytes: the client says that it accepts no compression.
_UNCOMPRESSED = ("grpc.compression_enabled_algorithms_bitset", 1)
# No call of anybody is the reason for it, and the log of the graph can say so.
_OF_SUSPENDED = ((logs.REQUEST_ID, "suspended-users"),)
_ANY_POSITION = ((KEY, ANY_WORD),)
_NO_STAMPS: Mapping[int, str] = MappingProxyType({})
_log = logging.getLogger("kith.graph_client")


class GraphClient:
    """Asks graph_service. Thread-safe."""

    def __init__(
        self,
        target: str,
        *,
        access: TargetSettings,
        timeout: timedelta,
        cache: ConnectionsCache,
        metrics: FeedMetrics,
        client_metrics: ClientMetrics,
        erased_up_to: Callable[[Collection[int]], ErasedUpTo],
        fences: Fences | None = None,
    ) -> None:
        """Ask `erased_up_to` up to which revision the feed has erased ids that were issued anew.

        Without `fences` every validation is a call.
        """
        options = [
            *client_options("graph", waits=False),
            _SINGLE_THREADED,
            _UNCOMPRESSED,
            *_UNPROBED,
        ]
        self._channels = [open_channel(target, access, options) for _ in range(_CHANNELS)]
        # Now: a stub that is made on a closed channel crashes the process.
        self._stubs = cycle([graph_pb2_grpc.GraphServiceStub(each) for each in self._channels])
        self._health = health_pb2_grpc.HealthStub(self._channels[0])
        self._timeout = timeout.total_seconds()
        self._circuit = Circuit(failures=_FAILURES, pause=_PAUSE)
        self._metrics = metrics
        self._metrics_by_method = {
            method: client_metrics.of(kind, _SERVICE, method) for method, kind in _KINDS.items()
        }
        self._cache = cache
        self._erased_up_to = erased_up_to
        self.fences = fences
        self.suspended_users = SuspendedUsers(self.suspended)

    def cached(self, user_id: int, *, with_blocked: bool = False) -> CachedViewer:
        """Return the cached connections of a user, or fetch them; with the ids of blocks if wanted.

        They may be out of date: see `current`.

        Raises UnavailableError when graph_service cannot be reached in time, and RateLimitError
        when there are more connections or blocks than it can tell in one answer.
        """
        cached = self._cache.get(user_id, with_blocked=with_blocked)
        return cached or self._ask(user_id, with_blocked=with_blocked)

    def current(
        self, known: CachedViewer, *, among: Collection[int] = (), stamp: str | None = None
    ) -> tuple[CachedViewer, frozenset[int]]:
        """Return a user's connections as of now; they equal `known` when nothing has changed since.

        And those `among` up to 10,000 other users who are suspended now. With a `stamp`, now is the
        moment of the stamp or a later one, and the graph is not asked if it is known to say the
        same.
        """
        suspended = self._suspended_by(stamp, known, among)
        if suspended is not None:
            return known, suspended
        with_blocked = known.viewer.blocked_ids is not None
        response = self._answers(
            {known.viewer.user_id: known},
            with_blocked=with_blocked,
            suspended_among=among,
            is_newest=True,
        )
        current = self._told(
            response.users[0],
            known=known,
            with_blocked=with_blocked,
            stamp=self._confirmed(stamp, response.fence_keepers),
        )
        if current != known:
            self._metrics.changes_met.inc()
        return current, frozenset(response.suspended_user_ids)

    def cached_all(
        self, user_ids: Collection[int], *, with_blocked: bool = False
    ) -> dict[int, CachedViewer]:
        """Return the cached connections of many users, or fetch them, with ids of blocks if wanted.

        They may be out of date: see `current_all`. A user whose erasure is pending has no
        connections here, and their blocks are not known.

        Raises UnavailableError when graph_service cannot be reached in time, and RateLimitError
        when a hundred users have more connections or blocks than it can tell in one answer.
        """
        cached = self._cache.get_here(user_ids, with_blocked=with_blocked)
        missing = {user_id: None for user_id in user_ids if user_id not in cached}
        stamps = {} if self.fences is None else self.fences.stamps(missing)
        fetched, _ = self._ask_all(missing, with_blocked=with_blocked, stamps=stamps)
        return {**cached, **fetched}

    def current_all(
        self,
        known: Mapping[int, CachedViewer],
        *,
        among: Collection[int] = (),
        with_blocked: bool = False,
        stamps: Mapping[int, str] = _NO_STAMPS,
    ) -> tuple[dict[int, CachedViewer], frozenset[int]]:
        """Return the connections of many users as of now, each `known` where nothing has changed.

        And those `among` up to 10,000 other users who are suspended now; there are none unless
        connections of users are asked for. With the `stamps` of users, now is the moment of the
        stamps or a later one, and the graph is asked only about what it is not known to say. Raises
        what `cached_all` does.
        """
        unconfirmed = {
            user_id: each
            for user_id, each in known.items()
            if not self._is_confirmed(each, stamps.get(user_id))
        }
        suspended = self._suspended_at(next(iter(stamps.values()), None), among)
        confirmations = self._metrics.confirmations
        if suspended is None:
            confirmations["suspensions"].inc(len(known) - len(unconfirmed))
            unconfirmed = dict(known)
        elif self.fences is not None:
            confirmations["fence"].inc(len(known) - len(unconfirmed))
        current, told = self._ask_all(
            unconfirmed,
            with_blocked=with_blocked,
            suspended_among=among if suspended is None else (),
            stamps=stamps,
        )
        changed = sum(current[user_id] != each for user_id, each in unconfirmed.items())
        self._metrics.changes_met.inc(changed)
        return {**known, **current}, told if suspended is None else suspended

    def all_connections(self, user_ids: Collection[int]) -> dict[int, CachedViewer]:
        """Return the connections of many users as of now, those hidden by suspensions among them.

        They are for what outlives a suspension, which ends none, and are not cached. Raises what
        `cached_all` does.
        """
        found, _ = self._ask_all(dict.fromkeys(user_ids), with_blocked=False, with_suspended=True)
        return found

    def as_if_restored(self, user_id: int) -> Viewer:
        """Return a suspended user with the connections that they would see if restored now."""
        known = self.all_connections([user_id])[user_id]
        ids = list(known.viewer.connected_to)
        suspended = frozenset[int]()
        for first in range(0, len(ids), _MOST_AMONG):
            _, found = self.current(known, among=ids[first : first + _MOST_AMONG])
            suspended |= found
        return known.viewer.without_connections(suspended)

    def now(self, user_id: int) -> CachedViewer:
        """Return a user's connections as of now, for what is not validated afterwards."""
        known = self.cached(user_id)
        stamp = None if self.fences is None else self.fences.stamp(user_id)
        current, _ = self.current(known, stamp=stamp)
        return current

    def connections_and_erasures(
        self, user_ids: Sequence[int]
    ) -> tuple[list[CachedViewer], dict[int, int]]:
        """Return up to 100 users with their connections as of now; they are not cached.

        And those of their ids that were ever erased, with the revisions of the last erasures. A
        suspension hides no connection here, for it has not ended.
        """
        request = pb.GetConnectedUserIdsRequest(
            users=[pb.GetConnectedUserIdsRequest.UserQuery(user_id=id_) for id_ in user_ids],
            include_suspended=True,
        )
        with self._measured("GetConnectedUserIds"):
            response = next(self._stubs).GetConnectedUserIds(
                request, timeout=self._seconds(), metadata=_metadata()
            )
        told = [
            CachedViewer(revision=answer.revision, viewer=_viewer(answer))
            for answer in response.users
        ]
        return told, {
            answer.user_id: erasure.revision
            for answer in response.users
            for erasure in answer.erasures
            if erasure.user_id == answer.user_id
        }

    def erasure(self, user_id: int) -> int:
        """Return the revision of the last erasure of an id; 0 when there was none."""
        query = pb.GetConnectedUserIdsRequest.UserQuery(user_id=user_id)
        with self._measured("GetConnectedUserIds"):
            response = next(self._stubs).GetConnectedUserIds(
                pb.GetConnectedUserIdsRequest(users=[query]),
                timeout=self._seconds(),
                metadata=_metadata(),
            )
        [answer] = response.users
        return next(
            (erasure.revision for erasure in answer.erasures if erasure.user_id == user_id), 0
        )

    def suspended(self, known_revision: int, known_stamp: str | None) -> Suspended:
        """Return who is suspended now, unless that is the same as at a known revision.

        The graph is not asked while the fence of everybody tells the known stamp.
        """
        stamp = None if self.fences is None else self.fences.stamp_of_everybody()
        if stamp is not None and stamp == known_stamp:
            return Suspended(revision=known_revision, ids=None, stamp=stamp)
        request = pb.GetSuspendedUserIdsRequest(known_revision=known_revision)
        # Asked beside the calls, so it neither heeds nor changes what their circuit knows.
        with _Measured(self._metrics_by_method["GetSuspendedUserIds"]):
            response = next(self._stubs).GetSuspendedUserIds(
                request, timeout=self._timeout, metadata=_OF_SUSPENDED
            )
        return Suspended(
            revision=response.revision,
            ids=None if response.unchanged else response.suspended_user_ids,
            stamp=self._confirmed(stamp, response.fence_keepers),
        )

    def watch(self, cursor: str) -> "Watch":
        """Return the changes of the graph from a cursor on; the empty cursor means from now on."""
        return Watch(next(self._stubs), cursor, self._metrics_by_method["WatchConnections"])

    def ping(self) -> None:
        """Raise UnavailableError unless graph_service says within a second that it is ready."""
        request = health_pb2.HealthCheckRequest(service=_SERVICE)
        try:
            answer = self._health.Check(request, timeout=_PING_SECONDS)
        except grpc.RpcError as error:
            raise _translate(error) from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise UnavailableError(
                "graph_service is not ready", reason=errors_pb2.ERROR_REASON_GRAPH_UNAVAILABLE
            )

    def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            channel.close()

    def _ask(self, user_id: int, *, with_blocked: bool) -> CachedViewer:
        # A fence that is read before is cheaper than a question afterwards.
        stamp = None if self.fences is None else self.fences.stamp(user_id)
        response = self._answers(
            {user_id: None}, with_blocked=with_blocked, is_newest=stamp is not None
        )
        return self._told(
            response.users[0],
            known=None,
            with_blocked=with_blocked,
            stamp=self._confirmed(stamp, response.fence_keepers),
        )

    def _told(
        self,
        answer: pb.GetConnectedUserIdsResponse.ConnectedUsers,
        *,
        known: CachedViewer | None,
        with_blocked: bool,
        stamp: str | None = None,
    ) -> CachedViewer:
        """Return what the graph says of a user; it is cached if it is new, or its stamp is."""
        if answer.unchanged and known is not None:
            return self._stamped(known, stamp)
        user_id = answer.user_id
        pending, history = self._pending(answer.erasures)
        if user_id in pending:
            raise UnavailableError(
                "the data of an earlier user with this id is still being erased",
                reason=errors_pb2.ERROR_REASON_ERASURE_PENDING,
                retry_after=_RETRY_AFTER,
            )
        current = CachedViewer(
            revision=answer.revision,
            viewer=_viewer(answer, with_blocked=with_blocked, without=pending),
            stamp=None if pending else stamp,
            # What is pending ends without a change of the revision.
            lasting=not pending,
            erased_in=history,
        )
        if known is not None and _is_still(known, current):
            return self._stamped(known, current.stamp)
        if current.lasting:
            self._cache.keep(current)
        return current

    def _confirmed(self, stamp: str | None, keepers: Iterable[FenceKeeperName]) -> str | None:
        """Return a stamp if fences keep it true of an answer to a question asked after it."""
        if stamp is None:
            return None
        history = history_of(stamp)
        if all(each.history != history for each in keepers):
            return None
        self._cache.registered_in = history
        return stamp

    def _stamped(self, known: CachedViewer, stamp: str | None) -> CachedViewer:
        """Return what the graph has just confirmed, with the stamp of that, if it has one."""
        if stamp is None or stamp == known.stamp or not known.lasting:
            return known
        stamped = replace(known, stamp=stamp)
        self._cache.keep(stamped)
        return stamped

    def _suspended_by(
        self, stamp: str | None, known: CachedViewer, among: Collection[int]
    ) -> frozenset[int] | None:
        """Return who is suspended at the moment of a stamp, if all is as it is known to be.

        None if the graph has to be asked.
        """
        if not self._is_confirmed(known, stamp):
            return None
        suspended = self._suspended_at(stamp, among)
        self._metrics.confirmations["suspensions" if suspended is None else "fence"].inc()
        return suspended

    def _is_confirmed(self, known: CachedViewer, stamp: str | None) -> bool:
        """Whether a user's connections are the graph's at the moment of a stamp; counts why not."""
        if self.fences is None:
            return False
        if stamp is not None and stamp == known.stamp:
            return True
        by = "open" if stamp is None else "no_stamp" if known.stamp is None else "changed"
        self._metrics.confirmations[by].inc()
        return False

    def _suspended_at(self, stamp: str | None, among: Collection[int]) -> frozenset[int] | None:
        """Return who is suspended at the moment of a stamp; None if the graph has to be asked."""
        if not among:
            return frozenset()
        if stamp is None:
            return None
        return self.suspended_users.among(among, stamp=of_everybody(stamp))

    def _ask_all(
        self,
        asked: Mapping[int, CachedViewer | None],
        *,
        with_blocked: bool,
        with_suspended: bool = False,
        suspended_among: Collection[int] = (),
        stamps: Mapping[int, str] = _NO_STAMPS,
    ) -> tuple[dict[int, CachedViewer], frozenset[int]]:
        user_ids = list(asked)
        responses = [
            self._answers(
                {user_id: asked[user_id] for user_id in user_ids[first : first + _MOST_USERS]},
                with_blocked=with_blocked,
                with_suspended=with_suspended,
                suspended_among=() if first else suspended_among,
                is_newest=bool(stamps),
            )
            for first in range(0, len(user_ids), _MOST_USERS)
        ]
        answers = [answer for response in responses for answer in response.users]
        stamps = {
            answer.user_id: stamp
            for response in responses
            for answer in response.users
            if (stamp := self._confirmed(stamps.get(answer.user_id), response.fence_keepers))
        }
        erasures = [erasure for answer in answers for erasure in answer.erasures]
        pending, history = self._pending(erasures)
        current = dict[int, CachedViewer]()
        for answer in answers:
            known = asked[answer.user_id]
            stamp = stamps.get(answer.user_id)
            if answer.unchanged and known is not None:
                current[answer.user_id] = self._stamped(known, stamp)
                continue
            is_pending = not pending.isdisjoint(each.user_id for each in answer.erasures)
            told = CachedViewer(
                revision=answer.revision,
                viewer=Viewer(user_id=answer.user_id)
                if answer.user_id in pending
                else _viewer(answer, with_blocked=with_blocked, without=pending),
                stamp=None if is_pending else stamp,
                lasting=not is_pending,
                erased_in=history if answer.erasures else "",
            )
            if known is not None and _is_still(known, told):
                current[answer.user_id] = self._stamped(known, told.stamp)
                continue
            current[answer.user_id] = told
            if told.lasting and not with_suspended:
                self._cache.keep_here(told)
        suspended = frozenset(
            user_id for response in responses for user_id in response.suspended_user_ids
        )
        return current, suspended

    def _answers(
        self,
        asked: Mapping[int, CachedViewer | None],
        *,
        with_blocked: bool,
        with_suspended: bool = False,
        suspended_among: Collection[int] = (),
        is_newest: bool = False,
    ) -> pb.GetConnectedUserIdsResponse:
        """Return the graph's answer about each of up to 100 users."""
        queries = [
            pb.GetConnectedUserIdsRequest.UserQuery(
                user_id=user_id,
                # Where ids were issued anew, an answer in full has what must be erased here.
                known_revision=known.revision if known and not known.erased_in else 0,
            )
            for user_id, known in asked.items()
        ]
        request = pb.GetConnectedUserIdsRequest(
            users=queries,
            include_blocked=with_blocked,
            include_suspended=with_suspended,
            suspended_among=suspended_among,
        )
        # What is not stored is validated afterwards, so it may come from a replica.
        of_primary = is_newest or with_suspended or any(asked.values())
        with self._measured("GetConnectedUserIds"):
            brought = _metadata() if of_primary else (*_ANY_POSITION, *_metadata())
            return next(self._stubs).GetConnectedUserIds(
                request, timeout=self._seconds(), metadata=brought
            )

    def _pending(
        self, erasures: Collection[pb.GetConnectedUserIdsResponse.Erasure]
    ) -> tuple[frozenset[int], str]:
        """Return those ids whose former users have something left here, and in which history.

        Otherwise a post of a former user would be shown as one of the user who has the id now. A
        restored backup, or a standby that was promoted, may have again what had been erased. So
        what is read with these ids is right if the history is the same before and afterwards.
        """
        if not erasures:
            return frozenset(), ""
        erased = self._erased_up_to([erasure.user_id for erasure in erasures])
        pending = frozenset(
            erasure.user_id
            for erasure in erasures
            if erased.revisions.get(erasure.user_id, 0) < erasure.revision
        )
        return pending, erased.history

    def _seconds(self) -> float:
        """Return how long a call may take: a little less than the one it is made for."""
        return max(0.0, min(self._timeout, deadlines.seconds_left() - _TELL_SECONDS))

    def _measured(self, method: str) -> "_Measured":
        """Return what is around a call.

        Raises UnavailableError while graph_service has not been answering for some time.
        """
        if not self._circuit.lets_through():
            raise _unreachable()
        return _Measured(self._metrics_by_method[method], self._circuit, span=_SPANS[method])


@dataclass(frozen=True, kw_only=True)
class EndedConnection:
    """Two users who are not connected any more, and the revision that each has since."""

    user_id: int
    user_revision: int
    peer_id: int
    peer_revision: int


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What has changed in the graph, and the cursor from which on the next changes come.

    `erased` are users with the revisions of their erasures.
    """

    cursor: str
    ended: Sequence[EndedConnection]
    erased: Sequence[tuple[int, int]]


class Watch:
    """A stream of changes, which goes on until it is cancelled or breaks."""

    def __init__(
        self, stub: graph_pb2_grpc.GraphServiceStub, cursor: str, metrics: MethodMetrics
    ) -> None:
        self._call = stub.WatchConnections(pb.WatchConnectionsRequest(cursor=cursor))
        self._metrics = metrics

    def __iter__(self) -> Iterator[Changes]:
        """Yield the changes; raises what `GraphClient` raises, also when it was cancelled."""
        with _Measured(self._metrics):
            yield from map(_changes, self._call)

    def cancel(self) -> None:
        """End the stream, from any thread."""
        self._call.cancel()


class _Measured:
    """Counts and times a call, and raises its errors as ours; a third of a generator's cost.

    With the name and the attributes of a `span` it is one of the current trace.
    """

    __slots__ = ("_circuit", "_metrics", "_span", "_started")

    def __init__(
        self,
        metrics: MethodMetrics,
        circuit: Circuit | None = None,
        *,
        span: tuple[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._metrics = metrics
        self._circuit = circuit
        self._started = 0.0
        self._span = None if span is None else asking(*span)

    def __enter__(self) -> None:
        self._metrics.started.inc()
        if self._span is not None:
            self._span.__enter__()
        self._started = time.perf_counter()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = time.perf_counter() - self._started
        if self._span is not None:
            self._span.__exit__(exc_type, exc, traceback)
        self._metrics.handling.observe(seconds)
        code = _code(exc)
        self._metrics.handled[code].inc()
        if self._circuit is not None:
            if code == _UNAVAILABLE or (code == _LATE and seconds > _FAIR_SECONDS):
                self._circuit.failed()
            else:
                self._circuit.succeeded()
        if isinstance(exc, grpc.RpcError):
            raise _translate(exc) from exc


def _is_still(known: CachedViewer, told: CachedViewer) -> bool:
    """Whether an answer in full says what is known.

    The order of ids may be another at the same revision. A user who never had a connection has
    none to be compared.
    """
    if known.revision and known.lasting and told.lasting:
        return (known.revision, known.erased_in) == (told.revision, told.erased_in)
    return known == told


def _metadata() -> Metadata:
    """Return what continues the trace and the request id of the call that is worked on."""
    request_id = logs.request_id.get()
    named = ((logs.REQUEST_ID, request_id),) if request_id else ()
    return (*named, *(outgoing() or ()))


def _code(error: BaseException | None) -> str:
    if not isinstance(error, grpc.RpcError):
        return grpc.StatusCode.OK.name
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    return code.name


def _translate(error: grpc.RpcError) -> AppException:
    """Fail closed: without an answer of the graph, nothing may be shown."""
    translated = from_rpc_error(error)
    if isinstance(translated, UnavailableError | DeadlineError):
        return _unreachable(translated.retry_after)
    if isinstance(translated, UnauthenticatedError | UnauthorizedError):
        # The credentials of feed_service itself are wrong, which is not the caller's fault.
        _log.error("graph_service refuses feed_service", extra={"reason": translated.reason_name})
        return UnavailableError(
            "graph_service does not answer feed_service",
            reason=errors_pb2.ERROR_REASON_GRAPH_UNAVAILABLE,
            retry_after=_RETRY_AFTER,
        )
    if isinstance(translated, InternalError):
        return InternalError("internal error in graph_service", metadata=translated.metadata)
    return translated


def _unreachable(retry_after: timedelta | None = None) -> UnavailableError:
    return UnavailableError(
        "graph_service cannot be reached",
        reason=errors_pb2.ERROR_REASON_GRAPH_UNAVAILABLE,
        retry_after=retry_after or _RETRY_AFTER,
    )


def _changes(message: pb.WatchConnectionsResponse) -> Changes:
    return Changes(
        cursor=message.cursor,
        ended=[
            EndedConnection(
                user_id=event.actor_id,
                user_revision=event.actor_revision,
                peer_id=event.peer_id,
                peer_revision=event.peer_revision,
            )
            for event in message.events
            if event.kind in _ENDINGS
        ],
        # A graph_service that records no erasures sends no revision. A late erasure by the id
        # alone could erase a new user who was given the same id.
        erased=[
            (event.actor_id, event.actor_revision)
            for event in message.events
            if event.kind == pb.CONNECTION_EVENT_KIND_USER_DELETED and event.actor_revision
        ],
    )


def _viewer(
    answer: pb.GetConnectedUserIdsResponse.ConnectedUsers,
    *,
    without: Collection[int] = (),
    with_blocked: bool = False,
) -> Viewer:
    reconnections = answer.reconnections
    connected: Collection[int] = answer.connected_user_ids
    if without:
        connected = [peer_id for peer_id in connected if peer_id not in without]
    return Viewer(
        user_id=answer.user_id,
        connected_ids=array_literal(connected),
        reconnected_ids=array_literal(peer.peer_id for peer in reconnections),
        own_revisions=array_literal(peer.user_revision for peer in reconnections),
        peer_revisions=array_literal(peer.peer_revision for peer in reconnections),
        blocked_ids=array_literal(answer.blocked_user_ids) if with_blocked else None,
        is_suspended=answer.suspended,
    )
