"""The command that spreads the tables of the feed over the nodes of a Citus, and its report."""

import pytest

from feed_service.models import DISTRIBUTED_BY
from migrations.shards.distribution import ShardsError, distribute, report, skew
from shared.database import schema
from tests.support.citus import Citus
from tests.support.pair import Databases
from tests.support.processes import Session, run
from tests.support.roles import owner

_FILL = """
    INSERT INTO posts (author_id, body, audience, importance)
    SELECT n % 50 + 1, 'hello', 'all', 1 FROM generate_series(1, 1000) AS n;
    INSERT INTO comments (post_author_id, post_id, author_id, body)
    SELECT author_id, id, author_id + 1, 'hello' FROM posts
"""


@pytest.mark.parametrize("broken_off_after", [0, 1, 6])
def test_a_database_in_use_is_distributed_with_all_its_rows(
    citus: Citus, broken_off_after: int
) -> None:
    url = citus.undistributed()
    with Session(url) as session:
        session.rows(_FILL)
        session.commit()

    def break_off(done: int, _total: int) -> None:
        if done == broken_off_after:
            raise InterruptedError

    if broken_off_after:
        with pytest.raises(InterruptedError):
            distribute(owner("feed", url), shard_count=4, progress=break_off)
    assert distribute(owner("feed", url), shard_count=4) == len(DISTRIBUTED_BY) - broken_off_after
    assert distribute(owner("feed", url), shard_count=4) == 0

    with Session(url) as session:
        for table, count in (("posts", 1000), ("comments", 1000), ("authors", 50)):
            assert session.rows(f"SELECT count(*) FROM {table}") == [(count,)]
            assert session.rows(f"SELECT pg_relation_size('{table}')") == [(0,)]


def test_the_report_says_what_lies_where(citus: Citus) -> None:
    url = citus.new()
    with Session(url) as session:
        session.rows(_FILL)
        session.rows(
            "INSERT INTO posts (author_id, body, audience, importance)"
            " SELECT 7, 'hello', 'all', 1 FROM generate_series(1, 1000)"
        )
        session.commit()
        session.rows("ANALYZE posts")
        session.commit()

    found = report(owner("feed", url))

    assert len(found.shards) == 4
    assert sum(shard.rows for shard in found.shards) == 2000
    assert sum(node.rows for node in found.nodes.values()) == 2000
    assert set(found.nodes) == {f"{host}:{port}" for host, port in citus.workers}
    assert 1 < skew(found.shards).rows < 4
    assert not found.not_distributed


def test_what_is_not_distributed_is_told(citus: Citus, databases: Databases) -> None:
    with pytest.raises(ShardsError, match="kith shards create"):
        report(citus.undistributed())
    with pytest.raises(ShardsError, match="has no Citus"):
        distribute(databases.new("graph"), shard_count=4)


def test_the_command_line_distributes_and_reports(citus: Citus) -> None:
    variables = {"FEED_DATABASE_URL": owner("feed", citus.undistributed())}

    created = run("shared.cli", variables, "shards", "create", "--count", "6")
    shown = run("shared.cli", variables, "shards", "report")

    assert created.returncode == 0, created.stdout
    assert f"{len(DISTRIBUTED_BY)} tables were distributed now" in created.stdout
    for host, port in citus.workers:
        assert shown.stdout.count(f"on {host}:{port}") == 3
    assert "The fullest node has 1.00 times the mean rows" in shown.stdout


def test_the_command_line_says_what_is_missing(databases: Databases) -> None:
    for variables, message in (
        ({"FEED_DATABASE_URL": databases.new("graph")}, "has no Citus"),
        ({"FEED_DATABASE_URL": ""}, "FEED_DATABASE_URL must name a database with Citus"),
    ):
        ended = run("shared.cli", variables, "shards", "create")

        assert ended.returncode == 1
        assert message in ended.stdout


def test_a_distributed_database_is_migrated_both_ways(citus: Citus) -> None:
    url = owner("feed", citus.new())
    with Session(url) as session:
        session.rows(_FILL)
        session.commit()

    schema.downgrade("feed", url, "feed_0002")
    schema.upgrade("feed", url)
    distribute(url, shard_count=4)

    with Session(url) as session:
        assert session.rows("SELECT count(*), count(importance) FROM posts") == [(1000, 1000)]
        [(indexes,)] = session.rows("SELECT count(*) FROM pg_indexes WHERE tablename = 'posts'")
        [(everywhere,)] = session.rows(
            "SELECT sum(CAST(result AS int)) FROM run_command_on_shards('posts',"
            " $$SELECT count(*) FROM pg_indexes WHERE tablename = '%s'$$)"
        )
        assert everywhere == 4 * indexes
