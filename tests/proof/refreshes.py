"""Feeds that are asked for what has come since they were read, with `newer_than`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from feed_service.auditor.items import Item
from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.proof.compared import Compared, item_of

_REACH_BACK: Final = timedelta(seconds=10)
_MOST_POSTS: Final = 100


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What a viewer has read: a first page, and the token that it came with.

    New is what comes behind `after`, in the order of feeds, and was not on the page.
    """

    token: str
    after: tuple[datetime, int] | None
    posts: Collection[Item]

    @classmethod
    def of(cls, page: pb.GetFeedResponse) -> "_Known":
        posts = page.posts
        after = None
        if posts:
            after = (posts[0].create_time.ToDatetime(UTC) - _REACH_BACK, 0)
            if page.next_page_token:
                oldest = (posts[-1].create_time.ToDatetime(UTC), posts[-1].post_id)
                after = max(after, oldest)
        return cls(token=page.refresh_token, after=after, posts=frozenset(map(item_of, posts)))


@dataclass
class Refreshes:
    """Asks in one world for what has come to feeds since they were read the last time."""

    feed: FeedServiceStub
    _known: dict[int, _Known] = field(default_factory=dict)

    def compare(self, compared: Compared, read_now: Sequence[pb.GetFeedResponse]) -> None:
        """Ask as a viewer who has read the feed before, and has read these pages now."""
        world, viewer_id = compared.world, compared.viewer_id
        known = self._known.get(viewer_id)
        self._known[viewer_id] = _Known.of(read_now[0])
        if known is None:
            return
        request = pb.GetFeedRequest(
            user_id=viewer_id, page_size=_MOST_POSTS, newer_than=known.token
        )
        posts = [post for page in pages(self.feed.GetFeed, request) for post in page.posts]
        shown = compared.in_order(posts)
        new = [
            item
            for item in world.posts
            if item not in known.posts
            and (known.after is None or world.position(item) > known.after)
        ]
        compared.items("GetFeed newer_than", world.feed_of(viewer_id), new, shown)
