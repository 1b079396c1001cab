"""The exceptions that may cross a boundary, and their form on the wire.

Raise one where the fault is understood; `interceptors.report_errors` is the only place that turns
them into statuses, and `from_rpc_error` turns statuses back into the same classes on the client's
side. Messages are for callers: they never hold driver text, SQL or other people's data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, TypeGuard

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from kith.errors.v1 import errors_pb2

DOMAIN = "kith"
_PREFIX = "ERROR_REASON_"
_MOST_VIOLATIONS = 10
_DETAILS_KEY = "grpc-status-details-bin"

Reason = errors_pb2.ErrorReason


@dataclass(frozen=True, kw_only=True)
class FieldViolation:
    """One field that breaks its limits; `field` is its path in the request."""

    field: str
    description: str


class AppException(Exception):  # noqa: N818 -- the name that callers of the predecessor know
    """A fault that a caller may see: a status code, a reason, and what is safe to say of it."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    default_reason: ClassVar["Reason.ValueType"] = errors_pb2.ERROR_REASON_INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: "Reason.ValueType | None" = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = self.default_reason if reason is None else reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after

    @property
    def reason_name(self) -> str:
        """The reason as callers see it, for example `POST_NOT_FOUND`."""
        return errors_pb2.ErrorReason.Name(self.reason).removeprefix(_PREFIX)


class ValidationError(AppException):
    """The request breaks a documented limit; every offending field is named."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = errors_pb2.ERROR_REASON_INVALID_FIELD

    @classmethod
    def of(
        cls, field: str, description: str, *, reason: "Reason.ValueType | None" = None
    ) -> "ValidationError":
        """Build the error for a single field."""
        violation = FieldViolation(field=field, description=description)
        return cls(f"{field}: {description}", violations=[violation], reason=reason)

    @classmethod
    def of_all(cls, violations: Sequence[FieldViolation]) -> "ValidationError":
        """Build the error for several fields, of which it names the first ten.

        A status travels in headers, which clients refuse past 8 KiB.
        """
        named, rest = violations[:_MOST_VIOLATIONS], len(violations[_MOST_VIOLATIONS:])
        listing = "; ".join(f"{v.field}: {v.description}" for v in named)
        return cls(listing + (f"; and {rest:,} more" if rest else ""), violations=named)


class UnauthenticatedError(AppException):
    """The caller has not shown who it is."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = errors_pb2.ERROR_REASON_UNAUTHENTICATED


class UnauthorizedError(AppException):
    """The caller is authenticated and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = errors_pb2.ERROR_REASON_NOT_PERMITTED


class ResourceNotFoundError(AppException):
    """What the request names does not exist, or the caller may not know that it does."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = errors_pb2.ERROR_REASON_POST_NOT_FOUND


class ConflictError(AppException):
    """Something that must be unique exists already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = errors_pb2.ERROR_REASON_TAG_NAME_TAKEN


class PreconditionError(AppException):
    """The state of things does not allow it; retrying without changing that state is no use."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = errors_pb2.ERROR_REASON_NOT_CONNECTED


class AbortedError(AppException):
    """Lost against a concurrent change; the whole read-change-write may be repeated."""

    code = grpc.StatusCode.ABORTED
    default_reason = errors_pb2.ERROR_REASON_CONTENTION


class RateLimitError(AppException):
    """Too much at once, or too large an answer; nothing was done."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = errors_pb2.ERROR_REASON_OVERLOADED


class UnavailableError(AppException):
    """Something this service depends on cannot be reached; retry after a pause."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE


class DeadlineError(AppException):
    """The call's time ran out."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED


class InternalError(AppException):
    """A fault of the service itself. The message only says where to look it up."""


_CLASSES: Sequence[type[AppException]] = (
    ValidationError,
    UnauthenticatedError,
    UnauthorizedError,
    ResourceNotFoundError,
    ConflictError,
    PreconditionError,
    AbortedError,
    RateLimitError,
    UnavailableError,
    DeadlineError,
    InternalError,
)
_CLASS_BY_CODE = {cls.code: cls for cls in _CLASSES}


def to_status(error: AppException) -> status_pb2.Status:
    """Return the google.rpc.Status for an error: ErrorInfo always, further details where set."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    _pack(
        status,
        error_details_pb2.ErrorInfo(
            reason=error.reason_name, domain=DOMAIN, metadata=error.metadata
        ),
    )
    if error.violations:
        _pack(status, _bad_request(error.violations))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        _pack(status, retry)
    if error.code is grpc.StatusCode.NOT_FOUND:
        kind = error.reason_name.removesuffix("_NOT_FOUND").lower()
        _pack(
            status,
            error_details_pb2.ResourceInfo(resource_type=f"{DOMAIN}/{kind}"),
        )
    return status


def from_rpc_error(error: grpc.RpcError) -> AppException:
    """Return the exception that a status stands for, with its reason, metadata and details.

    A status without our details (a proxy's, or gRPC's own) keeps its class; its text is dropped.
    """
    code = error.code() if is_status(error) else grpc.StatusCode.UNKNOWN
    cls = _CLASS_BY_CODE.get(code, InternalError)
    status = details(error)
    if status is None:
        return cls(f"the other service answered {code.name}")
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad_request, retry):
            detail.Unpack(message)
    return cls(
        status.message,
        reason=_reason(info),
        metadata=dict(info.metadata),
        violations=[
            FieldViolation(field=v.field, description=v.description)
            for v in bad_request.field_violations
        ],
        retry_after=retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None,
    )


def details(error: grpc.RpcError) -> status_pb2.Status | None:
    """Return the google.rpc.Status that a service sends beside a code; None if there is none.

    One that cannot be read, or that is of another code, does not come from the service.
    """
    if not is_status(error):
        return None
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                return None
            return status if status.code == error.code().value[0] else None
    return None


def is_status(error: grpc.RpcError) -> TypeGuard[grpc.Call | grpc.aio.AioRpcError]:
    """Whether a call has ended with this, in either of the two ways that gRPC for Python has."""
    return isinstance(error, (grpc.Call, grpc.aio.AioRpcError))


def _reason(info: error_details_pb2.ErrorInfo) -> "Reason.ValueType | None":
    name = _PREFIX + info.reason
    if info.domain != DOMAIN or name not in errors_pb2.ErrorReason.keys():  # noqa: SIM118 -- an enum wrapper, not a dict
        return None
    return errors_pb2.ErrorReason.Value(name)


def _bad_request(violations: Sequence[FieldViolation]) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
            for v in violations
        ]
    )


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)
