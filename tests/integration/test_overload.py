"""More calls than there are slots and room in the queue."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import grpc
import psycopg2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kith.exceptions import RateLimitError
from kith.feed.v1 import feed_pb2 as pb
from shared.deadlines import CallEnd
from shared.server.call_slots import STREAMS_OF_A_CONNECTION
from tests.support.errors import decoded
from tests.support.pair import Databases, Pair, running_pair
from tests.support.processes import until
from tests.support.scrape import scrape

_THREADS, _QUEUE, _CALLS = 2, 3, 20
_CEILING_SECONDS = 30


@pytest.fixture(scope="module")
def small(databases: Databases) -> Iterator[Pair]:
    """Services with few slots and short queues."""
    limits = {"FEED_THREADS": str(_THREADS), "FEED_QUEUE": str(_QUEUE)}
    with running_pair(databases, limits) as pair:
        yield pair


@contextmanager
def _stuck(pair: Pair) -> Iterator[None]:
    """Hold up every call that reads posts."""
    with closing(psycopg2.connect(pair.feed_url.replace("+psycopg2", ""))) as locking:
        locking.cursor().execute("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
        yield
        locking.rollback()


def _list_posts(pair: Pair, timeout: float = _CEILING_SECONDS) -> grpc.RpcError | None:
    try:
        pair.feed.ListPosts(pb.ListPostsRequest(user_id=1, author_id=1), timeout=timeout)
    except grpc.RpcError as error:
        return error
    return None


def _code(error: grpc.RpcError | None) -> grpc.StatusCode:
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.OK


def _rejected(pair: Pair) -> float:
    return scrape(pair.feed_server).value(
        "calls_rejected_total", grpc_method="ListPosts", reason="overloaded"
    )


def test_calls_beyond_the_queue_are_refused_at_once_and_told_when_to_come_again(
    small: Pair,
) -> None:
    before = _rejected(small)
    with ThreadPoolExecutor(_CALLS) as callers:
        with _stuck(small):
            calls = [callers.submit(_list_posts, small) for _ in range(_CALLS)]
            until(
                lambda: sum(call.done() for call in calls) == _CALLS - _THREADS - _QUEUE,
                within_seconds=_CEILING_SECONDS,
            )
            refused = [call.result() for call in calls if call.done()]
        served = [call.result() for call in calls if call.result() is None]

    assert len(served) == _THREADS + _QUEUE
    for error in refused:
        assert error is not None
        overloaded = decoded(error)
        assert isinstance(overloaded, RateLimitError)
        assert overloaded.reason_name == "OVERLOADED"
        assert overloaded.retry_after
    assert _list_posts(small) is None
    assert _rejected(small) - before == len(refused)


def test_health_is_answered_while_calls_are_refused(small: Pair) -> None:
    with ThreadPoolExecutor(_CALLS) as callers, _stuck(small):
        calls = [callers.submit(_list_posts, small) for _ in range(_CALLS)]
        until(lambda: any(call.done() for call in calls), within_seconds=_CEILING_SECONDS)
        answer = health_pb2_grpc.HealthStub(small.feed_channel).Check(
            health_pb2.HealthCheckRequest(service="ready"), timeout=_CEILING_SECONDS
        )

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_calls_whose_deadline_expired_leave_the_queue(small: Pair) -> None:
    with ThreadPoolExecutor(_CALLS) as callers, _stuck(small):
        impatient = [callers.submit(_list_posts, small, timeout=0.3) for _ in range(_CALLS)]
        assert all(call.result() is not None for call in impatient)
        # No call can be served yet, but none is in the way either.
        until(lambda: _code(_list_posts(small, timeout=0.3)) is grpc.StatusCode.DEADLINE_EXCEEDED)
    assert _list_posts(small) is None


def test_callers_who_open_calls_and_send_nothing_hold_up_nobody(small: Pair) -> None:
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    with ExitStack() as stack:
        stack.callback(over.set)
        for _ in range(2):
            channel = stack.enter_context(
                grpc.insecure_channel(
                    small.feed_server.address, options=[("grpc.use_local_subchannel_pool", 1)]
                )
            )
            # On the wire a call with one message is a stream of them.
            opened: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(
                "/kith.feed.v1.FeedService/ListPosts"
            )
            for _ in range(100):
                opened.future(nothing())

        for _ in range(5):
            assert _list_posts(small) is None


def test_calls_that_are_over_do_not_stay_until_they_are_collected(small: Pair) -> None:
    gc.collect()
    gc.disable()
    try:
        # Those of threads that work in the background, for instance.
        before = _call_ends()
        for _ in range(_CALLS):
            assert _list_posts(small) is None
        left = [end for end in _call_ends() if all(end is not each for each in before)]
    finally:
        gc.enable()

    assert len(left) < _CALLS / 2


def _call_ends() -> list[CallEnd]:
    return [each for each in gc.get_objects() if type(each) is CallEnd]


def test_calls_that_are_over_do_not_count_as_open_until_they_are_collected(small: Pair) -> None:
    gc.disable()
    try:
        for _ in range(2 * STREAMS_OF_A_CONNECTION):
            assert _list_posts(small) is None
    finally:
        gc.enable()
