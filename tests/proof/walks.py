"""Walks: people read their feeds page by page, while others change things between the pages."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import grpc

from feed_service.auditor.items import Item
from feed_service.auditor.primaries import Primaries
from feed_service.auditor.rule import is_muted, ruling
from kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import reason_of
from tests.support.pair import Pair
from tests.support.people import People
from tests.support.random_changes import RandomChanges

_ROUNDS: Final = 8
_MOST_BETWEEN: Final = 2
_PAGE_SIZES: Final = (2, 3, 4, 5, 6, 7, 8, 9)


@dataclass(frozen=True, kw_only=True)
class _Feed:
    """The posts that have to be in a feed at some moment, and those that may be in it."""

    required: frozenset[Item]
    permitted: frozenset[Item]


@dataclass
class _Walk:
    """One feed that is read page by page."""

    request: pb.GetFeedRequest
    required: frozenset[Item]
    shown: list[pb.Post] = field(default_factory=list)
    pages: int = 0
    is_over: bool = False
    is_refused: bool = False

    def go_on(self, page: pb.GetFeedResponse, feed: _Feed) -> Iterator[str]:
        """Take the next page, which was read while the feed was this; yields what is wrong."""
        self.required &= feed.required
        self.shown += page.posts
        self.pages += 1
        for post in page.posts:
            if _item(post) not in feed.permitted:
                yield f"{self.request.user_id} was shown {post.post_id}"
        self.request.page_token = page.next_page_token
        if not page.next_page_token:
            self.is_over = True
            yield from self._wrong_in_all()

    def _wrong_in_all(self) -> Iterator[str]:
        user_id = self.request.user_id
        order = [(post.create_time.ToNanoseconds(), post.post_id) for post in self.shown]
        if order != sorted(set(order), reverse=True):
            yield f"{user_id} was shown posts twice or out of order: {order}"
        for item in self.required.difference(map(_item, self.shown)):
            yield f"{user_id} was not shown {item}"


@dataclass
class Walks:
    """A small world, and another one after so many rounds of walks."""

    pair: Pair
    primaries: Primaries
    pick: random.Random
    people: int = 5
    first_changes: int = 80
    _changes: RandomChanges = field(init=False)
    _left: int = 0

    def walk(self) -> tuple[int, list[str]]:
        """Let everybody read their feed in pages of several sizes, at the same time.

        Returns how many of these walks took several pages, between which something was changed, and
        what is wrong. What stays visible for a whole walk is shown once, what is shown is visible
        at that moment, and all is in order. A walk that a suspension ends counts for nothing.
        """
        self._go_on()
        feeds = {viewer_id: self._feed(viewer_id) for viewer_id in self._changes.ids}
        walks = [
            _Walk(
                pb.GetFeedRequest(user_id=viewer_id, page_size=page_size),
                required=feed.required,
            )
            for viewer_id, feed in feeds.items()
            for page_size in _PAGE_SIZES
        ]
        wrong = list[str]()
        while going_on := [walk for walk in walks if not (walk.is_over or walk.is_refused)]:
            for viewer_id in {walk.request.user_id for walk in going_on}:
                feed = self._feed(viewer_id)
                for walk in going_on:
                    if walk.request.user_id == viewer_id:
                        wrong += self._page(walk, feed)
            self._changes.change(self.pick.randint(1, _MOST_BETWEEN))
        return sum(walk.is_over and walk.pages > 1 for walk in walks), wrong

    def _page(self, walk: _Walk, feed: _Feed) -> list[str]:
        try:
            return list(walk.go_on(self.pair.feed.GetFeed(walk.request), feed))
        except grpc.RpcError as error:
            if reason_of(error) != "USER_SUSPENDED":
                raise
            walk.is_refused = True
            return []

    def _go_on(self) -> None:
        if self._left:
            self._left -= 1
            return
        self._left = _ROUNDS
        self._changes = RandomChanges(self.pair, People(self.pair).new(self.people), self.pick)
        self._changes.begin()
        self._changes.change(self.first_changes)

    def _feed(self, viewer_id: int) -> _Feed:
        items = [Item(post.author_id, post.post_id) for post in self._changes.posts]
        facts = self.primaries.facts(viewer_id, items)
        rulings = {
            item: ruling(facts, item)
            for item in items
            if item.author_id == viewer_id or not is_muted(facts, item.author_id)
        }
        return _Feed(
            required=frozenset(
                item for item, ruled in rulings.items() if ruled is not None and ruled.is_visible
            ),
            permitted=frozenset(
                item for item, ruled in rulings.items() if ruled is None or ruled.is_visible
            ),
        )


def _item(post: pb.Post) -> Item:
    return Item(post.author_id, post.post_id)
