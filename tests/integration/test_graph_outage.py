"""feed_service while graph_service hangs or is gone: it says so at once, and does the rest."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import refusal, succeeds
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People
from tests.support.processes import until

# Callers wait for much longer than the feed waits for the graph, so that each is told why it fails.
_GRAPH_SECONDS = 0.2
_SECONDS = 30
# The graph is tried once in so long while it does not answer, after some calls without an answer.
_PAUSE_SECONDS = 0.5
_FAILURES = 5
_CALLS = 30


@pytest.fixture(scope="module")
def lonely(databases: Databases) -> Iterator[Pair]:
    """Services of which the feed has two threads, so that a few calls delay others."""
    settings = {"FEED_THREADS": "2", "GRAPH_TIMEOUT_SECONDS": str(_GRAPH_SECONDS)}
    with running_pair(databases, settings) as pair:
        # The feed calls the graph over several channels, and over none that is not connected yet.
        for _ in range(_CALLS):
            until(lambda: succeeds(lambda: _get_feed(pair)))
        yield pair


@contextmanager
def _hanging(pair: Pair) -> Iterator[list[str]]:
    """Let graph_service answer nothing; yields the calls that have come to it."""
    asked = list[str]()
    over = threading.Event()

    def hang(method: str) -> None:
        asked.append(method)
        over.wait()

    pair.gate.before_call = hang
    try:
        yield asked
    finally:
        pair.gate.before_call = lambda _method: None
        over.set()


def _get_feed(pair: Pair) -> pb.GetFeedResponse:
    return pair.feed.GetFeed(pb.GetFeedRequest(user_id=1), timeout=_SECONDS)


def _list_own_posts(pair: Pair) -> pb.ListPostsResponse:
    return pair.feed.ListPosts(pb.ListPostsRequest(user_id=1, author_id=1), timeout=_SECONDS)


def test_a_graph_that_hangs_is_hardly_asked_any_more_and_feeds_say_so_at_once(
    lonely: Pair,
) -> None:
    with _hanging(lonely) as asked:
        started = time.monotonic()
        reasons = Counter(refusal(_get_feed, lonely) for _ in range(_CALLS))
        tries = 1 + (time.monotonic() - started) / _PAUSE_SECONDS

    assert reasons == {"GRAPH_UNAVAILABLE": _CALLS}
    # If every call asked, there would be more of them than tries: they take less than the pause.
    assert asked.count("GetConnectedUserIds") <= _FAILURES + tries
    until(lambda: succeeds(lambda: _get_feed(lonely)))


def test_ones_own_posts_are_there_while_the_graph_hangs(lonely: Pair) -> None:
    with _hanging(lonely):
        for _ in range(10):
            assert not succeeds(lambda: _get_feed(lonely))

        assert _list_own_posts(lonely) is not None

    until(lambda: succeeds(lambda: _get_feed(lonely)))


def test_services_are_told_of_peoples_own_posts_alone_while_the_graph_hangs(lonely: Pair) -> None:
    post = pb.PostName(author_id=1, post_id=People(lonely).post(1))
    own, others = (
        pb.CheckVisibilityRequest.VisibilityCheck(viewer_id=viewer_id, post=post)
        for viewer_id in (1, 2)
    )
    check = partial(lonely.feed.CheckVisibility, timeout=_SECONDS)
    both = pb.CheckVisibilityRequest(checks=[own, others])
    with _hanging(lonely):
        answer = lonely.feed.CheckVisibility(pb.CheckVisibilityRequest(checks=[own]))
        until(lambda: refusal(check, both) == "GRAPH_UNAVAILABLE")

    assert list(answer.visible) == [True]
    until(lambda: succeeds(lambda: _get_feed(lonely)))


def test_callers_in_a_hurry_do_not_keep_the_others_from_the_graph(pair: Pair) -> None:
    request = pb.GetFeedRequest(user_id=People(pair).new(1)[0])
    with _hanging(pair):
        for _ in range(20):
            assert not succeeds(lambda: pair.feed.GetFeed(request, timeout=0.02))

    assert succeeds(lambda: pair.feed.GetFeed(request, timeout=_SECONDS))
