"""Server reflection, in both of its versions.

It also knows methods, so that `grpcurl describe` of one is answered. The package for Python has
v1alpha alone. v1 is the same on the wire under another name, and newer clients ask for it first.
"""

from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

_HEALTH: Final = "grpc.health.v1.Health"
_V1: Final = "grpc.reflection.v1.ServerReflection"


def enable_reflection(server: grpc.Server, *service_names: str) -> None:
    """Answer what the services' contracts are, and those of health and reflection."""
    names = (*service_names, _HEALTH, _V1, reflection.SERVICE_NAME)
    _add_contract_of_v1()
    servicer = reflection.ReflectionServicer(names, pool=_Contracts())
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (_V1, reflection.SERVICE_NAME):
        methods = {"ServerReflectionInfo": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))


def _add_contract_of_v1() -> None:
    """Let the pool know v1, which clients may ask to be described; once in a process."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = (each.replace("v1alpha", "v1") for each in (file.name, file.package))
    for message in file.message_type:
        for field in (field for field in message.field if field.type_name):
            field.type_name = field.type_name.replace("v1alpha", "v1")
    for method in (method for service in file.service for method in service.method):
        method.input_type = method.input_type.replace("v1alpha", "v1")
        method.output_type = method.output_type.replace("v1alpha", "v1")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


class _Contracts:
    """All contracts. protobuf's own pool finds the file of any symbol but that of a method."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 -- the pool's name
        """Return the file that a symbol is in; raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
