"""The way from version 0.1.0 to this one and back, as docs/backups.md tells it, with rows in it."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import pytest
import sqlalchemy

from shared.cli.__main__ import main
from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.pair import running_pair_on
from tests.support.people import People
from tests.support.processes import Session
from tests.support.roles import make_roles, owner

# The newest revisions of version 0.1.0.
_OLD: Final = {"graph": "graph_0002", "feed": "feed_0006"}
# A row in every table of it. User 1 parted from 2 and 3 and connected with them again. 2 was given
# the tag after that, 3 before.
_ROWS: Final = {
    "graph": """
        INSERT INTO connections (user_a_id, user_b_id, status, requested_by)
        VALUES (1, 2, 'accepted', 1), (1, 3, 'accepted', 3), (1, 4, 'pending', 4);
        INSERT INTO blocks (blocker_id, blocked_id) VALUES (1, 5);
        INSERT INTO users VALUES (1, 100, 2), (2, 90, 1), (3, 95, 1), (4, 0, 0);
        INSERT INTO endings VALUES (1, 2, 20, 21), (1, 3, 60, 61);
        INSERT INTO connection_events (kind, actor_id, peer_id, actor_revision, peer_revision)
        VALUES ('removed', 1, 2, 20, 21), ('user_deleted', 6, NULL, 0, 0);
        INSERT INTO totals VALUES ('connections', 3, 2)
    """,
    "feed": """
        INSERT INTO authors VALUES (1);
        INSERT INTO posts (author_id, id, body, audience, importance, external_id)
        VALUES (1, 10, 'for all', 'all', 5, 'old-10'), (1, 11, 'for friends', 'tags', 7, NULL),
               (1, 12, 'for me', 'private', 1, NULL);
        INSERT INTO post_stats VALUES (1, 10, 1);
        INSERT INTO post_photos VALUES (1, 10, 0, 'photos/1/a.jpg');
        INSERT INTO photo_uploads VALUES (1, 'uploads/1/b.jpg', 'image/jpeg');
        INSERT INTO object_removals VALUES (1, 'photos/1/c.jpg');
        INSERT INTO comments (post_author_id, post_id, id, author_id, body)
        VALUES (1, 10, 30, 2, 'well said');
        INSERT INTO tags (owner_user_id, id, name) VALUES (1, 20, 'Freunde \u00dcber');
        INSERT INTO user_tags VALUES (1, 20, 2, 50), (1, 20, 3, 50);
        INSERT INTO post_audience_tags (author_id, post_id, tag_id, created_at)
        SELECT author_id, id, 20, created_at FROM posts WHERE id = 11;
        INSERT INTO idempotency_keys (user_id, request_id, fingerprint, response)
        VALUES (1, gen_random_uuid(), 'fingerprint', 'response');
        INSERT INTO read_positions VALUES (2, now(), 10);
        INSERT INTO frozen_digests VALUES (2, now(), 'fingerprint', 0);
        INSERT INTO frozen_digest_items
        SELECT user_id, start_at, fingerprint, 1, 10, 5, 'important' FROM frozen_digests;
        INSERT INTO followed VALUES ('connections', 'a cursor');
        INSERT INTO totals VALUES ('posts', 3, 3)
    """,
}

Rows: TypeAlias = dict[str, list[dict[str, Any]]]

_numbers = itertools.count()


@pytest.fixture
def urls(cluster: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Databases as version 0.1.0 left them."""
    number, urls = next(_numbers), {}
    for service, revision in _OLD.items():
        url = urls[service] = cluster.url(f"upgraded_{service}_{number}")
        make_roles(service, url)
        monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", owner(service, url))
        schema.upgrade(service, owner(service, url), revision)
        with Session(url) as session:
            session.rows(_ROWS[service])
            session.commit()
    return urls


def _tables(url: str) -> Iterator[str]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    yield from sorted({*sqlalchemy.inspect(engine).get_table_names()} - {"alembic_version"})


def _rows(url: str) -> Rows:
    with Session(url) as session:
        return {
            table: [
                row for (row,) in session.rows(f"SELECT to_jsonb(t) FROM {table} AS t ORDER BY 1")
            ]
            for table in _tables(url)
        }


def _of_old_columns(rows: Rows, old: Rows) -> Rows:
    """Return the tables and columns that old rows have."""
    return {
        table: [
            {column: row[column] for column in row if column in old_rows[0]} for row in rows[table]
        ]
        for table, old_rows in old.items()
    }


def test_a_database_of_0_1_0_comes_to_this_version_and_back_with_every_row_as_it_was(
    urls: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {service: _rows(url) for service, url in urls.items()}
    assert [table for rows in before.values() for table, found in rows.items() if not found] == []

    assert main(["migrate", "--check"]) == 1
    assert {service: _rows(url) for service, url in urls.items()} == before
    assert main(["migrate"]) == 0
    assert main(["migrate", "--check"]) == 0
    for service, url in urls.items():
        assert _of_old_columns(_rows(url), before[service]) == before[service]
        back = ["migrate", "--service", service, "--to", _OLD[service]]
        assert main([*back, "--check"]) == 1
        assert main(back) == 0
        assert main([*back, "--check"]) == 0
        assert f"{service}: reverted" in capsys.readouterr().out
        assert _rows(url) == before[service]


def test_on_a_database_of_0_1_0_users_see_what_they_saw_there(urls: Mapping[str, str]) -> None:
    assert main(["migrate"]) == 0

    with running_pair_on(urls, {"FEED_LAYOUT": "single"}) as pair:
        people = People(pair)
        assert {user: people.feed(user) for user in (1, 2, 3, 4)} == {
            1: [12, 11, 10],
            2: [11, 10],
            3: [10],
            4: [],
        }
