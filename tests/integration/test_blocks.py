"""A block ends what is between two people, is not told, and hides each from the other."""

from collections.abc import Iterator

import grpc
import pytest
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


def _answer(pair: Pair, user_id: int, known_revision: int = 0, *, blocked: bool = True) -> _Answer:
    query = pb.GetConnectedUserIdsRequest.UserQuery(user_id=user_id, known_revision=known_revision)
    request = pb.GetConnectedUserIdsRequest(users=[query], include_blocked=blocked)
    return pair.graph.GetConnectedUserIds(request).users[0]


def _state(pair: Pair, user_id: int, peer_id: int) -> str:
    request = pb.CheckConnectionsRequest(user_id=user_id, peer_ids=[peer_id])
    [connection] = pair.graph.CheckConnections(request).connections
    single = pb.GetConnectionRequest(user_id=user_id, peer_id=peer_id)
    assert pair.graph.GetConnection(single).connection == connection
    return pb.ConnectionState.Name(connection.state).removeprefix("CONNECTION_STATE_")


def _requests(pair: Pair, user_id: int, direction: str) -> list[pb.Connection]:
    request = pb.ListConnectionRequestsRequest(
        user_id=user_id, direction=pb.RequestDirection.Value(f"REQUEST_DIRECTION_{direction}")
    )
    return list(pair.graph.ListConnectionRequests(request).connections)


def _shown_revision(pair: Pair, user_id: int) -> int:
    request = pb.CheckConnectionsRequest(user_id=user_id, peer_ids=[user_id + 1])
    return pair.graph.CheckConnections(request).user_revision


def _events_about(pair: Pair, *user_ids: int) -> list[str]:
    with engine_to(pair.graph_url).connect() as connection:
        rows = connection.execute(
            text(
                "SELECT kind FROM connection_events"
                " WHERE actor_id = ANY (:ids) AND peer_id = ANY (:ids) ORDER BY seq"
            ),
            {"ids": list(user_ids)},
        )
        return list(rows.scalars())


def test_a_request_to_a_blocker_is_answered_like_any_other(pair: Pair, people: People) -> None:
    alice, stranger, bob = people.new(3)
    people.block(alice, bob)

    to_alice = _change(pair, "RequestConnection", bob, alice)
    to_stranger = _change(pair, "RequestConnection", bob, stranger)

    assert to_alice.connection.state == pb.CONNECTION_STATE_REQUEST_SENT
    assert to_alice.user_revision == to_stranger.user_revision
    assert to_alice.connection.HasField("create_time")
    assert _change(pair, "RequestConnection", bob, alice) == to_alice
    assert [peer.peer_id for peer in _requests(pair, bob, "OUTGOING")] == [stranger, alice]
    assert _state(pair, bob, alice) == "REQUEST_SENT"


def test_a_request_to_a_blocker_is_not_shown_to_them(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)

    _change(pair, "RequestConnection", bob, alice)

    assert _requests(pair, alice, "INCOMING") == []
    assert _state(pair, alice, bob) == "BLOCKED"
    assert _events_about(pair, alice, bob) == ["blocked"]
    with pytest.raises(grpc.RpcError) as caught:
        _change(pair, "AcceptConnection", alice, bob)
    assert reason_of(caught.value) == "CONNECTION_REQUEST_NOT_FOUND"
    _change(pair, "DeclineConnection", alice, bob)
    assert _state(pair, bob, alice) == "REQUEST_SENT"


def test_a_request_to_a_blocker_can_be_withdrawn_and_made_again(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)
    _change(pair, "RequestConnection", bob, alice)

    withdrawn = _change(pair, "CancelConnectionRequest", bob, alice)

    assert withdrawn.connection.state == pb.CONNECTION_STATE_NONE
    assert _requests(pair, bob, "OUTGOING") == []
    _change(pair, "RequestConnection", bob, alice)
    assert _state(pair, bob, alice) == "REQUEST_SENT"
    assert _events_about(pair, alice, bob) == ["blocked"]


def test_a_request_to_a_blocker_is_gone_after_the_block_is_lifted(
    pair: Pair, people: People
) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)
    _change(pair, "RequestConnection", bob, alice)

    _change(pair, "UnblockUser", alice, bob)

    assert (_state(pair, bob, alice), _state(pair, alice, bob)) == ("NONE", "NONE")
    assert _requests(pair, alice, "INCOMING") == []


