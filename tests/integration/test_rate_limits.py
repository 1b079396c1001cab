"""A user who calls too often is told when to call again; no other user notices."""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from kith.exceptions import RateLimitError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.server.rate_limits import WindowsInMemory
from tests.support.credentials import Issuer, put
from tests.support.errors import decoded, refusal
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import PRIVATE, People
from tests.support.scrape import scrape
from tests.support.secured import Clients, bearer, secured_pair

_MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """Services with the limits they have unless told otherwise."""
    with running_pair(databases, {"RATE_LIMITS": "on"}) as running:
        yield running


def _draft(user_id: int) -> feed_pb2.CreatePostRequest:
    return feed_pb2.CreatePostRequest(user_id=user_id, body="again", audience=PRIVATE)


def _repeat(call: Callable[[], object], *, times: int) -> None:
    for _ in range(times):
        call()


def _let_in(call: Callable[[], object], *, tries: int) -> int:
    """Return how many of some calls in a row were let in before the others were not."""
    reasons = [refusal(lambda _: call(), None) for _ in range(tries)]
    let_in = reasons.count("")
    assert reasons == [""] * let_in + ["RATE_LIMITED"] * (tries - let_in)
    return let_in


def test_a_user_posts_ten_times_in_a_minute_and_others_are_not_held_up(
    pair: Pair, people: People
) -> None:
    user, other = people.new(2)

    assert _let_in(lambda: pair.feed.CreatePost(_draft(user)), tries=12) == 10
    pair.feed.CreatePost(_draft(other))
    assert len(people.feed(user)) == 10


def test_a_user_reads_sixty_pages_of_the_feed_in_a_minute(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    request = feed_pb2.GetFeedRequest(user_id=user)

    assert _let_in(lambda: pair.feed.GetFeed(request), tries=62) == 60


def test_a_user_asks_thirty_people_in_a_minute(pair: Pair, people: People) -> None:
    user, *peers = people.new(33)
    requests = iter([graph_pb2.RequestConnectionRequest(user_id=user, peer_id=p) for p in peers])

    assert _let_in(lambda: pair.graph.RequestConnection(next(requests)), tries=32) == 30


def test_who_is_turned_away_is_told_of_the_limit_before_the_database_is_asked(
    pair: Pair, people: People
) -> None:
    [user] = people.new(1)
    _let_in(lambda: pair.feed.CreatePost(_draft(user)), tries=11)
    pair.feed_tap.reset()

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreatePost(_draft(user))

    error = decoded(caught.value)
    assert isinstance(error, RateLimitError)
    assert error.reason_name == "RATE_LIMITED"
    assert error.metadata == {"limit": "posts", "rate": "10 per 1 minute"}
    assert error.retry_after is not None
    assert timedelta() < error.retry_after <= _MINUTE
    assert pair.feed_tap.statements == []


def test_who_comes_again_when_told_to_is_let_in(databases: Databases, people: People) -> None:
    [user] = people.new(1)
    limits = {"RATE_LIMITS": "on", "RATE_LIMIT_POSTS": "2/second"}
    with running_pair(databases, limits) as pair:
        # However few calls a busy machine answers in a second.
        with pytest.raises(grpc.RpcError) as caught:
            _repeat(lambda: pair.feed.CreatePost(_draft(user)), times=1_000)
        told = decoded(caught.value).retry_after
        assert told is not None
        time.sleep(told.total_seconds())

        pair.feed.CreatePost(_draft(user))


def test_calls_at_the_same_time_get_no_more_than_those_in_a_row(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    with ThreadPoolExecutor(8) as callers:
        reasons = list(
            callers.map(lambda _: refusal(pair.feed.CreatePost, _draft(user)), range(24))
        )

    assert reasons.count("") == 10
    assert reasons.count("RATE_LIMITED") == 14


def test_a_call_that_is_repeated_with_its_request_id_counts_as_well(
    pair: Pair, people: People
) -> None:
    [user] = people.new(1)
    request = _draft(user)
    request.request_id = "7a1f3a52-35a5-4c43-a4b1-6f4f1d8c8f07"

    assert _let_in(lambda: pair.feed.CreatePost(request), tries=12) == 10
    assert len(people.feed(user)) == 1


def test_ids_that_are_no_users_are_refused_for_that_and_counted_for_nobody(pair: Pair) -> None:
    reasons = {refusal(pair.feed.CreatePost, _draft(-1)) for _ in range(12)}

    assert reasons == {"INVALID_FIELD"}


def test_rejections_are_counted_by_method_and_reason(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    _let_in(lambda: pair.feed.CreatePost(_draft(user)), tries=11)

    assert (
        scrape(pair.feed_server).value(
            "calls_rejected_total", grpc_method="CreatePost", reason="rate_limited"
        )
        > 0
    )


@pytest.fixture(scope="module")
def clients(databases: Databases, issuer: Issuer) -> Iterator[Clients]:
    """Clients of services that know callers and let each call so often."""
    token = Path(issuer.jwks.parent) / "feed.token"
    put(token, issuer.token("feed").encode())
    graph = {**issuer.environment, "AUTH_SERVICES": "feed,importer,other"}
    feed = {
        **graph,
        "TARGET_TOKEN_FILE": str(token),
        "RATE_LIMITS": "on",
        "RATE_LIMIT_POSTS": "3/minute",
        "RATE_LIMIT_CALLERS": "5/minute",
    }
    with (
        secured_pair(databases, graph=graph, feed=feed) as pair,
        pair.clients() as clients,
    ):
        yield clients


def test_a_user_has_one_limit_whoever_calls_for_them(clients: Clients, issuer: Issuer) -> None:
    by_themselves, by_a_service = bearer(issuer.token(17)), bearer(issuer.token("importer"))
    callers = itertools.cycle([by_themselves, by_a_service])

    def post() -> None:
        clients.feed.CreatePost(_draft(17), metadata=next(callers))

    assert _let_in(post, tries=5) == 3


def test_a_service_has_a_limit_of_its_own_for_all_users_together(
    clients: Clients, issuer: Issuer
) -> None:
    one, other = bearer(issuer.token("other")), bearer(issuer.token("feed"))
    users = itertools.count(1_000)

    assert _let_in(lambda: clients.feed.CreatePost(_draft(next(users)), metadata=one), tries=7) == 5
    clients.feed.CreatePost(_draft(next(users)), metadata=other)


def test_the_windows_of_very_many_users_take_a_bounded_amount_of_memory() -> None:
    windows = WindowsInMemory()
    for number in range(100_000):
        assert windows.acquire_entry(f"POSTS:{number}", 10, 60)

    # The user who called last is still counted, and one who called long before is not.
    assert windows.get_moving_window("POSTS:99999", 10, 60)[1] == 1
    assert windows.get_moving_window("POSTS:0", 10, 60)[1] == 0
