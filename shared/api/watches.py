"""Streams of changes: every event once and in order, also while many transactions write at once.

The order of events is that of their numbers, but a lower number may be committed after a higher
one, and a reader that went by numbers alone would pass over it. So nothing is read beyond the last
number that is settled: it and all before it are committed, or never will be. A transaction that
inserts an event locks the table from before its number is drawn until its commit can be seen. So a
number that was read before the holders of that lock were listed is settled once none of them is
left.

A cursor is of the last event that was told, its number and its time, and resuming looks for exactly
this event: see `_resumed`.

Snapshots do not tell it: one ends behind the last transaction that has completed, and so does not
name a later one that is running. They also wait for every other database of the cluster.

A consumer may want some events alone. Its cursor follows those that it is not told of as well, so
that it does not become older than the events that are stored.

One thread looks for what is settled, for as long as there is a stream. A consumer's events are read
when it takes them, so nothing piles up in memory for one that is slow.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge

from kith.environment import Environment
from kith.errors.v1 import errors_pb2
from kith.exceptions import AppException, RateLimitError, UnavailableError, ValidationError
from shared.api.paging import ByTime, PageTokens, Scope
from shared.database.database import RETRY_AFTER
from shared.database.event_log import End, EventLog
from shared.periodic import seconds_to_tick

_POLL_SECONDS = 0.25
# While nothing has happened for ten seconds.
_QUIET_POLL_SECONDS = 0.5
_ROUNDS_BEFORE_QUIET = 40
_LAST_SEND_SECONDS = 1.0
# All streams wake at once and read in turn, so many of them need no more than a few connections.
_READERS = 4
_log = logging.getLogger("kith.watches")


class _Position(NamedTuple):
    """The number of an event and its time in microseconds; both 0 when there was no event yet."""

    seq: int
    micros: int


_NO_EVENT: Final = _Position(0, 0)


class Event(Protocol):
    """One recorded change."""

    @property
    def seq(self) -> int:
        """Its number."""

    @property
    def occurred_at(self) -> datetime:
        """When it happened."""


E = TypeVar("E", bound=Event)


@dataclass(frozen=True, kw_only=True)
class EventPage(Generic[E]):
    """Some events in order, and the number up to which there are no others of those wanted."""

    events: list[E]
    until: int


ReadPage = Callable[[int, int], EventPage[E]]
"""Reads wanted events behind one number and not behind another, as many as a message holds."""


@dataclass(frozen=True, kw_only=True)
class Changes(Generic[E]):
    """Some events in order, or none in a heartbeat, and the cursor behind them."""

    events: list[E]
    cursor: str


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """How streams of changes behave."""

    max_watchers: int
    """How many streams of changes may be open at once: GRAPH_MAX_WATCHERS, FEED_MAX_WATCHERS."""
    heartbeat: timedelta
    """After how long a silence a stream sends a heartbeat: WATCH_HEARTBEAT_SECONDS."""
    send_limit: timedelta
    """How long a message may wait for a stream's consumer: WATCH_SEND_SECONDS."""

    @classmethod
    def read(cls, environment: Environment, service: str) -> "WatchSettings":
        """Read the variables of `GRAPH` or `FEED`; problems are noted in the environment."""
        return cls(
            max_watchers=environment.integer(
                f"{service}_MAX_WATCHERS", 64, minimum=1, maximum=1_024
            ),
            heartbeat=environment.duration("WATCH_HEARTBEAT_SECONDS", 5, minimum=0.1, maximum=3600),
            send_limit=environment.duration("WATCH_SEND_SECONDS", 30, minimum=0.1, maximum=3600),
        )


class WatchMetrics:
    """How many consumers there are, and how much they are told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.streams = Gauge(
            "watch_streams",
            "Open streams of changes.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.events = Counter(
            "watch_events_total", "Events sent on streams of changes.", registry=registry
        )


class Call(Protocol):
    """The call of a stream, as a gRPC server's context has it."""

    def is_active(self) -> bool:
        """Whether the consumer may still receive messages."""

    def add_callback(self, callback: Callable[[], None], /) -> bool:
        """Call back when the call is over; false when it is over already."""

    def cancel(self) -> object:
        """End the call, also while a message waits for the consumer."""


