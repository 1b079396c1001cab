"""Waiting until feed_service has followed the graph."""

from tests.support.processes import Session, until
from tests.support.rows import Stored
from tests.support.tokens import integers_in


def until_followed(pair: Stored) -> None:
    """Wait until the feed has done what follows from all that has happened in the graph so far.

    It leaves no trace: where the feed is, its stored cursor tells, which begins with a number.
    """
    with Session(pair.graph_url) as graph, Session(pair.feed_url) as feed:
        [(newest,)] = graph.rows("SELECT coalesce(max(seq), 0) FROM connection_events")

        def is_followed() -> bool:
            cursors = feed.rows("SELECT cursor FROM followed")
            feed.commit()
            return any(integers_in(str(cursor))[0] >= newest for (cursor,) in cursors)

        until(is_followed)
