"""Search the protocol with much at once, and print how each rule is needed: `make model`."""

import sys
from typing import Final

from tests.models.fences.machine import check
from tests.models.fences.rules import (
    COPIES,
    FORGETTING,
    GRAPH_LOSSES,
    KEEPER_LOSSES,
    LOST_REGISTRATIONS,
    PAIR,
    TURNOVER,
    Rule,
    Scope,
)

_WIDE: Final = (
    Scope(turnover=True, previous_version=True, transactions=3, open_fences=3),
    Scope(turnover=True, forgetting=True, transactions=3, open_fences=3),
    Scope(turnover=True, forgetting=True, keeper_losses=True),
    Scope(turnover=True, graph_losses=True),
    Scope(turnover=True, copies=True, open_fences=3),
    Scope(copies=True, graph_losses=True),
    Scope(copies=True, keeper_losses=True),
    Scope(turnover=True, keeper_losses=True, graph_losses=True, transactions=1, open_fences=1),
)
_NARROW: Final = (
    PAIR,
    TURNOVER,
    FORGETTING,
    KEEPER_LOSSES,
    GRAPH_LOSSES,
    LOST_REGISTRATIONS,
    COPIES,
)


def main() -> int:
    """Return 0 if the promise is kept with all rules, and not without any of them."""
    failures = 0
    for scope in _WIDE:
        found = check(scope)
        _print(f"{scope}\n  {found}")
        failures += found.steps is not None
    for rule in Rule:
        broken = (found for scope in _NARROW if (found := check(scope, without=rule)).steps)
        found_without = next(broken, None)
        _print(f"without: {rule.value}\n  {found_without or 'kept, so the rule is not needed'}")
        failures += found_without is None
    return min(failures, 1)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
