"""Who may still commit an event in a distributed database.

The coordinator gives every event its number, and its lock of the table lasts until all nodes were
told to commit. One that could not be told commits later: until then it has a prepared transaction.
"""

from typing import Final

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
