"""Indexes on tables in use, built without holding up writers, and the importance of old posts.

Every step can be repeated, so a run that broke off is finished by the next one. An index whose
build broke off is left behind INVALID; it is dropped and built anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "feed_0003"
down_revision = "feed_0002"
branch_labels = None
depends_on = None

_INDEXES = {
    "idx_idempotency_key_about_user": """
        INDEX CONCURRENTLY idx_idempotency_key_about_user ON idempotency_keys (about_user_id)
        WHERE about_user_id IS NOT NULL""",
    "idx_post_deleted_at": """
        INDEX CONCURRENTLY idx_post_deleted_at ON posts (deleted_at)
        WHERE deleted_at IS NOT NULL""",
    "uq_post_external_id": """
        UNIQUE INDEX CONCURRENTLY uq_post_external_id ON posts (author_id, external_id)
        WHERE external_id IS NOT NULL""",
    "idx_tag_deleted_at": """
        INDEX CONCURRENTLY idx_tag_deleted_at ON tags (deleted_at)
        WHERE deleted_at IS NOT NULL""",
    "idx_user_tag_target": """
        INDEX CONCURRENTLY idx_user_tag_target ON user_tags (target_user_id, owner_user_id)""",
}

# The heuristic of feed_service.importance as it was then, for posts without photos.
_SCORE_BATCH = sa.text("""
    WITH batch AS (
        SELECT author_id, id FROM posts
        WHERE (author_id, id) > (:author_id, :id)
        ORDER BY author_id, id LIMIT 5000
    ),
    scored AS (
        UPDATE posts AS p
        SET importance = 2.0 + 3.0 * least(1.0, ln(1.0 + char_length(p.body)) / ln(501.0))
        FROM batch
        WHERE p.author_id = batch.author_id AND p.id = batch.id AND p.importance IS NULL
    )
    SELECT author_id, id FROM batch ORDER BY author_id DESC, id DESC LIMIT 1
""")


def upgrade() -> None:
    """Build the indexes, and score the posts that have no importance, some at a time."""
    with op.get_context().autocommit_block():
        for name, definition in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {definition}")
        last = (0, 0)
        while row := (
            op.get_bind().execute(_SCORE_BATCH, {"author_id": last[0], "id": last[1]}).one_or_none()
        ):
            last = (row[0], row[1])


def downgrade() -> None:
    """Drop the indexes. The importance stays: the version before does not look at it."""
    with op.get_context().autocommit_block():
        for name in _INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
