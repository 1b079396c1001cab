"""A stream tells every event once and in order, also when client or service stalls or stops."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, islice, pairwise
from typing import Any, TypeAlias

import grpc
import pytest
import sqlalchemy

from graph_service.__main__ import build
from graph_service.settings import GraphSettings
from kith.graph.v1 import graph_pb2 as pb
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.api.paging import PageTokens, Scope
from shared.server.server import RunningServer
from tests.support.engines import engine_to
from tests.support.errors import decoded, fields_of, reason_of
from tests.support.pair import Databases, running_pair, tapped
from tests.support.processes import Session, until
from tests.support.scrape import scrape

_KEY = "a key for tests that is long enough to be taken"
_ENVIRONMENT = {
    "PAGE_TOKEN_KEYS": _KEY,
    "GRAPH_PORT": "0",
    "GRAPH_METRICS_PORT": "0",
    "DRAIN_SECONDS": "0",
    "MAX_CONNECTION_AGE_SECONDS": "0",
    "WATCH_HEARTBEAT_SECONDS": "0.3",
}
# Without probes the client takes at most 64 KiB that its program does not read.
_OPTIONS = [("grpc.http2.bdp_probe", 0)]
_BACKLOG = 30_000
_PATIENCE = 40
# More than any stream takes to begin.
_LONG_SECONDS = 60
_WRITERS = 8
_CHANGES = [
    *["RequestConnection"] * 3,
    *["AcceptConnection"] * 3,
    "RemoveConnection",
    "BlockUser",
    "UnblockUser",
]
_ids = count(1)

_Stream: TypeAlias = "grpc._CallIterator[pb.WatchConnectionsResponse]"  # noqa: SLF001 -- so the stubs name it


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """A running graph_service and a client of it."""

    stub: GraphServiceStub
    channel: grpc.Channel
    server: RunningServer
    url: str

    def watch(self, cursor: str = "", **wanted: Any) -> "_Stream":
        """Open a stream; it has begun when its first message is there."""
        return self.stub.WatchConnections(pb.WatchConnectionsRequest(cursor=cursor, **wanted))

    def begun(self, cursor: str = "") -> "tuple[_Stream, str]":
        """Return a stream that has begun, and its first cursor."""
        stream = self.watch(cursor)
        return stream, next(stream).cursor

    def change(self, method: str, user_id: int, peer_id: int) -> pb.RequestConnectionResponse:
        """Make one change."""
        request = getattr(pb, f"{method}Request")(user_id=user_id, peer_id=peer_id)
        response: pb.RequestConnectionResponse = getattr(self.stub, method)(request)
        return response

    def revision(self, user_id: int) -> int:
        """Return a user's revision as services are told it."""
        query = pb.GetConnectedUserIdsRequest.UserQuery(user_id=user_id)
        request = pb.GetConnectedUserIdsRequest(users=[query])
        return self.stub.GetConnectedUserIds(request).users[0].revision

    def backlog(self) -> list[int]:
        """Make more events than fits between a server and a client who does not read."""
        with Session(self.url) as session:
            rows = session.rows(
                "INSERT INTO connection_events (kind, actor_id, peer_id) SELECT 'requested', 1, 2"
                f" FROM generate_series(1, {_BACKLOG}) RETURNING seq"
            )
            session.commit()
        return [seq for (seq,) in rows]


@contextmanager
def _running(databases: Databases, **environment: str) -> Iterator[_Graph]:
    with _running_on(databases.new("graph"), **environment) as running:
        yield running


@contextmanager
def _running_on(url: str, **environment: str) -> Iterator[_Graph]:
    settings = GraphSettings.read({**_ENVIRONMENT, "GRAPH_DATABASE_URL": url, **environment})
    server = RunningServer(settings.server, build(settings, settings.database.url))
    with ExitStack() as stack:
        stack.callback(server.stop)
        channel = stack.enter_context(grpc.insecure_channel(server.address, options=_OPTIONS))
        yield _Graph(stub=GraphServiceStub(channel), channel=channel, server=server, url=url)


@pytest.fixture(scope="module")
def graph(databases: Databases) -> Iterator[_Graph]:
    """A graph_service whose streams have a heartbeat every 0.3 seconds."""
    with _running(databases) as running:
        yield running


def _new(number: int) -> list[int]:
    return [next(_ids) for _ in range(number)]


