"""A person out of a document into the services.

The order of the document is that of the import: connections before the people who have tags, tags
with all their people before the posts that exclude by them, posts before comments. So a fault in
the first two stops the import, and one in a post or comment is told at the end.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from google.protobuf.message import Message
from rich.console import Console

from kith.cli.documents import Document, Row
from kith.cli.files import opened
from kith.cli.imports import Effect, counted
from kith.cli.photos import name_of, send_photo
from kith.cli.terminal import CommandError, RowsRefusedError
from kith.client import KithClient, imported
from kith.exceptions import ValidationError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_MOST_ROWS: Final = 1_000
# A thousand of the longest texts are more than a message may be.
_MOST_BYTES: Final = 1024 * 1024
# Each is read from the object store and written to it while the service works on the message.
_MOST_PHOTOS: Final = 20

_GRAPH, _TAGS, _POSTS, _COMMENTS, _NOTHING = "graph", "tags", "posts", "comments", ""
_KINDS: Final = {
    "connections": _GRAPH,
    "tags": _TAGS,
    "tagged_users": _TAGS,
    "posts": _POSTS,
    "comments": _COMMENTS,
    "read_time": _NOTHING,
    "frozen_digests": _NOTHING,
    "digest_subscription": _NOTHING,
}
_THERE: Final = "there already"
_LABELS: Final = {
    "graph.imported_count": "connections",
    "graph.imported_request_count": "requests",
    "graph.imported_block_count": "blocks",
    "tags.imported_count": "tags",
    "tags.imported_member_count": "tagged people",
    "tags.unconnected_member_count": "of these former members (not connected)",
    "posts.imported_count": "posts",
    "comments.imported_count": "comments",
    "graph.existing_count": _THERE,
    "tags.existing_count": _THERE,
    "tags.existing_member_count": _THERE,
    "posts.existing_count": _THERE,
    "comments.existing_count": _THERE,
    "graph.blocked_count": "skipped (blocked)",
    "graph.over_limit_count": "skipped (limit)",
}
_SKIPPED: Final = ("skipped (blocked)", "skipped (limit)")
_VIOLATION: Final = re.compile(r"(\w+)\[(\d+)\]\.?(.*)")
_CONTENT_TYPES: Final = {
    ".jpg": feed_pb2.PHOTO_CONTENT_TYPE_JPEG,
    ".png": feed_pb2.PHOTO_CONTENT_TYPE_PNG,
    ".webp": feed_pb2.PHOTO_CONTENT_TYPE_WEBP,
    ".avif": feed_pb2.PHOTO_CONTENT_TYPE_AVIF,
}

_Parts: TypeAlias = dict[str, list[tuple[Row, Any]]]
"""The items of a message by its fields, each with the row that it is made of."""


def import_user(
    path: Path, kith: KithClient, console: Console, *, photos: Path | None, source: str
) -> None:
    """Import a person, and print what became of it.

    Raises RowsRefusedError at the end when posts or comments were refused or connections skipped,
    and CommandError that names the line, and how much took effect, when it ends before.
    """
    with (
        opened(path) as file,
        counted(file, console, "rows", _LABELS, shows_zeros=False) as effect,
    ):
        document = Document(file)
        move = _Move(kith, document.user_id, source=source, photos=photos, effect=effect)
        for kind, rows in _groups(document.rows()):
            move.take(kind, rows)
    console.print(effect.summary(), soft_wrap=True)
    if move.left_out:
        console.print(f"{move.left_out:,} rows of digests and read positions are not imported.")
    skipped = sum(effect.counts[label] for label in _SKIPPED)
    if move.refused or skipped:
        first = f", the first in {move.refused[0]}" if move.refused else ""
        raise RowsRefusedError(f"{len(move.refused):,} refused and {skipped:,} skipped{first}")


def _groups(rows: Iterator[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield as many rows of one kind at a time as fit into a message."""
    group, kind, size, photos = list[Row](), _NOTHING, 0, 0
    for row in rows:
        length, more = row.item.ByteSize(), _photo_count(row.item)
        is_full = (
            len(group) == _MOST_ROWS or size + length > _MOST_BYTES or photos + more > _MOST_PHOTOS
        )
        if group and (is_full or _KINDS[row.section] != kind):
            yield kind, group
            group, size, photos = [], 0, 0
        kind = _KINDS[row.section]
        group.append(row)
        size, photos = size + length, photos + more
    if group:
        yield kind, group


def _photo_count(item: Message) -> int:
    return len(item.photos) if isinstance(item, feed_pb2.Post) else 0


class _RefusedRowError(Exception):
    """A row cannot be sent; the message says why."""


