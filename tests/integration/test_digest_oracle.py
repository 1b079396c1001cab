"""The digests of a thousand random weeks are those that a plain computation finds."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy
from sqlalchemy import Connection, text

from feed_service.layouts import Layout
from feed_service.models import MODERATED
from feed_service.settings import DigestRules, HubScan
from feed_service.viewers import Viewer
from feed_service.weeks import Week
from shared.database.arrays import array_literal
from shared.database.reader import Reader
from tests.support import digest_oracle as oracle
from tests.support.examples import examples
from tests.support.pair import FORMS, Databases
from tests.support.reading import new_reader

_WORLDS = examples(32)
_QUESTIONS = 32
# Every so manieth world has more in it than anybody reads.
_CROWDED = 16
_MICROSECOND = timedelta(microseconds=1)

# Days on which clocks were changed in every way, and one on which nothing happened.
_DAYS = [
    ("UTC", date(2026, 11, 25)),
    ("Europe/Lisbon", date(2026, 3, 29)),
    ("Europe/Lisbon", date(2026, 10, 25)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
    ("America/Sao_Paulo", date(2019, 2, 17)),
    ("America/Havana", date(2026, 11, 1)),
    ("Asia/Beirut", date(2022, 3, 27)),
    ("Africa/Cairo", date(2026, 10, 30)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Asia/Kathmandu", date(2026, 1, 1)),
    ("America/St_Johns", date(2007, 11, 4)),
    ("Pacific/Apia", date(2011, 12, 30)),
]
_ZONES = sorted({zone for zone, _ in _DAYS})
# Equal ones, and every threshold from both sides.
_IMPORTANCES = [0.0, 0.9, 1.0, 1.1, 2.5, 3.9, 4.0, 4.1, 5.0, 6.0, 6.0, 6.9, 7.0, 9.5, 10.0]
# Never, always, and from in between; the important posts found whole, in part and not at all.
_HUB_SCANS = [
    HubScan(degree=1_000, rows=8_000),
    HubScan(degree=0, rows=8_000),
    HubScan(degree=6, rows=8_000),
    HubScan(degree=0, rows=150),
    HubScan(degree=0, rows=20),
    HubScan(degree=0, rows=0),
]


class _Worlds:
    """Makes worlds of people and posts that share one database."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._post_ids = list(range(1, 100_000))
        self._random.shuffle(self._post_ids)

    def world(self, viewer: int) -> tuple[oracle.World, ZoneInfo, datetime]:
        """Return a world, and the time zone and the moment that its posts are around."""
        pick = self._random
        zone_name, day = pick.choice(_DAYS)
        zone = ZoneInfo(zone_name)
        middle = datetime.combine(day, time(12), UTC)
        is_crowded = viewer // 1_000 % _CROWDED == 0
        authors = range(viewer + 1, viewer + (80 if is_crowded else pick.randint(1, 8)))
        connected = frozenset(author for author in authors if pick.random() < 0.9)
        members = {
            tag: self._some(people)
            for owner, people in [(viewer, authors), *((author, [viewer]) for author in authors)]
            for tag in _tags(owner)
        }
        former = {tag: self._some([viewer]) - has for tag, has in members.items()}
        # A week may be quiet, of one importance throughout, and written by a few people alone.
        importances = pick.choice([_IMPORTANCES, _IMPORTANCES[:8], _IMPORTANCES[5:], [6.0]])
        busy = pick.sample([viewer, *authors], k=pick.randint(1, len(authors) + 1))
        days, counts = (4, [800]) if is_crowded else (9, [0, 5, 20, 60])
        posts = [
            self._post(pick.choice(busy), self._moment(middle, zone, days=days), importances)
            for _ in range(pick.choice(counts))
        ]
        muted = pick.choice([frozenset(), self._some(_tags(viewer))])
        world = oracle.World(
            viewer=viewer,
            connected=connected,
            members=members,
            former=former,
            posts=posts,
            muted=muted,
        )
        return world, zone, middle

    def question(self, world: oracle.World, zone: ZoneInfo, middle: datetime) -> oracle.Question:
        """Return a question about a world."""
        pick = self._random
        return oracle.Question(
            week_of=pick.choice([middle, self._moment(middle, zone)]),
            zone=pick.choice([zone, zone, ZoneInfo(pick.choice(_ZONES))]),
            start_day=pick.choice([7, 1, pick.randint(1, 7)]),
            tags=pick.choice([frozenset(), self._some(_tags(world.viewer))]),
            own=pick.random() < 0.5,
            read_at=pick.choice([None, None, self._moment(middle, zone)]),
            min_importance=pick.choice([1.0, 0.0, 4.0, 6.9]),
            per_author_and_day=pick.choice([2, 1, 3, 100]),
            max_posts=pick.choice([12, 12, 1, 2, 3, 7, 30]),
        )

    def hub_scan(self) -> HubScan:
        """Return a way to treat viewers with very many connections."""
        return self._random.choice(_HUB_SCANS)

    def layout(self) -> Layout:
        """Return a layout whose statements the database can be read by."""
        return self._random.choice(FORMS)

    def _post(self, author: int, at: datetime, importances: list[float]) -> oracle.Post:
        pick = self._random
        audience = pick.choice([oracle.ALL] * 6 + [oracle.TAGS] * 3 + [oracle.PRIVATE])
        tags = self._some(_tags(author)) if audience == oracle.TAGS else frozenset()
        return oracle.Post(
            author=author,
            id=self._post_ids.pop(),
            at=at,
            importance=pick.choice(importances),
            audience=audience,
            tags=tags,
            excluded=self._some(_tags(author)) - tags if pick.random() < 0.2 else frozenset(),
            deleted=pick.random() < 0.05,
            moderated=pick.random() < 0.05,
        )

    def _moment(self, middle: datetime, zone: ZoneInfo, *, days: int = 9) -> datetime:
        """Return a moment near the middle, often one that others have too or where a day begins."""
        pick = self._random
        day = middle.date() + timedelta(days=pick.randint(-days, days))
        edge = oracle.first_moment(day, zone) + pick.choice([-1, 0, 0, 1]) * _MICROSECOND
        shared = middle + timedelta(hours=12 * pick.randint(-2 * days, 2 * days))
        any_time = middle + timedelta(days=pick.uniform(-days, days))
        return pick.choice([edge, shared, any_time])

    def _some(self, ids: Sequence[int]) -> frozenset[int]:
        return frozenset(each for each in ids if self._random.random() < 0.5)


