"""Erasing a user: everything by them, about them, and given to them.

Each step is a transaction of its own that takes a limited number of rows, so that other calls do
not wait long for its locks. If the call breaks off, a repeat or the follower finishes the erasure.
Data that others can see goes first.

The keys of photos stay in `object_removals` until the object store has removed the objects: they
are the only trace, and the only way to go on after the store could not be reached.

A hold keeps its post or comment as evidence, which services alone can still read. Upkeep erases it
when the hold ends.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection

from feed_service import queries
from feed_service.graph_client import GraphClient
from feed_service.layouts import Layout
from feed_service.metrics import POSTS
from feed_service.object_store import LAST_ARRIVAL
from feed_service.queries.moderation import KeptRow
from shared.api import idempotency
from shared.api.idempotency import Call, M, once_prepared
from shared.database.database import Database
from shared.database.totals import add_to_totals

_BATCH: Final = 500

MOST_KEPT_LISTED: Final = 1_000
"""How many of the posts and comments that holds keep are named to those who erase a user."""


class _Step(Protocol):
    def __call__(self, connection: Connection, *, user_id: int, limit: int) -> int: ...


def _hide_posts(connection: Connection, *, user_id: int, limit: int) -> int:
    hidden = queries.erasure.hide_posts(connection, user_id=user_id, limit=limit)
    add_to_totals(connection, amounts={POSTS: -hidden})
    return hidden


def _hide_comments(connection: Connection, *, layout: Layout, user_id: int, limit: int) -> int:
    hidden, replies = layout.hide_comments(connection, user_id=user_id, limit=limit)
    # What is the user's own, or on their posts, is told of by the event of the erasure.
    of_others = {
        name: author_id
        for name, author_id in replies.items()
        if user_id not in (author_id, name[0])
    }
    queries.events.record_deleted_comments(connection, authors=of_others)
    return hidden


def _steps(layout: Layout) -> Sequence[_Step]:
    return (
        _hide_posts,
        queries.erasure.note_kept_photos,
        queries.erasure.withhold_posts,
        queries.erasure.hasten_removals,
        partial(_hide_comments, layout=layout),
        queries.erasure.erase_comments,
        queries.erasure.erase_tags_given_to,
        idempotency.forget_about,
        queries.erasure.erase_comments_under,
        queries.erasure.erase_posts,
        queries.erasure.untag_kept_posts,
        queries.erasure.erase_author,
        queries.erasure.erase_from_digests,
        queries.erasure.erase_tagged,
        queries.erasure.erase_tags,
        partial(queries.erasure.erase_uploads, valid_for=LAST_ARRIVAL),
        idempotency.forget_of,
        queries.erasure.erase_digests,
        queries.erasure.erase_read_position,
        queries.erasure.erase_subscription,
        queries.events.erase_events_of_author,
        queries.events.erase_events_of_comments,
    )


class Erasure:
    """Erases users."""

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        *,
        layout: Layout,
        remove_soon: Callable[[], None],
    ) -> None:
        self._database = database
        self._graph = graph
        self._steps = _steps(layout)
        self._remove_soon = remove_soon

    def delete_user(self, call: Call[Sequence[KeptRow], M], user_id: int) -> M:
        """Erase the user with this id; returns once all steps have found nothing left.

        The answer is made of what holds keep, which is erased when they end.

        A call that breaks off is not answered by its request id, so that a repeat finishes it.
        Raises UnavailableError when graph_service cannot be reached.
        """

        def erase() -> int:
            # Asked before: what is written until an erasure that comes later is not erased here.
            revision = self._graph.erasure(user_id)
            self._erase(user_id, is_due=lambda _: True)
            return revision

        def record(connection: Connection, revision: int) -> Sequence[KeptRow]:
            # Also when nothing was left: a call that erased it may have broken off before this.
            queries.events.record_erasure(connection, user_id=user_id)
            if revision:
                queries.erasure.record_erasure(connection, user_id=user_id, revision=revision)
            return queries.moderation.kept(connection, user_id=user_id, limit=MOST_KEPT_LISTED)

        response, _ = once_prepared(self._database, call, prepare=erase, work=record)
        return response

    def complete(self, user_id: int, *, revision: int, goes_on: Callable[[], bool]) -> None:
        """Erase what is left of a user that the graph has erased at a revision.

        Changes nothing when that was done already: the id may belong to another user by now.
        Raises InterruptedError when it should not go on.
        """

        def is_due(erased_up_to: int) -> bool:
            if not goes_on():
                raise InterruptedError("a user was not erased to the end")
            return erased_up_to < revision

        self._erase(user_id, is_due=is_due)

        def record(connection: Connection) -> None:
            if queries.erasure.record_erasure(connection, user_id=user_id, revision=revision):
                queries.events.record_erasure(connection, user_id=user_id)

        self._database.write(record)

    def _erase(self, user_id: int, *, is_due: Callable[[int], bool]) -> None:
        """Repeat all steps until none finds anything, because calls may write meanwhile."""
        while sum(self._erased(step, user_id, is_due) for step in self._steps):
            self._remove_soon()

    def _erased(self, step: _Step, user_id: int, is_due: Callable[[int], bool]) -> int:
        """Run a step until it finds no full batch; returns how many rows it found."""

        def work(connection: Connection) -> int:
            if not is_due(queries.erasure.take_turns(connection, user_id=user_id)):
                return 0
            return step(connection, user_id=user_id, limit=_BATCH)

        total, found = 0, _BATCH
        while found == _BATCH:
            found = self._database.write(work)
            total += found
        return total
