"""What Kith answers follows no locale: not the environment's, the role's or the database's."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy
from sqlalchemy import Connection

from kith.feed.v1 import feed_pb2
from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import PRIVATE
from tests.support.processes import run

_SERVICES = ("graph", "feed")
_EMOJI = "🇮🇪 to all 💪🏿"


@pytest.fixture
def foreign(
    cluster: EmbeddedPostgres, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pair]:
    """Both services where the roles and the environment ask for another encoding."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    roles = ("kith_graph", "kith_feed")
    with _autocommit(cluster.url("postgres")) as connection:
        for role in roles:
            connection.exec_driver_sql(f"ALTER ROLE {role} SET client_encoding TO 'LATIN1'")
        with running_pair(databases) as pair:
            yield pair
        for role in roles:
            connection.exec_driver_sql(f"ALTER ROLE {role} RESET client_encoding")


def _autocommit(url: str) -> Connection:
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    return engine.connect()


def test_texts_in_every_script_are_kept_whatever_encoding_sessions_have_by_default(
    foreign: Pair,
) -> None:
    draft = feed_pb2.CreatePostRequest(
        user_id=1, request_id=str(uuid4()), body=_EMOJI, audience=PRIVATE
    )
    post = foreign.feed.CreatePost(draft).post

    [seen] = foreign.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=1)).posts

    assert (post.body, seen.body) == (_EMOJI, _EMOJI)


def test_migrations_run_in_the_poorest_locale(databases: Databases) -> None:
    variables = {f"{name.upper()}_DATABASE_URL": databases.new_single(name) for name in _SERVICES}

    ended = run("shared.cli", {**variables, "LC_ALL": "C", "PYTHONUTF8": "0"}, "migrate")

    assert ended.returncode == 0, ended.stdout
