"""Engines for what tests store and read beside the calls."""

from functools import cache

import sqlalchemy


@cache
def engine_to(url: str) -> sqlalchemy.Engine:
    """Return an engine whose statements are committed one by one, and whose session stays.

    To connect costs PostgreSQL and the engine more than most statements of tests. Not for databases
    that are copied or dropped afterwards, or whose sessions are counted.
    """
    return sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=-1, pool_pre_ping=True
    )
