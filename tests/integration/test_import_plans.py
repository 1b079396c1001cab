"""An import takes as long in a large graph as in a small one."""

import pytest
import sqlalchemy
from sqlalchemy import text

from graph_service.queries import imports
from graph_service.queries.imports import ConnectedPair
from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres

# So many that PostgreSQL would by itself read all of them for one chunk.
_GRAPH = [
    text("INSERT INTO users (user_id) SELECT generate_series(1, 30_000)"),
    text("""
        INSERT INTO connections (user_a_id, user_b_id, status, requested_by)
        SELECT n % 29_000 + 1, n % 29_000 + 2 + n / 29_000,
               CASE WHEN n % 10 = 0 THEN 'pending' ELSE 'accepted' END, n % 29_000 + 1
        FROM generate_series(1, 100_000) AS n
    """),
    text("""
        INSERT INTO blocks (blocker_id, blocked_id)
        SELECT n, n + 1_000 FROM generate_series(1, 29_000) AS n
    """),
    text("ANALYZE"),
]
_SCANNED = text("""
    SELECT relname FROM pg_stat_xact_user_tables
    WHERE seq_scan > 0 AND relname IN ('users', 'connections', 'blocks')
""")
_CHUNK = {(n, n + 20): ConnectedPair() for n in range(1, 8_000)}
_USERS = dict.fromkeys(range(1, 8_020), 2)


@pytest.mark.parametrize("has_requests", [False, True])
def test_a_chunk_is_written_without_reading_a_whole_table(
    cluster: EmbeddedPostgres, *, has_requests: bool
) -> None:
    url = cluster.url(f"import_plans_{has_requests}".lower())
    schema.upgrade("graph", url)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for statement in _GRAPH:
            connection.execute(statement)

    with engine.begin() as connection:
        imports.begin_import(connection, user_ids=_USERS)
        locked = imports.lock_importing(connection, amounts=_USERS, max_connections=5_000)
        imports.between(connection, asked=_CHUNK)
        imports.import_pairs(
            connection,
            pairs=_CHUNK,
            revision=locked.revision,
            has_requests=has_requests,
            suspended={1},
            totals={"pairs": len(_CHUNK)},
        )
        scanned = connection.execute(_SCANNED).scalars().all()

    assert locked.number == len(_USERS)
    assert scanned == []
