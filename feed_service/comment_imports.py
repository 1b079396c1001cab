"""Imports: comments from elsewhere, chunk by chunk."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from feed_service import queries
from feed_service.models import EventKind
from feed_service.queries.imported_comments import ExternalComment, ImportedComment
from feed_service.queries.posts import PostName
from feed_service.resources import Resources
from kith.exceptions import FieldViolation, ValidationError
from shared.api.imports import import_chunks

_NO_SUCH_POST = "must be the external_id of an imported post of its author"
_NO_SUCH_PARENT = "must be the external_id of one imported comment on the post, and of no reply"


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
    comments = [(posts[comment.post], comment) for comment in chunk]
    inserted = queries.imported_comments.insert_comments(
        connection,
        comments=[each for each in comments if not each[1].parent_external_id],
        parent_ids={},
    )
    if replies := [each for each in comments if each[1].parent_external_id]:
        parent_ids = queries.imported_comments.imported_parents(connection, comments=replies)
        _require_parents(connection, comments, parent_ids)
        inserted += queries.imported_comments.insert_comments(
            connection,
            comments=[each for each in replies if each[1].parent in parent_ids],
            parent_ids=parent_ids,
        )
    # Last, because every transaction locks comments before the counts.
    queries.imported_comments.count_comments(connection, inserted=inserted)
    posts_with_new = dict.fromkeys(post for post, _ in inserted)
    queries.events.record_import(connection, EventKind.COMMENTS_IMPORTED, posts=posts_with_new)
    return CommentImportResult(
        imported=len(inserted), existing=len(chunk) - len(inserted), committed_chunks=1
    )


def _require_parents(
    connection: Connection,
    comments: Sequence[tuple[PostName, ImportedComment]],
    parent_ids: Mapping[ExternalComment, int],
) -> None:
    """Raise ValidationError naming the new replies to what was not imported, or is deleted.

    A chunk that is sent again may have replies to what was deleted since.
    """
    missing = {
        index: each
        for index, each in enumerate(comments)
        if each[1].parent_external_id and each[1].parent not in parent_ids
    }
    if not missing:
        return
    existing = queries.imported_comments.imported_before(
        connection, comments=list(missing.values())
    )
    violations = [
        FieldViolation(field=f"comments[{index}].parent_external_id", description=_NO_SUCH_PARENT)
        for index, (post, comment) in missing.items()
        if (*post, comment.author_id, comment.external_id) not in existing
    ]
    if violations:
        raise ValidationError.of_all(violations)
