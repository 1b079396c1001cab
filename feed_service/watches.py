"""Streams of the changes of posts and comments; see `shared.api.watches`.

One node of a distributed database, the coordinator, gives all events their numbers. So they have
one order there as well, and a cursor is of one event.
"""

from collections.abc import Iterator

from feed_service import queries
from feed_service.layouts import Layout
from feed_service.queries.events import EventFilter, EventRow
from shared.api.paging import PageTokens, Scope
from shared.api.watches import Call, Changes, EventPage, Watches, WatchMetrics, WatchSettings
from shared.database.reader import Reader


class ContentWatches:
    """The streams of consumers who follow posts and comments."""

    def __init__(
        self,
        reader: Reader,
        tokens: PageTokens,
        settings: WatchSettings,
        metrics: WatchMetrics,
        *,
        layout: Layout,
    ) -> None:
        self._reader = reader
        log = queries.events.event_log(reader, writers=layout.event_writers)
        self._watches = Watches(log, tokens, settings, metrics, scope=Scope.of("watch posts"))

    def follow(
        self, cursor: str, call: Call, wanted: EventFilter, *, from_oldest: bool
    ) -> Iterator[Changes[EventRow]]:
        """Yield wanted events as `Watches.follow` says."""

        def read(after: int, until: int) -> EventPage[EventRow]:
            rows, read_until = queries.events.event_page(
                self._reader, wanted=wanted, after=after, until=until
            )
            return EventPage(events=rows, until=read_until)

        return self._watches.follow(cursor, call, read, from_oldest=from_oldest)

    def drain(self) -> None:
        """End all streams, and let no new one begin."""
        self._watches.drain()
