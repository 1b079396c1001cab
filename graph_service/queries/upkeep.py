"""Deleting what is too old to be asked for."""

from datetime import timedelta

from sqlalchemy import Connection, text

_PURGE_DECLINES = text("""
    DELETE FROM declines AS d
    USING (SELECT requester_id, decliner_id FROM declines
           WHERE declined_at < now() - CAST(:age AS interval)
           ORDER BY declined_at LIMIT :limit FOR UPDATE SKIP LOCKED) AS old
    WHERE d.requester_id = old.requester_id AND d.decliner_id = old.decliner_id
""")


def purge_declines(connection: Connection, *, age: timedelta, limit: int) -> int:
    """How many declines are older than that; they are forgotten, up to `limit` of them."""
    return connection.execute(_PURGE_DECLINES, {"age": age, "limit": limit}).rowcount


# By their numbers, which grow with time, so that no index on time is needed. What is locked is
# being erased, or purged by another process. A join would read all events by its costs.
_PURGE_EVENTS = text("""
    WITH lowest AS (
        SELECT seq, occurred_at FROM connection_events ORDER BY seq LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ),
    purged AS (
        DELETE FROM connection_events
        WHERE seq = ANY (ARRAY(SELECT seq FROM lowest
                               WHERE occurred_at < now() - CAST(:age AS interval)))
        RETURNING seq, occurred_at
    ),
    noted AS (
        INSERT INTO purged_events AS p (until_seq, occurred_at)
        SELECT seq, occurred_at FROM purged ORDER BY seq DESC LIMIT 1
        ON CONFLICT (is_single) DO UPDATE
        SET until_seq = excluded.until_seq, occurred_at = excluded.occurred_at
        WHERE excluded.until_seq > p.until_seq
    ),
    unneeded AS (
        DELETE FROM erased_events WHERE seq < (SELECT max(seq) FROM purged)
    )
    SELECT count(*) FROM purged
""")


def purge_events(connection: Connection, *, age: timedelta, limit: int) -> int:
    """How many events are older than that; they are gone, up to `limit` of them."""
    return int(connection.execute(_PURGE_EVENTS, {"age": age, "limit": limit}).scalar_one())
