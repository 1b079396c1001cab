"""Fences: opening and closing them for changes of the graph, and what a read is told of them."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from shared.database.arrays import array_literal
from shared.database.reader import Reader, Statement

EVERYBODY: Final = 0
"""The user whose fence is that of everybody."""


def _history(claim: str) -> str:
    """Return SQL for the history of this database, from that for the claim of everybody's fence.

    It is another one when fences may have been lost: when the server's disk is put back, so it
    tells when the server was started; when a standby is promoted, which begins a timeline; and when
    a dump is restored, which has other files. It is also another one with each claim, because the
    graph that has the claim closes the fences of others. A standby has none.

    Each statement asks anew: a connection, of a pooler also, can outlive all that. It costs no read
    of a file.
    """
    return f"""CASE WHEN NOT pg_is_in_recovery() THEN concat_ws('/',
                 CAST(extract(epoch FROM pg_postmaster_start_time()) AS text),
                 left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
                 pg_relation_filepath('fences'), {claim}) END"""


# Only the fence of everybody has one.
_HISTORY_OF_ROWS: Final = _history("min(CAST(claim AS text))")

STAMP: Final = f"""
    SELECT CASE WHEN bool_and(open = '{{}}')
                THEN {_HISTORY_OF_ROWS} || ' '
                     || string_agg(CAST(generation AS text), ' ' ORDER BY user_id) END
    FROM fences WHERE user_id IN ({EVERYBODY}, :fenced_user_id)"""
"""The stamp of what is true of a user at this moment, if the graph confirms it later on.

It has the history, the generation of everybody, and that of the user if there is one, separated by
spaces. It is NULL while a change is open for either, and on a standby.
"""

_STAMP = Statement("fence_stamp", STAMP)

STAMPS: Final = f"""
    SELECT {_HISTORY_OF_ROWS} || ' '
           || min(CAST(generation AS text)) FILTER (WHERE user_id = {EVERYBODY} AND open = '{{}}')
           || coalesce(string_agg(' ' || user_id || ':' || CASE WHEN open = '{{}}'
                                  THEN CAST(generation AS text) ELSE '' END, '')
                       FILTER (WHERE user_id <> {EVERYBODY}), '')
    FROM fences WHERE user_id = ANY (CAST(:fenced_user_ids AS bigint[]))"""
"""The stamps of many users at this moment; :fenced_user_ids are theirs and that of everybody.

It has the history, the generation of everybody, and for each user who has a fence the id and the
generation, which is empty while a change is open for the user. It is NULL while one is open for
everybody, and on a standby. `stamps_of` reads it.
"""

_STAMPS = Statement("fence_stamps", STAMPS)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of the graph that is about to be committed, and the transaction that makes it."""

    change_id: uuid.UUID
    user_ids: Collection[int]
    transaction: str
    graph_history: str


class KeeperName(NamedTuple):
    """Who keeps the fences, in which history; None on a standby, which keeps none."""

    keeper_id: str
    history: str | None


class OpenFence(NamedTuple):
    """A change for which fences are open."""

    change_id: str
    transaction: str
    graph_history: str
    opened_at: datetime


def stamp(reader: Reader, *, user_id: int) -> str | None:
    """The stamp of a user as of now, or None: see STAMP."""
    [(found,)] = reader.rows(_STAMP, {"fenced_user_id": user_id})
    return None if found is None else str(found)


def stamps(reader: Reader, *, user_ids: Collection[int]) -> dict[int, str]:
    """The stamps of users as of now, as STAMP tells them; those who have none are left out."""
    [(told,)] = reader.rows(_STAMPS, stamps_parameters(user_ids))
    return stamps_of(user_ids, told)


def stamps_parameters(user_ids: Collection[int]) -> dict[str, object]:
    """What STAMPS has to be bound to."""
    return {"fenced_user_ids": array_literal([EVERYBODY, *user_ids])}


def stamps_of(user_ids: Collection[int], told: str | None) -> dict[int, str]:
    """The stamps of users by what STAMPS has told; those who have none are left out."""
    if told is None:
        return {}
    history, everybody, *fenced = told.split(" ")
    of_everybody = f"{history} {everybody}"
    stamps = dict.fromkeys(user_ids, of_everybody)
    for each in fenced:
        user_id, _, generation = each.partition(":")
        if generation:
            stamps[int(user_id)] = f"{of_everybody} {generation}"
        else:
            del stamps[int(user_id)]
    return stamps


_NAME: Final = f"""
    SELECT CAST(keeper_id AS text), {_history("claim")}
    FROM fence_keeper JOIN fences ON user_id = {EVERYBODY}"""

_KEEPER = Statement("fence_keeper", _NAME)


def keeper(reader: Reader) -> KeeperName:
    """The keeper's id and history."""
    [name] = reader.rows(_KEEPER, {})
    return KeeperName._make(name)


_DATABASE = Statement("database_history", f"SELECT {_history('NULL')}")


def database_history(reader: Reader) -> str | None:
    """The history of this database, whichever graph has claimed the fences; None on a standby."""
    [(told,)] = reader.rows(_DATABASE, {})
    return None if told is None else str(told)


class Opened(NamedTuple):
    """The keeper that has committed fences, and whether a graph has claimed it by that."""

    keeper: KeeperName
    is_claimed: bool


