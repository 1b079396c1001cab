"""Photos: permission to upload them, their way into posts, where to get them, their removal.

An upload goes straight to the object store under a key of the author's that Kith has chosen. A post
shows a copy of the upload without metadata, stored under a key that is closed to uploads. Kith
signs the URLs for readers by itself, without asking the object store.

No transaction is open while the object store is asked. So Kith first notes every object that it is
about to store as one to be removed, and the transaction that creates the post deletes the note. A
call that breaks off in between leaves no object without a note.
"""

import logging
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore
from typing import Final

from sqlalchemy import Connection

from feed_service import queries
from feed_service.object_store import (
    LAST_ARRIVAL,
    MAX_PHOTO_BYTES,
    ObjectStore,
    UploadPermission,
)
from feed_service.photo_formats.clean_photo import CleanPhoto, UnfitPhotoError
from feed_service.photo_formats.formats import cleaned
from feed_service.queries.photos import NewPhoto, PhotoDraft
from feed_service.url_signer import SignedUrl
from kith.errors.v1 import errors_pb2
from kith.exceptions import (
    DeadlineError,
    FieldViolation,
    PreconditionError,
    UnavailableError,
    ValidationError,
)
from shared import deadlines
from shared.api.idempotency import Call, M, once
from shared.database.database import Database

DownloadUrl = Callable[[str], SignedUrl | None]
"""Where an object can be read, by its key; None while URLs cannot be signed."""

_SUFFIXES: Final = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/avif": "avif",
}
# Longer than any call takes; a client that is slower finds the notes claimed, and begins again.
_UNUSED_AFTER: Final = timedelta(minutes=10)
# Each is in memory up to four times, as it is read, joined, cleaned and written, with 10 MiB.
_AT_A_TIME: Final = 4
_RETRY_AFTER: Final = timedelta(seconds=1)
_log = logging.getLogger("kith.photos")


@dataclass(frozen=True, kw_only=True)
class PermittedUpload:
    """The key under which one photo may be uploaded, and the permission to do so."""

    key: str
    permission: UploadPermission


