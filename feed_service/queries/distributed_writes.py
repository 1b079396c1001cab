"""Those changes of a distributed database that a single one makes in another way.

A statement that does several things at once sends what its parts hand on to every node, so here the
parts are statements of their own. A lock can be taken on one shard at a time, so where rows of many
owners are to be held, they are changed.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, text

from feed_service.importance import heuristic
from feed_service.queries import posts, transfers
from feed_service.queries.photos import NewPhoto
from feed_service.queries.posts import Audience, PostName, PostRow
from feed_service.queries.transfers import ExternalName, ImportedPost, TagName
from shared.database.arrays import array_literal
from shared.database.totals import add_to_totals

_INSERT_POST = text(f"""
    INSERT INTO posts (author_id, body, audience, importance)
    VALUES (:author_id, :body, :audience,
            {heuristic(body="CAST(:body AS text)", photo_count=":photo_count")})
    RETURNING id, version, created_at
""")

# What is selected is inserted in two phases; a row that is given goes to its shard at once.
_ADD_AUTHOR = text("INSERT INTO authors (author_id) VALUES (:author_id) ON CONFLICT DO NOTHING")

_ADD_AUTHORS = text("""
    INSERT INTO authors (author_id) SELECT unnest(CAST(:author_ids AS bigint[]))
    ON CONFLICT DO NOTHING
""")

_INSERT_PHOTOS = text("""
    INSERT INTO post_photos (author_id, post_id, place, object_key, width, height)
    SELECT :author_id, :post_id, place, object_key, width, height
    FROM unnest(CAST(:photo_keys AS text[]), CAST(:widths AS integer[]),
                CAST(:heights AS integer[]))
         WITH ORDINALITY AS photo (object_key, width, height, place)
""")


def insert_post(
    connection: Connection,
    *,
    author_id: int,
    body: str,
    audience: Audience,
    photos: Sequence[NewPhoto],
    totals: Mapping[str, int],
) -> PostRow:
    """The new post, as its author sees it; its tags being held. The totals change with it."""
    created = connection.execute(
        _INSERT_POST,
        {
            "author_id": author_id,
            "body": body,
            "audience": audience.kind,
            "photo_count": len(photos),
        },
    )
    row = posts.new_post(
        created.mappings().one(),
        author_id=author_id,
        body=body,
        audience=audience,
        photos=photos,
    )
    posts.insert_own_audience_tags(connection, name=(author_id, row.id), audience=audience)
    if photos:
        connection.execute(
            _INSERT_PHOTOS,
            {"author_id": author_id, "post_id": row.id, **posts.photo_lists(photos)},
        )
    connection.execute(_ADD_AUTHOR, {"author_id": author_id})
    add_to_totals(connection, amounts=totals)
    return row


def insert_posts(
    connection: Connection, *, posts: Sequence[ImportedPost]
) -> dict[ExternalName, PostName]:
    """The names of those posts that had not been imported before; their tags are still to come."""
    names = transfers.insert_posts(connection, posts=posts)
    if names:
        author_ids = array_literal({author_id for author_id, _ in names})
        connection.execute(_ADD_AUTHORS, {"author_ids": author_ids})
    return names


_HOLD_TAGS = text("""
    UPDATE tags AS tag SET version = tag.version
    FROM unnest(CAST(:owner_ids AS bigint[]), CAST(:tag_ids AS bigint[])) AS named (owner_id, id)
    WHERE tag.owner_user_id = named.owner_id AND tag.id = named.id AND tag.deleted_at IS NULL
    RETURNING tag.owner_user_id, tag.id
""")


def hold_tags(connection: Connection, *, names: Collection[TagName]) -> set[TagName]:
    """Those of the tags that their owners have; they stay so until the transaction ends."""
    rows = connection.execute(_HOLD_TAGS, transfers.tag_name_literals(names))
    return {(owner_id, tag_id) for owner_id, tag_id in rows}


# Two erasures may hold comments and counts that the other waits for; the database finds that out,
# and the one that loses is repeated.
_ERASE_COMMENTS = text("""
    WITH gone AS (
        DELETE FROM comments AS c
        USING (SELECT post_author_id, post_id, id FROM comments
               WHERE author_id = :user_id ORDER BY id LIMIT :limit) AS found
        WHERE c.post_author_id = found.post_author_id AND c.post_id = found.post_id
          AND c.id = found.id
        RETURNING c.post_author_id, c.post_id, c.deleted_at
    ),
    fewer AS (
        SELECT post_author_id, post_id, count(*) AS number FROM gone
        WHERE deleted_at IS NULL GROUP BY post_author_id, post_id
    ),
    counted AS (
        UPDATE post_stats AS stats SET comment_count = stats.comment_count - fewer.number
        FROM fewer
        WHERE stats.author_id = fewer.post_author_id AND stats.post_id = fewer.post_id
    )
    SELECT count(*) FROM gone
""")


def erase_comments(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many comments of the user are gone; those that others could see are counted off."""
    erased: int = connection.execute(
        _ERASE_COMMENTS, {"user_id": user_id, "limit": limit}
    ).scalar_one()
    return erased
