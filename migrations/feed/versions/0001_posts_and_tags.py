"""Posts, audiences, tags."""

import sqlalchemy as sa
from alembic import op

revision = "feed_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create posts, audiences and tags."""
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("user_id", "request_id", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(
        "idx_idempotency_key_created_at", "idempotency_keys", ["created_at"], unique=False
    )
    op.create_table(
        "posts",
        sa.Column("author_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("importance", sa.Double(), nullable=True),
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
            "audience IN ('all', 'tags', 'private')", name=op.f("ck_posts_known_audience")
        ),
        sa.CheckConstraint(
            "char_length(body) BETWEEN 1 AND 10000", name=op.f("ck_posts_body_length")
        ),
        sa.CheckConstraint("importance BETWEEN 0 AND 10", name=op.f("ck_posts_importance_range")),
        sa.PrimaryKeyConstraint("author_id", "id", name=op.f("pk_posts")),
    )
    op.create_index(
        "idx_post_author",
        "posts",
        ["author_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "idx_post_created_at",
        "posts",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_include=["author_id", "audience"],
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "tags",
        sa.Column("owner_user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("char_length(name) BETWEEN 1 AND 50", name=op.f("ck_tags_name_length")),
        sa.PrimaryKeyConstraint("owner_user_id", "id", name=op.f("pk_tags")),
    )
    op.create_index(
        "uq_tag_name",
        "tags",
        ["owner_user_id", sa.literal_column("lower(name)")],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "totals",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name", "slot", name=op.f("pk_totals")),
    )
    op.create_table(
        "post_audience_tags",
        sa.Column("author_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("post_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tag_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("excluded", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["author_id", "post_id"],
            ["posts.author_id", "posts.id"],
            name=op.f("fk_post_audience_tags_author_id_post_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["author_id", "tag_id"],
            ["tags.owner_user_id", "tags.id"],
            name=op.f("fk_post_audience_tags_author_id_tag_id"),
        ),
        sa.PrimaryKeyConstraint(
            "author_id", "post_id", "tag_id", name=op.f("pk_post_audience_tags")
        ),
    )
    op.create_index(
        "idx_post_audience_tag_lookup",
        "post_audience_tags",
        [
            "author_id",
            "tag_id",
            sa.literal_column("created_at DESC"),
            sa.literal_column("post_id DESC"),
        ],
        unique=False,
    )
    op.create_table(
        "user_tags",
        sa.Column("owner_user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tag_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("target_user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner_revision", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "owner_user_id <> target_user_id", name=op.f("ck_user_tags_not_oneself")
        ),
        sa.ForeignKeyConstraint(
            ["owner_user_id", "tag_id"],
            ["tags.owner_user_id", "tags.id"],
            name=op.f("fk_user_tags_owner_user_id_tag_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "owner_user_id", "tag_id", "target_user_id", name=op.f("pk_user_tags")
        ),
    )
    op.create_index(
        "idx_user_tag_lookup",
        "user_tags",
        ["owner_user_id", "target_user_id", "tag_id"],
        unique=False,
    )


def downgrade() -> None:
    """Drop posts, audiences and tags, with the data."""
    op.drop_table("user_tags")
    op.drop_table("post_audience_tags")
    op.drop_table("totals")
    op.drop_table("tags")
    op.drop_table("posts")
    op.drop_table("idempotency_keys")
