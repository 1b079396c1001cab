"""Photos: permission to upload them, their way into posts, where to get them, their removal.

The bytes never pass through Kith. An upload goes straight to the object store under a key of the
author's that Kith has chosen; a post takes it once it is there; a reader gets a URL that Kith has
signed without asking anybody. No transaction is open while the object store is asked.
"""

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from feed_service import messages, queries
from feed_service.messages import DownloadUrl
from feed_service.object_store import MAX_PHOTO_BYTES, ObjectStore, StoredObject
from shared.database import Database
from shared.errors import (
    FieldViolation,
    PreconditionError,
    UnavailableError,
    ValidationError,
)
from shared.gen.kith.errors.v1 import errors_pb2
from shared.gen.kith.feed.v1 import feed_pb2 as pb
from shared.idempotency import Call, once

_SUFFIXES: Final = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/avif": "avif",
}
_log = logging.getLogger("kith.photos")


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
        self.remove_soon = remove_soon

    def permit_uploads(
        self,
        call: Call[pb.CreatePhotoUploadsResponse],
        content_types: Sequence[str],
    ) -> pb.CreatePhotoUploadsResponse:
        """Permit an upload for each content type; repeating returns the first permissions."""
        store = self._required_store()

        def create(connection: Connection) -> pb.CreatePhotoUploadsResponse:
            keys = {_new_key(call.user_id, kind): kind for kind in content_types}
            queries.photos.insert_uploads(
                connection, owner_user_id=call.user_id, content_types=keys
            )
            return pb.CreatePhotoUploadsResponse(
                uploads=[
                    messages.photo_upload(key, store.upload_permission(key, content_type=kind))
                    for key, kind in keys.items()
                ]
            )

        response, _ = once(self._database, call, create)
        return response

    def require_uploaded(self, user_id: int, keys: Sequence[str]) -> None:
        """Raise ValidationError naming the keys that a post of the user's cannot show."""
        if not keys:
            return
        store = self._required_store()
        permitted = self._database.read(
            lambda connection: queries.photos.uploads(
                connection, owner_user_id=user_id, object_keys=keys
            )
        )
        _refuse(keys, lambda key: "" if key in permitted else _NOT_PERMITTED)
        stored = store.stored_objects(keys)
        _refuse(keys, lambda key: _unfit(stored.get(key), permitted[key]))

    def take(self, connection: Connection, user_id: int, keys: Sequence[str]) -> None:
        """Use the user's uploads for a post, in its transaction; nobody can use them again."""
        if keys:
            taken = queries.photos.take_uploads(connection, owner_user_id=user_id, object_keys=keys)
            _refuse(keys, lambda key: "" if key in taken else _NOT_PERMITTED)

    def download_urls(self) -> DownloadUrl:
        """Return what says where to get a photo, for what is answered now.

        It says None while nobody can sign a URL, which hides no post.
        """
        if self._store is None:
            return _nowhere
        try:
            return self._store.download_urls(now=datetime.now(UTC)).of
        except UnavailableError:
            _log.warning("no URLs for photos", exc_info=True)
            return _nowhere

    def _required_store(self) -> ObjectStore:
        if self._store is None:
            raise PreconditionError(
                "no object store is configured, so there are no photos",
                reason=errors_pb2.ERROR_REASON_PHOTOS_NOT_CONFIGURED,
            )
        return self._store


_NOT_PERMITTED: Final = "must be from CreatePhotoUploads of this user, and in no other post"


def _nowhere(_key: str) -> None:
    return None


def _new_key(user_id: int, content_type: str) -> str:
    return f"photos/{user_id}/{uuid.uuid4().hex}.{_SUFFIXES[content_type]}"


def _unfit(stored: StoredObject | None, content_type: str) -> str:
    """Say why an object cannot be a photo, or nothing."""
    if stored is None:
        return "has not been uploaded"
    if stored.size > MAX_PHOTO_BYTES:
        return f"must have at most {MAX_PHOTO_BYTES:,} bytes; has {stored.size:,}"
    if stored.content_type != content_type:
        return f"must be {content_type}; is {stored.content_type}"
    return ""


def _refuse(keys: Sequence[str], fault: Callable[[str], str]) -> None:
    violations = [
        FieldViolation(field=f"photo_keys[{index}]", description=description)
        for index, key in enumerate(keys)
        if (description := fault(key))
    ]
    if violations:
        raise ValidationError.of_all(violations)
