"""The hot read: the connections of up to a hundred users, with the revisions they are of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graph_service.queries.fences import KEEPERS_TOLD, KeeperName, keeper_names
from shared.database.arrays import array_literal
from shared.database.reader import Reader, Statement


@dataclass(frozen=True, kw_only=True)
class Reconnection:
    """A connection before which another of the pair had ended, and the revisions right after."""

    peer_id: int
    user_revision: int
    peer_revision: int


class ErasureRow(NamedTuple):
    """An id that was erased, and the revision of its last erasure."""

    user_id: int
    revision: int


@dataclass(frozen=True, kw_only=True)
class ConnectedIds:
    """One user's connections at one moment; ids are None when the revision is the known one.

    `blocked_ids` are the users who block the user or are blocked by the user, empty unless asked
    for.
    `erasures` are those of the user's own id and of the connected ones. `is_suspended` is false
    where the revision is the known one, which has not changed since the user was suspended.
    """

    user_id: int
    revision: int
    ids: list[int] | None
    reconnections: list[Reconnection]
    blocked_ids: list[int]
    erasures: list[ErasureRow]
    is_suspended: bool


# The two sides of a pair are read as a UNION ALL of two index-only scans. `a = ANY(ids) OR b =
# ANY(ids)` with a single CASE would lose the edge whose two ends are both asked. A new row has the
# revision 0, by which callers say that they know nothing: `unchanged` would hide its erasures.
# Which of the users were erased is read once for all: hardly any was, and to look for each of them
# would cost every batch a few hundredths. It is the same with suspensions.
_TEXT = """
    SELECT asked.user_id, coalesce(u.revision, 0) AS revision,
           CASE WHEN u.revision = asked.known_revision THEN NULL
           ELSE ARRAY(
               SELECT CASE WHEN c.user_a_id = asked.user_id THEN c.user_b_id ELSE c.user_a_id END
               FROM (SELECT user_a_id, user_b_id FROM connections
                     WHERE user_a_id = asked.user_id AND status = 'accepted'{b_in_sight}
                     UNION ALL
                     SELECT user_a_id, user_b_id FROM connections
                     WHERE user_b_id = asked.user_id AND status = 'accepted'{a_in_sight}) AS c)
           END AS ids,
           CASE WHEN u.revision = asked.known_revision THEN NULL
           ELSE ARRAY(
               SELECT ARRAY[e.user_b_id, e.user_a_revision, e.user_b_revision]
               FROM endings AS e JOIN connections AS c USING (user_a_id, user_b_id)
               WHERE e.user_a_id = asked.user_id AND c.status = 'accepted'
               UNION ALL
               SELECT ARRAY[e.user_a_id, e.user_b_revision, e.user_a_revision]
               FROM endings AS e JOIN connections AS c USING (user_a_id, user_b_id)
               WHERE e.user_b_id = asked.user_id AND c.status = 'accepted')
           END AS reconnections,
           CASE WHEN CAST(:with_blocked AS boolean)
                 AND u.revision IS DISTINCT FROM asked.known_revision
           THEN ARRAY(
               SELECT blocked_id FROM blocks WHERE blocker_id = asked.user_id
               UNION
               SELECT blocker_id FROM blocks WHERE blocked_id = asked.user_id)
           END AS blocked_ids,
           CASE WHEN u.revision = asked.known_revision THEN NULL
           WHEN u.meets_erased OR asked.user_id = ANY (ARRAY(
               SELECT user_id FROM erasures WHERE user_id = ANY (CAST(:user_ids AS bigint[]))))
           THEN ARRAY(
               SELECT ARRAY[e.user_id, e.revision] FROM erasures AS e
               WHERE e.user_id = asked.user_id
               UNION ALL
               SELECT ARRAY[e.user_id, e.revision]
               FROM erasures AS e JOIN connections AS c ON c.user_b_id = e.user_id
               WHERE u.meets_erased AND c.user_a_id = asked.user_id AND c.status = 'accepted'
               UNION ALL
               SELECT ARRAY[e.user_id, e.revision]
               FROM erasures AS e JOIN connections AS c ON c.user_a_id = e.user_id
               WHERE u.meets_erased AND c.user_b_id = asked.user_id AND c.status = 'accepted')
           END AS erasures,
           u.revision IS DISTINCT FROM asked.known_revision AND asked.user_id = ANY (ARRAY(
               SELECT user_id FROM suspensions WHERE user_id = ANY (CAST(:user_ids AS bigint[]))))
           AS is_suspended,
           {fence_keepers} AS fence_keepers,
           u.revision IS DISTINCT FROM asked.known_revision
           AND u.suspended_connection_count > 0 AS has_suspended,
           {suspended_ids} AS suspended_ids
    FROM (SELECT user_id, nullif(known_revision, 0) AS known_revision, position
          FROM unnest(CAST(:user_ids AS bigint[]), CAST(:known_revisions AS bigint[]))
               WITH ORDINALITY AS given (user_id, known_revision, position)) AS asked
    LEFT JOIN users AS u ON u.user_id = asked.user_id
    ORDER BY asked.position
