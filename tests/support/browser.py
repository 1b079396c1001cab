"""What a browser does with signed URLs and forms."""

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit

_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes
    content_type: str

    @property
    def code(self) -> str:
        """S3's code of an error; empty for none."""
        found = re.search(rb"<Code>(\w+)</Code>", self.body)
        return found[1].decode() if found else ""


def send(
    method: str, url: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send a request."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.netloc, timeout=_SECONDS)) as connection:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(
            status=answer.status,
            body=answer.read(),
            content_type=answer.headers.get("Content-Type", ""),
        )


def get(url: str) -> Answer:
    """Read what is there."""
    return send("GET", url)


def post_form(url: str, fields: Mapping[str, str], file: bytes) -> Answer:
    """Send a form with a file."""
    boundary = sha256(file).hexdigest()
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    start = (
        f"{''.join(parts)}--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="photo"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = start.encode() + file + f"\r\n--{boundary}--\r\n".encode()
    return send(
        "POST",
        url,
        body,
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
