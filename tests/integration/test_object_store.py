"""The object store as Kith uses it, through real sockets, against a server that verifies."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from feed_service.metrics import FeedMetrics
from feed_service.object_store import MAX_PHOTO_BYTES, ObjectStore, StoredObject
from feed_service.settings import ObjectStoreSettings
from kith.environment import Environment
from kith.errors.v1 import errors_pb2
from kith.exceptions import UnavailableError
from shared import deadlines
from tests.support.browser import Answer, get, post_form, send
from tests.support.s3 import RefusedError, S3Server, Stored

KEY = "photos/17/a b+ü.jpg"
JPEG = "image/jpeg"
PHOTO = Stored(body=b"\xff\xd8\r\n--\x00 a photo \r\n", content_type=JPEG)


def settings_for(server: S3Server) -> ObjectStoreSettings:
    settings = ObjectStoreSettings.read(Environment(server.environment))
    assert settings is not None
    return settings


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def store(server: S3Server, registry: CollectorRegistry) -> Iterator[ObjectStore]:
    with closing(ObjectStore(settings_for(server), metrics=FeedMetrics(registry))) as opened:
        yield opened


def upload(store: ObjectStore, body: bytes, **changed: str) -> Answer:
    permission = store.upload_permission(KEY, content_type=JPEG)
    fields = {name.replace("-", "_"): name for name in permission.fields}
    return post_form(
        permission.url,
        {**permission.fields, **{fields[name]: value for name, value in changed.items()}},
        body,
    )


def test_an_upload_within_its_permission_is_stored(server: S3Server, store: ObjectStore) -> None:
    answer = upload(store, PHOTO.body)

    assert (answer.status, answer.code) == (204, "")
    assert server.objects == {KEY: PHOTO}


def test_an_upload_may_be_as_large_as_the_limit(server: S3Server, store: ObjectStore) -> None:
    assert upload(store, bytes(MAX_PHOTO_BYTES)).status == 204
    assert len(server.objects[KEY].body) == MAX_PHOTO_BYTES


@pytest.mark.parametrize(
    ("body", "changed", "code"),
    [
        (bytes(MAX_PHOTO_BYTES + 1), {}, "EntityTooLarge"),
        (b"", {}, "EntityTooSmall"),
        (b"<script>", {"Content_Type": "text/html"}, "AccessDenied"),
        (b"photo", {"key": "photos/18/a.jpg"}, "AccessDenied"),
        (b"photo", {"x_amz_signature": "0" * 64}, "SignatureDoesNotMatch"),
        (b"photo", {"x_amz_credential": "AKIDOTHER/20260101/us-east-1/s3"}, "InvalidAccessKeyId"),
    ],
    ids=["too large", "empty", "content type", "key", "signature", "credential"],
)
def test_an_upload_that_breaks_its_permission_is_refused(
    server: S3Server, store: ObjectStore, body: bytes, changed: dict[str, str], code: str
) -> None:
    answer = upload(store, body, **changed)

    assert answer.code == code
    assert server.objects == {}


def test_an_upload_with_a_policy_of_ones_own_is_refused(
    server: S3Server, store: ObjectStore
) -> None:
    permission = store.upload_permission(KEY, content_type=JPEG)
    policy = json.loads(base64.b64decode(permission.fields["policy"]))
    policy["conditions"] = [["starts-with", "$key", ""]]
    changed = base64.b64encode(json.dumps(policy).encode()).decode()

    answer = upload(store, PHOTO.body, policy=changed)

    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert server.objects == {}


def test_an_upload_with_a_field_that_was_not_permitted_is_refused(
    server: S3Server, store: ObjectStore
) -> None:
    permission = store.upload_permission(KEY, content_type=JPEG)

    answer = post_form(permission.url, {**permission.fields, "acl": "public-read"}, PHOTO.body)

    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert server.objects == {}


def test_an_upload_permission_ends_when_it_says(server: S3Server, store: ObjectStore) -> None:
    permission = store.upload_permission(KEY, content_type=JPEG)

    server.now = lambda: permission.expire_time
    in_time = post_form(permission.url, permission.fields, PHOTO.body)
    server.now = lambda: permission.expire_time + timedelta(seconds=2)
    late = post_form(permission.url, permission.fields, b"another photo")

    assert (in_time.status, late.status, late.code) == (204, 403, "AccessDenied")
    assert server.objects == {KEY: PHOTO}


def test_an_object_is_read_with_its_size_and_type_and_a_missing_one_is_none(
    server: S3Server, store: ObjectStore
) -> None:
    server.objects = {KEY: PHOTO}

    assert store.read(KEY) == StoredObject(
        size=len(PHOTO.body), content_type=JPEG, content=PHOTO.body
    )
    assert store.read("never there") is None


def test_an_object_larger_than_a_photo_is_not_read(server: S3Server, store: ObjectStore) -> None:
    server.objects = {
        "most": Stored(body=bytes(MAX_PHOTO_BYTES), content_type=JPEG),
        "more": Stored(body=bytes(MAX_PHOTO_BYTES + 1), content_type=JPEG),
    }

    most, more = store.read("most"), store.read("more")

    assert most is not None
    assert most.content == bytes(MAX_PHOTO_BYTES)
    assert more == StoredObject(size=MAX_PHOTO_BYTES + 1, content_type=JPEG, content=None)


def test_what_is_written_is_stored_for_its_readers_alone(
    server: S3Server, store: ObjectStore
) -> None:
    store.write(KEY, PHOTO.body, content_type=JPEG)

    assert server.objects == {
        KEY: Stored(body=PHOTO.body, content_type=JPEG, cache_control="private, max-age=3600")
    }


def test_the_setting_shortens_how_long_a_url_works(server: S3Server) -> None:
    server.objects = {KEY: PHOTO}
    settings = ObjectStoreSettings.read(
        Environment({**server.environment, "PHOTO_URL_SECONDS": "60"})
    )
    assert settings is not None

    with closing(ObjectStore(settings, metrics=FeedMetrics(CollectorRegistry()))) as store:
        now = datetime.now(UTC)
        signed = store.download_urls(now=now).of(KEY)

    assert timedelta(seconds=45) < signed.expire_time - now <= timedelta(minutes=1)
    assert get(signed.url).status == 200
    server.now = lambda: signed.expire_time + timedelta(seconds=1)
    assert get(signed.url).code == "AccessDenied"


def test_removed_objects_are_gone_and_removing_them_again_says_so_too(
    server: S3Server, store: ObjectStore
) -> None:
    server.objects = {KEY: PHOTO, "kept": PHOTO}

    first = store.remove([KEY, "never there"])
    again = store.remove([KEY])

    assert (first, again) == ({KEY, "never there"}, {KEY})
    assert set(server.objects) == {"kept"}


def test_what_could_not_be_removed_is_not_said_to_be_gone(
    server: S3Server, store: ObjectStore
) -> None:
    def refuse(_method: str, key: str) -> None:
        if key == KEY:
            raise RefusedError(403, "AccessDenied", "You may not.")

    server.objects = {KEY: PHOTO, "other": PHOTO}
    server.before_answer = refuse

    assert store.remove([KEY, "other"]) == {"other"}
    assert set(server.objects) == {KEY}


def test_a_download_url_works_until_it_says(server: S3Server, store: ObjectStore) -> None:
    server.objects = {KEY: PHOTO}
    signed = store.download_urls(now=datetime.now(UTC)).of(KEY)

    in_time = get(signed.url)
    server.now = lambda: signed.expire_time
    at_last = get(signed.url)
    server.now = lambda: signed.expire_time + timedelta(seconds=1)
    late = get(signed.url)

    assert (in_time.status, in_time.body, in_time.content_type) == (
        200,
        PHOTO.body,
        JPEG,
    )
    assert at_last.status == 200
    assert (late.status, late.code) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("X-Amz-Expires=3600", "X-Amz-Expires=604800"),
        ("photos/17", "photos/18"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host&response-content-type=text/html"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
    ],
)
def test_a_download_url_that_was_changed_is_refused(
    server: S3Server, store: ObjectStore, part: str, other: str
) -> None:
    server.objects = {KEY: PHOTO, KEY.replace("17", "18"): PHOTO}
    signed = store.download_urls(now=datetime.now(UTC)).of(KEY)

    answer = get(signed.url.replace(part, other))

    assert part in signed.url
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_download_url_does_nothing_but_download(
    server: S3Server, store: ObjectStore, method: str
) -> None:
    server.objects = {KEY: PHOTO}
    signed = store.download_urls(now=datetime.now(UTC)).of(KEY)

    assert send(method, signed.url, b"other").code == "SignatureDoesNotMatch"
    assert server.objects == {KEY: PHOTO}


def test_a_url_signed_with_another_secret_is_refused(server: S3Server) -> None:
    server.objects = {KEY: PHOTO}
    settings = replace(settings_for(server), secret_access_key="another")

    with closing(ObjectStore(settings, metrics=FeedMetrics(CollectorRegistry()))) as store:
        signed = store.download_urls(now=datetime.now(UTC)).of(KEY)
        with pytest.raises(UnavailableError):
            store.read(KEY)

    assert get(signed.url).code == "SignatureDoesNotMatch"


def test_signing_asks_nobody_and_works_while_the_store_is_down(
    server: S3Server, store: ObjectStore
) -> None:
    server.objects = {KEY: PHOTO}
    server.stop()

    signed = store.download_urls(now=datetime.now(UTC)).of(KEY)
    permission = store.upload_permission("photos/17/new.jpg", content_type=JPEG)
    server.start()

    assert server.requests == []
    assert get(signed.url).body == PHOTO.body
    assert post_form(permission.url, permission.fields, b"new").status == 204


def require_unavailable(store: ObjectStore) -> None:
    with pytest.raises(UnavailableError) as caught:
        store.read(KEY)
    with pytest.raises(UnavailableError):
        store.write(KEY, PHOTO.body, content_type=JPEG)

    assert caught.value.reason == errors_pb2.ERROR_REASON_OBJECT_STORE_UNAVAILABLE
    assert caught.value.retry_after == timedelta(seconds=1)
    assert "127.0.0.1" not in caught.value.message


def test_a_store_that_is_down_is_unavailable_and_removes_nothing_and_is_found_again(
    server: S3Server, store: ObjectStore
) -> None:
    server.objects = {KEY: PHOTO}
    server.stop()

    require_unavailable(store)
    assert store.remove([KEY]) == set()
    server.start()

    assert store.read(KEY) is not None
    assert store.remove([KEY]) == {KEY}


def test_a_store_that_fails_is_unavailable(server: S3Server, store: ObjectStore) -> None:
    def fail(_method: str, _key: str) -> None:
        raise RefusedError(503, "SlowDown", "Please reduce your request rate.")

    server.before_answer = fail

    require_unavailable(store)


def test_a_store_that_does_not_answer_is_given_up(server: S3Server, store: ObjectStore) -> None:
    end_of_test = threading.Event()
    server.before_answer = lambda _method, _key: end_of_test.wait()

    require_unavailable(store)
    end_of_test.set()


def test_a_store_that_does_not_answer_is_waited_for_no_longer_than_its_caller_waits(
    server: S3Server, store: ObjectStore
) -> None:
    end_of_test = threading.Event()
    server.before_answer = lambda _method, _key: end_of_test.wait()

    with deadlines.within(0.1):
        require_unavailable(store)
        late = -deadlines.seconds_left()
    end_of_test.set()

    # The store itself is given twice as long.
    assert late < 4


def test_temporary_credentials_serve_until_they_end_and_cannot_be_renewed(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    credentials = {
        "Version": 1,
        "AccessKeyId": server.access_key,
        "SecretAccessKey": server.secret_key,
        "SessionToken": "a/token+=",
        "Expiration": (now + timedelta(minutes=5)).isoformat(),
    }
    source = tmp_path / "credentials"
    source.write_text(json.dumps(credentials))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {source}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    server.objects = {KEY: PHOTO}
    settings = replace(settings_for(server), access_key_id="", secret_access_key="")

    with closing(ObjectStore(settings, metrics=FeedMetrics(CollectorRegistry()))) as store:
        signed = store.download_urls(now=now).of(KEY)
        found = store.read(KEY)
        source.write_text("{}")

        with pytest.raises(UnavailableError) as caught:
            store.download_urls(now=now + timedelta(minutes=2)).of(KEY)

    assert (get(signed.url).body, signed.expire_time) == (PHOTO.body, now + timedelta(minutes=5))
    assert found is not None
    assert caught.value.reason == errors_pb2.ERROR_REASON_OBJECT_STORE_UNAVAILABLE


def test_a_store_without_the_bucket_keeps_what_was_to_be_removed_in_mind(
    server: S3Server, registry: CollectorRegistry
) -> None:
    settings = replace(settings_for(server), bucket="misspelt")

    with closing(ObjectStore(settings, metrics=FeedMetrics(registry))) as store:
        assert store.remove([KEY]) == set()


def test_calls_are_measured_by_operation(store: ObjectStore, registry: CollectorRegistry) -> None:
    store.read("a")
    store.write("a", b"photo", content_type=JPEG)
    store.read("a")
    store.remove(["a"])

    for operation, count in (("get_object", 2), ("put_object", 1), ("delete_object", 1)):
        assert count == registry.get_sample_value(
            "s3_operation_latency_seconds_count", {"operation": operation}
        )


def test_failures_are_counted_and_what_is_not_there_is_none(
    server: S3Server, store: ObjectStore, registry: CollectorRegistry
) -> None:
    def fail(_method: str, _key: str) -> None:
        raise RefusedError(503, "SlowDown", "Please reduce your request rate.")

    store.read("a")
    server.before_answer = fail
    with pytest.raises(UnavailableError):
        store.read("a")
    with pytest.raises(UnavailableError):
        store.write("a", b"photo", content_type=JPEG)
    store.remove(["a"])

    for operation in ("get_object", "put_object", "delete_object"):
        labels = {"operation": operation}
        assert registry.get_sample_value("s3_operation_errors_total", labels) == 1


def test_a_url_names_the_store_as_callers_know_it(server: S3Server, store: ObjectStore) -> None:
    parts = urlsplit(store.download_urls(now=datetime.now(UTC)).of("a").url)

    assert (parts.netloc, parts.path) == (f"127.0.0.1:{server.port}", "/photos/a")
