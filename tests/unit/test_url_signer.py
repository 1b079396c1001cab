"""Signed URLs: AWS's own example, and byte for byte what boto3 returns."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from hypothesis import given
from hypothesis import strategies as st

from feed_service.url_signer import Signing, UrlSigner

NOW = datetime(2026, 11, 25, 17, 52, 3, 99, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUARTER = datetime(2026, 11, 25, 17, 45, tzinfo=UTC)
BASE_URL = "https://photos.s3.amazonaws.com/"
ODD_KEYS = (
    "photos/17/0f.jpg",
    "with space",
    "ümlaut/漢字/💪🏿",
    "a+b%2Bc%",
    "what?is=this&that#there;x:y@z",
    "two//slashes/./../and~tildes-_.!*'()",
    'quo"te\\back\nline',
)
ENDPOINTS = (
    {"region_name": "us-east-1"},
    {"region_name": "eu-central-1"},
    {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9000"},
    {"region_name": "eu-west-3", "endpoint_url": "https://objects.example.org"},
    {"region_name": "eu-west-3", "endpoint_url": "https://objects.example.org:443/under/this"},
    {"region_name": "eu-west-3", "endpoint_url": "http://Objects.example.org:8080"},
)


@cache
def boto3_session() -> boto3.Session:
    """Return the one for all clients, because each reads megabytes of descriptions anew."""
    return boto3.Session()


def boto3_client(endpoint: dict[str, str], *, style: Any, token: str | None) -> Any:
    return boto3_session().client(  # type: ignore[call-overload]  # the keyword arguments are of one type here
        "s3",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": style}),
        **endpoint,
    )


def signer(credentials: Credentials | None = None, *, lifetime: timedelta = HOUR) -> UrlSigner:
    lasting = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    return UrlSigner(
        credentials or lasting, base_url=BASE_URL, region="us-east-1", lifetime=lifetime
    )


@cache
def client_of_aws() -> Any:
    return boto3_client({"region_name": "us-east-1"}, style="auto", token=None)


def url_of_boto3(client: Any, key: str) -> str:
    url: str = client.generate_presigned_url(
        "get_object", Params={"Bucket": "photos", "Key": key}, ExpiresIn=3600
    )
    return url


@pytest.fixture(scope="module")
def frozen_clock() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: QUARTER.replace(tzinfo=None))
        yield


@pytest.mark.usefixtures("frozen_clock")
@pytest.mark.parametrize("token", [None, "IQoJb3JpZ2luX2VjE/+aa=="], ids=["lasting", "temporary"])
@pytest.mark.parametrize("style", ["auto", "path", "virtual"])
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: "-".join(endpoint.values()))
def test_every_url_is_the_one_that_boto3_returns(
    endpoint: dict[str, str], style: str, token: str | None
) -> None:
    client = boto3_client(endpoint, style=style, token=token)
    signer = UrlSigner(
        Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token),
        base_url=url_of_boto3(client, "x").partition("x?")[0],
        region=endpoint["region_name"],
        lifetime=HOUR,
    )

    for key in ODD_KEYS:
        assert signer.urls(now=NOW).of(key).url == url_of_boto3(client, key)


@pytest.mark.usefixtures("frozen_clock")
@given(key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=50))
def test_the_url_of_any_key_is_the_one_that_boto3_returns(key: str) -> None:
    client = client_of_aws()

    assert signer().urls(now=NOW).of(key).url == url_of_boto3(client, key)


def test_what_is_kept_of_signed_urls_is_bounded() -> None:
    urls = signer().urls(now=NOW)

    for number in range(20_500):
        urls.of(f"photos/{number}")

    assert len(urls.signed) <= 20_000


def test_the_example_that_aws_has_published_comes_out() -> None:
    signing = Signing.of(
        ReadOnlyCredentials(
            "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None
        ),
        base_url="https://examplebucket.s3.amazonaws.com/",
        region="us-east-1",
        signed_at=datetime(2013, 5, 24, tzinfo=UTC),
        lifetime=timedelta(days=1),
    )

    assert signing.url("test.txt") == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@given(seconds=st.floats(0, 4e9), lifetime=st.integers(60, 3600))
def test_a_url_works_for_three_quarters_of_its_lifetime_at_least(
    seconds: float, lifetime: int
) -> None:
    moment, longest = datetime.fromtimestamp(seconds, UTC), timedelta(seconds=lifetime)

    signed = signer(lifetime=longest).urls(now=moment).of("a")

    assert longest * 3 / 4 < signed.expire_time - moment <= longest
    assert f"X-Amz-Expires={lifetime}&" in signed.url


@pytest.mark.parametrize(
    ("moment", "is_same"),
    [
        (QUARTER - timedelta(microseconds=1), False),
        (QUARTER, True),
        (QUARTER + timedelta(minutes=14, seconds=59.999999), True),
        (QUARTER + timedelta(minutes=15), False),
    ],
)
def test_everybody_gets_the_same_url_within_a_quarter_of_an_hour(
    moment: datetime, *, is_same: bool
) -> None:
    one, another = signer(), signer()
    another.urls(now=NOW).of("a")

    assert (one.urls(now=NOW).of("a") == another.urls(now=moment).of("a")) is is_same


class TemporaryCredentials:
    """Credentials from a source that renews them, as botocore keeps them."""

    def __init__(self, *, lifetime: timedelta) -> None:
        self.now = NOW
        self.lifetime = lifetime
        self.issued = 0
        self.attempts = 0
        self.fails = False
        first = self.issue()
        self.renewing = RefreshableCredentials(
            first["access_key"],
            first["secret_key"],
            first["token"],
            NOW + lifetime,
            refresh_using=self.issue,
            method="test",
            time_fetcher=lambda: self.now,
        )

    def issue(self) -> dict[str, str]:
        self.attempts += self.fails
        if self.fails:
            raise ConnectionError
        self.issued += 1
        return {
            "access_key": f"ASIA{self.issued}",
            "secret_key": "secret",
            "token": f"token{self.issued}",
            "expiry_time": (self.now + self.lifetime).isoformat(),
        }

    def signed(self, signer: UrlSigner, *, after: timedelta) -> Any:
        self.now = NOW + after
        return signer.urls(now=self.now).of("a")


def test_a_url_ends_with_the_temporary_credentials_that_signed_it() -> None:
    temporary = TemporaryCredentials(lifetime=timedelta(minutes=20))

    signed = temporary.signed(signer(temporary.renewing), after=timedelta(0))

    assert signed.expire_time == NOW + timedelta(minutes=20)
    assert "ASIA1" in signed.url


def test_renewed_credentials_are_used_as_soon_as_they_are_due() -> None:
    temporary = TemporaryCredentials(lifetime=timedelta(minutes=20))
    temporary_signer = signer(temporary.renewing)
    temporary.signed(temporary_signer, after=timedelta(0))

    signed = temporary.signed(temporary_signer, after=timedelta(minutes=5, seconds=1))

    assert "ASIA2" in signed.url
    assert "token2" in signed.url
    assert signed.expire_time == NOW + timedelta(minutes=25, seconds=1)


def test_credentials_that_cannot_be_renewed_sign_while_they_last_and_are_asked_for_rarely() -> None:
    temporary = TemporaryCredentials(lifetime=timedelta(minutes=14))
    temporary_signer = signer(temporary.renewing)
    temporary.fails = True

    signed = [
        temporary.signed(temporary_signer, after=timedelta(seconds=second)) for second in range(120)
    ]

    assert {each.expire_time for each in signed} == {NOW + timedelta(minutes=14)}
    assert 0 < temporary.attempts <= 4
