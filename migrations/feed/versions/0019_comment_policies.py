"""Authors of posts decide who may comment.

The version before does not know the columns: until it is gone it lets all who see a post
comment on it. Its new posts have the policy ALL, and its changes of a post leave the policy as it
is. Every step can be repeated.
"""

from alembic import op

revision = "feed_0019"
down_revision = "feed_0018"
branch_labels = None
depends_on = None

_CONSTRAINT = "ck_posts_known_comment_policy"
_ADD = (
    "ALTER TABLE posts ADD COLUMN IF NOT EXISTS comment_policy text NOT NULL DEFAULT 'all'",
    "ALTER TABLE posts ADD COLUMN IF NOT EXISTS comment_tag_ids bigint[] NOT NULL DEFAULT '{}'",
    "ALTER TABLE posts ADD COLUMN IF NOT EXISTS comments_locked boolean NOT NULL DEFAULT false",
    f"ALTER TABLE posts DROP CONSTRAINT IF EXISTS {_CONSTRAINT}",
    f"""ALTER TABLE posts ADD CONSTRAINT {_CONSTRAINT}
        CHECK (comment_policy IN ('all', 'nobody', 'tags')) NOT VALID""",
    # Apart, so that the table is not read under the lock of ADD CONSTRAINT.
    f"ALTER TABLE posts VALIDATE CONSTRAINT {_CONSTRAINT}",
)
_DROP = (
    "ALTER TABLE posts DROP COLUMN IF EXISTS comment_policy",
    "ALTER TABLE posts DROP COLUMN IF EXISTS comment_tag_ids",
    "ALTER TABLE posts DROP COLUMN IF EXISTS comments_locked",
)


def upgrade() -> None:
    """Add the columns, without rewriting the table."""
    with op.get_context().autocommit_block():
        for statement in _ADD:
            op.execute(statement)


def downgrade() -> None:
    """Drop the columns with what they hold."""
    with op.get_context().autocommit_block():
        for statement in _DROP:
            op.execute(statement)
