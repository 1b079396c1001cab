"""Endings of connections.

May meet the code of the version before, which knows nothing of endings: a connection that it ends
after this migration has no ending here until the pair parts again. So start the new code soon, on
all machines, before anybody relies on endings.
"""

import sqlalchemy as sa
from alembic import op

revision = "graph_0002"
down_revision = "graph_0001"
branch_labels = None
depends_on = None

# A block ends a connection only where there is one, so the event before it decides.
_BACKFILL = """
    INSERT INTO endings (user_a_id, user_b_id, user_a_revision, user_b_revision, ended_at)
    SELECT DISTINCT ON (user_a_id, user_b_id)
           user_a_id, user_b_id,
           CASE WHEN actor_id = user_a_id THEN actor_revision ELSE peer_revision END,
           CASE WHEN actor_id = user_b_id THEN actor_revision ELSE peer_revision END,
           occurred_at
    FROM (SELECT *, lag(kind) OVER (PARTITION BY user_a_id, user_b_id ORDER BY seq) AS before
          FROM connection_events,
               LATERAL (SELECT least(actor_id, peer_id) AS user_a_id,
                               greatest(actor_id, peer_id) AS user_b_id) AS pair
          WHERE peer_id IS NOT NULL
            AND kind IN ('connected', 'imported', 'removed', 'blocked')) AS story
    WHERE kind IN ('removed', 'blocked') AND before IN ('connected', 'imported')
    ORDER BY user_a_id, user_b_id, seq DESC
"""


def upgrade() -> None:
    """Create endings, fill them from what has happened so far, and drop what was never read."""
    op.create_table(
        "endings",
        sa.Column("user_a_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_b_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_a_revision", sa.BigInteger(), nullable=False),
        sa.Column("user_b_revision", sa.BigInteger(), nullable=False),
        sa.Column(
            "ended_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("user_a_id < user_b_id", name=op.f("ck_endings_ordered_pair")),
        sa.PrimaryKeyConstraint(
            "user_a_id",
            "user_b_id",
            name=op.f("pk_endings"),
            postgresql_include=["user_a_revision", "user_b_revision"],
        ),
    )
    op.create_index(
        "idx_ending_reverse",
        "endings",
        ["user_b_id", "user_a_id"],
        unique=False,
        postgresql_include=["user_a_revision", "user_b_revision"],
    )
    op.execute(_BACKFILL)
    op.drop_column("connection_events", "transaction_id")


def downgrade() -> None:
    """Drop endings; later migrations find them in the events again."""
    op.add_column(
        "connection_events",
        sa.Column(
            "transaction_id",
            sa.BigInteger(),
            server_default=sa.text("((pg_current_xact_id())::text)::bigint"),
            nullable=False,
        ),
    )
    op.drop_table("endings")
