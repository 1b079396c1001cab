"""What no client should send is refused, and clients that send nothing keep no others out."""

import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kith.feed.v1 import feed_pb2
from shared.processes.ports import hang_up
from shared.server.call_slots import CALLS_OPEN, STREAMS_OF_A_CONNECTION
from tests.support.errors import reason_of
from tests.support.expansion import expand_headers
from tests.support.pair import Pair
from tests.support.rpcs import RPCS, Rpc

_Metadata: TypeAlias = list[tuple[str, str]]
_CEILING_SECONDS = 30
_CHECK = "/grpc.health.v1.Health/Check"
_COUNT_CONNECTIONS = "/kith.graph.v1.GraphService/CountConnections"
_LIST_CONNECTIONS = "/kith.graph.v1.GraphService/ListConnections"
_LIST_POSTS = "/kith.feed.v1.FeedService/ListPosts"
# What 128 calls with 7.8 MB of headers each may take; without a bound they took 635.
_MOST_GROWTH_MEBIBYTES = 256
_EXPANSION_SECONDS = 2.0
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
# A field of a length beyond the end.
_NO_MESSAGE = b"\x0a\x7f"


def _code_of(pair: Pair, rpc: Rpc, *messages: bytes) -> tuple[str, str]:
    channel: Any = pair.graph_channel if rpc.service == "graph" else pair.feed_channel
    path = f"/{rpc.method.containing_service.full_name}/{rpc.name}"
    with pytest.raises(grpc.RpcError) as caught:
        for _ in channel.stream_stream(path)(iter(messages), timeout=_CEILING_SECONDS):
            pass
    return caught.value.code().name, reason_of(caught.value)


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_what_is_no_message_is_the_fault_of_who_sends_it(pair: Pair, rpc: Rpc) -> None:
    assert _code_of(pair, rpc, _NO_MESSAGE) == ("INVALID_ARGUMENT", "INVALID_FIELD")


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if not rpc.method.client_streaming], ids=str)
def test_a_call_that_ends_without_its_message_is_refused(pair: Pair, rpc: Rpc) -> None:
    assert _code_of(pair, rpc) == ("INVALID_ARGUMENT", "INVALID_FIELD")


def test_health_does_not_answer_what_is_no_message(pair: Pair) -> None:
    check: Any = pair.feed_channel.unary_unary(_CHECK)

    with pytest.raises(grpc.RpcError) as caught:
        check(_NO_MESSAGE, timeout=_CEILING_SECONDS)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@contextmanager
def _silence(address: str, path: str, *, calls: int) -> Iterator[list[Any]]:
    """Open calls over as many connections as they need, and send nothing in them."""
    is_over = threading.Event()

    def nothing() -> Iterator[bytes]:
        is_over.wait(_CEILING_SECONDS)
        yield from ()

    with ExitStack() as stack:
        stack.callback(is_over.set)
        opened: list[Any] = []
        for first in range(0, calls, STREAMS_OF_A_CONNECTION):
            channel = stack.enter_context(grpc.insecure_channel(address, _OWN_CONNECTION))
            call: Any = channel.stream_unary(path)
            here = min(calls - first, STREAMS_OF_A_CONNECTION)
            opened += [call.future(nothing()) for _ in range(here)]
        yield opened


def test_more_silent_calls_than_there_are_threads_are_given_up(pair: Pair) -> None:
    request = feed_pb2.ListPostsRequest(user_id=1, author_id=1)
    with _silence(pair.feed_server.address, _LIST_POSTS, calls=CALLS_OPEN + 50) as silent:
        for call in silent[:CALLS_OPEN]:
            assert call.exception(timeout=_CEILING_SECONDS) is not None
        pair.feed.ListPosts(request, timeout=_CEILING_SECONDS)


