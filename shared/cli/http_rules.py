"""What calls take over HTTP, as the tables that deploy/envoy/requests.lua goes by.

Those of calls are made of the contracts, so that a new call or field needs nothing else.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from kith.errors.v1 import errors_pb2
from kith.exceptions import ValidationError, to_status

Table: TypeAlias = dict[str, Any]

_HTTP: Final[Any] = annotations_pb2.http  # as an extension, which its stub does not say
_SEGMENT: Final = re.compile(r"/(?:\{([\w.]+)\}|(\w+))")
_VERB: Final = re.compile(r":(\w+)$")
# How JSON has the values of a field.
_KINDS: Final[Mapping[int, str]] = {
    FieldDescriptor.CPPTYPE_BOOL: "flag",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_ENUM: "enum",
    FieldDescriptor.CPPTYPE_FLOAT: "number",
    FieldDescriptor.CPPTYPE_INT32: "number",
    FieldDescriptor.CPPTYPE_INT64: "number",
    FieldDescriptor.CPPTYPE_MESSAGE: "message",
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_UINT32: "number",
    FieldDescriptor.CPPTYPE_UINT64: "number",
}
_TEXTS: Final = {
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
    "google.protobuf.Timestamp",
}

_TOO_LARGE: Final = errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE
# What requests.lua refuses over HTTP, gRPC-web and gRPC; each with its status in HTTP.
_REFUSALS: Final = {
    "underscore": (400, ValidationError("a header has an underscore in its name")),
    "not_grpc": (400, ValidationError("a call over gRPC is a POST with the header te: trailers")),
    "large_headers": (431, ValidationError("the headers are larger than 8 KiB", reason=_TOO_LARGE)),
}


def http_rules(methods: Iterable[MethodDescriptor]) -> str:
    """Return ROUTES, MESSAGES and REFUSALS in Lua, for calls that have a google.api.http option.

    Raises ValueError for what requests.lua does not know, instead of letting it through.
    """
    routes, messages = _node(), Table()
    for method in methods:
        _add_route(routes, method)
        _add_message(messages, method.input_type)
    tables = {"ROUTES": routes, "MESSAGES": messages, "REFUSALS": _refusals()}
    return "".join(f"local {name} = {_lua(table)}\n" for name, table in tables.items())


def _refusals() -> Table:
    """Return each refusal as gRPC has it in headers and trailers, and its status in HTTP."""
    return {
        name: {
            "http_status": str(http_status),
            "grpc_status": str(error.code.value[0]),
            "details": base64.b64encode(to_status(error).SerializeToString()).decode(),
            "message": error.message,
        }
        for name, (http_status, error) in _REFUSALS.items()
    }


def _node() -> Table:
    return {"literals": {}, "verbs": {}, "methods": {}}


def _add_route(routes: Table, method: MethodDescriptor) -> None:
    """Add a call to the tree of paths, which has a level for each part between slashes."""
    rule = method.GetOptions().Extensions[_HTTP]
    pattern = rule.WhichOneof("pattern")
    template = getattr(rule, pattern)
    path, verb = _VERB.sub("", template), _VERB.search(template)
    if rule.additional_bindings or method.client_streaming or _SEGMENT.sub("", path):
        raise ValueError(f"{method.full_name}: {template} is more than requests.lua knows")
    node, variables = routes, []
    for variable, literal in _SEGMENT.findall(path):
        outer = node
        if variable:
            variables.append(variable.split("."))
            node = outer.setdefault("variable", _node())
        else:
            node = outer["literals"].setdefault(literal, _node())
        if "variable" in outer and outer["literals"]:
            raise ValueError(f"{method.full_name}: {template} could be the path of another call")
    if verb:
        node = node["verbs"].setdefault(verb[1], _node())
    node["methods"][pattern.upper()] = {
        "message": method.input_type.full_name,
        "variables": variables,
        "body": rule.body or None,
    }


def _add_message(messages: Table, message: Descriptor) -> None:
    """Add a message and those inside it: their fields by both names that JSON takes for each."""
    if message.full_name in messages:
        return
    fields = messages[message.full_name] = Table()
    for field in message.fields:
        fields[field.name] = fields[field.json_name] = {
            "name": field.name,
            **_contents(messages, field),
        }


def _contents(messages: Table, field: FieldDescriptor) -> Table:
    """Return how JSON has what is in a field, and add the messages inside it."""
    entry = field.message_type
    if entry and entry.GetOptions().map_entry:
        names, values = entry.fields
        return {
            "kind": "message",
            "map": {"names": _KINDS[names.cpp_type], **_contents(messages, values)},
        }
    inner = _message(field)
    if inner:
        _add_message(messages, inner)
    return {
        "kind": "text" if field.message_type and not inner else _KINDS[field.cpp_type],
        "message": inner and inner.full_name,
        "is_repeated": field.is_repeated or None,
    }


def _message(field: FieldDescriptor) -> Descriptor | None:
    """Return the message that a field is, if its JSON is an object of that message's fields."""
    message = field.message_type
    if not message or message.full_name in _TEXTS:
        return None
    if message.file.package == "google.protobuf":
        raise ValueError(f"{field.full_name}: requests.lua does not know how JSON has it")
    return message


def _lua(value: object) -> str:
    """Return a value in Lua, which has nothing where JSON has null."""
    match value:
        case dict():
            pairs = (f'["{key}"]={_lua(item)}' for key, item in value.items() if item is not None)
            return f"{{{','.join(pairs)}}}"
        case list():
            return f"{{{','.join(map(_lua, value))}}}"
        case bool():
            return str(value).lower()
        case _:
            return f'"{value}"'