def _tags(owner: int) -> list[int]:
    return [owner * 10, owner * 10 + 1]


@pytest.fixture(scope="module")
def database(databases: Databases) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        databases.new("feed"),
        isolation_level="AUTOCOMMIT",
        poolclass=sqlalchemy.NullPool,
        connect_args={"options": "-c jit=off"},
    )
    with engine.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def reader(database: Connection) -> Iterator[Reader]:
    """The same database as the services read it."""
    reader = new_reader(database.engine.url.render_as_string(hide_password=False))
    yield reader
    reader.close()


# A distributed database takes minutes.
@pytest.mark.timeout(600)
def test_the_digests_of_random_weeks_are_those_of_the_oracle(
    database: Connection, reader: Reader
) -> None:
    worlds = _Worlds(seed=20261125)
    made = [worlds.world(viewer=1_000 * number) for number in range(1, _WORLDS + 1)]
    _store(database, [world for world, _, _ in made])

    reasons, left_out = set[str](), set[int]()
    for world, zone, middle in made:
        for _ in range(_QUESTIONS):
            question = worlds.question(world, zone, middle)
            expected = oracle.digest(world, question)
            scan, layout = worlds.hub_scan(), worlds.layout()
            found = _answer(reader, world, question, scan, layout)
            assert found == expected, (world, question, scan, layout.name)
            reasons |= {chosen.reason for chosen in expected[0]}
            left_out.add(expected[1])

    assert reasons == {"important", "filled_place"}
    assert {0, oracle.MOST_LEFT_OUT} <= left_out


def _answer(
    reader: Reader,
    world: oracle.World,
    question: oracle.Question,
    hub_scan: HubScan,
    layout: Layout,
) -> tuple[list[oracle.Chosen], int]:
    choice = layout.digest_choice(
        reader,
        viewer=Viewer(user_id=world.viewer, connected_ids=array_literal(world.connected)),
        week=Week.around(question.week_of, question.zone, start_day=question.start_day),
        read_at=question.read_at,
        rules=DigestRules(
            min_importance=question.min_importance,
            posts_per_author_per_day=question.per_author_and_day,
            max_posts=question.max_posts,
            week_start_day=question.start_day,
        ),
        tag_ids=sorted(question.tags),
        include_own_posts=question.own,
        hub_scan=hub_scan,
    )
    return [
        oracle.Chosen(
            author=chosen.post.author_id,
            id=chosen.post.id,
            importance=chosen.importance,
            reason=chosen.reason,
            day=chosen.day,
        )
        for chosen in choice.posts
    ], choice.left_out_count


def _store(connection: Connection, worlds: list[oracle.World]) -> None:
    tags = [
        (tag // 10, tag, "infinity" if tag in world.muted else None)
        for world in worlds
        for tag in world.members
    ]
    given = [
        (tag // 10, tag, person, revision)
        for world in worlds
        for revision, given_to in ((1, world.members), (0, world.former))
        for tag, people in given_to.items()
        for person in people
        if person != tag // 10
    ]
    posts = [post for world in worlds for post in world.posts]
    named = [
        (post.author, post.id, tag, excluded, post.at)
        for post in posts
        for excluded, post_tags in ((False, post.tags), (True, post.excluded))
        for tag in post_tags
    ]
    _insert(
        connection,
        "tags (owner_user_id, id, muted_until, name)",
        [(*tag, f"tag {tag[1]}") for tag in tags],
    )
    _insert(
        connection,
        "user_tags (owner_user_id, tag_id, target_user_id, owner_revision)",
        given,
    )
    _insert(
        connection,
        "posts (author_id, id, body, audience, importance, created_at, deleted_at,"
        " chosen_audience, moderated_at)",
        [
            (
                post.author,
                post.id,
                "body",
                MODERATED if post.moderated else post.audience,
                post.importance,
                post.at,
                post.at if post.deleted else None,
                post.audience if post.moderated else None,
                post.at if post.moderated else None,
            )
            for post in posts
        ],
    )
    _insert(
        connection, "post_audience_tags (author_id, post_id, tag_id, excluded, created_at)", named
    )
    connection.execute(text("ANALYZE"))


def _insert(connection: Connection, columns: str, rows: Sequence[tuple[object, ...]]) -> None:
    names = [f"v{number}" for number in range(len(rows[0]))]
    values = ", ".join(f":{name}" for name in names)
    connection.execute(
        text(f"INSERT INTO {columns} VALUES ({values})"),
        [dict(zip(names, row, strict=True)) for row in rows],
    )
