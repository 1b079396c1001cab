"""Errors survive the wire: what a service raises is what its caller gets."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
from prometheus_client import CollectorRegistry

from kith import exceptions
from kith.errors.v1 import errors_pb2
from kith.exceptions import (
    AppException,
    FieldViolation,
    ValidationError,
    from_rpc_error,
    to_status,
)
from shared.server.handlers import Around
from shared.server.interceptors import identify, log_call, measure, report_errors
from shared.server.metrics import ServerMetrics

_Call = Callable[..., bytes]

_RAISED: list[Exception] = [
    exceptions.ValidationError.of("body", "must not be empty"),
    exceptions.UnauthenticatedError("who?"),
    exceptions.UnauthorizedError("no", reason=errors_pb2.ERROR_REASON_CONNECTION_NOT_ALLOWED),
    exceptions.ResourceNotFoundError("nothing there"),
    exceptions.ConflictError("there is one"),
    exceptions.PreconditionError("not now", metadata={"limit": "5"}),
    exceptions.AbortedError("again"),
    exceptions.RateLimitError("slowly", retry_after=timedelta(seconds=3)),
    exceptions.UnavailableError("gone", retry_after=timedelta(milliseconds=1_500)),
    exceptions.DeadlineError("late"),
]


@pytest.fixture
def call() -> Iterator[_Call]:
    """A method of a real server that raises the error of the number it is called with."""

    def fail(request: bytes, _context: grpc.ServicerContext) -> bytes:
        raise ([*_RAISED, KeyError("SELECT secret FROM stack")])[int(request)]

    steps = [identify, measure(ServerMetrics(CollectorRegistry())), log_call, report_errors]
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[Around(steps, threads={})])
    handler = grpc.unary_unary_rpc_method_handler(fail, bytes, bytes)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test.Errors", {"Fail": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_unary("/test.Errors/Fail", bytes, bytes)
    server.stop(None).wait()


def _answer(call: _Call, number: int) -> AppException:
    with pytest.raises(grpc.RpcError) as caught:
        call(str(number).encode())
    return from_rpc_error(caught.value)


@pytest.mark.parametrize("number", range(len(_RAISED)))
def test_an_error_is_the_same_on_the_other_side(call: _Call, number: int) -> None:
    raised = _RAISED[number]

    received = _answer(call, number)

    assert type(received) is type(raised)
    assert vars(received) == vars(raised)


def test_an_unexpected_error_tells_only_where_to_look_it_up(
    call: _Call,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(str(len(_RAISED)).encode(), metadata=(("x-request-id", "abc-123"),))

    received = from_rpc_error(caught.value)
    assert isinstance(received, exceptions.InternalError)
    assert received.metadata == {"request_id": "abc-123"}
    assert "secret" not in received.message


def test_a_status_without_our_details_keeps_its_class_and_loses_its_text() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/test.Errors/Fail", bytes, bytes)(b"", timeout=60)
        received = from_rpc_error(caught.value)

    assert isinstance(received, exceptions.UnavailableError)
    assert received.message == "the other service answered UNAVAILABLE"


def test_violations_name_every_field() -> None:
    error = exceptions.ValidationError(
        "two",
        violations=[
            FieldViolation(field="body", description="must not be empty"),
            FieldViolation(field="user_id", description="must be a positive integer"),
        ],
    )

    [detail] = [
        detail for detail in exceptions.to_status(error).details if "BadRequest" in detail.type_url
    ]

    assert b"body" in detail.value
    assert b"user_id" in detail.value


def test_an_error_about_very_many_fields_still_fits_into_headers() -> None:
    violations = [
        FieldViolation(field=f"connections[{index}].second_user_id", description="must be positive")
        for index in range(10_000)
    ]

    error = ValidationError.of_all(violations)

    assert "and 9,990 more" in error.message
    assert to_status(error).ByteSize() + len(error.message) < 6_000
