"""The pages of thousands of random feeds are those of the rule applied to every single post.

The rule is asked of one PostgreSQL, also where the pages are those of a Citus. The statements that
are for a Citus are tried without one as well.

The number of worlds is that of KITH_WORLDS; `make oracle` makes more than `make test` does.
"""

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from psycopg2.extras import execute_values
from sqlalchemy import Connection, text

from feed_service.layouts import SINGLE, Layout
from feed_service.queries.feed import FeedFilter, FeedPart
from feed_service.queries.posts import PostRow
from feed_service.settings import HubScan
from feed_service.viewers import Viewer
from shared.database.arrays import array_literal
from shared.database.reader import Reader
from tests.support.pair import FORMS, LAYOUT, Databases
from tests.support.plain_feed import plain_feed
from tests.support.reading import new_reader

_WORLDS = int(os.environ.get("KITH_WORLDS", "75"))
# So many share a database: the plain rule looks at all that is there.
_BATCH = 250
_FILTERS = 8
_PAGES = 5
_NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
_LATER = datetime(2100, 1, 1, tzinfo=UTC)
_END_OF_TIME = (datetime(9999, 1, 1, tzinfo=UTC), 2**63 - 1)
_BEGINNING = (datetime(1970, 1, 1, tzinfo=UTC), 0)
_NEVER_A_HUB = HubScan(degree=1_000, rows=8_000)
# Always, never, and from in between; finding all, some and nothing of the page.
_HUB_SCANS = [
    _NEVER_A_HUB,
    HubScan(degree=0, rows=8_000),
    HubScan(degree=4, rows=8_000),
    HubScan(degree=0, rows=40),
    HubScan(degree=0, rows=3),
    HubScan(degree=0, rows=0),
]

# For the statements of a Citus. The triggers have added those who have posts for others.
_ADD_AUTHORS = "INSERT INTO authors SELECT DISTINCT author_id FROM posts ON CONFLICT DO NOTHING"
# A bound that is too high must not change a page, nor a tag that no post names.
_RAISE_BOUNDS = """
    UPDATE authors
    SET open_until = CASE author_id % 4 WHEN 0 THEN 'infinity'
                     WHEN 1 THEN open_until + interval '1 day' ELSE open_until END,
        tagged_until = CASE author_id % 3 WHEN 0 THEN 'infinity' ELSE tagged_until END,
        named_tags = CASE author_id % 5 WHEN 0 THEN -1 ELSE named_tags END
"""

Row = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class _World:
    """A viewer and everybody whose posts might be in their feed."""

    viewer: Viewer
    connected: Sequence[int]
    strangers: Sequence[int]
    own_tags: Sequence[int]


class _Worlds:
    """Makes worlds that share one database, each with people of its own."""

    def __init__(self, seed: int) -> None:
        self._pick = random.Random(seed)
        self._post_ids = list(range(1, 400 * _BATCH))
        self._pick.shuffle(self._post_ids)
        self.tags: list[Row] = []
        self.given: list[Row] = []
        self.posts: list[Row] = []
        self.named: list[Row] = []

    def world(self, viewer: int) -> _World:
        """Return a new world; its rows are to be stored."""
        pick = self._pick
        others = list(range(viewer + 1, viewer + 1 + pick.choice([1, 3, 6, 12])))
        connected = [person for person in others if pick.random() < 0.85]
        reconnected = [person for person in connected if pick.random() < 0.3]
        for owner in (viewer, *others):
            self._give(owner, others if owner == viewer else [viewer])
        busy = pick.sample([viewer, *others], k=pick.randint(1, len(others) + 1))
        for _ in range(pick.choice([0, 0, 3, 3, 20, 20, 60, 60, 160, 400])):
            self._post(pick.choice(busy), excluding=pick.choice([0.0, 0.4]))
        revisions = [array_literal(pick.randint(1, 4) for _ in reconnected) for _ in range(2)]
        return _World(
            viewer=Viewer(
                user_id=viewer,
                connected_ids=array_literal(connected),
                reconnected_ids=array_literal(reconnected),
                own_revisions=revisions[0],
                peer_revisions=revisions[1],
            ),
            connected=connected,
            strangers=[person for person in others if person not in connected],
            own_tags=_tags(viewer),
        )

    def among(self, world: _World) -> FeedFilter:
        """Return a filter for a world, often none."""
        pick = self._pick
        return FeedFilter(
            author_ids=pick.choice(
                [
                    world.viewer.connected_ids,
                    world.viewer.connected_among(self._some([*world.connected, *world.strangers])),
                ]
            ),
            tag_ids=pick.choice([(), (), self._some(world.own_tags)]),
            with_own=pick.random() < 0.8,
            with_muted=pick.random() < 0.3,
        )

    def part(self, rows: Sequence[PostRow]) -> FeedPart:
        """Return a part of a feed that consists of these rows."""
        pick = self._pick
        positions = sorted((row.created_at, row.id) for row in rows) or [_BEGINNING]
        after, before = sorted([pick.choice(positions), pick.choice(positions)])
        seen = [row.id for row in rows if pick.random() < 0.2]
        guess = _NOON - timedelta(minutes=pick.randint(0, 100))
        return FeedPart(
            before=pick.choice([_END_OF_TIME, before]),
            after=pick.choice([_BEGINNING, _BEGINNING, after]),
            seen_ids=pick.choice([(), (), seen]),
            guess=pick.choice([None, guess, guess, after[0]]),
        )

    def limit(self) -> int:
        """Return the size of a page, from one post and one more than fits to the largest."""
        return self._pick.choice([1, 2, 3, 21, 101, self._pick.randint(1, 101)])

    def hub_scan(self) -> HubScan:
        """Return a way to treat viewers with very many connections."""
        return self._pick.choice(_HUB_SCANS)

    def layout(self) -> Layout:
        """Return a layout whose statements the database can be read by."""
        return self._pick.choice(FORMS)

    def _give(self, owner: int, people: Sequence[int]) -> None:
        for tag in _tags(owner):
            # A deleted tag that still excludes has its members, as any other.
            deleted = _NOON if self._pick.random() < 0.1 else None
            muted = self._pick.choice([None, None, None, "infinity", _LATER, _NOON])
            self.tags.append((owner, tag, f"tag {tag}", deleted, muted))
            self.given += [
                (owner, tag, person, self._pick.randint(1, 4)) for person in self._some(people)
            ]

    def _post(self, author: int, *, excluding: float) -> None:
        pick = self._pick
        post_id = self._post_ids.pop()
        # So few moments that many posts share one.
        at = _NOON - timedelta(minutes=pick.choice([1, 1, pick.randint(1, 90)]))
        audience = pick.choice(["all", "all", "tags", "tags", "private"])
        # Some rows say what no writer means: tags of a post for ALL or for PRIVATE.
        included = self._some(_tags(author)) if audience == "tags" or pick.random() < 0.1 else ()
        excluded = self._some(_tags(author)) if pick.random() < excluding else ()
        deleted = at if pick.random() < 0.1 else None
        shown, chosen, moderated = audience, None, None
        if pick.random() < 0.1:
            shown, chosen, moderated = "moderated", audience, at
        self.posts.append(
            (author, post_id, f"post {post_id}", shown, 5, at, deleted, chosen, moderated)
        )
        self.named += [
            (author, post_id, tag, tag not in included, at) for tag in {*included, *excluded}
        ]

    def _some(self, ids: Sequence[int]) -> list[int]:
        return [each for each in ids if self._pick.random() < 0.5]


