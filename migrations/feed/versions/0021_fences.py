"""Fences: whether what is cached of users' connections can have changed.

The version before does not know the tables, and asks the graph in every read.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, UUID

revision = "feed_0021"
down_revision = "feed_0020"
branch_labels = None
depends_on = None

# Rows become longer and shorter over and over, mostly on the page where they are.
_FILL = "ALTER TABLE fences SET (fillfactor = 70)"


def upgrade() -> None:
    """Create the tables, with an id for this keeper and the fence of everybody."""
    op.create_table(
        "fence_keeper",
        sa.Column("keeper_id", UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.PrimaryKeyConstraint("keeper_id", name=op.f("pk_fence_keeper")),
    )
    op.create_table(
        "fences",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("generation", UUID(), nullable=False),
        sa.Column("open", ARRAY(UUID()), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_fences")),
    )
    op.create_table(
        "open_fences",
        sa.Column("change_id", UUID(), nullable=False),
        sa.Column("transaction", sa.Text(), nullable=False),
        sa.Column("graph_history", sa.Text(), nullable=False),
        sa.Column("user_ids", ARRAY(sa.BigInteger()), nullable=False),
        sa.Column(
            "opened_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_open_fences")),
    )
    op.execute(_FILL)
    op.execute("INSERT INTO fence_keeper DEFAULT VALUES")
    op.execute("INSERT INTO fences VALUES (0, gen_random_uuid(), '{}')")


def downgrade() -> None:
    """Drop the tables."""
    for table in ("open_fences", "fences", "fence_keeper"):
        op.drop_table(table)
