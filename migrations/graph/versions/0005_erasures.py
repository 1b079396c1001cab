"""Which ids were erased, and which users are connected with one that was issued anew.

May meet the code of the version before, which records no erasures: for an id that it erases, and
for a connection that it makes with an id issued anew, FeedService.DeleteUser has to run before the
id is issued again, as it had to before. The same is true of what was erased before this migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "graph_0005"
down_revision = "graph_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create erasures."""
    op.create_table(
        "erasures",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column(
            "erased_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_erasures")),
    )
    op.add_column(
        "users",
        sa.Column("meets_erased", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    """Forget erasures."""
    op.drop_column("users", "meets_erased")
    op.drop_table("erasures")