def _tags(owner: int) -> list[int]:
    return [owner * 10, owner * 10 + 1, owner * 10 + 2]


@pytest.fixture(scope="module")
def database(databases: Databases) -> Iterator[Connection]:
    yield from _connected(databases.new("feed"))


@pytest.fixture(scope="module")
def plain(databases: Databases, database: Connection) -> Iterator[Connection]:
    """Where the plain rule is asked: the same database, unless that is distributed."""
    if LAYOUT is SINGLE:
        yield database
    else:
        yield from _connected(databases.new_single("feed"))


def _connected(url: str) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        poolclass=sqlalchemy.NullPool,
        connect_args={"options": "-c jit=off -c timezone=UTC"},
    )
    with engine.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def reader(database: Connection) -> Iterator[Reader]:
    """The same database as the services read it."""
    reader = new_reader(database.engine.url.render_as_string(hide_password=False))
    yield reader
    reader.close()


@pytest.mark.timeout(600 + _WORLDS)
def test_the_pages_of_random_feeds_are_those_of_the_plain_rule(
    database: Connection, plain: Connection, reader: Reader
) -> None:
    sizes = set[int]()
    for first in range(0, _WORLDS, _BATCH):
        worlds = _Worlds(seed=20261125 + first)
        number_of_worlds = min(_BATCH, _WORLDS - first)
        made = [worlds.world(viewer=100 * number) for number in range(1, number_of_worlds + 1)]
        for connection in {database, plain}:
            _store(connection, worlds)
        for world in made:
            sizes.update(_compared(plain, reader, worlds, world))

    assert {0, 1, 2, 21, 101} <= sizes


def _compared(
    plain_database: Connection, reader: Reader, worlds: _Worlds, world: _World
) -> Iterator[int]:
    """Compare pages of a world's feeds, and return how many posts they have."""
    for _ in range(_FILTERS):
        among = worlds.among(world)
        plain = plain_feed(plain_database, viewer=world.viewer, among=among)
        for _ in range(_PAGES):
            part, limit, scan = worlds.part(plain.rows), worlds.limit(), worlds.hub_scan()
            layout = worlds.layout()
            page = layout.feed_page(
                reader,
                viewer=world.viewer,
                among=among,
                part=part,
                limit=limit,
                hub_scan=scan,
            )
            assert page == plain.page(part, limit), (world, among, part, limit, scan, layout.name)
            yield len(page)


def _store(connection: Connection, worlds: _Worlds) -> None:
    connection.execute(text("TRUNCATE posts, tags, authors CASCADE"))
    _insert(connection, "tags (owner_user_id, id, name, deleted_at, muted_until)", worlds.tags)
    _insert(
        connection,
        "user_tags (owner_user_id, tag_id, target_user_id, owner_revision)",
        worlds.given,
    )
    _insert(
        connection,
        "posts (author_id, id, body, audience, importance, created_at, deleted_at,"
        " chosen_audience, moderated_at)",
        worlds.posts,
    )
    _insert(
        connection,
        "post_audience_tags (author_id, post_id, tag_id, excluded, created_at)",
        worlds.named,
    )
    connection.execute(text(_ADD_AUTHORS))
    if LAYOUT is SINGLE:
        # A distributed database reads no bounds.
        connection.execute(text(_RAISE_BOUNDS))
    connection.execute(text("ANALYZE"))


def _insert(connection: Connection, columns: str, rows: Sequence[Row]) -> None:
    cursor = connection.connection.cursor()
    execute_values(cursor, f"INSERT INTO {columns} VALUES %s", rows, page_size=1_000)
    cursor.close()
