"""The size of photos, and when to remove an upload once more.

Columns that may be NULL, so nothing is rewritten and the version before goes on: its photos have no
size, and what it removes it removes once.
"""

import sqlalchemy as sa
from alembic import op

revision = "feed_0008"
down_revision = "feed_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("post_photos", sa.Column("width", sa.Integer))
    op.add_column("post_photos", sa.Column("height", sa.Integer))
    op.add_column("object_removals", sa.Column("again_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("object_removals", "again_at")
    op.drop_column("post_photos", "height")
    op.drop_column("post_photos", "width")
