"""No change of connections is committed before every keeper of fences has been told of it."""

import logging
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

import grpc
import pytest
import sqlalchemy
from sqlalchemy import text

from graph_service import fence_keepers, fence_registrations
from graph_service.fences import FenceClosing
from graph_service.queries.fences import ToldChange
from kith.exceptions import UnavailableError
from kith.graph.v1 import fence_keeper_pb2 as pb_keeper
from kith.graph.v1 import graph_pb2 as pb
from shared.database import schema
from tests.support.engines import engine_to
from tests.support.errors import decoded, reason_of
from tests.support.fence_keeper import EVERYBODY, Keeper, serving_keeper
from tests.support.pair import Databases, Pair, running_pair, running_pair_on
from tests.support.pauses import removing
from tests.support.people import People
from tests.support.processes import run, until
from tests.support.roles import owner
from tests.support.upkeep import closing_alone, closing_fences, keepers_alone

_UNAVAILABLE = "FENCE_KEEPER_UNAVAILABLE"
# A ceiling that only something broken reaches.
_WITHIN_SECONDS = 60
# The least time to live of packets that a socket of Linux takes.
_IP_MINTTL = 21
# A registration waits for the lock that changes have.
_WAITING = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
_WAITING_FOR_TABLE = (
    "SELECT FROM pg_locks WHERE relation = to_regclass('connection_events') AND NOT granted"
)


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    """A keeper that the graph of the pair tells of its changes."""
    with serving_keeper() as keeper:
        yield keeper


@pytest.fixture(scope="module")
def pair(databases: Databases, keeper: Keeper) -> Iterator[Pair]:
    with running_pair(databases, {"FENCE_KEEPERS": keeper.target}) as pair:
        until(lambda: registered(pair))
        yield pair


@pytest.fixture
def people(pair: Pair, keeper: Keeper) -> Iterator[People]:
    keeper.forget()
    yield People(pair)
    keeper.before_open = lambda *_: None
    keeper.is_closing = True


def rows(pair: Pair, statement: str) -> list[tuple[object, ...]]:
    with engine_to(pair.graph_url).connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def registered(pair: Pair) -> list[tuple[object, ...]]:
    return rows(pair, "SELECT target, keeper_id::text, keeper_history FROM fence_keepers")


def revisions(pair: Pair) -> dict[object, object]:
    return dict(rows(pair, "SELECT user_id, revision FROM users"))  # type: ignore[arg-type]  # pairs


def request(pair: Pair, user_id: int, peer_id: int) -> None:
    pair.graph.RequestConnection(pb.RequestConnectionRequest(user_id=user_id, peer_id=peer_id))


def accept(pair: Pair, user_id: int, peer_id: int) -> None:
    pair.graph.AcceptConnection(pb.AcceptConnectionRequest(user_id=user_id, peer_id=peer_id))


def suspend(pair: Pair, user_id: int) -> None:
    pair.graph.SuspendUser(pb.SuspendUserRequest(user_id=user_id))


def restore(pair: Pair, user_id: int) -> None:
    pair.graph.RestoreUser(pb.RestoreUserRequest(user_id=user_id))


def erase(pair: Pair, user_id: int) -> None:
    pair.graph.DeleteUser(pb.DeleteUserRequest(user_id=user_id))


def is_connected(pair: Pair, user_id: int, peer_id: int) -> bool:
    asked = pb.GetConnectionRequest(user_id=user_id, peer_id=peer_id)
    state = pair.graph.GetConnection(asked).connection.state
    return state == pb.CONNECTION_STATE_CONNECTED


def ask(pair: Pair, user_id: int) -> pb.GetConnectedUserIdsResponse:
    asked = pb.GetConnectedUserIdsRequest.UserQuery(user_id=user_id, known_revision=1)
    return pair.graph.GetConnectedUserIds(pb.GetConnectedUserIdsRequest(users=[asked]))


@contextmanager
def refused(reason: str = _UNAVAILABLE) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert reason_of(caught.value) == reason
    assert decoded(caught.value).retry_after is not None


def say_unavailable(_request: object, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAVAILABLE, "away")


@contextmanager
def not_registered_again(keeper: Keeper) -> Iterator[None]:
    """Keep the pair's upkeep from mending a registration in the block, which it may do at once."""
    keeper.before_open = lambda told, context: (
        say_unavailable(told, context) if told.everybody else None
    )
    yield
    keeper.before_open = lambda *_: None


