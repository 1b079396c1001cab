"""What is stored, seen from outside."""

import sqlalchemy

from tests.support.pair import Pair

# Written by what goes on beside the calls.
_BESIDE_CALLS = {"followed"}


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


def last_statements(url: str) -> list[str]:
    """Return what a database's operator sees of its sessions: the last statement of each."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        sessions = sqlalchemy.text(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
        )
        return list(connection.execute(sessions).scalars())
