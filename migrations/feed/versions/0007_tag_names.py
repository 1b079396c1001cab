"""The names of tags are compared by rules of our own, not by those of the database's locale.

lower() follows the locale that a database was created with: in "C" it knows ASCII alone, in Turkish
"I" is not the capital of "i". So one owner could have "É" and "é" here and not there. Such names
are told apart by the tag's id at their end. Every step can be repeated.
"""

import sqlalchemy as sa
from alembic import op

revision = "feed_0007"
down_revision = "feed_0006"
branch_labels = None
depends_on = None

# Each knows the case of all letters and no language. The first there is: PostgreSQL 17 brings its
# own, most systems have the second, and builds with ICU the third.
_COLLATIONS = ("pg_c_utf8", "C.utf8", "und-x-icu")
_THERE = sa.text("""
    SELECT collname FROM pg_collation
    WHERE collnamespace = 'pg_catalog'::regnamespace AND collname = ANY(:names)
      AND collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))
    ORDER BY array_position(CAST(:names AS name[]), collname) LIMIT 1
""")
# The id as a text, because a distributed database refuses what joins a number to one.
_TELL_APART = """
    UPDATE tags
    SET name = left(name, 49 - length(tags.id::text)) || '#' || tags.id::text,
        version = version + 1
    FROM (SELECT owner_user_id, id,
                 row_number() OVER (PARTITION BY owner_user_id, {key} ORDER BY id) AS nth
          FROM tags WHERE deleted_at IS NULL) AS same
    WHERE same.owner_user_id = tags.owner_user_id AND same.id = tags.id AND same.nth > 1
"""


def upgrade() -> None:
    """Compare names under a fixed collation."""
    found = op.get_bind().execute(_THERE, {"names": list(_COLLATIONS)}).scalar_one_or_none()
    if found is None:
        raise LookupError(f"the database has none of the collations {', '.join(_COLLATIONS)}")
    _compare(f'lower(name COLLATE "{found}")')


def downgrade() -> None:
    """Compare names by the database's locale again."""
    _compare("lower(name)")


def _compare(key: str) -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_tag_name_new")
        op.execute(_TELL_APART.format(key=key))
        op.execute(f"""
            CREATE UNIQUE INDEX CONCURRENTLY uq_tag_name_new ON tags (owner_user_id, {key})
            WHERE deleted_at IS NULL
        """)
    op.execute("DROP INDEX uq_tag_name")
    op.execute("ALTER INDEX uq_tag_name_new RENAME TO uq_tag_name")
