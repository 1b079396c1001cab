"""Moderation: what services hide from everybody but its author, and hold as evidence.

A post or comment is VISIBLE, HIDDEN or HELD. What is HELD is hidden, its author cannot change it,
and neither the purge nor an erasure takes it until the hold ends; then it is HIDDEN. A hold on a
comment keeps its post too, for a comment is no evidence without what it answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection

from feed_service import posts, queries
from feed_service.models import EventKind
from feed_service.queries.moderation import (
    ContentName,
    Decision,
    InspectedComment,
    InspectedPost,
    LockedContent,
    ModerationRow,
    ModerationState,
)
from feed_service.queries.posts import PostName
from feed_service.resources import Resources
from kith.errors.v1 import errors_pb2
from kith.exceptions import ResourceNotFoundError
from shared.api.idempotency import Call, M, once
from shared.api.paging import BELOW_ALL_IDS, NEWER_THAN_ALL, ById, ByTime, Page, Scope


class _ByDecision(NamedTuple):
    """The position of a post or a comment in a list by the time at which it was moderated."""

    micros: int
    post_id: int
    comment_id: int

    @classmethod
    def of(cls, row: ModerationRow) -> "_ByDecision":
        """Return the position of a row."""
        return cls(*ByTime.of(row.moderated_at, row.post_id), row.comment_id)


_NEWEST: Final = _ByDecision(*NEWER_THAN_ALL, NEWER_THAN_ALL.id)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A post with a page of the comments on it, also if they are hidden or deleted."""

    post: InspectedPost
    comments: Page[InspectedComment]


class Moderation:
    """What services do about the posts and comments of people."""

    def __init__(self, resources: Resources, *, purge_after: timedelta) -> None:
        self._database = resources.database
        self._tokens = resources.tokens
        self._metrics = resources.metrics
        self._purge_after = purge_after

    def decide(
        self, call: Call[ModerationRow | None, M], name: ContentName, decision: Decision
    ) -> M:
        """Moderate a post or a comment, also a deleted one, until it is purged.

        Every read that begins afterwards follows it: it is in the row that the read looks at.
        """
        response, is_new = once(
            self._database, call, lambda connection: self._decide(connection, name, decision)
        )
        if is_new:
            self._metrics.moderation_actions.labels(decision.state.value).inc()
        return response

    def page(
        self, state: ModerationState | None, *, page_size: int, page_token: str
    ) -> Page[ModerationRow]:
        """Return a page of what is HIDDEN or HELD, or of one of these, the last one first."""
        scope = Scope.of("moderated", state)
        before = self._tokens.read(scope, page_token, start=_NEWEST)
        moment, post_id = ByTime(before.micros, before.post_id).key
        rows = self._database.read(
            lambda connection: queries.moderation.moderated_page(
                connection,
                state=state,
                before=(moment, post_id, before.comment_id),
                limit=page_size + 1,
            )
        )
        return self._tokens.cut(scope, rows, size=page_size, position=_ByDecision.of)

    def inspect(self, post: PostName, *, page_size: int, page_token: str) -> Inspection:
        """Return a post and a page of its comments, by id, until they are purged."""
        scope = Scope.of("inspection", *post)
        after = self._tokens.read(scope, page_token, start=BELOW_ALL_IDS)

        def read(connection: Connection) -> tuple[InspectedPost, Sequence[InspectedComment]]:
            found = queries.moderation.inspected_post(connection, name=post)
            if found is None:
                raise posts.not_found()
            comments = queries.moderation.inspected_comments(
                connection,
                post=post,
                after_id=after.id,
                limit=page_size + 1,
                retained_for=self._purge_after,
            )
            return found, comments

        found, rows = self._database.read(read)
        page = self._tokens.cut(
            scope, rows, size=page_size, position=lambda row: ById(row.comment.id)
        )
        return Inspection(post=found, comments=page)

    def _decide(
        self, connection: Connection, name: ContentName, decision: Decision
    ) -> ModerationRow | None:
        post = (name.author_id, name.post_id)
        of_post = queries.moderation.lock_retained_post(connection, name=post)
        if of_post is None:
            raise posts.not_found()
        if name.comment_id:
            current = self._locked_comment(connection, name)
            row = queries.moderation.moderate_comment(
                connection, name=name, current=current, decision=decision
            )
        else:
            current = of_post
            row = queries.moderation.moderate_post(
                connection, name=post, current=current, decision=decision
            )
        if not queries.moderation.keep_post(connection, name=post, current=of_post):
            raise posts.not_found()
        # To those who follow, what is deleted or erased is gone already.
        is_shown = not (of_post.is_deleted or current.is_deleted)
        if is_shown and current.is_moderated != decision.hides:
            _record(connection, name, written_by=current.written_by)
        return row

    def _locked_comment(self, connection: Connection, name: ContentName) -> LockedContent:
        current = queries.moderation.lock_retained_comment(
            connection, name=name, retained_for=self._purge_after
        )
        if current is None:
            raise ResourceNotFoundError(
                "the post has no such comment", reason=errors_pb2.ERROR_REASON_COMMENT_NOT_FOUND
            )
        return current


def _record(connection: Connection, name: ContentName, *, written_by: int) -> None:
    """Store for those who follow that a post or a comment is hidden now, or shown again."""
    if name.comment_id:
        queries.events.record_comment(
            connection, EventKind.COMMENT_MODERATED, name=name, author_id=written_by
        )
    else:
        queries.events.record_post(
            connection, EventKind.POST_MODERATED, name=(name.author_id, name.post_id)
        )
