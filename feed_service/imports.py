"""Imports: many posts from elsewhere, chunk by chunk."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from feed_service import queries
from feed_service.audiences import foreign_tags, named_tags
from feed_service.layouts import Layout
from feed_service.metrics import POSTS
from feed_service.queries.imports import ImportedPost
from feed_service.resources import Resources
from kith.exceptions import ValidationError
from shared.api.imports import import_chunks
from shared.database.totals import add_to_totals


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


class Imports:
    """Imports of posts by any number of authors."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._layout = resources.layout

    def import_chunks(self, chunks: Iterable[Sequence[ImportedPost]]) -> ImportResult:
        """Import each chunk as `shared.api.imports` says."""
        return import_chunks(chunks, self._import, nothing=ImportResult())

    def _import(self, chunk: Sequence[ImportedPost]) -> ImportResult:
        if not chunk:
            return ImportResult(committed_chunks=1)
        return self._database.write(lambda connection: _import_in(connection, chunk, self._layout))


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
