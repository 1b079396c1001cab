"""The two layouts of the feed database, and the statements that are not the same in both.

SINGLE is one PostgreSQL. DISTRIBUTED is Citus, with every table but a few small ones spread over
nodes by the author or owner who leads its key. Most statements are about one author, and one text
is right for both. Those that are not are chosen here and nowhere else: what PostgreSQL does best in
one statement Citus may refuse, or run on every shard.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from feed_service import queries
from feed_service.models import DISTRIBUTED_BY
from feed_service.settings import LayoutName
from kith.exceptions import UnavailableError
from shared.database.event_log import Writers
from shared.database.reader import Reader

_AGAIN_SECONDS: Final = 30.0


class Layout:
    """A layout, and its form of the statements that differ: one PostgreSQL."""

    name: LayoutName = "single"
    feed_page = staticmethod(queries.feed.feed_page)
    digest_choice = staticmethod(queries.digests.digest_choice)
    frozen_choice = staticmethod(queries.digests.frozen_choice)
    freeze = staticmethod(queries.digests.freeze)
    due_digests = staticmethod(queries.digest_subscriptions.due_digests)
    unread_count = staticmethod(queries.read_positions.unread_count)
    visible_checks = staticmethod(queries.checks.visible_checks)
    insert_post = staticmethod(queries.posts.insert_post)
    insert_posts = staticmethod(queries.imports.insert_posts)
    lock_tags = staticmethod(queries.imports.lock_tags)
    lock_imported_tags = staticmethod(queries.imported_tags.lock_imported_tags)
    hide_comments = staticmethod(queries.erasure.hide_comments)
    event_writers: Sequence[Writers] = ()
    begin_session: Callable[[Any], None] | None = None


class _Distributed(Layout):
    """Citus. Each of these is called as the one it stands for."""

    name: LayoutName = "distributed"
    feed_page = staticmethod(queries.citus.feed.FeedPages().page)
    digest_choice = staticmethod(queries.citus.digests.digest_choice)
    frozen_choice = staticmethod(queries.citus.digests.frozen_choice)
    freeze = staticmethod(queries.citus.digests.freeze)
    due_digests = staticmethod(queries.citus.digest_subscriptions.due_digests)
    unread_count = staticmethod(queries.citus.read_positions.unread_count)
    visible_checks = staticmethod(queries.citus.checks.visible_checks)
    insert_post = staticmethod(queries.citus.posts.insert_post)
    insert_posts = staticmethod(queries.citus.imports.insert_posts)
    lock_tags = staticmethod(queries.citus.imports.lock_tags)
    lock_imported_tags = staticmethod(queries.citus.imports.lock_imported_tags)
    hide_comments = staticmethod(queries.citus.erasure.hide_comments)
    event_writers = (queries.citus.events.prepared_transactions,)
    begin_session = staticmethod(queries.citus.events.pass_numbers_of_events)


SINGLE: Final = Layout()
DISTRIBUTED: Final = _Distributed()
LAYOUTS: Final = {layout.name: layout for layout in (SINGLE, DISTRIBUTED)}


class LayoutCheck:
    """Checks that the database has a layout, and again half a minute after it was found to have it.

    A layout is changed while no service runs, so it is not asked each second. The statements of the
    other one would fail, or run on every shard.
    """

    def __init__(self, reader: Reader, layout: Layout) -> None:
        self._reader = reader
        self._layout = layout
        self._next = 0.0

    def __call__(self) -> None:
        """Raise UnavailableError unless the database has the layout."""
        if time.monotonic() < self._next:
            return
        found = queries.shards.distributed_tables(self._reader).intersection(DISTRIBUTED_BY)
        wanted = set(DISTRIBUTED_BY) if self._layout is DISTRIBUTED else set[str]()
        if found != wanted:
            raise UnavailableError(
                f"FEED_LAYOUT is {self._layout.name}, but {len(found)} of {len(DISTRIBUTED_BY)}"
                " tables of the database are distributed"
            )
        self._next = time.monotonic() + _AGAIN_SECONDS
