"""An object store to try photos with where none is configured: moto's server, in memory.

It accepts any signature. It shows how uploads and downloads go, and protects nothing.
"""

import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

from kith.cli.terminal import CommandError
from shared.cli.processes import READY_SECONDS, ServiceProcess

HOST = "127.0.0.1"
_BUCKET = "kith-photos"
_POLL_SECONDS = 0.05
_TIMEOUT_SECONDS = 5


def is_installed() -> bool:
    """Whether there is a server to start: production goes without it."""
    return find_spec("moto") is not None and find_spec("flask_cors") is not None


class PhotoStore(ServiceProcess):
    """The server, from the beginning of the block to its end; what is in it is gone then."""

    def __init__(self, port: int, *, log: Path) -> None:
        super().__init__("moto.server", "-H", HOST, "-p", str(port), environment={}, log=log)
        self._port = port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._port}"

    @property
    def settings(self) -> dict[str, str]:
        """The settings with which feed_service uses it, and not a person's own for other stores."""
        return {
            "S3_BUCKET": _BUCKET,
            "S3_ENDPOINT_URL": self.url,
            "S3_REGION": "us-east-1",
            "S3_ADDRESSING_STYLE": "path",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_SESSION_TOKEN": "",
        }

    def create_bucket(self) -> None:
        """Return when the server has its bucket; raises CommandError if it ends or hangs."""
        deadline = time.monotonic() + READY_SECONDS
        while not _has_created_bucket(self._port):
            self.require_alive()
            if time.monotonic() > deadline:
                raise CommandError(f"{self.module} was not ready within {READY_SECONDS} s")
            time.sleep(_POLL_SECONDS)


def _has_created_bucket(port: int) -> bool:
    with suppress(OSError), closing(HTTPConnection(HOST, port, timeout=_TIMEOUT_SECONDS)) as server:
        server.request("PUT", f"/{_BUCKET}")
        return server.getresponse().status == HTTPStatus.OK
    return False
