"""Moving posts in, and everything of one user's out."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message
from sqlalchemy import Connection

from feed_service import messages, queries
from feed_service.audiences import foreign_tags, named_tags
from feed_service.graph_client import GraphClient
from feed_service.layouts import Layout
from feed_service.metrics import POSTS
from feed_service.photos import Photos
from feed_service.queries.transfers import ImportedPost
from feed_service.safe_read import steady_read
from feed_service.visibility import Viewer
from kith.exceptions import ValidationError
from kith.feed.v1 import feed_pb2 as pb
from shared.database import Database
from shared.paging import PageTokens, Scope, oldest_first, place
from shared.totals import add_to_totals
from shared.transfers import import_chunks

_EXPORT_CHUNK: Final = 500
# A client's own limit is 4 MiB unless it was raised.
_EXPORT_BYTES: Final = 1024 * 1024


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


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A part of an export: a list with an order of its own, and the field that its rows go to."""

    field: str
    read: Callable[[Connection, Viewer, tuple[int, int], int], Sequence[Any]]
    encode: Callable[[Any], Message]
    position: Callable[[Any], tuple[int, int]]
    needs_connections: bool = False


class Transfers:
    """Imports and exports."""

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        tokens: PageTokens,
        photos: Photos,
        *,
        layout: Layout,
    ) -> None:
        self._database = database
        self._graph = graph
        self._layout = layout
        self._tokens = tokens
        self._sections = _sections(photos)

    def import_chunks(self, chunks: Iterable[Sequence[ImportedPost]]) -> ImportResult:
        """Import each chunk as `shared.transfers` says."""
        return import_chunks(chunks, self._import, nothing=ImportResult())

    def export(self, user_id: int, cursor: str) -> Iterator[pb.ExportUserResponse]:
        """Yield what there is of a user, section by section and each in order, from a cursor on.

        Raises ValidationError naming `cursor` when it is not one of ours for this user.
        """
        scope = Scope.of("export", user_id)
        start, *after = self._tokens.read(scope, cursor, length=3, field="cursor") or (0, 0, 0)
        for number, section in enumerate(self._sections[start:], start):
            begin = (after[0], after[1]) if number == start else (0, 0)
            for items, last in self._items(section, user_id, begin):
                position = [number, *section.position(last)]
                response = pb.ExportUserResponse(cursor=self._tokens.issue(scope, position))
                getattr(response, section.field).extend(items)
                yield response

    def _import(self, chunk: Sequence[ImportedPost]) -> ImportResult:
        if not chunk:
            return ImportResult(committed_chunks=1)
        return self._database.write(lambda connection: _import_in(connection, chunk, self._layout))

    def _items(
        self, section: _Section, user_id: int, after: tuple[int, int]
    ) -> Iterator[tuple[list[Message], Any]]:
        while rows := self._rows(section, user_id, after):
            yield from _packed(section, rows)
            after = section.position(rows[-1])

    def _rows(self, section: _Section, user_id: int, after: tuple[int, int]) -> Sequence[Any]:
        def read(user: Viewer) -> Sequence[Any]:
            return self._database.read(
                lambda connection: section.read(connection, user, after, _EXPORT_CHUNK)
            )

        if section.needs_connections:
            return steady_read(self._graph, user_id, read)
        return read(Viewer(user_id=user_id))


def _sections(photos: Photos) -> Sequence[_Section]:
    """Return the sections in their order. A cursor knows them by number: only add at the end."""
    return (
        _Section(
            field="tags",
            read=lambda connection, user, after, limit: queries.tags.tag_page(
                connection,
                owner_user_id=user.user_id,
                with_deleted=True,
                after_id=after[0],
                limit=limit,
            ),
            encode=messages.tag,
            position=lambda row: (row.id, 0),
        ),
        _Section(
            field="tagged_users",
            read=lambda connection, user, after, limit: queries.transfers.exported_tagged(
                connection, owner=user, after=after, limit=limit
            ),
            needs_connections=True,
            encode=messages.tagged_user,
            position=lambda row: (row.tag_id, row.target_user_id),
        ),
        _Section(
            field="posts",
            read=lambda connection, user, after, limit: queries.transfers.exported_posts(
                connection, author_id=user.user_id, after=place(after), limit=limit
            ),
            encode=lambda row: messages.post(
                row, viewer_id=row.author_id, download_url=photos.download_urls()
            ),
            position=lambda row: oldest_first(row.created_at, row.id),
        ),
        _Section(
            field="comments",
            read=lambda connection, user, after, limit: queries.transfers.exported_comments(
                connection, user_id=user.user_id, after_id=after[0], limit=limit
            ),
            encode=messages.comment,
            position=lambda row: (row.id, 0),
        ),
    )


def _packed(section: _Section, rows: Sequence[Any]) -> Iterator[tuple[list[Message], Any]]:
    """Yield the rows as messages, as many at a time as fit, each time with the last of the rows."""
    items, size, last = list[Message](), 0, None
    for row in rows:
        item = section.encode(row)
        if items and size + item.ByteSize() > _EXPORT_BYTES:
            yield items, last
            items, size = [], 0
        items.append(item)
        size += item.ByteSize()
        last = row
    yield items, last


def _hold_own_tags(connection: Connection, chunk: Sequence[ImportedPost], layout: Layout) -> None:
    """Keep the tags of all audiences from being deleted, or refuse those that are not their own."""
    wanted = {(post.author_id, tag_id) for post in chunk for tag_id in named_tags(post.audience)}
    if not wanted:
        return
    owned = defaultdict[int, set[int]](set)
    for owner_id, tag_id in layout.hold_tags(connection, names=wanted):
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
    _hold_own_tags(connection, chunk, layout)
    names = layout.insert_posts(connection, posts=chunk)
    new = {(post.author_id, post.external_id): post.audience for post in chunk}
    queries.posts.insert_audience_tags(
        connection, audiences={name: new[external] for external, name in names.items()}
    )
    add_to_totals(connection, amounts={POSTS: len(names)})
    return ImportResult(imported=len(names), existing=len(chunk) - len(names), committed_chunks=1)
