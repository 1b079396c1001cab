"""Cleaning up: what was deleted, has expired, or has left objects behind in the object store.

Every process does it; where several come to the same rows, one does the work and the others find
it done. Each step is a transaction of its own and takes a limited number of rows, so that no call
waits long for one.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from feed_service import queries
from feed_service.object_store import ObjectStore
from shared.api import idempotency
from shared.database.database import Database

_BATCH: Final = 500
_UPLOAD_AGE: Final = timedelta(days=1)


class Upkeep:
    """One round of cleaning up, to be run again and again."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore | None,
        *,
        purge_after: timedelta,
        events_kept: timedelta,
    ) -> None:
        self._database = database
        self._store = store
        self._purge_after = purge_after
        self._events_kept = events_kept

    def run(self) -> None:
        """Clean up everything that is due."""
        self._in_batches(
            lambda connection: queries.photos.expire_uploads(
                connection, age=_UPLOAD_AGE, limit=_BATCH
            )
        )
        self.remove_objects()
        for purge in (queries.upkeep.purge_posts, queries.upkeep.purge_comments):
            self._in_batches(
                lambda connection, purge=purge: purge(  # type: ignore[misc]  # mypy knows no default of a lambda
                    connection, age=self._purge_after, limit=_BATCH
                )
            )
        for forget in (
            queries.upkeep.purge_kept_posts,
            queries.upkeep.purge_kept_comments,
            idempotency.purge,
            queries.upkeep.drop_unused_tags,
        ):
            self._in_batches(
                lambda connection, forget=forget: forget(connection, limit=_BATCH)  # type: ignore[misc]  # as above
            )

        self.purge_events()

    def purge_events(self) -> None:
        """Purge the changes of posts and comments that are too old to be followed."""
        # Also what was noted before a process ended.
        self._database.write(queries.events.purge_events)
        while self._database.write(
            lambda connection: queries.events.note_purge(
                connection, age=self._events_kept, limit=_BATCH
            )
        ):
            self._database.write(queries.events.purge_events)

    def remove_objects(self) -> None:
        """Remove from the object store what no post shows any more; failures are tried again."""
        if self._store is None:
            return
        while claimed := self._database.write(
            lambda connection: queries.photos.claim_removals(connection, limit=_BATCH)
        ):
            gone = self._store.remove([object_key for _, object_key in claimed])
            finished = [name for name in claimed if name[1] in gone]
            self._database.write(
                lambda connection, finished=finished: queries.photos.finish_removals(  # type: ignore[misc]  # as above
                    connection, objects=finished
                )
            )

    def _in_batches(self, step: Callable[[Connection], int]) -> None:
        while self._database.write(step) == _BATCH:
            pass
