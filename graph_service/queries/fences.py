"""Keepers of fences: who has to be told of a change, and which told changes are over.

The trigger `require_fences` on `users` reads the keepers in the transaction of a change, while
their registrations cannot change, and leaves them in a setting of the transaction. So a change
learns of them by its last statement, and without keepers nothing is read.
"""

import json
import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

_LOCK: Final = 7_215_119

FENCED: Final = "SELECT set_config('kith.fences', 'on', true)"
"""To be sent before a statement that changes or deletes users: this client opens fences for it."""

FENCED_BY: Final = "nullif(current_setting('kith.fenced_by', true), '')"
"""What the trigger has left, for `read_fenced_by`; to be read after the change."""

READ_FENCED_BY: Final = f"SELECT {FENCED_BY} AS fenced_by"
"""The last statement of a change that returns nothing else."""

NOT_TOLD: Final = "57P03"
"""The SQLSTATE with which the trigger refuses a change without FENCED: a keeper is registered."""

KEEPERS_TOLD: Final = """(
    SELECT array_agg(ARRAY[CAST(keeper_id AS text), keeper_history] ORDER BY keeper_id)
    FROM fence_keepers WHERE graph_history = fences_history())"""
"""The keepers, by `KeeperName`, that are told of every change after this statement."""


class KeeperName(NamedTuple):
    """A keeper in one history of its database."""

    keeper_id: str
    history: str


def keeper_names(told: Sequence[Sequence[str]] | None) -> Sequence[KeeperName]:
    """What KEEPERS_TOLD returned; NULL is none."""
    return [KeeperName(*name) for name in told or ()]


class KeeperRow(NamedTuple):
    """A registered keeper: where it is, its name, and the graph's history it was registered in."""

    target: str
    name: KeeperName
    graph_history: str


class FencedBy(NamedTuple):
    """What fences of a change have to say: its transaction and history, and its keepers."""

    transaction: str
    history: str
    keepers: Sequence[KeeperRow]


def read_fenced_by(fenced_by: str | None) -> FencedBy | None:
    """What the trigger has left of a transaction, None if no keeper is registered."""
    if fenced_by is None:
        return None
    read = json.loads(fenced_by)
    return FencedBy(
        read["transaction"],
        read["history"],
        [
            KeeperRow(target, KeeperName(keeper_id, keeper_history), graph_history)
            for target, keeper_id, keeper_history, graph_history in read["keepers"]
        ],
    )


class Registered(NamedTuple):
    """The history of the graph's database, and all keepers that are registered."""

    history: str
    rows: Sequence[KeeperRow]


_HISTORY = text("SELECT fences_history()")


def history(connection: Connection) -> str:
    """The history of the graph's database, which is new after a restart, promotion or restore."""
    told: str = connection.execute(_HISTORY).scalar_one()
    return told


_REGISTERED = text("""
    SELECT target, CAST(keeper_id AS text), keeper_history, graph_history FROM fence_keepers
    ORDER BY target
""")


def registered(connection: Connection) -> list[KeeperRow]:
    """All keepers."""
    return [
        KeeperRow(target, KeeperName(keeper_id, keeper_history), graph_history)
        for target, keeper_id, keeper_history, graph_history in connection.execute(_REGISTERED)
    ]


_HISTORY_AND_REGISTERED = text("""
    SELECT here.history, target, CAST(keeper_id AS text), keeper_history, graph_history
    FROM (SELECT fences_history() AS history) AS here LEFT JOIN fence_keepers ON true
    ORDER BY target
""")


def history_and_registered(connection: Connection) -> Registered:
    """The history of the graph's database and all keepers."""
    told = connection.execute(_HISTORY_AND_REGISTERED).all()
    return Registered(
        told[0].history,
        [
            KeeperRow(target, KeeperName(keeper_id, keeper_history), graph_history)
            for _, target, keeper_id, keeper_history, graph_history in told
            if target is not None
        ],
    )


# A change waits behind this lock for at most as long as this waits for the changes before it. If a
# crash lost the registration of a keeper that trusts it, later changes would not be told.
_BEGIN_REGISTERING = text(f"""
    SET LOCAL lock_timeout = '1s';
    SELECT set_config('synchronous_commit', 'local', true)
    WHERE current_setting('synchronous_commit') = 'off';
    SELECT pg_advisory_xact_lock({_LOCK});
    SELECT CAST(pg_current_xact_id() AS text), fences_history()
""")


def begin_registering(connection: Connection) -> tuple[str, str]:
    """The transaction and the history; until it ends, no change is under way, nor begins.

    What the transaction does is fenced like a change of everybody.
    """
    transaction, told = connection.execute(_BEGIN_REGISTERING).one()
    return transaction, told


