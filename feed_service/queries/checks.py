"""Which viewers see which posts and comments, many pairs at once: the rule of `visibility`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from feed_service.visibility import clause, not_blocked_of_many, shown, visible
from shared.database.arrays import array_literal
from shared.database.reader import Reader, Statement

NO_COMMENT: Final = 0
"""Stands for the author of a comment where there is none."""

Commenters = tuple[int, int]
"""Who wrote a comment, and who wrote the comment to which it replies."""


class Check(NamedTuple):
    """A viewer and what they may see: a post, or if `comment_id` is not 0, a comment on it."""

    viewer_id: int
    author_id: int
    post_id: int
    comment_id: int = 0


class Relation(NamedTuple):
    """What the graph says of a viewer and an author.

    `author_ending` is the author's revision after the last ending of a connection between the two,
    0 if none has ended.
    """

    is_connected: bool
    author_ending: int


def visible_statement(name: str, *, posts: str, author: str = "p.author_id") -> Statement:
    """Return the statement for what is visible of what is asked.

    `posts` joins each row `asked` with the row `p` of its post, and ends with a condition. Where
    all posts are by one author, `author` says who that is.
    """
    rule = visible(
        clause(
            viewer="asked.viewer_id",
            is_connected="asked.is_connected",
            author_ending="asked.author_ending",
            author=author,
        )
    )
    comment = shown(author=author, viewer="asked.viewer_id", is_not_blocked=not_blocked_of_many)
    return Statement(
        name,
        f"""
    SELECT asked.viewer_id, asked.author_id, asked.post_id, asked.comment_id,
           CASE asked.comment_id WHEN 0 THEN {NO_COMMENT} ELSE (
               SELECT c.author_id FROM comments AS c
               WHERE c.post_author_id = {author} AND c.post_id = p.id AND c.id = asked.comment_id
           ) END AS commenter_id,
           coalesce((
               SELECT parent.author_id FROM comments AS c
               JOIN comments AS parent
                 ON parent.post_author_id = {author} AND parent.post_id = c.post_id
                AND parent.id = c.parent_id
               WHERE c.post_author_id = {author} AND c.post_id = p.id AND c.id = asked.comment_id
           ), {NO_COMMENT}) AS parent_author_id
    FROM unnest(CAST(:viewer_ids AS bigint[]), CAST(:author_ids AS bigint[]),
                CAST(:post_ids AS bigint[]), CAST(:comment_ids AS bigint[]),
                CAST(:are_connected AS boolean[]), CAST(:author_endings AS bigint[]))
         AS asked (viewer_id, author_id, post_id, comment_id, is_connected, author_ending)
    {posts} AND {rule}
      AND CASE asked.comment_id WHEN 0 THEN true ELSE EXISTS (
          SELECT FROM comments AS c
          WHERE c.post_author_id = {author} AND c.post_id = p.id AND c.id = asked.comment_id
            AND {comment} OFFSET 0) END
""",
    )


# OFFSET 0 keeps PostgreSQL from reading all posts of a thousand authors into a hash table, to look
# a thousand posts up in it.
_VISIBLE = visible_statement(
    "visible_checks",
    posts="""CROSS JOIN LATERAL (
        SELECT * FROM posts AS p
        WHERE p.author_id = asked.author_id AND p.id = asked.post_id OFFSET 0) AS p
    WHERE true""",
)


def visible_checks(
    reader: Reader, *, asked: Mapping[Check, Relation], blocks: Mapping[int, str]
) -> dict[Check, Commenters]:
    """Those of the checks whose viewer sees the post or comment, with the authors of the comment.

    Whether these authors are suspended is not known here. `blocks` has, for each viewer of a
    comment, the ids of the users with a block between them.
    """
    return visible_rows(reader.rows(_VISIBLE, check_parameters(asked, blocks)))


def visible_rows(rows: Iterable[Sequence[int]]) -> dict[Check, Commenters]:
    """The rows of `visible_statement` by their checks."""
    return {Check._make(check): (author_id, parent) for *check, author_id, parent in rows}


def check_parameters(
    asked: Mapping[Check, Relation], blocks: Mapping[int, str]
) -> dict[str, object]:
    """What `visible_statement` has to be bound to; there is at least one check."""
    viewer_ids, author_ids, post_ids, comment_ids = zip(*asked, strict=True)
    are_connected, author_endings = zip(*asked.values(), strict=True)
    return {
        "viewer_ids": array_literal(viewer_ids),
        "author_ids": array_literal(author_ids),
        "post_ids": array_literal(post_ids),
        "comment_ids": array_literal(comment_ids),
        "are_connected": list(are_connected),
        "author_endings": array_literal(author_endings),
        "blocks": _block_literal(blocks),
    }


def _block_literal(blocks: Mapping[int, str]) -> str:
    """The blocks of viewers as `not_blocked_of_many` takes them."""
    pairs = [
        f"{viewer_id}:{peer_id}"
        for viewer_id, literal in blocks.items()
        if literal != "{}"
        for peer_id in literal[1:-1].replace(" ", "").split(",")
    ]
    return f"{{{','.join(pairs)}}}"
