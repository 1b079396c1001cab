"""Imports raise the bounds of authors by a statement for each chunk, instead of once for each post.

The trigger leaves out the posts of a transaction that says that it raises the bounds itself, at its
end and in the order of the authors, as the trigger does. Imports of the version before do not say
so, and those of this version do so also without this migration. Every step can be repeated.
"""

from alembic import op
from sqlalchemy import text

revision = "feed_0023"
down_revision = "feed_0022"
branch_labels = None
depends_on = None

_IS_SHOWN = "NEW.audience IN ('all', 'tags') AND NEW.deleted_at IS NULL"
_IS_NOT_RAISED = "current_setting('kith.raises_bounds', true) IS DISTINCT FROM 'on'"


def upgrade() -> None:
    """Leave out the posts of transactions that raise the bounds themselves."""
    _create_trigger(f"{_IS_SHOWN} AND {_IS_NOT_RAISED}")


def downgrade() -> None:
    """Raise the bounds for every post."""
    _create_trigger(_IS_SHOWN)


def _create_trigger(condition: str) -> None:
    # A distributed database has no triggers.
    if not op.get_bind().execute(_HAS_TRIGGER).scalar_one():
        return
    # In one transaction, whose lock no insert passes.
    op.execute("DROP TRIGGER raise_author_bounds_of_new ON posts")
    op.execute(f"""
        CREATE CONSTRAINT TRIGGER raise_author_bounds_of_new
        AFTER INSERT ON posts DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION public.raise_author_bounds()
    """)


_HAS_TRIGGER = text("""
    SELECT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = CAST('posts' AS regclass)
                     AND tgname = 'raise_author_bounds_of_new')
""")
