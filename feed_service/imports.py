"""Imports: many posts from elsewhere, chunk by chunk.

The photos of a chunk are made first, as those of a new post are, and only for posts that were not
imported before: a chunk that is sent again no longer needs its uploads.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from feed_service import queries
from feed_service.audiences import foreign_tags, named_tags
from feed_service.layouts import Layout
from feed_service.metrics import POSTS
from feed_service.models import TAGS, EventKind
from feed_service.photos import Photos
from feed_service.queries.imported_tags import ExternalTag, FoundTag
from feed_service.queries.imports import ExternalName, ImportedPost
from feed_service.queries.photos import NewPhoto
from feed_service.queries.posts import Audience, PostName
from feed_service.resources import Resources
from feed_service.tag_imports import NO_SUCH_TAG
from kith.exceptions import FieldViolation, ValidationError
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

    def __init__(self, resources: Resources, photos: Photos) -> None:
        self._database = resources.database
        self._layout = resources.layout
        self._photos = photos

    def import_chunks(self, chunks: Iterable[Sequence[ImportedPost]]) -> ImportResult:
        """Import each chunk as `shared.api.imports` says."""
        return import_chunks(chunks, self._import, nothing=ImportResult())

    def _import(self, chunk: Sequence[ImportedPost]) -> ImportResult:
        if not chunk:
            return ImportResult(committed_chunks=1)
        made = self._made(chunk)
        result = self._database.write(lambda connection: self._import_in(connection, chunk, made))
        if made:
            self._photos.remove_soon()
        return result

    def _made(self, chunk: Sequence[ImportedPost]) -> Mapping[str, NewPhoto]:
        """Store final objects for the photos of the new posts, which have the same author."""
        posts = [post for post in chunk if post.photos]
        if not posts:
            return {}
        known = self._database.read(
            lambda connection: queries.imports.imported_posts(
                connection, names=[post.key for post in posts]
            )
        )
        drafts = [draft for post in posts if post.key not in known for draft in post.photos]
        return self._photos.make(posts[0].author_id, drafts) if drafts else {}

    def _import_in(
        self, connection: Connection, chunk: Sequence[ImportedPost], made: Mapping[str, NewPhoto]
    ) -> ImportResult:
        _lock_own_tags(connection, chunk, self._layout)
        posts = _with_imported_tags(connection, chunk, self._layout)
        names = self._layout.insert_posts(connection, posts=posts)
        queries.posts.insert_audience_tags(
            connection,
            audiences={names[post.key]: post.audience for post in posts if post.key in names},
        )
        self._insert_photos(connection, chunk, names, made)
        queries.events.record_import(connection, EventKind.POSTS_IMPORTED, posts=names.values())
        add_to_totals(connection, amounts={POSTS: len(names)})
        return ImportResult(
            imported=len(names), existing=len(chunk) - len(names), committed_chunks=1
        )

    def _insert_photos(
        self,
        connection: Connection,
        chunk: Sequence[ImportedPost],
        names: Mapping[ExternalName, PostName],
        made: Mapping[str, NewPhoto],
    ) -> None:
        """Use the photos that were made for those posts that are new."""
        new = [post for post in chunk if post.photos and post.key in names]
        if not new:
            return
        drafts = [draft for post in new for draft in post.photos]
        shown = {draft.key: made[draft.key] for draft in drafts}
        self._photos.take(connection, new[0].author_id, drafts, shown)
        queries.imports.insert_photos(
            connection,
            photos={names[post.key]: [shown[draft.key] for draft in post.photos] for post in new},
        )


def _lock_own_tags(connection: Connection, chunk: Sequence[ImportedPost], layout: Layout) -> None:
    """Keep the tags of audiences and comment policies, or refuse those that are not their own."""
    wanted = {
        (post.author_id, tag_id)
        for post in chunk
        for tag_id in (*named_tags(post.audience), *post.comment_policy.tag_ids)
    }
    if not wanted:
        return
    owned = defaultdict[int, set[int]](set)
    for owner_id, tag_id in layout.lock_tags(connection, names=wanted):
        owned[owner_id].add(tag_id)
    violations = [
        violation
        for index, post in enumerate(chunk)
        for field, audience in (
            ("audience", post.audience),
            ("comment_policy", Audience(kind=TAGS, tag_ids=post.comment_policy.tag_ids)),
        )
        for violation in foreign_tags(
            owned[post.author_id], audience, field=f"posts[{index}].{field}"
        )
    ]
    if violations:
        raise ValidationError.of_all(violations)


def _with_imported_tags(
    connection: Connection, chunk: Sequence[ImportedPost], layout: Layout
) -> Sequence[ImportedPost]:
    """Return the posts with the ids of the tags that an importer names, which are locked.

    Raises ValidationError naming those that were not imported. One that is deleted shows no
    post, and still excludes people.
    """
    keys = {
        (post.author_id, external_id)
        for post in chunk
        for external_id in (
            *post.tag_external_ids,
            *post.excluded_tag_external_ids,
            *post.comment_tag_external_ids,
        )
    }
    if not keys:
        return chunk
    found = layout.lock_imported_tags(connection, keys=keys)
    present = {key for key, tag in found.items() if not tag.is_deleted}
    violations = [
        violation
        for index, post in enumerate(chunk)
        for violation in _unknown_tags(post, present, found, field=f"posts[{index}]")
    ]
    if violations:
        raise ValidationError.of_all(violations)
    return [_with_tags(post, found) for post in chunk]


def _with_tags(post: ImportedPost, found: Mapping[ExternalTag, FoundTag]) -> ImportedPost:
    def ids(external_ids: Sequence[str]) -> list[int]:
        return [found[post.author_id, external_id].id for external_id in external_ids]

    audience, policy = post.audience, post.comment_policy
    return post._replace(
        audience=replace(
            audience,
            tag_ids=[*audience.tag_ids, *ids(post.tag_external_ids)],
            excluded_tag_ids=[*audience.excluded_tag_ids, *ids(post.excluded_tag_external_ids)],
        ),
        comment_policy=replace(
            policy, tag_ids=[*policy.tag_ids, *ids(post.comment_tag_external_ids)]
        ),
    )


def _unknown_tags(
    post: ImportedPost,
    present: Collection[ExternalTag],
    found: Collection[ExternalTag],
    *,
    field: str,
) -> list[FieldViolation]:
    lists = {
        "tag_external_ids": (post.tag_external_ids, present),
        "excluded_tag_external_ids": (post.excluded_tag_external_ids, found),
        "comment_tag_external_ids": (post.comment_tag_external_ids, present),
    }
    return [
        FieldViolation(field=f"{field}.{name}[{index}]", description=NO_SUCH_TAG)
        for name, (external_ids, allowed) in lists.items()
        for index, external_id in enumerate(external_ids)
        if (post.author_id, external_id) not in allowed
    ]
