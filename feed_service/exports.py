"""Exports: everything of one user, section by section."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from feed_service import queries
from feed_service.resources import Resources
from feed_service.safe_read import steady_read
from feed_service.viewers import Viewer
from shared.api.paging import ByTime, Scope

_CHUNK: Final = 500


class Section(StrEnum):
    """A part of an export: a list with an order of its own."""

    TAGS = "tags"
    TAGGED_USERS = "tagged_users"
    POSTS = "posts"
    COMMENTS = "comments"
    READ_TIME = "read_time"
    FROZEN_DIGESTS = "frozen_digests"
    DIGEST_SUBSCRIPTION = "digest_subscription"


@dataclass(frozen=True, kw_only=True)
class ExportedRows:
    """Rows of one section of an export, one or more, in their order.

    `cursor` returns the cursor at which an export continues after one of them.
    """

    section: Section
    rows: Sequence[Any]
    cursor: Callable[[Any], str]


class _Position(NamedTuple):
    """The position of a row in its section: tag and person, time and id, or an id and 0.

    That of a digest is the first moment of its week and a number among those of the week, and that
    of the read position, which is alone in its section, is 1 and 0.
    """

    first: int
    second: int


class _Cursor(NamedTuple):
    """The number of a section, and a position in it."""

    section: int
    first: int
    second: int


_BEFORE_ALL: Final = _Position(0, 0)
# The week of the first day of 1970 begins before it.
_BEFORE_ALL_WEEKS: Final = ByTime.of(datetime(1969, 12, 1, tzinfo=UTC), 1 - 2**63)


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """How a section is read, and where in its order a row is."""

    section: Section
    read: Callable[[Connection, Viewer, _Position, int], Sequence[Any]]
    position: Callable[[Any], _Position]
    start: _Position = _BEFORE_ALL
    needs_connections: bool = False


# A cursor knows them by number: only add at the end.
_LISTINGS: Final = (
    _Listing(
        section=Section.TAGS,
        read=lambda connection, user, after, limit: queries.tags.tag_page(
            connection,
            owner_user_id=user.user_id,
            with_deleted=True,
            after_id=after.first,
            limit=limit,
        ),
        position=lambda row: _Position(row.id, 0),
    ),
    _Listing(
        section=Section.TAGGED_USERS,
        read=lambda connection, user, after, limit: queries.exports.exported_tagged(
            connection, owner=user, after=after, limit=limit
        ),
        position=lambda row: _Position(row.tag_id, row.target_user_id),
        needs_connections=True,
    ),
    _Listing(
        section=Section.POSTS,
        read=lambda connection, user, after, limit: queries.exports.exported_posts(
            connection, author_id=user.user_id, after=ByTime(*after).key, limit=limit
        ),
        position=lambda row: _Position(*ByTime.of(row.created_at, row.id)),
    ),
    _Listing(
        section=Section.COMMENTS,
        read=lambda connection, user, after, limit: queries.exports.exported_comments(
            connection, user_id=user.user_id, after_id=after.first, limit=limit
        ),
        position=lambda row: _Position(row.id, 0),
    ),
    _Listing(
        section=Section.READ_TIME,
        read=lambda connection, user, after, _limit: (
            []
            if after.first
            else queries.exports.exported_read_times(connection, user_id=user.user_id)
        ),
        position=lambda _: _Position(1, 0),
    ),
    _Listing(
        section=Section.FROZEN_DIGESTS,
        read=lambda connection, user, after, limit: queries.exports.exported_digests(
            connection, user_id=user.user_id, after=ByTime(*after).key, limit=limit
        ),
        position=lambda row: _Position(*ByTime.of(row.start_at, row.number)),
        start=_Position(*_BEFORE_ALL_WEEKS),
    ),
    _Listing(
        section=Section.DIGEST_SUBSCRIPTION,
        read=lambda connection, user, after, _limit: (
            []
            if after.first
            else queries.exports.exported_subscriptions(connection, user_id=user.user_id)
        ),
        position=lambda _: _Position(1, 0),
    ),
)


class Exports:
    """Exports of single users."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._graph = resources.graph
        self._tokens = resources.tokens

    def export(self, user_id: int, cursor: str) -> Iterator[ExportedRows]:
        """Yield what there is of a user, section by section and each in order, from a cursor on.

        Raises ValidationError naming `cursor` when it is not one of ours for this user.
        """
        scope = Scope.of("export", user_id)
        start = self._tokens.read(scope, cursor, start=_Cursor(0, *_BEFORE_ALL), field="cursor")
        position = _Position(start.first, start.second)
        for number, listing in enumerate(_LISTINGS[start.section :], start.section):
            if number > start.section:
                position = listing.start
            while rows := self._rows(listing, user_id, position):
                position = listing.position(rows[-1])
                yield ExportedRows(
                    section=listing.section,
                    rows=rows,
                    cursor=partial(self._cursor, scope, number, listing),
                )

    def _cursor(self, scope: Scope, number: int, listing: _Listing, row: object) -> str:
        return self._tokens.issue(scope, _Cursor(number, *listing.position(row)))

    def _rows(self, listing: _Listing, user_id: int, after: _Position) -> Sequence[Any]:
        def read(user: Viewer) -> Sequence[Any]:
            # What is theirs includes the connections that their own suspension hides.
            owner = self._graph.as_if_restored(user_id) if user.is_suspended else user
            return self._database.read(
                lambda connection: listing.read(connection, owner, after, _CHUNK)
            )

        if listing.needs_connections:
            return steady_read(self._graph, user_id, read, is_caller=False)
        return read(Viewer(user_id=user_id))