# A change that was opened already stays as it is: then nothing is inserted. The fences are locked
# in the order of the users, here and below, so that two changes cannot wait for each other. A crash
# must not lose what is answered, also where other commits do not wait for the disk.
#
# The first graph takes the fences without a claim, and each other history after it with a new one.
# That the history is still the same is read without a lock, or else all changes would wait for one
# row. If another one claims the fences meanwhile, the name that is returned is that of before,
# which no stamp has any more. It is never the name of another graph's claim.
_OPEN = Statement(
    "open_fences",
    f"""
    WITH durable AS MATERIALIZED (
        SELECT set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') = 'off'
    ),
    opened AS (
        INSERT INTO open_fences (change_id, transaction, graph_history, user_ids)
        VALUES (CAST(:change_id AS uuid), :transaction, :graph_history,
                CAST(:user_ids AS bigint[]))
        ON CONFLICT (change_id) DO NOTHING
        RETURNING change_id, user_ids
    ),
    raised AS (
        SELECT fenced.user_id, ARRAY[opened.change_id] AS open
        FROM opened, unnest(opened.user_ids) AS fenced (user_id)
        UNION ALL
        SELECT user_id, CAST('{{}}' AS uuid[]) FROM fences
        WHERE user_id = {EVERYBODY} AND claimed_by IS DISTINCT FROM :graph_history
          AND NOT EXISTS (SELECT FROM opened WHERE {EVERYBODY} = ANY (opened.user_ids))
    ),
    fenced AS (
        INSERT INTO fences AS known (user_id, generation, open, claimed_by)
        SELECT user_id, gen_random_uuid(), open,
               CASE WHEN user_id = {EVERYBODY} THEN :graph_history END
        FROM raised ORDER BY user_id
        ON CONFLICT (user_id) DO UPDATE
        SET generation = excluded.generation, open = known.open || excluded.open,
            claim = CASE WHEN known.claimed_by <> excluded.claimed_by THEN excluded.generation
                         ELSE known.claim END,
            claimed_by = excluded.claimed_by
        RETURNING user_id, generation, claim
    )
    SELECT CAST(keeper_id AS text), {_history("coalesce(fenced.claim, everybody.claim)")},
           coalesce(fenced.claim = fenced.generation, false),
           (SELECT count(*) FROM durable)
    FROM fence_keeper JOIN fences AS everybody ON everybody.user_id = {EVERYBODY}
    LEFT JOIN fenced ON fenced.user_id = {EVERYBODY}
""",
)


def open_fences(reader: Reader, change: Change) -> Opened:
    """Commit fences of a change, and the claim of its graph; one statement, one commit.

    It may be repeated.
    """
    [(keeper_id, history, is_claimed, _)] = reader.rows(
        _OPEN,
        {
            "change_id": str(change.change_id),
            "transaction": change.transaction,
            "graph_history": change.graph_history,
            "user_ids": array_literal(change.user_ids),
        },
    )
    return Opened(KeeperName(keeper_id, history), is_claimed)


# A statement closes the first of the changes with about so many users together. A thousand changes
# of a thousand users each would take it longer than calls last, and then none would ever be closed.
_USERS_AT_ONCE: Final = 10_000

_CLOSE = Statement(
    "close_fences",
    f"""
    WITH asked AS (
        SELECT change_id, sum(cardinality(user_ids)) OVER (ORDER BY change_id) AS up_to_here,
               cardinality(user_ids) AS here
        FROM open_fences WHERE change_id = ANY (CAST(:change_ids AS uuid[]))
    ),
    closed AS (
        DELETE FROM open_fences
        WHERE change_id = ANY (ARRAY(SELECT change_id FROM asked
                                     WHERE up_to_here - here < {_USERS_AT_ONCE}))
        RETURNING change_id, user_ids
    ),
    of_user AS (
        SELECT fenced.user_id, array_agg(closed.change_id) AS change_ids
        FROM closed, unnest(closed.user_ids) AS fenced (user_id)
        GROUP BY fenced.user_id
    ),
    locked AS MATERIALIZED (
        SELECT fences.user_id FROM fences JOIN of_user ON of_user.user_id = fences.user_id
        ORDER BY fences.user_id FOR UPDATE OF fences
    ),
    lowered AS (
        UPDATE fences
        SET open = ARRAY(SELECT change.id FROM unnest(fences.open) AS change (id)
                         WHERE change.id <> ALL (of_user.change_ids))
        FROM locked JOIN of_user ON of_user.user_id = locked.user_id
        WHERE fences.user_id = locked.user_id
    )
    SELECT count(*) FROM asked WHERE up_to_here - here >= {_USERS_AT_ONCE}
""",
)


def close_fences(reader: Reader, *, change_ids: Collection[uuid.UUID]) -> None:
    """Store that changes are not open; each statement closes some of them, and commits that."""
    literal = "{" + ",".join(map(str, change_ids)) + "}"
    while reader.rows(_CLOSE, {"change_ids": literal}) != [(0,)]:
        pass


_PAGE = Statement(
    "open_fence_page",
    f"""
    SELECT name.*, CAST(page.change_id AS text), transaction, graph_history, opened_at
    FROM ({_NAME}) AS name
    LEFT JOIN (
        SELECT change_id, transaction, graph_history, opened_at FROM open_fences
        WHERE change_id > CAST(:after AS uuid)
        ORDER BY change_id LIMIT :limit
    ) AS page ON true
    ORDER BY page.change_id
""",
)
_BEFORE_ALL: Final = uuid.UUID(int=0)


def open_fence_page(
    reader: Reader, *, after: uuid.UUID | None, limit: int
) -> tuple[KeeperName, Sequence[OpenFence]]:
    """The keeper, and up to `limit` of its open changes by id, in ascending order."""
    rows = reader.rows(_PAGE, {"after": str(after or _BEFORE_ALL), "limit": limit})
    keeper_id, history, *_ = rows[0]
    # A page without changes is one row, in which nothing is told of a change.
    return KeeperName(keeper_id, history), [
        OpenFence._make(change) for _, _, *change in rows if change[0] is not None
    ]
