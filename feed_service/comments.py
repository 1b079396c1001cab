"""Comments: writing, listing, changing, hiding and deleting them.

Viewers of a post can read its comments and write some, but a block hides the comments of two people
from each other, and a suspension hides those of the suspended person from all users. Before a
comment is written or changed, the graph says whether its author can see the post; the transaction
checks the post again, with the connections that the graph has confirmed.

The post's author decides who may write, by a policy and a lock that the same two statements read.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from feed_service import posts, queries
from feed_service.models import EventKind
from feed_service.queries.comments import (
    NO_COMMENT,
    CommentName,
    CommentPart,
    CommentRow,
    Openness,
)
from feed_service.queries.posts import PostName
from feed_service.resources import Resources
from feed_service.safe_read import read_of_author, steady_read_of_comments
from feed_service.versions import require_no_hold, require_version
from feed_service.viewers import Viewer
from kith.errors.v1 import errors_pb2
from kith.exceptions import AppException, PreconditionError, ResourceNotFoundError
from shared.api.idempotency import Call, M, once, once_prepared
from shared.api.paging import (
    ABOVE_ALL_IDS,
    NEWER_THAN_ALL,
    OLDER_THAN_ALL,
    ById,
    ByTime,
    Page,
    Scope,
)

T = TypeVar("T")


class Comments:
    """What can be done with comments."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._reader = resources.reader
        self._reads = resources.reads
        self._graph = resources.graph
        self._tokens = resources.tokens

    def create(
        self,
        call: Call[CommentRow, M],
        post: PostName,
        *,
        parent_id: int,
        body: str,
        shown: Callable[[M], CommentName],
    ) -> M:
        """Write a comment or a reply; repeating the request returns the first one's answer.

        `shown` reads from such an answer which comment it shows.
        """
        author_id = call.user_id

        def look(author: Viewer) -> Openness | None:
            return queries.comments.openness(
                self._reader, viewer=author, post=post, parent_id=parent_id
            )

        def prepare() -> Viewer:
            # To see the comment to reply to, the user must have no block with its author.
            if parent_id != NO_COMMENT:
                return self._confirmed_reply(author_id, look)
            author, seen = self._confirmed(author_id, post, look, not_found=posts.not_found)
            _require_open(seen)
            return author

        def create(connection: Connection, author: Viewer) -> CommentRow:
            _require_open(
                queries.comments.locked_openness(
                    connection, viewer=author, post=post, parent_id=parent_id
                )
            )
            row = queries.comments.insert_comment(
                connection, post=post, author_id=author_id, body=body, parent_id=parent_id
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
            looks_first=False,
        )
        return response

    def get(self, viewer_id: int, name: CommentName) -> CommentRow:
        """Return the comment, if there is one that the viewer may see."""
        found = self.batch(viewer_id, [name])
        if name not in found:
            raise _not_found()
        return found[name]

    def batch(
        self, viewer_id: int, names: Sequence[CommentName]
    ) -> Mapping[CommentName, CommentRow]:
        """Return those of the comments that the viewer may see.

        The graph has to tell the viewer's blocks, also for the viewer's own posts.
        """

        def read(viewer: Viewer) -> Mapping[CommentName, CommentRow]:
            return self._reads.prepared(
                lambda reader: queries.comments.visible_comments(
                    reader, viewer=viewer, names=names
                ),
                since=viewer.since,
            )

        found, suspended = steady_read_of_comments(
            self._graph, viewer_id, read, commenters=lambda found: _commenters(found.values())
        )
        return {
            name: row for name, row in found.items() if suspended.isdisjoint(_commenters([row]))
        }

    def page(
        self,
        viewer_id: int,
        post: PostName,
        *,
        parent_id: int,
        newest_first: bool,
        page_size: int,
        page_token: str,
    ) -> Page[CommentRow]:
        """Return a page of the comments on a post that the viewer may see, or of replies to one.

        The graph has to tell the viewer's blocks, also for the viewer's own post.
        """
        scope = _scope(viewer_id, post, parent_id=parent_id, newest_first=newest_first)
        start = NEWER_THAN_ALL if newest_first else OLDER_THAN_ALL
        beyond = self._tokens.read(scope, page_token, start=start)

        def read(viewer: Viewer) -> CommentPart | None:
            return self._reads.prepared(
                lambda reader: queries.comments.comment_page(
                    reader,
                    viewer=viewer,
                    post=post,
                    parent_id=parent_id,
                    newest_first=newest_first,
                    beyond=beyond.key,
                    limit=page_size + 1,
                ),
                since=viewer.since,
            )

        part, suspended = steady_read_of_comments(
            self._graph, viewer_id, read, commenters=_commenters_of_part
        )
        if part is None or part.parent_author_id in suspended:
            raise posts.not_found() if parent_id == NO_COMMENT else _not_found()
        return self._tokens.cut(
            scope,
            part.comments,
            size=page_size,
            position=lambda row: ByTime.of(row.created_at, row.id),
            is_shown=(lambda row: row.author_id not in suspended) if suspended else None,
        )

    def own_page(self, user_id: int, *, page_size: int, page_token: str) -> Page[CommentRow]:
        """Return a page of the user's own comments, the highest id first.

        Also of those on posts that the user does not see any more, so the graph is not asked.
        """
        scope = Scope.of("own comments", user_id)
        before = self._tokens.read(scope, page_token, start=ABOVE_ALL_IDS)
        rows = self._reads.read(
            lambda connection: queries.comments.own_comments(
                connection, user_id=user_id, before_id=before.id, limit=page_size + 1
            ),
            since=Viewer(user_id=user_id).since,
        )
        return self._tokens.cut(scope, rows, size=page_size, position=lambda row: ById(row.id))

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

        def post_time(author: Viewer) -> datetime | None:
            return self._database.read(
                lambda connection: queries.posts.visible_post_time(
                    connection, viewer=author, name=post
                )
            )

        def prepare() -> Viewer:
            return self._confirmed(author_id, post, post_time, not_found=_not_found)[0]

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

    def delete(self, call: Call[None, M], name: CommentName, *, version: int | None) -> M:
        """Delete a comment that the user has written, or that is on a post of the user's.

        The replies to it are deleted too. With a version, only if it is the current one, or the
        comment is deleted already.
        """

        def work(connection: Connection) -> None:
            found = queries.comments.lock_deletable(connection, name=name, user_id=call.user_id)
            if found is None:
                raise _not_found()
            if not found.is_deleted:
                require_version(version, current=found.version)
            deleted = queries.comments.delete_comment(connection, name=name)
            queries.events.record_deleted_comments(connection, authors=deleted)

        response, _ = once(self._database, call, work)
        return response

    def set_hidden(self, call: Call[None, M], name: CommentName, *, hidden: bool) -> M:
        """Hide a comment on one of the user's own posts from others, or show it again."""

        def work(connection: Connection) -> None:
            found, author_id = queries.comments.set_hidden(connection, name=name, hidden=hidden)
            if not found:
                raise _not_found()
            if author_id is not None:
                queries.events.record_comment(
                    connection, EventKind.COMMENT_HIDDEN, name=name, author_id=author_id
                )

        response, _ = once(self._database, call, work)
        return response

    def _confirmed(
        self,
        user_id: int,
        post: PostName,
        look: Callable[[Viewer], T | None],
        *,
        not_found: Callable[[], AppException],
    ) -> tuple[Viewer, T]:
        """Return the user as the graph knows them, and what they see there; else it is not found.

        The graph is not asked about the user's own post.
        """

        def read(viewer: Viewer) -> tuple[Viewer, T] | None:
            seen = look(viewer)
            return None if seen is None else (viewer, seen)

        found = read_of_author(self._graph, user_id, post[0], read)
        if found is None:
            raise not_found()
        return found

    def _confirmed_reply(self, user_id: int, look: Callable[[Viewer], Openness | None]) -> Viewer:
        """Return the user with their blocks as the graph knows them, if they may reply."""

        def read(viewer: Viewer) -> tuple[Viewer, Openness | None]:
            return viewer, look(viewer)

        (author, seen), suspended = steady_read_of_comments(
            self._graph,
            user_id,
            read,
            commenters=lambda found: _author_of_parent(found[1]),
        )
        _require_open(seen)
        if not suspended.isdisjoint(_author_of_parent(seen)):
            raise _not_found()
        return author


