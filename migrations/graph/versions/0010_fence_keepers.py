"""Keepers of fences: who has to be told of a change before it is committed.

May meet the code of the version before, which tells nobody: while a keeper is registered, its
changes of connections and blocks fail as if the database were not available.
"""

import sqlalchemy as sa
from alembic import op

revision = "graph_0010"
down_revision = "graph_0009"
branch_labels = None
depends_on = None

# A timeline begins with a promotion, and a server's start is exact to the microsecond. The path has
# the numbers of the database and of the file, so copies and restored dumps differ.
_HISTORY = """
    CREATE FUNCTION fences_history() RETURNS text LANGUAGE sql STABLE AS $$
        SELECT CASE WHEN NOT pg_is_in_recovery() THEN concat_ws(
            '/',
            CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS bigint),
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
            pg_relation_filepath('fence_keepers'))
        END
    $$
"""

# Each query of a volatile function has a snapshot of its own, so keepers are read as of a moment at
# which the lock was there; only READ COMMITTED has such snapshots.
_REQUIRE = """
    CREATE FUNCTION require_fences() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
    DECLARE
        keepers json;
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'connections can be changed in READ COMMITTED alone'
                USING ERRCODE = 'invalid_transaction_state';
        END IF;
        PERFORM pg_advisory_xact_lock_shared(7215119);
        keepers := (SELECT json_agg(json_build_array(target, keeper_id, keeper_history,
                                                     graph_history) ORDER BY target)
                    FROM fence_keepers);
        IF keepers IS NULL THEN
            RETURN NULL;
        END IF;
        IF current_setting('kith.fences', true) IS DISTINCT FROM 'on' THEN
            RAISE EXCEPTION 'keepers of fences are registered, and this client tells them nothing'
                USING ERRCODE = 'cannot_connect_now';
        END IF;
        IF current_setting('synchronous_commit') = 'off' THEN
            PERFORM set_config('synchronous_commit', 'local', true);
        END IF;
        PERFORM set_config(
            'kith.fenced_by',
            CAST(json_build_object('transaction', CAST(pg_current_xact_id() AS text),
                                   'history', fences_history(), 'keepers', keepers) AS text),
            true);
        RETURN NULL;
    END
    $$
"""

_WATCH = """
    CREATE TRIGGER require_fences BEFORE UPDATE OF revision OR DELETE OR TRUNCATE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION require_fences()
"""

_REFUSE_IF_REGISTERED = """
    DO $$
    BEGIN
        IF EXISTS (SELECT FROM fence_keepers) THEN
            RAISE EXCEPTION 'keepers of fences are registered: start graph_service with an empty'
                ' FENCE_KEEPERS first';
        END IF;
    END
    $$
"""


def upgrade() -> None:
    """Create the table of keepers, and refuse changes of users that no keeper is told of."""
    op.create_table(
        "fence_keepers",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("keeper_id", sa.Uuid(), nullable=False),
        sa.Column("keeper_history", sa.Text(), nullable=False),
        sa.Column("graph_history", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_fence_keepers")),
    )
    op.execute(_HISTORY)
    op.execute(_REQUIRE)
    op.execute(_WATCH)


def downgrade() -> None:
    """Tell no keepers any more; fails while one is registered, which would go on trusting."""
    op.execute("LOCK TABLE fence_keepers")
    op.execute(_REFUSE_IF_REGISTERED)
    op.execute("DROP TRIGGER require_fences ON users")
    op.execute("DROP FUNCTION require_fences()")
    op.execute("DROP FUNCTION fences_history()")
    op.drop_table("fence_keepers")
