"""What Kith asks of an object store, asked of stores that verify signatures.

One is OpenStack Swift, one is the server that the other tests use, and the third is the one that
S3_* variables name, so that a store can be tried before people's photos go there.
"""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from prometheus_client import CollectorRegistry

from feed_service.metrics import FeedMetrics
from feed_service.object_store import MAX_PHOTO_BYTES, ObjectStore, StoredObject
from feed_service.settings import ObjectStoreSettings
from kith.environment import Environment
from kith.exceptions import UnavailableError
from tests.conformance import swift
from tests.support.browser import Answer, get, post_form, send
from tests.support.s3 import S3Server

JPEG = "image/jpeg"
PHOTO = b"\xff\xd8\r\n a photo"
FORBIDDEN = 403


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A store as Kith uses it and as boto3 does."""

    settings: ObjectStoreSettings
    store: ObjectStore
    boto3: Any

    def presigned(self, method: str, **parameters: str) -> str:
        url: str = self.boto3.generate_presigned_url(
            method, Params={"Bucket": self.settings.bucket, **parameters}, ExpiresIn=60
        )
        return url

    def put(self, key: str, *, content_type: str = JPEG) -> Answer:
        """Put an object by a URL that holds it to JPEG, saying what it is."""
        url = self.presigned("put_object", Key=key, ContentType=JPEG)
        return send("PUT", url, PHOTO, headers={"Content-Type": content_type})


def opened(stack: ExitStack, settings: ObjectStoreSettings) -> Tried:
    store = ObjectStore(settings, metrics=FeedMetrics(CollectorRegistry()))
    client = boto3.Session(
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        aws_session_token=settings.session_token or None,
    ).client(
        "s3",
        endpoint_url=settings.endpoint_url or None,
        region_name=settings.region,
        config=Config(signature_version="s3v4", s3={"addressing_style": settings.addressing_style}),
    )
    return Tried(settings=settings, store=stack.enter_context(closing(store)), boto3=client)


def settings_of(variables: Mapping[str, str]) -> ObjectStoreSettings:
    settings = ObjectStoreSettings.read(Environment(variables))
    assert settings is not None
    return settings


@pytest.fixture(scope="module")
def verifier() -> Iterator[Tried]:
    with ExitStack() as stack:
        server = stack.enter_context(S3Server())
        yield opened(stack, settings_of(server.environment))


@pytest.fixture(scope="module")
def openstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    if not swift.is_installed():
        pytest.skip(f"Swift is not installed: {swift.INSTALL}")
    with ExitStack() as stack:
        server = stack.enter_context(swift.Swift(tmp_path_factory.mktemp("swift")))
        tried = opened(stack, settings_of(server.environment))
        tried.boto3.create_bucket(Bucket=tried.settings.bucket)
        yield tried


@pytest.fixture(scope="module")
def configured() -> Iterator[Tried]:
    if not os.environ.get("S3_BUCKET"):
        pytest.skip("S3_BUCKET names no store to try")
    with ExitStack() as stack:
        yield opened(stack, settings_of(os.environ))


@pytest.fixture(params=["verifier", "openstack", "configured"])
def tried(request: pytest.FixtureRequest) -> Tried:
    found: Tried = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["verifier", "configured"])
def tried_with_forms(request: pytest.FixtureRequest) -> Tried:
    """A store that takes uploads by forms, which Swift answers with 412."""
    found: Tried = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def key(request: pytest.FixtureRequest) -> Iterator[str]:
    """A key that no other test uses, of characters that are easily encoded in two ways."""
    name = next(name for name in request.fixturenames if name.startswith("tried"))
    tried: Tried = request.getfixturevalue(name)
    unique = f"kith-conformance/{uuid.uuid4()}/a b+ü~(1)&=%.jpg"
    yield unique
    tried.store.remove([unique])


def test_what_is_put_is_seen_got_and_removed(tried: Tried, key: str) -> None:
    before = tried.store.read(key)
    put = tried.put(key)
    stored = tried.store.read(key)
    got = get(tried.store.download_urls(now=datetime.now(UTC)).of(key).url)
    removed = [tried.store.remove([key]), tried.store.remove([key])]

    assert (before, put.status) == (None, 200)
    assert stored == StoredObject(size=len(PHOTO), content_type=JPEG, content=PHOTO)
    assert (got.status, got.body, got.content_type) == (200, PHOTO, JPEG)
    assert removed == [{key}, {key}]
    assert tried.store.read(key) is None


def test_what_is_written_is_got_with_its_type(tried: Tried, key: str) -> None:
    tried.store.write(key, PHOTO, content_type=JPEG)

    got = get(tried.store.download_urls(now=datetime.now(UTC)).of(key).url)
    assert (got.status, got.body, got.content_type) == (200, PHOTO, JPEG)


def test_a_url_of_boto3_works_as_ours_does(tried: Tried, key: str) -> None:
    tried.put(key)

    assert get(tried.presigned("get_object", Key=key)).body == PHOTO
    assert get(tried.store.download_urls(now=datetime.now(UTC)).of(key).url).body == PHOTO


def test_a_url_works_for_all_of_its_time(tried: Tried, key: str) -> None:
    tried.put(key)
    minute = timedelta(minutes=1)
    now = datetime.now(UTC)

    signed = tried.store.download_urls(now=now - 44 * minute).of(key)

    assert signed.expire_time > now
    assert get(signed.url).status == 200


def test_a_url_that_has_expired_is_refused(tried: Tried, key: str) -> None:
    tried.put(key)
    signed = tried.store.download_urls(now=datetime.now(UTC) - timedelta(minutes=75)).of(key)

    assert get(signed.url).status == FORBIDDEN


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("X-Amz-Expires=3600", "X-Amz-Expires=7200"),
        ("a%20b", "a%20c"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
    ],
)
def test_a_url_that_was_changed_is_refused(tried: Tried, key: str, part: str, other: str) -> None:
    tried.put(key)
    signed = tried.store.download_urls(now=datetime.now(UTC)).of(key)

    assert part in signed.url
    assert get(signed.url.replace(part, other)).status == FORBIDDEN


def test_another_secret_opens_nothing(tried: Tried, key: str) -> None:
    tried.put(key)
    with ExitStack() as stack:
        stranger = opened(stack, replace(tried.settings, secret_access_key="another"))

        url = stranger.store.download_urls(now=datetime.now(UTC)).of(key).url
        assert get(url).status == FORBIDDEN
        assert stranger.put(key).status == FORBIDDEN
        assert stranger.store.remove([key]) == set()
        with pytest.raises(UnavailableError):
            stranger.store.read(key)


def test_another_content_type_than_the_one_signed_is_refused(tried: Tried, key: str) -> None:
    assert tried.put(key, content_type="text/html").status == FORBIDDEN
    assert tried.store.read(key) is None


def test_a_form_uploads_what_it_permits(tried_with_forms: Tried, key: str) -> None:
    permission = tried_with_forms.store.upload_permission(key, content_type=JPEG)

    answer = post_form(permission.url, permission.fields, PHOTO)

    stored = tried_with_forms.store.read(key)
    assert answer.status == 204
    assert stored == StoredObject(size=len(PHOTO), content_type=JPEG, content=PHOTO)


@pytest.mark.parametrize(
    ("changed", "file"),
    [
        ({}, bytes(MAX_PHOTO_BYTES + 1)),
        ({}, b""),
        ({"Content-Type": "text/html"}, PHOTO),
        ({"key": "kith-conformance/another"}, PHOTO),
        ({"acl": "public-read"}, PHOTO),
        ({"x-amz-signature": "0" * 64}, PHOTO),
    ],
    ids=["too large", "empty", "content type", "key", "field", "signature"],
)
def test_a_form_uploads_nothing_else(
    tried_with_forms: Tried, key: str, changed: dict[str, str], file: bytes
) -> None:
    permission = tried_with_forms.store.upload_permission(key, content_type=JPEG)

    answer = post_form(permission.url, {**permission.fields, **changed}, file)

    assert answer.status in (400, FORBIDDEN)
    assert tried_with_forms.store.read(key) is None
