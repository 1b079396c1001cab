"""The recorded changes of a service: what must be known of them to tell each once and in order.

Three tables keep them. That of the events has their numbers and times, and columns of its service.
One has the numbers and times of events that an erasure has removed, and one the last event that was
purged for its age: a cursor is of one event, and resuming from it must not depend on whether this
event is still there.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, MetaData, Table, text

from shared.database.columns import big_id
from shared.database.reader import Reader, Statement

Writers = Callable[[Reader], set[str]]
"""Looks for the transactions under way that may have given a number to an event."""


def erased_events_table(name: str, metadata: MetaData) -> Table:
    """Return the table of the events that erasures removed, without ids of users."""
    return Table(
        name,
        metadata,
        big_id("seq", primary_key=True),
        Column("occurred_at", DateTime(timezone=True), nullable=False),
    )


def purged_events_table(name: str, metadata: MetaData) -> Table:
    """Return the table of at most one row: the last event that was purged for its age.

    A follower who has not come so far has missed something, and one who has come exactly so far has
    not.
    """
    return Table(
        name,
        metadata,
        Column("is_single", Boolean, primary_key=True, server_default=text("true")),
        Column("until_seq", BigInteger, nullable=False),
        Column("occurred_at", DateTime(timezone=True), nullable=False),
        CheckConstraint("is_single", name="single_row"),
    )


class End(NamedTuple):
    """The highest number that an event was given, committed or not, and by which database.

    The `history` of a database is another one after a restart, a promotion or a restored backup.
    """

    number: int
    history: str


class EventLog:
    """The events of one table.

    `writers` are to be looked for one after the other, each until none is left of those that were
    found first: then all numbers that had been given out before are settled.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        events: str,
        erased: str,
        purged: str,
        writers: Sequence[Writers] = (),
    ) -> None:
        self._reader = reader
        self._purged_until = Statement(
            f"{events}_purged_until", f"SELECT coalesce(max(until_seq), 0) FROM {purged}"
        )
        self._end = Statement(
            f"{events}_end",
            f"""
            SELECT CASE WHEN is_called THEN last_value ELSE 0 END,
                   concat_ws('/', pg_postmaster_start_time(),
                             CASE WHEN NOT pg_is_in_recovery()
                                  THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END,
                             pg_relation_filepath('{events}'))
            FROM {events}_seq_seq
            """,
        )
        self._newest = Statement(
            f"{events}_newest",
            f"SELECT seq, occurred_at FROM {events} WHERE seq <= :until ORDER BY seq DESC LIMIT 1",
        )
        self._newest_gone = Statement(
            f"{events}_newest_gone",
            f"""
            SELECT seq, occurred_at FROM (
                (SELECT seq, occurred_at FROM {erased} WHERE seq <= :until
                 ORDER BY seq DESC LIMIT 1)
                UNION ALL
                (SELECT until_seq, occurred_at FROM {purged} WHERE until_seq <= :until)
            ) AS newest
            ORDER BY seq DESC LIMIT 1
            """,
        )
        # The mode that INSERT takes; what locks more to change the table takes this one as well.
        lockers = Statement(
            f"{events}_writers",
            f"""
            SELECT virtualtransaction FROM pg_locks
            WHERE locktype = 'relation' AND relation = CAST('{events}' AS regclass)
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND mode = 'RowExclusiveLock' AND granted
            """,
        )
        self.writers: Final[Sequence[Callable[[], set[str]]]] = (
            lambda: {transaction for (transaction,) in reader.rows(lockers, {})},
            *(partial(find, reader) for find in writers),
        )

    def purged_until(self) -> int:
        """Return the highest number of an event that was purged, 0 if none was."""
        [(number,)] = self._reader.rows(self._purged_until, {})
        return int(number)

    def end(self) -> End:
        """Return the highest number that an event was given, and the history that it is of."""
        [(number, history)] = self._reader.rows(self._end, {})
        return End(int(number), history)

    def newest(self, *, until: int) -> tuple[int, datetime] | None:
        """Return number and time of the newest event up to a number, also when it is gone since.

        Two statements, for what is erased or purged may be on another node. What is there no longer
        is looked for afterwards, so that an event is not missed that goes in between.
        """
        found = [
            (int(seq), occurred_at)
            for statement in (self._newest, self._newest_gone)
            for seq, occurred_at in self._reader.rows(statement, {"until": until})
        ]
        return max(found, default=None)
