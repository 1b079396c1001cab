"""Suspended users.

May meet the code of the version before, which suspends no users and does not look for suspensions:
suspend no user before that version is gone. Where it comes back, it shows suspended users again.
"""

import sqlalchemy as sa
from alembic import op

revision = "graph_0009"
down_revision = "graph_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create suspensions, what tells of their changes, and the counts of suspended connections."""
    op.create_table(
        "suspensions",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "suspended_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_suspensions")),
    )
    op.create_index(
        "idx_suspension_newest",
        "suspensions",
        [sa.text("suspended_at DESC"), sa.text("user_id DESC")],
    )
    op.create_table(
        "suspension_changes",
        sa.Column("is_single", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("is_single", name=op.f("pk_suspension_changes")),
        sa.CheckConstraint("is_single", name=op.f("ck_suspension_changes_single_row")),
    )
    op.add_column(
        "users",
        sa.Column(
            "suspended_connection_count",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    """Forget suspensions."""
    op.drop_column("users", "suspended_connection_count")
    op.drop_table("suspension_changes")
    op.drop_table("suspensions")
