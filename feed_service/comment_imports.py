"""Imports: comments from elsewhere, chunk by chunk."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from feed_service import queries
from feed_service.models import EventKind
from feed_service.queries.imported_comments import ImportedComment
from feed_service.resources import Resources
from kith.exceptions import FieldViolation, ValidationError
from shared.api.imports import import_chunks

_NO_SUCH_POST = "must be the external_id of an imported post of its author"


@dataclass(frozen=True, kw_only=True)
class CommentImportResult:
    """What became of the comments so far."""

    imported: int = 0
    existing: int = 0
    committed_chunks: int = 0

    def __add__(self, other: "CommentImportResult") -> "CommentImportResult":
        """Return the sum of two results."""
        return CommentImportResult(
            imported=self.imported + other.imported,
            existing=self.existing + other.existing,
            committed_chunks=self.committed_chunks + other.committed_chunks,
        )


class CommentImports:
    """Imports of comments by any number of authors."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database

    def import_chunks(self, chunks: Iterable[Sequence[ImportedComment]]) -> CommentImportResult:
        """Import each chunk as `shared.api.imports` says."""
        return import_chunks(chunks, self._import, nothing=CommentImportResult())

    def _import(self, chunk: Sequence[ImportedComment]) -> CommentImportResult:
        if not chunk:
            return CommentImportResult(committed_chunks=1)
        return self._database.write(lambda connection: _import_in(connection, chunk))


def _import_in(connection: Connection, chunk: Sequence[ImportedComment]) -> CommentImportResult:
    posts = queries.imports.imported_posts(connection, names={comment.post for comment in chunk})
    violations = [
        FieldViolation(field=f"comments[{index}].post_external_id", description=_NO_SUCH_POST)
        for index, comment in enumerate(chunk)
        if comment.post not in posts
    ]
    if violations:
        raise ValidationError.of_all(violations)
    amounts = queries.imported_comments.insert_comments(
        connection, comments=[(posts[comment.post], comment) for comment in chunk]
    )
    queries.events.record_import(connection, EventKind.COMMENTS_IMPORTED, posts=amounts)
    imported = amounts.total()
    return CommentImportResult(
        imported=imported, existing=len(chunk) - imported, committed_chunks=1
    )
