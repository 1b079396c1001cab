"""The indexes by which feeds are read as streams, built without holding up anybody.

No column is added, so the version before goes on writing rows that are right. It reads them by the
same indexes, which keep their names and their leading columns.

An index that changes is built under another name first, and takes its name in the moment in which
the old one gives it up. Every step can be repeated: what a run that broke off has left behind is
dropped and built anew.
"""

from alembic import op

revision = "feed_0004"
down_revision = "feed_0003"
branch_labels = None
depends_on = None

_NEW = {
    "idx_post_open": """
        posts (author_id, created_at DESC, id DESC) INCLUDE (importance)
        WHERE audience = 'all' AND deleted_at IS NULL""",
    "idx_post_exclusion": """
        post_audience_tags (author_id, post_id, tag_id) WHERE excluded""",
}
_CHANGED = {
    "idx_post_author": """
        posts (author_id, created_at DESC, id DESC) INCLUDE (audience, importance)
        WHERE deleted_at IS NULL""",
    "idx_post_audience_tag_lookup": """
        post_audience_tags (author_id, tag_id, created_at DESC, post_id DESC)
        WHERE NOT excluded""",
    "idx_user_tag_target": """
        user_tags (target_user_id, owner_user_id) INCLUDE (tag_id, owner_revision)""",
}
_BEFORE = {
    "idx_post_author": """
        posts (author_id, created_at DESC, id DESC) WHERE deleted_at IS NULL""",
    "idx_post_audience_tag_lookup": """
        post_audience_tags (author_id, tag_id, created_at DESC, post_id DESC)""",
    "idx_user_tag_target": """
        user_tags (target_user_id, owner_user_id)""",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in _NEW.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
        _replace(_CHANGED)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _replace(_BEFORE)
        for name in _NEW:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _replace(definitions: dict[str, str]) -> None:
    for name, definition in definitions.items():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_new")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_old")
        op.execute(f"CREATE INDEX CONCURRENTLY {name}_new ON {definition}")
        op.execute(
            f"DO $$ BEGIN ALTER INDEX {name} RENAME TO {name}_old;"
            f" ALTER INDEX {name}_new RENAME TO {name}; END $$"
        )
        op.execute(f"DROP INDEX CONCURRENTLY {name}_old")
