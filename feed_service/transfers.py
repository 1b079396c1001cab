"""Moving posts in, and everything of one user's out."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from feed_service import queries
from feed_service.audiences import foreign_tags, named_tags
from feed_service.layouts import Layout
from feed_service.metrics import POSTS
from feed_service.queries.transfers import ImportedPost
from feed_service.resources import Resources
from feed_service.safe_read import steady_read
from feed_service.viewers import Viewer
from kith.exceptions import ValidationError
from shared.api.imports import import_chunks
from shared.api.paging import ByTime, Scope
from shared.database.totals import add_to_totals

_EXPORT_CHUNK: Final = 500


class Section(StrEnum):
    """A part of an export: a list with an order of its own."""

    TAGS = "tags"
    TAGGED_USERS = "tagged_users"
    POSTS = "posts"
    COMMENTS = "comments"


@dataclass(frozen=True, kw_only=True)
class ExportedRows:
    """Rows of one section of an export, one or more, in their order.

    `cursor` returns where an export goes on that has come to one of them.
    """

    section: Section
    rows: Sequence[Any]
    cursor: Callable[[Any], str]


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What became of the posts so far."""

    imported: int = 0
    existing: int = 0
    committed_chunks: int = 0

    def __add__(self, other: "ImportResult") -> "ImportResult":
        """Return the sum of two results."""
        return ImportResult(
            imported=self.imported + other.imported,
            existing=self.existing + other.existing,
            committed_chunks=self.committed_chunks + other.committed_chunks,
        )


class _Position(NamedTuple):
    """The position of a row in its section: tag and person, time and id, or an id and 0."""

    first: int
    second: int


class _Cursor(NamedTuple):
    """The number of a section, and a position in it."""

    section: int
    first: int
    second: int


_BEFORE_ALL: Final = _Position(0, 0)


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """How a section is read, and where in its order a row is."""

    section: Section
    read: Callable[[Connection, Viewer, _Position, int], Sequence[Any]]
    position: Callable[[Any], _Position]
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
        read=lambda connection, user, after, limit: queries.transfers.exported_tagged(
            connection, owner=user, after=after, limit=limit
        ),
        position=lambda row: _Position(row.tag_id, row.target_user_id),
        needs_connections=True,
    ),
    _Listing(
        section=Section.POSTS,
        read=lambda connection, user, after, limit: queries.transfers.exported_posts(
            connection, author_id=user.user_id, after=ByTime(*after).key, limit=limit
        ),
        position=lambda row: _Position(*ByTime.of(row.created_at, row.id)),
    ),
    _Listing(
        section=Section.COMMENTS,
        read=lambda connection, user, after, limit: queries.transfers.exported_comments(
            connection, user_id=user.user_id, after_id=after.first, limit=limit
        ),
        position=lambda row: _Position(row.id, 0),
    ),
)


class Transfers:
    """Imports and exports."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._graph = resources.graph
        self._layout = resources.layout
        self._tokens = resources.tokens

    def import_chunks(self, chunks: Iterable[Sequence[ImportedPost]]) -> ImportResult:
        """Import each chunk as `shared.api.imports` says."""
        return import_chunks(chunks, self._import, nothing=ImportResult())

    def export(self, user_id: int, cursor: str) -> Iterator[ExportedRows]:
        """Yield what there is of a user, section by section and each in order, from a cursor on.

        Raises ValidationError naming `cursor` when it is not one of ours for this user.
        """
        scope = Scope.of("export", user_id)
        start = self._tokens.read(scope, cursor, start=_Cursor(0, *_BEFORE_ALL), field="cursor")
        position = _Position(start.first, start.second)
        for number, listing in enumerate(_LISTINGS[start.section :], start.section):
            while rows := self._rows(listing, user_id, position):
                position = listing.position(rows[-1])
                yield ExportedRows(
                    section=listing.section,
                    rows=rows,
                    cursor=partial(self._cursor, scope, number, listing),
                )
            position = _BEFORE_ALL

    def _import(self, chunk: Sequence[ImportedPost]) -> ImportResult:
        if not chunk:
            return ImportResult(committed_chunks=1)
        return self._database.write(lambda connection: _import_in(connection, chunk, self._layout))

    def _cursor(self, scope: Scope, number: int, listing: _Listing, row: object) -> str:
        return self._tokens.issue(scope, _Cursor(number, *listing.position(row)))

    def _rows(self, listing: _Listing, user_id: int, after: _Position) -> Sequence[Any]:
        def read(user: Viewer) -> Sequence[Any]:
            return self._database.read(
                lambda connection: listing.read(connection, user, after, _EXPORT_CHUNK)
            )

        if listing.needs_connections:
            return steady_read(self._graph, user_id, read)
        return read(Viewer(user_id=user_id))


def _lock_own_tags(connection: Connection, chunk: Sequence[ImportedPost], layout: Layout) -> None:
    """Keep the tags of all audiences from being deleted, or refuse those that are not their own."""
    wanted = {(post.author_id, tag_id) for post in chunk for tag_id in named_tags(post.audience)}
    if not wanted:
        return
    owned = defaultdict[int, set[int]](set)
    for owner_id, tag_id in layout.lock_tags(connection, names=wanted):
        owned[owner_id].add(tag_id)
    violations = [
        violation
        for index, post in enumerate(chunk)
        for violation in foreign_tags(
            owned[post.author_id], post.audience, field=f"posts[{index}].audience"
        )
    ]
    if violations:
        raise ValidationError.of_all(violations)


def _import_in(
    connection: Connection, chunk: Sequence[ImportedPost], layout: Layout
) -> ImportResult:
    _lock_own_tags(connection, chunk, layout)
    names = layout.insert_posts(connection, posts=chunk)
    new = {(post.author_id, post.external_id): post.audience for post in chunk}
    queries.posts.insert_audience_tags(
        connection, audiences={name: new[external] for external, name in names.items()}
    )
    add_to_totals(connection, amounts={POSTS: len(names)})
    return ImportResult(imported=len(names), existing=len(chunk) - len(names), committed_chunks=1)
