"""Statements that are sent in one message."""

from functools import cache

from sqlalchemy import TextClause, text


@cache
def message(*statements: str) -> TextClause:
    """Statements that travel together; what comes back are the rows of the last."""
    return text(";".join(statements))
