"""Whether `authors` leaves out no post that others may see, by its time or by its tags."""

from typing import Final

import sqlalchemy
from sqlalchemy import text

RAISE_BOUNDS: Final = """
    INSERT INTO authors (author_id, open_until, tagged_until, named_tags)
    SELECT author_id, coalesce(max(created_at) FILTER (WHERE audience = 'all'), '-infinity'),
           coalesce(max(created_at) FILTER (WHERE audience = 'tags'), '-infinity'),
           coalesce((SELECT bit_or(CAST(1 AS bigint) << CAST(tag_id & 63 AS integer))
                     FROM post_audience_tags AS tag
                     WHERE tag.author_id = p.author_id AND NOT excluded), 0)
    FROM posts AS p WHERE audience IN ('all', 'tags') AND deleted_at IS NULL GROUP BY author_id
    ON CONFLICT (author_id) DO UPDATE
    SET open_until = excluded.open_until, tagged_until = excluded.tagged_until,
        named_tags = excluded.named_tags
"""
"""For posts that were stored while no trigger was fired."""

_TOO_LOW = text("""
    SELECT p.author_id, p.id
    FROM posts AS p LEFT JOIN authors AS a ON a.author_id = p.author_id
    WHERE p.deleted_at IS NULL
      AND (p.audience = 'all' AND (a.open_until >= p.created_at) IS NOT TRUE
           OR p.audience = 'tags' AND (a.tagged_until >= p.created_at) IS NOT TRUE)
    UNION
    SELECT tag.author_id, tag.post_id
    FROM post_audience_tags AS tag LEFT JOIN authors AS a ON a.author_id = tag.author_id
    WHERE NOT tag.excluded
      AND (get_bit(CAST(a.named_tags AS bit(64)), CAST(63 - tag.tag_id % 64 AS integer)) = 1)
          IS NOT TRUE
""")


def posts_left_out(feed_url: str) -> list[tuple[int, int]]:
    """Return the names of the posts that are newer than a bound of their author says.

    And of those that have a tag which their author's posts have never named, as it says; also of
    posts that nobody sees now, because nothing looks at their tags when others see them again.
    """
    engine = sqlalchemy.create_engine(feed_url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return [(author_id, post_id) for author_id, post_id in connection.execute(_TOO_LOW)]
