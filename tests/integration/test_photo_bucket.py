"""`kith doctor` finds out whether a bucket does what photos need, and leaves nothing in it."""

from collections.abc import Iterator, Mapping

import pytest

from feed_service.photo_bucket import UnfitBucketError, require_fit
from feed_service.settings import ObjectStoreSettings
from kith.environment import Environment
from shared.cli.__main__ import main
from tests.support.s3 import RefusedError, S3Server


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


def _settings(server: S3Server, changes: Mapping[str, str] | None = None) -> ObjectStoreSettings:
    settings = ObjectStoreSettings.read(Environment({**server.environment, **(changes or {})}))
    assert settings is not None
    return settings


def test_a_bucket_that_does_all_is_fit_and_empty_afterwards(server: S3Server) -> None:
    require_fit(_settings(server))

    tried = {(method, key.partition("/")[0]) for method, key in server.requests}
    assert tried == {
        *(("GET", "uploads"), ("POST", ""), ("DELETE", "uploads")),
        *(("PUT", "photos"), ("GET", "photos"), ("DELETE", "photos")),
    }
    assert server.objects == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"S3_BUCKET": "misspelt"}, "NoSuchBucket"),
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "another"}, "InvalidAccessKeyId"),
        ({"S3_REGION": "eu-west-1"}, "AuthorizationHeaderMalformed"),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "Could not connect"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_setting_that_is_wrong_is_told_by_what_the_store_says(
    server: S3Server, changes: Mapping[str, str], said: str
) -> None:
    with pytest.raises(UnfitBucketError, match=f"look for an object.*{said}"):
        require_fit(_settings(server, changes))


@pytest.mark.parametrize(
    ("method", "folder", "told"),
    [
        ("GET", "uploads", "look for an object .*s3:GetObject"),
        ("POST", "", "upload by a signed form .*s3:PutObject.*403 AccessDenied"),
        ("PUT", "photos", "store an object .*s3:PutObject"),
        ("GET", "photos", "read by a signed URL: HTTP status 403 AccessDenied"),
        ("DELETE", "uploads", "delete .*s3:DeleteObject.*: uploads/0/doctor-"),
        ("DELETE", "photos", "delete .*s3:DeleteObject.*: photos/0/doctor-"),
    ],
)
def test_a_permission_that_is_missing_is_named_and_the_rest_is_deleted(
    server: S3Server, method: str, folder: str, told: str
) -> None:
    def refuse(asked: str, key: str) -> None:
        if (asked, key.partition("/")[0]) == (method, folder):
            raise RefusedError(403, "AccessDenied", "Access Denied")

    server.before_answer = refuse

    with pytest.raises(UnfitBucketError, match=told):
        require_fit(_settings(server))

    assert method == "DELETE" or server.objects == {}


def test_a_public_bucket_is_told(server: S3Server) -> None:
    server.is_public = True

    with pytest.raises(UnfitBucketError, match="is public"):
        require_fit(_settings(server))

    assert server.objects == {}


def _doctor(
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str]:
    """Return the exit status, and what is said of the bucket."""
    services = {"GRAPH_TARGET": "127.0.0.1:1", "FEED_TARGET": "127.0.0.1:1"}
    for name, value in {**services, **environment}.items():
        monkeypatch.setenv(name, value)
    status = main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    [said] = [line for line in lines if line.startswith("photo bucket: ")]
    return status, said


def test_the_doctor_tries_the_bucket(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _doctor(server.environment, monkeypatch, capsys) == (0, "photo bucket: good")


def test_the_doctor_says_what_is_wrong_with_the_bucket_without_failing(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**server.environment, "S3_BUCKET": "misspelt"}

    status, said = _doctor(settings, monkeypatch, capsys)

    assert status == 0
    assert "NoSuchBucket" in said


def test_the_doctor_fails_for_settings_with_which_the_feed_would_not_start(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**server.environment, "AWS_SECRET_ACCESS_KEY": ""}

    status, said = _doctor(settings, monkeypatch, capsys)

    assert status == 1
    assert said.startswith("photo bucket: S3_BUCKET is set, but there are no credentials")
