"""The protocol of fences in every order of its steps, and without each of its rules.

`make model` searches with more at once.
"""

from typing import Final

import pytest

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

_NEEDED_FOR: Final = {
    **dict.fromkeys(
        (
            Rule.HISTORY_IN_STAMP,
            Rule.HISTORY_OF_STATEMENT,
            Rule.ANSWER_NAMES_HISTORY,
            Rule.KEEPER_LOSS_SHOWS,
            Rule.GRAPH_KNOWS_KEEPER_LOSS,
        ),
        KEEPER_LOSSES,
    ),
    **dict.fromkeys((Rule.GRAPH_LOSS_SHOWS, Rule.REAPER_KNOWS_HISTORY), GRAPH_LOSSES),
    **dict.fromkeys(
        (
            Rule.KEEPERS_AFTER_LOCK,
            Rule.REGISTRATION_WAITS,
            Rule.RETIREMENT_FENCES,
            Rule.RETIREMENT_CLOSES_LAST,
            Rule.PREVIOUS_VERSION_REFUSED,
            Rule.PREVIOUS_VERSION_LOOKS_AFTER_LOCK,
        ),
        TURNOVER,
    ),
    **dict.fromkeys((Rule.CLAIM_SHOWS, Rule.CLAIM_IS_NEW, Rule.REAPER_HAS_CLAIM), COPIES),
    **dict.fromkeys((Rule.SHARED_AFTER_ANSWER, Rule.REGISTRATION_FENCES), FORGETTING),
    Rule.SETTING_BEFORE_CHANGES: LOST_REGISTRATIONS,
}
"""What has to be possible for a rule to be needed; the others are needed always."""


@pytest.mark.parametrize(
    "scope",
    [PAIR, TURNOVER, FORGETTING, KEEPER_LOSSES, GRAPH_LOSSES, LOST_REGISTRATIONS, COPIES],
    ids=str,
)
def test_a_read_without_a_call_is_answered_by_the_connections_of_its_moment(scope: Scope) -> None:
    found = check(scope)

    assert found.steps is None, found
    # All of them, not only some that came first.
    assert found.states > 400


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name)
def test_without_a_rule_some_read_is_answered_by_other_connections(rule: Rule) -> None:
    found = check(_NEEDED_FOR.get(rule, PAIR), without=rule)

    assert found.steps is not None, rule.value


def test_a_lost_registration_is_not_seen_by_the_previous_version() -> None:
    """A known limit, for which docs/decisions/fences.md says in which order to upgrade."""
    scope = Scope(
        turnover=True, previous_version=True, graph_losses=True, transactions=1, open_fences=1
    )

    assert check(scope).steps is not None
