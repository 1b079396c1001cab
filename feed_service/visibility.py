"""The one rule of who sees what, as one SQL expression.

A viewer sees a post when they are its author; or they are connected with the author, the author has
never given the viewer a tag that the post excludes, and the audience is ALL, or TAGS and the viewer
has at least one of its tags. PRIVATE is the author alone, and so is MODERATED, the audience of a
post while a service hides it. A deleted post has no viewers. Blocks need no clause of their own: a
block ends the connection in the same transaction, and the ids are those of the graph. Nor do
suspensions, for the ids are without suspended people, and a suspended viewer has none. Comments
need both: a person with a block, or a suspension, may be connected with the author of a post as the
viewer is. See `safe_read`, and `shown`: a comment that a service has hidden is for its author
alone, one that the post's author has hidden is for these two authors, and a reply goes with what
it replies to.

A tag lets a viewer in during the connection in which it was given, and keeps them out for good. It
was stored with the author's revision of then, and lets in if that is above the author's revision
right after the last ending of a connection between the two; there is one only where the present
connection is not the first. The row stays when the connection ends, and keeps out as long as it is
there: otherwise the excluded person could lift the exclusion by parting and connecting again. Only
the author takes it away, by RemoveTagMembers.

It fails closed. An audience it does not know, and TAGS without tags, are seen by the author alone.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from feed_service.models import MODERATED


class Clause(StrEnum):
    """The part of the rule that decided."""

    AUTHOR = "author"
    AUDIENCE_ALL = "audience_all"
    HAS_TAG = "has_tag"
    NOT_CONNECTED = "not_connected"
    PRIVATE = "private"
    EXCLUDED = "excluded"
    NO_TAG = "no_tag"
    DELETED = "deleted"
    MODERATED = "moderated"

    @property
    def is_visible(self) -> bool:
        """Whether the viewer sees the post."""
        return self in _VISIBLE_CLAUSES


_VISIBLE_CLAUSES: Final = (Clause.AUTHOR, Clause.AUDIENCE_ALL, Clause.HAS_TAG)


def tag_holds(given: str, *, peer: str, revisions: str) -> str:
    """Return whether a row `given` of user_tags belongs to the present connection with a peer.

    It takes for granted that there is one. `revisions` are those of the tag's owner, in the order
    of :reconnected_ids.
    """
    return f"{given}.owner_revision > {ending(peer=peer, revisions=revisions)}"


def ending(*, peer: str, revisions: str) -> str:
    """Return the revision after the last ending of a connection with a peer, 0 if none has ended.

    `revisions` are those of whose it is, in the order of :reconnected_ids.
    """
    return f"""coalesce(
        (CAST({revisions} AS bigint[]))
            [array_position(CAST(:reconnected_ids AS bigint[]), {peer})], 0)"""


HAS_TAG_OF_VIEWER: Final = f"""(
        given.target_user_id = ANY (CAST(:connected_ids AS bigint[]))
        AND {tag_holds("given", peer="given.target_user_id", revisions=":own_revisions")})"""
"""Whether the person of a row `given` of user_tags, by the viewer, has the tag now."""

_ENDING_OF_AUTHOR: Final = ending(peer="p.author_id", revisions=":peer_revisions")


def deciding_tags(
    *,
    excluded: bool,
    viewer: str = ":viewer_id",
    author_ending: str = _ENDING_OF_AUTHOR,
    author: str = "p.author_id",
) -> str:
    """Return the query for those tags of a post that let the viewer in, or keep them out.

    A tag keeps out also after the connection in which it was given has ended.

    IS NOT TRUE, because no index is made for that: by `NOT excluded` PostgreSQL would go through
    all tagged posts of the author in idx_post_audience_tag_lookup, to save looking at one row.
    """
    holds = f"given.owner_revision > {author_ending}"
    which = "audience.excluded" if excluded else f"audience.excluded IS NOT TRUE AND {holds}"
    return f"""
        SELECT audience.tag_id FROM post_audience_tags AS audience
        JOIN user_tags AS given
          ON given.owner_user_id = {author}
         AND given.tag_id = audience.tag_id
         AND given.target_user_id = {viewer}
        WHERE audience.author_id = {author}
          AND audience.post_id = p.id
          AND {which}"""


def clause(
    *,
    viewer: str = ":viewer_id",
    is_connected: str = "p.author_id = ANY (CAST(:connected_ids AS bigint[]))",
    author_ending: str = _ENDING_OF_AUTHOR,
    author: str = "p.author_id",
) -> str:
    """Return the expression for the clause that decides about a row `p` of posts.

    The defaults take the viewer from the parameters and look at many posts. A query that looks at
    many viewers says where the viewer is, and what the author's revision was after the last ending
    of a connection between the two. One that looks at the posts of one author says who that is, so
    that a distributed database looks at one shard.

    OFFSET 0 keeps PostgreSQL from reading the tags of all posts into a hash table, to look those of
    a page up in it; two probes of an index for each post are what it takes.
    """

    def has_tag(*, excluded: bool) -> str:
        tags = deciding_tags(
            excluded=excluded, viewer=viewer, author_ending=author_ending, author=author
        )
        return f"EXISTS ({tags} OFFSET 0)"

    return f"""CASE
        WHEN p.deleted_at IS NOT NULL THEN '{Clause.DELETED}'
        WHEN p.author_id = {viewer} THEN '{Clause.AUTHOR}'
        WHEN p.audience = '{MODERATED}' THEN '{Clause.MODERATED}'
        WHEN ({is_connected}) IS NOT TRUE THEN '{Clause.NOT_CONNECTED}'
        WHEN p.audience = 'private' THEN '{Clause.PRIVATE}'
        WHEN {has_tag(excluded=True)} THEN '{Clause.EXCLUDED}'
        WHEN p.audience = 'all' THEN '{Clause.AUDIENCE_ALL}'
        WHEN p.audience = 'tags' AND {has_tag(excluded=False)} THEN '{Clause.HAS_TAG}'
        ELSE '{Clause.NO_TAG}'
    END"""


def visible(clause: str) -> str:
    """Return the condition that a clause lets the viewer see row `p`.

    A CASE and neither OR nor IN: PostgreSQL takes the sides of an OR to the indexes, and believes
    of an IN that hardly any post passes; either way it reads all posts of every author, instead of
    the newest in the order of an index. That the post is not deleted is said twice, because the
    indexes hold no deleted ones.
    """
    shown = " ".join(f"WHEN '{shown}' THEN true" for shown in _VISIBLE_CLAUSES)
    return f"(p.deleted_at IS NULL AND CASE {clause} {shown} ELSE false END)"


CLAUSE: Final = clause()
"""The clause that decides whether :viewer_id sees row `p` of posts."""

VISIBLE: Final = visible(CLAUSE)
"""True for a row `p` of posts that :viewer_id may see. To be bound to `Viewer.parameters`."""

VISIBLE_OF_CONNECTION: Final = visible(clause(is_connected="true"))
"""The same for a row by a known connection of the viewer, or by the viewer."""

CLAUSE_OF_AUTHOR: Final = clause(author=":author_id")
"""CLAUSE, for statements about posts of :author_id alone."""

VISIBLE_OF_AUTHOR: Final = visible(CLAUSE_OF_AUTHOR)
"""VISIBLE, for statements about posts of :author_id alone."""

MAY_COMMENT: Final = f"""CASE
        WHEN p.comments_locked THEN false
        WHEN p.author_id = :viewer_id THEN true
        WHEN p.comment_policy = 'all' THEN true
        WHEN p.comment_policy = 'tags' THEN EXISTS (
            SELECT FROM user_tags AS given
            JOIN tags AS tag
              ON tag.owner_user_id = :author_id AND tag.id = given.tag_id
             AND tag.deleted_at IS NULL
            WHERE given.owner_user_id = :author_id AND given.target_user_id = :viewer_id
              AND given.tag_id = ANY (p.comment_tag_ids)
              AND {tag_holds("given", peer=":author_id", revisions=":peer_revisions")}
            OFFSET 0)
        ELSE false
    END"""
"""Whether :viewer_id may comment on a row `p` of posts by :author_id, which they can see.

