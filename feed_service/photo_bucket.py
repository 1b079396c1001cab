"""Tries the photo bucket as services and browsers use it: `python -m feed_service.photo_bucket`.

`kith doctor` starts this as a process, because the command line knows the services only so. It
stores two small objects of user 0, who does not exist, and deletes them. It prints what is wrong;
the exit status is 1 then, and 2 for settings with which feed_service would not start.

CORS rules and the lifecycle rule are not looked at: reading them takes permissions that the service
does not need.
"""

import os
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Final

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from prometheus_client import CollectorRegistry

from feed_service.metrics import FeedMetrics
from feed_service.object_store import ObjectStore, UploadPermission
from feed_service.settings import ObjectStoreSettings
from kith.environment import Environment, SettingsError
from kith.exceptions import UnavailableError

_TYPE: Final = "image/jpeg"
_CONTENT: Final = b"kith doctor"
_ANSWER_SECONDS: Final = 5
_SUCCESS: Final = range(200, 300)
_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")


class UnfitBucketError(Exception):
    """The bucket or its credentials do not allow what photos need; the message says what."""


def require_fit(settings: ObjectStoreSettings) -> None:
    """Raise UnfitBucketError unless photos can be uploaded, stored, read and deleted.

    And unless they can be read by signed URLs alone. ValueError for an address that is none.
    """
    name = f"0/doctor-{uuid.uuid4().hex}.jpg"
    upload, photo = f"uploads/{name}", f"photos/{name}"
    with closing(ObjectStore(settings, metrics=FeedMetrics(CollectorRegistry()))) as store:
        try:
            _try_upload(store, upload)
            _try_photo(store, photo)
        finally:
            removed = store.remove([upload, photo])
        if missing := {upload, photo} - removed:
            raise UnfitBucketError(f"cannot delete (s3:DeleteObject): {', '.join(sorted(missing))}")


def _try_upload(store: ObjectStore, key: str) -> None:
    """Upload an object as a browser does, and read it as the service does."""
    with _named("cannot look for an object (s3:GetObject, s3:ListBucket)"):
        store.read(key)
    with _named("cannot sign a form"):
        permission = store.upload_permission(key, content_type=_TYPE)
    _send("cannot upload by a signed form (s3:PutObject)", _form(permission))
    with _named("cannot read an object (s3:GetObject)"):
        stored = store.read(key)
    if stored is None or stored.content != _CONTENT:
        raise UnfitBucketError("an object that was uploaded cannot be found")


def _try_photo(store: ObjectStore, key: str) -> None:
    """Store an object as the service does, and read it as a browser does."""
    with _named("cannot store an object (s3:PutObject)"):
        store.write(key, _CONTENT, content_type=_TYPE)
    with _named("cannot sign a URL"):
        url = store.download_urls(now=datetime.now(UTC)).of(key).url
    if _send("cannot read by a signed URL", AWSRequest("GET", url)) != _CONTENT:
        raise UnfitBucketError("a signed URL leads to something else")
    unsigned = url.partition("?")[0]
    try:
        _send("", AWSRequest("GET", unsigned))
    except UnfitBucketError:
        return
    raise UnfitBucketError("is public: objects can be read without a signature")


def _send(failure: str, request: AWSRequest) -> bytes:
    """Return the body of an answer; raises UnfitBucketError for any status but a success."""
    session = URLLib3Session(
        verify=os.environ.get("AWS_CA_BUNDLE") or True,  # type: ignore[arg-type]  # it takes a path too
        proxies=get_environ_proxies(str(request.url)),
        timeout=_ANSWER_SECONDS,
    )
    with closing(session):
        try:
            answer = session.send(request.prepare())
        except BotoCoreError as error:
            raise UnfitBucketError(f"{failure}: {error}") from error
    body = bytes(answer.content)
    if answer.status_code not in _SUCCESS:
        code = _CODE.search(body)
        said = f" {code[1].decode()}" if code else ""
        raise UnfitBucketError(f"{failure}: HTTP status {answer.status_code}{said}")
    return body


def _form(permission: UploadPermission) -> AWSRequest:
    boundary = uuid.uuid4().hex
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    fields = "".join(part % item for item in permission.fields.items())
    file = part % ("file", _CONTENT.decode())
    return AWSRequest(
        "POST",
        permission.url,
        data=f"{fields}{file}--{boundary}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )


@contextmanager
def _named(failure: str) -> Iterator[None]:
    """Say what failed, and what the object store said."""
    try:
        yield
    except UnavailableError as error:
        raise UnfitBucketError(f"{failure}: {error.__cause__ or error}") from error


def main() -> int:
    """Try the bucket of this process's settings; returns the exit status."""
    environment = Environment(os.environ)
    settings = ObjectStoreSettings.read(environment)
    try:
        environment.check()
        if settings is not None:
            require_fit(settings)
    except (SettingsError, UnfitBucketError, ValueError) as error:
        sys.stdout.write(f"{error}\n")
        return 2 if isinstance(error, SettingsError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
