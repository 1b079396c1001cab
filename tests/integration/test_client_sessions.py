"""What the clients in Python send beside its messages, and remember of the answers."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import grpc
import pytest

from kith import trace_context, user_tokens
from kith.environment import SettingsError
from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2 as graph_pb
from kith.trace_context import Trace
from tests.support.processes import until

_KEY = "kith-position"
_TOKEN = "kith-user-token"
_CEILING_SECONDS = 30
_PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class _Service(grpc.GenericRpcHandler):
    """Remembers what it was sent, and answers a new post with its text as the position."""

    def __init__(self) -> None:
        self.begun = set[str]()
        self.pauses = dict[str, threading.Event]()
        self.seconds = 0.0
        self._metadata: list[tuple[str, str]] = []

    def sent(self, key: str) -> list[str]:
        """Return what the last call has sent under a key."""
        return sorted(value for name, value in self._metadata if name == key)

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """Return what answers with an empty message."""
        service, method = handler_call_details.method.split("/")[1:]
        if not service.startswith("kith."):
            return None
        answer = self._create_post if method == "CreatePost" else self._answer
        return grpc.unary_unary_rpc_method_handler(answer)

    def _create_post(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        position = pb.CreatePostRequest.FromString(request).body
        self.begun.add(position)
        if pause := self.pauses.get(position):
            pause.wait(_CEILING_SECONDS)
        context.send_initial_metadata(((_KEY, position),))
        return self._answer(request, context)

    def _answer(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self._metadata = [(key, str(value)) for key, value in context.invocation_metadata()]
        self.seconds = context.time_remaining()
        return b""


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[_Service, str]]:
    service, server = _Service(), grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def service(address: tuple[_Service, str]) -> _Service:
    return address[0]


@pytest.fixture
def kith(address: tuple[_Service, str], library: Any) -> Iterator[Any]:
    with library.KithClient.from_environment(graph=address[1], feed=address[1]) as client:
        yield client


def _write(feed: Any, position: str) -> None:
    feed.CreatePost(pb.CreatePostRequest(body=position))


def _read(session: Any) -> None:
    session.feed.GetFeed(pb.GetFeedRequest())


def test_a_session_reads_what_it_has_written_last(service: _Service, kith: Any) -> None:
    session, other = kith.session(), kith.session()

    for position in ("one", "two"):
        _write(session.feed, position)
        _read(session)
        assert service.sent(_KEY) == [position]
    _read(other)
    assert service.sent(_KEY) == []


def test_every_call_of_a_session_shows_the_token_of_its_person(
    service: _Service, kith: Any
) -> None:
    session = kith.session(user_token="one")

    _write(session.feed, "position")
    assert service.sent(_TOKEN) == ["one"]
    session.graph.GetConnection(graph_pb.GetConnectionRequest())
    assert service.sent(_TOKEN) == ["one"]
    list(session.feed.ExportUser(pb.ExportUserRequest()))
    assert service.sent(_TOKEN) == ["one"]


def test_a_token_is_shown_in_no_other_session(service: _Service, kith: Any) -> None:
    session, other = kith.session(user_token="one"), kith.session(user_token="two")

    _read(session)
    _read(other)
    assert service.sent(_TOKEN) == ["two"]
    for without in (kith.session(), kith):
        _read(without)
        assert service.sent(_TOKEN) == []


def test_a_single_call_may_show_a_token(service: _Service, kith: Any) -> None:
    kith.feed.GetFeed(pb.GetFeedRequest(), metadata=[(user_tokens.KEY, "one")])

    assert service.sent(_TOKEN) == ["one"]


def test_an_empty_token_does_not_count_as_none(kith: Any) -> None:
    with pytest.raises(ValueError, match="empty"):
        kith.session(user_token="")


@pytest.mark.parametrize("away", ["graph", "feed"])
def test_a_token_of_a_user_leaves_the_machine_encrypted_or_by_permission(
    library: Any, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    targets = {"graph": "127.0.0.1:1", "feed": "127.0.0.1:1", away: "kith.example:50051"}

    with library.KithClient.from_environment(**targets) as kith:
        kith.session()
        with pytest.raises(SettingsError, match=r"token of a user .* TARGET_CA_FILE"):
            kith.session(user_token="one")
    monkeypatch.setenv("ALLOW_PLAINTEXT", "on")
    with library.KithClient.from_environment(**targets) as kith:
        kith.session(user_token="one")


def test_until_it_has_written_a_session_may_read_from_any_replica(
    service: _Service, kith: Any
) -> None:
    session = kith.session(reads="replicas")

    _read(session)
    assert service.sent(_KEY) == ["any"]
    _write(session.feed, "one")
    _read(session)
    assert service.sent(_KEY) == ["one"]


def test_the_client_itself_remembers_nothing(service: _Service, kith: Any) -> None:
    _write(kith.feed, "one")
    kith.feed.GetFeed(pb.GetFeedRequest())

    assert service.sent(_KEY) == []


def test_a_session_goes_on_in_another_process(service: _Service, kith: Any) -> None:
    first = kith.session()
    _write(first.feed, "one")

    _read(kith.session(positions=first.positions))

    assert service.sent(_KEY) == ["one"]


def test_of_writes_that_are_under_way_together_none_is_lost_and_a_later_one_stands_for_all(
    service: _Service, kith: Any
) -> None:
    session, slow = kith.session(), ("slow", "slower")
    service.pauses = {position: threading.Event() for position in slow}
    with ThreadPoolExecutor(2) as pool:
        under_way = [pool.submit(_write, session.feed, position) for position in slow]
        until(lambda: service.begun.issuperset(slow))
        _write(session.feed, "quick")
        for write, pause in zip(under_way, service.pauses.values(), strict=True):
            pause.set()
            write.result()

    _read(session)
    assert service.sent(_KEY) == ["quick", "slow", "slower"]
    _write(session.feed, "later")
    _read(session)
    assert service.sent(_KEY) == ["later"]


def test_who_has_written_more_than_a_header_holds_reads_from_the_primary(
    service: _Service, kith: Any
) -> None:
    many = {"feed": [f"position {number}" for number in range(1_000)]}

    _read(kith.session(positions=many))

    assert service.sent(_KEY) == []


def test_a_write_that_is_not_waited_for_is_remembered_with_its_result(
    service: _Service, kith: Any
) -> None:
    session = kith.session()

    session.feed.CreatePost.future(pb.CreatePostRequest(body="one")).result()

    _read(session)
    assert service.sent(_KEY) == ["one"]


# gRPC sends a deadline in few digits, and rounds up.
@pytest.mark.parametrize(
    ("timeout", "at_least", "at_most"), [(None, 5, 11), (4, 0, 4.5), (99, 50, 101)]
)
def test_a_call_has_the_time_of_the_service_config_unless_it_brings_its_own(
    service: _Service, kith: Any, timeout: float | None, at_least: float, at_most: float
) -> None:
    kith.feed.GetFeed(pb.GetFeedRequest(), timeout=timeout)

    assert at_least < service.seconds <= at_most


def test_a_call_that_takes_longer_by_the_service_config_has_that_time(
    service: _Service, kith: Any
) -> None:
    kith.feed.DeleteUser(pb.DeleteUserRequest())

    assert service.seconds > 30


def test_the_trace_and_the_token_of_the_caller_are_passed_on(
    service: _Service,
    address: tuple[_Service, str],
    library: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = tmp_path / "token"
    token.write_text("a token")
    monkeypatch.setenv("TARGET_TOKEN_FILE", str(token))
    own = copy_context()
    own.run(trace_context.current.set, Trace.read([("traceparent", _PARENT)]))

    with library.KithClient.from_environment(feed=address[1]) as kith:
        own.run(kith.feed.GetFeed, pb.GetFeedRequest(), metadata=(("x-request-id", "mine"),))

    sent = {key: service.sent(key) for key in ("authorization", "traceparent", "x-request-id")}
    assert sent == {
        "authorization": ["Bearer a token"],
        "traceparent": [_PARENT],
        "x-request-id": ["mine"],
    }


def test_a_client_shows_the_token_that_it_is_given_meanwhile(
    service: _Service,
    address: tuple[_Service, str],
    library: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = tmp_path / "token"
    token.write_text("former")
    monkeypatch.setenv("TARGET_TOKEN_FILE", str(token))

    with library.KithClient.from_environment(feed=address[1]) as kith:

        def shown() -> list[str]:
            kith.feed.GetFeed(pb.GetFeedRequest())
            return service.sent("authorization")

        assert shown() == ["Bearer former"]
        token.write_text("another")
        until(lambda: shown() == ["Bearer another"])
