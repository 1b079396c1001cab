"""Streams of the changes of the graph; see `shared.api.watches`."""

from collections.abc import Iterator
from typing import Final

from graph_service.queries import events
from graph_service.queries.events import EventFilter, EventRow
from shared.api.paging import PageTokens, Scope
from shared.api.watches import Call, Changes, EventPage, Watches, WatchMetrics, WatchSettings
from shared.database.reader import Reader

BATCH: Final = 1_000


class ConnectionWatches:
    """The streams of consumers who follow the graph."""

    def __init__(
        self, reader: Reader, tokens: PageTokens, settings: WatchSettings, metrics: WatchMetrics
    ) -> None:
        self._reader = reader
        self._watches = Watches(
            events.event_log(reader), tokens, settings, metrics, scope=Scope.of("watch")
        )

    def follow(self, cursor: str, call: Call, wanted: EventFilter) -> Iterator[Changes[EventRow]]:
        """Yield wanted events as `Watches.follow` says."""

        def read(after: int, until: int) -> EventPage[EventRow]:
            rows = events.event_page(
                self._reader, wanted=wanted, after=after, until=until, limit=BATCH
            )
            return EventPage(events=rows, until=rows[-1].seq if len(rows) == BATCH else until)

        return self._watches.follow(cursor, call, read)

    def drain(self) -> None:
        """End all streams, and let no new one begin."""
        self._watches.drain()