def test_who_asks_a_blocker_and_blocks_them_withdraws_the_request(
    pair: Pair, people: People
) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)
    _change(pair, "RequestConnection", bob, alice)

    people.block(bob, alice)
    _change(pair, "UnblockUser", bob, alice)

    assert _state(pair, bob, alice) == "NONE"
    assert _requests(pair, bob, "OUTGOING") == []


def test_a_blocker_who_asks_is_told_to_unblock_first(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)
    _change(pair, "RequestConnection", bob, alice)

    with pytest.raises(grpc.RpcError) as caught:
        _change(pair, "RequestConnection", alice, bob)

    assert reason_of(caught.value) == "PEER_BLOCKED"


@pytest.mark.parametrize("lost_by", ["DeclineConnection", "BlockUser"])
def test_a_block_looks_to_who_has_asked_as_a_decline_does(
    pair: Pair, people: People, lost_by: str
) -> None:
    alice, bob = people.new(2)
    _change(pair, "RequestConnection", bob, alice)
    before = _shown_revision(pair, bob)

    _change(pair, lost_by, alice, bob)

    assert _state(pair, bob, alice) == "NONE"
    assert _requests(pair, bob, "OUTGOING") == []
    assert _shown_revision(pair, bob) == before


def test_a_pair_with_a_withheld_request_is_not_imported(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)
    _change(pair, "RequestConnection", bob, alice)
    edge = pb.ConnectionPair(first_user_id=alice, second_user_id=bob)

    result = pair.graph.ImportConnections(iter([pb.ImportConnectionsRequest(connections=[edge])]))

    assert (result.blocked_count, result.imported_count) == (1, 0)
    assert _state(pair, bob, alice) == "REQUEST_SENT"


@pytest.mark.parametrize("erased", ["who asked", "who was asked"])
def test_a_withheld_request_is_erased_with_either_side(
    pair: Pair, people: People, erased: str
) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)
    _change(pair, "RequestConnection", bob, alice)

    gone, left = (bob, alice) if erased == "who asked" else (alice, bob)
    pair.graph.DeleteUser(pb.DeleteUserRequest(user_id=gone))

    assert _state(pair, left, gone) == "NONE"
    assert _requests(pair, left, "OUTGOING") == []


def test_a_request_left_behind_by_a_lifted_block_can_be_made_anew(
    pair: Pair, people: People
) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)
    _change(pair, "RequestConnection", bob, alice)
    with engine_to(pair.graph_url).connect() as connection:
        # As the version before lifts a block.
        connection.execute(text("DELETE FROM blocks WHERE blocker_id = :id"), {"id": alice})

    assert _state(pair, alice, bob) == "NONE"
    _change(pair, "RequestConnection", alice, bob)

    assert _state(pair, bob, alice) == "REQUEST_RECEIVED"


def test_ids_of_blocks_in_either_direction_come_when_they_are_asked_for(
    pair: Pair, people: People
) -> None:
    alice, bob, carol, dave = people.new(4)
    people.block(alice, bob)
    people.block(carol, alice)
    people.block(alice, dave)
    people.block(dave, alice)

    answer = _answer(pair, alice)

    assert sorted(answer.blocked_user_ids) == [bob, carol, dave]
    assert not _answer(pair, alice, blocked=False).blocked_user_ids
    again = _answer(pair, alice, answer.revision)
    assert again.unchanged
    assert not again.blocked_user_ids


@pytest.mark.parametrize("change", ["BlockUser", "UnblockUser"])
def test_a_block_between_strangers_raises_both_revisions(
    pair: Pair, people: People, change: str
) -> None:
    alice, bob = people.new(2)
    if change == "UnblockUser":
        people.block(alice, bob)
    before = [_answer(pair, user).revision for user in (alice, bob)]

    _change(pair, change, alice, bob)

    after = [_answer(pair, user, known) for user, known in zip((alice, bob), before, strict=True)]
    assert not any(answer.unchanged for answer in after)
    assert all(answer.revision > known for answer, known in zip(after, before, strict=True))


def test_an_erasure_raises_the_revisions_of_those_with_a_block(pair: Pair, people: People) -> None:
    alice, bob, carol = people.new(3)
    people.block(alice, bob)
    people.block(bob, carol)
    before = [_answer(pair, user).revision for user in (alice, carol)]

    pair.graph.DeleteUser(pb.DeleteUserRequest(user_id=bob))

    after = [_answer(pair, user) for user in (alice, carol)]
    assert all(answer.revision > known for answer, known in zip(after, before, strict=True))
    assert not any(answer.blocked_user_ids for answer in after)


