"""Counts that a database maintains, behind the gauges: no scrape ever counts rows.

Each count is the sum over its slots. A transaction adds to one slot chosen by its backend, so that
writers do not queue for a single row.
"""

from collections.abc import Mapping

from sqlalchemy import BigInteger, Column, Connection, MetaData, SmallInteger, Table, Text, text

from shared.database import array_literal


def totals_table(metadata: MetaData) -> Table:
    """Return the table, for the models of a service."""
    return Table(
        "totals",
        metadata,
        Column("name", Text, primary_key=True),
        Column("slot", SmallInteger, primary_key=True, autoincrement=False),
        Column("value", BigInteger, nullable=False, server_default=text("0")),
    )


_ADD = text("""
    INSERT INTO totals (name, slot, value)
    SELECT name, pg_backend_pid() % 16, amount
    FROM unnest(CAST(:names AS text[]), CAST(:amounts AS bigint[])) AS change (name, amount)
    ORDER BY name
    ON CONFLICT (name, slot) DO UPDATE SET value = totals.value + excluded.value
""")


def add_to_totals(connection: Connection, *, amounts: Mapping[str, int]) -> None:
    """Nothing; the counts have changed. To be the last statement of a transaction."""
    changed = {name: amount for name, amount in amounts.items() if amount}
    if changed:
        connection.execute(
            _ADD, {"names": list(changed), "amounts": array_literal(changed.values())}
        )


_TOTALS = text("SELECT name, CAST(sum(value) AS bigint) FROM totals GROUP BY name")


def read_totals(connection: Connection) -> dict[str, int]:
    """The counts by name."""
    return {name: value for name, value in connection.execute(_TOTALS)}  # noqa: C416 -- rows are not tuples to mypy
