"""The founding of a world in which each clause of the rule, and rare mixtures, decide often."""

import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from kith.feed.v1 import feed_pb2 as pb
from tests.proof.changes import Changes
from tests.proof.worlds import Worlds
from tests.support.people import People
from tests.support.random_changes import may_be_refused
from tests.support.rpcs import Stubs

_HAVE_TAG: Final = 0.35
_HAVE_TAG_AGAIN: Final = 0.07
_IMPORTED: Final = 0.8
_YEAR_SECONDS: Final = 365 * 86_400
_SPELLS: Final = 2
_SPELL_SECONDS: Final = 3 * 86_400
_IN_SPELLS: Final = 0.4
_EVERY_MUTED: Final = 11
_SCORED: Final = 0.7
_MOST_SCORES: Final = 1_000
# Equal ones, and those by which digests leave posts out, from both sides.
_SCORES: Final = (0.0, 1.0, 1.1, 2.5, 3.9, 4.0, 4.0, 4.1, 6.0, 7.0, 7.0, 8.0)
_EVERY_READER: Final = 2
_PARTED: Final = 0.15
_RECONNECTED: Final = 0.7


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many people and posts there are, and how many other random changes are made."""

    people: int
    posts: int
    changes: int


def found(stubs: Stubs, worlds: Worlds, size: Size, pick: random.Random) -> Changes:
    """Connect new people, give tags, part and reconnect some, let them post."""
    changes = Changes.of(stubs, People(stubs).new(size.people), pick)
    changes.source.begin()
    _give(changes, worlds, share=_HAVE_TAG)
    _part(changes, worlds)
    changes.make(size.changes)
    for owner_id, tag_id in changes.source.tags[::_EVERY_MUTED]:
        _mute(stubs, owner_id, tag_id)
    # Some of those who had a tag in an earlier connection have it in this one too.
    _give(changes, worlds, share=_HAVE_TAG_AGAIN)
    _publish(changes, worlds, size.posts)
    _score(changes, worlds)
    return changes


def _publish(changes: Changes, worlds: Worlds, number: int) -> None:
    """Import most posts, with times of the last year, and let people publish the others.

    Many are of a few busy spells, so that digests have posts to leave out.
    """
    pick, source = changes.pick, changes.source
    now = int(time.time())
    busy = [now - pick.randrange(_SPELL_SECONDS, _YEAR_SECONDS) for _ in range(_SPELLS)]
    authors = Counter(pick.choices(source.ids, k=int(number * _IMPORTED)))
    for author_id, posts in authors.items():
        chunk = pb.ImportPostsRequest(
            posts=[
                pb.ImportPostsRequest.ImportedPost(
                    author_id=author_id,
                    external_id=str(position),
                    body="hello",
                    create_time=Timestamp(
                        seconds=pick.choice(busy) + pick.randrange(_SPELL_SECONDS)
                        if pick.random() < _IN_SPELLS
                        else now - pick.randrange(_YEAR_SECONDS)
                    ),
                    audience=source.audience(author_id),
                )
                for position in range(posts)
            ]
        )
        with may_be_refused():
            source.stubs.feed.ImportPosts(iter([chunk]))
    source.posts = [
        pb.PostName(author_id=item.author_id, post_id=item.post_id)
        for item in changes.world(worlds).posts
    ]
    source.publish(number - authors.total())


def _score(changes: Changes, worlds: Worlds) -> None:
    """Let most posts be scored, many alike, and let some people mark their feeds as read."""
    pick, feed = changes.pick, changes.source.stubs.feed
    posts = [
        pb.PostName(author_id=item.author_id, post_id=item.post_id)
        for item in changes.world(worlds).posts
    ]
    scored = pick.sample(posts, int(len(posts) * _SCORED))
    for first in range(0, len(scored), _MOST_SCORES):
        scores = [
            pb.SetPostImportanceRequest.PostImportance(post=post, importance=pick.choice(_SCORES))
            for post in scored[first : first + _MOST_SCORES]
        ]
        feed.SetPostImportance(pb.SetPostImportanceRequest(scores=scores))
    for user_id in changes.ids[::_EVERY_READER]:
        with may_be_refused():
            feed.MarkFeedRead(pb.MarkFeedReadRequest(user_id=user_id, post=pick.choice(posts)))


def _mute(stubs: Stubs, owner_id: int, tag_id: int) -> None:
    tag, mask = pb.Tag(tag_id=tag_id, muted=True), FieldMask(paths=["muted"])
    with may_be_refused():
        stubs.feed.UpdateTag(pb.UpdateTagRequest(user_id=owner_id, tag=tag, update_mask=mask))


def _give(changes: Changes, worlds: Worlds, *, share: float) -> None:
    peers, people = _peers(changes, worlds), People(changes.source.stubs)
    for owner_id, tag_id in changes.source.tags:
        if given := [peer_id for peer_id in peers[owner_id] if changes.pick.random() < share]:
            with may_be_refused():
                people.give(owner_id, tag_id, *given)


def _part(changes: Changes, worlds: Worlds) -> None:
    peers, people = _peers(changes, worlds), People(changes.source.stubs)
    for one, other in itertools.combinations(changes.ids, 2):
        if other in peers[one] and changes.pick.random() < _PARTED:
            people.remove(one, other)
            if changes.pick.random() < _RECONNECTED:
                people.connect(one, other)


def _peers(changes: Changes, worlds: Worlds) -> dict[int, list[int]]:
    world = changes.world(worlds)
    return {
        user_id: [
            peer_id
            for peer_id in changes.ids
            if world.connections.get(frozenset((user_id, peer_id)), (0, False))[1]
            and peer_id not in world.suspended
        ]
        for user_id in changes.ids
    }
