"""The numbers of events in a distributed database, and who may still commit an event.

The coordinator gives every event its number, and its lock of the table lasts until all nodes were
told to commit. One that could not be told commits later: until then it has a prepared transaction.
"""

from typing import Any, Final

import psycopg2

from kith.exceptions import UnavailableError
from shared.database.database import RETRY_AFTER
from shared.database.reader import Reader, Statement

# The coordinator is a node as well.
_PREPARED: Final = Statement(
    "prepared_transactions",
    """
    SELECT nodeid, success, result FROM run_command_on_all_nodes($$
        SELECT coalesce(string_agg(CAST(transaction AS text), ' '), '') FROM pg_prepared_xacts
        WHERE database = current_database()
    $$)
""",
)
# Two statements, for Citus may run one that names a distributed table on any node.
_HIGHEST: Final = """
    SET LOCAL statement_timeout = '2s'; SELECT coalesce(max(seq), 0) FROM content_events
"""
_DRAW: Final = """
    SELECT count(nextval('content_events_seq_seq')) FROM generate_series(
        (SELECT last_value + CAST(is_called AS integer) FROM content_events_seq_seq),
        CAST(%s AS bigint))
"""


def prepared_transactions(reader: Reader) -> set[str]:
    """The transactions that nodes have prepared and not yet committed.

    Raises UnavailableError when a node does not answer.
    """
    found = set[str]()
    for node, success, result in reader.rows(_PREPARED, {}):
        if not success:
            raise UnavailableError(
                "a node of the database does not answer", retry_after=RETRY_AFTER
            )
        found |= {f"{node} {transaction}" for transaction in result.split()}
    return found


def pass_numbers_of_events(session: Any) -> None:
    """Draw the numbers that events have and of which the coordinator knows nothing.

    It has lost them if it crashed, or failed over to a standby, when nodes had committed the events
    and it had not yet stored that it gave out their numbers. Drawn again, they would be behind the
    cursors of consumers who were told of these events. Such a loss ends all sessions, so it is
    enough that each session that may write begins with this. A node that does not answer does not
    keep it from being opened.
    """
    try:
        with session.cursor() as cursor:
            cursor.execute(_HIGHEST)
            cursor.execute(_DRAW, cursor.fetchone())
    except psycopg2.Error:
        if session.closed:
            raise
