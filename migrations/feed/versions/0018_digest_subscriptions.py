"""Who takes part in weekly digests that are mailed, and which of these are claimed.

The version before does not know the table, and an erasure by that version leaves the subscription
of the user.
"""

import sqlalchemy as sa
from alembic import op

revision = "feed_0018"
down_revision = "feed_0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create digest_subscriptions."""
    op.create_table(
        "digest_subscriptions",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("week_start_day", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimable_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "week_start_day BETWEEN 1 AND 7", name=op.f("ck_digest_subscriptions_known_day")
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_digest_subscriptions")),
    )
    op.create_index(
        "idx_digest_subscription_claimable_at", "digest_subscriptions", ["claimable_at"]
    )


def downgrade() -> None:
    """Drop the subscriptions."""
    op.drop_table("digest_subscriptions")
