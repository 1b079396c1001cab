"""Suspensions: taking users out of everybody's sight, and bringing them back.

A suspension changes no connection, request or block: the reads leave out who is suspended. So its
end has nothing to restore. Everybody who is connected with the user gets a new revision in the same
transaction, by which reads that are under way notice it. Its fence is for everybody, because a list
of all suspended users may be cached as well.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from graph_service.conflicts import erased_meanwhile
from graph_service.fences import EVERYBODY, Fences
from graph_service.metrics import SUSPENDED_USERS, USERS
from graph_service.models import EventKind
from graph_service.queries import neighbours, suspensions, users
from graph_service.queries.fences import KeeperName
from graph_service.queries.suspensions import SuspensionRow
from kith.exceptions import AbortedError
from shared.access.suspended import Suspended
from shared.api.idempotency import Call, M, once
from shared.api.paging import NEWER_THAN_ALL, ByTime, Page, PageTokens, Scope
from shared.database.database import Database
from shared.database.reader import Reader
from shared.database.totals import add_to_totals


class Suspensions:
    """Suspends and restores users, and tells who is suspended."""

    def __init__(
        self,
        database: Database,
        reader: Reader,
        tokens: PageTokens,
        fences: Fences,
        *,
        changed: Callable[[], None],
    ) -> None:
        """Call `changed` after a user was suspended or restored."""
        self._database = database
        self._fences = fences
        self._reader = reader
        self._tokens = tokens
        self._changed = changed

    def suspend(self, call: Call[datetime, M], user_id: int, *, reason: str) -> M:
        """Suspend a user; the result is since when they are suspended."""

        def work(connection: Connection) -> datetime:
            # With a row for all cases, every change of the user's waits for the lock.
            created = users.create_user(connection, user_id=user_id)
            connected = _lock_with_connections(connection, user_id)
            since, is_new = suspensions.insert_suspension(
                connection, user_id=user_id, reason=reason
            )
            if is_new:
                fenced_by = suspensions.change_sight(
                    connection,
                    user_id=user_id,
                    kind=EventKind.SUSPENDED,
                    amounts={user_id: 0, **dict.fromkeys(connected, 1)},
                )
                self._fences.before_commit(connection, fenced_by, EVERYBODY)
            add_to_totals(connection, amounts={SUSPENDED_USERS: int(is_new), USERS: created})
            return since

        response, _ = once(self._database, call, work)
        self._changed()
        return response

    def restore(self, call: Call[bool, M], user_id: int) -> M:
        """End a suspension; the result is whether there was one."""

        def work(connection: Connection) -> bool:
            if not suspensions.is_suspended(connection, user_id=user_id):
                return False
            # The row is gone if the user was erased meanwhile.
            created = users.create_user(connection, user_id=user_id)
            connected = _lock_with_connections(connection, user_id)
            is_restored = suspensions.delete_suspension(connection, user_id=user_id)
            if is_restored:
                fenced_by = suspensions.change_sight(
                    connection,
                    user_id=user_id,
                    kind=EventKind.RESTORED,
                    amounts={user_id: 0, **dict.fromkeys(connected, -1)},
                )
                self._fences.before_commit(connection, fenced_by, EVERYBODY)
            add_to_totals(connection, amounts={SUSPENDED_USERS: -int(is_restored), USERS: created})
            return is_restored

        response, _ = once(self._database, call, work)
        self._changed()
        return response

    def page(self, *, page_size: int, page_token: str) -> Page[SuspensionRow]:
        """Return a page of the suspended users, last suspended first."""
        scope = Scope.of("suspensions")
        before = self._tokens.read(scope, page_token, start=NEWER_THAN_ALL)
        rows = self._database.read(
            lambda connection: suspensions.suspension_page(
                connection, before=before.key, limit=page_size + 1
            )
        )
        return self._tokens.cut(
            scope,
            rows,
            size=page_size,
            position=lambda row: ByTime.of(row.suspended_at, row.user_id),
        )

    def ids(self, *, known_revision: int) -> tuple[Suspended, Sequence[KeeperName]]:
        """Return the ids of all suspended users, unless the revision is still the known one.

        And the keepers that are told of every suspension after that.
        """
        return suspensions.suspended_ids(self._reader, known_revision=known_revision)


def _lock_with_connections(connection: Connection, user_id: int) -> set[int]:
    """Lock a user and everybody who is connected with them; the result is these others.

    They can be locked only once they are known, and one may come in between, who has no lock yet:
    then AbortedError has the transaction repeated.
    """
    before = neighbours.neighbour_ids(connection, user_id=user_id)
    if user_id not in users.lock_users(connection, user_ids={user_id, *before}):
        raise erased_meanwhile()
    connected = neighbours.neighbour_ids(connection, user_id=user_id)
    if connected - before:
        raise AbortedError("the user's connections changed; repeat the call")
    return connected
