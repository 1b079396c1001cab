"""Statements that are prepared once for each session and then executed with their plan."""

import re
from typing import Any, Final

Rows = list[tuple[Any, ...]]

# The parameters of these statements say little about how many rows there are, and where they would,
# as with the length of an array, a plan for all lengths is wanted.
GENERIC_PLANS: Final = "-c plan_cache_mode=force_generic_plan"
"""The option of a session that prepares statements; it says nothing about other statements."""

SPAN: Final = {"db.system.name": "postgresql"}
"""The attributes of a statement's span. Neither texts nor values are among them."""

_NAMED: Final = re.compile(r"(?<![:\w]):(\w+)")


class Statement:
    """A statement with parameters written as :name; what they are PostgreSQL finds in the text."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        names = list(dict.fromkeys(_NAMED.findall(text)))
        numbered = _NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", text)
        arguments = ", ".join(f"%({parameter})s" for parameter in names)
        self.plain = _NAMED.sub(r"%(\1)s", text.replace("%", "%%"))
        self.execute = f"EXECUTE {name} ({arguments})" if names else f"EXECUTE {name}"
        self.preparation = f"PREPARE {name} AS {numbered}"
        """For a message without parameters, in which psycopg2 does not look for any."""
        self.prepare = self.preparation.replace("%", "%%")
        self._text = text
        self._with = dict[str, Statement]()

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
