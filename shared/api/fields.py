"""Readers for request fields: each returns the value and notes what is wrong with it.

    with Fields() as fields:
        viewer_id = fields.identifier("user_id", request.user_id)
        body = fields.text("body", request.body, max_length=10_000)

Leaving the block raises one ValidationError that names every offending field with its limit. Until
then the values may be invalid, so a block only reads.
"""

import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kith.exceptions import FieldViolation, ValidationError

# The category Cc of Unicode, which will never have other members, without newline and tab.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# uuid.UUID takes more than that, such as hyphens anywhere and digits of other scripts.
_DIGITS = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}"
_UUID = re.compile(rf"(?:urn:uuid:)?(?:{_DIGITS})|\{{(?:{_DIGITS})\}}", re.ASCII | re.IGNORECASE)

K = TypeVar("K", bound=int)
T = TypeVar("T")


class Fields:
    """Collects the violations of one request."""

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None and self._violations:
            raise ValidationError.of_all(self._violations)

    def reject(self, field: str, description: str) -> None:
        """Note that a field is wrong."""
        self._violations.append(FieldViolation(field=field, description=description))

    def identifier(self, field: str, value: int) -> int:
        """Read an id: a positive integer."""
        if value <= 0:
            self.reject(field, "must be a positive integer")
        return value

    def identifiers(
        self,
        field: str,
        values: Sequence[int],
        *,
        min_items: int = 0,
        max_items: int,
        within: str = "",
    ) -> list[int]:
        """Read a list of ids: positive, none twice, within the given number of items.

        `within` is where the id is in an item that is a message, such as `.user_id`.
        """
        count = len(values)
        self.count(field, count, min_items=min_items, max_items=max_items)
        if not 0 < count <= max_items:
            return []
        seen = set[int]()
        for index, value in enumerate(values):
            if value <= 0:
                self.reject(f"{field}[{index}]{within}", "must be a positive integer")
            elif value in seen:
                self.reject(f"{field}[{index}]", "must not be given twice")
            seen.add(value)
        return list(values)

    def count(self, field: str, count: int, *, min_items: int, max_items: int) -> None:
        """Check the number of items of a list."""
        if count < min_items:
            self.reject(field, f"must have at least {min_items} item(s)")
        elif count > max_items:
            self.reject(field, f"must have at most {max_items:,} items; has {count:,}")

    def other(self, field: str, value: int, *, than: int) -> int:
        """Read the id of another user."""
        if value == than > 0:
            self.reject(field, "must not be the user")
        return self.identifier(field, value)

    def text(self, field: str, value: str, *, max_length: int, may_be_empty: bool = False) -> str:
        """Read a text of 1 to `max_length` characters that says something, or an empty one.

        Only white space is refused, and so are control characters other than newline and tab.
        """
        if may_be_empty and not value:
            return value
        if len(value) > max_length:
            self.reject(field, f"must have at most {max_length:,} characters; has {len(value):,}")
        elif not value.strip():
            self.reject(field, "must not be empty or only white space")
        elif _FORBIDDEN.search(value):
            self.reject(field, "must not contain control characters other than newline and tab")
        return value

    def texts(
        self, field: str, values: Sequence[str], *, max_items: int, max_length: int
    ) -> list[str]:
        """Read a list of texts, none twice, within the given number of items."""
        if not values:
            return []
        self.count(field, len(values), min_items=0, max_items=max_items)
        seen = set[str]()
        for index, value in enumerate(values[:max_items]):
            self.text(f"{field}[{index}]", value, max_length=max_length)
            if value in seen:
                self.reject(f"{field}[{index}]", "must not be given twice")
            seen.add(value)
        return list(values)

    def text_map(
        self, field: str, values: Mapping[str, str], *, max_bytes: int
    ) -> Mapping[str, str]:
        """Read a map of texts, whose names and values have at most `max_bytes` bytes in UTF-8.

        Names are not empty. The description names none of them, for they are the caller's texts.
        """
        if not values:
            return {}
        size = sum(len(name.encode()) + len(value.encode()) for name, value in values.items())
        if size > max_bytes:
            self.reject(field, f"must have at most {max_bytes:,} bytes in all; has {size:,}")
        elif "" in values:
            self.reject(field, "must not have an empty name")
        elif any(_FORBIDDEN.search(text) for item in values.items() for text in item):
            self.reject(field, "must not contain control characters other than newline and tab")
        return values

    def number(self, field: str, value: float, *, maximum: float) -> float:
        """Read a number from 0 to a maximum."""
        if not 0 <= value <= maximum:
            self.reject(field, f"must be from 0 to {maximum:g}")
        return value

    def own(self, field: str, value: int, *, user_id: int) -> None:
        """Check an id that may be left out, and otherwise must be the user's."""
        if value not in (0, user_id):
            self.reject(field, "must be the user, or be left out")

    def page_size(self, field: str, value: int, *, default: int, maximum: int) -> int:
        """Read a page size as AIP-158 says: 0 is the default, too large is coerced."""
        if value < 0:
            self.reject(field, "must not be negative")
        return min(value, maximum) or default

    def choice(self, field: str, value: K, *, choices: Mapping[K, T]) -> T:
        """Read an enum value that must be given and known."""
        if value not in choices:
            self.reject(field, "must be given" if value == 0 else f"has no value {value}")
            return next(iter(choices.values()))
        return choices[value]

    def choices(
        self, field: str, values: Sequence[K], *, choices: Mapping[K, T], max_items: int
    ) -> list[T]:
        """Read a list of known enum values, none twice, within the given number of items."""
        self.count(field, len(values), min_items=0, max_items=max_items)
        seen = set[K]()
        for index, value in enumerate(values[:max_items]):
            if value in seen:
                self.reject(f"{field}[{index}]", "must not be given twice")
            seen.add(value)
        return [
            self.choice(f"{field}[{index}]", value, choices=choices)
            for index, value in enumerate(values[:max_items])
        ]

    def past(self, field: str, value: Timestamp, *, now: datetime) -> datetime:
        """Read a time that must be valid, not before the year 1 and not in the future."""
        moment = self.moment(field, value)
        if moment is None:
            return now
        if moment > now:
            self.reject(field, "must not be in the future")
        return moment

    def moment(self, field: str, value: Timestamp) -> datetime | None:
        """Read a time that must be valid: not before the year 1 and not after the year 9999."""
        try:
            return value.ToDatetime(UTC)
        except (ValueError, OverflowError):
            self.reject(field, "must be a valid time")
            return None

    def future(self, field: str, value: Timestamp, *, most: timedelta) -> datetime | None:
        """Read a time that must be valid, in the future, and at most so far ahead."""
        moment, now = self.moment(field, value), datetime.now(UTC)
        if moment is not None and not now < moment <= now + most:
            self.reject(field, f"must be in the future, at most {most.days:,} days ahead")
        return moment

    def request_id(self, field: str, value: str) -> uuid.UUID | None:
        """Read an optional UUID, of which all spellings are the same."""
        if not value:
            return None
        if not _UUID.fullmatch(value):
            self.reject(field, "must be a UUID")
            return None
        return uuid.UUID(value)

    def required_uuid(self, field: str, value: str) -> uuid.UUID:
        """Read a UUID that must be given, of which all spellings are the same."""
        read = self.request_id(field, value)
        if not value:
            self.reject(field, "must be given")
        return read or uuid.UUID(int=0)

    def update_mask(
        self, field: str, paths: Sequence[str], *, allowed: Collection[str], resource: Message
    ) -> set[str]:
        """Read a field mask as AIP-134 says: without paths it is the fields that are not empty.

        `*` means all that may be updated.
        """
        if not paths:
            populated = {each.name for each, _ in resource.ListFields()} & {*allowed}
            if not populated:
                self.reject(field, "must be given if there is no value to change")
            return populated
        for path in paths:
            if path != "*" and path not in allowed:
                self.reject(field, f"must name only {', '.join(sorted(allowed))} or *")
        return set(allowed) if "*" in paths else set(paths)
