"""Signed tokens (JWT) and their subjects."""

import threading
import time
from dataclasses import dataclass

import jwt
from cachetools import LRUCache

from kith.errors.v1 import errors_pb2
from kith.exceptions import UnauthenticatedError
from shared.access.callers import RefusedCredentialsError
from shared.access.jwks import ALGORITHMS, KeySet, key_of
from shared.access.keys import open_keys
from shared.access.settings import TokenSettings

# A token is about a kilobyte.
_KEPT_TOKENS = 8_192
_REQUIRED_CLAIMS = ["aud", "exp", "iss", "sub"]


@dataclass(frozen=True, kw_only=True)
class _Verified:
    """A verified token. It is valid while the keys are the same, and until the token expires."""

    subject: str
    keys: KeySet
    until: float


class Tokens:
    """Verifies tokens. Thread-safe.

    A token that comes again is not verified again: a signature costs as much as everything else
    around a call. It is forgotten as soon as the keys change, for its own may be gone.
    """

    def __init__(self, settings: TokenSettings) -> None:
        """Read the keys; raises OSError or ValueError for a file that holds none."""
        self._settings = settings
        self._keys = open_keys(settings.keys)
        self._kept: LRUCache[str, _Verified] = LRUCache(_KEPT_TOKENS)
        self._lock = threading.Lock()

    def subject(self, token: str) -> str:
        """Return the subject of a token: a user or a service.

        Raises RefusedCredentialsError, UnauthenticatedError for a good token that has expired, and
        UnavailableError without keys.
        """
        with self._lock:
            kept = self._kept.get(token)
        if kept and kept.keys is self._keys.current() and time.time() < kept.until:
            return kept.subject
        verified = self._verified(token)
        with self._lock:
            self._kept[token] = verified
        return verified.subject

    def check(self) -> None:
        """Raise UnavailableError while tokens cannot be verified."""
        self._keys.check()

    def close(self) -> None:
        """Read the keys no more."""
        self._keys.close()

    def _verified(self, token: str) -> _Verified:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            keys = self._keys.current()
            key = key_of(keys, key_id)
            if key is None:
                keys = self._keys.renewed()
                key = key_of(keys, key_id)
            if key is None:
                raise RefusedCredentialsError("its key is unknown")
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway,
                options={"require": _REQUIRED_CLAIMS, "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError as error:
            raise UnauthenticatedError(
                "the token has expired", reason=errors_pb2.ERROR_REASON_TOKEN_EXPIRED
            ) from error
        except (jwt.PyJWTError, OverflowError) as error:
            # Messages of the library repeat parts of the token.
            raise RefusedCredentialsError(type(error).__name__) from error
        until = int(claims["exp"]) + self._settings.leeway.total_seconds()
        return _Verified(subject=claims["sub"], keys=keys, until=until)
