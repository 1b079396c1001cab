"""Deleted posts can be restored until `purge_at`.

Only posts that this version deletes have a `purge_at`. The version before takes the tags and photos
from the posts that it deletes, so their excluded people would be unknown: these stay
deleted. It leaves `purge_at` as it is, in posts that it neither restores nor deletes anew.

Every step can be repeated.
"""

from alembic import op

revision = "feed_0013"
down_revision = "feed_0012"
branch_labels = None
depends_on = None

_INDEX = "idx_post_restorable"
# As the version before has them.
_TAKE_AWAY = (
    """UPDATE object_removals AS removal SET due_at = now()
       FROM post_photos AS of_post
       JOIN posts AS p ON p.author_id = of_post.author_id AND p.id = of_post.post_id
       WHERE removal.owner_user_id = of_post.author_id AND removal.object_key = of_post.object_key
         AND p.deleted_at IS NOT NULL""",
    """DELETE FROM post_photos AS of_post USING posts AS p
       WHERE p.author_id = of_post.author_id AND p.id = of_post.post_id
         AND p.deleted_at IS NOT NULL""",
    """DELETE FROM post_audience_tags AS of_post USING posts AS p
       WHERE p.author_id = of_post.author_id AND p.id = of_post.post_id
         AND p.deleted_at IS NOT NULL""",
)


def upgrade() -> None:
    """Add the column, which is NULL, and the index of what can be restored."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE posts ADD COLUMN IF NOT EXISTS purge_at timestamptz")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}")
        op.execute(
            f"""CREATE INDEX CONCURRENTLY {_INDEX}
                ON posts (author_id, deleted_at DESC, id DESC) WHERE purge_at IS NOT NULL"""
        )


def downgrade() -> None:
    """Take tags and photos from deleted posts, and drop the column with its index."""
    with op.get_context().autocommit_block():
        for statement in _TAKE_AWAY:
            op.execute(statement)
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}")
        op.execute("ALTER TABLE posts DROP COLUMN IF EXISTS purge_at")
