"""Up to which erasure of an id everything of the erased person is gone."""

import sqlalchemy as sa
from alembic import op

revision = "feed_0009"
down_revision = "feed_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create erased_users."""
    op.create_table(
        "erased_users",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column(
            "erased_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_erased_users")),
    )


def downgrade() -> None:
    """Forget what was erased."""
    op.drop_table("erased_users")
