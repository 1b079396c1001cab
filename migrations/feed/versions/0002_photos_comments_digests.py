"""Photos, comments, importance, digests, read positions, and what follows the graph.

New tables, and columns that the version before does not name: it goes on working.
"""

import sqlalchemy as sa
from alembic import op

revision = "feed_0002"
down_revision = "feed_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and columns."""
    op.create_table(
        "followed",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("stream", name=op.f("pk_followed")),
    )
    op.create_table(
        "frozen_digests",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("left_out_count", sa.Integer(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint(
            "user_id", "start_at", "fingerprint", name=op.f("pk_frozen_digests")
        ),
    )
    op.create_table(
        "object_removals",
        sa.Column("owner_user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("owner_user_id", "object_key", name=op.f("pk_object_removals")),
    )
    op.create_index("idx_object_removal_due_at", "object_removals", ["due_at"], unique=False)
    op.create_table(
        "photo_uploads",
        sa.Column("owner_user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("owner_user_id", "object_key", name=op.f("pk_photo_uploads")),
    )
    op.create_index("idx_photo_upload_created_at", "photo_uploads", ["created_at"], unique=False)
    op.create_table(
        "read_positions",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("post_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_read_positions")),
    )
    op.create_table(
        "comments",
        sa.Column("post_author_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("post_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("author_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("edited_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "char_length(body) BETWEEN 1 AND 2000", name=op.f("ck_comments_body_length")
        ),
        sa.ForeignKeyConstraint(
            ["post_author_id", "post_id"],
            ["posts.author_id", "posts.id"],
            name=op.f("fk_comments_post_author_id_post_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("post_author_id", "post_id", "id", name=op.f("pk_comments")),
    )
    op.create_index("idx_comment_author", "comments", ["author_id", "id"], unique=False)
    op.create_index(
        "idx_comment_deleted_at",
        "comments",
        ["deleted_at"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "idx_comment_post",
        "comments",
        ["post_author_id", "post_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "frozen_digest_items",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("author_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("post_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("importance", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "start_at", "fingerprint"],
            ["frozen_digests.user_id", "frozen_digests.start_at", "frozen_digests.fingerprint"],
            name=op.f("fk_frozen_digest_items_user_id_start_at_fingerprint"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "user_id",
            "start_at",
            "fingerprint",
            "author_id",
            "post_id",
            name=op.f("pk_frozen_digest_items"),
        ),
    )
    op.create_index(
        "idx_frozen_digest_item_author", "frozen_digest_items", ["author_id"], unique=False
    )
    op.create_table(
        "post_photos",
        sa.Column("author_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("post_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id", "post_id"],
            ["posts.author_id", "posts.id"],
            name=op.f("fk_post_photos_author_id_post_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("author_id", "post_id", "place", name=op.f("pk_post_photos")),
    )
    op.create_index(
        "uq_post_photo_object_key", "post_photos", ["author_id", "object_key"], unique=True
    )
    op.create_table(
        "post_stats",
        sa.Column("author_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("post_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("comment_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("comment_count >= 0", name=op.f("ck_post_stats_count_not_negative")),
        sa.ForeignKeyConstraint(
            ["author_id", "post_id"],
            ["posts.author_id", "posts.id"],
            name=op.f("fk_post_stats_author_id_post_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("author_id", "post_id", name=op.f("pk_post_stats")),
    )
    op.add_column("idempotency_keys", sa.Column("about_user_id", sa.BigInteger(), nullable=True))
    op.add_column(
        "posts",
        sa.Column(
            "importance_given", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
    )
    op.add_column("posts", sa.Column("external_id", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop them, with the data."""
    op.drop_column("posts", "external_id")
    op.drop_column("posts", "importance_given")
    op.drop_column("idempotency_keys", "about_user_id")
    for table in (
        "post_stats",
        "post_photos",
        "frozen_digest_items",
        "comments",
        "read_positions",
        "photo_uploads",
        "object_removals",
        "frozen_digests",
        "followed",
    ):
        op.drop_table(table)
