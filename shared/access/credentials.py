"""What a call shows of its caller: a token, or the certificate of its connection."""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Final

import grpc

from kith.exceptions import UnauthenticatedError
from shared.access.callers import Caller
from shared.access.settings import AuthSettings
from shared.access.tokens import RefusedCredentialsError, Tokens

_USER_ID: Final = re.compile(r"[1-9][0-9]{0,18}")
_MAX_USER_ID = 2**63 - 1
_SCHEME = "bearer "
# A certificate's names as gRPC tells them: URIs such as spiffe://, and host names.
_NAMES_OF_SERVICES = ("peer_uri", "peer_dns")
_log = logging.getLogger("kith.access")


class Credentials:
    """Tells who makes a call. Thread-safe."""

    def __init__(self, settings: AuthSettings) -> None:
        """Read the keys of tokens; raises OSError or ValueError for a file that holds none."""
        self._services = settings.services
        self._tokens = Tokens(settings.tokens) if settings.tokens else None

    def caller(self, context: grpc.ServicerContext) -> Caller:
        """Return who makes a call; raises UnauthenticatedError, or UnavailableError without keys.

        A token speaks for whoever sends it, before the certificate does: a gateway that shows its
        own certificate and passes on a user's token makes the call as the user.
        """
        try:
            tokens = _authorizations(context)
            if tokens:
                return self._bearer(tokens)
            return self._certified(context)
        except RefusedCredentialsError as error:
            _log.info("refused credentials", extra={"why": str(error), "peer": context.peer()})
            raise UnauthenticatedError("the credentials are invalid") from error

    def check(self) -> None:
        """Raise UnavailableError while tokens cannot be verified."""
        if self._tokens is not None:
            self._tokens.check()

    def close(self) -> None:
        """Read the keys no more."""
        if self._tokens is not None:
            self._tokens.close()

    def _bearer(self, values: list[str]) -> Caller:
        [value, *others] = values
        if self._tokens is None or others or value[: len(_SCHEME)].lower() != _SCHEME:
            raise RefusedCredentialsError("no single bearer token, or none is taken here")
        subject = self._tokens.subject(value[len(_SCHEME) :].strip())
        if subject in self._services:
            return _service(subject)
        if _USER_ID.fullmatch(subject) and int(subject) <= _MAX_USER_ID:
            return Caller(name=f"user:{subject}", user_id=int(subject))
        raise RefusedCredentialsError("its subject is neither a user's id nor a known service")

    def _certified(self, context: grpc.ServicerContext) -> Caller:
        shown = context.auth_context()
        if "x509_pem_cert" not in shown:
            raise UnauthenticatedError("the call has no credentials")
        known = next((name for name in _names(shown) if name in self._services), None)
        if known is None:
            raise RefusedCredentialsError("its certificate is of no known service")
        return _service(known)


def _names(shown: Mapping[str, bytes | Iterable[bytes]]) -> list[str]:
    """Return a certificate's names of the kinds that services have."""
    return [
        name.decode(errors="replace")
        for kind in _NAMES_OF_SERVICES
        for name in shown.get(kind, ())
        if isinstance(name, bytes)
    ]


def _authorizations(context: grpc.ServicerContext) -> list[str]:
    return [
        value
        for key, value in context.invocation_metadata() or ()
        if key == "authorization" and isinstance(value, str)
    ]


def _service(name: str) -> Caller:
    return Caller(name=f"service:{name}", user_id=None)
