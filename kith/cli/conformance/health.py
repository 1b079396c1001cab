"""The standard health protocol, as probes such as grpc_health_probe use it: without a token."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kith.cli.clients import sentence
from kith.cli.conformance.deployments import Deployment, Service
from kith.cli.conformance.evidence import BrokenPromiseError, require
from kith.exceptions import AppException

T = TypeVar("T")

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_NO_SERVICE: Final = "no.such.Service"
_SECONDS: Final = 10.0


def every_name_of_health_is_serving(deployment: Deployment) -> str:
    """Try `live`, `ready`, the empty name and that of the service."""
    for service in deployment.services:
        for name in _names(service):
            answer = _answered(partial(_check, service, name), service, name)
            status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            require(answer.status == _SERVING, f"{service.name} says {status} of {name!r}")
    return "live, ready, the empty name and the name of each service are SERVING"


def an_unknown_name_of_health_is_not_found(deployment: Deployment) -> str:
    """Try a name that there is not."""
    for service in deployment.services:
        try:
            answer = _check(service, _NO_SERVICE)
        except AppException as error:
            require(error.code is grpc.StatusCode.NOT_FOUND, f"{service.name}: {sentence(error)}")
        else:
            raise BrokenPromiseError(f"{service.name} says {answer.status} of {_NO_SERVICE}")
    return "NOT_FOUND by both services"


def a_watch_of_health_begins_with_the_status(deployment: Deployment) -> str:
    """Try all names."""
    for service in deployment.services:
        for name in _names(service):
            status = _watched(service, name)
            require(status == _SERVING, f"{service.name} says {status} of {name!r}")
    return "the first message of each name is SERVING"


def a_watch_of_an_unknown_name_of_health_says_so(deployment: Deployment) -> str:
    """Try a name that there is not."""
    for service in deployment.services:
        status = _watched(service, _NO_SERVICE)
        require(status == _UNKNOWN, f"{service.name} says {status} of {_NO_SERVICE}")
    return "SERVICE_UNKNOWN by both services"


CHECKS: Final = (
    every_name_of_health_is_serving,
    an_unknown_name_of_health_is_not_found,
    a_watch_of_health_begins_with_the_status,
    a_watch_of_an_unknown_name_of_health_says_so,
)


def _names(service: Service) -> Iterable[str]:
    return "live", "ready", "", service.name


def _check(service: Service, name: str) -> health_pb2.HealthCheckResponse:
    stub = health_pb2_grpc.HealthStub(service.nameless)
    answer: health_pb2.HealthCheckResponse = stub.Check(
        health_pb2.HealthCheckRequest(service=name), timeout=_SECONDS
    )
    return answer


def _watched(service: Service, name: str) -> int:
    stub = health_pb2_grpc.HealthStub(service.nameless)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=_SECONDS)
    try:
        return int(_answered(partial(_first, watch), service, name).status)
    finally:
        watch.cancel()


def _first(
    watch: Iterator[health_pb2.HealthCheckResponse],
) -> health_pb2.HealthCheckResponse:
    try:
        return next(watch)
    except StopIteration:
        raise BrokenPromiseError("the watch ended without a message") from None


def _answered(call: Callable[[], T], service: Service, name: str) -> T:
    """Return an answer. Any error breaks the promise: probes have no credentials."""
    try:
        return call()
    except AppException as error:
        raise BrokenPromiseError(
            f"{service.name}, asked for {name!r}: {sentence(error)}"
        ) from error
