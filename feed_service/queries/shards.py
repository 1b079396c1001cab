"""Whether the tables are spread over shards."""

from typing import Final

from shared.reader import Reader, Statement

# Without Citus there is no such catalog, and a statement that names it cannot even be planned.
_HAS_CITUS: Final = Statement(
    "has_citus", "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
)
_HAS_SHARDS: Final = Statement(
    "has_shards",
    """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition
                   WHERE logicalrelid = to_regclass('posts') AND partmethod = 'h')
""",
)


def are_there(reader: Reader) -> bool:
    """Whether Citus has spread the posts over shards."""
    return bool(reader.rows(_HAS_CITUS, {})[0][0] and reader.rows(_HAS_SHARDS, {})[0][0])
