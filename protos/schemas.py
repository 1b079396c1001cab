"""The messages and enums of the contracts as JSON schemas, with their comments."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from kith.options.v1 import options_pb2

Schema: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[int, ...]

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
# What JSON Schema can say of a format. A UUID may have other spellings besides.
_FORMATS: Final[Mapping[int, Schema]] = {
    options_pb2.FORMAT_TEXT: {"pattern": f"^({_ALLOWED}*{_SOLID}{_ALLOWED}*)?$"},
    options_pb2.FORMAT_NAME: {"pattern": f"^({_SOLID}({_ALLOWED}*{_SOLID})?)?$"},
    options_pb2.FORMAT_UUID: {"format": "uuid"},
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
        for number, value in enumerate(self.descriptor.value):
            name = value.name.removeprefix(prefix)
            yield f"- `{name}`: {self.comments.get((_VALUES, number), '')}"


@dataclasses.dataclass
class Schemas:
    """The schemas that have been needed so far, of everything that is named."""

    named: Mapping[str, Commented]
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
                else self.message(type_name, without=())
            )
        return {"$ref": f"#/components/schemas/{told.name}"}

    def message(self, type_name: str, *, without: Sequence[str]) -> Schema:
        """Return the schema of a message, but for some fields."""
        properties = {
            field.json_name: self.value(field, comment)
            for field, comment in self.fields(type_name)
            if field.name not in without
        }
        schema = _described(self.named[type_name].comments.get((), ""), {"type": "object"})
        return {**schema, "properties": properties} if properties else schema

    def value(self, field: FieldDescriptorProto, comment: str) -> Schema:
        """Return the schema of a field."""
        limits = field.options.Extensions[options_pb2.limits]
        # JSON Schema counts no bytes.
        size = _stated(limits, **{"x-max-bytes": "max_bytes"})
        schema = {**self.single(field), **_limits_of_one(field, limits), **size}
        if field.label == FieldDescriptorProto.LABEL_REPEATED and not self.is_map(field):
            numbers = _stated(limits, minItems="min_items", maxItems="max_items")
            schema = {"type": "array", "items": schema, **numbers}
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
