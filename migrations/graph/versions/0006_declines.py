"""Whose request was declined, so that asking again can wait.

May meet the code of the version before, which records no declines: who is declined by it may ask
again at once.
"""

import sqlalchemy as sa
from alembic import op

revision = "graph_0006"
down_revision = "graph_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create declines."""
    op.create_table(
        "declines",
        sa.Column("requester_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("decliner_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "declined_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("requester_id", "decliner_id", name=op.f("pk_declines")),
    )
    op.create_index("idx_decline_decliner", "declines", ["decliner_id"])
    op.create_index("idx_decline_oldest", "declines", ["declined_at"])


def downgrade() -> None:
    """Forget declines."""
    op.drop_table("declines")
