"""Cleaning up beside the calls: what is not replayed, or not asked for, any more.

Every process does it; where several come to the same rows, one does the work and the others find
it done. Each step is a transaction of its own and takes a limited number of rows.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from graph_service.queries import upkeep
from shared.api import idempotency
from shared.database.database import Database

_BATCH: Final = 500


class Upkeep:
    """One round of cleaning up, to be run again and again."""

    def __init__(
        self, database: Database, *, request_pause: timedelta, events_kept: timedelta
    ) -> None:
        self._database = database
        self._request_pause = request_pause
        self._events_kept = events_kept

    def run(self) -> None:
        """Clean up everything that is due."""
        self._in_batches(lambda connection: idempotency.purge(connection, limit=_BATCH))
        self._in_batches(
            lambda connection: upkeep.purge_declines(
                connection, age=self._request_pause, limit=_BATCH
            )
        )

        self._in_batches(
            lambda connection: upkeep.purge_events(connection, age=self._events_kept, limit=_BATCH)
        )

    def _in_batches(self, step: Callable[[Connection], int]) -> None:
        while self._database.write(step) == _BATCH:
            pass
