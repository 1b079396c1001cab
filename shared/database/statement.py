"""Statements that are prepared once for each session and then executed with their plan."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import NoneType
from typing import Any, Final

Rows = list[tuple[Any, ...]]

# The parameters of these statements say little about how many rows there are, and where they would,
# as with the length of an array, a plan for all lengths is wanted.
GENERIC_PLANS: Final = "-c plan_cache_mode=force_generic_plan"
"""The option of a session that prepares statements; it says nothing about other statements."""

SPAN: Final = {"db.system.name": "postgresql"}
"""The attributes of a statement's span. Neither texts nor values are among them."""


def _by_the_driver(_value: object) -> None: ...


def _text(value: str) -> str | None:
    # How these are written depends on the settings of the session.
    if not value.isascii() or "'" in value or "\\" in value or "\0" in value:
        return None
    return f"'{value}'"


def _moment(value: datetime) -> str | None:
    return None if value.tzinfo is None else f"'{value.isoformat()}'::timestamptz"


_WRITERS: Final[Mapping[type, Callable[[Any], str | None]]] = {
    int: str,
    bool: lambda value: "true" if value else "false",
    str: _text,
    datetime: _moment,
    NoneType: lambda _: "NULL",
}

_NAMED: Final = re.compile(r"(?<![:\w]):(\w+)")


class Statement:
    """A statement with parameters written as :name; what they are PostgreSQL finds in the text."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._names = names = list(dict.fromkeys(_NAMED.findall(text)))
        numbered = _NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", text)
        arguments = ", ".join(f"%({parameter})s" for parameter in names)
        self.plain = _NAMED.sub(r"%(\1)s", text.replace("%", "%%"))
        self.execute = f"EXECUTE {name} ({arguments})" if names else f"EXECUTE {name}"
        self.preparation = f"PREPARE {name} AS {numbered}"
        """For a message without parameters, in which psycopg2 does not look for any."""
        self.prepare = self.preparation.replace("%", "%%")
        self._text = text
        self._with = dict[str, Statement]()

    def execution(self, parameters: Mapping[str, object]) -> str | None:
        """Return EXECUTE with its parameters; None if one of them is for the driver to write.

        Most parameters are numbers, moments and array literals, for which the driver takes longer.
        """
        literals = list[str]()
        for name in self._names:
            value = parameters[name]
            write = _WRITERS.get(type(value), _by_the_driver)
            if (literal := write(value)) is None:
                return None
            literals.append(literal)
        return f"EXECUTE {self.name} ({', '.join(literals)})" if literals else self.execute

    def beside(self, query: str) -> "Statement":
        """Return the statement that tells in each row also what a query says, and a marker.

        There is at least one row; in one that stands for no row the marker is NULL. The rows keep
        their order: of such a join, PostgreSQL makes a loop over the query's one row.
        """
        if query not in self._with:
            text = f"""
                SELECT beside.*, found.*
                FROM ({query}) AS beside
                LEFT JOIN (SELECT true, answer.* FROM ({self._text}) AS answer OFFSET 0) AS found
                  ON true"""  # noqa: S608 -- both are texts of statements
            self._with[query] = Statement(f"{self.name}_beside", text)
        return self._with[query]
