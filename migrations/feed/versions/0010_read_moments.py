"""A read position is a moment: all posts of it are read.

`post_id` stays for the code of the version before, which goes on writing it and takes the default
for a position behind all posts of the moment.
"""

from alembic import op

revision = "feed_0010"
down_revision = "feed_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let positions do without a post."""
    op.alter_column("read_positions", "post_id", server_default="9223372036854775807")


def downgrade() -> None:
    """Ask for a post again."""
    op.alter_column("read_positions", "post_id", server_default=None)