_REGISTER = text("""
    INSERT INTO fence_keepers (target, keeper_id, keeper_history, graph_history)
    VALUES (:target, CAST(:keeper_id AS uuid), :keeper_history, :graph_history)
    ON CONFLICT (target) DO UPDATE
    SET keeper_id = excluded.keeper_id, keeper_history = excluded.keeper_history,
        graph_history = excluded.graph_history
""")


def register(connection: Connection, *, row: KeeperRow) -> None:
    """Store a keeper that is to be told of all changes from now on."""
    connection.execute(
        _REGISTER,
        {
            "target": row.target,
            "keeper_id": row.name.keeper_id,
            "keeper_history": row.name.history,
            "graph_history": row.graph_history,
        },
    )


_FORGET = text("DELETE FROM fence_keepers WHERE target = :target")


def forget(connection: Connection, *, target: str) -> bool:
    """Whether a keeper was registered there; it is told of no change any more."""
    return connection.execute(_FORGET, {"target": target}).rowcount == 1


class ToldChange(NamedTuple):
    """A change that a keeper has open, by what it was told."""

    change_id: uuid.UUID
    transaction: str
    history: str


_TOLD: Final = """
    unnest(CAST(:change_ids AS uuid[]), CAST(:transactions AS xid8[]),
           CAST(:histories AS text[])) AS told (change_id, transaction, history)"""

_NO_TRANSACTION: Final = "'without a number, so graph_service did not open it'"

# A change was told of by its transaction before this statement looked, so a transaction that has a
# later number than this one was lost in a crash. NULL is too old to be known.
#
# Another history is an earlier one of this graph, or that of another graph. Its fences may be
# closed if the keeper was registered in this history when it listed them: then they were opened
# before this history has claimed it. No read relies on them since, for what their graph answers is
# not stamped before it has registered the keeper again, and that waits for its changes.
_OUTCOME: Final = f"""CASE
        WHEN told.transaction IS NULL THEN {_NO_TRANSACTION}
        WHEN told.history <> fences_history() THEN CASE
            WHEN EXISTS (SELECT FROM fence_keepers
                         WHERE target = :target AND graph_history = fences_history()
                           AND keeper_id = CAST(:keeper_id AS uuid)
                           AND keeper_history = :keeper_history)
            THEN 'of another history'
            ELSE 'of another history, which may go on' END
        WHEN told.transaction >= pg_current_xact_id() THEN 'lost in a crash'
        ELSE coalesce(pg_xact_status(told.transaction), 'not known any more') END"""
_GOES_ON: Final = f"""(
    'in progress', 'of another history, which may go on', {_NO_TRANSACTION})"""

_OVER = text(f"""
    SELECT told.change_id FROM {_TOLD}
    WHERE {_OUTCOME} NOT IN {_GOES_ON}
""")


class OpenChanges(NamedTuple):
    """A page of the changes that a keeper has open, and its name as of the same moment."""

    target: str
    keeper: KeeperName
    changes: Sequence[ToldChange]


def over(connection: Connection, page: OpenChanges) -> list[uuid.UUID]:
    """Those of the changes that a keeper was told of before, whose transactions are over."""
    return list(connection.execute(_OVER, _parameters(page)).scalars())


def _is_xid8(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 2**64


def _parameters(page: OpenChanges) -> dict[str, object]:
    return {
        "target": page.target,
        "keeper_id": page.keeper.keeper_id,
        "keeper_history": page.keeper.history,
        "change_ids": [str(change.change_id) for change in page.changes],
        # What is none would fail the statement, and so keep all others open.
        "transactions": [
            change.transaction if _is_xid8(change.transaction) else None for change in page.changes
        ],
        "histories": [change.history for change in page.changes],
    }


class Outcome(NamedTuple):
    """What is known of the transaction of a change, and the session that goes on with it.

    `session` and its `state` are None if there is none that may be seen.
    """

    change_id: uuid.UUID
    outcome: str
    is_over: bool
    session: int | None
    state: str | None


_OUTCOMES = text(f"""
    SELECT told.change_id, found.outcome, found.outcome NOT IN {_GOES_ON}, session.pid,
           session.state
    FROM {_TOLD}
    CROSS JOIN LATERAL (SELECT {_OUTCOME} AS outcome) AS found
    LEFT JOIN pg_stat_activity AS session
      ON session.backend_xid = xid(told.transaction) AND found.outcome = 'in progress'
    ORDER BY told.change_id
""")


def outcomes(connection: Connection, page: OpenChanges) -> list[Outcome]:
    """What became of changes that a keeper was told of before, by id, for a person."""
    rows = connection.execute(_OUTCOMES, _parameters(page))
    return [Outcome._make(row) for row in rows]
