"""The sample: a small world of people with posts, tags and audiences, the same for the same seed.

The graph is that of Watts and Strogatz (Nature 393, 1998): neighbours on a ring, some of them
replaced by strangers, so that friends know each other and yet all people are a few steps apart.
"""

from dataclasses import dataclass
from datetime import timedelta
from random import Random

from kith.feed.v1 import feed_pb2

FEWEST_PEOPLE = 20

_NEIGHBOURS_ON_EACH_SIDE = 6
_STRANGERS = 0.1
_POSTS_PER_PERSON = 2
_OLDEST = timedelta(days=14)
_TAG_NAMES = ("family", "friends", "work")
_EVERY_NTH_HAS_TAGS = 8

_TEMPLATES = (
    "Finally tried {dish} at {place}. {verdict}",
    "Does anybody have a good recipe for {dish}? Mine is {adjective} at best.",
    "{dish} for dinner, {activity} afterwards. {verdict}",
    "Off to {place} for {activity} on {day}. Who is coming along?",
    "{activity} on {day} was {adjective}. {verdict}",
    "Lost my {thing} somewhere near {place}. If you find it, I owe you {dish}.",
    "Anyone free on {day}? We still need one more for {activity}.",
    "New {thing}! {verdict}",
    "Selling my old {thing}, hardly used. First come, first served.",
    "It rained all the way to {place} and it was still {adjective}.",
    "Can somebody lend me a {thing} until {day}?",
    "Three years of {activity} today. {verdict}",
    "Overheard at {place}: “My {thing} is more {adjective} than yours.”",
    "Remember the {thing} from {place}? It works again! {verdict}",
    "Reading about {activity} instead of doing it. As every {day}.",
    "{day} plan: {dish}, {place}, {activity}. In that order.",
    "My neighbour plays the {thing} at six in the morning. {verdict}",
    "The new café by {place} has {dish}. {verdict}",
    "Somebody told me {activity} is {adjective}. Somebody was right.",
    "Good morning from {place} ☀️",
)
_WORDS = {
    "dish": (
        "lentil soup",
        "shakshuka",
        "pumpkin pie",
        "ramen",
        "plum dumplings",
        "paella",
        "cinnamon rolls",
        "jollof rice",
        "mushroom risotto",
        "pierogi",
    ),
    "place": (
        "the old harbour",
        "the botanical garden",
        "the night market",
        "the lake",
        "the library",
        "Mill Street",
        "the lighthouse",
        "the flea market",
        "the town hall",
        "the north beach",
    ),
    "activity": (
        "bouldering",
        "choir practice",
        "a long walk",
        "chess",
        "the film club",
        "swimming",
        "bird watching",
        "pottery",
        "the pub quiz",
        "five-a-side",
    ),
    "thing": (
        "bicycle",
        "ladder",
        "umbrella",
        "trumpet",
        "record player",
        "tent",
        "sewing machine",
        "telescope",
        "blue scarf",
        "accordion",
    ),
    "adjective": ("wonderful", "exhausting", "surprising", "mediocre", "loud", "lovely", "odd"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "verdict": (
        "Would do it again.",
        "Never again!",
        "Ten out of ten.",
        "Worth every minute.",
        "Ask me tomorrow.",
        "I cannot stop smiling 😄",
        "Not what I expected.",
        "You should have been there.",
        "Highly recommended 🎉",
    ),
}


@dataclass(frozen=True, kw_only=True)
class SampleTag:
    """A tag and the people who are given it, all of them connections of its owner."""

    name: str
    member_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SamplePost:
    """A draft whose audience names the author's tags."""

    author_id: int
    body: str
    kind: feed_pb2.AudienceKind.ValueType
    age: timedelta
    tag_names: tuple[str, ...] = ()
    excluded_tag_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """A sort of audience, and how many in a hundred posts have it."""

    weight: int
    kind: feed_pb2.AudienceKind.ValueType
    names_tags: bool = False
    excludes: bool = False


_SHAPES = (
    _Shape(weight=60, kind=feed_pb2.AUDIENCE_KIND_ALL),
    _Shape(weight=20, kind=feed_pb2.AUDIENCE_KIND_TAGS, names_tags=True),
    _Shape(weight=5, kind=feed_pb2.AUDIENCE_KIND_TAGS, names_tags=True, excludes=True),
    _Shape(weight=7, kind=feed_pb2.AUDIENCE_KIND_ALL, excludes=True),
    _Shape(weight=8, kind=feed_pb2.AUDIENCE_KIND_PRIVATE),
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """People 1 to `people`, their connections, tags and posts."""

    people: int
    pairs: list[tuple[int, int]]
    tags: dict[int, list[SampleTag]]
    posts: list[SamplePost]


def make_sample(people: int, *, seed: int = 1) -> Sample:
    """Return the sample of so many people, at least FEWEST_PEOPLE."""
    random = Random(seed)  # noqa: S311 -- it has to be repeatable, not unpredictable
    neighbours = _small_world(people, random)
    tags = {
        owner_id: _tags(sorted(neighbours[owner_id]), random)
        # Person 17, the example of the documentation, is one of them.
        for owner_id in range(1, people + 1, _EVERY_NTH_HAS_TAGS)
    }
    return Sample(
        people=people,
        pairs=sorted((a, b) for a, peers in neighbours.items() for b in peers if a < b),
        tags=tags,
        posts=[_post(people, list(tags), random) for _ in range(people * _POSTS_PER_PERSON)],
    )


def _small_world(people: int, random: Random) -> dict[int, set[int]]:
    neighbours: dict[int, set[int]] = {person: set() for person in range(1, people + 1)}
    for person, peers in neighbours.items():
        for step in range(1, _NEIGHBOURS_ON_EACH_SIDE + 1):
            peer = (person + step - 1) % people + 1
            if random.random() < _STRANGERS:
                peer = random.randint(1, people)
            # Meeting oneself or the same person twice makes no connection, so a few have fewer.
            if peer != person:
                peers.add(peer)
                neighbours[peer].add(person)
    return neighbours


def _tags(connected_ids: list[int], random: Random) -> list[SampleTag]:
    return [
        SampleTag(
            name=name,
            member_ids=tuple(
                random.sample(connected_ids, random.randint(1, (len(connected_ids) + 1) // 2))
            ),
        )
        for name in _TAG_NAMES
    ]


def _post(people: int, tag_owners: list[int], random: Random) -> SamplePost:
    body = random.choice(_TEMPLATES).format(
        **{kind: random.choice(words) for kind, words in _WORDS.items()}
    )
    body = body[0].upper() + body[1:]
    shape = random.choices(_SHAPES, [shape.weight for shape in _SHAPES])[0]
    anybody, owner = random.randint(1, people), random.choice(tag_owners)
    excluded, *shown = random.sample(_TAG_NAMES, random.randint(2, 3))
    return SamplePost(
        author_id=owner if shape.names_tags or shape.excludes else anybody,
        body=body,
        kind=shape.kind,
        age=_OLDEST * random.random(),
        tag_names=tuple(sorted(shown)) if shape.names_tags else (),
        excluded_tag_names=(excluded,) if shape.excludes else (),
    )
