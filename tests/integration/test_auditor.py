"""The auditor compares what feed_service answers with the plain rule, and tells what is wrong."""

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from feed_service.auditor.metrics import AGREED, UNSETTLED, VIOLATED
from feed_service.auditor.primaries import SUSPENSION_SECONDS
from feed_service.auditor.rule import Clause
from tests.support.auditing import Audit, auditing, viewer_of_everything
from tests.support.mutants import MUTANTS, Mutant
from tests.support.pair import Pair
from tests.support.people import People
from tests.support.random_changes import RandomChanges

_ROUNDS = int(os.environ.get("KITH_AUDIT_ROUNDS", "4"))

pytestmark = pytest.mark.usefixtures("single_node")


@pytest.fixture(scope="module")
def viewer(pair: Pair) -> int:
    """A viewer of something that each clause decides."""
    return viewer_of_everything(pair)


@pytest.fixture(scope="module")
def audit(pair: Pair) -> Iterator[Audit]:
    """An auditor."""
    with auditing(pair) as audit:
        yield audit


def test_what_the_rule_says_is_no_violation(audit: Audit, viewer: int) -> None:
    decided = audit.rounds.round_of(viewer)

    assert {decision.outcome for decision in decided} == {AGREED}
    assert {decision.clause for decision in decided} >= {
        *Clause,
    } - {
        Clause.NO_SUCH_POST,
        Clause.NO_SUCH_COMMENT,
        Clause.COMMENTER_SUSPENDED,
        Clause.VIEWER_SUSPENDED,
    }


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_clause_that_is_wrong_is_noticed(
    pair: Pair, people: People, audit: Audit, viewer: int, mutant: Mutant
) -> None:
    with mutant.applied(pair):
        # What is cached was answered before the mutant.
        people.connect(viewer, *people.new(1))
        found = audit.violations(viewer)

    assert found


def test_writers_beside_it_cause_no_false_alarm(pair: Pair) -> None:
    pick = random.Random(2)
    ids = People(pair).new(6)
    writers = [RandomChanges(pair, ids, random.Random(seed)) for seed in (3, 4)]
    writers[0].begin()
    for shared in ("posts", "comments", "tags"):
        setattr(writers[1], shared, getattr(writers[0], shared))
    stopping = threading.Event()

    def write(changes: RandomChanges) -> None:
        while not stopping.is_set():
            changes.change()

    with (
        auditing(pair, suspension_seconds=SUSPENSION_SECONDS) as audit,
        ThreadPoolExecutor(len(writers)) as threads,
    ):
        writing = [threads.submit(write, changes) for changes in writers]
        try:
            decided = [
                decision
                for _ in range(_ROUNDS)
                for decision in audit.rounds.round_of(pick.choice(ids))
            ]
        finally:
            stopping.set()
        for each in writing:
            each.result()

    outcomes = Counter(decision.outcome for decision in decided)
    assert not outcomes[VIOLATED]
    assert outcomes[AGREED] > outcomes[UNSETTLED]
