"""The long proof, for a moment: it finds nothing, and it finds what is wrong."""

import random
from collections.abc import Iterator

import pytest

from feed_service.auditor.primaries import SUSPENSION_SECONDS
from tests.proof.sweeps import Sweeps
from tests.proof.walks import Walks
from tests.support.auditing import Audit, auditing
from tests.support.mutants import MUTANTS, Mutant
from tests.support.pair import Pair

pytestmark = pytest.mark.usefixtures("single_node")

_PRIVATE_IN_FEEDS = Mutant(
    name="private posts are in feeds",
    service="feed",
    pattern=r"p\.audience (= 'all'|IN \([^)]*\)) AND",
    replacement="",
)


@pytest.fixture
def audit(pair: Pair) -> Iterator[Audit]:
    """The auditor's reads."""
    with auditing(pair, suspension_seconds=SUSPENSION_SECONDS) as audit:
        yield audit


def test_a_sweep_decides_about_everything_and_finds_a_wrong_clause(
    pair: Pair, audit: Audit
) -> None:
    sweeps = Sweeps(pair, audit.primaries, random.Random(1), people=5, first_changes=40)

    decided, wrong = sweeps.sweep()
    assert decided > 50
    assert not wrong

    [mutant] = [each for each in MUTANTS if each.name == "strangers see posts"]
    with mutant.applied(pair):
        assert sweeps.sweep()[1]


def test_walks_beside_changes_find_nothing_and_then_what_is_wrong(pair: Pair, audit: Audit) -> None:
    walks = Walks(pair, audit.primaries, random.Random(1), people=4, first_changes=90)

    walked, wrong = walks.walk()
    assert walked
    assert not wrong

    with _PRIVATE_IN_FEEDS.applied(pair):
        assert walks.walk()[1]
