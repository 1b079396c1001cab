"""Which history of which graph the fences belong to: see docs/decisions/fences.md.

Both columns are empty in all rows but that of everybody. There the claim stays empty until a second
history comes, so that this version and the one before give the keeper the same name meanwhile.
"""

from alembic import op

revision = "feed_0025"
down_revision = "feed_0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, for which no row is written."""
    op.execute("ALTER TABLE fences ADD COLUMN claim uuid, ADD COLUMN claimed_by text")


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE fences DROP COLUMN claim, DROP COLUMN claimed_by")
