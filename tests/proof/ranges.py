"""What one page of a feed decides: each post between its ends is on it, or is not in the feed."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from feed_service.auditor.items import Item
from kith.feed.v1 import feed_pb2 as pb
from tests.proof.worlds import World

Position = tuple[datetime, int]
"""Where a post is in the order of feeds."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """The part of a feed that a page covers: behind the page before, down to its own last post."""

    before: Position | None
    down_to: Position | None

    @classmethod
    def of(cls, page: pb.GetFeedResponse, *, before: Position | None) -> Self:
        """Return what a page covers that was asked for with the token of one that ended there."""
        if not page.next_page_token:
            return cls(before=before, down_to=None)
        return cls(before=before, down_to=position(page.posts[-1]) if page.posts else before)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The posts about which the rule says the same at every moment of a call, oldest first."""

    positions: Sequence[Position]
    items: Sequence[Item]
    shown: Collection[Item]
    kinds: Sequence[str]

    @classmethod
    def of(cls, viewer_id: int, worlds: Sequence[World]) -> Self:
        """Return what is settled about a viewer's feed in some worlds, one after the other."""
        feeds = [world.feed_of(viewer_id) for world in worlds]
        shown = frozenset.intersection(*(feed.shown for feed in feeds))
        open_items = frozenset.union(*(feed.shown | feed.unknown for feed in feeds)) - shown
        items = [item for item in worlds[-1].posts if item not in open_items]
        return cls(
            positions=[worlds[-1].position(item) for item in items],
            items=items,
            shown=shown,
            kinds=[feeds[-1].by_item[item].kind for item in items],
        )

    def decided(self, part: Range) -> tuple[Counter[str], list[Item]]:
        """Return how many decisions of each kind a page makes, and which posts it must have."""
        first = 0 if part.down_to is None else bisect_left(self.positions, part.down_to)
        last = len(self.items) if part.before is None else bisect_left(self.positions, part.before)
        return (
            Counter(self.kinds[first:last]),
            [item for item in self.items[first:last] if item in self.shown],
        )


def position(post: pb.Post) -> Position:
    """Return where a post is in the order of feeds."""
    return post.create_time.ToDatetime(UTC), post.post_id
