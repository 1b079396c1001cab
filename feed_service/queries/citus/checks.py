"""Which viewers see which posts and comments, in a distributed database.

The authors are named once more, so that it looks at those shards alone that have them, and at one
shard where there is one author.
"""

from collections.abc import Mapping
from typing import Final

from feed_service.queries.checks import (
    Check,
    Commenters,
    Relation,
    check_parameters,
    visible_rows,
    visible_statement,
)
from feed_service.queries.citus.authors import FEW
from shared.database.reader import Reader

_POSTS: Final = "JOIN posts AS p ON p.author_id = asked.author_id AND p.id = asked.post_id"
_VISIBLE = visible_statement("visible_checks", posts=f"{_POSTS} WHERE p.author_id {FEW}")
_VISIBLE_OF_AUTHOR = visible_statement(
    "visible_checks_of_author",
    posts=f"{_POSTS} WHERE p.author_id = :author_id",
    author=":author_id",
)


def visible_checks(
    reader: Reader, *, asked: Mapping[Check, Relation], blocks: Mapping[int, str]
) -> dict[Check, Commenters]:
    """Those of the checks whose viewer sees the post or comment, with the comment's authors."""
    parameters = check_parameters(asked, blocks)
    author_ids = {check.author_id for check in asked}
    if len(author_ids) == 1:
        [parameters["author_id"]] = author_ids
        rows = reader.rows(_VISIBLE_OF_AUTHOR, parameters)
    else:
        rows = reader.rows(_VISIBLE, parameters)
    return visible_rows(rows)
