"""The changes of posts and comments, for consumers who follow them.

What is there already has no events. The version before writes none: until the last of its processes
has ended, changes are missing from the stream.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "feed_0016"
down_revision = "feed_0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "content_events",
        sa.Column("author_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("post_id", sa.BigInteger(), nullable=True),
        sa.Column("comment_id", sa.BigInteger(), nullable=True),
        sa.Column("comment_author_id", sa.BigInteger(), nullable=True),
        sa.Column("post_ids", postgresql.ARRAY(sa.BigInteger()), nullable=True),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("author_id", "seq", name=op.f("pk_content_events")),
    )
    op.create_index("idx_content_event_seq", "content_events", ["seq"])
    op.create_index(
        "idx_content_event_comment_author",
        "content_events",
        ["comment_author_id"],
        postgresql_where=sa.text("comment_author_id IS NOT NULL"),
    )
    op.create_table(
        "erased_content_events",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_erased_content_events")),
    )
    op.create_table(
        "purged_content_events",
        sa.Column("is_single", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("until_seq", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("is_single", name=op.f("pk_purged_content_events")),
        sa.CheckConstraint("is_single", name=op.f("ck_purged_content_events_single_row")),
    )


def downgrade() -> None:
    """Forget what happened."""
    op.drop_table("purged_content_events")
    op.drop_table("erased_content_events")
    op.drop_table("content_events")