class Watches:
    """The streams that are open, and the thread that wakes them when there is something to read.

    `scope` is what their cursors are bound to.
    """

    def __init__(
        self,
        log: EventLog,
        tokens: PageTokens,
        settings: WatchSettings,
        metrics: WatchMetrics,
        *,
        scope: Scope,
    ) -> None:
        self._events = log
        self._tokens = tokens
        self._metrics = metrics
        self._scope = scope
        self._max_watchers = settings.max_watchers
        self._heartbeat_seconds = settings.heartbeat.total_seconds()
        self._send_seconds = settings.send_limit.total_seconds()
        self._lock = threading.Lock()
        self._watches = set[_Watch]()
        self._thread: threading.Thread | None = None
        self._settled: End | None = None
        self._is_draining = False
        self._readers = threading.BoundedSemaphore(_READERS)

    def follow(
        self, cursor: str, call: Call, read: ReadPage[E], *, from_oldest: bool = False
    ) -> Iterator[Changes[E]]:
        """Yield the events behind a cursor that `read` finds, and heartbeats, while the call lasts.

        The empty cursor starts at what is settled now: a consumer who then reads the state of the
        service misses nothing. `from_oldest` starts it at the oldest event that is stored. Raises
        ValidationError naming `cursor` when it is damaged, its event is not one of this database or
        events behind it are not kept any more, RateLimitError when there are too many streams or
        this one's consumer is too slow, and UnavailableError when the server drains or the database
        cannot be reached; the consumer resumes from the last cursor it received.
        """
        # A number means nothing in another history, also one that was read by the statement before.
        history = self._events.end().history
        last = self._oldest() if from_oldest and not cursor else self._resumed(cursor)
        with self._joined(call) as watch:
            # What the thread found last may be a moment old; while others write it has to do.
            begun = None if last else _Frontier(self._events).advance()
            after = last.seq if last else begun and begun.number
            for settled in self._turns(watch):
                after = settled.number if after is None else after
                told, page = last, self._page(read, after=after, until=settled.number)
                after = page.until
                if after < settled.number:
                    watch.woken.set()
                if page.events:
                    last = _position(page.events[-1].seq, page.events[-1].occurred_at)
                elif watch.silent_seconds() < self._heartbeat_seconds:
                    continue
                elif last is None or last.seq < after:
                    last = self._newest(until=after)
                is_new = last is not told
                if is_new and not settled.history == self._events.end().history == history:
                    raise _replaced()
                cursor = self._tokens.issue(self._scope, last)
                yield from self._sent(watch, Changes(events=page.events, cursor=cursor))

    def drain(self) -> None:
        """End all streams, and let no new one begin."""
        with self._lock:
            self._is_draining = True
            for watch in self._watches:
                watch.end(_draining())

    def _resumed(self, cursor: str) -> _Position | None:
        """Return the position in a cursor, if its event is one of this database.

        After a backup was restored, numbers that a consumer has seen are given to other events, and
        a number alone would skip those. The event of a number has the same time in one history
        alone, for time goes on while a backup is restored.
        """
        read = self._tokens.read_integers(self._scope, cursor, field="cursor")
        if not read:
            return None
        self._require_kept(read[0])
        if len(read) == 1:
            # Issued by the version before, which knew the number alone.
            if read[0] > self._events.end().number:
                raise _of_another_history()
            return self._newest(until=read[0])
        position = _Position(*read)
        if self._newest(until=position.seq) != position:
            raise _of_another_history()
        return position

    def _oldest(self) -> _Position:
        """Return the position before the oldest event that is stored."""
        return self._newest(until=self._events.purged_until())

    def _newest(self, *, until: int) -> _Position:
        found = self._events.newest(until=until)
        return _position(*found) if found else _NO_EVENT

    @contextmanager
    def _joined(self, call: Call) -> "Iterator[_Watch]":
        watch = _Watch(call)
        with self._lock:
            if self._is_draining:
                raise _draining()
            if len(self._watches) >= self._max_watchers:
                raise RateLimitError(
                    f"{self._max_watchers} streams are already open, the limit",
                    metadata={"limit": str(self._max_watchers)},
                    retry_after=RETRY_AFTER,
                )
            self._watches.add(watch)
            self._metrics.streams.inc()
            if self._thread is None:
                # What was settled when the last stream ended is too old to start from.
                self._settled = None
                self._thread = threading.Thread(target=self._run, name="watches", daemon=True)
                self._thread.start()
        try:
            call.add_callback(watch.woken.set)
            yield watch
        finally:
            with self._lock:
                self._watches.remove(watch)
                self._metrics.streams.dec()

    def _turns(self, watch: "_Watch") -> Iterator[End]:
        """Yield what is settled whenever there may be something to send, until the call is over."""
        while True:
            # Cleared before anything is looked at, so that nothing can be missed.
            watch.woken.clear()
            if not watch.call.is_active():
                return
            if watch.ending is not None:
                raise watch.ending
            if (settled := self._settled) is None:
                watch.woken.wait()
            else:
                yield settled
                watch.woken.wait(max(0, self._heartbeat_seconds - watch.silent_seconds()))

    def _page(self, read: ReadPage[E], *, after: int, until: int) -> EventPage[E]:
        if after >= until:
            return EventPage(events=[], until=after)
        with self._readers:
            page = read(after, until)
            # After the read, so that it notices events that were purged during the read.
            self._require_kept(after)
        return page

    def _require_kept(self, after: int) -> None:
        """Raise ValidationError when events behind a position were purged."""
        if after < self._events.purged_until():
            raise ValidationError.of(
                "cursor",
                "is older than the stored events; start again with an empty cursor",
                reason=errors_pb2.ERROR_REASON_CURSOR_EXPIRED,
            )

    def _sent(self, watch: "_Watch", changes: Changes[E]) -> Iterator[Changes[E]]:
        """Yield some changes, which takes as long as the consumer lets them wait."""
        self._metrics.events.inc(len(changes.events))
        started = watch.sending_since = time.monotonic()
        yield changes
        watch.sending_since = None
        watch.sent_at = time.monotonic()
        if watch.sent_at - started > self._send_seconds:
            raise RateLimitError(
                f"the client read no message for {self._send_seconds:g} seconds; "
                "resume from the last cursor",
                reason=errors_pb2.ERROR_REASON_CONSUMER_TOO_SLOW,
            )

    def _run(self) -> None:
        frontier = _Frontier(self._events)
        quiet_rounds = 0
        while self._is_needed():
            try:
                is_new = self._tell(frontier.advance())
                quiet_rounds = 0 if is_new else quiet_rounds + 1
            except Exception:  # noqa: BLE001 -- after any error the streams must be told
                _log.warning("events cannot be read", exc_info=True)
                frontier = _Frontier(self._events)
                self._fail()
            self._cancel_stuck()
            is_quiet = quiet_rounds >= _ROUNDS_BEFORE_QUIET
            time.sleep(seconds_to_tick(_QUIET_POLL_SECONDS) if is_quiet else _POLL_SECONDS)

    def _is_needed(self) -> bool:
        with self._lock:
            if not self._watches:
                self._thread = None
            return bool(self._watches)

    def _tell(self, settled: End | None) -> bool:
        """Wake the streams if there is something to send; return whether there is."""
        with self._lock:
            is_new = settled != self._settled
            if is_new:
                self._settled = settled
                for watch in self._watches:
                    watch.woken.set()
            return is_new

    def _fail(self) -> None:
        with self._lock:
            self._settled = None
            for watch in self._watches:
                watch.end(
                    UnavailableError("events cannot be read at the moment", retry_after=RETRY_AFTER)
                )

    def _cancel_stuck(self) -> None:
        """Cancel the streams whose last message their consumer still has not taken."""
        limit = _LAST_SEND_SECONDS if self._is_draining else 2 * self._send_seconds
        with self._lock:
            stuck = [watch for watch in self._watches if watch.is_sending_for(limit)]
        for watch in stuck:
            watch.call.cancel()


