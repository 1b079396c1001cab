"""The recorded changes, as those read them who follow the graph."""

from datetime import datetime
from typing import NamedTuple

from shared.database.reader import Reader, Statement


class EventRow(NamedTuple):
    """One recorded change; `peer_id` is None when a user was erased.

    A tuple, for an import is followed while it runs and each of its events is read.
    """

    seq: int
    kind: str
    actor_id: int
    peer_id: int | None
    actor_revision: int
    peer_revision: int
    occurred_at: datetime


_EVENTS = Statement(
    "events",
    """
    SELECT seq, kind, actor_id, peer_id, actor_revision, peer_revision, occurred_at
    FROM connection_events
    WHERE seq > :after AND seq <= :until
    ORDER BY seq LIMIT :limit
""",
)


def event_page(reader: Reader, *, after: int, until: int, limit: int) -> list[EventRow]:
    """Up to `limit` events behind one number and not behind another, in order."""
    rows = reader.rows(_EVENTS, {"after": after, "until": until, "limit": limit})
    return [EventRow._make(row) for row in rows]


_PURGED_UNTIL = Statement("purged_until", "SELECT coalesce(max(until_seq), 0) FROM purged_events")


def purged_until(reader: Reader) -> int:
    """The highest number of an event that was purged, 0 if none was."""
    [(number,)] = reader.rows(_PURGED_UNTIL, {})
    return int(number)


_LAST_EVENT_NUMBER = Statement(
    "last_event_number",
    """
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM connection_events_seq_seq
""",
)


def last_event_number(reader: Reader) -> int:
    """The highest number that an event was given, whether it is committed or not."""
    [(number,)] = reader.rows(_LAST_EVENT_NUMBER, {})
    return int(number)


# Erased events, and the last purged one, count as well: a follower who was told of one must find it
# again.
_NEWEST_EVENT = Statement(
    "newest_event",
    """
    SELECT seq, occurred_at FROM (
        (SELECT seq, occurred_at FROM connection_events
         WHERE seq <= :until ORDER BY seq DESC LIMIT 1)
        UNION ALL
        (SELECT seq, occurred_at FROM erased_events WHERE seq <= :until ORDER BY seq DESC LIMIT 1)
        UNION ALL
        (SELECT until_seq, occurred_at FROM purged_events WHERE until_seq <= :until)
    ) AS newest
    ORDER BY seq DESC LIMIT 1
""",
)


def newest_event(reader: Reader, *, until: int) -> tuple[int, datetime] | None:
    """The number and time of the newest event up to a number, also when it is erased since."""
    for seq, occurred_at in reader.rows(_NEWEST_EVENT, {"until": until}):
        return seq, occurred_at
    return None


# The mode that INSERT takes; what locks more to change the table takes this one as well.
_EVENT_WRITERS = Statement(
    "event_writers",
    """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = CAST('connection_events' AS regclass)
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode = 'RowExclusiveLock' AND granted
""",
)


def event_writers(reader: Reader) -> set[str]:
    """The transactions under way that may have given a number to an event."""
    return {transaction for (transaction,) in reader.rows(_EVENT_WRITERS, {})}
