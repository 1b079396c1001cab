"""How a check says that a promise is broken, or why it could not be tried."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2

from kith.cli.clients import sentence
from kith.client.paging import Answer, Asked, Item, items
from kith.errors.v1 import errors_pb2
from kith.exceptions import DOMAIN, AppException, RateLimitError, details, is_status

_NOT_FOR_THIS_CALLER: Final = frozenset(
    {
        errors_pb2.ERROR_REASON_UNAUTHENTICATED,
        errors_pb2.ERROR_REASON_TOKEN_EXPIRED,
        errors_pb2.ERROR_REASON_NOT_PERMITTED,
        errors_pb2.ERROR_REASON_OUT_OF_SCOPE,
        errors_pb2.ERROR_REASON_USER_TOKEN_REQUIRED,
    }
)


# The world is small, and a page token that leads back to the first page has no end.
_MOST_ITEMS: Final = 100


class BrokenPromiseError(Exception):
    """A promise is broken; the message says what was answered instead."""


class NotTriedError(Exception):
    """A promise cannot be tried here; the message says why."""


def require(is_so: object, evidence: str) -> None:
    """Raise BrokenPromiseError unless something is so."""
    if not is_so:
        raise BrokenPromiseError(evidence)


def is_withheld(error: AppException) -> bool:
    """Whether a call was refused because of who makes it, or how often: nothing was tried then."""
    return error.reason in _NOT_FOR_THIS_CALLER or isinstance(error, RateLimitError)


def refusal(call: Callable[..., object], request: object, **options: Any) -> AppException:
    """Return how a call is refused; raises BrokenPromiseError if it is answered.

    Its error must have the details that every error of a service has.
    """
    try:
        answer = call(request, **options)
    except AppException as error:
        if is_withheld(error):
            raise
        _require_details(error)
        return error
    raise BrokenPromiseError(f"was answered: {shortened(answer)}")


def require_refused(error: AppException, kind: type[AppException], reason: str) -> str:
    """Require an error of a status and a reason; returns the evidence."""
    told = f"{error.code.name} {error.reason_name}"
    require(told == f"{kind.code.name} {reason}", f"was {told}: {error.message}")
    return told


def require_field(error: AppException, field: str, *, limit: str = "") -> str:
    """Require that an error names one field alone, and its limit; returns the evidence."""
    named = [violation.field for violation in error.violations]
    require(named == [field], f"names {', '.join(named) or 'no field'} instead of {field}")
    [violation] = error.violations
    told = f"{violation.field}: {violation.description}"
    require(limit in violation.description, f"does not name the limit {limit}: {told}")
    return told


def listing(
    call: Callable[[Asked], Answer], request: Asked, of: Callable[[Answer], Iterable[Item]]
) -> list[Item]:
    """Return what is on all pages of a list; raises BrokenPromiseError if they do not end."""
    listed = list(islice(items(call, request, of), _MOST_ITEMS))
    require(len(listed) < _MOST_ITEMS, f"a list of a few does not end after {_MOST_ITEMS:,}")
    return listed


def shortened(answer: object) -> str:
    """Return an answer in one line."""
    text, most = " ".join(str(answer).split()) or "an empty message", 80
    return text if len(text) <= most else f"{text[:most]}..."


def status_of(error: AppException) -> grpc.StatusCode:
    """Return the status that a call ended with, of which Kith may have no exception."""
    cause = error.__cause__
    if isinstance(cause, grpc.RpcError) and is_status(cause):
        return cause.code()
    return error.code


def _require_details(error: AppException) -> None:
    cause = error.__cause__
    status = details(cause) if isinstance(cause, grpc.RpcError) else None
    require(status is not None, f"has no details: {sentence(error)}")
    info = error_details_pb2.ErrorInfo()
    packed: list[Packed] = [] if status is None else list(status.details)
    require(any(each.Unpack(info) for each in packed), f"has no ErrorInfo: {sentence(error)}")
    require(info.domain == DOMAIN, f"is of the domain {info.domain!r}: {sentence(error)}")
    require(info.reason == error.reason_name, f"has an unknown reason: {info.reason!r}")
