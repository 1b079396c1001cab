"""Users: their rows, locks, counts and revisions."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection

from graph_service.queries.fences import FENCED
from graph_service.queries.statements import message
from shared.database.arrays import array_literal

NO_SHOWN_REVISION: Final = 1
"""What a user is told who never had a connection."""


@dataclass(frozen=True, kw_only=True)
class UserRow:
    """What is kept of a user."""

    user_id: int
    shown_revision: int = NO_SHOWN_REVISION
    connection_count: int = 0


# Most have a row, and to find that out by a conflict would cost twice as much.
CREATE_USERS = """
    INSERT INTO users (user_id)
    SELECT id FROM unnest(CAST(:user_ids AS bigint[])) AS id
    WHERE NOT EXISTS (SELECT FROM users WHERE user_id = id)
    ORDER BY id
    ON CONFLICT (user_id) DO NOTHING
"""

LOCK_USERS = """
    SELECT user_id, revision, connection_count FROM users
    WHERE user_id = ANY (CAST(:user_ids AS bigint[]))
    ORDER BY user_id FOR UPDATE
"""


def create_user(connection: Connection, *, user_id: int) -> int:
    """How many rows the user lacked: one, or none; now there is one."""
    return connection.execute(
        message(CREATE_USERS), {"user_ids": array_literal([user_id])}
    ).rowcount


def lock_users(connection: Connection, *, user_ids: Collection[int]) -> set[int]:
    """Those of the users who have a row, which is locked until the transaction ends."""
    rows = connection.execute(message(LOCK_USERS), {"user_ids": array_literal(user_ids)})
    return set(rows.scalars())


# Steps of one would give old numbers a second meaning after a backup is restored.
SHOWN_STEP = "1 + CAST(floor(random() * 4294967296) AS bigint)"

_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"


def next_revision(known: str) -> str:
    """The revision after the next change of what has the `known` one, in SQL: the time.

    While the clock is behind, it grows by random steps, up to a second each, for the reason above.
    """
    step = "1 + CAST(floor(random() * 1000000) AS bigint)"
    return f"greatest({_NOW}, {known} + CASE WHEN {known} < {_NOW} THEN 1 ELSE {step} END)"


NEXT_REVISION = next_revision("u.revision")
"""The revision after the next change of a row `u` of users."""

CHANGE_USERS = f"""
    UPDATE users AS u
    SET connection_count = u.connection_count + change.amount,
        suspended_connection_count = u.suspended_connection_count + change.suspended_amount,
        meets_erased = u.meets_erased OR change.amount > 0
            AND EXISTS (SELECT FROM erasures AS e
                        WHERE e.user_id = ANY (CAST(:user_ids AS bigint[]))),
        revision = {NEXT_REVISION},
        shown_revision = u.shown_revision + change.shown_step
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[]),
                CAST(:suspended_amounts AS bigint[]), CAST(:shown_steps AS bigint[]))
         AS change (user_id, amount, suspended_amount, shown_step)
    WHERE u.user_id = change.user_id
"""
"""For `amount_literals` and `shown_steps`, so that the new shown revision is known before."""


def change_counts(
    connection: Connection,
    *,
    amounts: Mapping[int, int],
    suspended_amounts: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """Store the locked users' numbers of connections, changed by an amount, and their revisions.

    A revision grows, also when the clock has been set back. An amount of 0 is for a block. What
    happens to a connection out of sight does not change what the user is shown.
    """
    steps = shown_steps(amounts, suspended_amounts)
    connection.execute(
        message(FENCED, CHANGE_USERS),
        {
            **amount_literals(amounts, suspended_amounts),
            "shown_steps": array_literal(steps.values()),
        },
    )


def shown_steps(amounts: Mapping[int, int], suspended_amounts: Mapping[int, int]) -> dict[int, int]:
    """By how much the shown revisions of users grow with a change, in the order of the amounts."""
    return {
        id_: 0 if amount == suspended_amounts.get(id_, 0) else 1 + random.getrandbits(32)
        for id_, amount in amounts.items()
    }


def amount_literals(
    amounts: Mapping[int, int], suspended_amounts: Mapping[int, int]
) -> dict[str, str]:
    """Users and amounts as the arrays that statements take.

    `suspended_amounts` are how many of the connections are with suspended users, 0 if it has none.
    """
    return {
        "user_ids": array_literal(amounts),
        "amounts": array_literal(amounts.values()),
        "suspended_amounts": array_literal(suspended_amounts.get(id_, 0) for id_ in amounts),
    }