def _events(stream: _Stream, number: int) -> list[pb.ConnectionEvent]:
    """Read a stream until it has told some events, and return those; fails when they never come."""
    told: list[pb.ConnectionEvent] = []
    silence = 0
    while len(told) < number:
        message = next(stream)
        told += message.events
        silence = 0 if message.events else silence + 1
        assert silence < _PATIENCE, "waited in vain"
    return told


def _silence(stream: _Stream) -> str:
    """Read two heartbeats, and return the cursor of the second."""
    first, second = next(stream), next(stream)
    assert not first.events
    assert not second.events
    return second.cursor


def _stored(graph: _Graph, condition: str) -> list[tuple[int, str, int, int]]:
    """Return the events that meet a condition, as they are in the table."""
    with Session(graph.url) as session:
        return [
            (seq, kind, actor_id, peer_id)
            for seq, kind, actor_id, peer_id in session.rows(
                "SELECT seq, kind, actor_id, peer_id FROM connection_events"
                f" WHERE {condition} ORDER BY seq"
            )
        ]


def _kind(event: pb.ConnectionEvent) -> str:
    return pb.ConnectionEventKind.Name(event.kind).removeprefix("CONNECTION_EVENT_KIND_")


def test_every_change_is_told_as_it_happened(graph: _Graph) -> None:
    alice, bob = sorted(_new(2))
    stream, _ = graph.begun()
    changes = []
    for kind, method, user, peer in (
        ("REQUESTED", "RequestConnection", alice, bob),
        ("CANCELLED", "CancelConnectionRequest", alice, bob),
        ("REQUESTED", "RequestConnection", bob, alice),
        ("DECLINED", "DeclineConnection", alice, bob),
        ("REQUESTED", "RequestConnection", alice, bob),
        ("CONNECTED", "AcceptConnection", bob, alice),
        ("REMOVED", "RemoveConnection", alice, bob),
        ("BLOCKED", "BlockUser", bob, alice),
        ("UNBLOCKED", "UnblockUser", bob, alice),
    ):
        graph.change(method, user, peer)
        changes.append((kind, user, peer, graph.revision(user), graph.revision(peer)))

    told = _events(stream, len(changes))

    stream.cancel()
    assert [
        (_kind(event), event.actor_id, event.peer_id, event.actor_revision, event.peer_revision)
        for event in told
    ] == changes
    assert all(event.HasField("event_time") for event in told)


def test_an_import_and_an_erasure_are_told(graph: _Graph) -> None:
    alice, bob = sorted(_new(2))
    stream, _ = graph.begun()
    edge = pb.ConnectionPair(first_user_id=bob, second_user_id=alice)
    graph.stub.ImportConnections(iter([pb.ImportConnectionsRequest(connections=[edge])]))
    [imported] = _events(stream, 1)

    graph.stub.DeleteUser(pb.DeleteUserRequest(user_id=bob))
    [erased] = _events(stream, 1)

    stream.cancel()
    assert (_kind(imported), imported.actor_id, imported.peer_id) == ("IMPORTED", alice, bob)
    assert (_kind(erased), erased.actor_id, erased.peer_id) == ("USER_DELETED", bob, 0)


def test_only_wanted_kinds_are_told(graph: _Graph) -> None:
    alice, bob = _new(2)
    _, cursor = graph.begun()
    for method in ("RequestConnection", "CancelConnectionRequest", "BlockUser", "UnblockUser"):
        graph.change(method, alice, bob)
    kinds = [pb.CONNECTION_EVENT_KIND_UNBLOCKED, pb.CONNECTION_EVENT_KIND_CANCELLED]

    stream = graph.watch(cursor, kinds=kinds)
    told = _events(stream, 2)

    stream.cancel()
    assert [_kind(event) for event in told] == ["CANCELLED", "UNBLOCKED"]


def test_only_changes_about_wanted_users_are_told(graph: _Graph) -> None:
    alice, bob, carol, dave = _new(4)
    _, cursor = graph.begun()
    for asking, asked in ((alice, carol), (bob, carol), (carol, dave), (dave, alice)):
        graph.change("RequestConnection", asking, asked)

    stream = graph.watch(cursor, user_ids=[alice, bob])
    told = _events(stream, 3)

    stream.cancel()
    assert [(event.actor_id, event.peer_id) for event in told] == [
        (alice, carol),
        (bob, carol),
        (dave, alice),
    ]


