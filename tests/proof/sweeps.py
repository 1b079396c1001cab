"""Sweeps: every person of a world asks about every post in it, and about some in other ways."""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from feed_service.auditor.items import Item
from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from tests.proof.changes import Changes
from tests.proof.founding import Size, found
from tests.proof.tally import Tally
from tests.proof.worlds import Expected, World, Worlds
from tests.support.errors import reason_of
from tests.support.rpcs import Stubs

_MOST_CHECKS: Final = 500
_MOST_POSTS: Final = 100
_MOST_IN_BATCH: Final = 100
_MOST_VIEWERS: Final = 1_000
_MOST_UNREAD: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large worlds are, how often each is swept, and how much changes between two sweeps.

    `listed` is the share of posts whose viewers are listed, which costs most for each decision.
    """

    people: tuple[int, int] = (40, 80)
    posts: tuple[int, int] = (1_500, 3_000)
    first_changes: int = 800
    sweeps: int = 12
    changes: int = 100
    listed: float = 0.05


_PLAN: Final = Plan()


@dataclass
class Sweeps:
    """A world of random people, and another one after so many sweeps."""

    stubs: Stubs
    worlds: Worlds
    pick: random.Random
    plan: Plan = _PLAN

    def run(self) -> Iterator[Tally]:
        """Sweep one world after the other; yields what has been compared, viewer by viewer."""
        while True:
            changes = self._found()
            yield from self.sweep(changes)
            for _ in range(1, self.plan.sweeps):
                changes.make(self.plan.changes)
                yield from self.sweep(changes)

    def sweep(self, changes: Changes) -> Iterator[Tally]:
        """Let everybody of a world ask about all posts, and comments, in it as it is now.

        Nothing else changes meanwhile, so each answer has one moment that it can be of.
        """
        world = changes.world(self.worlds)
        for viewer_id in world.people:
            yield self._as(viewer_id, world)
        for post in world.posts:
            if self.pick.random() < self.plan.listed:
                yield self._viewers(world, post)

    def _found(self) -> Changes:
        size = Size(
            people=self.pick.randint(*self.plan.people),
            posts=self.pick.randint(*self.plan.posts),
            changes=self.plan.first_changes,
        )
        return found(self.stubs, self.worlds, size, self.pick)

    def _as(self, viewer_id: int, world: World) -> Tally:
        seen, in_feed = world.seen_by(viewer_id), world.feed_of(viewer_id)
        comments = world.comments_for(viewer_id)
        compared = _Compared(world=world, viewer_id=viewer_id)
        posts, items = world.posts, list(comments.kinds)
        # A decision by GetFeed costs half as much.
        some, few = self._some(posts, _MOST_CHECKS), self._some(items, _MOST_CHECKS)
        compared.items("CheckVisibility", seen, some, self._checked(viewer_id, some))
        compared.items("CheckVisibility of comments", comments, few, self._checked(viewer_id, few))
        some, few = self._some(posts, _MOST_IN_BATCH), self._some(items, _MOST_IN_BATCH)
        try:
            compared.items("GetFeed", in_feed, posts, compared.in_order(self._feed(viewer_id)))
            compared.items("BatchGetPosts", seen, some, self._posts(viewer_id, some))
            compared.items("BatchGetComments", comments, few, self._comments(viewer_id, few))
            compared.unread(in_feed, self._unread(viewer_id))
        except grpc.RpcError as error:
            if reason_of(error) != "USER_SUSPENDED":
                raise
            compared.refused()
        return compared.tally

    def _viewers(self, world: World, post: Item) -> Tally:
        request = pb.ListViewersRequest(post=_name(post), page_size=_MOST_VIEWERS)
        shown_to = {
            viewer_id
            for page in pages(self.stubs.feed.ListViewers, request)
            for viewer_id in page.viewer_ids
        }
        tally = Tally()
        for viewer_id in world.people:
            compared = _Compared(world=world, viewer_id=viewer_id)
            shown = {post} if viewer_id in shown_to else set[Item]()
            compared.items("ListViewers", world.seen_by(viewer_id), [post], shown)
            tally.add(compared.tally)
        if strangers := shown_to.difference(world.people):
            tally.wrong.append(f"ListViewers of {post} names {strangers}")
        return tally

    def _checked(self, viewer_id: int, asked: Sequence[Item]) -> set[Item]:
        if not asked:
            return set()
        checks = [
            pb.CheckVisibilityRequest.VisibilityCheck(
                viewer_id=viewer_id, post=_name(item), comment_id=item.comment_id
            )
            for item in asked
        ]
        answer = self.stubs.feed.CheckVisibility(pb.CheckVisibilityRequest(checks=checks))
        return {item for item, is_shown in zip(asked, answer.visible, strict=True) if is_shown}

    def _feed(self, viewer_id: int) -> list[pb.Post]:
        request = pb.GetFeedRequest(user_id=viewer_id, page_size=_MOST_POSTS)
        return [post for page in pages(self.stubs.feed.GetFeed, request) for post in page.posts]

    def _some(self, items: Sequence[Item], most: int) -> list[Item]:
        return self.pick.sample(items, min(len(items), most))

    def _posts(self, viewer_id: int, asked: Sequence[Item]) -> set[Item]:
        if not asked:
            return set()
        request = pb.BatchGetPostsRequest(user_id=viewer_id, posts=map(_name, asked))
        return {_item(post) for post in self.stubs.feed.BatchGetPosts(request).posts}

    def _comments(self, viewer_id: int, asked: Sequence[Item]) -> set[Item]:
        if not asked:
            return set()
        names = [pb.CommentName(post=_name(item), comment_id=item.comment_id) for item in asked]
        request = pb.BatchGetCommentsRequest(user_id=viewer_id, comments=names)
        return {
            Item(comment.post.author_id, comment.post.post_id, comment.comment_id)
            for comment in self.stubs.feed.BatchGetComments(request).comments
        }

    def _unread(self, viewer_id: int) -> int:
        request = pb.CountUnreadPostsRequest(user_id=viewer_id)
        return self.stubs.feed.CountUnreadPosts(request).unread_count


@dataclass(frozen=True, kw_only=True)
class _Compared:
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
        """Return the posts of a feed, each of which has to be in it once, the newest first."""
        order = [(post.create_time.ToNanoseconds(), post.post_id) for post in posts]
        if order != sorted(set(order), reverse=True):
            self.tally.wrong.append(f"the feed of {self.viewer_id} is not in order: {order}")
        return set(map(_item, posts))

    def unread(self, in_feed: Expected, number: int) -> None:
        """Compare how many posts of a feed are said to be unread; nobody has read any."""
        right = sum(item.author_id != self.viewer_id for item in in_feed.shown)
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
    if len(asked) == len(expected.kinds):
        return expected.counts
    return Counter(expected.kinds[item] for item in asked if item not in expected.unknown)


def _name(item: Item) -> pb.PostName:
    return pb.PostName(author_id=item.author_id, post_id=item.post_id)


def _item(post: pb.Post) -> Item:
    return Item(post.author_id, post.post_id)
