"""Which tags the posts of each author have ever named, by which feeds leave out the other tags.

A bit for each tag, that of its id modulo 64, set by a trigger on the tags of posts: the version
before goes on naming tags meanwhile. A bit that is set too much costs a probe of an index, and one
that is missing hides posts, so nothing clears them. The trigger waits for the end of the
transaction, as those of feed_0022 do, and is there before the bits of old posts are stored, so that
no tag is missed. It leaves out the tags of an import that says that it sets the bits itself.

A distributed database has neither the trigger nor use for the bits. Every step can be repeated.
"""

import sqlalchemy as sa
from alembic import op

revision = "feed_0024"
down_revision = "feed_0023"
branch_labels = None
depends_on = None

# A row is locked against erase_author also where its bit is set already. Named with the schema, and
# without sequential scans, as raise_author_bounds is.
_NOTE = """
CREATE OR REPLACE FUNCTION public.note_named_tag() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    bit CONSTANT bigint := CAST(1 AS bigint) << CAST(NEW.tag_id & 63 AS integer);
BEGIN
    PERFORM FROM public.authors
    WHERE author_id = NEW.author_id AND named_tags & bit <> 0
    FOR KEY SHARE;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO public.authors AS known (author_id, open_until, tagged_until, named_tags)
    VALUES (NEW.author_id, '-infinity', '-infinity', bit)
    ON CONFLICT (author_id) DO UPDATE
    SET named_tags = known.named_tags | excluded.named_tags;
    RETURN NULL;
END $$
"""
_DROP_TRIGGER = "DROP TRIGGER IF EXISTS note_named_tag ON post_audience_tags"
_CREATE_TRIGGER = f"""
DO $$ BEGIN
    {_DROP_TRIGGER};
    CREATE CONSTRAINT TRIGGER note_named_tag
    AFTER INSERT OR UPDATE ON post_audience_tags DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (
        NOT NEW.excluded AND current_setting('kith.notes_named_tags', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION public.note_named_tag();
END $$
"""
# A thousand authors a transaction, as in feed_0022.
_NOTE_BATCH = sa.text("""
    WITH found AS (
        SELECT author_id,
               bit_or(CAST(1 AS bigint) << CAST(tag_id & 63 AS integer)) AS named_tags
        FROM post_audience_tags
        WHERE author_id > :after AND NOT excluded
        GROUP BY author_id ORDER BY author_id LIMIT 1000
    ),
    noted AS (
        INSERT INTO authors AS known (author_id, open_until, tagged_until, named_tags)
        SELECT author_id, '-infinity', '-infinity', named_tags FROM found
        ON CONFLICT (author_id) DO UPDATE
        SET named_tags = known.named_tags | excluded.named_tags
    )
    SELECT max(author_id) FROM found
""")
_BEFORE_ALL = -(2**63)


def upgrade() -> None:
    """Add the bits, let a trigger set them, and then set them for what is there."""
    with op.get_context().autocommit_block():
        op.execute(
            "ALTER TABLE authors ADD COLUMN IF NOT EXISTS named_tags bigint NOT NULL DEFAULT 0"
        )
        if _is_distributed():
            return
        op.execute(_NOTE)
        op.execute(_CREATE_TRIGGER)
        after: int | None = _BEFORE_ALL
        while after is not None:
            after = op.get_bind().execute(_NOTE_BATCH, {"after": after}).scalar_one()


def downgrade() -> None:
    """Drop the bits."""
    with op.get_context().autocommit_block():
        if not _is_distributed():
            op.execute(_DROP_TRIGGER)
        op.execute("DROP FUNCTION IF EXISTS public.note_named_tag()")
        op.execute("ALTER TABLE authors DROP COLUMN IF EXISTS named_tags")


def _is_distributed() -> bool:
    has_citus = sa.text("SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL")
    if not op.get_bind().execute(has_citus).scalar_one():
        return False
    found = sa.text(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition"
        " WHERE logicalrelid = CAST('posts' AS regclass))"
    )
    return bool(op.get_bind().execute(found).scalar_one())
