"""A world of people, connections, tags and posts as arrays, the same for the same seed.

The degree follows a power law with exponent 2.5, as in many social graphs (Clauset, Shalizi and
Newman, SIAM Review 51, 2009), and the number of posts a log-normal one. Some people are special:

- viewers of exactly so many connections, whose feeds are measured. Those of the kind ORDINARY are
  connected with anybody; RARE with people who hardly ever post; INVISIBLE with people of whose
  posts they see none;
- those people who hardly post, and those whose posts are hidden from all.

These people have no other connections, so that the degrees are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

YEAR_MICROSECONDS: Final = 365 * 24 * 3600 * 10**6
# Tags of an owner by their index: those that people are given, and those that are never given.
GIVEN_TAGS: Final = 5
TAGS_PER_OWNER: Final = 8

AUDIENCE_ALL: Final = 0
AUDIENCE_TAGS: Final = 1
AUDIENCE_PRIVATE: Final = 2

_EXPONENT = 2.5
_POSTS_SIGMA = 1.35
_LARGEST_ORDINARY_DEGREE = 3_000
_HALF = 0.5
_ACCEPTED = 0.92
_TAGGED_DIRECTIONS = 0.3
_SECOND_TAG = 0.25
_ENDED_BEFORE = 0.002
_EXCLUDING = 0.08
_DELETED = 0.005
_COMMENTED = 0.15
_POSTS_OF_A_VIEWER = 30
_POSTS_OF_THE_RARE = 0.3


class Kind(StrEnum):
    """What sort of people a viewer is connected with."""

    ORDINARY = "ordinary"
    RARE = "rare"
    INVISIBLE = "invisible"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is of everything.

    `special_people` is the number of people who rarely post, and as many again whose posts are
    hidden. `degrees` are those of the ordinary viewers, the largest also that of the others.
    """

    name: str
    people: int
    connections: int
    posts: int
    special_people: int
    degrees: Sequence[int] = (10, 150, 1_000, 5_000)
    viewers_of_a_kind: int = 10


SMALL = Size(
    name="small",
    people=2_000,
    connections=100_000,
    posts=100_000,
    special_people=0,
    degrees=(10, 150, 1_000),
)
QUICK = Size(
    name="quick", people=20_000, connections=1_000_000, posts=1_000_000, special_people=5_200
)
FULL = Size(
    name="full",
    people=200_000,
    connections=15_000_000,
    posts=10_000_000,
    special_people=10_000,
    viewers_of_a_kind=20,
)


