"""Looking into the details of an error."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from kith.exceptions import AppException, from_rpc_error


def decoded(error: BaseException) -> AppException:
    """Return the exception that a caught error stands for."""
    assert isinstance(error, grpc.RpcError)
    return from_rpc_error(error)


def reason_of(error: BaseException) -> str:
    """Return the ErrorInfo's reason, or nothing when there is no ErrorInfo."""
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    for detail in () if status is None else status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            assert info.domain == "kith"
            return info.reason
    return ""


def fields_of(caught: pytest.ExceptionInfo[grpc.RpcError]) -> list[str]:
    """Return the fields that an INVALID_ARGUMENT names."""
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return [violation.field for violation in decoded(caught.value).violations]


def refusal(call: Callable[[Any], object], request: object) -> str:
    """Return the reason for which a call is refused, or nothing when it succeeds."""
    try:
        call(request)
    except grpc.RpcError as error:
        return reason_of(error)
    return ""


def succeeds(call: Callable[[], object]) -> bool:
    """Whether a call, made now, is answered."""
    try:
        call()
    except grpc.RpcError:
        return False
    return True
