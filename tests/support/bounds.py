"""Whether the bounds of authors are what they have to be: no post that others may see is newer."""

from typing import Final

import sqlalchemy
from sqlalchemy import text

RAISE_BOUNDS: Final = """
    INSERT INTO authors (author_id, open_until, tagged_until)
    SELECT author_id, coalesce(max(created_at) FILTER (WHERE audience = 'all'), '-infinity'),
           coalesce(max(created_at) FILTER (WHERE audience = 'tags'), '-infinity')
    FROM posts WHERE audience IN ('all', 'tags') AND deleted_at IS NULL GROUP BY author_id
    ON CONFLICT (author_id) DO UPDATE
    SET open_until = excluded.open_until, tagged_until = excluded.tagged_until
"""
"""For posts that were stored while no trigger was fired."""

_TOO_LOW = text("""
    SELECT p.author_id, p.id
    FROM posts AS p LEFT JOIN authors AS a ON a.author_id = p.author_id
    WHERE p.deleted_at IS NULL
      AND (p.audience = 'all' AND (a.open_until >= p.created_at) IS NOT TRUE
           OR p.audience = 'tags' AND (a.tagged_until >= p.created_at) IS NOT TRUE)
""")


def posts_above_their_bounds(feed_url: str) -> list[tuple[int, int]]:
    """Return the names of the posts that are newer than a bound of their author says."""
    engine = sqlalchemy.create_engine(feed_url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return [(author_id, post_id) for author_id, post_id in connection.execute(_TOO_LOW)]
