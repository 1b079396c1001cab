"""Server reflection that also knows methods, so that `grpcurl describe` of one is answered."""

from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection

_HEALTH: Final = "grpc.health.v1.Health"


def enable_reflection(server: grpc.Server, *service_names: str) -> None:
    """Answer what the services' contracts are, and those of health and reflection."""
    names = (*service_names, _HEALTH, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=_Contracts())


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
