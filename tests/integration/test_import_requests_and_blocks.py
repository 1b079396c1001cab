"""Open requests and blocks come from elsewhere with their times, in whatever order people do."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kith.graph.v1 import graph_pb2 as pb
from kith.timestamps import timestamp
from tests.support.errors import fields_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People, tagged

OpenRequest = pb.ImportConnectionsRequest.OpenRequest
Block = pb.ImportConnectionsRequest.Block

_LONG_AGO = timestamp(datetime(2019, 2, 28, 23, 59, 59, 123456, tzinfo=UTC))
_NONE, _SENT, _RECEIVED = (
    pb.CONNECTION_STATE_NONE,
    pb.CONNECTION_STATE_REQUEST_SENT,
    pb.CONNECTION_STATE_REQUEST_RECEIVED,
)
_CONNECTED, _BLOCKED = pb.CONNECTION_STATE_CONNECTED, pb.CONNECTION_STATE_BLOCKED


def _import(pair: Pair, *chunks: pb.ImportConnectionsRequest) -> pb.ImportConnectionsResponse:
    return pair.graph.ImportConnections(iter(chunks))


def _chunk(
    *,
    pairs: Sequence[tuple[int, int]] = (),
    requests: Sequence[tuple[int, int]] = (),
    blocks: Sequence[tuple[int, int]] = (),
) -> pb.ImportConnectionsRequest:
    return pb.ImportConnectionsRequest(
        connections=[
            pb.ConnectionPair(first_user_id=first, second_user_id=second, connect_time=_LONG_AGO)
            for first, second in pairs
        ],
        requests=[
            OpenRequest(requester_id=requester, addressee_id=addressee, create_time=_LONG_AGO)
            for requester, addressee in requests
        ],
        blocks=[
            Block(blocker_id=blocker, blocked_id=blocked, create_time=_LONG_AGO)
            for blocker, blocked in blocks
        ],
    )


def _seen(pair: Pair, user_id: int, peer_id: int) -> pb.Connection:
    request = pb.GetConnectionRequest(user_id=user_id, peer_id=peer_id)
    return pair.graph.GetConnection(request).connection


def _states(pair: Pair, first: int, second: int) -> tuple[int, int]:
    return _seen(pair, first, second).state, _seen(pair, second, first).state


def _incoming(pair: Pair, user_id: int) -> list[int]:
    request = pb.ListConnectionRequestsRequest(
        user_id=user_id, direction=pb.REQUEST_DIRECTION_INCOMING
    )
    return [peer.peer_id for peer in pair.graph.ListConnectionRequests(request).connections]


def test_requests_and_blocks_come_with_their_times(pair: Pair, people: People) -> None:
    user, asked, blocked = people.new(3)

    done = _import(pair, _chunk(requests=[(user, asked)], blocks=[(user, blocked)]))

    assert (done.imported_request_count, done.imported_block_count) == (1, 1)
    assert _states(pair, user, asked) == (_SENT, _RECEIVED)
    assert _states(pair, user, blocked) == (_BLOCKED, _NONE)
    for peer in (asked, blocked):
        assert _seen(pair, user, peer).create_time == _LONG_AGO
    assert _incoming(pair, asked) == [user]


def test_what_is_sent_again_is_counted_and_not_repeated(pair: Pair, people: People) -> None:
    user, asked, blocked, friend = people.new(4)
    chunk = _chunk(pairs=[(user, friend)], requests=[(user, asked)], blocks=[(user, blocked)])

    _import(pair, chunk)
    before = [_seen(pair, user, peer) for peer in (asked, blocked, friend)]
    again = _import(pair, chunk, _chunk(requests=[(friend, user), (user, asked)]))

    assert again == pb.ImportConnectionsResponse(existing_count=5, committed_chunks=2)
    assert [_seen(pair, user, peer) for peer in (asked, blocked, friend)] == before


def test_a_request_to_a_blocker_stays_hidden_from_them_in_whatever_order_it_comes(
    pair: Pair, people: People
) -> None:
    chunks = []
    for order in permutations(("request", "block")):
        asking, blocker = people.new(2)
        parts = {
            "request": _chunk(requests=[(asking, blocker)]),
            "block": _chunk(blocks=[(blocker, asking)]),
        }
        _import(pair, *(parts[part] for part in order))
        chunks.append((asking, blocker))
    both = people.new(2)
    _import(pair, _chunk(requests=[(both[0], both[1])], blocks=[(both[1], both[0])]))

    for asking, blocker in [*chunks, both]:
        assert _states(pair, asking, blocker) == (_SENT, _BLOCKED)
        assert _incoming(pair, blocker) == []
        people.unblock(blocker, asking)
        assert _states(pair, asking, blocker) == (_NONE, _NONE)


def test_a_block_ends_a_connection_and_the_blockers_own_request(pair: Pair, people: People) -> None:
    blocker, friend, asked = people.new(3)
    _import(pair, _chunk(pairs=[(blocker, friend)], requests=[(blocker, asked)]))
    counted = pb.CountConnectionsRequest(user_ids=[blocker, friend])

    _import(pair, _chunk(blocks=[(blocker, friend), (blocker, asked)]))

    assert _states(pair, blocker, friend) == (_BLOCKED, _NONE)
    assert _states(pair, blocker, asked) == (_BLOCKED, _NONE)
    assert [each.connection_count for each in pair.graph.CountConnections(counted).counts] == [0, 0]


def test_a_connection_that_an_imported_block_ended_brings_no_tag_back(
    pair: Pair, people: People
) -> None:
    owner, friend = people.connected(2)
    tag = people.tag(owner, "family", friend)
    people.post(owner, tagged(tag))
    _import(pair, _chunk(blocks=[(friend, owner)]))

    people.unblock(friend, owner)
    people.connect(owner, friend)

    assert people.feed(friend) == []


def test_a_block_goes_before_a_connection_and_the_blockers_request(
    pair: Pair, people: People
) -> None:
    blocker, first, second = people.new(3)

    done = _import(
        pair,
        _chunk(
            pairs=[(first, blocker)],
            requests=[(blocker, second)],
            blocks=[(blocker, first), (blocker, second)],
        ),
    )

    assert (done.imported_block_count, done.blocked_count) == (2, 2)
    assert _states(pair, blocker, first) == (_BLOCKED, _NONE)
    assert _states(pair, blocker, second) == (_BLOCKED, _NONE)


def test_two_who_have_asked_each_other_are_connected(pair: Pair, people: People) -> None:
    first, second, third = people.new(3)

    done = _import(
        pair, _chunk(requests=[(first, second), (third, first)]), _chunk(requests=[(second, first)])
    )
    at_once = _import(pair, _chunk(requests=[(second, third), (third, second)]))

    assert (done.imported_request_count, at_once.imported_request_count) == (3, 2)
    assert _states(pair, first, second) == (_CONNECTED, _CONNECTED)
    assert _states(pair, second, third) == (_CONNECTED, _CONNECTED)
    assert _states(pair, third, first) == (_SENT, _RECEIVED)


def test_a_connection_keeps_the_time_of_its_request(pair: Pair, people: People) -> None:
    first, second = people.new(2)
    later = Timestamp(seconds=_LONG_AGO.seconds + 60)
    connected = pb.ConnectionPair(
        first_user_id=second,
        second_user_id=first,
        connect_time=later,
        request_time=_LONG_AGO,
    )

    _import(pair, pb.ImportConnectionsRequest(connections=[connected]))

    seen = _seen(pair, first, second)
    assert (seen.create_time, seen.connect_time) == (_LONG_AGO, later)


def test_followers_are_told_of_blocks_and_of_requests_that_are_shown(
    pair: Pair, people: People
) -> None:
    asking, asked, blocker = people.new(3)
    stream = pair.graph.WatchConnections(pb.WatchConnectionsRequest())
    next(stream)

    _import(
        pair,
        _chunk(requests=[(asking, asked), (asking, blocker)], blocks=[(blocker, asking)]),
    )
    people.connect(asked, blocker)

    told = list[tuple[int, int, int]]()
    while not told or told[-1][0] != pb.CONNECTION_EVENT_KIND_IMPORTED:
        told += [(event.kind, event.actor_id, event.peer_id) for event in next(stream).events]
    stream.cancel()
    assert told[:-1] == [
        (pb.CONNECTION_EVENT_KIND_BLOCKED, blocker, asking),
        (pb.CONNECTION_EVENT_KIND_REQUESTED, asking, asked),
    ]


@pytest.fixture(scope="module")
def tight(databases: Databases) -> Iterator[Pair]:
    """A pair in which everybody may have one of each."""
    limits = {"MAX_CONNECTIONS": "1", "MAX_BLOCKS": "1", "MAX_OPEN_REQUESTS": "1"}
    with running_pair(databases, limits) as running:
        yield running


def test_what_is_beyond_a_limit_is_skipped_and_counted(tight: Pair) -> None:
    people = People(tight)
    user, *peers = people.new(7)
    first, second, third, fourth, fifth, sixth = peers

    done = _import(
        tight,
        _chunk(
            pairs=[(user, first), (user, second)],
            requests=[(user, third), (user, fourth)],
            blocks=[(user, fifth), (user, sixth)],
        ),
    )

    assert done == pb.ImportConnectionsResponse(
        imported_count=1,
        imported_request_count=1,
        imported_block_count=1,
        over_limit_count=3,
        committed_chunks=1,
    )


_FUTURE = timestamp(datetime.now(UTC) + timedelta(hours=1))
_REFUSED = {
    "a request to oneself": (
        pb.ImportConnectionsRequest(requests=[OpenRequest(requester_id=1, addressee_id=1)]),
        "requests[0].addressee_id",
    ),
    "a request of the future": (
        pb.ImportConnectionsRequest(
            requests=[OpenRequest(requester_id=1, addressee_id=2, create_time=_FUTURE)]
        ),
        "requests[0].create_time",
    ),
    "a block of oneself": (
        pb.ImportConnectionsRequest(blocks=[Block(blocker_id=1, blocked_id=1)]),
        "blocks[0].blocked_id",
    ),
    "a block of the future": (
        pb.ImportConnectionsRequest(
            blocks=[Block(blocker_id=1, blocked_id=2, create_time=_FUTURE)]
        ),
        "blocks[0].create_time",
    ),
    "a connection asked for in the future": (
        pb.ImportConnectionsRequest(
            connections=[pb.ConnectionPair(first_user_id=1, second_user_id=2, request_time=_FUTURE)]
        ),
        "connections[0].request_time",
    ),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("fault", _REFUSED)
def test_a_row_that_cannot_be_is_refused_by_name(pair: Pair, fault: str) -> None:
    chunk, field = _REFUSED[fault]

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, chunk)

    assert fields_of(caught) == [field]
