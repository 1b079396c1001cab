"""Posts: publishing, showing, listing, changing, deleting and scoring them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from feed_service import queries
from feed_service.audiences import WITHOUT_TAGS, lock_own_tags, lock_policy_tags
from feed_service.metrics import POSTS
from feed_service.models import TAGS, EventKind
from feed_service.photos import Photos, require
from feed_service.queries.photos import NewPhoto, PhotoDraft
from feed_service.queries.posts import (
    Audience,
    CommentPolicy,
    DeletedPostRow,
    PostName,
    PostRow,
)
from feed_service.resources import Resources
from feed_service.safe_read import read_of_author, safe_read
from feed_service.versions import require_no_hold, require_version
from feed_service.viewers import Viewer
from kith.errors.v1 import errors_pb2
from kith.exceptions import ResourceNotFoundError, ValidationError
from shared.api.idempotency import Call, M, once, once_prepared
from shared.api.paging import NEWER_THAN_ALL, ByTime, Page, Scope
from shared.database.totals import add_to_totals


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a post is made of."""

    body: str
    audience: Audience
    photos: Sequence[PhotoDraft]
    attributes: Mapping[str, str]
    comment_policy: CommentPolicy


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a post is to have from now on; it keeps what is None."""

    body: str | None
    audience: Audience | None
    photos: Sequence[PhotoDraft] | None
    attributes: Mapping[str, str] | None
    comment_policy: CommentPolicy | None
    comments_locked: bool | None

    @property
    def events(self) -> list[EventKind]:
        """What happens to the post."""
        edits = (
            self.body,
            self.photos,
            self.attributes,
            self.comment_policy,
            self.comments_locked,
        )
        return [
            *([EventKind.POST_EDITED] if any(part is not None for part in edits) else []),
            *([EventKind.POST_AUDIENCE_CHANGED] if self.audience is not None else []),
        ]

    @property
    def depend_on_present(self) -> bool:
        """Whether what the post has now decides if the changes are valid."""
        changed = (self.audience, self.photos, self.comment_policy)
        return self.body == "" or any(part is not None for part in changed)


_NOTHING_TO_SHOW: Final = "must not be empty, because the post would have neither text nor photos"


class Posts:
    """What can be done with posts."""

    def __init__(self, resources: Resources, photos: Photos, *, purge_after: timedelta) -> None:
        self._database = resources.database
        self._reads = resources.reads
        self._graph = resources.graph
        self._tokens = resources.tokens
        self._photos = photos
        self._purge_after = purge_after
        self._metrics = resources.metrics
        self._layout = resources.layout

    def create(self, call: Call[PostRow, M], draft: Draft, *, shown: Callable[[M], PostName]) -> M:
        """Publish a post; repeating the request returns the first one's answer.

        `shown` reads from such an answer which post it shows.
        """
        started = time.perf_counter()

        def still_there(connection: Connection, answer: M) -> bool:
            return queries.posts.is_there(connection, name=shown(answer))

        if draft.photos:
            response, is_new = once_prepared(
                self._database,
                call,
                prepare=lambda: self._photos.make(call.user_id, draft.photos),
                work=lambda connection, made: self._create(connection, call.user_id, draft, made),
                still_there=still_there,
            )
        else:
            response, is_new = once(
                self._database,
                call,
                lambda connection: self._create(connection, call.user_id, draft, {}),
                still_there=still_there,
            )
        if is_new:
            if draft.photos:
                self._photos.remove_soon()
            self._metrics.post_creations.inc()
            self._metrics.post_creation_latency.observe(time.perf_counter() - started)
        return response

    def get(self, viewer_id: int, name: PostName) -> PostRow:
        """Return the post, if there is one that the viewer may see."""
        found = self.batch(viewer_id, [name])
        if name not in found:
            raise not_found()
        return found[name]

    def batch(self, viewer_id: int, names: Sequence[PostName]) -> Mapping[PostName, PostRow]:
        """Return those of the posts that the viewer may see.

        One's own are read without the graph, so that they can be reached when it cannot.
        """
        if all(author_id == viewer_id for author_id, _ in names):
            return self._visible(Viewer(user_id=viewer_id), names)
        result = safe_read(self._graph, viewer_id, lambda viewer: self._visible(viewer, names))
        return {
            name: row
            for name, row in result.value.items()
            if result.allows(author_id=row.author_id, viewer_id=viewer_id)
        }

    def page(
        self, viewer_id: int, author_id: int, *, page_size: int, page_token: str
    ) -> Page[PostRow]:
        """Return a page of what the viewer may see of one author, newest first.

        One's own are read without the graph.
        """
        scope = Scope.of("posts", viewer_id, author_id)
        before = self._tokens.read(scope, page_token, start=NEWER_THAN_ALL)

        def read(viewer: Viewer) -> list[PostRow]:
            return self._reads.prepared(
                lambda reader: queries.posts.author_page(
                    reader,
                    viewer=viewer,
                    author_id=author_id,
                    before=before.key,
                    limit=page_size + 1,
                ),
                since=viewer.since,
            )

        rows = read_of_author(self._graph, viewer_id, author_id, read) or []
        return self._tokens.cut(
            scope, rows, size=page_size, position=lambda row: ByTime.of(row.created_at, row.id)
        )

    def update(
        self,
        call: Call[PostRow, M],
        post_id: int,
        changes: Changes,
        *,
        version: int | None,
    ) -> M:
        """Change one of the author's own posts; with a version, only if it is the current one."""
        name = (call.user_id, post_id)

        def still_there(connection: Connection, _answer: M) -> bool:
            return queries.posts.is_there(connection, name=name)

        if drafts := changes.photos:
            response, is_new = once_prepared(
                self._database,
                call,
                prepare=lambda: self._made_for(name, drafts, version=version),
                work=lambda connection, made: self._update(
                    connection, name, changes, made, version=version
                ),
                still_there=still_there,
            )
        else:
            response, is_new = once(
                self._database,
                call,
                lambda connection: self._update(connection, name, changes, {}, version=version),
                still_there=still_there,
            )
        if is_new and changes.photos is not None:
            self._photos.remove_soon()
        return response

    def delete(self, call: Call[None, M], post_id: int, *, version: int | None) -> M:
        """Hide one of the author's own posts from everybody, until it is restored or purged.

        With a version, only if it is the current one, or the post is hidden already.
        """
        deleted = False

        def work(connection: Connection) -> None:
            nonlocal deleted
            found, current = queries.posts.delete_post(
                connection,
                author_id=call.user_id,
                post_id=post_id,
                purge_after=self._purge_after,
            )
            if not found:
                raise not_found()
            deleted = current is not None
            if current is not None:
                require_version(version, current=current)
                name = (call.user_id, post_id)
                queries.events.record_post(connection, EventKind.POST_DELETED, name=name)
            add_to_totals(connection, amounts={POSTS: -int(deleted)})

        response, is_new = once(self._database, call, work)
        if is_new and deleted:
            self._metrics.post_deletions.inc()
        return response

    def undelete(self, call: Call[PostRow, M], post_id: int) -> M:
        """Show one of the author's own posts again, as it was before it was deleted."""
        name = (call.user_id, post_id)

        def work(connection: Connection) -> PostRow:
            restored = queries.posts.undelete_post(connection, name=name)
            post = _as_author(connection, name)
            if restored:
                keys = list(_photos_of(post))
                kept = queries.photos.keep_objects(
                    connection, owner_user_id=post.author_id, object_keys=keys
                )
                # The time ended while this went on, and the photos are being removed.
                if kept < len(keys):
                    raise not_found()
                queries.events.record_post(connection, EventKind.POST_RESTORED, name=name)
                add_to_totals(connection, amounts={POSTS: 1})
            return post

        response, _ = once(
            self._database,
            call,
            work,
            still_there=lambda connection, _: queries.posts.is_there(connection, name=name),
        )
        return response

    def deleted_page(
        self, author_id: int, *, page_size: int, page_token: str
    ) -> Page[DeletedPostRow]:
        """Return a page of the author's own posts that can be restored, last deleted first."""
        scope = Scope.of("deleted posts", author_id)
        before = self._tokens.read(scope, page_token, start=NEWER_THAN_ALL)
        rows = self._reads.read(
            lambda connection: queries.posts.deleted_page(
                connection, author_id=author_id, before=before.key, limit=page_size + 1
            ),
            since=Viewer(user_id=author_id).since,
        )
        return self._tokens.cut(
            scope,
            rows,
            size=page_size,
            position=lambda row: ByTime.of(row.deleted_at, row.post.id),
        )

    def score(self, call: Call[int, M], importances: Mapping[PostName, float]) -> M:
        """Store the scores of an external scorer, and say how many of the posts exist."""
        response, _ = once(
            self._database,
            call,
            lambda connection: queries.posts.set_importance(connection, importances=importances),
        )
        return response

    def _create(
        self,
        connection: Connection,
        author_id: int,
        draft: Draft,
        made: Mapping[str, NewPhoto],
    ) -> PostRow:
        lock_own_tags(connection, author_id, draft.audience, field="audience")
        lock_policy_tags(connection, author_id, draft.comment_policy, field="comment_policy")
        if draft.photos:
            self._photos.take(connection, author_id, draft.photos, made)
        post = self._layout.insert_post(
            connection,
            author_id=author_id,
            body=draft.body,
            audience=draft.audience,
            photos=list(made.values()),
            attributes=draft.attributes,
            comment_policy=draft.comment_policy,
            totals={POSTS: 1},
        )
        queries.events.record_post(connection, EventKind.POST_CREATED, name=(author_id, post.id))
        return post

    def _made_for(
        self, name: PostName, drafts: Sequence[PhotoDraft], *, version: int | None
    ) -> Mapping[str, NewPhoto]:
        """Store final objects for those of the photos that the post does not have yet."""
        present = self._database.read(lambda connection: _as_author(connection, name))
        require_version(version, current=present.version)
        kept = _photos_of(present)
        uploads = [draft for draft in drafts if draft.key not in kept]
        return self._photos.make(present.author_id, uploads) if uploads else {}

    def _update(
        self,
        connection: Connection,
        name: PostName,
        changes: Changes,
        made: Mapping[str, NewPhoto],
        *,
        version: int | None,
    ) -> PostRow:
        current = queries.posts.lock_post(connection, author_id=name[0], post_id=name[1])
        if current is None:
            raise not_found()
        require_version(version, current=current.version)
        require_no_hold(is_held=current.is_held)
        photos = None
        if changes.depend_on_present:
            present = _as_author(connection, name)
            _require_content(changes, present=present)
            if changes.audience is not None:
                _lock_audience(connection, changes.audience, current=present)
            if changes.comment_policy is not None:
                _lock_policy(connection, changes.comment_policy, current=present)
            if changes.photos is not None:
                photos = self._exchange(connection, present, changes.photos, made)
        queries.posts.update_post(
            connection,
            name=name,
            body=changes.body,
            audience=changes.audience,
            photos=photos,
            attributes=changes.attributes,
            comment_policy=changes.comment_policy,
            comments_locked=changes.comments_locked,
        )
        queries.events.record_post(connection, *changes.events, name=name)
        return _as_author(connection, name)

    def _exchange(
        self,
        connection: Connection,
        present: PostRow,
        drafts: Sequence[PhotoDraft],
        made: Mapping[str, NewPhoto],
    ) -> list[NewPhoto] | None:
        """Return the photos that a post shows from now on, or None if they are those that it has.

        Those that it loses are to be removed.

        Raises ValidationError naming those that are neither the post's nor have just been made.
        """
        if made:
            self._photos.take(connection, present.author_id, drafts, made)
        kept = _photos_of(present)
        known = {**kept, **made}
        require(drafts, among=known)
        lost = kept.keys() - {draft.key for draft in drafts}
        queries.photos.insert_removals(
            connection, objects=[(present.author_id, key) for key in sorted(lost)]
        )
        shown = [known[draft.key]._replace(alt_text=draft.alt_text) for draft in drafts]
        return None if shown == [*kept.values()] else shown

    def _visible(self, viewer: Viewer, names: Sequence[PostName]) -> dict[PostName, PostRow]:
        return self._reads.prepared(
            lambda reader: queries.posts.visible_posts(reader, viewer=viewer, names=names),
            since=viewer.since,
        )