def test_a_silent_stream_has_cursors_behind_what_is_not_wanted(graph: _Graph) -> None:
    alice, bob = _new(2)
    stream = graph.watch(user_ids=_new(1))
    first = next(stream).cursor
    graph.change("RequestConnection", alice, bob)
    cursor = next(message.cursor for message in stream if message.cursor != first)
    stream.cancel()
    graph.change("CancelConnectionRequest", alice, bob)

    [told] = _events(graph.watch(cursor), 1)

    assert _kind(told) == "CANCELLED"


def _write(graph: _Graph, ids: list[int], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        # Most are refused for what is between the two just then.
        with contextlib.suppress(grpc.RpcError):
            graph.change(chance.choice(_CHANGES), *chance.sample(ids, 2))


def _consume(
    graph: _Graph, cursor: str, last: list[int], chance: random.Random
) -> list[pb.ConnectionEvent]:
    """Handle every event up to the last there is, breaking off and forgetting at random."""
    handled: list[pb.ConnectionEvent] = []
    silence = 0
    while silence < _PATIENCE:
        stream = graph.watch(cursor)
        for _ in range(chance.randint(1, 4)):
            message = next(stream)
            handled += message.events
            cursor = message.cursor
            silence = 0 if message.events or not last else silence + 1
            if last and handled and handled[-1].sequence >= last[0]:
                stream.cancel()
                return handled
        if chance.random() < 0.5:
            next(stream)  # received and lost in the crash
        stream.cancel()
    raise AssertionError("the last event was never told")


def _assert_grows_for_each_user(events: list[pb.ConnectionEvent]) -> None:
    story: dict[int, list[int]] = {}
    for event in events:
        story.setdefault(event.actor_id, []).append(event.actor_revision)
        story.setdefault(event.peer_id, []).append(event.peer_revision)
    assert all(old <= new for revisions in story.values() for old, new in pairwise(revisions))


# Widens the gap between an event's number and its commit, where a careless reader passes over it.
_LINGER = """
    CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(random() * 0.03); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON connection_events
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger();
"""


def test_consumers_who_crash_see_every_event_of_many_writers_once_and_in_order(
    databases: Databases,
) -> None:
    ids = _new(16)
    last: list[int] = []
    with _running(databases) as graph, ThreadPoolExecutor(16) as threads:
        with Session(graph.url) as session:
            session.rows(_LINGER)
            session.commit()
        stream, cursor = graph.begun()
        stream.cancel()
        consumers = [
            threads.submit(_consume, graph, cursor, last, random.Random(seed)) for seed in range(4)
        ]
        writers = [threads.submit(_write, graph, ids, seed) for seed in range(_WRITERS)]
        for writer in writers:
            writer.result()
        stored = _stored(graph, f"actor_id IN ({','.join(map(str, ids))})")
        last.append(stored[-1][0])
        seen = [consumer.result() for consumer in consumers]

    assert len(stored) > 200
    for handled in seen:
        assert [
            (event.sequence, _kind(event).lower(), event.actor_id, event.peer_id)
            for event in handled
        ] == stored
        _assert_grows_for_each_user(handled)


def _draw(session: Session, user_id: int) -> int:
    """Leave a transaction open that has given a number to an event."""
    session.rows(f"SELECT FROM users WHERE user_id = {user_id} FOR UPDATE")
    [(seq,)] = session.rows(
        "INSERT INTO connection_events (kind, actor_id, peer_id)"
        f" VALUES ('requested', {user_id}, {user_id + 1}) RETURNING seq"
    )
    return int(seq)


def test_what_is_committed_late_is_waited_for(graph: _Graph) -> None:
    alice, bob, carol, dave = _new(4)
    graph.change("RequestConnection", alice, bob)
    stream, _ = graph.begun()
    with Session(graph.url) as session:
        early = _draw(session, alice)
        graph.change("RequestConnection", carol, dave)
        cursor = _silence(stream)
        session.commit()

    told = _events(stream, 2)
    resumed = _events(graph.watch(cursor), 2)

    stream.cancel()
    assert told[0].sequence == early
    assert told[1].actor_id == carol
    assert resumed == told


def test_what_is_rolled_back_is_waited_for_no_longer(graph: _Graph) -> None:
    alice, bob, carol, dave = _new(4)
    graph.change("RequestConnection", alice, bob)
    stream, _ = graph.begun()
    with Session(graph.url) as session:
        _draw(session, alice)
        graph.change("RequestConnection", carol, dave)
        _silence(stream)

    [told] = _events(stream, 1)

    stream.cancel()
    assert told.actor_id == carol


@pytest.mark.parametrize("others", [0, 1])
def test_a_stream_that_begins_during_a_transaction_tells_what_was_not_there_to_be_read(
    databases: Databases, others: int
) -> None:
    alice, bob, carol, dave = _new(4)
    with _running(databases) as graph, Session(graph.url) as session:
        graph.change("RequestConnection", alice, bob)
        watching = [graph.begun()[0] for _ in range(others)]
        seq = _draw(session, alice)
        # A stream that begins beside another does not wait for it, however late it begins.
        commit = threading.Timer(_LONG_SECONDS if watching else 0.3, session.commit)
        commit.start()

        stream, _ = graph.begun()
        was_there = bool(_stored(graph, f"seq = {seq}"))
        commit.cancel()
        commit.join()
        session.commit()
        graph.change("RequestConnection", carol, dave)
        told = _events(stream, 1 if was_there else 2)

        assert told[-1].actor_id == carol
        assert was_there or told[-2].sequence == seq
        assert was_there == (not watching)


def test_an_idle_stream_has_heartbeats_from_which_it_can_be_resumed(graph: _Graph) -> None:
    alice, bob = _new(2)
    stream, _ = graph.begun()
    heartbeat = _silence(stream)
    stream.cancel()
    graph.change("RequestConnection", alice, bob)

    resumed = graph.watch(heartbeat)
    [told] = _events(resumed, 1)
    _silence(resumed)

    resumed.cancel()
    assert (told.actor_id, told.peer_id) == (alice, bob)


def _read_to_the_end(stream: _Stream) -> tuple[list[int], str, grpc.RpcError]:
    """Return the numbers told, the last cursor, and what ended the stream."""
    numbers: list[int] = []
    cursor = ""
    try:
        for message in islice(stream, 3 * _PATIENCE):
            numbers += [event.sequence for event in message.events]
            cursor = message.cursor
    except grpc.RpcError as error:
        return numbers, cursor, error
    raise AssertionError("the stream ended without an error")


def _until_stalled(graph: _Graph, *, seconds: float) -> None:
    """Wait until a stream has waited so long for a client who does not read."""
    sent, since = 0.0, time.monotonic()

    def has_stalled() -> bool:
        nonlocal sent, since
        before, sent = sent, scrape(graph.server).value("watch_events_total")
        if sent != before:
            since = time.monotonic()
        return sent > 0 and time.monotonic() - since > seconds

    until(has_stalled)


def test_a_slow_consumer_is_cut_off_and_resumes_without_loss(databases: Databases) -> None:
    with _running(databases, WATCH_SEND_SECONDS="4") as graph:
        former, start = graph.begun()
        former.cancel()
        until(lambda: scrape(graph.server).value("watch_streams") == 0)
        numbers = graph.backlog()
        stream = graph.watch(start)
        # Longer than a message may wait, shorter than twice that.
        _until_stalled(graph, seconds=4.5)

        told, cursor, error = _read_to_the_end(stream)
        rest = _events(graph.watch(cursor), _BACKLOG - len(told))

    assert reason_of(error) == "CONSUMER_TOO_SLOW"
    assert told + [event.sequence for event in rest] == numbers


def _admitted(graph: _Graph, cursor: str = "") -> _Stream:
    """Open a stream as soon as there is a slot for it."""
    streams: list[_Stream] = []

    def is_admitted() -> bool:
        try:
            streams.append(graph.begun(cursor)[0])
        except grpc.RpcError as error:
            if reason_of(error) == "OVERLOADED":
                return False
            raise
        return True

    until(is_admitted)
    return streams[0]


def test_a_consumer_who_takes_nothing_any_more_loses_its_slot(databases: Databases) -> None:
    with _running(databases, WATCH_SEND_SECONDS="1", GRAPH_MAX_WATCHERS="1") as graph:
        first, start = graph.begun()
        first.cancel()
        _admitted(graph, start).cancel()
        graph.backlog()
        stalled = _admitted(graph, start)

        other = _admitted(graph)
        _, _, error = _read_to_the_end(stalled)
        other.cancel()

    assert isinstance(error, grpc.Call)
    assert error.code() is grpc.StatusCode.CANCELLED


def test_a_stopping_server_ends_streams_at_once_and_begins_none(databases: Databases) -> None:
    with _running(databases, DRAIN_SECONDS="5") as graph:
        streams = [graph.begun()[0] for _ in range(3)]
        stopping = threading.Thread(target=graph.server.stop)
        stopping.start()

        errors = [_read_to_the_end(stream)[2] for stream in streams]
        errors.append(_read_to_the_end(graph.watch())[2])
        is_draining = stopping.is_alive()
        stopping.join()

    assert is_draining
    assert {reason_of(error) for error in errors} == {"DRAINING"}
    assert all(decoded(error).retry_after for error in errors)


def test_there_are_no_more_streams_than_allowed_and_a_slot_is_free_again_at_once(
    databases: Databases,
) -> None:
    with _running(databases, GRAPH_MAX_WATCHERS="2", WATCH_HEARTBEAT_SECONDS="3600") as graph:
        streams = [graph.begun()[0] for _ in range(2)]
        with pytest.raises(grpc.RpcError) as caught:
            next(graph.watch())

        streams[0].cancel()
        streams.append(_admitted(graph))
        graph.change("RequestConnection", 1, 2)
        told = [_events(stream, 1) for stream in streams[1:]]

    assert reason_of(caught.value) == "OVERLOADED"
    assert decoded(caught.value).retry_after
    assert [event.actor_id for [event] in told] == [1, 1]


def test_open_streams_take_no_threads_from_calls(databases: Databases) -> None:
    with _running(databases, GRAPH_MAX_WATCHERS="24", GRAPH_THREADS="1") as graph:
        streams = [graph.begun()[0] for _ in range(24)]
        graph.change("RequestConnection", 1, 2)

        told = [_events(stream, 1)[0].actor_id for stream in streams]

    assert told == [1] * 24


@pytest.mark.parametrize("change", ["damaged", "another call's", "made up"])
def test_a_cursor_that_is_none_of_these_streams_is_refused(graph: _Graph, change: str) -> None:
    graph.stub.ImportConnections(
        iter(
            [
                pb.ImportConnectionsRequest(
                    connections=[pb.ConnectionPair(first_user_id=1, second_user_id=2)]
                )
            ]
        )
    )
    cursor = {
        "damaged": graph.begun()[1][:-1],
        "another call's": next(graph.stub.ExportConnections(pb.ExportConnectionsRequest())).cursor,
        "made up": "now",
    }[change]

    with pytest.raises(grpc.RpcError) as caught:
        next(graph.watch(cursor))

    assert reason_of(caught.value) == "INVALID_PAGE_TOKEN"
    assert fields_of(caught) == ["cursor"]


def _refused(graph: _Graph, cursor: str) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        next(graph.watch(cursor))
    assert fields_of(caught) == ["cursor"]
    return reason_of(caught.value)


def test_a_cursor_of_another_database_is_refused(graph: _Graph, databases: Databases) -> None:
    graph.change("RequestConnection", *_new(2))
    _, cursor = graph.begun()

    with _running(databases) as other:
        reason = _refused(other, cursor)

    assert reason == "CURSOR_OF_ANOTHER_HISTORY"


@contextmanager
def _restored(databases: Databases, backup: str) -> Iterator[_Graph]:
    """Run on a copy of a database without writers."""
    with _running_on(databases.copy(backup)) as running:
        yield running


def test_a_cursor_from_after_a_restored_backup_is_refused_when_its_number_was_given_anew(
    databases: Databases,
) -> None:
    backup = databases.new("graph")
    with _running_on(backup) as graph:
        people = _new(4)
        for peer in people[1:]:
            graph.change("RequestConnection", people[0], peer)
        _, before = graph.begun()
    with _restored(databases, backup) as lost:
        for peer in people[1:]:
            lost.change("AcceptConnection", peer, people[0])
        _, after = lost.begun()

    with _restored(databases, backup) as restored:
        ahead = _refused(restored, after)
        for _ in range(2):
            restored.change("AcceptConnection", people[1], people[0])
            restored.change("RemoveConnection", people[1], people[0])
            restored.change("RequestConnection", people[0], people[1])
        renumbered = _refused(restored, after)
        told = _events(restored.watch(before), 6)

    assert [ahead, renumbered] == ["CURSOR_OF_ANOTHER_HISTORY"] * 2
    assert [_kind(event) for event in told] == ["CONNECTED", "REMOVED", "REQUESTED"] * 2


def test_a_cursor_of_an_event_that_was_erased_since_is_resumed(graph: _Graph) -> None:
    alice, bob, carol = _new(3)
    graph.change("RequestConnection", alice, bob)
    stream, _ = graph.begun()
    graph.change("RequestConnection", bob, carol)
    message = next(message for message in stream if message.events)
    stream.cancel()
    graph.stub.DeleteUser(pb.DeleteUserRequest(user_id=bob))

    resumed = graph.watch(message.cursor)
    [told] = _events(resumed, 1)
    resumed.cancel()

    assert (_kind(told), told.actor_id) == ("USER_DELETED", bob)


def test_a_cursor_of_the_version_before_is_resumed(graph: _Graph) -> None:
    alice, bob = _new(2)
    graph.change("RequestConnection", alice, bob)
    [(last, *_)] = _stored(graph, f"actor_id = {alice}")
    graph.change("CancelConnectionRequest", alice, bob)
    tokens = PageTokens(keys=[_KEY.encode()])

    [told] = _events(graph.watch(tokens.issue(Scope.of("watch"), [last])), 1)
    reason = _refused(graph, tokens.issue(Scope.of("watch"), [last + 1_000_000]))

    assert _kind(told) == "CANCELLED"
    assert reason == "CURSOR_OF_ANOTHER_HISTORY"


def test_a_stream_ends_when_another_database_takes_the_place_of_its_own(
    databases: Databases,
) -> None:
    with _running(databases) as graph:
        graph.change("RequestConnection", *_new(2))
        stream, cursor = graph.begun()

        # As after a restore: the event is not there, and the others are in another file.
        with engine_to(graph.url).connect() as connection:
            connection.execute(sqlalchemy.text("DELETE FROM connection_events"))
            connection.execute(sqlalchemy.text("VACUUM FULL connection_events"))

        with pytest.raises(grpc.RpcError) as caught:
            _events(stream, 1)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert _refused(graph, cursor) == "CURSOR_OF_ANOTHER_HISTORY"


@pytest.mark.parametrize(
    ("statement", "is_wanted"),
    [
        ("WHERE seq <= 1 ORDER BY seq DESC LIMIT 1) UNION ALL", True),
        ("FROM connection_events WHERE seq > 1", True),
        ("FROM connection_events WHERE seq <= 2", False),
    ],
    ids=["after the cursor was found", "before a page is read", "before a heartbeat"],
)
def test_a_stream_passes_over_nothing_when_its_database_is_replaced_between_two_statements(
    databases: Databases, statement: str, *, is_wanted: bool
) -> None:
    url = databases.new("graph")
    is_replaced = threading.Event()

    def replaced_before(sent: str) -> str:
        if statement in " ".join(sent.split()) and not is_replaced.is_set():
            is_replaced.set()
            # The numbers are given to other events, in another file.
            with engine_to(url).connect() as connection:
                for change in ("UPDATE {} SET occurred_at = now()", "VACUUM FULL {}"):
                    connection.execute(sqlalchemy.text(change.format("connection_events")))
        return sent

    alice, bob, carol, nobody = _new(4)
    with _running_on(url) as graph:
        graph.change("RequestConnection", alice, bob)
        _, cursor = graph.begun()
        graph.change("RequestConnection", alice, carol)
    with tapped(url) as (tap, through), _running_on(through, DATABASE_PREPARE="off") as graph:
        tap.rewritten = replaced_before
        stream = graph.watch(cursor, user_ids=[alice if is_wanted else nobody])
        cursors = [cursor]
        with pytest.raises(grpc.RpcError) as caught:
            cursors.extend(next(stream).cursor for _ in range(_PATIENCE))

        assert is_replaced.is_set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert _refused(graph, cursors[-1]) == "CURSOR_OF_ANOTHER_HISTORY"


def test_a_stream_ends_when_the_database_is_gone(databases: Databases) -> None:
    with running_pair(databases) as pair:
        stream = pair.graph.WatchConnections(pb.WatchConnectionsRequest())
        next(stream)
        pair.graph_tap.close()

        _, _, error = _read_to_the_end(stream)

    assert decoded(error).code is grpc.StatusCode.UNAVAILABLE
    assert decoded(error).retry_after
