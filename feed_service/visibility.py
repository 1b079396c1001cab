"""The one rule of who sees what, as one SQL expression.

A viewer sees a post when they are its author; or they are connected with the author, no tag that
the post excludes was given to the viewer by the author, and the audience is ALL, or TAGS and the
author has given the viewer at least one of its tags. PRIVATE is the author alone. A deleted post is
seen by nobody. Blocks need no clause of their own: a block ends the connection in the same
transaction, and the ids are those of the graph.

It fails closed. An audience it does not know, and TAGS without tags, are seen by the author alone.
"""

from typing import Final


def _has_one_of_its_tags(*, excluded: bool) -> str:
    # OFFSET 0 keeps PostgreSQL from reading the tags of all posts into a hash table, to look those
    # of a page up in it; two probes of an index for each post are what it takes.
    return f"""EXISTS (
        SELECT FROM post_audience_tags AS audience
        JOIN user_tags AS given
          ON given.owner_user_id = audience.author_id
         AND given.tag_id = audience.tag_id
         AND given.target_user_id = :viewer_id
        WHERE audience.author_id = p.author_id
          AND audience.post_id = p.id
          AND audience.excluded = {excluded}
        OFFSET 0)"""


VISIBLE: Final = f"""(
    p.deleted_at IS NULL AND CASE
        WHEN p.author_id = :viewer_id THEN true
        WHEN p.author_id = ANY (CAST(:connected_ids AS bigint[]))
        THEN NOT {_has_one_of_its_tags(excluded=True)}
             AND (p.audience = 'all'
                  OR (p.audience = 'tags' AND {_has_one_of_its_tags(excluded=False)}))
        ELSE false
    END)"""
"""True for a row `p` of posts that :viewer_id may see, given the :connected_ids of the viewer.

A CASE and not an OR: PostgreSQL would take the two sides of an OR to the indexes and read all posts
of every author, instead of the newest in the order of an index.
"""
