"""The data set of the benchmarks is one that the services could have made themselves."""

from contextlib import closing
from typing import Any

import pytest
from rich.progress import Progress

from benchmarks.dataset import SEED, connect, load
from benchmarks.world import Kind, Size, World, make_world
from tests.support.pair import Databases

_SIZE = Size(
    name="tiny",
    people=400,
    connections=4_000,
    posts=4_000,
    special_people=60,
    degrees=(10, 60),
    viewers_of_a_kind=2,
)

Rows = list[tuple[Any, ...]]


class Loaded:
    """A small world and the databases that it is in."""

    def __init__(self, world: World, databases: Databases) -> None:
        self.world = world
        self.empty_urls = {service: databases.new(service) for service in ("graph", "feed")}
        self.urls = {service: databases.new(service) for service in ("graph", "feed")}
        with Progress(disable=True) as bar:
            load(world, graph_url=self.urls["graph"], feed_url=self.urls["feed"], bar=bar)

    def rows(self, service: str, statement: str) -> Rows:
        """Return what a statement finds."""
        return _rows(self.urls[service], statement)


@pytest.fixture(scope="module")
def loaded(databases: Databases) -> Loaded:
    """A world of 400 people."""
    return Loaded(make_world(_SIZE, seed=SEED), databases)


def test_a_seed_makes_the_same_world_again(loaded: Loaded) -> None:
    again = make_world(_SIZE, seed=SEED)

    assert again.viewers == loaded.world.viewers
    assert (again.pairs.a == loaded.world.pairs.a).all()
    assert (again.posts.time == loaded.world.posts.time).all()


def test_there_is_about_as_much_as_the_size_says(loaded: Loaded) -> None:
    [[pairs]] = loaded.rows("graph", "SELECT count(*) FROM connections")
    [[posts]] = loaded.rows("feed", "SELECT count(*) FROM posts")

    assert pairs == pytest.approx(_SIZE.connections, rel=0.2)
    assert posts == pytest.approx(_SIZE.posts, rel=0.2)


def test_every_index_and_key_is_there_again(loaded: Loaded) -> None:
    definitions = """
        SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = CAST('public' AS regnamespace)
        ORDER BY 1, 2
    """

    for service in ("graph", "feed"):
        migrated = _rows(loaded.empty_urls[service], definitions)
        assert loaded.rows(service, definitions) == migrated


def test_everybody_has_as_many_connections_as_are_counted(loaded: Loaded) -> None:
    wrong = loaded.rows(
        "graph",
        """SELECT u.user_id FROM users AS u WHERE u.connection_count <>
               (SELECT count(*) FROM connections AS c
                WHERE u.user_id IN (c.user_a_id, c.user_b_id) AND c.status = 'accepted')""",
    )

    assert wrong == []
    assert loaded.rows("graph", "SELECT count(*) FROM users") == [(_SIZE.people,)]


def test_special_viewers_have_exactly_their_degree(loaded: Loaded) -> None:
    users = loaded.rows("graph", "SELECT user_id, connection_count FROM users")
    counts: dict[int, int] = dict(users)

    assert {viewer.kind for viewer in loaded.world.viewers} == set(Kind)
    assert [counts[viewer.user_id] for viewer in loaded.world.viewers] == [
        viewer.degree for viewer in loaded.world.viewers
    ]


def test_tags_are_given_to_connections_at_a_revision_that_holds(loaded: Loaded) -> None:
    connected = set(
        loaded.rows(
            "graph",
            """SELECT user_a_id, user_b_id FROM connections WHERE status = 'accepted'
               UNION ALL SELECT user_b_id, user_a_id FROM connections WHERE status = 'accepted'""",
        )
    )
    given = set(loaded.rows("feed", "SELECT owner_user_id, target_user_id FROM user_tags"))
    [[highest_ending]] = loaded.rows(
        "graph", "SELECT max(greatest(user_a_revision, user_b_revision)) FROM endings"
    )
    [[lowest_given, highest_given]] = loaded.rows(
        "feed", "SELECT min(owner_revision), max(owner_revision) FROM user_tags"
    )
    [[lowest_revision]] = loaded.rows("graph", "SELECT min(revision) FROM users")

    assert given
    assert given <= connected
    assert highest_ending < lowest_given <= highest_given <= lowest_revision


def test_audiences_are_of_each_kind_and_complete(loaded: Loaded) -> None:
    kinds = loaded.rows(
        "feed",
        """SELECT p.audience, count(*),
                  bool_and((p.audience = 'tags') = EXISTS (
                      SELECT FROM post_audience_tags AS tag
                      WHERE tag.author_id = p.author_id AND tag.post_id = p.id
                        AND NOT tag.excluded))
           FROM posts AS p GROUP BY 1 ORDER BY 1""",
    )
    excluding = loaded.rows(
        "feed",
        """SELECT DISTINCT p.audience FROM post_audience_tags AS tag
           JOIN posts AS p ON p.author_id = tag.author_id AND p.id = tag.post_id
           WHERE tag.excluded ORDER BY 1""",
    )

    assert [(kind, is_complete) for kind, _, is_complete in kinds] == [
        ("all", True),
        ("private", True),
        ("tags", True),
    ]
    assert excluding == [("all",), ("tags",)]


def test_what_is_copied_from_posts_equals_them(loaded: Loaded) -> None:
    other_times = loaded.rows(
        "feed",
        """SELECT FROM post_audience_tags AS tag
           JOIN posts AS p ON p.author_id = tag.author_id AND p.id = tag.post_id
           WHERE p.created_at <> tag.created_at""",
    )
    other_counts = loaded.rows(
        "feed",
        """SELECT FROM posts AS p
           LEFT JOIN post_stats AS stats ON stats.author_id = p.author_id AND stats.post_id = p.id
           WHERE coalesce(stats.comment_count, 0) <>
               (SELECT count(*) FROM comments AS c
                WHERE c.post_author_id = p.author_id AND c.post_id = p.id)""",
    )

    assert other_times == []
    assert other_counts == []


def test_nobody_has_a_tag_by_which_the_unseen_post(loaded: Loaded) -> None:
    [viewer, *_] = [each for each in loaded.world.viewers if each.kind is Kind.INVISIBLE]
    peers = loaded.rows(
        "graph",
        f"""SELECT CASE WHEN user_a_id = {viewer.user_id} THEN user_b_id ELSE user_a_id END
            FROM connections WHERE {viewer.user_id} IN (user_a_id, user_b_id)""",
    )
    ids = ", ".join(str(peer) for (peer,) in peers)

    [[posts, seen]] = loaded.rows(
        "feed",
        f"""SELECT count(*), count(*) FILTER (WHERE p.audience = 'all' OR EXISTS (
                SELECT FROM post_audience_tags AS tag JOIN user_tags AS given
                    ON given.owner_user_id = tag.author_id AND given.tag_id = tag.tag_id
                WHERE tag.author_id = p.author_id AND tag.post_id = p.id))
            FROM posts AS p WHERE p.author_id IN ({ids})""",
    )

    assert posts > 0
    assert seen == 0


def test_the_next_post_gets_a_new_id(loaded: Loaded) -> None:
    [[highest]] = loaded.rows("feed", "SELECT max(id) FROM posts")
    [[following]] = loaded.rows("feed", "SELECT nextval(pg_get_serial_sequence('posts', 'id'))")

    assert following == highest + 1


def _rows(url: str, statement: str) -> Rows:
    with closing(connect(url)) as session, session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()