def test_every_change_is_fenced_for_exactly_those_whose_revision_it_raises(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two, three, four = people.new(4)
    changes: list[tuple[str, Callable[[], object]]] = [
        ("a request", lambda: request(pair, one, two)),
        ("a request once more", lambda: request(pair, one, two)),
        ("an acceptance", lambda: accept(pair, two, one)),
        ("an acceptance once more", lambda: accept(pair, two, one)),
        ("a request", lambda: request(pair, three, one)),
        ("a request back, which connects", lambda: request(pair, one, three)),
        ("a removal", lambda: people.remove(one, two)),
        ("a removal once more", lambda: people.remove(one, two)),
        ("a block of a connection", lambda: people.block(one, three)),
        ("a withheld request", lambda: request(pair, three, one)),
        ("the end of a block", lambda: people.unblock(one, three)),
        ("an import", lambda: people.connect(one, two, four)),
        ("an import once more", lambda: people.connect(one, two, four)),
    ]

    for name, change in changes:
        before = revisions(pair)
        keeper.forget()

        change()

        after = revisions(pair)
        raised = {user_id for user_id in after if before.get(user_id, 0) != after[user_id]}
        assert {*(each for told in keeper.opened for each in told.user_ids)} == raised, name
        assert len(keeper.opened) == bool(raised), name
        assert not any(told.everybody for told in keeper.opened), name
        keeper.wait_until_closed()


def test_an_erasure_is_fenced_for_the_user_and_all_whom_it_concerns(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    blocked, stranger = people.new(2)
    people.block(one, blocked)
    keeper.forget()

    erase(pair, one)
    erase(pair, stranger)

    assert [list(told.user_ids) for told in keeper.opened] == [
        sorted([one, two, blocked]),
        [stranger],
    ]
    keeper.wait_until_closed()


def test_suspensions_and_large_changes_are_fenced_for_everybody(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, *others = people.new(1_001)
    generation = keeper.generations.get(EVERYBODY)
    changes: list[Callable[[], object]] = [
        lambda: suspend(pair, one),
        lambda: restore(pair, one),
        lambda: people.connect(one, *others),
        lambda: erase(pair, one),
    ]
    for change in changes:
        keeper.forget()

        change()

        [told] = keeper.opened
        assert told.everybody
        assert not told.user_ids
        assert keeper.generations[EVERYBODY] != generation
        generation = keeper.generations[EVERYBODY]


def test_a_change_is_told_before_others_can_see_it(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    seen = list[bool]()
    keeper.before_open = lambda *_: seen.append(is_connected(pair, one, two))

    people.remove(one, two)

    assert seen == [True]
    assert not is_connected(pair, one, two)


def test_a_change_that_cannot_be_told_is_not_made(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    blocked, suspended = people.new(2)
    suspend(pair, suspended)
    keeper.forget()
    before = revisions(pair)
    keeper.before_open = say_unavailable

    changes: list[Callable[[], object]] = [
        lambda: people.remove(one, two),
        lambda: people.block(one, blocked),
        lambda: people.connect(two, blocked),
        lambda: suspend(pair, one),
        lambda: restore(pair, suspended),
        lambda: erase(pair, one),
    ]
    for change in changes:
        with refused():
            change()

    assert revisions(pair) == before
    assert is_connected(pair, one, two)
    keeper.before_open = lambda *_: None
    until(lambda: not _fails(lambda: people.remove(one, two)))


def _fails(call: Callable[[], object]) -> bool:
    """Whether a keeper cannot be told of a change."""
    try:
        call()
    except grpc.RpcError as error:
        if reason_of(error) != _UNAVAILABLE:
            raise
        return True
    return False


def test_a_fenced_change_sends_its_database_no_message_more(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    keeper.forget()
    pair.graph_tap.reset()

    people.remove(one, two)

    sent = [each for each in pair.graph_tap.statements if str(one) in each or each == "COMMIT"]
    assert len(sent) == len(["lock the pair", "change it", "COMMIT"])


def test_what_changes_no_cached_answer_goes_on_while_a_keeper_is_away(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.new(2)
    keeper.before_open = say_unavailable

    request(pair, one, two)
    pair.graph.DeclineConnection(pb.DeclineConnectionRequest(user_id=two, peer_id=one))
    people.remove(one, two)

    assert not keeper.opened


def test_a_repeat_is_answered_while_a_keeper_is_away(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    removal = pb.RemoveConnectionRequest(user_id=one, peer_id=two, request_id=str(uuid.uuid4()))
    first = pair.graph.RemoveConnection(removal)
    keeper.before_open = say_unavailable

    assert pair.graph.RemoveConnection(removal) == first


def test_reads_find_a_slot_while_half_of_the_slots_wait_for_a_keeper(
    pair: Pair, people: People, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [people.connected(2) for _ in range(16)]
    is_over = Event()

    def wait(*_: object) -> None:
        is_over.wait(_WITHIN_SECONDS)

    # No change gives up waiting for the keeper, so that its turn is nobody else's.
    monkeypatch.setattr(fence_keepers, "_OPEN_SECONDS", 2.0 * _WITHIN_SECONDS)
    keeper.before_open = wait

    with ThreadPoolExecutor(16) as threads:
        changes = [threads.submit(_fails, partial(people.remove, *each)) for each in users]
        try:
            until(lambda: sum(map(Future.done, changes)) == 12, within_seconds=_WITHIN_SECONDS)
            assert all(change.result() for change in changes if change.done())
            ask(pair, users[0][0])
        finally:
            is_over.set()

    assert [change.result() for change in changes].count(False) == 4


def test_calls_that_leave_a_keeper_no_time_keep_nobody_else_from_changing(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, *others, last = people.connected(6)
    is_over = Event()

    def wait(*_: object) -> None:
        is_over.wait(_WITHIN_SECONDS)

    keeper.before_open = wait
    try:
        for other in others:
            removal = pb.RemoveConnectionRequest(user_id=one, peer_id=other)
            with pytest.raises(grpc.RpcError):
                pair.graph.RemoveConnection(removal, timeout=0.2)
    finally:
        is_over.set()

    people.remove(one, last)

    assert not is_connected(pair, one, last)


def test_answers_of_the_primary_name_the_keeper(pair: Pair, people: People, keeper: Keeper) -> None:
    [one] = people.new(1)

    suspended = pair.graph.GetSuspendedUserIds(pb.GetSuspendedUserIdsRequest())

    assert list(ask(pair, one).fence_keepers) == [keeper.name]
    assert list(suspended.fence_keepers) == [keeper.name]


def test_a_keeper_is_told_again_whose_worker_cancels_calls_as_it_stops(
    people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    told = list[str]()

    def cancel_first(request: pb_keeper.OpenFencesRequest, context: grpc.ServicerContext) -> None:
        told.append(request.change_id)
        if len(told) == 1:
            context.abort(grpc.StatusCode.CANCELLED, "")

    keeper.before_open = cancel_first

    people.remove(one, two)

    assert len(told) == 2
    assert len(set(told)) == 1


def test_a_keeper_is_told_although_the_first_packet_to_it_was_dropped() -> None:
    change = ToldChange(uuid.uuid4(), "1", "this")
    with keepers_alone() as keepers, ThreadPoolExecutor(1) as threads:
        with _dropping_first_packets() as port:
            # As when the worker that it was connected with is replaced, and then the next one.
            target = f"127.0.0.1:{port}"
            told = threads.submit(keepers.open, change, [1, 2], targets=[target])
            until(lambda: _connects(port))
        with serving_keeper(port=port) as keeper:
            [name] = told.result()

    assert name == (keeper.keeper_id, keeper.name.history)


@contextmanager
def _dropping_first_packets() -> Iterator[int]:
    """Yield the port of a listener that lets nobody in, as one does that a worker is leaving."""
    with socket.socket() as listener:
        listener.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, 255)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _connects(port: int) -> bool:
    """Whether somebody has sent a first packet to a port of this machine, which nobody answers."""
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    sockets = [line.split() for table in tables for line in table.read_text().splitlines()]
    return any(peer.endswith(f":{port:04X}") and state == "02" for _, _, peer, state, *_ in sockets)


def test_fences_are_closed_after_their_changes_without_upkeep() -> None:
    over = [pb_keeper.OpenFencesRequest(change_id=str(uuid.uuid4())) for _ in range(3)]
    with serving_keeper() as keeper, closing_alone() as closing:
        keeper.open |= {told.change_id: told for told in over}
        for told in over:
            closing.add([keeper.target], uuid.UUID(told.change_id))

        keeper.wait_until_closed()

    assert keeper.closed == [told.change_id for told in over]


def test_fences_that_stay_open_are_logged_once_for_each_outage_of_their_keeper(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kith.fences")

    with serving_keeper() as keeper, closing_alone() as closing:
        for _ in range(2):
            keeper.is_closing = False
            # The last may be closed after all, by a retry of its call.
            for _ in range(3):
                _close(closing, keeper, keeper.not_closed)
            keeper.is_closing = True
            _close(closing, keeper, keeper.closed)

    # The pair may register its own keeper again meanwhile.
    of_keeper = [each for each in caplog.records if vars(each).get("target") == keeper.target]
    assert [each.message for each in of_keeper] == ["fences are left open"] * 2


def _close(closing: FenceClosing, keeper: Keeper, answered: list[str]) -> None:
    """Have a fence closed; waits until the keeper has put it among those it answered so."""
    change_id = uuid.uuid4()
    closing.add([keeper.target], change_id)
    until(lambda: str(change_id) in answered)


def test_fences_that_a_change_has_left_open_are_closed_once_it_is_over(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    keeper.forget()
    keeper.is_closing = False
    people.remove(one, two)
    assert keeper.open
    keeper.is_closing = True

    with closing_fences(pair, keeper.target) as upkeep:
        upkeep.run()

    # The upkeep of the pair may be at it: one process closes them at a time.
    keeper.wait_until_closed()


def test_fences_that_are_opened_after_their_change_was_given_up_are_closed(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    keeper.forget()

    def wait_for_close(request: pb_keeper.OpenFencesRequest, _context: object) -> None:
        until(lambda: request.change_id in keeper.closed)

    keeper.before_open = wait_for_close
    with refused():
        people.remove(one, two)
    until(lambda: keeper.opened)

    with closing_fences(pair, keeper.target) as upkeep:
        upkeep.run()

    keeper.wait_until_closed()
    assert is_connected(pair, one, two)


def test_fences_stay_open_while_the_transaction_of_their_change_goes_on(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    keeper.forget()

    with (
        removing(pair, one, two),
        closing_fences(pair, keeper.target) as upkeep,
    ):
        [told] = keeper.opened
        upkeep.run()
        assert told.change_id in keeper.open

    keeper.wait_until_closed()


def test_fences_of_a_transaction_that_is_lost_are_closed(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    """Its number is one that was not given to any other, as after a crash."""
    [(history,)] = rows(pair, "SELECT graph_history FROM fence_keepers")
    [one] = people.new(1)
    told = pb_keeper.OpenFencesRequest(
        change_id=str(uuid.uuid4()),
        user_ids=[one],
        transaction=str(2**40),
        graph_history=str(history),
    )
    keeper.open[told.change_id] = told

    with closing_fences(pair, keeper.target) as upkeep:
        upkeep.run()

    keeper.wait_until_closed()


def test_fences_of_another_history_of_the_graph_are_closed(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    [one] = people.new(1)
    told = pb_keeper.OpenFencesRequest(
        change_id=str(uuid.uuid4()), user_ids=[one], transaction="7", graph_history="another"
    )
    keeper.open[told.change_id] = told

    with closing_fences(pair, keeper.target) as upkeep:
        upkeep.run()

    keeper.wait_until_closed()


def test_fences_of_another_history_stay_open_while_its_graph_has_the_claim(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    """A keeper that is claimed by another graph cannot be registered, as it does not answer."""
    [one] = people.new(1)
    told = pb_keeper.OpenFencesRequest(
        change_id=str(uuid.uuid4()), user_ids=[one], transaction="7", graph_history="another"
    )
    keeper.before_open = say_unavailable
    keeper.open[told.change_id] = told
    keeper.claims += 1

    with closing_fences(pair, keeper.target) as upkeep:
        with pytest.raises(UnavailableError):
            upkeep.run()
        assert told.change_id in keeper.open

        keeper.before_open = lambda *_: None
        until(lambda: registered(pair)[0][2] == keeper.name.history)
        upkeep.run()

    keeper.wait_until_closed()
    assert told.change_id in keeper.closed


def test_fences_of_another_history_stay_open_until_the_keeper_is_registered_in_this_one(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    """Until then a change of the other history may be under way: registering waits for it."""
    [one] = people.new(1)
    told = pb_keeper.OpenFencesRequest(
        change_id=str(uuid.uuid4()), user_ids=[one], transaction="7", graph_history="another"
    )
    keeper.before_open = say_unavailable
    keeper.open[told.change_id] = told
    with engine_to(pair.graph_url).begin() as connection:
        connection.execute(text("UPDATE fence_keepers SET graph_history = 'another'"))

    with closing_fences(pair, keeper.target) as upkeep:
        with pytest.raises(UnavailableError):
            upkeep.run()
        assert told.change_id in keeper.open

        keeper.before_open = lambda *_: None
        until(lambda: ask(pair, one).fence_keepers)
        upkeep.run()

    keeper.wait_until_closed()
    assert told.change_id in keeper.closed


@contextmanager
def _telling_nobody(databases: Databases, keeper: Keeper) -> Iterator[Pair]:
    """Start a pair with an empty setting, which has ended the registration of a keeper.

    Not until then would it leave alone one that is registered.
    """
    urls = {service: databases.new(service) for service in ("graph", "feed")}
    with engine_to(urls["graph"]).begin() as connection:
        connection.execute(
            text("INSERT INTO fence_keepers VALUES (:target, :id, 'earlier', 'earlier')"),
            {"target": keeper.target, "id": keeper.keeper_id},
        )
    with running_pair_on(urls) as pair:
        until(lambda: not registered(pair))
        keeper.forget()
        yield pair


def test_a_keeper_is_registered_only_after_the_changes_that_are_under_way(
    databases: Databases,
) -> None:
    with serving_keeper() as keeper, _telling_nobody(databases, keeper) as pair:
        one, two, three = People(pair).connected(3)
        # Statements are prepared now, which would wait for the table as well.
        People(pair).remove(one, three)
        engine = sqlalchemy.create_engine(pair.graph_url, poolclass=sqlalchemy.NullPool)
        with closing_fences(pair, keeper.target) as upkeep, ThreadPoolExecutor(2) as threads:
            with engine.connect() as blocking:
                # A change stores its event after it has raised the revisions.
                blocking.execute(text("LOCK TABLE connection_events IN SHARE MODE"))
                removing = threads.submit(People(pair).remove, one, two)
                until(lambda: rows(pair, _WAITING_FOR_TABLE))
                registering = threads.submit(upkeep.run)
                until(lambda: rows(pair, _WAITING))
                assert not registered(pair)
                assert not keeper.opened
            removing.result()
            registering.result()

        assert registered(pair)


def test_a_process_that_knows_of_no_keeper_tells_one_that_has_been_registered(
    databases: Databases,
) -> None:
    with serving_keeper() as keeper, _telling_nobody(databases, keeper) as pair:
        people = People(pair)
        one, two = people.connected(2)
        with closing_fences(pair, keeper.target) as upkeep:
            upkeep.run()
        keeper.forget()

        people.remove(one, two)

        assert [sorted(fence.user_ids) for fence in keeper.opened] == [[one, two]]
        assert not is_connected(pair, one, two)


def test_a_keeper_with_another_history_is_registered_again_before_changes_go_on(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    keeper.forget()
    generation = keeper.generations.get(EVERYBODY)

    with not_registered_again(keeper):
        keeper.history = f"promoted {uuid.uuid4()}"
        with refused():
            people.remove(one, two)

    until(lambda: not _fails(lambda: people.remove(one, two)))
    assert registered(pair) == [(keeper.target, keeper.keeper_id, keeper.name.history)]
    assert keeper.generations[EVERYBODY] != generation
    keeper.wait_until_closed()


def test_another_keeper_at_the_address_is_not_registered_in_its_stead(
    people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    keeper_id, keeper.keeper_id = keeper.keeper_id, str(uuid.uuid4())

    for _ in range(2):
        with refused():
            people.remove(one, two)

    keeper.keeper_id = keeper_id
    until(lambda: not _fails(lambda: people.remove(one, two)))


def test_answers_name_no_keeper_that_is_registered_in_another_history_of_the_graph(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    keeper.forget()
    generation = keeper.generations.get(EVERYBODY)

    with not_registered_again(keeper):
        rows(pair, "UPDATE fence_keepers SET graph_history = 'before a failover' RETURNING target")
        assert not ask(pair, one).fence_keepers
        with refused():
            people.remove(one, two)

    until(lambda: not _fails(lambda: people.remove(one, two)))
    assert ask(pair, one).fence_keepers
    assert keeper.generations[EVERYBODY] != generation


def test_a_registration_that_is_lost_is_made_again_before_changes_go_on(
    pair: Pair, people: People, keeper: Keeper
) -> None:
    one, two = people.connected(2)
    keeper.forget()

    with not_registered_again(keeper):
        with engine_to(pair.graph_url).connect() as connection:
            # As in a backup from before the registration, whose table has another file.
            connection.execute(text("TRUNCATE fence_keepers"))
        with refused():
            people.remove(one, two)

    until(lambda: not _fails(lambda: people.remove(one, two)))
    assert registered(pair) == [(keeper.target, keeper.keeper_id, keeper.name.history)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET revision = revision + 1",
        "DELETE FROM users WHERE user_id = 1",
        "TRUNCATE users",
    ],
)
def test_a_client_that_knows_no_fences_changes_no_users_while_a_keeper_is_registered(
    pair: Pair, people: People, statement: str
) -> None:
    people.connected(2)
    before = revisions(pair)
    engine = sqlalchemy.create_engine(pair.graph_url, poolclass=sqlalchemy.NullPool)

    with (
        pytest.raises(sqlalchemy.exc.OperationalError, match="keepers of fences"),
        engine.begin() as connection,
    ):
        connection.execute(text(statement))

    assert revisions(pair) == before


def test_users_change_in_read_committed_alone(pair: Pair) -> None:
    engine = sqlalchemy.create_engine(
        pair.graph_url, poolclass=sqlalchemy.NullPool, isolation_level="REPEATABLE READ"
    )

    with engine.begin() as connection:
        connection.execute(text("SET LOCAL kith.fences = on"))
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="READ COMMITTED"):
            connection.execute(text("UPDATE users SET revision = revision + 1"))


def test_the_schema_is_not_taken_back_while_a_keeper_is_registered(pair: Pair) -> None:
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="FENCE_KEEPERS"):
        schema.downgrade("graph", owner("graph", pair.graph_url), "graph_0009")


def test_an_empty_setting_ends_registrations_after_a_fence_for_everybody(
    databases: Databases,
) -> None:
    urls = {service: databases.new(service) for service in ("graph", "feed")}
    with serving_keeper() as keeper:
        with running_pair_on(urls, {"FENCE_KEEPERS": keeper.target}) as pair:
            until(lambda: registered(pair))
            generation = keeper.generations[EVERYBODY]

        with running_pair_on(urls) as pair:
            until(lambda: not registered(pair))
            one, two = People(pair).connected(2)
            assert not ask(pair, one).fence_keepers
            assert is_connected(pair, one, two)

    assert keeper.generations[EVERYBODY] != generation
    assert not keeper.open


def test_a_process_without_the_setting_tells_who_is_registered(
    pair: Pair, people: People, keeper: Keeper, databases: Databases
) -> None:
    """The other process cannot end the registration, for the keeper does not let it."""
    keeper.before_open = lambda told, context: (
        say_unavailable(told, context) if told.everybody else None
    )
    urls = {"graph": pair.graph_url, "feed": databases.new("feed")}
    with running_pair_on(urls) as other:
        one, two = people.connected(2)
        keeper.forget()
        People(other).remove(one, two)

    assert [sorted(told.user_ids) for told in keeper.opened] == [sorted([one, two])]
    assert registered(pair)


def test_until_the_keeper_of_the_setting_is_registered_nothing_changes(
    databases: Databases,
) -> None:
    with (
        serving_keeper() as keeper,
        running_pair(databases, {"FENCE_KEEPERS": f"{keeper.target}, 127.0.0.1:9"}) as pair,
    ):
        until(lambda: len(registered(pair)) == 1)
        with refused():
            People(pair).connected(2)


@pytest.mark.usefixtures("people")
def test_upkeep_tries_in_each_round_while_a_keeper_is_away(pair: Pair, keeper: Keeper) -> None:
    keeper.before_open = say_unavailable
    keeper.history = f"promoted {uuid.uuid4()}"

    with closing_fences(pair, keeper.target) as upkeep:
        for _ in range(2):
            with pytest.raises(UnavailableError):
                upkeep.run()

    keeper.before_open = lambda *_: None
    until(lambda: registered(pair) == [(keeper.target, keeper.keeper_id, keeper.name.history)])


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("transaction", ["", "none", str(2**64)])
def test_a_fence_of_no_transaction_keeps_no_other_from_being_closed(
    pair: Pair, keeper: Keeper, transaction: str
) -> None:
    [(history,)] = rows(pair, "SELECT graph_history FROM fence_keepers")
    nobodys, lost = (
        pb_keeper.OpenFencesRequest(
            change_id=str(uuid.uuid4()), transaction=number, graph_history=str(history)
        )
        for number in (transaction, str(2**40))
    )
    keeper.open |= {each.change_id: each for each in (nobodys, lost)}

    with closing_fences(pair, keeper.target) as upkeep:
        upkeep.run()

    until(lambda: [*keeper.open] == [nobodys.change_id])
    keeper.open.clear()


def test_an_operator_is_shown_what_each_open_fence_waits_for(
    pair: Pair,
    people: People,
    keeper: Keeper,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GRAPH_DATABASE_URL", pair.graph_url)
    one, two, three = people.connected(3)
    keeper.forget()
    keeper.is_closing = False
    people.remove(one, three)
    [removed] = keeper.open
    told = keeper.open[removed]
    lost = pb_keeper.OpenFencesRequest(
        change_id=str(uuid.uuid4()), transaction=str(2**40), graph_history=told.graph_history
    )
    earlier = pb_keeper.OpenFencesRequest(
        change_id=str(uuid.uuid4()), transaction="7", graph_history="another"
    )
    keeper.open |= {each.change_id: each for each in (lost, earlier)}

    with removing(pair, one, two):
        [waiting] = {*keeper.open} - {removed, lost.change_id, earlier.change_id}
        assert fence_registrations.main([]) == 0

    first, *lines, last = capsys.readouterr().out.splitlines()
    waits = "; waits for graph_service to close it, within seconds"
    said = dict(re.sub(r"open for \d+ s  ", "", line).strip().split("  ") for line in lines)
    assert first == f"{keeper.target}  keeper {keeper.keeper_id}"
    assert last == "  4 open"
    assert re.fullmatch(
        r"transaction in progress in session \d+, which is idle in transaction", said.pop(waiting)
    )
    assert said == {
        removed: f"transaction committed{waits}",
        lost.change_id: f"transaction lost in a crash{waits}",
        earlier.change_id: f"transaction of another history{waits}",
    }


def test_an_operator_is_shown_that_a_keeper_has_another_history(
    pair: Pair,
    people: People,
    keeper: Keeper,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GRAPH_DATABASE_URL", pair.graph_url)
    keeper.before_open = say_unavailable
    keeper.claims += 1

    assert fence_registrations.main([]) == 0

    said = "  in another history than the registered one: graph_service registers it\n"
    assert said in capsys.readouterr().out
    keeper.before_open = lambda *_: None
    one, two = people.new(2)
    until(lambda: not _fails(lambda: people.connect(one, two)))


def test_an_operator_forgets_a_keeper_that_never_answers_again(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = {service: databases.new(service) for service in ("graph", "feed")}
    with (
        serving_keeper() as keeper,
        running_pair_on(urls, {"FENCE_KEEPERS": keeper.target}) as pair,
    ):
        until(lambda: registered(pair))
    monkeypatch.setenv("GRAPH_DATABASE_URL", urls["graph"])

    with running_pair_on(urls) as pair:
        with refused():
            People(pair).connected(2)
        assert fence_registrations.main([]) == 1
        assert capsys.readouterr().out == (
            f"{keeper.target}  keeper {keeper.keeper_id}\n"
            "  does not answer, so no connection can be changed\n"
        )
        assert fence_registrations.main(["forget", "another"]) == 1
        assert capsys.readouterr().err == "kith: no keeper is registered at another\n"
        assert run("shared.cli", {}, "fences", "--forget", keeper.target).returncode == 0

        listed = run("shared.cli", {}, "fences")
        assert listed.stdout == "no keeper is registered, so no change opens fences\n"
        one, two = People(pair).connected(2)
        assert is_connected(pair, one, two)