"""
_SUSPENDED_IDS = """CASE WHEN asked.position = 1 THEN ARRAY(
               SELECT user_id FROM suspensions
               WHERE user_id = ANY (CAST(:suspended_among AS bigint[])))
           END"""


def _in_sight(peer: str) -> str:
    return f"""
                       AND (u.suspended_connection_count = 0 OR NOT EXISTS (
                           SELECT FROM suspensions WHERE user_id = {peer} OFFSET 0))"""


# Most users have no suspended connection, and ask about nobody else. To prepare for either in the
# same statement would cost each call a tenth: parts of a plan that are not run have to be set up.
# Nor does a statement look for keepers of fences whose answer names none.
def _statement(name: str, *, in_sight: bool, suspended: bool, keepers: bool) -> Statement:
    return Statement(
        f"{name}_of_keepers" if keepers else name,
        _TEXT.format(
            b_in_sight=_in_sight("user_b_id") if in_sight else "",
            a_in_sight=_in_sight("user_a_id") if in_sight else "",
            suspended_ids=_SUSPENDED_IDS if suspended else "NULL",
            fence_keepers=KEEPERS_TOLD if keepers else "NULL",
        ),
    )


_CONNECTED_USER_IDS = {
    keepers: _statement("connected_user_ids", in_sight=False, suspended=False, keepers=keepers)
    for keepers in (False, True)
}
_WITH_SUSPENDED_IDS = {
    keepers: _statement(
        "connected_user_ids_and_suspended", in_sight=False, suspended=True, keepers=keepers
    )
    for keepers in (False, True)
}
_IDS_IN_SIGHT = _statement(
    "connected_user_ids_in_sight", in_sight=True, suspended=True, keepers=False
)


class ConnectedAnswer(NamedTuple):
    """The answer about some users, and which of others are suspended, at one moment.

    Every change after that is told to the keepers.
    """

    users: list[ConnectedIds]
    suspended_ids: Sequence[int]
    keepers: Sequence[KeeperName]


def connected_user_ids(
    reader: Reader,
    *,
    known_revisions: Mapping[int, int],
    with_blocked: bool = False,
    with_suspended: bool = False,
    suspended_among: Collection[int] = (),
    with_keepers: bool = False,
) -> ConnectedAnswer:
    """Each asked user's connections, in the order asked, all at one moment.

    And those of the users `suspended_among` who are suspended at that moment. The ids are without
    suspended users, unless wanted `with_suspended`; that some have to be left out is known only by
    the first answer, and takes a second statement. There are keepers if wanted, and on a primary.
    """
    parameters = {
        "user_ids": array_literal(known_revisions),
        "known_revisions": array_literal(known_revisions.values()),
        "with_blocked": with_blocked,
        "suspended_among": array_literal(suspended_among),
    }
    statements = _WITH_SUSPENDED_IDS if suspended_among else _CONNECTED_USER_IDS
    rows = reader.rows(statements[with_keepers], parameters)
    # Those of the first statement: a later one could name a keeper that was not told of a change
    # between the two.
    *_, told, _, _ = rows[0]
    if not with_suspended and any(has_suspended for *_, has_suspended, _ in rows):
        rows = reader.rows(_IDS_IN_SIGHT, parameters)
    answers = [
        ConnectedIds(
            user_id=user_id,
            revision=revision,
            ids=[] if ids and is_suspended and not with_suspended else ids,
            reconnections=[
                Reconnection(peer_id=peer_id, user_revision=own, peer_revision=theirs)
                for peer_id, own, theirs in reconnections or ()
            ],
            blocked_ids=blocked_ids or [],
            erasures=[ErasureRow(*erasure) for erasure in erasures or ()],
            is_suspended=is_suspended,
        )
        for (
            user_id,
            revision,
            ids,
            reconnections,
            blocked_ids,
            erasures,
            is_suspended,
            *_,
        ) in rows
    ]
    return ConnectedAnswer(answers, rows[0][-1] or (), keeper_names(told))
