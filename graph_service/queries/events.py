"""The recorded changes, as those read them who follow the graph."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from graph_service.models import EventKind
from shared.database.arrays import array_literal
from shared.database.event_log import EventLog
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


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Which events a follower wants: of these kinds and about these users, or all if empty."""

    kinds: Collection[EventKind] = ()
    user_ids: Collection[int] = ()


EVERY_EVENT: Final = EventFilter()

_EVENTS = Statement(
    "events",
    """
    SELECT seq, kind, actor_id, peer_id, actor_revision, peer_revision, occurred_at
    FROM connection_events
    WHERE seq > :after AND seq <= :until
    ORDER BY seq LIMIT :limit
""",
)

# Apart, for an import is followed while it runs, by consumers who want all.
_WANTED_EVENTS = Statement(
    "wanted_events",
    """
    SELECT seq, kind, actor_id, peer_id, actor_revision, peer_revision, occurred_at
    FROM connection_events
    WHERE seq > :after AND seq <= :until
      AND (:of_any_kind OR kind = ANY (CAST(:kinds AS text[])))
      AND (:of_anybody OR actor_id = ANY (CAST(:user_ids AS bigint[]))
                       OR peer_id = ANY (CAST(:user_ids AS bigint[])))
    ORDER BY seq LIMIT :limit
""",
)


def event_page(
    reader: Reader, *, wanted: EventFilter = EVERY_EVENT, after: int, until: int, limit: int
) -> list[EventRow]:
    """Up to `limit` wanted events behind one number and not behind another, in order."""
    bounds = {"after": after, "until": until, "limit": limit}
    if wanted.kinds or wanted.user_ids:
        rows = reader.rows(_WANTED_EVENTS, {**bounds, **_wanted_parameters(wanted)})
    else:
        rows = reader.rows(_EVENTS, bounds)
    return [EventRow._make(row) for row in rows]


def _wanted_parameters(wanted: EventFilter) -> dict[str, object]:
    return {
        "of_any_kind": not wanted.kinds,
        "kinds": list(wanted.kinds),
        "of_anybody": not wanted.user_ids,
        "user_ids": array_literal(wanted.user_ids),
    }


def event_log(reader: Reader) -> EventLog:
    """What must be known of the events to tell each once."""
    return EventLog(
        reader, events="connection_events", erased="erased_events", purged="purged_events"
    )
