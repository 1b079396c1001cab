"""Walks: people read their feeds page by page, while others change things between the pages."""

import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Self, cast

import grpc

from feed_service.auditor.items import Item
from kith.exceptions import InternalError, from_rpc_error
from kith.feed.v1 import feed_pb2 as pb
from tests.proof.changes import Changes
from tests.proof.compared import item_of
from tests.proof.founding import Size, found
from tests.proof.history import History
from tests.proof.ranges import Position, Range, Settled, position
from tests.proof.tally import Tally
from tests.proof.worlds import Expected, World, Worlds
from tests.support.errors import reason_of
from tests.support.rpcs import Stubs

_PAGES: Final = (4, 3)
_MOST_CHANGES: Final = 2
_LEAST_SIZE: Final = 2
_LEAST_PAGES: Final = 3
_IN_FLIGHT: Final = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large worlds are, how many pages are read at each step, and how many steps there are.

    Everybody reads about `calls_each` pages in a step. The page after a page is read in so many
    steps, one after the other, as there are `branches`: each of these walks goes on by itself.
    `beside` is the share of steps in which others make changes while pages are read; in the rest
    they make them before, so that each page has one state that it can be of.
    """

    people: tuple[int, int] = (5, 9)
    posts: tuple[int, int] = (60, 140)
    first_changes: int = 80
    steps: int = 150
    calls_each: int = 13
    branches: int = 3
    beside: float = 0.5


_PLAN: Final = Plan()


@dataclass(frozen=True)
class Meanwhile:
    """What was in a feed during one call, at one moment after the other."""

    moments: Sequence[Expected]

    @cached_property
    def always(self) -> frozenset[Item]:
        """What was in it all the time."""
        return frozenset.intersection(*(feed.shown for feed in self.moments))

    @cached_property
    def ever(self) -> frozenset[Item]:
        """What was, or may have been, in it at some moment."""
        return frozenset.union(*(feed.shown | feed.unknown for feed in self.moments))

    @cached_property
    def has_changed(self) -> bool:
        """Whether it changed during the call."""
        return len({feed.shown for feed in self.moments}) > 1


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
    branches: int = 1
    _last: frozenset[Item] | None = None

    def branch(self) -> "Walk":
        """Return a walk that goes on from here, as this one may do again later."""
        self.branches -= 1
        request = pb.GetFeedRequest()
        request.CopyFrom(self.request)
        return replace(self, request=request, shown=list(self.shown))

    @property
    def behind(self) -> Position | None:
        """Where it is in the order of feeds; None at its beginning."""
        return position(self.shown[-1]) if self.shown else None

    def go_on(self, page: pb.GetFeedResponse, feed: Meanwhile) -> Iterator[str]:
        """Take the next page, and what was in the feed meanwhile; yields what is wrong.

        What is shown has to have been in it at some moment of the call. What was in it all the
        time, from the first page to the last, has to be shown once.
        """
        self.required = feed.always if self.required is None else self.required & feed.always
        self.has_changed |= feed.has_changed
        self.has_changed |= self._last is not None and feed.moments[0].shown != self._last
        self._last = feed.moments[-1].shown
        self.is_beside |= feed.has_changed
        self.shown += page.posts
        self.pages += 1
        for post in page.posts:
            if item_of(post) not in feed.ever:
                yield f"was shown {item_of(post)}, which was never in the feed meanwhile"
        if len(page.posts) > self.request.page_size:
            yield "was shown more than a page"
        self.request.page_token = page.next_page_token
        if not page.next_page_token:
            self.is_over = True
            yield from self._wrong_in_all()

    def __str__(self) -> str:
        """Return what has been shown, for people."""
        ids = ", ".join(str(post.post_id) for post in self.shown)
        return f"It was shown {ids} on {self.pages} pages, the last of {self.request.page_size}."

    def _wrong_in_all(self) -> Iterator[str]:
        order = [(post.create_time.ToNanoseconds(), post.post_id) for post in self.shown]
        if order != sorted(set(order), reverse=True):
            yield f"was shown posts twice or out of order: {order}"
        for item in (self.required or frozenset()).difference(map(item_of, self.shown)):
            yield f"was not shown {item}, which was in the feed all the time"


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """A page, or why it was refused, and when its call began and ended."""

    walk: Walk
    page: pb.GetFeedResponse | str
    began_at: float
    ended_at: float


@dataclass(frozen=True, kw_only=True)
class _Feed:
    """What is known of a feed during a call."""

    meanwhile: Meanwhile
    settled: Settled

    @classmethod
    def of(cls, viewer_id: int, worlds: Sequence[World]) -> Self:
        """Return what the rule says of a viewer's feed in some worlds, one after the other."""
        meanwhile = Meanwhile([world.feed_of(viewer_id) for world in worlds])
        return cls(meanwhile=meanwhile, settled=Settled.of(viewer_id, worlds))


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
            posts=self.pick.randint(*self.plan.posts),
            changes=self.plan.first_changes,
        )
        self._changes = found(self.stubs, self.worlds, size, self.pick)
        self._history = History(self._changes, self.worlds)
        self._going_on = []

    def step(self) -> Tally:
        """Let every walk go on by a page, and begin new ones.

        A walk counts if it took three pages or more. One that is refused does not: the contract
        refuses people who are suspended, and those while an earlier user's data is being erased.
        """
        self._begin_walks()
        walks = [walk.branch() for walk in self._going_on]
        number = self.pick.randint(1, _MOST_CHANGES)
        self._history.forget()
        if self.pick.random() < self.plan.beside:
            with ThreadPoolExecutor(1) as writer:
                made = writer.submit(self._changes.make, number)
                answers = self._answers(walks)
                made.result()
        else:
            self._changes.make(number)
            self._history.forget()
            answers = self._answers(walks)
        tally, states = Tally(), dict[tuple[int, ...], _Feed]()
        for answer in answers:
            self._take(answer, states, tally)
        self._going_on = [walk for walk in self._going_on if walk.branches]
        for walk in walks:
            if not walk.is_over:
                walk.branches = self.plan.branches
                self._going_on.append(walk)
        return tally

    def _begin_walks(self) -> None:
        """Begin new walks, and draw the size of everybody's next page."""
        now = self._history.now
        going_on = Counter(walk.request.user_id for walk in self._going_on)
        # The calls of people who were suspended longer ago would only be refused.
        for viewer_id in set(self._changes.ids) - (now.suspended - now.refused_or_not):
            if going_on[viewer_id] < self.plan.calls_each:
                self._going_on.append(Walk(pb.GetFeedRequest(user_id=viewer_id)))
        for walk in self._going_on:
            posts = len(now.feed_of(walk.request.user_id).shown)
            sizes = (max(_LEAST_SIZE, math.ceil(posts / pages)) for pages in _PAGES)
            walk.request.page_size = self.pick.randint(*sorted(sizes))

    def _answers(self, walks: Sequence[Walk]) -> list[_Answer]:
        """Read a page of every walk, several at the same time."""
        return [
            answer
            for first in range(0, len(walks), _IN_FLIGHT)
            for answer in self._together(walks[first : first + _IN_FLIGHT])
        ]

    def _together(self, walks: Sequence[Walk]) -> Iterator[_Answer]:
        began_at = time.monotonic()
        calls = [self.stubs.feed.GetFeed.future(walk.request) for walk in walks]
        for walk, call in zip(walks, calls, strict=True):
            page = _page(call)
            yield _Answer(walk=walk, page=page, began_at=began_at, ended_at=time.monotonic())

    def _take(self, answer: _Answer, feeds: dict[tuple[int, ...], _Feed], tally: Tally) -> None:
        walk, viewer_id = answer.walk, answer.walk.request.user_id
        if isinstance(answer.page, str):
            walk.is_over = True
            tally.refused[answer.page] += 1
            return
        worlds = self._history.between(answer.began_at, answer.ended_at)
        states = (viewer_id, *map(id, worlds))
        if states not in feeds:
            feeds[states] = _Feed.of(viewer_id, worlds)
        feed, before = feeds[states], walk.behind
        wrong = list(walk.go_on(answer.page, feed.meanwhile))
        kinds, expected = feed.settled.decided(Range.of(answer.page, before=before))
        wrong += [
            f"was not shown {item} on the page where it belongs"
            for item in set(expected).difference(map(item_of, answer.page.posts))
        ]
        tally.calls["GetFeed of a walk"] += kinds.total()
        tally.kinds += kinds
        tally.wrong += [
            f"{viewer_id} {each}. {walk} Changes: {'; '.join(map(str, self._changes.latest))}"
            for each in wrong
        ]
        if walk.is_over and walk.pages >= _LEAST_PAGES:
            tally.pages[f"{walk.pages} pages"] += 1
            tally.walks["between or beside whose pages the same feed changed"] += walk.has_changed
            tally.walks["with a page beside which the same feed changed"] += walk.is_beside


def _page(call: Any) -> pb.GetFeedResponse | str:
    """Return a page, or the reason for which it is refused. An internal error is no reason."""
    try:
        return cast("pb.GetFeedResponse", call.result())
    except grpc.RpcError as error:
        if isinstance(from_rpc_error(error), InternalError):
            raise
        return reason_of(error) or str(error.code())
