"""What calls take over HTTP, as the tables that the scripts in deploy/envoy go by.

Those of calls are made of the contracts, so that a new call or field needs nothing else.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import grpc
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.rpc import error_details_pb2, status_pb2

from kith.errors.v1 import errors_pb2
from kith.exceptions import DOMAIN, ValidationError, to_status

Table: TypeAlias = dict[str, Any]

_HTTP: Final[Any] = annotations_pb2.http  # as an extension, which its stub does not say
_SEGMENT: Final = re.compile(r"/(?:\{([\w.]+)\}|(\w+))")
_VERB: Final = re.compile(r":(\w+)$")
# How JSON has the values of a field.
_KINDS: Final[Mapping[int, str]] = {
    FieldDescriptor.CPPTYPE_BOOL: "flag",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_ENUM: "enum",
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_MESSAGE: "message",
    FieldDescriptor.CPPTYPE_STRING: "text",
}
_TEXTS: Final[Mapping[str, str]] = {
    "google.protobuf.FieldMask": "text",
    "google.protobuf.Timestamp": "time",
}
_BEHAVIOR: Final[Any] = field_behavior_pb2.field_behavior
# What a caller does not change by a call that updates.
_UNCHANGED: Final = {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER}

_TOO_LARGE: Final = errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE
# What requests.lua refuses over HTTP, gRPC-web and gRPC; each with its status in HTTP.
_REFUSALS: Final = {
    "header_name": (
        400,
        ValidationError("the name of a header has more than letters, digits, hyphens and dots"),
    ),
    "timeout": (
        400,
        ValidationError("grpc-timeout is not up to 8 digits and one of H, M, S, m, u and n"),
    ),
    "hosts": (400, ValidationError("a request has one host")),
    "binary": (400, ValidationError("a call over HTTP has a header that only gRPC has")),
    "not_grpc": (400, ValidationError("a call over gRPC is a POST with the header te: trailers")),
    "large_headers": (431, ValidationError("the headers are larger than 8 KiB", reason=_TOO_LARGE)),
}


# What Envoy itself refuses over gRPC.
_NATIVE: Final[Mapping[str, tuple[grpc.StatusCode, str]]] = {
    "REQUEST_TOO_LARGE": (grpc.StatusCode.INVALID_ARGUMENT, "the request is too large"),
    "TOKEN_EXPIRED": (grpc.StatusCode.UNAUTHENTICATED, "the token has expired"),
    "UNAUTHENTICATED": (grpc.StatusCode.UNAUTHENTICATED, "the call has no valid token"),
    "NO_SUCH_PATH": (grpc.StatusCode.UNIMPLEMENTED, "there is no such call"),
    "SERVICE_UNREACHABLE": (grpc.StatusCode.UNAVAILABLE, "the service cannot be reached"),
    "DEADLINE_EXCEEDED": (grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline expired"),
}


def http_rules(methods: Iterable[MethodDescriptor]) -> str:
    """Return tables in Lua for calls that have a google.api.http option.

    ROUTES and CALLS are of these calls, by path and by name; MESSAGES and ENUMS of what they take;
    REFUSALS of the errors that the scripts make.

    Raises ValueError for what requests.lua does not know, instead of letting it through.
    """
    routes, calls, messages, enums = _node(), Table(), Table(), Table()
    for method in methods:
        calls[method.full_name] = _answer(method)
        _add_route(routes, method)
        _add_message(messages, enums, method.input_type)
    tables = {
        "ROUTES": routes,
        "CALLS": calls,
        "MESSAGES": messages,
        "ENUMS": enums,
        "REFUSALS": _refusals(),
    }
    return "".join(f"local {name} = {_lua(table)}\n" for name, table in tables.items())


def native_errors() -> Mapping[str, str]:
    """Return what gRPC has in trailers of errors that Envoy itself makes: messages and details."""
    errors = {}
    for reason, (code, message) in _NATIVE.items():
        status = status_pb2.Status(code=code.value[0], message=message)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
        errors[f"MESSAGE_{reason}"] = message
        errors[f"DETAILS_{reason}"] = base64.b64encode(status.SerializeToString()).decode()
    return errors


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
        "call": method.full_name,
        "message": method.input_type.full_name,
        "variables": variables,
        "body": rule.body or None,
        "etag": _etag_of(method.input_type, rule.body),
        "mask": _mask_of(method.input_type, rule.body),
    }


def _etag_of(message: Descriptor, body: str) -> str | None:
    """Return where a call takes the etag of what it changes: in its "query" or in its "body"."""
    if "etag" in message.fields_by_name:
        return "body" if body == "*" else "query"
    resource = message.fields_by_name[body].message_type if body not in {"", "*"} else None
    return "body" if resource and "etag" in resource.fields_by_name else None


def _mask_of(message: Descriptor, body: str) -> Mapping[str, bool] | None:
    """Return the fields of a body that a call changes, if it takes a mask of them."""
    if "update_mask" not in message.fields_by_name or body in {"", "*"}:
        return None
    resource = message.fields_by_name[body].message_type
    return {
        field.name: True
        for field in (resource.fields if resource else ())
        if field.name != "etag" and not _UNCHANGED & {*field.GetOptions().Extensions[_BEHAVIOR]}
    }


def _answer(method: MethodDescriptor) -> Table:
    """Return what is to be known of a call when it is answered.

    `resource` is the answer's only field, if that has an etag. `names` are those of fields in
    errors, as callers over HTTP know them: a variable of a path by its last part, what is in a body
    by its name there.
    """
    rule = method.GetOptions().Extensions[_HTTP]
    variables = [way for way, _ in _SEGMENT.findall(getattr(rule, rule.WhichOneof("pattern")))]
    answered = method.output_type.fields
    inner = answered[0].message_type if len(answered) == 1 else None
    has_etag = inner and not answered[0].is_repeated and "etag" in inner.fields_by_name
    return {
        "resource": answered[0].json_name if has_etag else None,
        "names": {way: way.rpartition(".")[2] for way in variables if "." in way},
        "body": f"{rule.body}." if rule.body not in {"", "*"} else None,
    }


def _add_message(messages: Table, enums: Table, message: Descriptor) -> None:
    """Add a message and those inside it: their fields by both names that JSON takes for each."""
    if message.full_name in messages:
        return
    fields = messages[message.full_name] = Table()
    for field in message.fields:
        fields[field.name] = fields[field.json_name] = {
            "name": field.name,
            **_contents(messages, enums, field),
        }


def _contents(messages: Table, enums: Table, field: FieldDescriptor) -> Table:
    """Return how JSON has what is in a field, and add the messages inside it."""
    entry = field.message_type
    if entry and entry.GetOptions().map_entry:
        names, values = entry.fields
        return {
            "kind": "message",
            "map": {"names": _KINDS[names.cpp_type], **_contents(messages, enums, values)},
        }
    inner = _message(field)
    if inner:
        _add_message(messages, enums, inner)
    if field.enum_type:
        named = field.enum_type.values_by_name
        spellings = [*named, *(str(value.number) for value in named.values())]
        enums[field.enum_type.full_name] = dict.fromkeys(spellings, True)
    return {
        "kind": _kind(field),
        "message": inner and inner.full_name,
        "enum": field.enum_type and field.enum_type.full_name,
        "is_repeated": field.is_repeated or None,
    }


def _kind(field: FieldDescriptor) -> str:
    if field.message_type and field.message_type.full_name in _TEXTS:
        return _TEXTS[field.message_type.full_name]
    if field.cpp_type not in _KINDS:
        raise ValueError(f"{field.full_name}: requests.lua does not know how JSON has it")
    return _KINDS[field.cpp_type]


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
