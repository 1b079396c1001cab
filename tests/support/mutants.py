"""Mutants of the rule: SQL as the services would send it if one clause of the rule was wrong."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final
from unittest.mock import patch

from feed_service.graph_client import GraphClient
from tests.support.pair import Pair
from tests.support.wire import WireTap


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One clause that is wrong in the statements of a service, wherever it is in them."""

    name: str
    service: str
    pattern: str
    replacement: str

    def __str__(self) -> str:
        return self.name

    def applied(self, pair: Pair) -> AbstractContextManager[None]:
        """Let a pair send the wrong statements to the primary, as `applied_to` does."""
        return self.applied_to([pair.feed_tap if self.service == "feed" else pair.graph_tap])

    @contextmanager
    def applied_to(self, taps: Sequence[WireTap]) -> Iterator[None]:
        """Let servers get the wrong statements. Fails if they get none with the clause."""
        pattern, number = re.compile(self.pattern), 0

        def rewrite(statements: str) -> str:
            nonlocal number
            statements, found = pattern.subn(self.replacement, statements)
            number += found
            return statements

        _rewrite(taps, rewrite)
        try:
            yield
        finally:
            _rewrite(taps, None)
        assert number, "no statement has the clause"


def _rewrite(taps: Sequence[WireTap], rewritten: Callable[[str], str] | None) -> None:
    for tap in taps:
        tap.rewritten = rewritten
        # Statements are prepared once for each session.
        tap.break_connections()


def _mutant(name: str, pattern: str, replacement: str, *, service: str = "feed") -> Mutant:
    return Mutant(name=name, service=service, pattern=pattern, replacement=replacement)


MUTANTS: Final = (
    _mutant(
        "deleted posts are shown",
        r"WHEN p\.deleted_at IS NOT NULL THEN 'deleted'|p\.deleted_at IS NULL AND(?= CASE)",
        "",
    ),
    _mutant("moderated posts are shown", r"THEN 'moderated'", "THEN 'audience_all'"),
    _mutant("strangers see posts", r"THEN 'not_connected'", "THEN 'audience_all'"),
    _mutant("connections see no post for all", r"THEN 'audience_all'", "THEN 'no_tag'"),
    _mutant("private posts are shown", r"THEN 'private'", "THEN 'audience_all'"),
    _mutant("exclusions are ignored", r"AND audience\.excluded OFFSET", "AND false OFFSET"),
    _mutant("tags are not needed", r"ELSE 'no_tag'", "ELSE 'has_tag'"),
    _mutant("tags do not suffice", r"THEN 'has_tag'", "THEN 'no_tag'"),
    _mutant(
        "tags outlive their connection",
        r"given\.owner_revision > coalesce\(",
        "-1 < coalesce(",
    ),
    _mutant("the author does not see their own", r"THEN 'author'", "THEN 'no_tag'"),
    _mutant("mutes are ignored", r"tag\.muted_until > now\(\)", "false"),
    _mutant("deleted comments are shown", r"\bc\.deleted_at IS NULL", "true"),
    _mutant("hidden comments are shown", r"NOT (c|parent)\.hidden", "true"),
    _mutant("moderated comments are shown", r"(c|parent)\.moderated_at IS NULL", "true"),
    _mutant(
        "comments by people with a block are shown",
        r"(c|parent)\.author_id <> ALL",
        "0 <> ALL",
    ),
    _mutant(
        "requests count as connections",
        r"status = 'accepted'",
        "status <> 'withheld'",
        service="graph",
    ),
    _mutant(
        "suspended people are in sight",
        r"FROM suspensions WHERE user_id",
        "FROM suspensions WHERE -user_id",
        service="graph",
    ),
)


@contextmanager
def believing_the_cache() -> Iterator[None]:
    """Let feed_service show what it has cached of connections, without asking whether it is so."""
    with (
        patch.object(GraphClient, "current", _believed),
        patch.object(
            GraphClient, "current_all", lambda _self, known, **_said: (known, frozenset())
        ),
    ):
        yield


def _believed(_self: GraphClient, known: object, **_said: object) -> tuple[object, frozenset[int]]:
    return known, frozenset()
