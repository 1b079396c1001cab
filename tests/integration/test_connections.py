"""The graph's rules for a pair, its revisions, imports and erasure."""

import grpc
import pytest
import sqlalchemy
from sqlalchemy import text

from kith.graph.v1 import graph_pb2 as pb
from tests.support.engines import engine_to
from tests.support.errors import decoded, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People

_Answer = pb.GetConnectedUserIdsResponse.ConnectedUsers


def _change(pair: Pair, method: str, user_id: int, peer_id: int) -> pb.RequestConnectionResponse:
    request = getattr(pb, f"{method}Request")(user_id=user_id, peer_id=peer_id)
    response: pb.RequestConnectionResponse = getattr(pair.graph, method)(request)
    return response


def _ids(pair: Pair, user_id: int, known_revision: int = 0, *, own: bool = False) -> _Answer:
    query = pb.GetConnectedUserIdsRequest.UserQuery(user_id=user_id, known_revision=known_revision)
    request = pb.GetConnectedUserIdsRequest(users=[query], include_self=own)
    return pair.graph.GetConnectedUserIds(request).users[0]


def _state(pair: Pair, user_id: int, peer_id: int) -> str:
    request = pb.GetConnectionRequest(user_id=user_id, peer_id=peer_id)
    state = pair.graph.GetConnection(request).connection.state
    return pb.ConnectionState.Name(state).removeprefix("CONNECTION_STATE_")


def test_a_request_is_sent_to_one_and_received_by_the_other(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)

    _change(pair, "RequestConnection", alice, bob)

    assert _state(pair, alice, bob) == "REQUEST_SENT"
    assert _state(pair, bob, alice) == "REQUEST_RECEIVED"