class _Watch:
    """One stream, as its own thread and the one that wakes it see it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.woken = threading.Event()
        self.ending: AppException | None = None
        self.sent_at = float("-inf")
        self.sending_since: float | None = None

    def end(self, error: AppException) -> None:
        """Let the stream end with an error as soon as it sends nothing."""
        self.ending = error
        self.woken.set()

    def silent_seconds(self) -> float:
        """For how long nothing was sent; for ever before the first message."""
        return time.monotonic() - self.sent_at

    def is_sending_for(self, seconds: float) -> bool:
        """Whether one message has been waiting for the consumer for longer than that."""
        since = self.sending_since
        return since is not None and time.monotonic() - since > seconds


class _Frontier:
    """The number up to which all events are settled; None until the first is known."""

    def __init__(self, log: EventLog) -> None:
        self._events = log
        self._settled: End | None = None
        self._candidate: End | None = None
        self._looks: Iterator[Callable[[], set[str]]] = iter(())
        self._look: Callable[[], set[str]] = set
        self._left = set[str]()

    def advance(self) -> End | None:
        """Return how far it is now, after another look at who is writing.

        Raises UnavailableError when another database took the place of the one before: it may give
        numbers to other events that consumers have passed. Their cursors tell whether it does.
        """
        if self._left:
            self._left &= self._look()
        elif (end := self._events.end()) != self._settled:
            if self._settled is not None and end.history != self._settled.history:
                raise _replaced()
            # Only now, or a transaction could draw a number and commit it in between unseen.
            self._candidate = end
            self._looks = iter(self._events.writers)
        while not self._left and (look := next(self._looks, None)):
            self._look = look
            self._left = look()
        if not self._left:
            self._settled = self._candidate
        return self._settled


def _position(seq: int, occurred_at: datetime) -> _Position:
    return _Position(seq, ByTime.of(occurred_at, seq).micros)


def _of_another_history() -> ValidationError:
    return ValidationError.of(
        "cursor",
        "its event is not in this database, which was restored from a backup or replaced; start "
        "again with an empty cursor, then compare everything with what is stored",
        reason=errors_pb2.ERROR_REASON_CURSOR_OF_ANOTHER_HISTORY,
    )


def _replaced() -> UnavailableError:
    return UnavailableError("the database was restarted or replaced", retry_after=RETRY_AFTER)


def _draining() -> UnavailableError:
    return UnavailableError(
        "the server is stopping; resume from the last cursor",
        reason=errors_pb2.ERROR_REASON_DRAINING,
        retry_after=RETRY_AFTER,
    )
