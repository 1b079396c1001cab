"""Publishing a post in a distributed database, in several statements.

One that does several things at once would send what its parts hand on to every node.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from feed_service.queries import posts
from feed_service.queries.photos import NewPhoto
from feed_service.queries.posts import INSERTED_POST, Audience, CommentPolicy, PostRow
from shared.database.totals import add_to_totals

_INSERT_POST = text(f"{INSERTED_POST} RETURNING id, version, created_at")

# What is selected is inserted in two phases; a row that is given goes to its shard at once.
_ADD_AUTHOR = text("INSERT INTO authors (author_id) VALUES (:author_id) ON CONFLICT DO NOTHING")


def insert_post(
    connection: Connection,
    *,
    author_id: int,
    body: str,
    audience: Audience,
    photos: Sequence[NewPhoto],
    attributes: Mapping[str, str],
    comment_policy: CommentPolicy,
    totals: Mapping[str, int],
) -> PostRow:
    """The new post, as its author sees it; its tags being locked. The totals change with it."""
    parameters = posts.post_parameters(
        author_id, body, audience, photos, attributes=attributes, comment_policy=comment_policy
    )
    row = posts.new_post(
        dict(connection.execute(_INSERT_POST, parameters).mappings().one()),
        author_id=author_id,
        body=body,
        audience=audience,
        photos=photos,
        attributes=attributes,
        comment_policy=comment_policy,
    )
    posts.insert_own_audience_tags(connection, name=(author_id, row.id), audience=audience)
    posts.insert_photos(connection, name=(author_id, row.id), photos=photos)
    connection.execute(_ADD_AUTHOR, {"author_id": author_id})
    add_to_totals(connection, amounts=totals)
    return row