@dataclass(frozen=True, kw_only=True)
class SpecialViewer:
    """A viewer whose feed is measured."""

    user_id: int
    degree: int
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Connections and requests, in no order; the lower id is `a`."""

    a: Ids
    b: Ids
    is_accepted: Flags
    is_requested_by_a: Flags
    ended_before: Flags
    """Whether an earlier connection between the two has ended."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """Tags given to people, by the index of the tag among those of its owner."""

    owner: Ids
    target: Ids
    index: Ids


@dataclass(frozen=True, kw_only=True)
class Posts:
    """Posts in the order of their times, which are microseconds from the start of the year.

    A post with TAGS has `tag_count` of its author's tags, from the index `first_tag` on and around
    the end of those given or never given. `excluded_tag` is the index of one more tag, or -1.
    """

    author: Ids
    time: Ids
    audience: Ids
    tag_count: Ids
    first_tag: Ids
    excluded_tag: Ids
    importance: Ids
    photo_count: Ids
    comment_count: Ids
    is_deleted: Flags

    def tag_index(self, number: int) -> Ids:
        """The index of each post's tag of this number, from 0; means something below tag_count."""
        never_given = self.first_tag >= GIVEN_TAGS
        start = np.where(never_given, GIVEN_TAGS, 0)
        length = np.where(never_given, TAGS_PER_OWNER - GIVEN_TAGS, GIVEN_TAGS)
        return np.asarray(start + (self.first_tag - start + number) % length)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that is to be loaded."""

    size: Size
    viewers: list[SpecialViewer]
    ordinary_ids: Ids
    pairs: Pairs
    given: Given
    posts: Posts


@dataclass(frozen=True, kw_only=True)
class _Roles:
    """Who is what; the ids of a role are spread over all ids."""

    viewers: Ids
    rare: Ids
    invisible: Ids
    ordinary: Ids


def make_world(size: Size, *, seed: int) -> World:
    """Return the world of a size and a seed."""
    random = np.random.default_rng(seed)
    kinds = _viewer_kinds(size)
    roles = _roles(size, len(kinds), random)
    viewers = [
        SpecialViewer(user_id=int(user_id), degree=degree, kind=kind)
        for user_id, (degree, kind) in zip(roles.viewers, kinds, strict=True)
    ]
    pairs = _pairs(size, roles, viewers, random)
    return World(
        size=size,
        viewers=viewers,
        ordinary_ids=roles.ordinary,
        pairs=pairs,
        given=_given(pairs, random),
        posts=_posts(size, roles, random),
    )


def _viewer_kinds(size: Size) -> list[tuple[int, Kind]]:
    kinds = [(degree, Kind.ORDINARY) for degree in size.degrees]
    if size.special_people:
        kinds += [(max(size.degrees), Kind.RARE), (max(size.degrees), Kind.INVISIBLE)]
    return [kind for kind in kinds for _ in range(size.viewers_of_a_kind)]


def _roles(size: Size, viewer_count: int, random: np.random.Generator) -> _Roles:
    shuffled = random.permutation(size.people).astype(np.int64) + 1
    ends = np.cumsum([viewer_count, size.special_people, size.special_people])
    viewers, rare, invisible, ordinary = np.split(shuffled, ends)
    return _Roles(viewers=viewers, rare=rare, invisible=invisible, ordinary=ordinary)


def _pairs(
    size: Size, roles: _Roles, viewers: Sequence[SpecialViewer], random: np.random.Generator
) -> Pairs:
    first, second = _special_pairs(roles, viewers, random)
    a, b = _power_law_pairs(size, roles, size.connections - len(first), random)
    accepted = np.concatenate([random.random(len(a)) < _ACCEPTED, np.ones(len(first), bool)])
    a = np.concatenate([a, np.minimum(first, second)])
    b = np.concatenate([b, np.maximum(first, second)])
    # A table that has grown has its rows in no order of ids.
    order = random.permutation(len(a))
    return Pairs(
        a=a[order],
        b=b[order],
        is_accepted=accepted[order],
        is_requested_by_a=random.random(len(a)) < _HALF,
        ended_before=(random.random(len(a)) < _ENDED_BEFORE) & accepted[order],
    )


def _special_pairs(
    roles: _Roles, viewers: Sequence[SpecialViewer], random: np.random.Generator
) -> tuple[Ids, Ids]:
    pools = {
        Kind.ORDINARY: roles.ordinary,
        Kind.RARE: roles.rare,
        Kind.INVISIBLE: roles.invisible,
    }
    peers = [random.choice(pools[viewer.kind], viewer.degree, replace=False) for viewer in viewers]
    ids = np.array([viewer.user_id for viewer in viewers], np.int64)
    return np.repeat(ids, [len(some) for some in peers]), np.concatenate(peers)


def _power_law_pairs(
    size: Size, roles: _Roles, wanted: int, random: np.random.Generator
) -> tuple[Ids, Ids]:
    """Return about so many different pairs of people who are no viewers."""
    people = np.concatenate([roles.rare, roles.invisible, roles.ordinary])
    degree = (1 - random.random(len(people))) ** (-1 / (_EXPONENT - 1))
    largest = min(_LARGEST_ORDINARY_DEGREE, len(people) // 4)
    for _ in range(3):
        # Cutting off the largest lowers the mean, so scale and cut again.
        degree = np.clip(degree * (2 * wanted / degree.sum()), 1, largest)
    ends = np.repeat(people, np.round(degree).astype(np.int64))
    random.shuffle(ends)
    pairs = ends[: len(ends) // 2 * 2].reshape(-1, 2)
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    keys = np.unique(low[low != high] * (size.people + 1) + high[low != high])
    return keys // (size.people + 1), keys % (size.people + 1)


def _given(pairs: Pairs, random: np.random.Generator) -> Given:
    a, b = pairs.a[pairs.is_accepted], pairs.b[pairs.is_accepted]
    owner, target = np.concatenate([a, b]), np.concatenate([b, a])
    tagged = random.random(len(owner)) < _TAGGED_DIRECTIONS
    owner, target = owner[tagged], target[tagged]
    index = random.integers(0, GIVEN_TAGS, len(owner))
    twice = random.random(len(owner)) < _SECOND_TAG
    order = random.permutation(len(owner) + int(twice.sum()))
    return Given(
        owner=np.concatenate([owner, owner[twice]])[order],
        target=np.concatenate([target, target[twice]])[order],
        index=np.concatenate([index, (index[twice] + 1) % GIVEN_TAGS])[order],
    )


def _posts(size: Size, roles: _Roles, random: np.random.Generator) -> Posts:
    author = _authors(size, roles, random)
    count = len(author)
    is_unseen = np.zeros(size.people + 1, bool)
    is_unseen[roles.invisible] = True
    unseen = is_unseen[author]
    audience = random.choice(3, count, p=[0.6, 0.3, 0.1])
    audience[unseen] = random.choice([AUDIENCE_TAGS, AUDIENCE_PRIVATE], int(unseen.sum()))
    first_tag = np.where(
        unseen,
        random.integers(GIVEN_TAGS, TAGS_PER_OWNER, count),
        random.integers(0, GIVEN_TAGS, count),
    )
    # Behind the two that follow the first one, which are the post's own.
    excludes = (random.random(count) < _EXCLUDING) & (audience != AUDIENCE_PRIVATE) & ~unseen
    commented = random.random(count) < _COMMENTED
    return Posts(
        author=author,
        time=np.sort(random.integers(0, YEAR_MICROSECONDS, count)),
        audience=audience,
        tag_count=np.where(audience == AUDIENCE_TAGS, random.integers(1, 4, count), 0),
        first_tag=first_tag,
        excluded_tag=np.where(excludes, (first_tag + 3) % GIVEN_TAGS, -1),
        importance=random.choice(
            np.arange(1, 11), count, p=[0.15, 0.1, 0.1, 0.15, 0.2, 0.1, 0.08, 0.06, 0.04, 0.02]
        ),
        photo_count=random.choice(5, count, p=[0.35, 0.35, 0.15, 0.1, 0.05]),
        comment_count=np.where(commented, random.integers(1, 4, count), 0),
        is_deleted=random.random(count) < _DELETED,
    )


def _authors(size: Size, roles: _Roles, random: np.random.Generator) -> Ids:
    """Return the author of each post, in no order."""
    expected = np.zeros(size.people + 1)
    expected[roles.ordinary] = random.lognormal(0, _POSTS_SIGMA, len(roles.ordinary))
    expected[roles.invisible] = expected[roles.ordinary].mean()
    expected *= size.posts / expected.sum()
    expected[roles.viewers] = _POSTS_OF_A_VIEWER
    expected[roles.rare] = _POSTS_OF_THE_RARE
    author = np.repeat(np.arange(size.people + 1), random.poisson(expected))
    random.shuffle(author)
    return author
