"""The messages and enums of the contracts as JSON schemas, with their comments."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from google.api import field_behavior_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from kith.options.v1 import options_pb2

Schema: TypeAlias = dict[str, Any]
Field: TypeAlias = FieldDescriptorProto
Path: TypeAlias = tuple[int, ...]

_BEHAVIOR: Final[Any] = field_behavior_pb2.field_behavior  # as an extension, which its stub omits
_REPEATED: Final = FieldDescriptorProto.LABEL_REPEATED
_NUMBERS: Final = frozenset(
    {
        FieldDescriptorProto.TYPE_DOUBLE,
        FieldDescriptorProto.TYPE_INT32,
        FieldDescriptorProto.TYPE_INT64,
    }
)
# Where descriptor.proto has what comments stand at.
_MESSAGES, _ENUMS = 4, 5
_FIELDS, _NESTED, _VALUES = 2, 3, 2
_SCALARS: Final[Mapping[int, Schema]] = {
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
}
# In a form that Python, ECMAScript and RE2 read alike.
_ALLOWED: Final = r"[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]"
_SOLID: Final = r"[^\s\u0000-\u001f\u007f-\u009f]"
_UUID: Final = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}"
# What JSON Schema can say of a format. `uuid` would be one spelling of several, and never empty.
_FORMATS: Final[Mapping[int, Schema]] = {
    options_pb2.FORMAT_TEXT: {"pattern": f"^({_ALLOWED}*{_SOLID}{_ALLOWED}*)?$"},
    options_pb2.FORMAT_NAME: {"pattern": f"^({_SOLID}({_ALLOWED}*{_SOLID})?)?$"},
    options_pb2.FORMAT_UUID: {"pattern": rf"^((urn:uuid:)?({_UUID})|\{{({_UUID})\}})?$"},
}
# 64-bit numbers are texts in JSON, to which `minimum` does not apply.
_TEXTS_FROM: Final[Mapping[float, str]] = {0: r"^[0-9]+$", 1: r"^[1-9][0-9]*$"}
_WELL_KNOWN: Final[Mapping[str, Schema]] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.FieldMask": {"type": "string", "description": "Names, comma separated."},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commented:
    """A message or an enum; its comments are at paths that begin with it."""

    name: str
    descriptor: Any
    comments: Mapping[Path, str]

    def values(self, *, prefix: str = "") -> Iterator[str]:
        """Yield a line of Markdown for each value of an enum, without the prefix of its name."""
        for name, comment in self.commented_values():
            yield f"- `{name.removeprefix(prefix)}`: {comment}"

    def commented_values(self) -> Iterator[tuple[str, str]]:
        """Yield the values of an enum with their comments."""
        for number, value in enumerate(self.descriptor.value):
            yield value.name, self.comments.get((_VALUES, number), "")


@dataclasses.dataclass
class Schemas:
    """The schemas that have been needed so far, of everything that is named.

    `sent` are the messages that are part of a body. Answers have every field that is not a message,
    also if it is empty, but only for messages that are not sent can a schema require that.
    """

    named: Mapping[str, Commented]
    sent: set[str] = dataclasses.field(default_factory=set)
    made: dict[str, Schema] = dataclasses.field(default_factory=dict)

    def fields(self, type_name: str) -> Iterator[tuple[FieldDescriptorProto, str]]:
        """Yield the fields of a message with their comments."""
        message = self.named[type_name]
        for number, field in enumerate(message.descriptor.field):
            yield field, message.comments.get((_FIELDS, number), "")

    def reference(self, type_name: str) -> Schema:
        """Return how to name a schema, which is made when it is named first."""
        told = self.named[type_name]
        if told.name not in self.made:
            self.made[told.name] = {}
            self.made[told.name] = (
                _enum(told)
                if isinstance(told.descriptor, EnumDescriptorProto)
                else self.message(type_name)
            )
        return {"$ref": f"#/components/schemas/{told.name}"}

    def send(self, type_name: str) -> None:
        """Note that a message is part of a body, and so are all that are inside it."""
        for field, _ in self.fields(type_name):
            inner = field.type_name
            if self._is_message(field) and inner not in self.sent:
                self.sent.add(inner)
                self.send(inner)

    def message(self, type_name: str) -> Schema:
        """Return the schema of a message."""
        fields = [*self.fields(type_name)]
        is_sent = type_name in self.sent
        required = [
            field.json_name
            for field, _ in fields
            if (is_required(field) if is_sent else self._is_always_there(field))
        ]
        properties = {field.json_name: self.value(field, comment) for field, comment in fields}
        return self._object(type_name, properties, required)

    def body(self, type_name: str, *, without: Sequence[str], is_partial: bool) -> Schema:
        """Return the schema of a body, without what the path says.

        A partial one is a resource of which only what is given is changed, so nothing is required.
        """
        fields = [*self.fields(type_name)]
        if not is_partial:
            fields = [(field, text) for field, text in fields if field.name not in without]
        required = [] if is_partial else [f.json_name for f, _ in fields if is_required(f)]
        properties = {field.json_name: self.value(field, comment) for field, comment in fields}
        schema = self._object(type_name, properties, required)
        return {**schema, "additionalProperties": False}

    def _object(self, type_name: str, properties: Schema, required: Sequence[str]) -> Schema:
        schema = _described(self.named[type_name].comments.get((), ""), {"type": "object"})
        if required:
            schema["required"] = list(required)
        return {**schema, "properties": properties} if properties else schema

    def _is_message(self, field: Field) -> bool:
        return (
            field.type == FieldDescriptorProto.TYPE_MESSAGE
            and field.type_name not in _WELL_KNOWN
            and not self.is_map(field)
        )

    def _is_always_there(self, field: Field) -> bool:
        """Whether every answer has a field: all but messages that are not set."""
        is_single_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
        return field.label == _REPEATED or not (is_single_message or field.proto3_optional)

    def value(self, field: FieldDescriptorProto, comment: str) -> Schema:
        """Return the schema of a field."""
        limits = field.options.Extensions[options_pb2.limits]
        # JSON Schema counts no bytes.
        size = _stated(limits, **{"x-max-bytes": "max_bytes"})
        schema = {**self.single(field), **_limits_of_one(field, limits), **size}
        if field.label == _REPEATED and not self.is_map(field):
            numbers = _stated(limits, minItems="min_items", maxItems="max_items")
            schema = {"type": "array", "items": schema, **numbers}
        if _behaviors(field) & {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER}:
            schema["readOnly"] = True
        return _described(comment, schema)

    def single(self, field: FieldDescriptorProto) -> Schema:
        """Return the schema of one value of a field."""
        if field.type in _SCALARS:
            return dict(_SCALARS[field.type])
        if field.type_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[field.type_name])
        if self.is_map(field):
            [_, value] = self.named[field.type_name].descriptor.field
            return {"type": "object", "additionalProperties": self.single(value)}
        return self.reference(field.type_name)

    def is_map(self, field: FieldDescriptorProto) -> bool:
        """Whether a field is a map, which protobuf has as a list of entries."""
        told = self.named.get(field.type_name)
        message = told.descriptor if told else None
        return isinstance(message, DescriptorProto) and message.options.map_entry

    def leaves(self, type_name: str, *outer: str) -> Iterator[tuple[Sequence[str], Schema]]:
        """Yield the fields of a message that a query or a path can name, and their schemas."""
        for field, comment in self.fields(type_name):
            way = (*outer, field.name)
            is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
            if is_message and field.type_name not in _WELL_KNOWN:
                yield from self.leaves(field.type_name, *way)
            else:
                yield way, self.value(field, comment)


def is_required(field: Field) -> bool:
    """Whether a request must have a field: it is said to be, or nothing breaks its limits."""
    limits = field.options.Extensions[options_pb2.limits]
    if field.label == _REPEATED:
        is_too_little = limits.min_items > 0
    else:
        is_number = field.type in _NUMBERS
        is_too_little = limits.min_length > 0 or (is_number and limits.minimum > 0)
    return is_too_little or field_behavior_pb2.REQUIRED in _behaviors(field)


def _behaviors(field: Field) -> set[int]:
    return {*field.options.Extensions[_BEHAVIOR]}


def _enum(told: Commented) -> Schema:
    values = [value.name for value in told.descriptor.value]
    about = "\n".join([told.comments.get((), ""), "", *told.values()])
    return {"type": "string", "enum": values, "description": about}


def named_in(file: FileDescriptorProto) -> Iterator[tuple[str, Commented]]:
    """Yield the messages and enums of a file by their full names."""
    comments = comments_of(file)

    def commented(descriptor: Any, path: Path, *outer: str) -> tuple[str, Commented]:
        own = {at[len(path) :]: text for at, text in comments.items() if at[: len(path)] == path}
        name = ".".join([*outer, descriptor.name])
        told = Commented(name=name, descriptor=descriptor, comments=own)
        return f".{file.package}.{name}", told

    def messages(
        field: Sequence[DescriptorProto], path: Path, *outer: str
    ) -> Iterator[tuple[str, Commented]]:
        for number, message in enumerate(field):
            at = (*path, number)
            yield commented(message, at, *outer)
            yield from messages(message.nested_type, (*at, _NESTED), *outer, message.name)

    yield from messages(file.message_type, (_MESSAGES,))
    for number, enum in enumerate(file.enum_type):
        yield commented(enum, (_ENUMS, number))


def comments_of(file: FileDescriptorProto) -> Mapping[Path, str]:
    """Return what is written above the parts of a file."""
    return {
        tuple(at.path): "\n".join(line.strip() for line in at.leading_comments.strip().split("\n"))
        for at in file.source_code_info.location
        if at.leading_comments
    }


def _limits_of_one(field: FieldDescriptorProto, limits: options_pb2.Limits) -> Schema:
    """Return the limits of a field's value, or of each of its items."""
    lengths = _stated(limits, minLength="min_length", maxLength="max_length")
    if field.type == FieldDescriptorProto.TYPE_INT64 and limits.HasField("minimum"):
        return {"pattern": _TEXTS_FROM[limits.minimum]}
    numbers = _stated(limits, minimum="minimum", maximum="maximum")
    return {**lengths, **numbers, **_FORMATS.get(limits.format, {})}


def _stated(limits: options_pb2.Limits, **keywords: str) -> Schema:
    """Return those of some limits that are stated, by the keywords of JSON Schema."""
    return {
        keyword: round(getattr(limits, name))
        for keyword, name in keywords.items()
        if limits.HasField(name)  # type: ignore[arg-type]  # any name of a field will do
    }


def _described(comment: str, schema: Schema) -> Schema:
    return {**schema, "description": comment} if comment else schema
