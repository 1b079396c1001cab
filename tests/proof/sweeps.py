"""Sweeps: every person of a world asks about every post in it, and about some in other ways."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import grpc

from feed_service.auditor.items import Item
from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from tests.proof.changes import Changes
from tests.proof.compared import Compared, item_of, name_of
from tests.proof.digests import Digests
from tests.proof.founding import Size, found
from tests.proof.refreshes import Refreshes
from tests.proof.tally import Tally
from tests.proof.worlds import World, Worlds
from tests.support.errors import reason_of
from tests.support.rpcs import Stubs

_T = TypeVar("_T")
_MOST_CHECKS: Final = 500
_MOST_POSTS: Final = 100
_MOST_IN_BATCH: Final = 100
_MOST_VIEWERS: Final = 1_000
_MOST_TAGS: Final = 3
_MOST_AUTHORS: Final = 15


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large worlds are, how often each is swept, and how much changes between two sweeps.

    `listed` is the share of posts whose viewers are listed, which costs most for each decision.
    """

    people: tuple[int, int] = (40, 80)
    posts: tuple[int, int] = (3_000, 6_000)
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
    _digests: Digests = field(init=False)
    _refreshes: Refreshes = field(init=False)

    def __post_init__(self) -> None:
        """Know nothing yet of what was told before."""
        self._forget()

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
        self._forget()
        return found(self.stubs, self.worlds, size, self.pick)

    def _forget(self) -> None:
        self._digests = Digests(self.stubs.feed, self.pick)
        self._refreshes = Refreshes(self.stubs.feed)

    def _as(self, viewer_id: int, world: World) -> Tally:
        seen, in_feed = world.seen_by(viewer_id), world.feed_of(viewer_id)
        comments = world.comments_for(viewer_id)
        compared = Compared(world=world, viewer_id=viewer_id)
        posts, items = world.posts, list(comments.by_item)
        # A decision by GetFeed costs half as much.
        some, few = self._some(posts, _MOST_CHECKS), self._some(items, _MOST_CHECKS)
        compared.items("CheckVisibility", seen, some, self._checked(viewer_id, some))
        compared.items("CheckVisibility of comments", comments, few, self._checked(viewer_id, few))
        some, few = self._some(posts, _MOST_IN_BATCH), self._some(items, _MOST_IN_BATCH)
        try:
            pages_read = self._feed(viewer_id)
            compared.items("GetFeed", in_feed, posts, compared.in_order(_posts(pages_read)))
            self._refreshes.compare(compared, pages_read)
            self._by(compared)
            self._of_author(compared)
            self._digests.compare(compared)
            compared.items("BatchGetPosts", seen, some, self._posts(viewer_id, some))
            compared.items("BatchGetComments", comments, few, self._comments(viewer_id, few))
            compared.unread(in_feed, self._unread(viewer_id))
        except grpc.RpcError as error:
            if reason_of(error) != "USER_SUSPENDED":
                raise
            compared.refused()
        return compared.tally

    def _by(self, compared: Compared) -> None:
        """Compare a feed by tags, by authors or by both."""
        world, viewer_id = compared.world, compared.viewer_id
        tags = self._some(world.tags_of(viewer_id), _MOST_TAGS)
        authors = self._some(world.people, _MOST_AUTHORS)
        is_by_tags, is_by_authors = self.pick.choice(((True, False), (False, True), (True, True)))
        request = pb.GetFeedRequest(
            user_id=viewer_id,
            page_size=_MOST_POSTS,
            tag_ids=tags if is_by_tags else [],
            author_ids=authors if is_by_authors or not tags else [],
        )
        expected = world.feed_by(viewer_id, tag_ids=request.tag_ids, author_ids=request.author_ids)
        name = "tag_ids " * bool(request.tag_ids) + "author_ids" * bool(request.author_ids)
        posts = _posts(pages(self.stubs.feed.GetFeed, request))
        shown = compared.in_order(posts)
        compared.items(f"GetFeed {name.strip()}", expected, expected.by_item.keys(), shown)

    def _of_author(self, compared: Compared) -> None:
        """Compare the posts of one author."""
        world, viewer_id = compared.world, compared.viewer_id
        author_id = self.pick.choice(world.people)
        request = pb.ListPostsRequest(user_id=viewer_id, author_id=author_id, page_size=_MOST_POSTS)
        expected = world.posts_of(viewer_id, author_id)
        posts = _posts(pages(self.stubs.feed.ListPosts, request))
        compared.items("ListPosts", expected, expected.by_item.keys(), compared.in_order(posts))

    def _viewers(self, world: World, post: Item) -> Tally:
        request = pb.ListViewersRequest(post=name_of(post), page_size=_MOST_VIEWERS)
        shown_to = {
            viewer_id
            for page in pages(self.stubs.feed.ListViewers, request)
            for viewer_id in page.viewer_ids
        }
        tally = Tally()
        for viewer_id in world.people:
            compared = Compared(world=world, viewer_id=viewer_id)
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
                viewer_id=viewer_id, post=name_of(item), comment_id=item.comment_id
            )
            for item in asked
        ]
        answer = self.stubs.feed.CheckVisibility(pb.CheckVisibilityRequest(checks=checks))
        return {item for item, is_shown in zip(asked, answer.visible, strict=True) if is_shown}

    def _feed(self, viewer_id: int) -> list[pb.GetFeedResponse]:
        request = pb.GetFeedRequest(user_id=viewer_id, page_size=_MOST_POSTS)
        return list(pages(self.stubs.feed.GetFeed, request))

    def _some(self, items: Sequence[_T], most: int) -> list[_T]:
        return self.pick.sample(items, min(len(items), most))

    def _posts(self, viewer_id: int, asked: Sequence[Item]) -> set[Item]:
        if not asked:
            return set()
        request = pb.BatchGetPostsRequest(user_id=viewer_id, posts=map(name_of, asked))
        return {item_of(post) for post in self.stubs.feed.BatchGetPosts(request).posts}

    def _comments(self, viewer_id: int, asked: Sequence[Item]) -> set[Item]:
        if not asked:
            return set()
        names = [pb.CommentName(post=name_of(item), comment_id=item.comment_id) for item in asked]
        request = pb.BatchGetCommentsRequest(user_id=viewer_id, comments=names)
        return {
            Item(comment.post.author_id, comment.post.post_id, comment.comment_id)
            for comment in self.stubs.feed.BatchGetComments(request).comments
        }

    def _unread(self, viewer_id: int) -> int:
        request = pb.CountUnreadPostsRequest(user_id=viewer_id)
        return self.stubs.feed.CountUnreadPosts(request).unread_count


def _posts(read: Iterable[pb.GetFeedResponse | pb.ListPostsResponse]) -> list[pb.Post]:
    return [post for page in read for post in page.posts]
