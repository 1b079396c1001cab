"""Names that importers have for tags and comments, so that none is imported twice.

The version before does not know the columns, and imports neither. It drops an imported tag that was
deleted elsewhere before its posts are imported; the import then says so. Every step can be
repeated.
"""

from alembic import op

revision = "feed_0015"
down_revision = "feed_0014"
branch_labels = None
depends_on = None

_ADD = (
    "ALTER TABLE tags ADD COLUMN IF NOT EXISTS external_id text",
    "ALTER TABLE tags ADD COLUMN IF NOT EXISTS imported_at timestamptz",
    "ALTER TABLE comments ADD COLUMN IF NOT EXISTS external_id text",
)
_INDEXES = {
    "uq_tag_external_id": "tags (owner_user_id, external_id)",
    "uq_comment_external_id": "comments (post_author_id, post_id, author_id, external_id)",
}
_DROP = (
    "ALTER TABLE comments DROP COLUMN IF EXISTS external_id",
    "ALTER TABLE tags DROP COLUMN IF EXISTS imported_at",
    "ALTER TABLE tags DROP COLUMN IF EXISTS external_id",
)


def upgrade() -> None:
    """Add the columns, which are NULL, and their unique indexes."""
    with op.get_context().autocommit_block():
        for statement in _ADD:
            op.execute(statement)
        for name, columns in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(
                f"""CREATE UNIQUE INDEX CONCURRENTLY {name} ON {columns}
                    WHERE external_id IS NOT NULL"""
            )


def downgrade() -> None:
    """Drop the columns with their indexes: what is imported again comes twice."""
    with op.get_context().autocommit_block():
        for name in _INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        for statement in _DROP:
            op.execute(statement)
