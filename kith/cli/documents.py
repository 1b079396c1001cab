"""The document of one person: what `kith export user` writes and `kith import user` reads.

It is JSON Lines in UTF-8. The first line names the format and the person, the last one says how
many lines are between them, so that a document that was cut off is noticed. Every other line is an
object with one member: its name is the section, its value one item in the JSON of the contracts.
docs/moving.md describes the sections.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kith.cli.arguments import LARGEST_ID
from kith.cli.files import Input
from kith.cli.terminal import CommandError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

FORMAT: Final = 1
"""The version of the format. A reader refuses one that it does not know."""

_HEAD: Final = "kith"
_END: Final = "end"
CURSOR: Final = "cursor"
"""What answers have beside their sections, to resume the stream."""

_ITEMS: Final[Mapping[str, type[Message]]] = {
    "connections": graph_pb2.Connection,
    "tags": feed_pb2.Tag,
    "tagged_users": feed_pb2.ExportUserResponse.TaggedUser,
    "posts": feed_pb2.Post,
    "comments": feed_pb2.Comment,
    "read_time": Timestamp,
    "frozen_digests": feed_pb2.ExportUserResponse.FrozenDigest,
    "digest_subscription": feed_pb2.DigestSubscription,
}


class Writer:
    """Writes a document, line by line."""

    def __init__(self, out: TextIO, *, user_id: int) -> None:
        self._out = out
        self._lines = 0
        self._write(_HEAD, json.dumps({"format": FORMAT, "userId": str(user_id)}))

    def add(self, answer: Message) -> None:
        """Write all items of one answer of an export."""
        for section, value in answer.ListFields():
            if section.name == CURSOR:
                continue
            for item in value if section.is_repeated else [value]:
                self._write(section.name, MessageToJson(item, indent=None, ensure_ascii=False))
                self._lines += 1

    def end(self) -> None:
        """Write the last line, which makes the document complete."""
        self._write(_END, json.dumps({"lines": self._lines}))

    def _write(self, name: str, value: str) -> None:
        self._out.write(f'{{"{name}": {value}}}\n')


@dataclass(frozen=True, kw_only=True)
class Row:
    """One item of a document, with the line on which it is."""

    line: int
    section: str
    item: Message


class Document:
    """A document that is read once, from its beginning to its end."""

    def __init__(self, source: Input) -> None:
        """Read the first line. Raises CommandError when it is not that of a document."""
        self._lines = enumerate(source.lines(), 1)
        number, line = next(self._lines, (1, ""))
        name, value = _member(number, line)
        if name != _HEAD or not isinstance(value, dict):
            raise CommandError("line 1 is not the beginning of an export of a person")
        if value.get("format") != FORMAT:
            raise CommandError(
                f"the document has format {value.get('format')!r}; this version knows {FORMAT}"
            )
        self.user_id: int = _user_id(value.get("userId"))

    def rows(self) -> Iterator[Row]:
        """Yield the items. Raises CommandError for a line that is none, and for a missing end."""
        for number, line in self._lines:
            name, value = _member(number, line)
            if name == _END:
                self._check_end(number, value)
                return
            yield Row(line=number, section=name, item=_item(number, name, value))
        raise CommandError("the document has no last line; it was cut off")

    def _check_end(self, number: int, value: object) -> None:
        # Between the first line and this one.
        if value != {"lines": number - 2}:
            raise CommandError(f"line {number}: the document lacks lines, or has too many")
        if next(self._lines, None) is not None:
            raise CommandError(f"line {number} is the last one of the document, but more follow")


def _member(number: int, line: str) -> tuple[str, Any]:
    """Return the only member of the object on a line."""
    try:
        found = json.loads(line)
        [(name, value)] = found.items()
    except (ValueError, AttributeError, RecursionError):
        raise CommandError(f"line {number} is not a JSON object with one member") from None
    return name, value


def _item(number: int, section: str, value: Any) -> Message:
    if section not in _ITEMS:
        raise CommandError(f"line {number}: this version knows no section {section[:50]!r}")
    try:
        return ParseDict(value, _ITEMS[section]())
    except ParseError as error:
        raise CommandError(f"line {number} is not valid: {str(error)[:200]}") from error


def _user_id(value: object) -> int:
    if not isinstance(value, str) or not value.isdecimal() or not 0 < int(value) <= LARGEST_ID:
        raise CommandError("line 1 names no person")
    return int(value)
