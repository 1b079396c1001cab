"""Erasing a user from the graph."""

from collections.abc import Mapping

from sqlalchemy import Connection

from graph_service.conflicts import erased_meanwhile
from graph_service.fences import Fences
from graph_service.metrics import ACTIVE_CONNECTIONS, USERS
from graph_service.queries import erasure, neighbours, suspensions, users
from kith.exceptions import AbortedError
from shared.api import idempotency
from shared.api.idempotency import Call, M, once
from shared.database.database import Database
from shared.database.totals import add_to_totals


class Erasure:
    """The erasure of users."""

    def __init__(self, database: Database, fences: Fences) -> None:
        self._database = database
        self._fences = fences

    def delete_user(self, call: Call[int, M], user_id: int) -> M:
        """Erase the user who has the id now; the result is how many connections ended."""

        def work(connection: Connection) -> int:
            # A user without connections may have posts, and the id may be about to get a
            # connection: with a row for all cases, everything that concerns it waits for the lock.
            created = users.create_user(connection, user_id=user_id)
            # Neighbours can be locked only once they are known, and one may come or go in
            # between: one who came has no lock yet, so the call is repeated.
            before = _related(connection, user_id)
            locked = users.lock_users(connection, user_ids={user_id, *before})
            idempotency.forget_of(connection, user_id=user_id)
            idempotency.forget_about(connection, user_id=user_id)
            if user_id not in locked:
                raise erased_meanwhile()
            amounts = _related(connection, user_id)
            if amounts.keys() - before:
                raise AbortedError("the user's connections changed; repeat the call")
            is_suspended = suspensions.is_suspended(connection, user_id=user_id)
            fenced_by = _erase(
                connection, user_id, amounts, created=created, is_suspended=is_suspended
            )
            # What is known of the erased id changes too, even if it had no connection.
            self._fences.before_commit(connection, fenced_by, {user_id, *amounts})
            return -sum(amounts.values())

        response, _ = once(self._database, call, work)
        return response


def _related(connection: Connection, user_id: int) -> dict[int, int]:
    """Return how the number of connections changes of each user that an erasure affects."""
    return {
        **dict.fromkeys(erasure.opponent_ids(connection, user_id=user_id), 0),
        **dict.fromkeys(neighbours.neighbour_ids(connection, user_id=user_id), -1),
    }


def _erase(
    connection: Connection,
    user_id: int,
    amounts: Mapping[int, int],
    *,
    created: int,
    is_suspended: bool,
) -> str | None:
    fenced_by = erasure.erase_user(connection, user_id=user_id)
    if amounts:
        users.change_counts(
            connection, amounts=amounts, suspended_amounts=amounts if is_suspended else {}
        )
    add_to_totals(
        connection,
        amounts={ACTIVE_CONNECTIONS: sum(amounts.values()), USERS: created - 1},
    )
    return fenced_by
