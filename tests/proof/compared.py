"""What one viewer was told in one world, compared with what the rule says."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from feed_service.auditor.items import Item
from kith.feed.v1 import feed_pb2 as pb
from tests.proof.tally import Tally
from tests.proof.worlds import Expected, World

_MOST_UNREAD: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What one viewer was told, and whether it is right."""

    world: World
    viewer_id: int
    tally: Tally = field(default_factory=Tally)

    def items(
        self, call: str, expected: Expected, asked: Collection[Item], shown: Collection[Item]
    ) -> None:
        """Compare which of the items a viewer asked about were shown with what the rule says."""
        counts = _counts(expected, asked)
        self.tally.calls[call] += counts.total()
        self.tally.kinds += counts
        right = expected.shown.intersection(asked)
        for item in right.symmetric_difference(shown).difference(expected.unknown):
            self.tally.wrong.append(self._reproduction(call, item, is_shown=item in shown))

    def in_order(self, posts: Sequence[pb.Post]) -> set[Item]:
        """Return the posts of a list, each of which has to be in it once, the newest first."""
        order = [(post.create_time.ToNanoseconds(), post.post_id) for post in posts]
        if order != sorted(set(order), reverse=True):
            self.tally.wrong.append(f"what {self.viewer_id} is shown is not in order: {order}")
        return set(map(item_of, posts))

    def unread(self, in_feed: Expected, number: int) -> None:
        """Compare how many posts of a feed are said to be unread."""
        read_at = self.world.read.get(self.viewer_id)
        right = sum(
            item.author_id != self.viewer_id
            and (read_at is None or self.world.written[item].at > read_at)
            for item in in_feed.shown
        )
        self.tally.calls["CountUnreadPosts"] += 1
        self.tally.kinds["a number of posts"] += 1
        if number != min(right, _MOST_UNREAD):
            self.tally.wrong.append(f"{self.viewer_id} has {number} unread posts and not {right}")

    def refused(self) -> None:
        """Compare whether a viewer whose calls are refused is suspended."""
        if self.viewer_id not in self.world.suspended | self.world.refused_or_not:
            self.tally.wrong.append(f"the calls of {self.viewer_id}, not suspended, are refused")

    def _reproduction(self, call: str, item: Item, *, is_shown: bool) -> str:
        said = "was shown" if is_shown else "was not shown"
        return f"{call}: {self.viewer_id} {said} {item}. {self.world.reasons(self.viewer_id, item)}"


def _counts(expected: Expected, asked: Collection[Item]) -> Counter[str]:
    by_item = expected.by_item
    if len(asked) == len(by_item):
        return expected.counts
    return Counter(by_item[item].kind for item in asked if item not in expected.unknown)


def name_of(item: Item) -> pb.PostName:
    """Return how the contract names a post."""
    return pb.PostName(author_id=item.author_id, post_id=item.post_id)


def item_of(post: pb.Post) -> Item:
    """Return what a decision about a post is about."""
    return Item(post.author_id, post.post_id)
