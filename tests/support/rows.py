"""What is stored, seen from outside."""

import sqlalchemy

from tests.support.pair import Pair

# Written by what goes on beside the calls.
_BESIDE_CALLS = {"followed"}
# Beside these, no effect of a call, or one that upkeep or the follower writes when it comes to it.
_NO_EFFECTS = _BESIDE_CALLS | {
    "alembic_version",
    "erased_users",
    "idempotency_keys",
    "object_removals",
}
_EFFECTS = {"tags": "deleted_at IS NULL"}


def row_counts(pair: Pair) -> dict[str, int]:
    """Return the number of rows in every table of either database that calls write to."""
    counts = dict[str, int]()
    for service, url in (("graph", pair.graph_url), ("feed", pair.feed_url)):
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            for table in set(sqlalchemy.inspect(connection).get_table_names()) - _BESIDE_CALLS:
                count = sqlalchemy.select(sqlalchemy.func.count())
                counts[f"{service}.{table}"] = connection.execute(
                    count.select_from(sqlalchemy.table(table))
                ).scalar_one()
    return counts


def contents(url: str) -> dict[str, str]:
    """Return a digest of the rows of every table in which a call of a service has effects."""
    expression = "md5(string_agg(CAST(stored AS text), ' ' ORDER BY CAST(stored AS text)))"
    return {table: str(digest) for table, digest in _of_each_table(url, expression).items()}


def sizes(url: str) -> dict[str, int]:
    """Return the number of rows of every such table, and of the totals what they add up to."""
    counts = _of_each_table(url, "count(*)")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        added_up = sqlalchemy.text("SELECT CAST(coalesce(sum(value), 0) AS bigint) FROM totals")
        counts["totals"] = connection.execute(added_up).scalar_one()
    return {table: int(str(count)) for table, count in counts.items()}


def _of_each_table(url: str, expression: str) -> dict[str, object]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return {
            table: connection.execute(
                sqlalchemy.text(
                    f"SELECT {expression} FROM {table} AS stored"
                    f" WHERE {_EFFECTS.get(table, 'true')}"
                )
            ).scalar_one()
            for table in set(sqlalchemy.inspect(connection).get_table_names()) - _NO_EFFECTS
        }


def last_statements(url: str) -> list[str]:
    """Return what a database's operator sees of its sessions: the last statement of each."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        sessions = sqlalchemy.text(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
        )
        return list(connection.execute(sessions).scalars())
