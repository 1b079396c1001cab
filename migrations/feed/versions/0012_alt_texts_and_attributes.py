"""Texts that describe photos, and what callers store with posts.

The version before does not know the columns: its photos have no description, and its changes of a
post leave the attributes as they are. Every step can be repeated.
"""

from alembic import op

revision = "feed_0012"
down_revision = "feed_0011"
branch_labels = None
depends_on = None

_CONSTRAINT = "ck_post_photos_alt_text_length"
_CHECK = "char_length(alt_text) <= 1000"
_ADD = (
    "ALTER TABLE posts ADD COLUMN IF NOT EXISTS attributes jsonb",
    "ALTER TABLE post_photos ADD COLUMN IF NOT EXISTS alt_text text NOT NULL DEFAULT ''",
    f"ALTER TABLE post_photos DROP CONSTRAINT IF EXISTS {_CONSTRAINT}",
    f"ALTER TABLE post_photos ADD CONSTRAINT {_CONSTRAINT} CHECK ({_CHECK}) NOT VALID",
    # Apart, so that the table is not read under the lock of ADD CONSTRAINT.
    f"ALTER TABLE post_photos VALIDATE CONSTRAINT {_CONSTRAINT}",
)
_DROP = (
    "ALTER TABLE post_photos DROP COLUMN IF EXISTS alt_text",
    "ALTER TABLE posts DROP COLUMN IF EXISTS attributes",
)


def upgrade() -> None:
    """Add both columns, without rewriting a table."""
    with op.get_context().autocommit_block():
        for statement in _ADD:
            op.execute(statement)


def downgrade() -> None:
    """Drop both columns with what they hold."""
    with op.get_context().autocommit_block():
        for statement in _DROP:
            op.execute(statement)