def test_an_accepted_request_connects_both(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    _change(pair, "RequestConnection", alice, bob)

    response = _change(pair, "AcceptConnection", bob, alice)

    assert response.connection.state == pb.CONNECTION_STATE_CONNECTED
    assert _ids(pair, alice).connected_user_ids == [bob]
    assert _ids(pair, bob).connected_user_ids == [alice]


def test_asking_back_connects_at_once(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    _change(pair, "RequestConnection", alice, bob)

    _change(pair, "RequestConnection", bob, alice)

    assert _state(pair, alice, bob) == "CONNECTED"


@pytest.mark.parametrize(
    "method", ["RequestConnection", "RemoveConnection", "BlockUser", "UnblockUser"]
)
def test_repeating_a_change_changes_nothing_more(pair: Pair, people: People, method: str) -> None:
    alice, bob = people.connected(2)

    first = _change(pair, method, alice, bob)
    second = _change(pair, method, alice, bob)

    assert second == first


def test_accepting_what_nobody_asked_is_refused(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    _change(pair, "RequestConnection", alice, bob)

    with pytest.raises(grpc.RpcError) as caught:
        _change(pair, "AcceptConnection", alice, bob)

    assert reason_of(caught.value) == "CONNECTION_REQUEST_NOT_FOUND"


def test_a_declined_request_is_gone(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    _change(pair, "RequestConnection", alice, bob)

    _change(pair, "DeclineConnection", bob, alice)

    assert _state(pair, alice, bob) == "NONE"


def test_a_block_ends_a_connection_and_is_not_shown_to_the_other(
    pair: Pair, people: People
) -> None:
    alice, bob = people.connected(2)

    people.block(alice, bob)

    assert _state(pair, alice, bob) == "BLOCKED"
    assert _state(pair, bob, alice) == "NONE"
    assert not _ids(pair, bob).connected_user_ids


def test_unblocking_restores_nothing(pair: Pair, people: People) -> None:
    alice, bob = people.connected(2)
    people.block(alice, bob)

    _change(pair, "UnblockUser", alice, bob)

    assert _state(pair, alice, bob) == "NONE"


def test_ids_are_not_sent_again_while_the_revision_holds(pair: Pair, people: People) -> None:
    alice, _ = people.connected(2)
    known = _ids(pair, alice).revision

    again = _ids(pair, alice, known)

    assert again.unchanged
    assert again.revision == known
    assert not again.connected_user_ids


@pytest.mark.parametrize("ending", ["RemoveConnection", "BlockUser"])
def test_the_end_of_a_connection_raises_both_revisions(
    pair: Pair, people: People, ending: str
) -> None:
    alice, bob = people.connected(2)
    before = [_ids(pair, user).revision for user in (alice, bob)]

    _change(pair, ending, alice, bob)

    after = [_ids(pair, user, known) for user, known in zip((alice, bob), before, strict=True)]
    assert all(later.revision > old for later, old in zip(after, before, strict=True))
    assert not any(later.unchanged for later in after)


def test_a_user_nobody_knows_has_no_connections_and_revision_zero(
    pair: Pair, people: People
) -> None:
    [stranger] = people.new(1)

    answer = _ids(pair, stranger)

    assert answer == _Answer(user_id=stranger)


def test_a_user_is_among_their_own_ids_when_asked_for(pair: Pair, people: People) -> None:
    alice, bob = people.connected(2)

    assert sorted(_ids(pair, alice, own=True).connected_user_ids) == [alice, bob]


def test_a_batch_keeps_the_edge_between_two_of_its_users_and_the_order_asked(
    pair: Pair, people: People
) -> None:
    alice, bob = people.connected(2)
    queries = [pb.GetConnectedUserIdsRequest.UserQuery(user_id=user) for user in (bob, alice)]

    answers = pair.graph.GetConnectedUserIds(pb.GetConnectedUserIdsRequest(users=queries)).users

    assert [(answer.user_id, list(answer.connected_user_ids)) for answer in answers] == [
        (bob, [alice]),
        (alice, [bob]),
    ]


def test_an_import_says_what_became_of_each_pair(databases: Databases) -> None:
    with running_pair(databases, {"MAX_CONNECTIONS": "2"}) as pair:
        people = People(pair)
        hub, one, two, three, enemy = people.new(5)
        people.block(enemy, one)
        edges = [(hub, one), (one, hub), (hub, two), (hub, three), (one, enemy)]
        chunk = pb.ImportConnectionsRequest(
            connections=[
                pb.ConnectionPair(first_user_id=first, second_user_id=second)
                for first, second in edges
            ]
        )

        first, second = (pair.graph.ImportConnections(iter([chunk])) for _ in range(2))

    assert first == pb.ImportConnectionsResponse(
        imported_count=2, existing_count=1, blocked_count=1, over_limit_count=1, committed_chunks=1
    )
    assert (second.imported_count, second.existing_count) == (0, 3)


def test_an_import_makes_a_connection_of_an_open_request(pair: Pair, people: People) -> None:
    alice, bob, carol = people.new(3)
    pair.graph.RequestConnection(pb.RequestConnectionRequest(user_id=bob, peer_id=alice))

    chunk = pb.ImportConnectionsRequest(
        connections=[
            pb.ConnectionPair(first_user_id=alice, second_user_id=peer) for peer in (bob, carol)
        ]
    )
    result = pair.graph.ImportConnections(iter([chunk]))

    assert (result.imported_count, result.existing_count) == (2, 0)
    assert sorted(_ids(pair, alice).connected_user_ids) == [bob, carol]
    assert list(_ids(pair, bob).connected_user_ids) == [alice]


def test_a_broken_import_says_how_much_of_it_took_effect(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    chunks = [
        pb.ImportConnectionsRequest(
            connections=[pb.ConnectionPair(first_user_id=alice, second_user_id=peer)]
        )
        for peer in (bob, alice)
    ]

    with pytest.raises(grpc.RpcError) as caught:
        pair.graph.ImportConnections(iter(chunks))

    assert decoded(caught.value).metadata["committed_chunks"] == "1"
    assert _state(pair, alice, bob) == "CONNECTED"


def test_an_export_goes_on_from_its_cursor(databases: Databases) -> None:
    with running_pair(databases) as pair:
        people = People(pair)
        hub, *peers = people.connected(4)
        [chunk] = pair.graph.ExportConnections(pb.ExportConnectionsRequest())
        extra = people.new(1)
        people.connect(hub, *extra)

        [rest] = pair.graph.ExportConnections(pb.ExportConnectionsRequest(cursor=chunk.cursor))

    assert [edge.second_user_id for edge in chunk.connections] == peers
    assert [edge.second_user_id for edge in rest.connections] == extra


def test_an_erased_user_is_in_no_table_but_for_the_tombstone(databases: Databases) -> None:
    with running_pair(databases) as pair:
        people = People(pair)
        alice, bob, carol, dave, erin = people.connected(5)
        people.remove(alice, erin)
        people.block(alice, carol)
        people.block(dave, alice)
        before = _ids(pair, bob).revision

        response = pair.graph.DeleteUser(pb.DeleteUserRequest(user_id=alice))
        again = pair.graph.DeleteUser(pb.DeleteUserRequest(user_id=alice))

        assert response.removed_connection_count == 1
        assert again.removed_connection_count == 0
        assert _ids(pair, bob).revision > before
        assert _tables_naming(pair, alice) == ["connection_events", "erasures"]


def _tables_naming(pair: Pair, user_id: int) -> list[str]:
    with engine_to(pair.graph_url).connect() as connection:
        tables = sqlalchemy.inspect(connection).get_table_names()
        return [
            table
            for table in tables
            if connection.execute(
                text(f"SELECT 1 FROM {table} AS t WHERE t::text ~ :id"), {"id": rf"\m{user_id}\M"}
            ).all()
        ]
