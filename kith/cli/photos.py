"""Pictures out of the object store into a folder, and from there into an object store.

The services sign URLs and forms; the pictures themselves pass between this process and the store.
"""

import secrets
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.error import URLError
from urllib.request import Request, urlopen

from kith.cli.terminal import CommandError
from kith.feed.v1 import feed_pb2

_SECONDS: Final = 60
# More than a photo may have, see docs/content.md.
_MOST_BYTES: Final = 32 * 1024 * 1024


def name_of(key: str) -> str:
    """Return the name that the file of a photo has in a folder: the last part of its key."""
    return PurePosixPath(key).name


def fetch_photos(photos: Iterable[feed_pb2.Photo], folder: Path) -> None:
    """Store the pictures in a folder, which is made if need be; those that are there are kept.

    Raises CommandError when a picture has no URL, or cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        file = folder / name_of(photo.key)
        if file.exists():
            continue
        if not photo.url:
            raise CommandError(f"the photo {photo.key} has no URL: no object store can be asked")
        beside = file.with_name(f".kith-{secrets.token_hex(8)}")
        try:
            beside.write_bytes(_answer(photo.key, photo.url))
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)


def send_photo(upload: feed_pb2.CreatePhotoUploadsResponse.PhotoUpload, content: bytes) -> None:
    """Upload a picture with a form. Raises CommandError when the store refuses it."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in upload.fields.items()
    ]
    head = (
        f"{''.join(parts)}--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="photo"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    _answer(upload.key, upload.url, body, kind)


def _answer(
    key: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise CommandError(f"the URL of the photo {key} is not one of HTTP")
    request = Request(url, data=body, headers=headers or {})  # noqa: S310 -- checked above
    try:
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 -- as above
            content: bytes = answer.read(_MOST_BYTES)
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise CommandError(f"the photo {key}: the object store answers {reason}") from error
    return content
