"""Up to where the events of connections were purged.

May meet the code of the version before, which purges none.
"""

import sqlalchemy as sa
from alembic import op

revision = "graph_0008"
down_revision = "graph_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create purged_events."""
    op.create_table(
        "purged_events",
        sa.Column("is_single", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("until_seq", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("is_single", name=op.f("pk_purged_events")),
        sa.CheckConstraint("is_single", name=op.f("ck_purged_events_single_row")),
    )


def downgrade() -> None:
    """Forget what was purged."""
    op.drop_table("purged_events")
