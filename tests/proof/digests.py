"""Digests of past weeks: chosen by the rules of the contract, and frozen from then on."""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from feed_service.auditor.items import Item
from feed_service.auditor.rule import Clause
from kith.feed.v1 import feed_pb2 as pb
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.proof.compared import Compared, item_of
from tests.proof.worlds import Expected, World
from tests.support import digest_oracle as oracle

_READ_AGAIN: Final = 0.5
_WITH_TAGS: Final = 0.3
_WITH_OWN: Final = 0.5
_WITHOUT_READ: Final = 0.2
_ZONES: Final = tuple(ZoneInfo(name) for name in ("UTC", "Europe/Lisbon", "America/Havana"))
_MIN_IMPORTANCE: Final = 1.0
_PER_AUTHOR_AND_DAY: Final = 2
_MOST_POSTS: Final = 12
_MOST_TAGS: Final = 2
_REASONS: Final = {
    pb.DIGEST_REASON_IMPORTANT: "important",
    pb.DIGEST_REASON_FILLED_PLACE: "filled_place",
}


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What a digest is asked for; two that are equal are about the same frozen digest."""

    viewer_id: int
    start: datetime
    end: datetime
    zone: ZoneInfo
    start_day: int
    tag_ids: frozenset[int]
    with_own: bool
    exclude_read: bool

    @property
    def request(self) -> pb.GetDigestRequest:
        request = pb.GetDigestRequest(
            user_id=self.viewer_id,
            time_zone=self.zone.key,
            tag_ids=self.tag_ids,
            include_own_posts=self.with_own,
            week_start_day=self.start_day,
            exclude_read=self.exclude_read,
        )
        request.week_of.FromDatetime(self.start)
        return request


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """A choice of posts, oldest first, each with its importance and why it is there.

    `erased_at` is the revision up to which the feed had erased the viewer when it was made: with
    the viewer's data their frozen digests are erased too.
    """

    posts: Mapping[Item, tuple[float, str]]
    left_out: int
    erased_at: int


@dataclass
class Digests:
    """Asks for digests of one world, and knows which of them are frozen.

    Of some it is open what was frozen. These are kept with the revision of `_Choice.erased_at`.
    """

    feed: FeedServiceStub
    pick: random.Random
    _frozen: dict[_Question, _Choice] = field(default_factory=dict)
    _open: dict[_Question, int] = field(default_factory=dict)

    def compare(self, compared: Compared) -> None:
        """Ask for a digest as a viewer, and compare its posts, their reasons and its count."""
        world, viewer_id = compared.world, compared.viewer_id
        question = self._question(viewer_id, world)
        answer = self.feed.GetDigest(question.request)
        erased_at = world.erased.get(viewer_id, 0)
        if viewer_id in world.refused_or_not:
            # It is open whether the viewer's own posts are chosen, and so which others are.
            self._frozen.pop(question, None)
            self._open[question] = erased_at
        if self._open.get(question) == erased_at:
            return
        feed = world.seen_by(viewer_id) if question.tag_ids else world.feed_of(viewer_id)
        frozen = self._frozen.get(question)
        if frozen is not None and frozen.erased_at == erased_at:
            choice, kinds = frozen, _kinds_of_frozen(frozen, feed)
        else:
            posts = list(_posts(question, world))
            choice = _choice(question, world, feed.shown.intersection(posts))
            kinds = _kinds(choice, feed, posts)
        is_over = question.end <= datetime.now(UTC)
        if is_over:
            self._frozen[question] = choice
        compared.tally.calls["GetDigest"] += kinds.total()
        compared.tally.kinds += kinds
        told = [(item_of(it.post), it.importance, _REASONS[it.reason]) for it in answer.items]
        posts_now = [(item, *said) for item, said in choice.posts.items() if item in feed.shown]
        right = (posts_now, choice.left_out, is_over)
        if (told, answer.left_out_count, answer.frozen) != right:
            compared.tally.wrong.append(
                f"GetDigest {{ {question.request} }} told {told}, {answer.left_out_count} more, "
                f"frozen {answer.frozen}; right is {right}"
            )

    def _question(self, viewer_id: int, world: World) -> _Question:
        asked = [question for question in self._frozen if question.viewer_id == viewer_id]
        if asked and self.pick.random() < _READ_AGAIN:
            return self.pick.choice(asked)
        zone, start_day = self.pick.choice(_ZONES), self.pick.randint(1, 7)
        moment = world.written[self.pick.choice(world.posts)].at
        days = oracle.week(moment, zone, start_day)
        tags = world.tags_of(viewer_id)
        with_tags = bool(tags) and self.pick.random() < _WITH_TAGS
        return _Question(
            viewer_id=viewer_id,
            start=oracle.first_moment(days[0], zone),
            end=oracle.first_moment(days[-1] + timedelta(days=1), zone),
            zone=zone,
            start_day=start_day,
            tag_ids=frozenset(self.pick.choices(tags, k=_MOST_TAGS) if with_tags else ()),
            with_own=self.pick.random() < _WITH_OWN,
            exclude_read=self.pick.random() < _WITHOUT_READ,
        )


def _posts(question: _Question, world: World) -> Iterator[Item]:
    """Yield the posts of the week that may be in the digest, if the viewer sees them."""
    members = world.members(question.viewer_id, question.tag_ids)
    for item in world.posts_between(question.start, question.end):
        is_own = item.author_id == question.viewer_id
        if question.with_own if is_own else not question.tag_ids or item.author_id in members:
            yield item


def _choice(question: _Question, world: World, visible: Collection[Item]) -> _Choice:
    chosen, left_out = oracle.choice(
        [
            oracle.Post(
                author=item.author_id,
                id=item.post_id,
                at=world.written[item].at,
                importance=world.written[item].importance,
            )
            for item in visible
        ],
        oracle.Question(
            week_of=question.start,
            zone=question.zone,
            start_day=question.start_day,
            tags=question.tag_ids,
            own=question.with_own,
            read_at=world.read.get(question.viewer_id) if question.exclude_read else None,
            min_importance=_MIN_IMPORTANCE,
            per_author_and_day=_PER_AUTHOR_AND_DAY,
            max_posts=_MOST_POSTS,
        ),
    )
    return _Choice(
        posts={Item(each.author, each.id): (each.importance, each.reason) for each in chosen},
        left_out=left_out,
        erased_at=world.erased.get(question.viewer_id, 0),
    )


def _kinds(choice: _Choice, feed: Expected, posts: Collection[Item]) -> Counter[str]:
    """Name the decision about each post of the week."""
    return Counter(
        f"DIGEST: {choice.posts[item][1]}"
        if item in choice.posts
        else "DIGEST: left out"
        if item in feed.shown
        else feed.by_item[item].kind
        for item in posts
    )


def _kinds_of_frozen(choice: _Choice, feed: Expected) -> Counter[str]:
    """Name the decision about each post of the choice; some are purged."""
    return Counter(
        "FROZEN: shown"
        if item in feed.shown
        else f"FROZEN: {feed.by_item[item].kind if item in feed.by_item else Clause.NO_SUCH_POST}"
        for item in choice.posts
    )
