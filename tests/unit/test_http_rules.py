"""Contracts of which the gateway could not say what a call takes are not served by it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.struct_pb2 import DESCRIPTOR as STRUCT

from shared.cli.http_rules import http_rules

_HTTP: Final[Any] = annotations_pb2.http  # as an extension, which its stub does not say
_STRUCT: Final = ".google.protobuf.Struct"


def _methods(
    *paths: str, has_stream: bool = False, has_struct: bool = False, has_structs: bool = False
) -> Sequence[MethodDescriptor]:
    """Return calls with these paths, all of them with one request."""
    file = FileDescriptorProto(name="rules.proto", package="rules", syntax="proto3")
    file.dependency.append(STRUCT.name)
    request = file.message_type.add(name="Request")
    for number, name in enumerate(("user_id", "peer_id"), 1):
        request.field.add(name=name, number=number, type=FieldDescriptorProto.TYPE_INT64)
    if has_struct:
        request.field.add(
            name="any",
            number=3,
            type=FieldDescriptorProto.TYPE_MESSAGE,
            type_name=_STRUCT,
        )
    if has_structs:
        _add_map(request, "any_by_id", 4, FieldDescriptorProto.TYPE_INT64, _STRUCT)
    _add_map(request, "request_by_id", 5, FieldDescriptorProto.TYPE_INT64, ".rules.Request")
    service = file.service.add(name="Service")
    for number, path in enumerate(paths):
        method = service.method.add(
            name=f"Call{number}",
            input_type=".rules.Request",
            output_type=".rules.Request",
            client_streaming=has_stream,
        )
        method.options.Extensions[_HTTP].get = path
    pool = DescriptorPool()
    for needed in (STRUCT, annotations_pb2.DESCRIPTOR):
        for dependency in needed.dependencies:
            pool.AddSerializedFile(dependency.serialized_pb)
        pool.AddSerializedFile(needed.serialized_pb)
    return list(
        pool.AddSerializedFile(file.SerializeToString()).services_by_name["Service"].methods
    )


def _add_map(message: DescriptorProto, name: str, number: int, keys: Any, values: str) -> None:
    """Add a map with messages as values."""
    entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=keys)
    entry.field.add(
        name="value", number=2, type=FieldDescriptorProto.TYPE_MESSAGE, type_name=values
    )
    message.field.add(
        name=name,
        number=number,
        label=FieldDescriptorProto.LABEL_REPEATED,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".rules.{message.name}.{entry.name}",
    )


def test_a_map_is_known_by_its_names_and_by_what_they_are_given() -> None:
    rules = http_rules(_methods("/v1/users/{user_id}"))

    known = '["map"]={["names"]="int64",["kind"]="message",["message"]="rules.Request"}'
    assert f'["requestById"]={{["name"]="request_by_id",["kind"]="message",{known}}}' in rules


def test_a_field_is_known_by_both_of_its_names() -> None:
    rules = http_rules(_methods("/v1/users/{user_id}/peers/{peer_id}:call"))

    assert '["peer_id"]={' in rules
    assert '["peerId"]={' in rules


@pytest.mark.parametrize(
    ("paths", "contents"),
    [
        (["/v1/users/{user_id}", "/v1/users/me"], {}),
        (["/v1/{user_id=users/*}"], {}),
        (["/v1/users/{user_id}"], {"has_stream": True}),
        (["/v1/users/{user_id}"], {"has_struct": True}),
        (["/v1/users/{user_id}"], {"has_structs": True}),
    ],
    ids=[
        "two paths that meet",
        "a variable of several parts",
        "a stream",
        "JSON of any form",
        "JSON of any form in a map",
    ],
)
def test_what_the_gateway_could_not_look_at_is_refused_at_its_start(
    paths: Sequence[str], contents: Mapping[str, bool]
) -> None:
    with pytest.raises(ValueError, match=r"requests\.lua|another call"):
        http_rules(_methods(*paths, **contents))