def test_health_is_answered_to_others_than_those_who_ask_nothing(pair: Pair) -> None:
    with _silence(pair.feed_server.address, _CHECK, calls=50) as silent:
        request = health_pb2.HealthCheckRequest(service="live")
        health_pb2_grpc.HealthStub(pair.feed_channel).Check(request, timeout=_CEILING_SECONDS)

        for call in silent:
            assert call.exception(timeout=_CEILING_SECONDS) is not None


def _resident_mebibytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("path", [_LIST_CONNECTIONS, _CHECK])
def test_headers_that_expand_do_not_fill_the_memory(pair: Pair, path: str) -> None:
    before = _resident_mebibytes()

    with expand_headers(pair.graph_server.port, path, calls=STREAMS_OF_A_CONNECTION, times=2_000):
        with grpc.insecure_channel(pair.graph_server.address, _OWN_CONNECTION) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            stub.Check(health_pb2.HealthCheckRequest(), timeout=_CEILING_SECONDS)
        # A server that keeps the headers does so in less time.
        time.sleep(_EXPANSION_SECONDS)
        grown = _resident_mebibytes() - before

    assert grown < _MOST_GROWTH_MEBIBYTES


def _outcome(channel: Any, path: str, metadata: _Metadata) -> tuple[str, str]:
    try:
        channel.unary_unary(path)(b"", timeout=_CEILING_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        return error.code().name, reason_of(error)
    return "OK", ""


def _split(size: int, pieces: int) -> _Metadata:
    """Return metadata of a size, in so many pieces."""
    sizes = [size // pieces] * (pieces - 1)
    sizes.append(size - sum(sizes))
    return [(f"x-{n:05}", "z" * (each - 32 - 7)) for n, each in enumerate(sizes)]


@pytest.mark.parametrize("path", [_CHECK, _COUNT_CONNECTIONS, "/made.up/Path"])
def test_one_limit_for_metadata_and_always_the_same_answer_beyond(pair: Pair, path: str) -> None:
    chance = random.Random(1)
    within, beyond = set(), set()
    for _ in range(40):
        pieces = chance.randint(1, 64)
        # Between the two is what grpcio adds, such as the user agent.
        small, large = chance.randint(8_000, 16_000), chance.randint(16_385, 900_000)
        within.add(_outcome(pair.graph_channel, path, _split(small, pieces)))
        beyond.add(_outcome(pair.graph_channel, path, _split(large, pieces)))

    assert len(within) == 1
    assert beyond == {("INVALID_ARGUMENT", "REQUEST_TOO_LARGE")}
    assert not within & beyond


@pytest.mark.skipif(sys.platform != "linux", reason="connections are found in /proc")
def test_a_connection_whose_headers_expand_is_closed(pair: Pair) -> None:
    with expand_headers(pair.graph_server.port, _CHECK, calls=1, times=2_000) as peer:
        peer.settimeout(_CEILING_SECONDS)
        while peer.recv(4_096):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="connections are found in /proc")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_connection_that_is_closed_is_that_of_the_peer_alone(host: str) -> None:
    def respond(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request:
            hang_up(context.peer())
        return b""

    handler = grpc.unary_unary_rpc_method_handler(respond, bytes, bytes)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("a.B", {"C": handler})])
    address = f"{host}:{server.add_insecure_port('[::]:0')}"
    server.start()
    with (
        grpc.insecure_channel(address, _OWN_CONNECTION) as other,
        grpc.insecure_channel(address, _OWN_CONNECTION) as channel,
    ):
        states = list[grpc.ChannelConnectivity]()
        assert other.unary_unary("/a.B/C", bytes, bytes)(b"", timeout=_CEILING_SECONDS) == b""
        other.subscribe(states.append)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/a.B/C", bytes, bytes)(b"x", timeout=_CEILING_SECONDS)
        assert other.unary_unary("/a.B/C", bytes, bytes)(b"", timeout=_CEILING_SECONDS) == b""
    server.stop(None).wait()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert set(states) == {grpc.ChannelConnectivity.READY}