@pytest.mark.parametrize("blocker", ["the user", "the peer"])
def test_two_with_a_block_have_no_mutual_connections_and_no_suggestions_of_each_other(
    pair: Pair, people: People, blocker: str
) -> None:
    friend, alice, bob = people.connected(3)
    people.block(*((alice, bob) if blocker == "the user" else (bob, alice)))

    mutual = pair.graph.ListMutualConnections(
        pb.ListMutualConnectionsRequest(user_id=alice, peer_id=bob)
    )
    suggested = pair.graph.SuggestConnections(pb.SuggestConnectionsRequest(user_id=alice))

    assert mutual == pb.ListMutualConnectionsResponse()
    assert suggested == pb.SuggestConnectionsResponse()
    assert friend in _answer(pair, alice).connected_user_ids


def test_what_a_user_is_told_of_their_revision_moves_with_their_connections_alone(
    pair: Pair, people: People
) -> None:
    alice, bob, carol = people.new(3)
    told = [_shown_revision(pair, alice)]
    for method, user, peer in (
        ("BlockUser", bob, alice),
        ("RequestConnection", alice, bob),
        ("UnblockUser", bob, alice),
        ("RequestConnection", carol, alice),
    ):
        _change(pair, method, user, peer)
        told.append(_shown_revision(pair, alice))

    accepted = _change(pair, "AcceptConnection", alice, carol)
    removed = _change(pair, "RemoveConnection", alice, carol)

    assert told == [told[0]] * 5
    assert told[0] < accepted.user_revision < removed.user_revision == _shown_revision(pair, alice)


def test_the_two_ends_of_a_new_connection_are_told_revisions_that_say_nothing_of_each_other(
    pair: Pair, people: People
) -> None:
    hub, *others = people.connected(6)
    told = [_shown_revision(pair, other) for other in others]

    assert len({*told, _shown_revision(pair, hub)}) == 6
    real = [_answer(pair, other).revision for other in others]
    # Microseconds since 1970 have not been below this since 2001.
    assert all(revision > 10**15 for revision in real)
    assert all(revision < 10**12 for revision in told)


def test_a_user_counts_themselves_and_their_connections_and_nobody_else(
    pair: Pair, people: People
) -> None:
    alice, bob = people.connected(2)
    [stranger, asking] = people.new(2)
    _change(pair, "RequestConnection", asking, alice)

    counts = pair.graph.CountConnections(
        pb.CountConnectionsRequest(user_id=alice, user_ids=[bob, alice])
    ).counts

    assert [(count.user_id, count.connection_count) for count in counts] == [(bob, 1), (alice, 1)]
    for other in (stranger, asking):
        with pytest.raises(grpc.RpcError) as caught:
            pair.graph.CountConnections(
                pb.CountConnectionsRequest(user_id=alice, user_ids=[alice, other])
            )
        assert reason_of(caught.value) == "NOT_CONNECTED"
        assert decoded(caught.value).metadata["user_id"] == str(other)


def test_a_service_that_names_no_user_counts_anybody(pair: Pair, people: People) -> None:
    alice, bob = people.connected(2)
    [stranger] = people.new(1)

    counts = pair.graph.CountConnections(
        pb.CountConnectionsRequest(user_ids=[alice, bob, stranger])
    ).counts

    assert [count.connection_count for count in counts] == [1, 1, 0]


@pytest.fixture(scope="module")
def strict(databases: Databases) -> Iterator[Pair]:
    """A pair where a user may block two people."""
    with running_pair(databases, {"MAX_BLOCKS": "2"}) as running:
        yield running


def test_a_user_blocks_as_many_people_as_the_limit_and_no_more(strict: Pair) -> None:
    people = People(strict)
    alice, *others = people.new(4)
    for other in others[:2]:
        people.block(alice, other)

    with pytest.raises(grpc.RpcError) as caught:
        people.block(alice, others[2])

    assert reason_of(caught.value) == "BLOCK_LIMIT_REACHED"
    assert decoded(caught.value).metadata["limit"] == "2"
    people.block(alice, others[0])
    people.block(others[2], alice)
    _change(strict, "UnblockUser", alice, others[0])
    people.block(alice, others[2])
    assert _state(strict, alice, others[2]) == "BLOCKED"
