"""The auditor compares what feed_service answers with the plain rule, and tells what is wrong."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2.errors import InsufficientPrivilege

from feed_service.auditor.__main__ import RunningAuditor
from feed_service.auditor.decisions import decisions
from feed_service.auditor.items import Item
from feed_service.auditor.metrics import AGREED, SHOWN, UNSETTLED, VIOLATED
from feed_service.auditor.replays import Answer
from feed_service.auditor.rule import Clause
from feed_service.auditor.settings import AuditorSettings
from kith.environment import SettingsError
from kith.feed.v1 import feed_pb2 as feed
from tests.support import programs
from tests.support.auditing import (
    Audit,
    auditing,
    decided_beside_writers,
    viewer_of_everything,
)
from tests.support.mutants import MUTANTS, Mutant, believing_the_cache
from tests.support.pair import Pair
from tests.support.people import People, tagged
from tests.support.processes import Session, is_ready, until
from tests.support.roles import make_auditor

_ROUNDS = int(os.environ.get("KITH_AUDIT_ROUNDS", "4"))

# At the usual rate.
_A_MINUTES_DECISIONS = 60 * 50

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


def test_what_the_rule_says_is_no_violation(pair: Pair, audit: Audit) -> None:
    # With as few connections as a round looks at; that of the other tests gets more.
    viewer = viewer_of_everything(pair)

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
    # What is cached was answered by the mutant, and would be a violation in the tests that follow.
    people.connect(viewer, *people.new(1))

    assert found


def test_writers_beside_it_cause_no_false_alarm(pair: Pair) -> None:
    decided = decided_beside_writers(pair, rounds=_ROUNDS)

    outcomes = Counter(decision.outcome for decision in decided)
    assert not outcomes[VIOLATED]
    assert outcomes[AGREED] > outcomes[UNSETTLED]


def test_connections_that_are_shown_from_a_cache_without_a_question_are_noticed(
    pair: Pair, people: People, audit: Audit
) -> None:
    viewer_id, author_id = people.connected(2)
    post = feed.PostName(author_id=author_id, post_id=people.post(author_id))
    with believing_the_cache():
        # What is cached then has the blocks too, which every call makes do with.
        pair.feed.ListComments(feed.ListCommentsRequest(user_id=viewer_id, post=post))
        people.remove(viewer_id, author_id)
        found = audit.violations(viewer_id)

    assert {(each.kind, each.clause) for each in found} == {(SHOWN, Clause.NOT_CONNECTED)}


def test_what_changes_and_comes_back_during_a_call_is_unsettled(
    people: People, audit: Audit
) -> None:
    viewer_id, author_id = people.connected(2)
    tag_id = people.tag(author_id, "one")
    item = Item(author_id, people.post(author_id, tagged(tag_id)))
    before = audit.primaries.facts(viewer_id, [item])
    people.give(author_id, tag_id, viewer_id)
    people.take(author_id, tag_id, viewer_id)
    after = audit.primaries.facts(viewer_id, [item])

    answer = Answer(request_id="", shown=frozenset({item}), asked=frozenset({item}))
    [decision] = decisions(answer, before, after)

    assert after.posts[item].tags[0].given_at is None
    assert decision.outcome == UNSETTLED


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("feed", "SELECT body FROM posts"),
        ("feed", "SELECT body FROM comments"),
        ("feed", "SELECT name FROM tags"),
        ("feed", "SELECT attributes FROM posts"),
        ("feed", "SELECT * FROM idempotency_keys"),
        ("feed", "DELETE FROM posts"),
        ("feed", "SELECT id FROM posts FOR UPDATE"),
        ("graph", "SELECT reason FROM suspensions"),
        ("graph", "UPDATE users SET revision = 0"),
    ],
)
def test_a_stolen_role_of_the_auditor_reads_no_text_and_changes_nothing(
    pair: Pair, service: str, statement: str
) -> None:
    url = pair.feed_url if service == "feed" else pair.graph_url
    with Session(make_auditor(service, url)) as session:
        session.rows("SET TRANSACTION READ WRITE")
        with pytest.raises(InsufficientPrivilege):
            session.rows(statement)


@pytest.fixture
def running(pair: Pair) -> Iterator[RunningAuditor]:
    """An auditor as a process runs it, that never rests."""
    settings = AuditorSettings.read(
        {
            "AUDITOR_PORT": "0",
            "AUDITOR_METRICS_PORT": "0",
            "AUDITOR_DECISIONS_PER_SECOND": "100000",
            "DRAIN_SECONDS": "0",
            "FEED_TARGET": pair.feed_server.address,
        }
    )
    auditor = RunningAuditor(
        settings,
        graph_url=make_auditor("graph", pair.graph_url),
        feed_url=make_auditor("feed", pair.feed_url),
    )
    yield auditor
    auditor.stop()


def _value(auditor: RunningAuditor, name: str, **labels: str) -> float:
    """Return the sum of those series of a metric that have some labels."""
    return sum(
        sample.value
        for metric in auditor.registry.collect()
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.mark.usefixtures("viewer")
def test_a_running_auditor_finds_a_wrong_clause_among_a_minutes_decisions_and_logs_the_evidence(
    pair: Pair, running: RunningAuditor, caplog: pytest.LogCaptureFixture
) -> None:
    until(lambda: _value(running, "privacy_decisions_total", outcome=AGREED) > 0)
    assert not _value(running, "privacy_violations_total")
    made = _value(running, "privacy_decisions_total")
    [mutant] = [each for each in MUTANTS if each.name == "private posts are shown"]
    with mutant.applied(pair):
        until(lambda: _value(running, "privacy_violations_total", kind=SHOWN) > 0)
        decided = _value(running, "privacy_decisions_total") - made

    assert decided <= _A_MINUTES_DECISIONS
    evidence = vars(next(each for each in caplog.records if each.message == "privacy violation"))
    assert evidence["clause"] == Clause.PRIVATE
    assert evidence["audited_request_id"].startswith("audit-")
    assert not [value for value in evidence.values() if "hello" in str(value)]


def test_a_running_auditor_is_ready_while_it_reaches_databases_and_service(
    running: RunningAuditor,
) -> None:
    until(lambda: is_ready(running.address))
    assert _value(running, "readiness_check_passing") == 3


def test_its_process_says_what_it_does_and_ends_when_told(pair: Pair, tmp_path: Path) -> None:
    log = tmp_path / "auditor.log"
    environment = {
        **os.environ,
        "GRAPH_DATABASE_URL": make_auditor("graph", pair.graph_url),
        "FEED_DATABASE_URL": make_auditor("feed", pair.feed_url),
        "FEED_TARGET": pair.feed_server.address,
        "AUDITOR_PORT": "0",
        "AUDITOR_METRICS_PORT": "0",
        "DRAIN_SECONDS": "0",
    }
    with log.open("wb") as output:
        process = programs.start("feed_service.auditor", environment=environment, output=output)
    try:
        until(lambda: '"auditing"' in log.read_text() or process.poll() is not None)
    finally:
        process.terminate()
        status = process.wait()

    assert status == 0
    assert '"stopping"' in log.read_text()


def test_a_distributed_feed_is_refused() -> None:
    with pytest.raises(SettingsError, match="FEED_LAYOUT must be single for the auditor"):
        AuditorSettings.read({"FEED_LAYOUT": "distributed"})
