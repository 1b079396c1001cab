"""An object store that verifies: the part of S3 that photos need, over HTTP, kept in memory.

Written from the Amazon S3 API Reference alone ("Authenticating Requests", "POST Policy", "Error
responses"), so that it cannot share a mistake with boto3 or with Kith. It admits Signature Version
4 in headers, in a query and in a POST form, and objects by path: /bucket/key.
"""

import base64
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree as ET

_SKEW = timedelta(minutes=15)
_LONGEST = timedelta(days=7)
_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=([^,]+), *SignedHeaders=([^,]+), *Signature=([0-9a-f]{{64}})"
)
_UNCHECKED_FIELDS = {"x-amz-signature", "policy", "file"}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object."""

    body: bytes
    content_type: str
    cache_control: str = ""


class RefusedError(Exception):
    """A request that the store refuses, with S3's code and what it says."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@cache
def _share_models() -> None:
    """Let the sessions of botocore in this process share what they read of S3's model.

    A service opens one. Tests open a hundred, and each would take 70 ms of CPU to read it anew.
    """
    from botocore import session  # noqa: PLC0415 -- only tests with a store are to import it

    session.create_loader = cache(session.create_loader)


@dataclass
class S3Server:
    """The store, from the beginning of the block to its end, with one bucket and one key pair."""

    bucket: str = "photos"
    access_key: str = "AKIDEXAMPLE"
    secret_key: str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    region: str = "us-east-1"
    port: int = 0
    is_public: bool = False
    """Whether objects can be read without a signature."""
    objects: dict[str, Stored] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """The method and key of everything that was asked."""
    before_answer: Callable[[str, str], object] = lambda _method, _key: None
    """Is told a method and key before they are answered; may wait, and may raise a RefusedError."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before if there was one; what was stored is still there."""
        _share_models()
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which feed_service uses it."""
        return {
            "S3_BUCKET": self.bucket,
            "S3_ENDPOINT_URL": self.endpoint_url,
            "S3_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def signature(self, scope: str, string_to_sign: str) -> str:
        """Return the signature that the holder of the secret key would make."""
        secret = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            secret = hmac.new(secret, part.encode(), sha256).digest()
        return hmac.new(secret, string_to_sign.encode(), sha256).hexdigest()

    def admit(self, credential: str, timestamp: str) -> str:
        """Return the scope of a credential that fits this store and the request's time."""
        access_key, _, scope = credential.partition("/")
        if access_key != self.access_key:
            raise RefusedError(403, "InvalidAccessKeyId", "The key id is not known.")
        if scope != f"{timestamp[:8]}/{self.region}/s3/aws4_request":
            raise RefusedError(400, "AuthorizationHeaderMalformed", "The scope does not fit.")
        return scope


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Say nothing: a client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    store: ClassVar[S3Server]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 -- named by http.server

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the tests' output is for the tests."""

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            bucket, _, key = unquote(urlsplit(self.path).path)[1:].partition("/")
            self.store.requests.append((self.command, key))
            self.store.before_answer(self.command, key)
            self._dispatch(bucket, key)
        except RefusedError as refusal:
            error = ET.Element("Error")
            ET.SubElement(error, "Code").text = refusal.code
            ET.SubElement(error, "Message").text = refusal.message
            self._send(refusal.status, ET.tostring(error), content_type="application/xml")

    def _dispatch(self, bucket: str, key: str) -> None:
        if bucket != self.store.bucket:
            raise RefusedError(404, "NoSuchBucket", "There is no such bucket.")
        if self.command == "POST":
            self._post()
        else:
            self._authenticate()
            getattr(self, f"_{self.command.lower()}")(key)

    def _send(self, status: int, body: bytes = b"", *, content_type: str = "") -> None:
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _get(self, key: str) -> None:
        if key not in self.store.objects:
            raise RefusedError(404, "NoSuchKey", "There is no such key.")
        stored = self.store.objects[key]
        self._send(200, stored.body, content_type=stored.content_type)

    _head = _get

    def _put(self, key: str) -> None:
        content_type = self.headers.get("Content-Type", "binary/octet-stream")
        self.store.objects[key] = Stored(
            body=self.body,
            content_type=content_type,
            cache_control=self.headers.get("Cache-Control", ""),
        )
        self._send(200)

    def _delete(self, key: str) -> None:
        self.store.objects.pop(key, None)
        self._send(204)

    def _post(self) -> None:
        form = _form(self.headers["Content-Type"], self.body)
        body = form.pop("file", b"")
        fields = {name.lower(): value.decode() for name, value in form.items()}
        missing = {"key", "policy", "x-amz-credential", "x-amz-date", "x-amz-signature"} - {*fields}
        if missing:
            raise RefusedError(403, "AccessDenied", f"Without {sorted(missing)}.")
        scope = self.store.admit(fields["x-amz-credential"], fields["x-amz-date"])
        _require_equal(self.store.signature(scope, fields["policy"]), fields["x-amz-signature"])
        policy = json.loads(base64.b64decode(fields["policy"]))
        if self.store.now() > datetime.fromisoformat(policy["expiration"]):
            raise RefusedError(403, "AccessDenied", "Policy expired.")
        _check_conditions(
            policy["conditions"], {**fields, "bucket": self.store.bucket}, size=len(body)
        )
        self.store.objects[fields["key"]] = Stored(
            body=body, content_type=fields.get("content-type", "binary/octet-stream")
        )
        self._send(204)

    def _authenticate(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if "X-Amz-Signature" in query:
            self._check_query(query)
        elif "Authorization" in self.headers:
            self._check_headers(query)
        elif not self.store.is_public:
            raise RefusedError(403, "AccessDenied", "Anonymous access is not allowed.")

    def _check_query(self, query: dict[str, str]) -> None:
        signature = query.pop("X-Amz-Signature")
        try:
            signed_at = _time(query["X-Amz-Date"])
            lifetime = timedelta(seconds=int(query["X-Amz-Expires"]))
            credential, signed_headers = query["X-Amz-Credential"], query["X-Amz-SignedHeaders"]
            is_known = query["X-Amz-Algorithm"] == _ALGORITHM
        except (KeyError, ValueError):
            is_known = False
        if not is_known or not timedelta() <= lifetime <= _LONGEST:
            raise RefusedError(400, "AuthorizationQueryParametersError", "They cannot be used.")
        scope = self.store.admit(credential, query["X-Amz-Date"])
        if self.store.now() < signed_at - _SKEW:
            raise RefusedError(403, "AccessDenied", "Request is not yet valid.")
        if self.store.now() > signed_at + lifetime:
            raise RefusedError(403, "AccessDenied", "Request has expired.")
        string_to_sign = self._string_to_sign(
            query, signed_headers, scope, query["X-Amz-Date"], "UNSIGNED-PAYLOAD"
        )
        _require_equal(self.store.signature(scope, string_to_sign), signature)

    def _check_headers(self, query: dict[str, str]) -> None:
        found = _AUTHORIZATION.fullmatch(self.headers["Authorization"])
        timestamp = self.headers.get("X-Amz-Date", "")
        payload = self.headers.get("X-Amz-Content-Sha256", "")
        if not found or not timestamp:
            raise RefusedError(400, "AuthorizationHeaderMalformed", "It cannot be used.")
        credential, signed_headers, signature = found.groups()
        scope = self.store.admit(credential, timestamp)
        if abs(self.store.now() - _time(timestamp)) > _SKEW:
            raise RefusedError(403, "RequestTimeTooSkewed", "The clocks differ too much.")
        if payload not in ("UNSIGNED-PAYLOAD", sha256(self.body).hexdigest()):
            raise RefusedError(400, "XAmzContentSHA256Mismatch", "The body is not the one signed.")
        string_to_sign = self._string_to_sign(query, signed_headers, scope, timestamp, payload)
        _require_equal(self.store.signature(scope, string_to_sign), signature)

    def _string_to_sign(
        self,
        query: Mapping[str, str],
        signed_headers: str,
        scope: str,
        timestamp: str,
        payload: str,
    ) -> str:
        names = signed_headers.split(";")
        required = {"host"} | {name for name in map(str.lower, self.headers) if "x-amz-" in name}
        if required - {*names}:
            raise RefusedError(403, "AccessDenied", "There were headers that were not signed.")
        pairs = sorted((quote(n, safe="~"), quote(v, safe="~")) for n, v in query.items())
        canonical_request = "\n".join(
            [
                self.command,
                quote(unquote(urlsplit(self.path).path), safe="/~"),
                "&".join(f"{name}={value}" for name, value in pairs),
                *(f"{name}:{' '.join(self.headers.get(name, '').split())}" for name in names),
                "",
                signed_headers,
                payload,
            ]
        )
        hashed = sha256(canonical_request.encode()).hexdigest()
        return f"{_ALGORITHM}\n{timestamp}\n{scope}\n{hashed}"


def _time(timestamp: str) -> datetime:
    return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _require_equal(expected: str, signature: str) -> None:
    if not hmac.compare_digest(expected, signature):
        raise RefusedError(403, "SignatureDoesNotMatch", "The signature is not the one expected.")


def _form(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the fields of a form up to its file; S3 ignores what comes after."""
    boundary = b"\r\n--" + content_type.rpartition("boundary=")[2].encode()
    fields: dict[str, bytes] = {}
    for part in (b"\r\n" + body).split(boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        if name and "file" not in fields:
            fields[name[1].decode()] = content
    return fields


def _check_conditions(conditions: list[Any], fields: Mapping[str, str], *, size: int) -> None:
    named = set[str]()
    for operator, name, value in _triples(conditions):
        if operator == "content-length-range":
            if size < int(name):
                raise RefusedError(400, "EntityTooSmall", "The file is too small.")
            if size > int(value):
                raise RefusedError(400, "EntityTooLarge", "The file is too large.")
            continue
        named.add(name)
        actual = fields.get(name, "")
        if not (actual == value if operator == "eq" else actual.startswith(value)):
            raise RefusedError(403, "AccessDenied", "Policy Condition failed.")
    extra = {name for name in fields if not name.startswith("x-ignore-")}
    if extra - named - _UNCHECKED_FIELDS - {"bucket"}:
        raise RefusedError(403, "AccessDenied", "Extra input fields.")


def _triples(conditions: list[Any]) -> Iterator[tuple[str, str, str]]:
    """Yield an operator, a field's name and a value for each condition."""
    for condition in conditions:
        if isinstance(condition, dict):
            yield from (("eq", name.lower(), value) for name, value in condition.items())
        else:
            operator, name, value = condition
            if operator not in ("eq", "starts-with", "content-length-range"):
                raise RefusedError(400, "InvalidPolicyDocument", f"{operator!r} is not known.")
            yield operator, str(name).removeprefix("$").lower(), str(value)
