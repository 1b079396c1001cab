"""Chromium without a window, driven by Playwright, and web pages of origins of one's own."""

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

_FOUND = shutil.which("chromium")
_EMPTY_PAGE = b"<!doctype html><title>a page</title>"
_KINDS = {"": "text/html", ".js": "text/javascript"}
_ARGUMENTS = [
    # tests.support.ports may choose one that Chromium otherwise calls unsafe.
    "--explicitly-allowed-ports=10080",
    # As root Chromium cannot put its pages into a sandbox. Those of tests are ours.
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]
# However busy the machine is, a page that takes long is no failure.
_MILLISECONDS = 60_000
expect.set_options(timeout=_MILLISECONDS)


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Start Chromium. Skips the test where there is none."""
    if _FOUND is None:
        pytest.skip("chromium is not installed: `make browser` installs Debian's")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=_FOUND, args=_ARGUMENTS) as browser,
    ):
        yield browser


@contextmanager
def new_context(chromium: Browser, **options: Any) -> Iterator[BrowserContext]:
    """Open windows that share nothing with others."""
    with chromium.new_context(**options) as context:
        context.set_default_timeout(_MILLISECONDS)
        yield context


@contextmanager
def serving_pages(folders: Mapping[str, Path], page: bytes = _EMPTY_PAGE) -> Iterator[int]:
    """Serve a page at `/`, and folders below their names; yields the port.

    The page has two origins, of 127.0.0.1 and of localhost.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = page if self.path == "/" else _content(folders, self.path)
            self.send_response(404 if content is None else 200)
            kind = _KINDS.get(Path(self.path).suffix, "application/octet-stream")
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Keep the log to itself."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _content(folders: Mapping[str, Path], path: str) -> bytes | None:
    name, _, inside = path.removeprefix("/").partition("/")
    file = folders[name] / inside if name in folders else None
    return file.read_bytes() if file and file.is_file() else None
