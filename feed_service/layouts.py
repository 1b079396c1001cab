"""The two layouts of the feed database, and the statements that are not the same in both.

SINGLE is one PostgreSQL. DISTRIBUTED is Citus, with every table but a few small ones spread over
nodes by the author or owner who leads its key. Most statements are about one author, and one text
is right for both. Those that are not are chosen here and nowhere else: what PostgreSQL does best in
one statement Citus may refuse, or run on every shard.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy import Connection

from feed_service import queries
from feed_service.models import DISTRIBUTED_BY
from feed_service.queries.digests import Choice, FrozenName
from feed_service.queries.feed import FeedFilter, FeedPlace
from feed_service.queries.posts import Audience, PostName, PostRow
from feed_service.queries.transfers import ExternalName, ImportedPost, TagName
from feed_service.settings import DigestRules, HubScan, LayoutName
from feed_service.visibility import Viewer
from feed_service.weeks import Week
from shared.errors import UnavailableError
from shared.reader import Reader


class FeedPage(Protocol):
    """As `queries.feed.feed_page`."""

    def __call__(
        self,
        reader: Reader,
        *,
        viewer: Viewer,
        among: FeedFilter,
        place: FeedPlace,
        limit: int,
        hub_scan: HubScan,
    ) -> list[PostRow]:
        """The page."""


class DigestChoice(Protocol):
    """As `queries.digests.digest_choice`."""

    def __call__(
        self,
        reader: Reader,
        *,
        viewer: Viewer,
        week: Week,
        rules: DigestRules,
        tag_ids: Sequence[int],
        include_own_posts: bool,
        hub_scan: HubScan,
    ) -> Choice:
        """The choice."""


class FrozenChoice(Protocol):
    """As `queries.digests.frozen_choice`."""

    def __call__(self, reader: Reader, *, viewer: Viewer, name: FrozenName) -> Choice | None:
        """The choice, or None."""


class Freeze(Protocol):
    """As `queries.digests.freeze`."""

    def __call__(self, connection: Connection, *, name: FrozenName, choice: Choice) -> bool:
        """Whether it is frozen now."""


class UnreadCount(Protocol):
    """As `queries.read_positions.unread_count`."""

    def __call__(self, connection: Connection, *, viewer: Viewer, limit: int) -> int:
        """The number."""


class InsertPost(Protocol):
    """As `queries.posts.insert_post`."""

    def __call__(
        self,
        connection: Connection,
        *,
        author_id: int,
        body: str,
        audience: Audience,
        photo_keys: Sequence[str],
        totals: Mapping[str, int],
    ) -> PostRow:
        """The post."""


class InsertPosts(Protocol):
    """As `queries.transfers.insert_posts`."""

    def __call__(
        self, connection: Connection, *, posts: Sequence[ImportedPost]
    ) -> dict[ExternalName, PostName]:
        """The names of the new ones."""


class HoldTags(Protocol):
    """As `queries.transfers.hold_tags`."""

    def __call__(self, connection: Connection, *, names: Collection[TagName]) -> set[TagName]:
        """Those that there are."""


class EraseComments(Protocol):
    """As `queries.erasure.erase_comments`."""

    def __call__(self, connection: Connection, *, user_id: int, limit: int) -> int:
        """The number."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout, and its form of the statements that differ."""

    name: LayoutName
    feed_page: FeedPage
    digest_choice: DigestChoice
    frozen_choice: FrozenChoice
    freeze: Freeze
    unread_count: UnreadCount
    insert_post: InsertPost
    insert_posts: InsertPosts
    hold_tags: HoldTags
    erase_comments: EraseComments


SINGLE: Final = Layout(
    name="single",
    feed_page=queries.feed.feed_page,
    digest_choice=queries.digests.digest_choice,
    frozen_choice=queries.digests.frozen_choice,
    freeze=queries.digests.freeze,
    unread_count=queries.read_positions.unread_count,
    insert_post=queries.posts.insert_post,
    insert_posts=queries.transfers.insert_posts,
    hold_tags=queries.transfers.hold_tags,
    erase_comments=queries.erasure.erase_comments,
)

DISTRIBUTED: Final = Layout(
    name="distributed",
    feed_page=queries.distributed_feed.FeedPages().page,
    digest_choice=queries.distributed_digests.digest_choice,
    frozen_choice=queries.distributed_digests.frozen_choice,
    freeze=queries.distributed_digests.freeze,
    unread_count=queries.distributed_unread.unread_count,
    insert_post=queries.distributed_writes.insert_post,
    insert_posts=queries.distributed_writes.insert_posts,
    hold_tags=queries.distributed_writes.hold_tags,
    erase_comments=queries.distributed_writes.erase_comments,
)

LAYOUTS: Final = {layout.name: layout for layout in (SINGLE, DISTRIBUTED)}


def check(reader: Reader, layout: Layout) -> None:
    """Raise UnavailableError unless the database has this layout.

    The statements of the other one would fail, or run on every shard.
    """
    distributed = queries.shards.distributed_tables(reader).intersection(DISTRIBUTED_BY)
    wanted = set(DISTRIBUTED_BY) if layout is DISTRIBUTED else set[str]()
    if distributed != wanted:
        raise UnavailableError(
            f"FEED_LAYOUT is {layout.name}, but {len(distributed)} of {len(DISTRIBUTED_BY)} tables"
            " of the database are distributed"
        )