def _as_author(connection: Connection, name: PostName) -> PostRow:
    """Return a post as its author sees it."""
    post = queries.posts.own_post(connection, name=name)
    if post is None:
        raise not_found()
    return post


def _lock_audience(connection: Connection, audience: Audience, *, current: PostRow) -> None:
    """Keep the tags of a post's new audience, which may name what the current one says already.

    Raises ValidationError unless all else that it names are tags of the author.
    """
    is_left = current.audience == TAGS and not current.tag_ids
    if audience.kind == TAGS and not audience.tag_ids and not is_left:
        raise ValidationError.of("post.audience.tag_ids", WITHOUT_TAGS)
    lock_own_tags(
        connection,
        current.author_id,
        audience,
        field="post.audience",
        excluding=current.excluded_tag_ids,
    )


def _lock_policy(connection: Connection, policy: CommentPolicy, *, current: PostRow) -> None:
    """Keep the tags of a post's new policy, which may be without any if the current one is.

    Raises ValidationError unless they are tags of the author.
    """
    is_left = current.comment_policy == TAGS and not current.comment_tag_ids
    if policy.kind == TAGS and not policy.tag_ids and not is_left:
        raise ValidationError.of("post.comment_policy.tag_ids", WITHOUT_TAGS)
    lock_policy_tags(connection, current.author_id, policy, field="post.comment_policy")


def _require_content(changes: Changes, *, present: PostRow) -> None:
    """Raise ValidationError unless the post still has a text or a photo after the changes."""
    body = present.body if changes.body is None else changes.body
    photos = present.photos if changes.photos is None else changes.photos
    if not body and not photos:
        field = "post.photos" if changes.body is None else "post.body"
        raise ValidationError.of(field, _NOTHING_TO_SHOW)


def _photos_of(row: PostRow) -> dict[str, NewPhoto]:
    """Return the photos of a post by their keys, as they were stored."""
    return {
        key: NewPhoto(key, int(width), int(height), alt_text)
        for key, width, height, alt_text in row.photos
    }


def not_found() -> ResourceNotFoundError:
    """Return the one answer for a post that is not there and for one that may not be seen."""
    return ResourceNotFoundError(
        "the post does not exist, or the user may not see it",
        reason=errors_pb2.ERROR_REASON_POST_NOT_FOUND,
    )
