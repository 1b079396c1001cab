"""Requests that are withheld from a user who blocks the requester, and revisions without time.

May meet the code of the version before. It shows a withheld request to the requester alone; when
it lifts a block it leaves the request behind, which counts for nothing once the new code runs. What
it changes raises no shown revision, and its blocks no revision: start the new code of the graph on
all machines before that of the feed, which caches blocks. A tag that the feed of the version before
then gives to a person who has connected again counts for nothing, and has to be given once more.

An index that changes is built under another name first, and takes its name in the moment in which
the old one gives it up. Every step can be repeated.
"""

from alembic import op

revision = "graph_0004"
down_revision = "graph_0003"
branch_labels = None
depends_on = None

_INDEXES = {
    "idx_connection_outgoing": "connections (requested_by, created_at DESC, id DESC)",
    "idx_connection_pending_b": "connections (user_b_id, user_a_id)",
}


def upgrade() -> None:
    """Allow the status, have the indexes of requests cover it, and give users a second revision."""
    with op.get_context().autocommit_block():
        op.execute(
            "ALTER TABLE users ADD COLUMN IF NOT EXISTS shown_revision bigint NOT NULL DEFAULT 1"
        )
        _allow("'pending', 'accepted', 'withheld'")
        _replace_indexes("status IN ('pending', 'withheld')")


def downgrade() -> None:
    """Let requests that are withheld be declined, and take back the rest."""
    with op.get_context().autocommit_block():
        op.execute("DELETE FROM connections WHERE status = 'withheld'")
        _allow("'pending', 'accepted'")
        _replace_indexes("status = 'pending'")
        op.execute("ALTER TABLE users DROP COLUMN IF EXISTS shown_revision")


def _allow(statuses: str) -> None:
    op.execute(
        "ALTER TABLE connections DROP CONSTRAINT IF EXISTS ck_connections_known_status,"
        f" ADD CONSTRAINT ck_connections_known_status CHECK (status IN ({statuses})) NOT VALID"
    )
    op.execute("ALTER TABLE connections VALIDATE CONSTRAINT ck_connections_known_status")


def _replace_indexes(condition: str) -> None:
    for name, definition in _INDEXES.items():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_new")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_old")
        op.execute(f"CREATE INDEX CONCURRENTLY {name}_new ON {definition} WHERE {condition}")
        op.execute(
            f"DO $$ BEGIN ALTER INDEX {name} RENAME TO {name}_old;"
            f" ALTER INDEX {name}_new RENAME TO {name}; END $$"
        )
        op.execute(f"DROP INDEX CONCURRENTLY {name}_old")
