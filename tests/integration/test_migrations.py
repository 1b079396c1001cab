"""Migrations keep what is there, forward and back, and meet the code of the version before."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from feed_service import queries
from feed_service.importance import heuristic
from feed_service.queries.feed import FeedFilter, FeedPart
from feed_service.settings import HubScan
from feed_service.viewers import Viewer
from graph_service.queries import connected_ids
from kith.environment import SettingsError
from kith.exceptions import UnavailableError
from shared.api import idempotency
from shared.api.paging import NEWER_THAN_ALL, OLDER_THAN_ALL
from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.reading import new_reader


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield connection


# As the first version wrote them.
_OLD_POSTS = """
    INSERT INTO posts (author_id, body, audience)
    SELECT n % 50 + 1, repeat('x', n % 700 + 1), 'all' FROM generate_series(1, 12000) AS n
"""
# How many posts have another importance than new ones would.
_WRONGLY_SCORED = text(f"""
    SELECT count(*) FROM posts AS p
    WHERE abs(importance - {
    heuristic(
        body="body",
        photo_count='''(SELECT count(*) FROM post_photos AS photo
                        WHERE photo.author_id = p.author_id AND photo.post_id = p.id)''',
    )
}) > 0.0001
""")
_POSTS = "SELECT author_id, id, body, audience, created_at FROM posts ORDER BY author_id, id"


@pytest.fixture
def feed_url(cluster: EmbeddedPostgres, request: pytest.FixtureRequest) -> str:
    """An empty database with the first schema of the feed."""
    url = cluster.url(f"migrated_{request.node.name[:40]}")
    schema.upgrade("feed", url, "feed_0001")
    return url


def test_old_posts_are_scored_as_new_ones_are(feed_url: str) -> None:
    with _connected(feed_url) as connection:
        connection.execute(text(_OLD_POSTS))
        schema.upgrade("feed", feed_url)

        assert connection.execute(_WRONGLY_SCORED).scalar_one() == 0


def test_posts_written_without_importance_meanwhile_are_scored_as_well(feed_url: str) -> None:
    schema.upgrade("feed", feed_url, "feed_0004")
    with _connected(feed_url) as connection:
        connection.execute(text(_OLD_POSTS))
        connection.execute(
            text(
                "INSERT INTO post_photos SELECT author_id, id, place, id || '/' || place"
                " FROM posts, generate_series(1, 3) AS place WHERE id % 5 >= place"
            )
        )
        connection.execute(text("ALTER TABLE posts ADD CONSTRAINT has_importance CHECK (true)"))
        schema.upgrade("feed", feed_url)

        assert connection.execute(_WRONGLY_SCORED).scalar_one() == 0
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            connection.execute(text(_OLD_POSTS))
        schema.downgrade("feed", feed_url, "feed_0004")
        connection.execute(text(_OLD_POSTS))


def test_posts_survive_the_way_forward_and_back(feed_url: str) -> None:
    with _connected(feed_url) as connection:
        connection.execute(text(_OLD_POSTS))
        before = connection.execute(text(_POSTS)).all()

        schema.upgrade("feed", feed_url)
        forward = connection.execute(text(_POSTS)).all()
        schema.downgrade("feed", feed_url, "feed_0001")
        back = connection.execute(text(_POSTS)).all()

    assert forward == before
    assert back == before


def test_the_version_before_goes_on_writing_posts_and_replays(feed_url: str) -> None:
    schema.upgrade("feed", feed_url)
    with _connected(feed_url) as connection:
        for statement in (
            "INSERT INTO posts (author_id, body, audience, importance) VALUES (1, 'x', 'all', 5)",
            """INSERT INTO idempotency_keys (user_id, request_id, fingerprint, response)
               VALUES (1, gen_random_uuid(), 'x', 'x')""",
        ):
            assert connection.execute(text(statement)).rowcount == 1


def test_an_index_whose_build_broke_off_is_built_anew(feed_url: str) -> None:
    schema.upgrade("feed", feed_url, "feed_0002")
    with _connected(feed_url) as connection:
        connection.execute(text("CREATE INDEX idx_post_deleted_at ON posts (deleted_at)"))
        connection.execute(
            text(
                "UPDATE pg_index SET indisvalid = false"
                " WHERE indexrelid = 'idx_post_deleted_at'::regclass"
            )
        )
        schema.upgrade("feed", feed_url)

        state = text(
            "SELECT indisvalid, indpred IS NOT NULL FROM pg_index"
            " WHERE indexrelid = 'idx_post_deleted_at'::regclass"
        )
        assert connection.execute(state).one() == (True, True)


def test_every_migration_can_be_taken_back_and_repeated_with_data(feed_url: str) -> None:
    with _connected(feed_url) as connection:
        connection.execute(text(_OLD_POSTS))
        for _ in range(2):
            schema.upgrade("feed", feed_url)
            connection.execute(
                text(
                    "INSERT INTO comments (post_author_id, post_id, author_id, body)"
                    " SELECT author_id, id, 7, 'hello' FROM posts LIMIT 100"
                )
            )
            idempotency.purge(connection, limit=10)
            schema.downgrade("feed", feed_url, "feed_0001")

        assert connection.execute(text("SELECT count(*) FROM posts")).scalar_one() == 12_000


def test_names_of_tags_are_compared_alike_whatever_the_locale_of_the_database(
    cluster: EmbeddedPostgres,
) -> None:
    with _connected(cluster.url("postgres")) as connection:
        connection.execute(text("CREATE DATABASE ascii TEMPLATE template0 LOCALE 'C'"))
    url = cluster.url("ascii")
    schema.upgrade("feed", url, "feed_0001")
    insert = text("INSERT INTO tags (owner_user_id, name) VALUES (1, :name)")
    with _connected(url) as connection:
        for name in ("Émile", "émile", "Zoë"):
            connection.execute(insert, {"name": name})

        schema.upgrade("feed", url)

        names = connection.execute(text("SELECT name FROM tags ORDER BY id")).scalars().all()
        assert names == ["Émile", "émile#2", "Zoë"]
        with pytest.raises(IntegrityError):
            connection.execute(insert, {"name": "ZOË"})


def test_a_database_in_another_encoding_is_refused(cluster: EmbeddedPostgres) -> None:
    with _connected(cluster.url("postgres")) as connection:
        connection.execute(
            text("CREATE DATABASE latin TEMPLATE template0 LOCALE 'C' ENCODING 'LATIN1'")
        )

    with pytest.raises(SettingsError, match=r"FEED_DATABASE_URL must .* UTF8; .* is LATIN1"):
        schema.upgrade("feed", cluster.url("latin"))


def test_endings_are_found_in_the_events_of_the_version_before(
    cluster: EmbeddedPostgres,
) -> None:
    url = cluster.url("migrated_endings")
    schema.upgrade("graph", url, "graph_0001")
    events = [
        ("connected", 2, 1, 20, 10),
        ("removed", 1, 2, 11, 21),
        ("connected", 1, 2, 12, 22),
        ("connected", 3, 1, 30, 13),
        ("blocked", 2, 4, 0, 0),
    ]
    with _connected(url) as connection:
        for kind, actor, peer, actor_revision, peer_revision in events:
            connection.execute(
                text(
                    "INSERT INTO connection_events"
                    " (kind, actor_id, peer_id, actor_revision, peer_revision)"
                    f" VALUES ('{kind}', {actor}, {peer}, {actor_revision}, {peer_revision})"
                )
            )
        connection.execute(
            text(
                "INSERT INTO connections (user_a_id, user_b_id, status, requested_by)"
                " VALUES (1, 2, 'accepted', 1), (1, 3, 'accepted', 3)"
            )
        )
        connection.execute(text("INSERT INTO users VALUES (1, 13, 2), (2, 22, 1), (3, 30, 1)"))
        schema.upgrade("graph", url)

        reader = new_reader(url)
        [one, two], *_ = connected_ids.connected_user_ids(reader, known_revisions={1: 0, 2: 0})
        reader.close()
        schema.downgrade("graph", url, "graph_0001")
        left = connection.execute(text("SELECT count(*) FROM connection_events")).scalar_one()

    assert [(r.peer_id, r.user_revision, r.peer_revision) for r in one.reconnections] == [
        (2, 11, 21)
    ]
    assert [(r.peer_id, r.user_revision, r.peer_revision) for r in two.reconnections] == [
        (1, 21, 11)
    ]
    assert left == len(events)


def test_withheld_requests_are_declined_on_the_way_back_and_others_stay(
    cluster: EmbeddedPostgres,
) -> None:
    url = cluster.url("migrated_requests")
    schema.upgrade("graph", url)
    with _connected(url) as connection:
        connection.execute(
            text(
                "INSERT INTO connections (user_a_id, user_b_id, status, requested_by)"
                " VALUES (1, 2, 'accepted', 1), (1, 3, 'pending', 3), (1, 4, 'withheld', 4)"
            )
        )
        connection.execute(
            text("INSERT INTO users (user_id, revision, shown_revision) VALUES (1, 13, 7)")
        )
        schema.downgrade("graph", url, "graph_0003")
        statuses = text("SELECT status FROM connections ORDER BY id")
        left = list(connection.execute(statuses).scalars())
        schema.upgrade("graph", url)

        revisions = connection.execute(text("SELECT revision, shown_revision FROM users")).all()

    assert left == ["accepted", "pending"]
    assert revisions == [(13, 1)]


def test_indexes_that_change_are_replaced_also_after_a_run_that_broke_off(feed_url: str) -> None:
    schema.upgrade("feed", feed_url, "feed_0003")
    with _connected(feed_url) as connection:
        connection.execute(text("ALTER INDEX idx_post_author RENAME TO idx_post_author_old"))
        connection.execute(text("CREATE INDEX idx_post_author ON posts (author_id, id)"))
        connection.execute(text("CREATE INDEX idx_user_tag_target_new ON user_tags (tag_id)"))
        schema.upgrade("feed", feed_url)

        indexes = text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
        found = {name: definition for name, definition in connection.execute(indexes)}  # noqa: C416 -- rows are not tuples to mypy

    assert not [name for name in found if name.endswith(("_new", "_old"))]
    assert "INCLUDE (audience, importance)" in found["idx_post_author"]
    assert "INCLUDE (tag_id, owner_revision)" in found["idx_user_tag_target"]
    assert "WHERE (NOT excluded)" in found["idx_post_audience_tag_lookup"]


def test_a_post_deleted_by_the_version_before_is_not_shown(feed_url: str) -> None:
    schema.upgrade("feed", feed_url)
    with _connected(feed_url) as connection:
        for statement in (
            "INSERT INTO tags (owner_user_id, id, name) VALUES (1, 10, 'family')",
            "INSERT INTO user_tags VALUES (1, 10, 2, 1)",
            """INSERT INTO posts (author_id, id, body, importance, audience)
               VALUES (1, 100, 'stays', 5, 'tags'), (1, 101, 'goes', 5, 'tags')""",
            """INSERT INTO post_audience_tags (author_id, post_id, tag_id, created_at)
               SELECT author_id, id, 10, created_at FROM posts""",
            "UPDATE posts SET deleted_at = now() WHERE id = 101",
        ):
            connection.execute(text(statement))

    reader = new_reader(feed_url)
    rows = queries.feed.feed_page(
        reader,
        viewer=Viewer(user_id=2, connected_ids="{1}"),
        among=FeedFilter(author_ids="{1}"),
        part=FeedPart(before=NEWER_THAN_ALL.key, after=OLDER_THAN_ALL.key),
        limit=21,
        hub_scan=HubScan(degree=500, rows=0),
    )
    reader.close()

    assert [row.id for row in rows] == [100]


def test_what_is_hidden_is_shown_neither_by_the_version_before_nor_after_the_way_back(
    feed_url: str,
) -> None:
    schema.upgrade("feed", feed_url)
    with _connected(feed_url) as connection:
        for statement in (
            """INSERT INTO posts
                   (author_id, id, body, importance, audience, chosen_audience, moderated_at)
               VALUES (1, 100, 'rude', 5, 'moderated', 'all', now()),
                      (1, 101, 'kind', 5, 'all', NULL, NULL)""",
            """INSERT INTO comments (post_author_id, post_id, id, author_id, body, moderated_at)
               VALUES (1, 101, 200, 2, 'rude', now()), (1, 101, 201, 2, 'kind', NULL)""",
        ):
            connection.execute(text(statement))

        with pytest.raises(IntegrityError, match="ck_posts_moderation"):
            connection.execute(text("UPDATE posts SET audience = 'all' WHERE id = 100"))
        schema.downgrade("feed", feed_url, "feed_0016")

        shown = connection.execute(text("SELECT id, audience FROM posts ORDER BY id")).all()
        comments = text("SELECT id FROM comments WHERE deleted_at IS NULL")
        assert shown == [(100, "private"), (101, "all")]
        assert connection.execute(comments).scalars().all() == [201]


def test_hidden_comments_are_deleted_on_the_way_back_rather_than_shown(feed_url: str) -> None:
    schema.upgrade("feed", feed_url, "feed_0020")
    with _connected(feed_url) as connection:
        for statement in (
            """INSERT INTO posts (author_id, id, body, importance, audience)
               VALUES (1, 100, 'x', 5, 'all'), (1, 101, 'x', 5, 'all')""",
            """INSERT INTO comments
                   (post_author_id, post_id, id, author_id, parent_id, body, hidden)
               VALUES (1, 100, 1, 2, NULL, 'hidden', true), (1, 100, 2, 3, 1, 'reply', false),
                      (1, 100, 3, 2, NULL, 'stays', false), (1, 100, 4, 3, 3, 'stays', false),
                      (1, 100, 5, 3, 3, 'hidden', true), (1, 101, 6, 3, NULL, 'hidden', true)""",
            "INSERT INTO post_stats VALUES (1, 100, 5), (1, 101, 1)",
        ):
            connection.execute(text(statement))

        schema.downgrade("feed", feed_url, "feed_0019")

        left = text("SELECT id FROM comments WHERE deleted_at IS NULL ORDER BY id")
        counts = text("SELECT post_id, comment_count FROM post_stats ORDER BY post_id")
        assert list(connection.execute(left).scalars()) == [3, 4]
        assert connection.execute(counts).all() == [(100, 2), (101, 0)]


def test_a_database_can_be_used_once_it_is_migrated_to_the_end(cluster: EmbeddedPostgres) -> None:
    url = cluster.url("migrated_at_last")
    reader = new_reader(url)

    with pytest.raises(UnavailableError, match="the schema is at None"):
        schema.check(reader, "graph")
    schema.upgrade("graph", url, "graph_0001")
    with pytest.raises(UnavailableError, match="the schema is at graph_0001"):
        schema.check(reader, "graph")
    schema.upgrade("graph", url)
    schema.check(reader, "graph")

    reader.close()
