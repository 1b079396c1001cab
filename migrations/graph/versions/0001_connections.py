"""Connections, blocks, users, events."""

import sqlalchemy as sa
from alembic import op

revision = "graph_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create connections and everything about them."""
    op.create_table(
        "blocks",
        sa.Column("blocker_id", sa.BigInteger(), nullable=False),
        sa.Column("blocked_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("blocker_id <> blocked_id", name=op.f("ck_blocks_not_oneself")),
        sa.PrimaryKeyConstraint("blocker_id", "blocked_id", name=op.f("pk_blocks")),
    )
    op.create_index(
        "idx_block_newest",
        "blocks",
        ["blocker_id", sa.literal_column("created_at DESC"), sa.literal_column("blocked_id DESC")],
        unique=False,
    )
    op.create_index("idx_block_reverse", "blocks", ["blocked_id", "blocker_id"], unique=False)
    op.create_table(
        "connection_events",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "transaction_id",
            sa.BigInteger(),
            server_default=sa.text("((pg_current_xact_id())::text)::bigint"),
            nullable=False,
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=False),
        sa.Column("peer_id", sa.BigInteger(), nullable=True),
        sa.Column("actor_revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("peer_revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_connection_events")),
    )
    op.create_index("idx_connection_event_actor", "connection_events", ["actor_id"], unique=False)
    op.create_index("idx_connection_event_peer", "connection_events", ["peer_id"], unique=False)
    op.create_table(
        "connections",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_a_id", sa.BigInteger(), nullable=False),
        sa.Column("user_b_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.BigInteger(), nullable=False),
        sa.Column(
            "addressee_id",
            sa.BigInteger(),
            sa.Computed(
                "CASE WHEN requested_by = user_a_id THEN user_b_id ELSE user_a_id END",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'accepted')", name=op.f("ck_connections_known_status")
        ),
        sa.CheckConstraint(
            "requested_by IN (user_a_id, user_b_id)",
            name=op.f("ck_connections_requested_by_one_of_them"),
        ),
        sa.CheckConstraint("user_a_id < user_b_id", name=op.f("ck_connections_ordered_pair")),
        sa.CheckConstraint("user_a_id > 0", name=op.f("ck_connections_positive_ids")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint(
            "user_a_id", "user_b_id", name=op.f("uq_connections_user_a_id_user_b_id")
        ),
    )
    op.create_index(
        "idx_connection_incoming",
        "connections",
        ["addressee_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "idx_connection_lookup",
        "connections",
        ["user_a_id", "user_b_id"],
        unique=False,
        postgresql_where=sa.text("status = 'accepted'"),
    )
    op.create_index(
        "idx_connection_newest_a",
        "connections",
        ["user_a_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("status = 'accepted'"),
    )
    op.create_index(
        "idx_connection_newest_b",
        "connections",
        ["user_b_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("status = 'accepted'"),
    )
    op.create_index(
        "idx_connection_outgoing",
        "connections",
        ["requested_by", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "idx_connection_pending_b",
        "connections",
        ["user_b_id", "user_a_id"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "idx_connection_reverse_lookup",
        "connections",
        ["user_b_id", "user_a_id"],
        unique=False,
        postgresql_where=sa.text("status = 'accepted'"),
    )
    op.create_table(
        "totals",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name", "slot", name=op.f("pk_totals")),
    )
    op.create_table(
        "users",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("connection_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("connection_count >= 0", name=op.f("ck_users_count_not_negative")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_users")),
    )


def downgrade() -> None:
    """Drop connections and everything about them, with the data."""
    op.drop_table("users")
    op.drop_table("totals")
    op.drop_table("connections")
    op.drop_table("connection_events")
    op.drop_table("blocks")
