"""Rates such as 10/minute, as an operator writes them.

The package `limits` reads them too, but takes a twentieth of a start to load. Its `parse` takes the
first of several rates and drops the others, and both it and `parse_many` take 0 minutes as one.
"""

import re
from dataclasses import dataclass
from typing import Final

_SECONDS: Final = {
    "second": 1,
    "minute": 60,
    "hour": 60 * 60,
    "day": 24 * 60 * 60,
}
_WRITTEN: Final = re.compile(
    r"\s*([0-9]{1,9})\s*(?:/|per)\s*([0-9]{1,9})?\s*([a-z]+?)s?\s*", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many calls in so many of a unit of time."""

    amount: int
    multiple: int
    unit: str
    """`second`, `minute`, `hour` or `day`."""

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read a rate such as `10/minute` or `100 per 5 minutes`; raises ValueError for others."""
        written = _WRITTEN.fullmatch(text)
        if written is None or written[3].lower() not in _SECONDS:
            raise ValueError(f"not a rate: {text!r}")
        return cls(amount=int(written[1]), multiple=int(written[2] or 1), unit=written[3].lower())

    @property
    def seconds(self) -> int:
        """How long its window is."""
        return self.multiple * _SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.amount} per {self.multiple} {self.unit}"
