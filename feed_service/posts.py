"""Publishing, showing and deleting single posts."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from feed_service import messages, queries
from feed_service.graph_client import ConnectedIds, GraphClient
from feed_service.idempotency import create_once
from feed_service.metrics import POSTS, FeedMetrics
from feed_service.queries import PostRow
from feed_service.safe_read import safe_read
from shared.database import Database
from shared.errors import FieldViolation, ResourceNotFoundError, ValidationError
from shared.gen.kith.errors.v1 import errors_pb2
from shared.gen.kith.feed.v1 import feed_pb2 as pb
from shared.totals import add_to_totals


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who may see a post, by the author's own tags."""

    kind: str
    tag_ids: Sequence[int] = ()
    excluded_tag_ids: Sequence[int] = ()


class Posts:
    """What can be done with a post."""

    def __init__(self, database: Database, graph: GraphClient, metrics: FeedMetrics) -> None:
        self._database = database
        self._graph = graph
        self._metrics = metrics

    def create(
        self,
        request: pb.CreatePostRequest,
        *,
        body: str,
        audience: Audience,
        request_id: uuid.UUID | None,
    ) -> pb.CreatePostResponse:
        """Publish a post; repeating the request returns the first one's answer."""
        started = time.perf_counter()
        author_id = request.user_id

        def create(connection: Connection) -> pb.CreatePostResponse:
            _require_own_tags(connection, author_id, audience)
            row = queries.insert_post(
                connection,
                author_id=author_id,
                body=body,
                audience=audience.kind,
                tag_ids=audience.tag_ids,
                excluded_tag_ids=audience.excluded_tag_ids,
            )
            add_to_totals(connection, amounts={POSTS: 1})
            return pb.CreatePostResponse(post=messages.post(row, viewer_id=author_id))

        def work(connection: Connection) -> tuple[pb.CreatePostResponse, bool]:
            return create_once(
                connection,
                user_id=author_id,
                request_id=request_id,
                request=request,
                kind=pb.CreatePostResponse,
                create=lambda: create(connection),
            )

        response, is_new = self._database.write(work)
        if is_new:
            self._metrics.post_creations.inc()
            self._metrics.post_creation_latency.observe(time.perf_counter() - started)
        return response

    def get(self, viewer_id: int, author_id: int, post_id: int) -> PostRow:
        """Return the post, if there is one that the viewer may see.

        One's own posts are read without the graph, so that they can be reached when it cannot.
        """
        if viewer_id == author_id:
            found = self._find(viewer_id, author_id, post_id, connected_ids="{}")
        else:

            def read(connected: ConnectedIds) -> PostRow | None:
                return self._find(viewer_id, author_id, post_id, connected_ids=connected.literal)

            result = safe_read(self._graph, viewer_id, read)
            allowed = result.allows(author_id=author_id, viewer_id=viewer_id)
            found = result.value if allowed else None
        if found is None:
            raise _not_found()
        return found

    def delete(self, author_id: int, post_id: int) -> None:
        """Hide one of the author's own posts from everybody."""

        def work(connection: Connection) -> bool:
            found, deleted = queries.delete_post(connection, author_id=author_id, post_id=post_id)
            if not found:
                raise _not_found()
            add_to_totals(connection, amounts={POSTS: -int(deleted)})
            return deleted

        if self._database.write(work):
            self._metrics.post_deletions.inc()

    def _find(
        self, viewer_id: int, author_id: int, post_id: int, *, connected_ids: str
    ) -> PostRow | None:
        return self._database.read(
            lambda connection: queries.visible_post(
                connection,
                viewer_id=viewer_id,
                connected_ids=connected_ids,
                author_id=author_id,
                post_id=post_id,
            )
        )


def _require_own_tags(connection: Connection, author_id: int, audience: Audience) -> None:
    if not audience.tag_ids and not audience.excluded_tag_ids:
        return
    wanted = {*audience.tag_ids, *audience.excluded_tag_ids}
    owned = queries.owned_tag_ids(connection, owner_user_id=author_id, tag_ids=wanted)
    lists = {
        "audience.tag_ids": audience.tag_ids,
        "audience.excluded_tag_ids": audience.excluded_tag_ids,
    }
    violations = [
        FieldViolation(field=f"{field}[{index}]", description="must be one of the user's own tags")
        for field, tag_ids in lists.items()
        for index, tag_id in enumerate(tag_ids)
        if tag_id not in owned
    ]
    if violations:
        listing = "; ".join(f"{v.field}: {v.description}" for v in violations)
        raise ValidationError(listing, violations=violations)


def _not_found() -> ResourceNotFoundError:
    return ResourceNotFoundError(
        "there is no such post, or it may not be seen",
        reason=errors_pb2.ERROR_REASON_POST_NOT_FOUND,
    )
