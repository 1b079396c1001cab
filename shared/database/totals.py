"""Counts that a database maintains, behind the gauges: no scrape ever counts rows.

Each count is the sum over its slots. A transaction adds to one slot chosen by its backend, so that
writers do not queue for a single row. There are many more slots than backends: two of them with the
same slot wait for each other's commits.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, MetaData, SmallInteger, Table, Text, text

from shared.database.arrays import array_literal
from shared.database.statement import Statement


def totals_table(metadata: MetaData) -> Table:
    """Return the table, for the models of a service."""
    return Table(
        "totals",
        metadata,
        Column("name", Text, primary_key=True),
        Column("slot", SmallInteger, primary_key=True, autoincrement=False),
        Column("value", BigInteger, nullable=False, server_default=text("0")),
    )


ADD_TO_TOTALS: Final = """
    INSERT INTO totals (name, slot, value)
    SELECT name, pg_backend_pid() % 1024, added
    FROM unnest(CAST(:total_names AS text[]), CAST(:total_amounts AS bigint[]))
         AS change (name, added)
    WHERE added <> 0
    ORDER BY name
    ON CONFLICT (name, slot) DO UPDATE SET value = totals.value + excluded.value
"""
"""For statements that do more at once; to be bound to `total_parameters`. After it, the transaction
must lock nothing that another one may have locked; but deferred triggers lock authors, in an order
of their own, when all else is done."""

ADD: Final = Statement("add_to_totals", ADD_TO_TOTALS)
"""The same by itself, for the frequent writes."""

_ADD = text(ADD_TO_TOTALS)


def total_parameters(amounts: Mapping[str, int]) -> dict[str, object]:
    """Return what ADD_TO_TOTALS has to be bound to."""
    return {"total_names": list(amounts), "total_amounts": array_literal(amounts.values())}


def add_to_totals(connection: Connection, *, amounts: Mapping[str, int]) -> None:
    """Store how the counts have changed. Must be the last statement of a transaction."""
    if any(amounts.values()):
        connection.execute(_ADD, total_parameters(amounts))


_TOTALS = text("SELECT name, CAST(sum(value) AS bigint) FROM totals GROUP BY name")


def read_totals(connection: Connection) -> dict[str, int]:
    """The counts by name."""
    return {name: value for name, value in connection.execute(_TOTALS)}  # noqa: C416 -- rows are not tuples to mypy
