"""Walks: people read their feeds page by page, while others change things between the pages."""

import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, cast

import grpc

from feed_service.auditor.items import Item
from kith.feed.v1 import feed_pb2 as pb
from tests.proof.changes import Changes
from tests.proof.founding import Size, found
from tests.proof.history import History
from tests.proof.tally import Tally
from tests.proof.worlds import Expected, Worlds
from tests.support.errors import reason_of
from tests.support.rpcs import Stubs

_PAGES: Final = (3, 3, 3, 4, 5)
_MOST_CHANGES: Final = 2
_LEAST_SIZE: Final = 3
_IN_FLIGHT: Final = 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large worlds are, how many pages are read at each step, and how many steps there are.

    `beside` is the share of steps in which others make changes while pages are read; in the rest
    they make them before, so that each page has one state that it can be of.
    """

    people: tuple[int, int] = (5, 9)
    posts: int = 36
    first_changes: int = 80
    steps: int = 120
    walks_each: int = 16
    beside: float = 0.5


_PLAN: Final = Plan()


@dataclass
class Walk:
    """One feed that is read page by page."""

    request: pb.GetFeedRequest
    required: frozenset[Item] | None = None
    shown: list[pb.Post] = field(default_factory=list)
    pages: int = 0
    has_changed: bool = False
    is_over: bool = False
    is_beside: bool = False
    _before: Expected | None = None

    def go_on(self, page: pb.GetFeedResponse, feeds: Sequence[Expected]) -> Iterator[str]:
        """Take the next page, read while the feed was one of these; yields what is wrong.

        What is shown has to be in one of them. What was in each of them, from the first page to the
        last, has to be shown once.
        """
        always = frozenset.intersection(*(feed.shown - feed.unknown for feed in feeds))
        permitted = frozenset.union(*(feed.shown | feed.unknown for feed in feeds))
        self.required = always if self.required is None else self.required & always
        for feed in feeds:
            self.has_changed |= self._before is not None and feed.shown != self._before.shown
            self._before = feed
        self.is_beside |= len({feed.shown for feed in feeds}) > 1
        self.shown += page.posts
        self.pages += 1
        for post in page.posts:
            if _item(post) not in permitted:
                yield f"was shown {_item(post)}, which was never in the feed meanwhile"
        if len(page.posts) > self.request.page_size:
            yield "was shown more than a page"
        self.request.page_token = page.next_page_token
        if not page.next_page_token:
            self.is_over = True
            yield from self._wrong_in_all()

    def _wrong_in_all(self) -> Iterator[str]:
        order = [(post.create_time.ToNanoseconds(), post.post_id) for post in self.shown]
        if order != sorted(set(order), reverse=True):
            yield f"was shown posts twice or out of order: {order}"
        for item in (self.required or frozenset()).difference(map(_item, self.shown)):
            yield f"was not shown {item}, which was in the feed all the time"


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """A page, and when its call began and ended; None for a call that was refused."""

    walk: Walk
    page: pb.GetFeedResponse | None
    began_at: float
    ended_at: float


@dataclass
class Walks:
    """A small world, in which people go on reading and changing for so many steps; then another."""

    stubs: Stubs
    worlds: Worlds
    pick: random.Random
    plan: Plan = _PLAN
    _changes: Changes = field(init=False)
    _history: History = field(init=False)
    _going_on: list[Walk] = field(default_factory=list)

    def run(self) -> Iterator[Tally]:
        """Walk through one world after the other; yields what has been compared in each step."""
        while True:
            self.begin()
            for _ in range(self.plan.steps):
                yield self.step()

    def begin(self) -> None:
        """Make a new world."""
        size = Size(
            people=self.pick.randint(*self.plan.people),
            posts=self.plan.posts,
            changes=self.plan.first_changes,
        )
        self._changes = found(self.stubs, self.worlds, size, self.pick)
        self._history = History(self._changes, self.worlds)
        self._going_on = []

    def step(self) -> Tally:
        """Let every walk go on by a page, and begin new ones for those that are over.

        A walk counts if it took several pages. One that is refused counts for nothing: by a
        suspension the contract ends it.
        """
        self._begin_walks()
        number = self.pick.randint(1, _MOST_CHANGES)
        self._history.forget()
        if self.pick.random() < self.plan.beside:
            with ThreadPoolExecutor(1) as writer:
                made = writer.submit(self._changes.make, number)
                answers = self._answers()
                made.result()
        else:
            self._changes.make(number)
            self._history.forget()
            answers = self._answers()
        tally = Tally()
        for answer in answers:
            self._take(answer, tally)
        self._going_on = [walk for walk in self._going_on if not walk.is_over]
        return tally

    def _begin_walks(self) -> None:
        going_on = Counter(walk.request.user_id for walk in self._going_on)
        for viewer_id in self._changes.ids:
            number = len(self._history.now.feed_of(viewer_id).shown)
            for _ in range(going_on[viewer_id], self.plan.walks_each):
                page_size = max(_LEAST_SIZE, math.ceil(number / self.pick.choice(_PAGES)))
                request = pb.GetFeedRequest(user_id=viewer_id, page_size=page_size)
                self._going_on.append(Walk(request))

    def _answers(self) -> list[_Answer]:
        """Read a page of every walk, several at the same time."""
        return [
            answer
            for first in range(0, len(self._going_on), _IN_FLIGHT)
            for answer in self._together(self._going_on[first : first + _IN_FLIGHT])
        ]

    def _together(self, walks: Sequence[Walk]) -> Iterator[_Answer]:
        began_at = time.monotonic()
        calls = [self.stubs.feed.GetFeed.future(walk.request) for walk in walks]
        for walk, call in zip(walks, calls, strict=True):
            page = _page(call)
            yield _Answer(walk=walk, page=page, began_at=began_at, ended_at=time.monotonic())

    def _take(self, answer: _Answer, tally: Tally) -> None:
        walk, viewer_id = answer.walk, answer.walk.request.user_id
        if answer.page is None:
            walk.is_over = True
            tally.refused += 1
            return
        worlds = self._history.between(answer.began_at, answer.ended_at)
        feeds = [world.feed_of(viewer_id) for world in worlds]
        tally.wrong += [
            f"{viewer_id} {wrong}. {walk} Changes: {'; '.join(map(str, self._changes.latest))}"
            for wrong in walk.go_on(answer.page, feeds)
        ]
        if walk.is_over and walk.pages > 1:
            tally.pages[f"{walk.pages} pages"] += 1
            tally.walks["between or beside whose pages the same feed changed"] += walk.has_changed
            tally.walks["with a page beside which the same feed changed"] += walk.is_beside


def _page(call: Any) -> pb.GetFeedResponse | None:
    """Return a page, or None if the viewer is suspended."""
    try:
        return cast("pb.GetFeedResponse", call.result())
    except grpc.RpcError as error:
        if reason_of(error) != "USER_SUSPENDED":
            raise
        return None


def _item(post: pb.Post) -> Item:
    return Item(post.author_id, post.post_id)
