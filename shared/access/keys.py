"""The public keys by which tokens are verified: a JWKS in a file, or at a URL."""

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import jwt

from shared.errors import UnavailableError
from shared.gen.kith.errors.v1 import errors_pb2
from shared.rounds import Rounds
from shared.watched_files import WatchedFiles

# With a secret instead of a pair of keys, whoever can verify a token could make one.
ALGORITHMS: Final = (
    "ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
)  # fmt: skip
KeySet: TypeAlias = Mapping[str | None, jwt.PyJWK]

_FETCH_SECONDS = 2
_MAX_BYTES = 1024 * 1024
_INTERVAL_SECONDS = 300
# Anybody can send a token that names an unknown key, and none may have Kith ask more often.
_SHORTEST_INTERVAL_SECONDS = 5
_log = logging.getLogger("kith.access")


class Keys(Protocol):
    """Keys that change now and then. The same object is returned until they do."""

    def current(self) -> KeySet:
        """Return the keys as last read; raises UnavailableError if they never could be."""

    def renewed(self) -> KeySet:
        """Return the keys as they are now, or were a moment ago."""

    def close(self) -> None:
        """Read them no more."""


def open_keys(where: str | Path) -> Keys:
    """Return the keys at a URL or in a file; raises OSError or ValueError for a file without."""
    return FetchedKeys(where) if isinstance(where, str) else FileKeys(where)


def parse(document: bytes) -> KeySet:
    """Return a JWKS's keys for verifying, by their ids; raises ValueError without any."""
    try:
        found = jwt.PyJWKSet.from_dict(json.loads(document))
    except (jwt.PyJWTError, AttributeError) as error:
        raise ValueError(f"it is no JWKS: {error}") from error
    keys = {
        key.key_id: key
        for key in found
        if key.algorithm_name in ALGORITHMS and key.public_key_use in {None, "sig"}
    }
    if not keys:
        raise ValueError(f"no key in it is for one of {', '.join(ALGORITHMS)}")
    return keys


class FileKeys:
    """The keys in a file."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises OSError or ValueError."""
        self._file = WatchedFiles([path], lambda: parse(path.read_bytes()))

    def current(self) -> KeySet:
        """Return the keys of at most a second ago."""
        return self._file.current()

    def renewed(self) -> KeySet:
        """Return the keys of this moment."""
        return self._file.renew()

    def close(self) -> None:
        """Do nothing: the file is looked at when somebody asks."""


class FetchedKeys:
    """The keys at a URL: fetched every five minutes, and for a token that names an unknown one.

    When they cannot be fetched, those that were last are used for as long as it takes.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._document = b""
        self._fetch_again = float("-inf")
        self._rounds = Rounds("signing keys", self._fetch, interval_seconds=_INTERVAL_SECONDS)
        self._rounds.start()

    def current(self) -> KeySet:
        """Return the keys as last fetched; raises UnavailableError if they never could be."""
        return self._keys or self.renewed()

    def renewed(self) -> KeySet:
        """Return the keys as fetched now, or within the last few seconds."""
        self._fetch()
        if self._keys is None:
            raise UnavailableError(
                "tokens cannot be verified at the moment",
                reason=errors_pb2.ERROR_REASON_SIGNING_KEYS_UNAVAILABLE,
                retry_after=timedelta(seconds=_SHORTEST_INTERVAL_SECONDS),
            )
        return self._keys

    def close(self) -> None:
        """Fetch them no more."""
        self._rounds.stop()

    def _fetch(self) -> None:
        # Whoever waits here meanwhile finds the work done.
        with self._lock:
            if time.monotonic() < self._fetch_again:
                return
            try:
                document = _fetched(self._url)
                if document != self._document:
                    self._keys, self._document = parse(document), document
            except (OSError, HTTPException, ValueError) as error:
                _log.warning("no signing keys", extra={"url": self._url, "why": repr(error)})
            finally:
                self._fetch_again = time.monotonic() + _SHORTEST_INTERVAL_SECONDS


def _fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_FETCH_SECONDS) as response:  # noqa: S310 -- the settings take http and https alone
        document: bytes = response.read(_MAX_BYTES)
    return document


def key_of(keys: KeySet, key_id: str | None) -> jwt.PyJWK | None:
    """Return the key that a token names; one that names none means the only one there is."""
    if key_id is None and len(keys) == 1:
        [only] = keys.values()
        return only
    return keys.get(key_id)