@dataclass
class _Move:
    """The import of one person."""

    kith: KithClient
    user_id: int
    source: str = field(kw_only=True)
    photos: Path | None = field(kw_only=True)
    effect: Effect = field(kw_only=True)
    refused: list[str] = field(default_factory=list)
    left_out: int = 0

    def take(self, kind: str, rows: Sequence[Row]) -> None:
        """Import some rows of one kind."""
        if kind == _NOTHING:
            self.left_out += len(rows)
            return
        send = self._sends[kind]
        done = send(rows)
        self.effect.add(done, [row.line for row in rows], kind=kind)

    @property
    def _sends(self) -> Mapping[str, Callable[[Sequence[Row]], Message]]:
        return {
            _GRAPH: self._send_graph,
            _TAGS: self._send_tags,
            _POSTS: self._send_posts,
            _COMMENTS: self._send_comments,
        }

    def _send_graph(self, rows: Sequence[Row]) -> Message:
        parts = self._parts(rows, self._graph_item)
        request = graph_pb2.ImportConnectionsRequest(**_items(parts))
        return _all(parts, lambda: imported(self.kith.graph.ImportConnections, request))

    def _send_tags(self, rows: Sequence[Row]) -> Message:
        parts = self._parts(rows, self._tag_item)
        request = feed_pb2.ImportTagsRequest(**_items(parts))
        return _all(parts, lambda: imported(self.kith.feed.ImportTags, request))

    def _send_posts(self, rows: Sequence[Row]) -> Message:
        return self._send_some(
            rows,
            self._post_item,
            lambda parts: imported(
                self.kith.feed.ImportPosts, feed_pb2.ImportPostsRequest(**_items(parts))
            ),
        )

    def _send_comments(self, rows: Sequence[Row]) -> Message:
        return self._send_some(
            rows,
            self._comment_item,
            lambda parts: imported(
                self.kith.feed.ImportComments, feed_pb2.ImportCommentsRequest(**_items(parts))
            ),
        )

    def _send_some(
        self,
        rows: Sequence[Row],
        item: Callable[[Row], tuple[str, Any]],
        send: Callable[[_Parts], Message],
    ) -> Message:
        """Send those rows that are not refused, and note the others."""
        parts = self._parts(rows, item)
        while True:
            try:
                return send(parts)
            except ValidationError as error:
                faults = _faults(error, parts)
                if not faults:
                    raise
                self.refused += [f"line {line}: {why}" for line, why in sorted(faults.items())]
                parts = _without(parts, faults)

    def _parts(self, rows: Sequence[Row], item: Callable[[Row], tuple[str, Any]]) -> _Parts:
        parts: _Parts = defaultdict(list)
        for row in rows:
            try:
                name, made = item(row)
            except _RefusedRowError as error:
                self.refused.append(f"line {row.line}: {error}")
                continue
            parts[name].append((row, made))
        return parts

    def _graph_item(self, row: Row) -> tuple[str, Any]:
        connection: Any = row.item
        mine, peer, moment = self.user_id, connection.peer_id, connection.create_time
        match connection.state:
            case graph_pb2.CONNECTION_STATE_CONNECTED:
                return "connections", graph_pb2.ConnectionPair(
                    first_user_id=mine,
                    second_user_id=peer,
                    connect_time=connection.connect_time,
                    request_time=moment,
                )
            case graph_pb2.CONNECTION_STATE_BLOCKED:
                return "blocks", graph_pb2.ImportConnectionsRequest.Block(
                    blocker_id=mine, blocked_id=peer, create_time=moment
                )
            case graph_pb2.CONNECTION_STATE_REQUEST_SENT:
                sides = {"requester_id": mine, "addressee_id": peer}
            case graph_pb2.CONNECTION_STATE_REQUEST_RECEIVED:
                sides = {"requester_id": peer, "addressee_id": mine}
            case _:
                _stop(row, "the two have nothing between them")
        return "requests", graph_pb2.ImportConnectionsRequest.OpenRequest(
            create_time=moment, **sides
        )

    def _tag_item(self, row: Row) -> tuple[str, Any]:
        item: Any = row.item
        if row.section == "tags":
            return "tags", feed_pb2.ImportTagsRequest.ImportedTag(
                owner_id=self.user_id,
                external_id=self._external_id(item.tag_id),
                name=item.name,
                create_time=item.create_time,
                delete_time=item.delete_time if item.HasField("delete_time") else None,
                muted=item.muted,
                mute_until=item.mute_until if item.HasField("mute_until") else None,
            )
        return "members", feed_pb2.ImportTagsRequest.ImportedMember(
            owner_id=self.user_id,
            tag_external_id=self._external_id(item.tag_id),
            target_user_id=item.member.target_user_id,
            create_time=item.member.create_time,
            former=item.member.former,
        )

    def _post_item(self, row: Row) -> tuple[str, Any]:
        post: Any = row.item
        self._require_own(row, post.author_id)
        return "posts", feed_pb2.ImportPostsRequest.ImportedPost(
            author_id=self.user_id,
            external_id=self._external_id(post.post_id),
            body=post.body,
            create_time=post.create_time,
            edit_time=post.edit_time if post.HasField("edit_time") else None,
            audience=feed_pb2.Audience(kind=post.audience.kind),
            tag_external_ids=map(self._external_id, post.audience.tag_ids),
            excluded_tag_external_ids=map(self._external_id, post.audience.excluded_tag_ids),
            attributes=post.attributes,
            photos=self._uploaded(post.photos),
            moderated=post.moderated,
            comment_policy=(
                feed_pb2.CommentPolicy(kind=post.comment_policy.kind)
                if post.HasField("comment_policy")
                else None
            ),
            comment_tag_external_ids=map(self._external_id, post.comment_policy.tag_ids),
            comments_locked=post.comments_locked,
        )

    def _comment_item(self, row: Row) -> tuple[str, Any]:
        comment: Any = row.item
        self._require_own(row, comment.author_id)
        return "comments", feed_pb2.ImportCommentsRequest.ImportedComment(
            author_id=self.user_id,
            external_id=self._external_id(comment.comment_id),
            post_author_id=comment.post.author_id,
            post_external_id=self._external_id(comment.post.post_id),
            body=comment.body,
            create_time=comment.create_time,
            edit_time=comment.edit_time if comment.HasField("edit_time") else None,
            moderated=comment.moderated,
            parent_external_id=(
                self._external_id(comment.parent_comment_id) if comment.parent_comment_id else ""
            ),
            hidden=comment.hidden,
        )

    def _require_own(self, row: Row, author_id: int) -> None:
        if author_id != self.user_id:
            _stop(row, f"person {author_id} has written it, and the document is of {self.user_id}")

    def _external_id(self, id_: int) -> str:
        return f"{self.source}/{id_}"

    def _uploaded(self, photos: Sequence[feed_pb2.Photo]) -> list[feed_pb2.Photo]:
        """Upload the pictures of a post, and return its photos with the keys of the uploads."""
        if not photos:
            return []
        files = [self._file(photo) for photo in photos]
        drafts = [
            feed_pb2.CreatePhotoUploadsRequest.PhotoUploadDraft(
                content_type=_CONTENT_TYPES[file.suffix]
            )
            for file in files
        ]
        uploads = self.kith.feed.CreatePhotoUploads(
            feed_pb2.CreatePhotoUploadsRequest(user_id=self.user_id, photos=drafts)
        ).uploads
        for file, upload in zip(files, uploads, strict=True):
            send_photo(upload, file.read_bytes())
        return [
            feed_pb2.Photo(key=upload.key, alt_text=photo.alt_text)
            for photo, upload in zip(photos, uploads, strict=True)
        ]

    def _file(self, photo: feed_pb2.Photo) -> Path:
        if self.photos is None:
            raise _RefusedRowError("the post has photos; pass their folder with --photos")
        file = self.photos / name_of(photo.key)
        if not file.is_file():
            raise _RefusedRowError(f"there is no file {file}")
        if file.suffix not in _CONTENT_TYPES:
            raise _RefusedRowError(f"{file} has none of the endings {', '.join(_CONTENT_TYPES)}")
        return file


def _items(parts: _Parts) -> dict[str, list[Any]]:
    return {name: [item for _, item in made] for name, made in parts.items()}


def _all(parts: _Parts, send: Callable[[], Message]) -> Message:
    """Send everything; raises CommandError naming the lines that are refused."""
    try:
        return send()
    except ValidationError as error:
        faults = _faults(error, parts)
        if not faults:
            raise
        told = "; ".join(f"line {line}: {why}" for line, why in sorted(faults.items()))
        raise CommandError(told) from error


def _faults(error: ValidationError, parts: _Parts) -> dict[int, str]:
    """Return what is said of rows, by their lines."""
    faults = dict[int, str]()
    for violation in error.violations:
        found = _VIOLATION.fullmatch(violation.field)
        if found and found[1] in parts:
            row, _ = parts[found[1]][int(found[2])]
            faults[row.line] = f"{error.reason_name}: {found[3]} {violation.description}"
    return faults


def _without(parts: _Parts, lines: Mapping[int, str]) -> _Parts:
    return {
        name: [(row, item) for row, item in made if row.line not in lines]
        for name, made in parts.items()
    }


def _stop(row: Row, why: str) -> NoReturn:
    raise CommandError(f"line {row.line}: {why}")