class Photos:
    """What can be done with photos; without an object store they are refused."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore | None,
        *,
        remove_soon: Callable[[], None],
    ) -> None:
        self._database = database
        self._store = store
        self._slots = BoundedSemaphore(_AT_A_TIME)
        self.remove_soon = remove_soon

    def permit_uploads(
        self,
        call: Call[Sequence[PermittedUpload], M],
        content_types: Sequence[str],
    ) -> M:
        """Permit an upload for each content type; repeating returns the first permissions."""
        store = self._required_store()

        def create(connection: Connection) -> list[PermittedUpload]:
            keys = {_new_key("uploads", call.user_id, kind): kind for kind in content_types}
            queries.photos.insert_uploads(
                connection, owner_user_id=call.user_id, content_types=keys
            )
            return [
                PermittedUpload(key=key, permission=store.upload_permission(key, content_type=kind))
                for key, kind in keys.items()
            ]

        response, _ = once(self._database, call, create)
        return response

    def make(self, user_id: int, drafts: Sequence[PhotoDraft]) -> dict[str, NewPhoto]:
        """Store a final object for each of these uploads of the user's, for a post to take.

        Returns the photos by the keys of their uploads. Raises ValidationError naming the keys of
        which no photo can be made.
        """
        store = self._required_store()
        keys = [draft.key for draft in drafts]
        permitted = self._database.read(
            lambda connection: queries.photos.uploads(
                connection, owner_user_id=user_id, object_keys=keys
            )
        )
        require(drafts, among=permitted)
        final_keys = {key: _new_key("photos", user_id, permitted[key]) for key in keys}
        self._database.write(
            lambda connection: queries.photos.note_objects(
                connection,
                owner_user_id=user_id,
                object_keys=list(final_keys.values()),
                due_after=_UNUSED_AFTER,
            )
        )
        made, faults = dict[str, NewPhoto](), dict[str, str]()
        for key, alt_text, _ in drafts:
            with self._slot():
                try:
                    photo = _photo(store, key, permitted[key])
                except UnfitPhotoError as unfit:
                    faults[key] = str(unfit)
                    continue
                # After a fault the others are looked at only to name all that are unfit.
                if not faults:
                    final_key = final_keys[key]
                    store.write(final_key, photo.content, content_type=permitted[key])
                    made[key] = NewPhoto(final_key, photo.width, photo.height, alt_text)
        _refuse(drafts, faults)
        return made

    def take(
        self,
        connection: Connection,
        user_id: int,
        drafts: Sequence[PhotoDraft],
        made: Mapping[str, NewPhoto],
    ) -> None:
        """Use uploads, and what was made of them, for a post; no other post can use them.

        In the transaction that creates or changes the post.
        """
        taken = queries.photos.take_uploads(
            connection, owner_user_id=user_id, object_keys=list(made)
        )
        require([draft for draft in drafts if draft.key in made], among=taken)
        queries.photos.remove_uploads(
            connection, owner_user_id=user_id, permitted_at=taken, valid_for=LAST_ARRIVAL
        )
        kept = queries.photos.keep_objects(
            connection,
            owner_user_id=user_id,
            object_keys=[photo.object_key for photo in made.values()],
        )
        if kept < len(made):
            raise UnavailableError(
                "storing the post took too long, so its photos may be deleted; repeat the call",
                reason=errors_pb2.ERROR_REASON_OBJECT_STORE_UNAVAILABLE,
                retry_after=_RETRY_AFTER,
            )

    def download_urls(self) -> DownloadUrl:
        """Return what says where to get a photo, for what is answered now.

        It says None while URLs cannot be signed, which hides no post.
        """
        if self._store is None:
            return _nowhere
        try:
            return self._store.download_urls(now=datetime.now(UTC)).of
        except UnavailableError:
            _log.warning("no URLs for photos", exc_info=True)
            return _nowhere

    def download_url(self, key: str) -> SignedUrl | None:
        """Return where to get one photo; None while URLs cannot be signed."""
        return self.download_urls()(key)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Bound how many photos are in memory; raises DeadlineError for a call that ends first."""
        seconds = min(deadlines.seconds_left(), _UNUSED_AFTER.total_seconds())
        if seconds <= 0 or not self._slots.acquire(timeout=seconds):
            raise DeadlineError("the photos could not be prepared in time")
        try:
            yield
        finally:
            self._slots.release()

    def _required_store(self) -> ObjectStore:
        if self._store is None:
            raise PreconditionError(
                "photos need an object store, and none is configured",
                reason=errors_pb2.ERROR_REASON_PHOTOS_NOT_CONFIGURED,
            )
        return self._store


_NOT_PERMITTED: Final = "must be from CreatePhotoUploads of this user, and not in another post"


def _nowhere(_key: str) -> None:
    return None


def _new_key(prefix: str, user_id: int, content_type: str) -> str:
    return f"{prefix}/{user_id}/{uuid.uuid4().hex}.{_SUFFIXES[content_type]}"


def _photo(store: ObjectStore, key: str, content_type: str) -> CleanPhoto:
    """Return the photo that was uploaded; raises UnfitPhotoError."""
    stored = store.read(key)
    if stored is None:
        raise UnfitPhotoError("has not been uploaded")
    if stored.content is None:
        raise UnfitPhotoError(f"must have at most {MAX_PHOTO_BYTES:,} bytes; has {stored.size:,}")
    if stored.content_type != content_type:
        raise UnfitPhotoError(f"must be {content_type}; is {stored.content_type}")
    return cleaned(stored.content, content_type=content_type)


def require(drafts: Sequence[PhotoDraft], *, among: Collection[str]) -> None:
    """Raise ValidationError naming the keys that the user may not use, unless there are none."""
    _refuse(drafts, {draft.key: _NOT_PERMITTED for draft in drafts if draft.key not in among})


def _refuse(drafts: Sequence[PhotoDraft], faults: Mapping[str, str]) -> None:
    violations = [
        FieldViolation(field=draft.field, description=faults[draft.key])
        for draft in drafts
        if draft.key in faults
    ]
    if violations:
        raise ValidationError.of_all(violations)
