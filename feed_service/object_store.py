"""The only caller of the object store: S3, or another store with its protocol.

A signed form permits one upload, a signed URL one kind of read; both are signed locally. Reading,
storing and removing objects calls the store.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import (
    CancelledError,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from feed_service.metrics import FeedMetrics
from feed_service.settings import ObjectStoreSettings
from feed_service.url_signer import SignedUrls, UrlSigner
from kith.errors.v1 import errors_pb2
from kith.exceptions import UnavailableError
from shared import deadlines

T = TypeVar("T")

MAX_PHOTO_BYTES: Final = 10 * 1024 * 1024
UPLOAD_TIME: Final = timedelta(minutes=10)
LAST_ARRIVAL: Final = timedelta(hours=1)
"""How long after its permission an upload may arrive, which may begin at the end and be slow."""

_RETRY_AFTER = timedelta(seconds=1)
_THREADS = 8
_CONNECT_SECONDS = 1
_READ_SECONDS = 2
_ATTEMPTS = 2
# Both attempts and the pause between them; also the most that a caller waits in a queue of others.
_WAIT_SECONDS = 8
_PROBE = "probe"
_log = logging.getLogger("kith.object_store")


@dataclass(frozen=True, kw_only=True)
class UploadPermission:
    """An HTML form that uploads one object: where to post it, and its fields but the file."""

    url: str
    fields: Mapping[str, str]
    expire_time: datetime


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object that is in the store; its content is None if it is larger than a photo may be."""

    size: int
    content_type: str
    content: bytes | None


class ObjectStore:
    """One bucket. Thread-safe."""

    def __init__(self, settings: ObjectStoreSettings, *, metrics: FeedMetrics) -> None:
        from botocore.config import Config  # noqa: PLC0415 -- boto3 takes a sixth of a start
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- as above

        from feed_service.boto_session import open_session  # noqa: PLC0415 -- as above

        self._faults = (
            BotoCoreError,
            ClientError,
            RuntimeError,  # botocore's word for credentials that are expired after it renewed them
            TimeoutError,
            CancelledError,
        )
        session = open_session(settings)
        self._bucket = settings.bucket
        self._client = session.client(
            "s3",
            endpoint_url=settings.endpoint_url or None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": settings.addressing_style},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                # Other stores do not know the checksums that boto3 adds of its own accord.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=_THREADS,
            ),
        )
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="object-store")
        self._get_seconds = metrics.s3_latency.labels("get_object")
        self._get_errors = metrics.s3_errors.labels("get_object")
        self._put_seconds = metrics.s3_latency.labels("put_object")
        self._put_errors = metrics.s3_errors.labels("put_object")
        self._delete_seconds = metrics.s3_latency.labels("delete_object")
        self._delete_errors = metrics.s3_errors.labels("delete_object")
        credentials = session.get_credentials()
        if credentials is None:
            raise ValueError("settings are read only where there are credentials")
        self._cache_control = f"private, max-age={round(settings.url_lifetime.total_seconds())}"
        self._signer = UrlSigner(
            credentials,
            base_url=self._base_url(),
            region=self._client.meta.region_name,
            lifetime=settings.url_lifetime,
        )

    def upload_permission(self, key: str, *, content_type: str) -> UploadPermission:
        """Return the permission to upload one photo within ten minutes; nothing is sent.

        The store accepts only this key, this content type and 1 byte to MAX_PHOTO_BYTES.
        """
        # Temporary credentials do not end before: botocore renews them ten minutes ahead.
        expire_time = datetime.now(UTC).replace(microsecond=0) + UPLOAD_TIME
        with self._translated():
            form = self._client.generate_presigned_post(
                self._bucket,
                key,
                Fields={"Content-Type": content_type},
                Conditions=[
                    {"Content-Type": content_type},
                    ["content-length-range", 1, MAX_PHOTO_BYTES],
                ],
                ExpiresIn=round(UPLOAD_TIME.total_seconds()),
            )
        return UploadPermission(url=form["url"], fields=form["fields"], expire_time=expire_time)

    def download_urls(self, *, now: datetime) -> SignedUrls:
        """Return the URLs of objects; nothing is sent, so the objects need not exist.

        Raises UnavailableError when temporary credentials have ended and cannot be renewed.
        """
        with self._translated():
            return self._signer.urls(now=now)

    def read(self, key: str) -> StoredObject | None:
        """Return an object, if it exists.

        Raises UnavailableError when the store does not answer, in bounded time.
        """
        return self._answered(lambda: self._get(key))

    def write(self, key: str, content: bytes, *, content_type: str) -> None:
        """Store an object that only its readers may cache, not proxies in between.

        Raises UnavailableError as `read` does; then it may be stored all the same, also later.
        """
        self._answered(lambda: self._put(key, content, content_type))

    def remove(self, keys: Collection[str]) -> set[str]:
        """Return the keys of those objects that are gone now; the others are to be tried again."""
        calls = {key: self._pool.submit(self._delete, key) for key in keys}
        ended = _ended(calls.values())
        faults = [fault for call in ended if (fault := call.exception()) is not None]
        gone = {key for key, call in calls.items() if call in ended and call.exception() is None}
        if len(gone) < len(calls):
            _log.warning(
                "objects were not removed",
                extra={"objects": len(calls) - len(gone), "reason": str(next(iter(faults), None))},
            )
        return gone

    def close(self) -> None:
        """Stop; calls under way end first."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _answered(self, call: Callable[[], T]) -> T:
        future = self._pool.submit(call)
        _ended([future])
        with self._translated():
            return future.result(timeout=0)

    def _get(self, key: str) -> StoredObject | None:
        with self._get_errors.count_exceptions(), self._get_seconds.time():
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
            except self._client.exceptions.NoSuchKey:
                return None
            size, content_type = answer["ContentLength"], answer["ContentType"]
            with closing(answer["Body"]) as body:
                content = body.read() if size <= MAX_PHOTO_BYTES else None
        return StoredObject(size=size, content_type=content_type, content=content)

    def _put(self, key: str, content: bytes, content_type: str) -> None:
        with self._put_errors.count_exceptions(), self._put_seconds.time():
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=content,
                ContentType=content_type,
                CacheControl=self._cache_control,
            )

    def _delete(self, key: str) -> None:
        # One call each: the one for many asks for a checksum that other stores do not know.
        with self._delete_errors.count_exceptions():
            try:
                with self._delete_seconds.time():
                    self._client.delete_object(Bucket=self._bucket, Key=key)
            except self._client.exceptions.ClientError as error:
                # S3 itself does not mind. A missing bucket is another matter: a setting is wrong.
                if error.response["Error"]["Code"] != "NoSuchKey":
                    raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._faults as error:
            raise _unavailable(error) from error

    def _base_url(self) -> str:
        """Return what comes before the key in URLs; boto3 knows every way to address a bucket."""
        with self._translated():
            url = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": _PROBE}
            )
        return url.partition("?")[0].removesuffix(_PROBE)


def _ended(calls: Collection[Future[T]]) -> Collection[Future[T]]:
    """Wait, in bounded time, and return the calls that have ended; the others are given up."""
    seconds = max(0.0, min(_WAIT_SECONDS, deadlines.seconds_left()))
    ended = wait(calls, timeout=seconds).done
    for call in calls:
        call.cancel()
    return ended


def _unavailable(error: Exception) -> UnavailableError:
    _log.warning("the object store does not answer", extra={"reason": repr(error)})
    return UnavailableError(
        "the object store cannot be reached",
        reason=errors_pb2.ERROR_REASON_OBJECT_STORE_UNAVAILABLE,
        retry_after=_RETRY_AFTER,
    )