def _scope(viewer_id: int, post: PostName, *, parent_id: int, newest_first: bool) -> Scope:
    """Return what a page token is bound to; as before there were orders and replies, if it may."""
    what = "newest comments" if newest_first else "comments"
    parent = () if parent_id == NO_COMMENT else (parent_id,)
    return Scope.of(what, viewer_id, *post, *parent)


def _require_open(seen: Openness | None) -> None:
    """Raise what keeps the user from commenting: no post, a closed one, or nothing to reply to.

    The answer is the same for a lock and for every policy, so that it tells of no tag.
    """
    if seen is None:
        raise posts.not_found()
    if not seen.is_open:
        raise PreconditionError(
            "the author of the post does not let the user comment on it",
            reason=errors_pb2.ERROR_REASON_COMMENTS_CLOSED,
        )
    if not seen.has_parent:
        raise _not_found()


def _commenters(rows: Collection[CommentRow]) -> set[int]:
    """Return whose comments were read, and those to which they reply."""
    parents = {row.parent_author_id for row in rows if row.parent_author_id is not None}
    return parents | {row.author_id for row in rows}


def _commenters_of_part(part: CommentPart | None) -> set[int]:
    if part is None:
        return set()
    return _known(part.parent_author_id) | _commenters(part.comments)


def _author_of_parent(seen: Openness | None) -> set[int]:
    return set() if seen is None else _known(seen.parent_author_id)


def _known(user_id: int | None) -> set[int]:
    return set() if user_id is None else {user_id}


def _not_found() -> ResourceNotFoundError:
    """Return the one answer for no comment, for another's, and for one that may not be seen."""
    return ResourceNotFoundError(
        "the comment does not exist, is not the user's, or may not be seen by the user",
        reason=errors_pb2.ERROR_REASON_COMMENT_NOT_FOUND,
    )
