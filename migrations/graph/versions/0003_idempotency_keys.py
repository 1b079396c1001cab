"""Request ids of the graph's changes, so that they can be repeated.

The code of the version before knows no request ids, and leaves the table empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "graph_0003"
down_revision = "graph_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table as feed_service has it."""
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("about_user_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("user_id", "request_id", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("idx_idempotency_key_created_at", "idempotency_keys", ["created_at"])
    op.create_index(
        "idx_idempotency_key_about_user",
        "idempotency_keys",
        ["about_user_id"],
        postgresql_where=sa.text("about_user_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Drop the table; calls that were made cannot be repeated any more."""
    op.drop_table("idempotency_keys")
