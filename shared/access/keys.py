"""The public keys by which tokens are verified: a JWKS in a file, or at a URL."""

import logging
import math
import threading
import time
from contextlib import suppress
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Final, Protocol

from kith.errors.v1 import errors_pb2
from kith.exceptions import UnavailableError
from kith.tls.watched_files import WatchedFiles
from shared import deadlines
from shared.access import jwks
from shared.access.fetching import fetched
from shared.access.jwks import KeySet

# As in deploy/envoy/envoy.yaml.
_FETCH_SECONDS: Final = 2.0
_INTERVAL_SECONDS = 300.0
# Anybody can send a token that names an unknown key, and none may have Kith ask more often.
_SHORTEST_INTERVAL_SECONDS = 5.0
# A call that waits has the slot of one that could be answered, and strangers can make such calls.
_MOST_WAITING: Final = 4
_log = logging.getLogger("kith.access")


class Keys(Protocol):
    """Keys that change now and then. The same object is returned until they do."""

    def current(self) -> KeySet:
        """Return the keys as last read; raises UnavailableError while there are none."""

    def renewed(self) -> KeySet:
        """Return the keys as they are now, or were a moment ago; raises UnavailableError."""

    def check(self) -> None:
        """Raise UnavailableError while there are no keys, without waiting for any."""

    def close(self) -> None:
        """Read them no more."""


def open_keys(where: str | Path) -> Keys:
    """Return the keys at a URL or in a file; raises OSError or ValueError for a file without."""
    return FetchedKeys(where) if isinstance(where, str) else FileKeys(where)


class FileKeys:
    """The keys in a file."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises OSError or ValueError."""
        self._path = path
        self._file = WatchedFiles([path], self._read)
        if not self._file.current():
            jwks.require_keys(jwks.read(path))

    def current(self) -> KeySet:
        """Return the keys of at most a second ago."""
        return _some(self._file.current())

    def renewed(self) -> KeySet:
        """Return the keys of this moment."""
        return _some(self._file.renew())

    def check(self) -> None:
        """Raise UnavailableError if the file has no keys any more."""
        self.current()

    def close(self) -> None:
        """Do nothing: the file is only read when keys are needed."""

    def _read(self) -> KeySet:
        return _keys_of(jwks.read(self._path), str(self._path))


class FetchedKeys:
    """The keys at a URL: fetched every five minutes, and for a token that names an unknown one.

    When they cannot be fetched, those that were last are used for as long as it takes. One thread
    fetches. Calls wait for it until a fetch would have ended, and no longer than they may take.
    """

    def __init__(self, url: str) -> None:
        """Begin to fetch, and wait for the first keys as long as a fetch may take."""
        self._url = url
        self._changed = threading.Condition()
        self._keys: KeySet = {}
        self._document = b""
        self._failure = "not fetched yet"
        self._fetches = 0
        self._is_wanted = True
        self._fetch_again = -math.inf
        self._waiting = 0
        self._is_closed = False
        # A fetch that is under way keeps no process from ending.
        threading.Thread(target=self._run, name="signing keys", daemon=True).start()
        with suppress(UnavailableError):
            self._wait()

    def current(self) -> KeySet:
        """Return the keys as last fetched; raises UnavailableError while there are none."""
        return self._keys or self.renewed()

    def renewed(self) -> KeySet:
        """Return the keys as fetched now, or within the last few seconds.

        Raises UnavailableError when they cannot be fetched in time, because the key of the token
        may be a new one.
        """
        self._wait()
        if self._failure:
            raise _unavailable()
        return _some(self._keys)

    def check(self) -> None:
        """Raise UnavailableError while there are no keys."""
        _some(self._keys)

    def close(self) -> None:
        """Fetch them no more. A fetch that is under way is not waited for."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _wait(self) -> None:
        """Wait for the end of a fetch, unless one has just ended."""
        with self._changed:
            if not self._is_wanted and time.monotonic() < self._fetch_again:
                return
            if self._waiting >= _MOST_WAITING:
                raise _unavailable()
            self._is_wanted = True
            self._changed.notify_all()
            before = self._fetches
            self._waiting += 1
            try:
                has_ended = self._changed.wait_for(
                    lambda: self._fetches != before or self._is_closed,
                    min(_FETCH_SECONDS, max(0.0, deadlines.seconds_left())),
                )
            finally:
                self._waiting -= 1
        if not has_ended:
            raise _unavailable()

    def _run(self) -> None:
        while not self._is_closed:
            failure = self._fetch()
            with self._changed:
                if failure not in ("", self._failure) and not self._is_closed:
                    _log.warning("no signing keys", extra={"url": self._url, "why": failure})
                self._failure = failure
                self._fetches += 1
                self._is_wanted = False
                self._fetch_again = time.monotonic() + _SHORTEST_INTERVAL_SECONDS
                self._changed.notify_all()
                self._changed.wait_for(
                    lambda: self._is_wanted or self._is_closed,
                    _SHORTEST_INTERVAL_SECONDS if failure else _INTERVAL_SECONDS,
                )

    def _fetch(self) -> str:
        """Fetch the keys; returns why they cannot be had, or nothing."""
        try:
            document = fetched(self._url, seconds=_FETCH_SECONDS, max_bytes=jwks.MAX_BYTES)
            if document != self._document:
                self._keys = _keys_of(jwks.parse(document), self._url)
                self._document = document
        except (OSError, HTTPException, ValueError) as error:
            return repr(error)
        except Exception as error:  # noqa: BLE001 -- the thread has to live: it alone fetches
            _log.exception("signing keys could not be fetched", extra={"url": self._url})
            return repr(error)
        return ""


def _keys_of(found: jwks.Jwks, where: str) -> KeySet:
    if found.left_out:
        _log.warning("signing keys left out", extra={"where": where, "why": found.left_out})
    return found.keys


def _some(keys: KeySet) -> KeySet:
    if not keys:
        raise _unavailable()
    return keys


def _unavailable() -> UnavailableError:
    return UnavailableError(
        "tokens cannot be verified at the moment",
        reason=errors_pb2.ERROR_REASON_SIGNING_KEYS_UNAVAILABLE,
        retry_after=timedelta(seconds=_SHORTEST_INTERVAL_SECONDS),
    )
