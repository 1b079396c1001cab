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

One thread looks for what is settled, for as long as anybody watches. A consumer's events are read
when it takes them, so nothing piles up in memory for one that is slow.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from graph_service.queries import events
from graph_service.queries.events import EventRow
from graph_service.settings import WatchSettings
from kith.errors.v1 import errors_pb2
from kith.exceptions import AppException, RateLimitError, UnavailableError, ValidationError
from shared.api.paging import ByTime, PageTokens, Scope
from shared.database.database import RETRY_AFTER
from shared.database.reader import Reader

BATCH = 1_000
_SCOPE = Scope.of("watch")
_POLL_SECONDS = 0.25
_LAST_SEND_SECONDS = 1.0
# All streams wake at once and read in turn, so many of them need no more than a few connections.
_READERS = 4
_log = logging.getLogger("kith.watches")


class _Position(NamedTuple):
    """The number of an event and its time in microseconds; both 0 when there was no event yet."""

    seq: int
    micros: int


_NO_EVENT: Final = _Position(0, 0)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Some events in order, or none in a heartbeat, and the cursor behind them."""

    events: list[EventRow]
    cursor: str


class Call(Protocol):
    """The call of a stream, as a gRPC server's context has it."""

    def is_active(self) -> bool:
        """Whether the consumer may still receive messages."""

    def add_callback(self, callback: Callable[[], None], /) -> bool:
        """Call back when the call is over; false when it is over already."""

    def cancel(self) -> object:
        """End the call, also while a message waits for the consumer."""


class Watches:
    """The streams that are open, and the thread that wakes them when there is something to read."""

    def __init__(self, reader: Reader, tokens: PageTokens, settings: WatchSettings) -> None:
        self._reader = reader
        self._tokens = tokens
        self._max_watchers = settings.max_watchers
        self._heartbeat_seconds = settings.heartbeat.total_seconds()
        self._send_seconds = settings.send_limit.total_seconds()
        self._lock = threading.Lock()
        self._watches = set[_Watch]()
        self._thread: threading.Thread | None = None
        self._settled: int | None = None
        self._is_draining = False
        self._readers = threading.BoundedSemaphore(_READERS)

    def follow(self, cursor: str, call: Call) -> Iterator[Changes]:
        """Yield every event behind a cursor, and heartbeats, for as long as the call lasts.

        The empty cursor starts at what is settled now: a consumer who then reads the state of the
        graph misses nothing. Raises ValidationError naming `cursor` when it is damaged, its event
        is not one of this database or events behind it are not kept any more, RateLimitError when
        there are too many streams or this one's consumer is too slow, and UnavailableError when the
        server drains or the database cannot be reached; the consumer resumes from the last cursor
        it received.
        """
        resumed = self._resumed(cursor)
        with self._joined(call) as watch:
            # What the thread found last may be a moment old; while others write it has to do.
            after = resumed[0] if resumed else _Frontier().advance(self._reader)
            for settled in self._turns(watch):
                after = settled if after is None else after
                last = resumed = resumed or self._newest(until=after)
                told = self._events(after=after, until=settled)
                if told:
                    last = resumed = _position(told[-1].seq, told[-1].occurred_at)
                if len(told) == BATCH:
                    after = told[-1].seq
                    watch.woken.set()
                else:
                    after = max(after, settled)
                if told or watch.silent_seconds() >= self._heartbeat_seconds:
                    cursor = self._tokens.issue(_SCOPE, last)
                    yield from self._sent(watch, Changes(events=told, cursor=cursor))

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
        read = self._tokens.read_integers(_SCOPE, cursor, field="cursor")
        if not read:
            return None
        self._require_kept(read[0])
        if len(read) == 1:
            # Issued by the version before, which knew the number alone.
            if read[0] > events.last_event_number(self._reader):
                raise _of_another_history()
            return self._newest(until=read[0])
        position = _Position(*read)
        if self._newest(until=position.seq) != position:
            raise _of_another_history()
        return position

    def _newest(self, *, until: int) -> _Position:
        found = events.newest_event(self._reader, until=until)
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

    def _turns(self, watch: "_Watch") -> Iterator[int]:
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

    def _events(self, *, after: int, until: int) -> list[EventRow]:
        if after >= until:
            return []
        with self._readers:
            told = events.event_page(self._reader, after=after, until=until, limit=BATCH)
            # After the read, so that it notices events that were purged during the read.
            self._require_kept(after)
        return told

    def _require_kept(self, after: int) -> None:
        """Raise ValidationError when events behind a position were purged."""
        if after < events.purged_until(self._reader):
            raise ValidationError.of(
                "cursor",
                "is older than the stored events; start again with an empty cursor",
                reason=errors_pb2.ERROR_REASON_CURSOR_EXPIRED,
            )

    def _sent(self, watch: "_Watch", changes: Changes) -> Iterator[Changes]:
        """Yield some changes, which takes as long as the consumer lets them wait."""
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
        frontier = _Frontier()
        while self._is_needed():
            try:
                self._tell(frontier.advance(self._reader))
            except Exception:  # noqa: BLE001 -- after any error the streams must be told
                _log.warning("events cannot be read", exc_info=True)
                frontier = _Frontier()
                self._fail()
            self._cancel_stuck()
            time.sleep(_POLL_SECONDS)

    def _is_needed(self) -> bool:
        with self._lock:
            if not self._watches:
                self._thread = None
            return bool(self._watches)

    def _tell(self, settled: int | None) -> None:
        with self._lock:
            if settled != self._settled:
                self._settled = settled
                for watch in self._watches:
                    watch.woken.set()

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

    def __init__(self) -> None:
        self._settled: int | None = None
        self._candidate = 0
        self._writers: set[str] = set()

    def advance(self, reader: Reader) -> int | None:
        """Return how far it is now, after another look at who is writing."""
        if self._writers:
            self._writers &= events.event_writers(reader)
        else:
            last = events.last_event_number(reader)
            if last != self._settled:
                # Only now, or a transaction could draw a number and commit it in between unseen.
                self._writers = events.event_writers(reader)
            self._candidate = last
        if not self._writers:
            self._settled = self._candidate
        return self._settled


def _position(seq: int, occurred_at: datetime) -> _Position:
    return _Position(seq, ByTime.of(occurred_at, seq).micros)


def _of_another_history() -> ValidationError:
    return ValidationError.of(
        "cursor",
        "its event is not in this database, which was restored from a backup or replaced; start "
        "again with an empty cursor, then compare everything with the graph",
        reason=errors_pb2.ERROR_REASON_CURSOR_OF_ANOTHER_HISTORY,
    )


def _draining() -> UnavailableError:
    return UnavailableError(
        "the server is stopping; resume from the last cursor",
        reason=errors_pb2.ERROR_REASON_DRAINING,
        retry_after=RETRY_AFTER,
    )
