"""What is stored, seen from outside."""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Final, Protocol

from tests.support.processes import Session

# Written by what goes on beside the calls.
_BESIDE_CALLS = {"followed"}
# Beside these, no effect of a call, or one that upkeep or the follower writes when it comes to it.
_NO_EFFECTS = _BESIDE_CALLS | {
    "alembic_version",
    "erased_users",
    "idempotency_keys",
    "object_removals",
}
_EFFECTS = {
    "tags": "deleted_at IS NULL",
    # The follower writes one of an erasure when it comes to it.
    "content_events": "kind <> 'user_erased'",
}
# Its only row is there from the first suspension on.
_SINGLE_ROWS = {"suspension_changes"}
_ALL_ROWS: Final[Mapping[str, str]] = {}


class Stored(Protocol):
    """Two services whose databases can be looked into, by the URLs of a superuser."""

    @property
    def graph_url(self) -> str: ...
    @property
    def feed_url(self) -> str: ...


def row_counts(pair: Stored) -> dict[str, int]:
    """Return the number of rows in every table of either database that calls write to."""
    return {
        f"{service}.{table}": int(str(count))
        for service, url in (("graph", pair.graph_url), ("feed", pair.feed_url))
        for table, count in _of_each(_tables(url) - _BESIDE_CALLS, url, "count(*)").items()
    }


def contents(url: str) -> dict[str, str]:
    """Return a digest of the rows of every table in which a call of a service has effects."""
    expression = "md5(string_agg(CAST(stored AS text), ' ' ORDER BY CAST(stored AS text)))"
    digests = _of_each(_tables(url) - _NO_EFFECTS, url, expression, _EFFECTS)
    return {table: str(digest) for table, digest in digests.items()}


def sizes(url: str) -> dict[str, int]:
    """Return the number of rows of each that may have several, and of the totals their sums."""
    counts = _of_each(_tables(url) - _NO_EFFECTS - _SINGLE_ROWS, url, "count(*)", _EFFECTS)
    counts |= _of_each({"totals"}, url, "CAST(coalesce(sum(value), 0) AS bigint)")
    return {table: int(str(count)) for table, count in counts.items()}


def _of_each(
    tables: Collection[str], url: str, expression: str, conditions: Mapping[str, str] = _ALL_ROWS
) -> dict[str, object]:
    """Return what an expression is for each table, or for those of its rows that are asked for."""
    of_each = [
        f"SELECT '{table}', {expression} FROM {table} AS stored"
        f" WHERE {conditions.get(table, 'true')}"
        for table in tables
    ]
    session = _session(url)
    found = session.rows(" UNION ALL ".join(of_each))
    session.commit()
    return {str(table): value for table, value in found}


@cache
def _session(url: str) -> Session:
    """Return a session that stays: hundreds of tests count before and after what they do."""
    return Session(url)


@cache
def _tables(url: str) -> frozenset[str]:
    """Return the tables of a database, whose schema stays what it is."""
    with Session(url) as session:
        found = session.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return frozenset(table for (table,) in found)


def last_statements(url: str) -> list[str]:
    """Return what a database's operator sees of its sessions: the last statement of each."""
    with Session(url) as session:
        sessions = session.rows(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
        )
    return [statement for (statement,) in sessions]
