"""Which tables are spread over shards."""

from typing import Final

from shared.database.reader import Reader, Statement

# Without Citus there is no such catalog, and a statement that names it cannot even be planned.
_HAS_CITUS: Final = Statement(
    "has_citus", "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
)
_DISTRIBUTED: Final = Statement(
    "distributed_tables",
    """
    SELECT relname FROM pg_catalog.pg_dist_partition
    JOIN pg_class ON pg_class.oid = logicalrelid
    WHERE partmethod = 'h' AND relnamespace = CAST('public' AS regnamespace)
""",
)


def distributed_tables(reader: Reader) -> set[str]:
    """The tables that Citus has spread over shards; none without Citus."""
    if not reader.rows(_HAS_CITUS, {})[0][0]:
        return set()
    return {name for (name,) in reader.rows(_DISTRIBUTED, {})}
