"""Cleaning up beside the calls: request ids that are not replayed any more.

Every process does it; where several come to the same rows, one does the work and the others find
it done. Each step is a transaction of its own and takes a limited number of rows.
"""

from typing import Final

from shared import idempotency_keys
from shared.database import Database

_BATCH: Final = 500


class Upkeep:
    """One round of cleaning up, to be run again and again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def run(self) -> None:
        """Clean up everything that is due."""
        while (
            self._database.write(
                lambda connection: idempotency_keys.purge(connection, limit=_BATCH)
            )
            == _BATCH
        ):
            pass
