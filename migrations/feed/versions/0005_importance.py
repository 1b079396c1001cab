"""The index by which the digest of a hub finds the most important posts, and no post without one.

The version before gives every post an importance and reads none by the new index. What older ones
wrote while they were being replaced is scored here, as they would have been.

Every step can be repeated: what a run that broke off has left behind is dropped and built anew.
"""

from alembic import op

revision = "feed_0005"
down_revision = "feed_0004"
branch_labels = None
depends_on = None

# The heuristic of feed_service.importance as it was then.
_SCORE = """
    UPDATE posts AS p
    SET importance = 2.0 + 3.0 * least(1.0, ln(1.0 + char_length(p.body)) / ln(501.0))
        + CASE (SELECT count(*) FROM post_photos AS photo
                WHERE photo.author_id = p.author_id AND photo.post_id = p.id)
          WHEN 0 THEN 0 WHEN 1 THEN 1.0 ELSE 1.5 END
    WHERE p.importance IS NULL"""
# A check that is validated beforehand spares SET NOT NULL to read the table under its lock.
_REQUIRE = [
    "ALTER TABLE posts DROP CONSTRAINT IF EXISTS has_importance",
    "ALTER TABLE posts ADD CONSTRAINT has_importance CHECK (importance IS NOT NULL) NOT VALID",
    _SCORE,
    "ALTER TABLE posts VALIDATE CONSTRAINT has_importance",
    "ALTER TABLE posts ALTER COLUMN importance SET NOT NULL",
    "ALTER TABLE posts DROP CONSTRAINT has_importance",
]
_INDEX = """
    CREATE INDEX CONCURRENTLY idx_post_important ON posts (
        CAST(created_at AT TIME ZONE 'UTC' AS date), importance DESC, created_at DESC, id DESC
    ) INCLUDE (author_id, audience)
    WHERE importance > 4.0 AND deleted_at IS NULL"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in _REQUIRE:
            op.execute(statement)
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_post_important")
        op.execute(_INDEX)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_post_important")
    op.execute("ALTER TABLE posts ALTER COLUMN importance DROP NOT NULL")
