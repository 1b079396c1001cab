"""Comments that reply to one, and comments that the author of the post has hidden.

The version before does not know the columns. Until it is gone it lists replies among the comments,
shows hidden comments, and deletes a comment without the replies to it, which are not shown then.
So the way back deletes what was hidden, rather than to show it. Every step can be repeated.
"""

from alembic import op

revision = "feed_0020"
down_revision = "feed_0019"
branch_labels = None
depends_on = None

_REFERENCE = "fk_comments_post_author_id_post_id_parent_id"
_COLUMNS = (
    "ALTER TABLE comments ADD COLUMN IF NOT EXISTS parent_id bigint",
    "ALTER TABLE comments ADD COLUMN IF NOT EXISTS hidden boolean NOT NULL DEFAULT false",
)
_REPLIES = """
    CREATE INDEX CONCURRENTLY idx_comment_reply
    ON comments (post_author_id, post_id, parent_id, created_at, id)
    WHERE parent_id IS NOT NULL"""
_TO_PARENT = (
    f"ALTER TABLE comments DROP CONSTRAINT IF EXISTS {_REFERENCE}",
    f"""ALTER TABLE comments ADD CONSTRAINT {_REFERENCE}
        FOREIGN KEY (post_author_id, post_id, parent_id)
        REFERENCES comments (post_author_id, post_id, id) ON DELETE CASCADE NOT VALID""",
    # Apart, so that the table is not read under the lock of ADD CONSTRAINT.
    f"ALTER TABLE comments VALIDATE CONSTRAINT {_REFERENCE}",
)
_WITHOUT_REPLIES = "deleted_at IS NULL AND parent_id IS NULL"
_WITH_REPLIES = "deleted_at IS NULL"
# With the replies to it, as the author of the post sees them go.
_DELETE_HIDDEN = """
    WITH gone AS (
        UPDATE comments AS c SET deleted_at = now(), version = c.version + 1
        WHERE c.deleted_at IS NULL
          AND (c.hidden
               OR EXISTS (SELECT FROM comments AS parent
                          WHERE parent.post_author_id = c.post_author_id
                            AND parent.post_id = c.post_id AND parent.id = c.parent_id
                            AND (parent.hidden OR parent.moderated_at IS NOT NULL)))
        RETURNING c.post_author_id, c.post_id, c.moderated_at
    ),
    fewer AS (
        SELECT post_author_id, post_id, count(*) AS number FROM gone
        WHERE moderated_at IS NULL
        GROUP BY post_author_id, post_id
    )
    UPDATE post_stats AS stats SET comment_count = stats.comment_count - fewer.number
    FROM fewer
    WHERE stats.author_id = fewer.post_author_id AND stats.post_id = fewer.post_id"""


def upgrade() -> None:
    """Add the columns, and let the index of comments leave out replies, which get their own."""
    with op.get_context().autocommit_block():
        for statement in _COLUMNS:
            op.execute(statement)
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_comment_reply")
        op.execute(_REPLIES)
        for statement in _TO_PARENT:
            op.execute(statement)
        _index_comments(where=_WITHOUT_REPLIES)


def downgrade() -> None:
    """Delete what is hidden, make comments of replies, and drop the columns."""
    with op.get_context().autocommit_block():
        op.execute(_DELETE_HIDDEN)
        _index_comments(where=_WITH_REPLIES)
        op.execute(f"ALTER TABLE comments DROP CONSTRAINT IF EXISTS {_REFERENCE}")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_comment_reply")
        op.execute("ALTER TABLE comments DROP COLUMN IF EXISTS parent_id")
        op.execute("ALTER TABLE comments DROP COLUMN IF EXISTS hidden")


def _index_comments(*, where: str) -> None:
    """Build the index of comments anew; the old one serves until then."""
    op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_comment_post_new")
    op.execute(
        f"""CREATE INDEX CONCURRENTLY idx_comment_post_new
            ON comments (post_author_id, post_id, created_at, id) WHERE {where}"""
    )
    op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_comment_post")
    op.execute("ALTER INDEX idx_comment_post_new RENAME TO idx_comment_post")
