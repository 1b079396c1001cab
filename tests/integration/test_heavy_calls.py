"""Calls that cost much take a part of the slots, and leave the others to the rest."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta

import grpc
import psycopg2
import pytest

from kith.exceptions import AppException, RateLimitError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2 as pb
from tests.support.errors import decoded, refusal
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL
from tests.support.processes import until

_THREADS, _QUEUE, _HEAVY, _HEAVY_QUEUE, _AT_ONCE = 12, 8, 3, 2, 2
_CALLS = 24
_CEILING_SECONDS = 30


@pytest.fixture(scope="module")
def small(databases: Databases) -> Iterator[Pair]:
    """A graph of whose twelve slots three may be taken by heavy calls."""
    limits = {"GRAPH_THREADS": str(_THREADS), "GRAPH_QUEUE": str(_QUEUE)}
    with running_pair(databases, limits) as pair:
        yield pair


@contextmanager
def _locked(pair: Pair, table: str) -> Iterator[None]:
    """Let every call wait that looks into a table of the graph."""
    with closing(psycopg2.connect(pair.graph_url.replace("+psycopg2", ""))) as locking:
        locking.cursor().execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        locking.rollback()


def _error(call: Callable[[], object]) -> AppException | None:
    try:
        call()
    except grpc.RpcError as error:
        return decoded(error)
    return None


def _suggest(pair: Pair, user: int) -> AppException | None:
    request = pb.SuggestConnectionsRequest(user_id=user)
    return _error(lambda: pair.graph.SuggestConnections(request, timeout=_CEILING_SECONDS))


def _remove(pair: Pair, user: int) -> AppException | None:
    request = pb.RemoveConnectionRequest(
        user_id=user, peer_id=user + 1_000, request_id=str(uuid.uuid4())
    )
    return _error(lambda: pair.graph.RemoveConnection(request, timeout=_CEILING_SECONDS))


def _refused(calls: list[Future[AppException | None]], number: int) -> list[AppException]:
    """Return the errors of the calls that do not wait, as soon as there are so many."""
    until(lambda: sum(call.done() for call in calls) >= number, within_seconds=_CEILING_SECONDS)
    errors = [call.result() for call in calls if call.done()]
    return [error for error in errors if error is not None]


def test_heavy_calls_take_a_quarter_of_the_slots_and_others_are_answered_meanwhile(
    small: Pair,
) -> None:
    with ThreadPoolExecutor(_CALLS) as callers:
        with _locked(small, "connections"):
            calls = [callers.submit(_suggest, small, user) for user in range(1, _CALLS + 1)]
            refused = _refused(calls, _CALLS - _HEAVY - _HEAVY_QUEUE)
            blocked = small.graph.ListBlockedUsers(
                pb.ListBlockedUsersRequest(user_id=1), timeout=_CEILING_SECONDS
            )
        served = [call for call in calls if call.result() is None]

    assert not blocked.connections
    assert len(served) == _HEAVY + _HEAVY_QUEUE
    for error in refused:
        assert isinstance(error, RateLimitError)
        assert error.reason_name == "OVERLOADED"
        assert error.retry_after


def test_a_user_makes_two_heavy_calls_at_once_and_others_do_not_wait_for_more_of_them(
    small: Pair,
) -> None:
    with ThreadPoolExecutor(_AT_ONCE + 2) as callers:
        with _locked(small, "connections"):
            calls = [callers.submit(_suggest, small, 1) for _ in range(_AT_ONCE + 1)]
            refused = _refused(calls, 1)
            other = callers.submit(_suggest, small, 2)
        assert other.result() is None

    [error] = refused
    assert isinstance(error, RateLimitError)
    assert (error.reason_name, error.metadata) == (
        "TOO_MANY_AT_ONCE",
        {"limit": str(_AT_ONCE)},
    )
    assert error.retry_after
    assert _suggest(small, 1) is None


def test_the_question_of_a_safe_read_finds_a_slot_when_all_others_are_taken(small: Pair) -> None:
    with ThreadPoolExecutor(2 * _CALLS) as callers:
        with _locked(small, "idempotency_keys"):
            calls = [callers.submit(_remove, small, user) for user in range(1, 2 * _CALLS + 1)]
            refused = _refused(calls, 2 * _CALLS - _THREADS - _QUEUE)
            question = pb.GetConnectedUserIdsRequest(
                users=[pb.GetConnectedUserIdsRequest.UserQuery(user_id=1)]
            )
            answer = small.graph.GetConnectedUserIds(question, timeout=_CEILING_SECONDS)
        assert all(call.result() is None or call.result() in refused for call in calls)

    assert {error.reason_name for error in refused} == {"OVERLOADED"}
    assert [user.user_id for user in answer.users] == [1]


def test_heavy_calls_have_a_rate_of_their_own(databases: Databases) -> None:
    limits = {"RATE_LIMITS": "on", "RATE_LIMIT_HEAVY": "2/minute"}
    with running_pair(databases, limits) as pair:
        mutual = pb.ListMutualConnectionsRequest(user_id=1, peer_id=2)
        draft = feed_pb2.PreviewAudienceRequest(user_id=1, audience=ALL)

        assert refusal(pair.graph.ListMutualConnections, mutual) == ""
        assert _suggest(pair, 1) is None
        error = _suggest(pair, 1)
        previews = [refusal(pair.feed.PreviewAudience, draft) for _ in range(3)]
        other = _suggest(pair, 2)

    assert isinstance(error, RateLimitError)
    assert error.metadata["limit"] == "heavy"
    assert error.retry_after is not None
    assert error.retry_after > timedelta(seconds=50)
    assert previews == ["", "", "RATE_LIMITED"]
    assert other is None
