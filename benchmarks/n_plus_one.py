"""The feed as Kith's predecessor read it, on Kith's tables: the pattern, not the code.

The connections are read into Python and sent back as a list for IN; LIMIT comes before the audience
is looked at, so pages are short; every post with a tag audience costs two statements; engine and
transactions are SQLAlchemy's defaults with `pool_pre_ping`. In its favour: one process and one hop
instead of two, no check that the connections still hold, no signed URLs (it sent keys), Core
instead of the entities it used, and Kith's indexes.
"""

from collections.abc import Collection, Sequence

import sqlalchemy
from sqlalchemy import Connection, RowMapping, case, or_, select

from feed_service.models import ALL, TAGS, post_audience_tags, post_photos, post_stats, user_tags
from feed_service.models import posts as posts_table
from graph_service.models import ACCEPTED, connections, users
from kith.feed.v1 import feed_pb2 as pb
from kith.timestamps import timestamp

_PAGE = 20


class NPlusOneFeed:
    """Reads first pages of feeds."""

    def __init__(self, *, graph_url: str, feed_url: str) -> None:
        options = {"pool_size": 8, "max_overflow": 15, "pool_pre_ping": True}
        self._graph = sqlalchemy.create_engine(graph_url, **options)
        self._feed = sqlalchemy.create_engine(feed_url, **options)

    def page(self, viewer_id: int) -> pb.GetFeedResponse:
        """Return the visible ones of the newest 20 posts of the viewer's connections."""
        with self._graph.connect() as graph, self._feed.connect() as feed:
            graph.execute(select(users).where(users.c.user_id == viewer_id)).one_or_none()
            author_ids = [*_connected_ids(graph, viewer_id), viewer_id]
            posts = feed.execute(
                select(posts_table)
                .where(posts_table.c.author_id.in_(author_ids), posts_table.c.deleted_at.is_(None))
                .order_by(posts_table.c.created_at.desc())
                .limit(_PAGE)
                .offset(0)
            ).mappings()
            shown = [post for post in posts if _is_visible(feed, viewer_id, post)]
            return _response(feed, shown)


def _connected_ids(graph: Connection, user_id: int) -> Sequence[int]:
    is_a = connections.c.user_a_id == user_id
    return (
        graph.execute(
            select(case((is_a, connections.c.user_b_id), else_=connections.c.user_a_id)).where(
                or_(is_a, connections.c.user_b_id == user_id), connections.c.status == ACCEPTED
            )
        )
        .scalars()
        .all()
    )


def _is_visible(feed: Connection, viewer_id: int, post: RowMapping) -> bool:
    if post["author_id"] == viewer_id or post["audience"] == ALL:
        return True
    if post["audience"] != TAGS:
        return False
    tag_ids = (
        feed.execute(
            select(post_audience_tags.c.tag_id).where(
                post_audience_tags.c.author_id == post["author_id"],
                post_audience_tags.c.post_id == post["id"],
            )
        )
        .scalars()
        .all()
    )
    given = select(user_tags.c.tag_id).where(
        user_tags.c.owner_user_id == post["author_id"],
        user_tags.c.target_user_id == viewer_id,
        user_tags.c.tag_id.in_(tag_ids),
    )
    return feed.execute(given).first() is not None


def _response(feed: Connection, posts: Sequence[RowMapping]) -> pb.GetFeedResponse:
    ids = [post["id"] for post in posts]
    authors = {post["author_id"] for post in posts}
    _rows_of_posts(feed, post_audience_tags, authors, ids)
    photos = _rows_of_posts(feed, post_photos, authors, ids)
    stats = {row["post_id"]: row for row in _rows_of_posts(feed, post_stats, authors, ids)}
    return pb.GetFeedResponse(
        posts=[
            pb.Post(
                author_id=post["author_id"],
                post_id=post["id"],
                body=post["body"],
                photos=[
                    pb.Photo(key=photo["object_key"])
                    for photo in photos
                    if photo["post_id"] == post["id"]
                ],
                create_time=timestamp(post["created_at"]),
                comment_count=stats[post["id"]]["comment_count"] if post["id"] in stats else 0,
            )
            for post in posts
        ]
    )


def _rows_of_posts(
    feed: Connection, table: sqlalchemy.Table, author_ids: Collection[int], ids: Sequence[int]
) -> Sequence[RowMapping]:
    return (
        feed.execute(
            select(table).where(table.c.author_id.in_(author_ids), table.c.post_id.in_(ids))
        )
        .mappings()
        .all()
    )
