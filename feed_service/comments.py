"""Comments: writing, listing, changing and deleting them.

Viewers of a post can read its comments and write some, but a block hides the comments of two people
from each other, and a suspension hides those of the suspended person from all users. Before a
comment is written or changed, the graph says whether its author can see the post; the transaction
checks the post again, with the connections that the graph has confirmed.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from sqlalchemy import Connection

from feed_service import posts, queries
from feed_service.models import EventKind
from feed_service.queries.comments import CommentName, CommentRow
from feed_service.queries.posts import PostName
from feed_service.resources import Resources
from feed_service.safe_read import read_of_author, steady_read_of_comments
from feed_service.versions import require_no_hold, require_version
from feed_service.viewers import Viewer
from kith.errors.v1 import errors_pb2
from kith.exceptions import ResourceNotFoundError
from shared.api.idempotency import Call, M, once, once_prepared
from shared.api.paging import OLDER_THAN_ALL, ByTime, Page, Scope


class Comments:
    """What can be done with comments."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._reads = resources.reads
        self._graph = resources.graph
        self._tokens = resources.tokens

    def create(
        self,
        call: Call[CommentRow, M],
        post: PostName,
        *,
        body: str,
        shown: Callable[[M], CommentName],
    ) -> M:
        """Write a comment; repeating the request returns the first one's answer.

        `shown` reads from such an answer which comment it shows.
        """
        author_id = call.user_id

        def prepare() -> Viewer:
            author = self._confirmed_viewer(author_id, post)
            if author is None:
                raise posts.not_found()
            return author

        def create(connection: Connection, author: Viewer) -> CommentRow:
            if not queries.posts.lock_visible_post(connection, viewer=author, name=post):
                raise posts.not_found()
            row = queries.comments.insert_comment(
                connection, post=post, author_id=author_id, body=body
            )
            queries.events.record_comment(
                connection, EventKind.COMMENT_CREATED, name=(*post, row.id), author_id=author_id
            )
            return row

        response, _ = once_prepared(
            self._database,
            call,
            prepare=prepare,
            work=create,
            still_there=lambda connection, answer: queries.comments.is_there(
                connection, name=shown(answer)
            ),
        )
        return response

    def page(
        self, viewer_id: int, post: PostName, *, page_size: int, page_token: str
    ) -> Page[CommentRow]:
        """Return a page of the comments on a post that the viewer may see, oldest first.

        The graph has to tell the viewer's blocks, also for the viewer's own post.
        """
        scope = Scope.of("comments", viewer_id, *post)
        after = self._tokens.read(scope, page_token, start=OLDER_THAN_ALL)

        def read(viewer: Viewer) -> list[CommentRow] | None:
            return self._reads.read(
                lambda connection: queries.comments.comment_page(
                    connection, viewer=viewer, post=post, after=after.key, limit=page_size + 1
                ),
                since=viewer.since,
            )

        rows, suspended = steady_read_of_comments(
            self._graph, viewer_id, read, commenters=_commenters
        )
        if rows is None:
            raise posts.not_found()
        page = self._tokens.cut(
            scope, rows, size=page_size, position=lambda row: ByTime.of(row.created_at, row.id)
        )
        return replace(page, items=[row for row in page.items if row.author_id not in suspended])

    def update(
        self,
        call: Call[CommentRow, M],
        name: CommentName,
        *,
        body: str,
        version: int | None,
    ) -> M:
        """Change a comment of the author's own; with a version, only if it is the current one."""
        author_id, post = call.user_id, name[:2]

        def prepare() -> Viewer:
            author = self._confirmed_viewer(author_id, post)
            if author is None:
                raise _not_found()
            return author

        def work(connection: Connection, author: Viewer) -> CommentRow:
            if not queries.posts.lock_visible_post(connection, viewer=author, name=post):
                raise _not_found()
            current = queries.comments.lock_comment(connection, name=name, author_id=author_id)
            if current is None:
                raise _not_found()
            require_version(version, current=current.version)
            require_no_hold(is_held=current.is_held)
            queries.events.record_comment(
                connection, EventKind.COMMENT_EDITED, name=name, author_id=author_id
            )
            return queries.comments.update_comment(connection, name=name, body=body)

        response, _ = once_prepared(
            self._database,
            call,
            prepare=prepare,
            work=work,
            still_there=lambda connection, _: queries.comments.is_there(connection, name=name),
        )
        return response

    def delete(self, call: Call[None, M], name: CommentName) -> M:
        """Delete a comment that the user has written, or that is on a post of the user's."""

        def work(connection: Connection) -> None:
            found, author_id = queries.comments.delete_comment(
                connection, name=name, user_id=call.user_id
            )
            if not found:
                raise _not_found()
            if author_id is not None:
                queries.events.record_comment(
                    connection, EventKind.COMMENT_DELETED, name=name, author_id=author_id
                )

        response, _ = once(self._database, call, work)
        return response

    def _confirmed_viewer(self, user_id: int, post: PostName) -> Viewer | None:
        """Return the user as the graph knows them, if they may see the post."""

        def read(viewer: Viewer) -> Viewer | None:
            seen = self._database.read(
                lambda connection: queries.posts.visible_post_time(
                    connection, viewer=viewer, name=post
                )
            )
            return viewer if seen else None

        return read_of_author(self._graph, user_id, post[0], read)


def _commenters(rows: Collection[CommentRow] | None) -> set[int]:
    """Return whose comments were read."""
    return {row.author_id for row in rows or ()}


def _not_found() -> ResourceNotFoundError:
    """Return the one answer for no comment, for another's, and for one that may not be seen."""
    return ResourceNotFoundError(
        "the comment does not exist, is not the user's, or is on a post that the user may not see",
        reason=errors_pb2.ERROR_REASON_COMMENT_NOT_FOUND,
    )
