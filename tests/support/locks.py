"""Who waits for a lock in a database, seen from outside."""

from typing import Final

from tests.support.citus import URL
from tests.support.processes import Session

# Locks of transactions belong to no database, so that the sessions say which one is meant.
_WAITING: Final = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND datname = current_database()
"""
# A statement of the coordinator waits on the node that has the rows.
_WAITING_ON_NODES: Final = f"""
    SELECT sum(CAST(result AS bigint)) FROM run_command_on_all_nodes($$ {_WAITING} $$)
"""


def is_waited_for(url: str) -> bool:
    """Whether a session of a feed database waits for a lock, on any of its nodes."""
    with Session(url) as session:
        [(waiting,)] = session.rows(_WAITING_ON_NODES if URL else _WAITING)
    return bool(waiting)
