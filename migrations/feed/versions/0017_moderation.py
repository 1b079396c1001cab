"""What services hide and hold: columns of posts and comments, and the indexes that find them.

A post that is hidden has the audience `moderated`. The version before does not know it: it hides
such a post from all but its author, whom it answers INTERNAL, and cannot give it another audience,
which the constraint `moderation` refuses. It does show comments that are hidden, so hide none until
that version is gone. Every step can be repeated.
"""

from alembic import op

revision = "feed_0017"
down_revision = "feed_0016"
branch_labels = None
depends_on = None

_AUDIENCES = "audience IN ('all', 'tags', 'private', 'moderated')"
_AUDIENCES_BEFORE = "audience IN ('all', 'tags', 'private')"
_MODERATION = """(audience = 'moderated') = (moderated_at IS NOT NULL)
    AND (moderated_at IS NULL) = (chosen_audience IS NULL)"""
_REASON = "char_length(moderation_reason) <= 500"
_COLUMNS = {
    "posts": {
        "chosen_audience": "text",
        "moderated_at": "timestamptz",
        "moderation_reason": "text",
        "held_until": "timestamptz",
        "kept_until": "timestamptz",
    },
    "comments": {
        "moderated_at": "timestamptz",
        "moderation_reason": "text",
        "held_until": "timestamptz",
        "kept_until": "timestamptz",
    },
}
_INDEXES = {
    "idx_post_moderated": "posts (moderated_at DESC, id DESC) WHERE moderated_at IS NOT NULL",
    "idx_post_held": "posts (moderated_at DESC, id DESC) WHERE held_until IS NOT NULL",
    "idx_post_kept": "posts (author_id) WHERE kept_until IS NOT NULL",
    "idx_post_kept_until": """posts (kept_until)
        WHERE kept_until IS NOT NULL AND deleted_at IS NOT NULL AND purge_at IS NULL""",
    "idx_comment_moderated": """comments (moderated_at DESC, post_id DESC, id DESC)
        WHERE moderated_at IS NOT NULL""",
    "idx_comment_held": """comments (moderated_at DESC, post_id DESC, id DESC)
        WHERE held_until IS NOT NULL""",
    "idx_comment_kept": "comments (post_author_id, post_id) WHERE kept_until IS NOT NULL",
    "idx_comment_kept_until": """comments (kept_until)
        WHERE kept_until IS NOT NULL AND deleted_at IS NOT NULL""",
}
# What was hidden must not be shown by a version that does not know why.
_HIDE = (
    """DELETE FROM post_audience_tags AS of_post USING posts AS p
       WHERE p.author_id = of_post.author_id AND p.id = of_post.post_id
         AND p.moderated_at IS NOT NULL""",
    """UPDATE posts SET audience = 'private', chosen_audience = NULL, moderated_at = NULL
       WHERE moderated_at IS NOT NULL""",
    "UPDATE comments SET deleted_at = now() WHERE moderated_at IS NOT NULL AND deleted_at IS NULL",
)


def upgrade() -> None:
    """Add columns, constraints and indexes, without rewriting a table."""
    with op.get_context().autocommit_block():
        for table, columns in _COLUMNS.items():
            for name, kind in columns.items():
                op.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {kind}")
        _constrain("posts", "known_audience", _AUDIENCES)
        _constrain("posts", "moderation", _MODERATION)
        for table in _COLUMNS:
            _constrain(table, "reason_length", _REASON)
        for name, definition in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")


def downgrade() -> None:
    """Make hidden posts private and delete hidden comments; drop the rest with what it holds."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE posts DROP CONSTRAINT IF EXISTS ck_posts_moderation")
        for statement in _HIDE:
            op.execute(statement)
        _constrain("posts", "known_audience", _AUDIENCES_BEFORE)
        for name in _INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        for table, columns in _COLUMNS.items():
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS ck_{table}_reason_length")
            for name in columns:
                op.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS {name}")


def _constrain(table: str, name: str, check: str) -> None:
    constraint = f"ck_{table}_{name}"
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {constraint}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} CHECK ({check}) NOT VALID")
    # Apart, so that the table is not read under the lock of ADD CONSTRAINT.
    op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}")
