"""Signs URLs for reading objects, without a call: what boto3 returns, at a fiftieth of its cost.

The algorithm is AWS's Signature Version 4 in query parameters, see "Authenticating Requests: Using
Query Parameters" in the Amazon S3 API Reference. Its date is rounded down to a quarter of what a
URL lives, so that until the next quarter every process gives everybody the same URL: browsers and
CDNs can cache the object, and processes need not share what they have signed.
"""

import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Protocol
from urllib.parse import quote, urlsplit

# From then on botocore tries to renew temporary credentials whenever it is asked for them.
_RENEWED_BEFORE_EXPIRY = timedelta(minutes=15)
# While that fails it must not be tried for every URL.
_PAUSE_BETWEEN_RENEWALS = timedelta(minutes=1)
# Some 15 MiB.
_MOST_KEPT = 20_000
_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class FrozenCredentials(Protocol):
    """Credentials of one moment: what botocore calls ReadOnlyCredentials."""

    @property
    def access_key(self) -> str | None:
        """Names the secret key."""

    @property
    def secret_key(self) -> str | None:
        """Signs."""

    @property
    def token(self) -> str | None:
        """Comes with temporary credentials."""


class Credentials(Protocol):
    """Credentials that renew themselves where they are temporary: those of botocore."""

    def get_frozen_credentials(self) -> FrozenCredentials:
        """Renew them, if they are due, and return them."""


@dataclass(frozen=True, kw_only=True)
class SignedUrl:
    """Where an object can be read until `expire_time`."""

    url: str
    expire_time: datetime


@dataclass(frozen=True, kw_only=True)
class Signing:
    """What all URLs signed at one moment have in common; each then costs one hash and one HMAC."""

    base_url: str
    query: str
    canonical_start: str
    canonical_end: str
    string_to_sign_start: str
    secret: bytes

    @classmethod
    def of(
        cls,
        credentials: FrozenCredentials,
        *,
        base_url: str,
        region: str,
        signed_at: datetime,
        lifetime: timedelta,
    ) -> "Signing":
        """Prepare the signing of URLs that begin with `base_url`, whose rest is the key."""
        timestamp = f"{signed_at:%Y%m%dT%H%M%SZ}"
        scope = f"{signed_at:%Y%m%d}/{region}/s3/aws4_request"
        parameters = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key}/{scope}",
            "X-Amz-Date": timestamp,
            "X-Amz-Expires": str(round(lifetime.total_seconds())),
            "X-Amz-SignedHeaders": "host",
        }
        if credentials.token:
            parameters["X-Amz-Security-Token"] = credentials.token
        pairs = [f"{name}={quote(value, safe='-_.~')}" for name, value in parameters.items()]
        signed_query = "&".join(sorted(pairs))
        return cls(
            base_url=base_url,
            query="&".join(pairs),
            canonical_start=f"GET\n{urlsplit(base_url).path}",
            canonical_end=f"\n{signed_query}\nhost:{_host(base_url)}\n\nhost\nUNSIGNED-PAYLOAD",
            string_to_sign_start=f"{_ALGORITHM}\n{timestamp}\n{scope}\n",
            secret=_signing_key(str(credentials.secret_key), scope),
        )

    def url(self, key: str) -> str:
        """Return the URL of an object."""
        path = quote(key, safe="/~")
        request = f"{self.canonical_start}{path}{self.canonical_end}"
        string_to_sign = self.string_to_sign_start + sha256(request.encode()).hexdigest()
        signature = hmac.digest(self.secret, string_to_sign.encode(), "sha256").hex()
        return f"{self.base_url}{path}?{self.query}&X-Amz-Signature={signature}"


@dataclass(frozen=True, kw_only=True)
class SignedUrls:
    """The URLs of a quarter of their lifetime, or until credentials that end sooner are renewed."""

    start: datetime
    end: datetime
    expire_time: datetime
    signing: Signing
    signed: dict[str, SignedUrl] = field(default_factory=dict)

    def of(self, key: str) -> SignedUrl:
        """Return where an object can be read, the same for everybody.

        What has been signed is kept, since what one viewer sees others see as well, and looking it
        up costs a twentieth of signing it.
        """
        found = self.signed.get(key)
        if found is None:
            if len(self.signed) >= _MOST_KEPT:
                self.signed.clear()
            found = SignedUrl(url=self.signing.url(key), expire_time=self.expire_time)
            self.signed[key] = found
        return found


class UrlSigner:
    """Signs with the credentials that botocore holds, and renews where they are temporary.

    `lifetime` is in whole seconds, at least 4. Thread-safe.
    """

    def __init__(
        self, credentials: Credentials, *, base_url: str, region: str, lifetime: timedelta
    ) -> None:
        self._credentials = credentials
        self._base_url = base_url
        self._region = region
        self._lifetime = lifetime
        # In whole seconds, as dates are signed.
        self._quarter = timedelta(seconds=lifetime // timedelta(seconds=4))
        self._urls: SignedUrls | None = None

    def urls(self, *, now: datetime) -> SignedUrls:
        """Return the URLs of now, each good for at least three quarters of the lifetime.

        With temporary credentials they are for no longer than these last; raises what botocore
        raises when it cannot renew them.
        """
        urls = self._urls
        if urls is None or not urls.start <= now < urls.end:
            # Threads that come here together make equal ones, which costs less than a lock for all.
            urls = self._urls = self._urls_of(now)
        return urls

    def _urls_of(self, now: datetime) -> SignedUrls:
        credentials, credentials_expire = self._current_credentials()
        seconds = self._quarter.total_seconds()
        start = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
        end, expire_time = start + self._quarter, start + self._lifetime
        if credentials_expire is not None:
            renew_time = credentials_expire - _RENEWED_BEFORE_EXPIRY
            end = min(end, max(renew_time, now + _PAUSE_BETWEEN_RENEWALS))
            expire_time = min(expire_time, credentials_expire)
        signing = Signing.of(
            credentials,
            base_url=self._base_url,
            region=self._region,
            signed_at=start,
            lifetime=self._lifetime,
        )
        return SignedUrls(start=start, end=end, expire_time=expire_time, signing=signing)

    def _current_credentials(self) -> tuple[FrozenCredentials, datetime | None]:
        """Return credentials and when they expire, if ever, which botocore keeps to itself."""
        self._credentials.get_frozen_credentials()  # renews them, if they are due
        expire_time: datetime | None = getattr(self._credentials, "_expiry_time", None)
        # In this order, because another thread may renew them in between: the time may be that of
        # the credentials before, but never a later one than is true.
        return self._credentials.get_frozen_credentials(), expire_time


def _host(url: str) -> str:
    """Return the Host header of requests to a URL: clients leave out a scheme's own port."""
    parts = urlsplit(url)
    return parts.netloc.removesuffix(f":{_DEFAULT_PORTS[parts.scheme]}").lower()


def _signing_key(secret_key: str, scope: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
