"""Server reflection, which grpcurl and other tools ask; it may be off."""

from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection_pb2

from kith.cli.clients import sentence
from kith.cli.conformance.deployments import Deployment, Service
from kith.cli.conformance.evidence import BrokenPromiseError, NotTriedError, require, status_of
from kith.exceptions import AppException

_SECONDS: Final = 10.0


def reflection_v1_lists_the_service_and_describes_it(deployment: Deployment) -> str:
    """Try what newer tools ask."""
    return _described(deployment, "grpc.reflection.v1.ServerReflection")


def reflection_v1alpha_lists_the_service_and_describes_it(deployment: Deployment) -> str:
    """Try what older tools ask."""
    return _described(deployment, "grpc.reflection.v1alpha.ServerReflection")


CHECKS: Final = (
    reflection_v1_lists_the_service_and_describes_it,
    reflection_v1alpha_lists_the_service_and_describes_it,
)


def _described(deployment: Deployment, protocol: str) -> str:
    for service in deployment.services:
        request = reflection_pb2.ServerReflectionRequest
        listed = _asked(service, protocol, request(list_services=""))
        names = {each.name for each in listed.list_services_response.service}
        require(service.name in names, f"{service.name} is not among {', '.join(sorted(names))}")
        described = _asked(service, protocol, request(file_containing_symbol=service.name))
        files = described.file_descriptor_response.file_descriptor_proto
        require(files, f"{service.name} is not described")
    return "both services are listed and described"


def _asked(
    service: Service, protocol: str, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    # The messages of both versions are the same.
    ask = service.channel.stream_stream(
        f"/{protocol}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    try:
        answers: list[reflection_pb2.ServerReflectionResponse] = list(
            ask(iter([request]), timeout=_SECONDS)
        )
    except AppException as error:
        if status_of(error) is grpc.StatusCode.UNIMPLEMENTED:
            raise NotTriedError(f"{protocol} is off in {service.name}") from error
        raise BrokenPromiseError(f"{service.name}: {sentence(error)}") from error
    require(len(answers) == 1, f"{service.name} gave {len(answers)} answers to a question")
    [answer] = answers
    return answer
