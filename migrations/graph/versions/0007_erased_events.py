"""The numbers and times of erased events, for cursors that are of one of them.

May meet the code of the version before, which deletes events without a trace: a cursor that is of
such an event is refused later, and its consumer begins anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "graph_0007"
down_revision = "graph_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create erased_events."""
    op.create_table(
        "erased_events",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_erased_events")),
    )


def downgrade() -> None:
    """Forget erased events."""
    op.drop_table("erased_events")
