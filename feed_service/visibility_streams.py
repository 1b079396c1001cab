"""The rule of `visibility` in its second, faster form: as the streams of posts that a viewer sees.

`visibility` looks at a post and decides. That is right for posts one has; but to find the newest
that a viewer sees it would have to look at everything that their connections have posted. But the
posts that it admits are a union of streams, which indexes have in the order of a feed:

    the posts for ALL, of each connection            idx_post_open
    the posts of each tag that a connection has
    given to the viewer                              idx_post_audience_tag_lookup
    the viewer's own posts                           idx_post_author

Posts that are private or for other people's tags are in none of them, so they cost nothing. What is
left to be asked of an entry is whether its post excludes the viewer, and, of the entry of a tag,
whether its post is there and for TAGS: rows that a writer leaves behind in post_audience_tags show
nothing. So the streams need nothing that has to be maintained. `authors`, maintained by triggers,
only saves reading streams: it has bounds for the streams of silent authors, and the tags that the
posts of an author have named.

The tests compare the two forms on thousands of random questions.
"""

from collections.abc import Sequence
from typing import Final

from feed_service.models import ALL, TAGS
from feed_service.mutes import not_muted
from feed_service.visibility import DECIDING_TAGS, Clause, tag_holds

CHOSEN: Final = """user_tags AS chosen
        JOIN tags AS tag
          ON tag.owner_user_id = :viewer_id AND tag.id = chosen.tag_id AND tag.deleted_at IS NULL"""
"""The people with tags of the viewer, except for deleted tags, which are no filter."""

CONNECTIONS: Final = f"""
    SELECT connected.id
    FROM unnest(CAST(:author_ids AS bigint[])) AS connected (id)
    WHERE (NOT :by_tags OR EXISTS (
        SELECT FROM {CHOSEN}
        WHERE chosen.owner_user_id = :viewer_id
          AND chosen.target_user_id = connected.id
          AND chosen.tag_id = ANY (CAST(:tag_ids AS bigint[]))
          AND {tag_holds("chosen", peer="connected.id", revisions=":own_revisions")}))
      AND (:with_muted OR {not_muted("connected.id")})
"""
"""The viewer's connections in :author_ids; when :by_tags, only those with one of the viewer's
:tag_ids; unless :with_muted, only those that the viewer has not muted. For a CTE `connections`,
from which the others read."""

NOT_EXCLUDED: Final = f"NOT EXISTS ({DECIDING_TAGS[Clause.EXCLUDED]} OFFSET 0)"
"""Whether the author of row `p` of posts has never given the viewer a tag that it excludes."""

SHOWN_TO_CONNECTION: Final = f"""
          CASE WHEN CASE p.audience
                        WHEN '{ALL}' THEN true
                        WHEN '{TAGS}' THEN EXISTS ({DECIDING_TAGS[Clause.HAS_TAG]} OFFSET 0)
                        ELSE false END
               THEN {NOT_EXCLUDED} ELSE false END"""
"""Whether row `p` of posts, not deleted and by a connection, is shown to the viewer: for those few
that are found otherwise than by the streams.

What is cheapest is asked first: a private post costs no probe of an index.
"""


def given(*, by: str) -> str:
    """Return the query for the tags that the connections in a CTE have given to the viewer."""
    return f"""
    SELECT given.owner_user_id AS author_id, given.tag_id
    FROM user_tags AS given
    WHERE given.target_user_id = :viewer_id
      AND given.owner_user_id = ANY (ARRAY(SELECT id FROM {by}))
      AND {tag_holds("given", peer="given.owner_user_id", revisions=":peer_revisions")}
"""


def tag_bit(tag_id: str) -> str:
    """Return the bit of a tag in `authors.named_tags`.

    It is set for every tag that lets people see a post of the author. Another tag may have the same
    bit, and a bit stays when nothing names its tag any more; then the stream is read for nothing.
    """
    return f"CAST(1 AS bigint) << CAST({tag_id} & 63 AS integer)"


def open_posts(*, author: str, part: str) -> str:
    """Return the query for those posts of an author for ALL that are in a part of the stream.

    `part` is a condition on their position, and on row `p` of posts.
    """
    return f"""
        SELECT p.author_id, p.id, p.created_at, p.importance FROM posts AS p
        WHERE p.author_id = {author} AND p.audience = '{ALL}' AND p.deleted_at IS NULL AND {part}"""


def tag_entries(*, author: str, tag: str, part: str) -> str:
    """Return the query for the entries of a tag in a part of the stream; `part` is as above."""
    return f"""
        SELECT entry.author_id, entry.id, entry.created_at
        FROM (SELECT author_id, post_id AS id, created_at, tag_id, excluded FROM post_audience_tags)
             AS entry
        WHERE entry.author_id = {author} AND entry.tag_id = {tag} AND NOT entry.excluded
          AND {part}"""


def tagged_posts(*, author: str, tag: str, part: str) -> str:
    """Return the query for those posts that the entries of a tag show to the viewer."""
    return f"""
        SELECT entry.author_id, entry.id, entry.created_at, post.importance
        FROM ({tag_entries(author=author, tag=tag, part=part)}
              ORDER BY created_at DESC, id DESC) AS entry
        CROSS JOIN LATERAL ({shown_post("entry", audiences=(TAGS,))}) AS post"""


def shown_post(entry: str, *, audiences: Sequence[str]) -> str:
    """Return the query for an entry's post, if it has one of the audiences and excludes no viewer.

    OFFSET 0 keeps PostgreSQL from joining all posts of the author; so each entry is looked up in
    idx_post_author alone.
    """
    allowed = ", ".join(f"'{audience}'" for audience in audiences)
    return f"""
            SELECT p.importance FROM posts AS p
            WHERE p.author_id = {entry}.author_id AND p.created_at = {entry}.created_at
              AND p.id = {entry}.id AND p.audience IN ({allowed}) AND p.deleted_at IS NULL
              AND {NOT_EXCLUDED}
            OFFSET 0"""
