"""No call, and nothing done for one, outlives its deadline or its caller."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count

import grpc
import psycopg2
import pytest

from kith.exceptions import DeadlineError
from kith.feed.v1 import feed_pb2 as feed
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1 import graph_pb2 as graph
from tests.support.errors import succeeds
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People
from tests.support.processes import until
from tests.support.upkeep import cleaning

_CEILING_SECONDS = 30
# Fewer than those after which the feed no longer asks the graph.
_CALLS_TO_A_SILENT_GRAPH = 4
_WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
      AND application_name = 'kith calls'
"""


def _plain(url: str) -> str:
    return url.replace("+psycopg2", "")


@contextmanager
def _locked(url: str, table: str) -> Iterator[Callable[[], int]]:
    """Keep everybody from a table; yields what tells how many sessions are waiting for it."""
    with (
        closing(psycopg2.connect(_plain(url))) as locking,
        closing(psycopg2.connect(_plain(url))) as seer,
    ):
        seer.autocommit = True
        locking.cursor().execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")

        def waiting() -> int:
            with seer.cursor() as cursor:
                cursor.execute(_WAITING)
                [(count,)] = cursor.fetchall()
                return int(count)

        yield waiting
        locking.rollback()


@contextmanager
def _black_hole(pair: Pair) -> Iterator[None]:
    """Let nothing through to the feed's database, and keep its connections open."""
    reopened = threading.Event()

    def wait(_statement: str) -> None:
        reopened.wait(_CEILING_SECONDS)

    pair.feed_tap.before_statement = wait
    try:
        yield
    finally:
        pair.feed_tap.before_statement = lambda _statement: None
        reopened.set()


@pytest.fixture(scope="module")
def narrow(databases: Databases) -> Iterator[Pair]:
    """Services that work on one call at a time, so that one that is stuck is noticed."""
    with running_pair(databases, {"FEED_THREADS": "1", "GRAPH_THREADS": "1"}) as pair:
        yield pair


READS = {
    "by the prepared reader": lambda pair, timeout: pair.feed.GetFeed(
        feed.GetFeedRequest(user_id=1), timeout=timeout
    ),
    "by the pool": lambda pair, timeout: pair.feed.ListPosts(
        feed.ListPostsRequest(user_id=1, author_id=1), timeout=timeout
    ),
    "in a transaction": lambda pair, timeout: pair.feed.CreatePost(
        feed.CreatePostRequest(
            user_id=1, body="hello", audience=feed.Audience(kind=feed.AUDIENCE_KIND_ALL)
        ),
        timeout=timeout,
    ),
}
Call = Callable[[Pair, float], object]


def _code(call: Callable[[], object]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def _runs_out_of_time(pair: Pair, call: Call) -> None:
    """Call until a call ends by its deadline.

    On a busy machine the graph may end it sooner, and after some such calls is asked no more. So
    each call has more time than the one before.
    """
    timeouts = (0.5 * 1.3**number for number in count())
    until(lambda: _code(lambda: call(pair, next(timeouts))) == grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_a_statement_ends_with_the_deadline_of_its_call(narrow: Pair, call: Call) -> None:
    with _locked(narrow.feed_url, "posts") as waiting:
        _runs_out_of_time(narrow, call)
        until(lambda: waiting() == 0)

    assert _code(lambda: call(narrow, _CEILING_SECONDS)) == grpc.StatusCode.OK


@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_a_statement_ends_when_its_caller_goes_away(narrow: Pair, call: Call) -> None:
    with _locked(narrow.feed_url, "posts") as waiting:
        channel = grpc.insecure_channel(narrow.feed_server.address)
        patient = threading.Thread(
            target=lambda: _code(lambda: call(_through(narrow, channel), _CEILING_SECONDS))
        )
        patient.start()
        until(lambda: waiting() == 1)
        channel.close()
        patient.join()
        until(lambda: waiting() == 0)

    assert _code(lambda: call(narrow, _CEILING_SECONDS)) == grpc.StatusCode.OK


def _through(pair: Pair, channel: grpc.Channel) -> Pair:
    return replace(pair, feed=FeedServiceStub(channel))


@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_a_database_that_says_nothing_keeps_no_thread_beyond_the_deadline(
    narrow: Pair, call: Call
) -> None:
    with _black_hole(narrow):
        _runs_out_of_time(narrow, call)
        # The only thread is free again: this needs it, and no database.
        refused = _code(
            lambda: narrow.feed.GetPost(feed.GetPostRequest(), timeout=_CEILING_SECONDS)
        )
        assert refused == grpc.StatusCode.INVALID_ARGUMENT

    assert _code(lambda: call(narrow, _CEILING_SECONDS)) == grpc.StatusCode.OK


def test_a_database_that_says_nothing_keeps_the_first_call_no_longer(databases: Databases) -> None:
    with running_pair(databases, {"FEED_THREADS": "1"}) as new, _black_hole(new):
        _runs_out_of_time(new, READS["in a transaction"])
        refused = _code(lambda: new.feed.GetPost(feed.GetPostRequest(), timeout=_CEILING_SECONDS))

    assert refused == grpc.StatusCode.INVALID_ARGUMENT


def test_a_call_with_too_little_time_left_is_refused_before_anything_is_done(pair: Pair) -> None:
    pair.feed_tap.reset()

    code = _code(lambda: pair.feed.GetFeed(feed.GetFeedRequest(user_id=1), timeout=0.001))

    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert not [text for text in pair.feed_tap.statements if "feed_page" in text]


def test_a_graph_that_says_nothing_is_told_of_before_the_deadline(
    pair: Pair, people: People
) -> None:
    [viewer] = people.new(1)
    reopened = threading.Event()

    def wait(_method: str) -> None:
        reopened.wait(_CEILING_SECONDS)

    pair.gate.before_call = wait
    try:
        codes = {
            _code(lambda: pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer), timeout=0.5))
            for _ in range(_CALLS_TO_A_SILENT_GRAPH)
        }
    finally:
        pair.gate.before_call = lambda _method: None
        reopened.set()
    # Until then later tests could find that the feed does not ask the graph.
    until(lambda: succeeds(lambda: pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer))))

    # A busy machine may tell the caller too late, but not each time.
    assert grpc.StatusCode.UNAVAILABLE in codes
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def test_the_deadline_of_a_caller_reaches_both_databases(databases: Databases) -> None:
    with running_pair(databases) as pair:
        pair.feed.GetFeed(feed.GetFeedRequest(user_id=1), timeout=9)
        statements = [*pair.feed_tap.statements, *pair.graph_tap.statements]

    for part in ("posts AS p", "PREPARE connected_user_ids "):
        [first, *_] = (text for text in statements if part in text)
        limited = re.match(r"SET LOCAL statement_timeout = (\d+); ", first)
        assert limited
        assert int(limited[1]) <= 9_100


def test_a_caller_without_a_deadline_gets_the_usual_one(databases: Databases) -> None:
    with (
        running_pair(databases, {"DEFAULT_DEADLINE_SECONDS": "0.5"}) as pair,
        _locked(pair.graph_url, "connections"),
    ):
        code = _code(lambda: pair.graph.ListConnections(graph.ListConnectionsRequest(user_id=1)))

    assert code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_round_of_upkeep_gives_up_on_a_locked_table_and_another_one_succeeds(pair: Pair) -> None:
    with cleaning(pair, {"DATABASE_STATEMENT_TIMEOUT_SECONDS": "0.2"}) as upkeep:
        with _locked(pair.graph_url, "idempotency_keys"), pytest.raises(DeadlineError):
            upkeep.run()
        upkeep.run()
