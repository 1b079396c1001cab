"""Tags can be muted until a moment, or `infinity`; NULL is not muted.

The version before does not know the column: it shows everybody, and its changes of a tag leave the
mute as it is. Every step can be repeated.
"""

from alembic import op

revision = "feed_0014"
down_revision = "feed_0013"
branch_labels = None
depends_on = None

_INDEX = "idx_tag_muted"


def upgrade() -> None:
    """Add the column, which is NULL, and the index of what is muted."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE tags ADD COLUMN IF NOT EXISTS muted_until timestamptz")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}")
        op.execute(
            f"""CREATE INDEX CONCURRENTLY {_INDEX}
                ON tags (owner_user_id, muted_until) WHERE muted_until IS NOT NULL"""
        )


def downgrade() -> None:
    """Drop the column with its index, which ends all mutes."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}")
        op.execute("ALTER TABLE tags DROP COLUMN IF EXISTS muted_until")
