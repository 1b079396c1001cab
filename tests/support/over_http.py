"""Calls as a client over HTTP makes them, by what the contracts say of each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from openapi_schema_validator import OAS31Validator

from tests.support.rpcs import RPCS, Rpc

_HTTP: Any = annotations_pb2.http  # as an extension, which its stub does not say
_OPENAPI = Path(__file__).parents[2] / "protos" / "openapi.yaml"
# The loader in C, because every process of the tests reads this while it collects them.
DOCUMENT: Any = yaml.load(_OPENAPI.read_text(), Loader=yaml.CSafeLoader)
_VARIABLE = re.compile(r"\{([\w.]+)\}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent."""

    verb: str
    path: str
    body: Any


def exposed() -> list[Rpc]:
    """Return the calls that can be made over HTTP."""
    return [rpc for rpc in RPCS if is_exposed(rpc.method)]


def is_exposed(method: MethodDescriptor) -> bool:
    """Whether the contracts give a call a path."""
    return bool(method.GetOptions().HasExtension(_HTTP))


def path_fields(rpc: Rpc) -> list[str]:
    """Return the fields that the path of a call has, as the contracts spell them."""
    rule = rpc.method.GetOptions().Extensions[_HTTP]
    return _VARIABLE.findall(getattr(rule, rule.WhichOneof("pattern")))


def body_of(rpc: Rpc) -> Descriptor | None:
    """Return the message that the body of a call is, if it takes one."""
    rule = rpc.method.GetOptions().Extensions[_HTTP]
    if rule.body in {"", "*"}:
        return rpc.method.input_type if rule.body else None
    return rpc.method.input_type.fields_by_name[rule.body].message_type


def over_http(rpc: Rpc, request: Message) -> Request:
    """Return a call as it is made over HTTP: ids in the path, the rest in the body or the query."""
    rule = rpc.method.GetOptions().Extensions[_HTTP]
    verb = str(rule.WhichOneof("pattern"))
    fields = MessageToDict(request)

    def put(variable: re.Match[str]) -> str:
        *outer, last = in_json(variable[1]).split(".")
        inside = fields
        for name in outer:
            inside = inside[name]
        return quote(str(inside.pop(last)), safe="")

    path = _VARIABLE.sub(put, getattr(rule, verb))
    body = None
    if rule.body == "*":
        body, fields = fields, {}
    elif rule.body:
        body = fields.pop(in_json(rule.body), {})
    query = urlencode([*_flat(fields)])
    return Request(verb=verb.upper(), path=f"{path}?{query}" if query else path, body=body)


def in_json(path: str) -> str:
    """Return the path of a field with the names that JSON has for it."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), path)


def operation(rpc: Rpc) -> Any:
    """Return what openapi.yaml says of a call."""
    rule = rpc.method.GetOptions().Extensions[_HTTP]
    verb = str(rule.WhichOneof("pattern"))
    path = _VARIABLE.sub(
        lambda found: f"{{{in_json(found[1].split('.')[-1])}}}", getattr(rule, verb)
    )
    return DOCUMENT["paths"][path][verb]


def resolved(node: Any) -> Any:
    """Return a part of openapi.yaml, or what it refers to."""
    while "$ref" in node:
        *_, kind, name = node["$ref"].split("/")
        node = DOCUMENT["components"][kind][name]
    return node


def breaches(rpc: Rpc, answer: object) -> list[str]:
    """Return in what an answer is not what openapi.yaml says of it."""
    schema = operation(rpc)["responses"]["200"]["content"]["application/json"]["schema"]
    validator = OAS31Validator({**schema, "components": DOCUMENT["components"]})
    return [error.message for error in validator.iter_errors(answer)]


def _flat(fields: dict[str, Any], *outer: str) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, *outer, name)
            continue
        for item in value if isinstance(value, list) else [value]:
            yield ".".join([*outer, name]), str(item).lower() if item is True else item
