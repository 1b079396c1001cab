"""Follows the changes of the graph: what ends there ends here.

When a connection ends, the tags of the two for each other end. A suspension ends none. When a user
is erased, what the feed has of them is erased. No answer about connections waits for it, because
all answers use the connections that the graph tells (see `visibility`), and a new user with the id
of a user whose erasure is not finished counts as without connections (see `graph_client`). The
ending is also stored with the tag, so that no tag comes back to life when the graph forgets an
ending, for instance when it is restored from a backup.

One process at a time follows: it has an advisory lock of the database, and writes over the
connection that the lock belongs to. When it dies, another process takes over. The cursor is stored
in the same transaction as the changes, so nothing is missed and a repetition changes nothing.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection

from feed_service import queries
from feed_service.connections_cache import CachedViewer
from feed_service.erasure import Erasure
from feed_service.graph_client import Changes, EndedConnection, GraphClient, Watch
from feed_service.metrics import FeedMetrics
from feed_service.queries.following import Ending, Owner
from kith.exceptions import AppException, ValidationError
from shared.database.database import Database, in_transaction

_LOCK: Final = "follower"
_STREAM: Final = "connections"
_PAUSE_SECONDS: Final = 1
# How often a cursor is stored that has not moved: its time says that the graph is followed.
_STORE_AGAIN_SECONDS: Final = 20
# The most that the graph answers for in one call.
_USERS: Final = 100
_log = logging.getLogger("kith.follower")


class Follower:
    """The thread that follows, or waits for its turn."""

    def __init__(
        self, database: Database, graph: GraphClient, erasure: Erasure, metrics: FeedMetrics
    ) -> None:
        self._database = database
        self._graph = graph
        self._erasure = erasure
        self._metrics = metrics
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        self._is_following: bool | None = None
        self._stored: str | None = None
        self._store_again_at = 0.0
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 5) -> None:
        """End at once; a transaction under way may take until the timeout."""
        self._stopping.set()
        if (watch := self._watch) is not None:
            watch.cancel()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._database.advisory_lock(_LOCK) as locked:
                    if locked is not None:
                        self._follow(locked)
            except Exception as error:  # noqa: BLE001 -- the next attempt may succeed after any error
                self._tell(error)
            self._stopping.wait(_PAUSE_SECONDS)

    def _follow(self, connection: Connection) -> None:
        self._stored = None
        cursor = queries.following.cursor(connection, stream=_STREAM)
        if cursor is None:
            cursor = self._begin(connection)
        try:
            with self._watching(cursor) as changes:
                for change in changes:
                    self._apply(connection, change)
                    self._tell(None)
        except ValidationError:
            # The graph was restored from a backup, has other keys, or has purged what comes next:
            # the stream cannot be resumed from this cursor.
            queries.following.forget_cursor(connection, stream=_STREAM)
            raise

    def _begin(self, connection: Connection) -> str:
        """Return the newest cursor, after applying everything that happened before it."""
        with self._watching("") as changes:
            cursor = next(changes).cursor
        for user_ids in _users(connection):
            if self._stopping.is_set():
                raise InterruptedError("there are users who were not looked at")
            given = queries.following.newest_tags(connection, owner_ids=user_ids)
            told, erasures = self._graph.connections_and_erasures(user_ids)
            for user_id, revision in erasures.items():
                self._complete(user_id, revision)
            owners = [_owner(user, given) for user in told]
            with in_transaction(connection):
                ended = queries.following.end_past_tags(connection, owners=owners)
            self._metrics.tags_ended.inc(ended)
        with in_transaction(connection):
            queries.following.move_cursor(connection, stream=_STREAM, cursor=cursor)
        return cursor

    def _apply(self, connection: Connection, change: Changes) -> None:
        endings = _endings(change.ended)
        for user_id, revision in change.erased:
            self._complete(user_id, revision)
        if change.cursor != self._stored or time.monotonic() >= self._store_again_at:
            with in_transaction(connection):
                ended = queries.following.end_tags(connection, endings=endings) if endings else 0
                queries.following.move_cursor(connection, stream=_STREAM, cursor=change.cursor)
            self._metrics.tags_ended.inc(ended)
            self._stored = change.cursor
            self._store_again_at = time.monotonic() + _STORE_AGAIN_SECONDS
        self._metrics.followed_at.set_to_current_time()

    def _complete(self, user_id: int, revision: int) -> None:
        self._erasure.complete(
            user_id, revision=revision, goes_on=lambda: not self._stopping.is_set()
        )

    @contextmanager
    def _watching(self, cursor: str) -> Iterator[Iterator[Changes]]:
        watch = self._watch = self._graph.watch(cursor)
        if self._stopping.is_set():
            # `stop` may have been called before there was a watch to cancel.
            watch.cancel()
        try:
            yield iter(watch)
        finally:
            watch.cancel()

    def _tell(self, error: Exception | None) -> None:
        """Log whether the graph is followed when that has changed."""
        is_following = error is None
        if is_following == self._is_following or self._stopping.is_set():
            return
        self._is_following = is_following
        if error is None:
            _log.info("following the graph")
        else:
            trace = None if isinstance(error, AppException) else error
            _log.warning("not following the graph", extra={"reason": str(error)}, exc_info=trace)


def _owner(user: CachedViewer, given: Mapping[int, int]) -> Owner:
    """Return an owner with all tags that had been given before the graph was asked.

    Some may have a revision that the graph does not know: they were given during connections that a
    restored backup does not have.
    """
    newest = given.get(user.viewer.user_id, 0)
    return Owner(revision=max(user.revision, newest), viewer=user.viewer)


def _users(connection: Connection) -> Iterator[list[int]]:
    """Yield all users with stored data, as many at a time as the graph answers for."""
    last = 0
    while found := queries.following.user_ids(connection, after_id=last, limit=_USERS):
        last = found[-1]
        yield found


def _endings(ended: Sequence[EndedConnection]) -> list[Ending]:
    """Return both sides of every connection that ended."""
    return [
        Ending(owner_user_id=owner_id, target_user_id=target_id, owner_revision=revision)
        for pair in ended
        for owner_id, target_id, revision in (
            (pair.user_id, pair.peer_id, pair.user_revision),
            (pair.peer_id, pair.user_id, pair.peer_revision),
        )
    ]
