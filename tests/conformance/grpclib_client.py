"""Calls Kith by grpclib, a gRPC for asyncio on an HTTP/2 of its own, and prints what it gets.

python -m tests.conformance.grpclib_client TARGET DESCRIPTORS CALLS. DESCRIPTORS is a file with a
FileDescriptorSet. CALLS is JSON: a list of [service, method, request, milliseconds]. Of a stream
the first message is taken.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline

# It reads the details whose types have been imported.
_KNOWN_DETAILS: Final = (error_details_pb2.ErrorInfo, error_details_pb2.ResourceInfo)


async def _call(channel: Channel, pool: DescriptorPool, asked: list[Any]) -> dict[str, Any]:
    service, name, content, milliseconds = asked
    method = pool.FindServiceByName(service).methods_by_name[name]
    sent, received = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    streams = method.client_streaming or method.server_streaming
    try:
        async with channel.request(
            f"/{service}/{name}",
            Cardinality.STREAM_STREAM if streams else Cardinality.UNARY_UNARY,
            sent,
            received,
            deadline=Deadline.from_timeout(milliseconds / 1000),
        ) as stream:
            await stream.send_message(ParseDict(content, sent()), end=True)
            answer = await stream.recv_message()
            if answer is None:
                await stream.recv_trailing_metadata()
            elif method.server_streaming and not method.client_streaming:
                await stream.cancel()  # it has no end
    except GRPCError as error:
        details = status_pb2.Status(code=error.status.value)
        for detail in error.details or ():
            if isinstance(detail, _KNOWN_DETAILS):
                details.details.add().Pack(detail)
        encoded = base64.b64encode(details.SerializeToString()).decode()
        return {"code": error.status.value, "message": error.message, "details": encoded}
    except TimeoutError:
        return {"code": 4, "message": "the deadline has expired", "details": None}
    assert answer is not None
    told = MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return {"answer": told}


def _contracts(descriptors: str) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(Path(descriptors).read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


async def _main(target: str, pool: DescriptorPool, calls: str) -> None:
    host, _, port = target.rpartition(":")
    channel = Channel(host, int(port))
    try:
        told = [await _call(channel, pool, asked) for asked in json.loads(calls)]
    finally:
        channel.close()
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], _contracts(sys.argv[2]), sys.argv[3]))
