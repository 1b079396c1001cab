"""A post may have photos and no text.

The version before shows such posts and changes their audience; it only writes none itself. Every
step can be repeated.
"""

from alembic import op

revision = "feed_0011"
down_revision = "feed_0010"
branch_labels = None
depends_on = None

_CONSTRAINT = "ck_posts_body_length"
# Validated apart, so that the table is not read under the lock of ADD CONSTRAINT.
_REPLACE = (
    f"ALTER TABLE posts DROP CONSTRAINT IF EXISTS {_CONSTRAINT}",
    f"ALTER TABLE posts ADD CONSTRAINT {_CONSTRAINT} CHECK ({{check}}) NOT VALID",
    f"ALTER TABLE posts VALIDATE CONSTRAINT {_CONSTRAINT}",
)
# The schema before needs a text of each post. Its photos stay.
_GIVE_TEXT = "UPDATE posts SET body = '-' WHERE body = ''"


def upgrade() -> None:
    """Allow the empty text."""
    with op.get_context().autocommit_block():
        for statement in _REPLACE:
            op.execute(statement.format(check="char_length(body) <= 10000"))


def downgrade() -> None:
    """Give posts without text one of a single hyphen, and forbid the empty text."""
    with op.get_context().autocommit_block():
        op.execute(_GIVE_TEXT)
        for statement in _REPLACE:
            op.execute(statement.format(check="char_length(body) BETWEEN 1 AND 10000"))
