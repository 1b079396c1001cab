"""What a call shows of its caller: a token, or the certificate of its connection."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import grpc

from kith.errors.v1 import errors_pb2
from kith.exceptions import UnauthenticatedError, UnauthorizedError
from kith.user_tokens import KEY as USER_TOKEN
from shared.access.callers import Caller, RefusedCredentialsError
from shared.access.settings import AuthSettings

_USER_ID: Final = re.compile(r"[1-9][0-9]{0,18}")
_MAX_USER_ID = 2**63 - 1
_AUTHORIZATION: Final = "authorization"
# The scheme in any case, one or more spaces, and a token (RFC 9110, 11.4; RFC 6750, 2.1).
_BEARER: Final = re.compile(r"bearer +([a-z0-9._~+/-]+=*)", re.ASCII | re.IGNORECASE)
# What HTTP does not count as part of a header's value (RFC 9110, 5.5).
_AROUND_VALUES: Final = " \t"
# A certificate's names as gRPC tells them: URIs such as spiffe://, and host names.
_NAMES_OF_SERVICES = ("peer_uri", "peer_dns")
_log = logging.getLogger("kith.access")


class Credentials:
    """Tells who makes a call. Thread-safe."""

    def __init__(self, settings: AuthSettings) -> None:
        """Read the keys of tokens; raises OSError or ValueError for a file that holds none."""
        self._services = {
            name: Caller(
                name=f"service:{name}",
                user_id=None,
                scope=scope,
                acts_on_behalf=name in settings.on_behalf,
            )
            for name, scope in settings.services.items()
        }
        self._tokens = None
        if settings.tokens:
            from shared.access.tokens import Tokens  # noqa: PLC0415 -- cryptography slows a start

            self._tokens = Tokens(settings.tokens)

    def caller(self, context: grpc.ServicerContext) -> Caller:
        """Return who makes a call; raises UnauthenticatedError, or UnavailableError without keys.

        A token takes precedence over the certificate: a gateway that shows its own certificate and
        passes on a user's token makes the call as the user.
        """
        with _refusals_told_to_the_log_alone(context):
            shown = _shown(context, _AUTHORIZATION)
            return self._bearer(shown) if shown else self._certified(context)

    def require_user(
        self, service: Caller, context: grpc.ServicerContext, user_id: int | None
    ) -> None:
        """Refuse a service whose user token is not one of the call's user, or is missing.

        Only services that act on behalf of users have to send a token.

        Raises UnauthorizedError, UnauthenticatedError for a token that is not valid, and
        UnavailableError without keys.
        """
        shown = _shown(context, USER_TOKEN)
        if not shown and not service.acts_on_behalf:
            return
        with _refusals_told_to_the_log_alone(context):
            is_of_the_user = (
                bool(shown) and self._user(self._subject(_only(shown))).user_id == user_id
            )
        if not is_of_the_user:
            raise UnauthorizedError(
                f"{USER_TOKEN} must hold the token of the user of the call",
                reason=errors_pb2.ERROR_REASON_USER_TOKEN_REQUIRED,
            )

    def check(self) -> None:
        """Raise UnavailableError while tokens cannot be verified."""
        if self._tokens is not None:
            self._tokens.check()

    def close(self) -> None:
        """Read the keys no more."""
        if self._tokens is not None:
            self._tokens.close()

    def _bearer(self, shown: list[str | bytes]) -> Caller:
        written = _BEARER.fullmatch(_only(shown))
        if written is None:
            raise RefusedCredentialsError("no bearer token")
        subject = self._subject(written[1])
        return self._services.get(subject) or self._user(subject)

    def _subject(self, token: str) -> str:
        if self._tokens is None:
            raise RefusedCredentialsError("no token is taken here")
        return self._tokens.subject(token)

    def _user(self, subject: str) -> Caller:
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
        return self._services[known]


def _names(shown: Mapping[str, bytes | Iterable[bytes]]) -> list[str]:
    """Return a certificate's names of the kinds that services have."""
    return [
        name.decode(errors="replace")
        for kind in _NAMES_OF_SERVICES
        for name in shown.get(kind, ())
        if isinstance(name, bytes)
    ]


def _shown(context: grpc.ServicerContext, name: str) -> list[str | bytes]:
    """Return the values of a header; also those of its binary form, which no caller may show.

    To ignore that form would be to take a caller for one who shows nothing, and a service that
    shows nothing else may do more than one that shows a user's token.
    """
    names = (name, f"{name}-bin")
    return [value for key, value in context.invocation_metadata() or () if key in names]


def _only(shown: list[str | bytes]) -> str:
    [value, *others] = shown
    if others or isinstance(value, bytes):
        raise RefusedCredentialsError("more than one token, or one that is no text")
    return value.strip(_AROUND_VALUES)


@contextmanager
def _refusals_told_to_the_log_alone(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except RefusedCredentialsError as error:
        _log.info("refused credentials", extra={"why": str(error), "peer": context.peer()})
        raise UnauthenticatedError("the credentials are invalid") from error