A tag lets a viewer comment as it lets them see: during the connection in which it was given, and
until it is deleted. With a policy that is not known, only the author may comment.
"""


def not_blocked(comment: str) -> str:
    """Return whether the author of a comment has no block with the viewer, in either direction.

    To be bound to `Viewer.blocked_ids`. Where these are not known it is true for no comment.
    """
    return f"{comment}.author_id <> ALL (CAST(:blocked_ids AS bigint[]))"


def not_blocked_of_many(comment: str) -> str:
    """Return the same for the viewer of each row `asked`, to be bound to the blocks of them all.

    Each is one text, of which PostgreSQL makes a hash table; of pairs of numbers in an array it
    cannot. Viewers whose blocks are not known must not be among the rows.
    """
    return f"(asked.viewer_id || ':' || {comment}.author_id) <> ALL (CAST(:blocks AS text[]))"


def shown_by_itself(
    comment: str,
    *,
    viewer: str = ":viewer_id",
    is_not_blocked: Callable[[str], str] = not_blocked,
) -> str:
    """Return whether a comment on a post that the viewer sees is for this viewer.

    Of a reply that is not all: see `shown`.
    """
    return f"""{comment}.deleted_at IS NULL AND {is_not_blocked(comment)}
          AND ({comment}.moderated_at IS NULL OR {comment}.author_id = {viewer})
          AND (NOT {comment}.hidden
               OR {viewer} IN ({comment}.author_id, {comment}.post_author_id))"""


def shown(
    *,
    author: str,
    viewer: str = ":viewer_id",
    is_not_blocked: Callable[[str], str] = not_blocked,
) -> str:
    """Return whether a row `c` of comments, on a post by `author`, is for a viewer of the post.

    A viewer who does not see a comment does not see the replies to it: these would tell of a
    comment that is hidden, or of a person with a block.
    """
    parent, itself = (
        shown_by_itself(comment, viewer=viewer, is_not_blocked=is_not_blocked)
        for comment in ("parent", "c")
    )
    return f"""{itself}
          AND CASE WHEN c.parent_id IS NULL THEN true ELSE EXISTS (
              SELECT FROM comments AS parent
              WHERE parent.post_author_id = {author} AND parent.post_id = c.post_id
                AND parent.id = c.parent_id AND {parent}
              OFFSET 0) END"""


DECIDING_TAGS: Final = {
    Clause.HAS_TAG: deciding_tags(excluded=False),
    Clause.EXCLUDED: deciding_tags(excluded=True),
}
"""The queries for the tags that made a clause decide."""
