"""The rule of `visibility` in its second, faster form: as the streams of posts that a viewer sees.

`visibility` looks at a post and decides. That is right for posts one has; but to find the newest
that a viewer sees it would have to look at everything that their connections have posted. What it
lets through is a union of streams, though, which indexes hold ready in the order of a feed:

    the posts for ALL, of each connection            idx_post_open
    the posts of each tag that a connection has
    given to the viewer                              idx_post_audience_tag_lookup
    the viewer's own posts                           idx_post_author

Posts that are private or for other people's tags are in none of them, so they cost nothing. What is
left to be asked of a post is what its author excludes. Only authors who have given the viewer a tag
by which they exclude anybody can exclude the viewer, so only their posts are asked.

An entry of a tag counts only while its post is there and for TAGS: whatever a writer leaves behind
in post_audience_tags shows nothing. So the streams need nothing that has to be maintained.

The tests compare the two forms on tens of thousands of random questions.
"""

from typing import Final

from feed_service.models import ALL, TAGS
from feed_service.visibility import tag_holds

CONNECTIONS: Final = f"""
    SELECT id
    FROM unnest(CAST(:author_ids AS bigint[])) AS id
    WHERE NOT :by_tags OR EXISTS (
        SELECT FROM user_tags AS chosen
        WHERE chosen.owner_user_id = :viewer_id
          AND chosen.target_user_id = id
          AND chosen.tag_id = ANY (CAST(:tag_ids AS bigint[]))
          AND {tag_holds("chosen", peer="id", revisions=":own_revisions")})
"""
"""Those of the viewer's connections in :author_ids who are left when :by_tags: to whom the viewer
gave one of :tag_ids. For a CTE `connections`, from which the others read."""

GIVEN: Final = f"""
    SELECT given.owner_user_id AS author_id, given.tag_id
    FROM user_tags AS given
    WHERE given.target_user_id = :viewer_id
      AND given.owner_user_id = ANY (CAST(:author_ids AS bigint[]))
      AND (given.owner_user_id IN (SELECT id FROM connections)) IS TRUE
      AND {tag_holds("given", peer="given.owner_user_id", revisions=":peer_revisions")}
"""
"""The tags that the connections have given to the viewer, for a CTE `given`."""

EXCLUDERS: Final = """
    SELECT author_id FROM given
    WHERE EXISTS (SELECT FROM post_audience_tags AS exclusion
                  WHERE exclusion.author_id = given.author_id AND exclusion.excluded
                  OFFSET 0)
"""
"""Those who have given the viewer a tag and exclude anybody from anything, for a CTE `excluders`.
It is evaluated when a stream is read, and not at all when none is. OFFSET 0, here and below, keeps
PostgreSQL from reading everybody's exclusions to join them: a probe of an index is enough."""

HAS_TAG: Final = """EXISTS (
                SELECT FROM post_audience_tags AS inclusion
                WHERE inclusion.author_id = p.author_id AND inclusion.post_id = p.id
                  AND inclusion.excluded IS NOT TRUE
                  AND ((inclusion.author_id, inclusion.tag_id)
                       IN (SELECT author_id, tag_id FROM given)) IS TRUE
                OFFSET 0)"""
"""Whether row `p` of posts has one of the tags in `given`."""

IS_EXCLUDED: Final = """EXISTS (
                SELECT FROM post_audience_tags AS exclusion
                WHERE exclusion.author_id = p.author_id AND exclusion.post_id = p.id
                  AND exclusion.excluded
                  AND ((exclusion.author_id, exclusion.tag_id)
                       IN (SELECT author_id, tag_id FROM given)) IS TRUE
                OFFSET 0)"""
"""Whether row `p` of posts excludes one of the tags in `given`."""

_IS_NOT_EXCLUDED: Final = f"""CASE
            WHEN p.author_id IN (SELECT author_id FROM excluders) THEN NOT {IS_EXCLUDED}
            ELSE true END"""


def open_posts(*, author: str, part: str) -> str:
    """Return the query for an author's posts for ALL; `part` is a condition on their place."""
    return f"""
        SELECT p.author_id, p.id, p.created_at, p.importance FROM posts AS p
        WHERE p.author_id = {author} AND p.audience = '{ALL}' AND p.deleted_at IS NULL
          AND {part} AND {_IS_NOT_EXCLUDED}"""


def tagged_posts(*, author: str, tag: str, part: str) -> str:
    """Return the query for the posts of a tag; `part` is a condition on their place.

    OFFSET 0 keeps PostgreSQL from joining all posts of the author; so each entry is looked up in
    idx_post_author alone.
    """
    return f"""
        SELECT entry.author_id, entry.id, entry.created_at, post.importance
        FROM (SELECT author_id, post_id AS id, created_at, tag_id, excluded FROM post_audience_tags)
             AS entry
        CROSS JOIN LATERAL (
            SELECT p.importance FROM posts AS p
            WHERE p.author_id = entry.author_id AND p.created_at = entry.created_at
              AND p.id = entry.id AND p.audience = '{TAGS}' AND p.deleted_at IS NULL
              AND {_IS_NOT_EXCLUDED}
            OFFSET 0) AS post
        WHERE entry.author_id = {author} AND entry.tag_id = {tag} AND NOT entry.excluded
          AND {part}"""
