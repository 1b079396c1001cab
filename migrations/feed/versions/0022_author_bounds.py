"""How new the posts of each author are at most, by which feeds leave out authors who are silent.

Triggers raise these bounds, and no statement of the service: a bound that is too low hides posts,
and the version before, which does not know the bounds, goes on writing posts meanwhile. They are
there before the bounds of old posts are stored, so that no post is missed. They wait for the end of
the transaction, so that it locks the author's row for a moment only, and after everything else.

A distributed database has neither triggers nor use for the bounds: there they stay infinite, which
leaves out nobody. Every step can be repeated.
"""

import sqlalchemy as sa
from alembic import op

revision = "feed_0022"
down_revision = "feed_0021"
branch_labels = None
depends_on = None

_COLUMNS = ("open_until", "tagged_until")

# Named with the schema, because a restored dump writes rows without a search path. A row is locked
# against erase_author also where it is not raised. It takes the newest post of all, so that an
# import raises an author's bound once and not with each row. Without sequential scans, because a
# session goes on with the plan that it made while the table was small.
_RAISE = """
CREATE OR REPLACE FUNCTION public.raise_author_bounds() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off AS $$
BEGIN
    PERFORM FROM public.authors
    WHERE author_id = NEW.author_id
      AND CASE NEW.audience WHEN 'all' THEN open_until ELSE tagged_until END >= NEW.created_at
    FOR KEY SHARE;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO public.authors AS known (author_id, open_until, tagged_until)
    SELECT NEW.author_id,
           CASE NEW.audience WHEN 'all' THEN newest.until ELSE '-infinity' END,
           CASE NEW.audience WHEN 'all' THEN '-infinity' ELSE newest.until END
    FROM (SELECT date_trunc('hour', greatest(NEW.created_at, max(created_at))) + interval '1 hour'
                 AS until
          FROM public.posts
          WHERE author_id = NEW.author_id AND audience = NEW.audience AND deleted_at IS NULL)
         AS newest
    ON CONFLICT (author_id) DO UPDATE
    SET open_until = greatest(known.open_until, excluded.open_until),
        tagged_until = greatest(known.tagged_until, excluded.tagged_until);
    RETURN NULL;
END $$
"""
_DROP_TRIGGERS = """
    DROP TRIGGER IF EXISTS raise_author_bounds_of_new ON posts;
    DROP TRIGGER IF EXISTS raise_author_bounds_of_changed ON posts;
"""
_IS_SHOWN = "NEW.audience IN ('all', 'tags') AND NEW.deleted_at IS NULL"
_CREATE_TRIGGERS = f"""
DO $$ BEGIN
    {_DROP_TRIGGERS}
    CREATE CONSTRAINT TRIGGER raise_author_bounds_of_new
    AFTER INSERT ON posts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ({_IS_SHOWN}) EXECUTE FUNCTION public.raise_author_bounds();
    CREATE CONSTRAINT TRIGGER raise_author_bounds_of_changed
    AFTER UPDATE OF audience, deleted_at, created_at ON posts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (
        {_IS_SHOWN}
        AND (OLD.audience <> NEW.audience OR OLD.deleted_at IS NOT NULL
             OR OLD.created_at < NEW.created_at))
    EXECUTE FUNCTION public.raise_author_bounds();
END $$
"""
# A thousand authors a transaction: those who post meanwhile wait for it. An author without posts in
# a feed has no row.
_RAISE_BATCH = sa.text("""
    WITH found AS (
        SELECT author_id, max(created_at) FILTER (WHERE audience = 'all') AS open_at,
               max(created_at) FILTER (WHERE audience = 'tags') AS tagged_at
        FROM posts
        WHERE author_id > :after AND audience IN ('all', 'tags') AND deleted_at IS NULL
        GROUP BY author_id ORDER BY author_id LIMIT 1000
    ),
    raised AS (
        INSERT INTO authors AS known (author_id, open_until, tagged_until)
        SELECT author_id,
               coalesce(date_trunc('hour', open_at) + interval '1 hour', '-infinity'),
               coalesce(date_trunc('hour', tagged_at) + interval '1 hour', '-infinity')
        FROM found
        ON CONFLICT (author_id) DO UPDATE
        SET open_until = greatest(known.open_until, excluded.open_until),
            tagged_until = greatest(known.tagged_until, excluded.tagged_until)
    )
    SELECT max(author_id) FROM found
""")
_BEFORE_ALL = -(2**63)


def upgrade() -> None:
    """Add the bounds, let triggers raise them, and then raise them for what is there."""
    with op.get_context().autocommit_block():
        is_distributed = _is_distributed()
        # Nothing reads the bounds before they are raised.
        there = "infinity" if is_distributed else "-infinity"
        for column in _COLUMNS:
            op.execute(
                f"ALTER TABLE authors ADD COLUMN IF NOT EXISTS {column} timestamptz NOT NULL"
                f" DEFAULT '{there}'"
            )
            op.execute(f"ALTER TABLE authors ALTER COLUMN {column} SET DEFAULT 'infinity'")
        if is_distributed:
            return
        op.execute(_RAISE)
        op.execute(_CREATE_TRIGGERS)
        after: int | None = _BEFORE_ALL
        while after is not None:
            after = op.get_bind().execute(_RAISE_BATCH, {"after": after}).scalar_one()


def downgrade() -> None:
    """Drop the bounds. The authors stay: the version before does not look at them."""
    with op.get_context().autocommit_block():
        if not _is_distributed():
            op.execute(f"DO $$ BEGIN {_DROP_TRIGGERS} END $$")
        op.execute("DROP FUNCTION IF EXISTS public.raise_author_bounds()")
        for column in _COLUMNS:
            op.execute(f"ALTER TABLE authors DROP COLUMN IF EXISTS {column}")


def _is_distributed() -> bool:
    has_citus = sa.text("SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL")
    if not op.get_bind().execute(has_citus).scalar_one():
        return False
    found = sa.text(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition"
        " WHERE logicalrelid = CAST('posts' AS regclass))"
    )
    return bool(op.get_bind().execute(found).scalar_one())
