"""How many requests a user may have open, and how soon a user may ask again who was declined."""

from collections.abc import Callable, Iterator, Mapping

import grpc
import pytest
from sqlalchemy import text

from kith.graph.v1 import graph_pb2 as pb
from tests.support.engines import engine_to
from tests.support.errors import decoded, refusal
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People
from tests.support.upkeep import cleaning


@pytest.fixture(scope="module")
def strict(databases: Databases) -> Iterator[Pair]:
    """A pair where a user may have two open requests."""
    with running_pair(databases, {"MAX_OPEN_REQUESTS": "2"}) as running:
        yield running


def _request(pair: Pair, user: int, peer: int) -> str:
    """Ask; returns the reason of a refusal."""
    return refusal(
        pair.graph.RequestConnection, pb.RequestConnectionRequest(user_id=user, peer_id=peer)
    )


def _answer(pair: Pair, user: int, peer: int) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        pair.graph.RequestConnection(pb.RequestConnectionRequest(user_id=user, peer_id=peer))
    return caught.value


def _decline(pair: Pair, user: int, peer: int) -> None:
    pair.graph.DeclineConnection(pb.DeclineConnectionRequest(user_id=user, peer_id=peer))


def _age(pair: Pair, *, days: float) -> None:
    """Let all declines be older than they are."""
    with engine_to(pair.graph_url).connect() as connection:
        connection.execute(
            text("UPDATE declines SET declined_at = declined_at - :days * interval '1 day'"),
            {"days": days},
        )


def _number_of_declines(pair: Pair) -> int:
    with engine_to(pair.graph_url).connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM declines")).scalar_one())


@pytest.mark.parametrize("asked", ["strangers", "blockers"])
def test_a_user_has_as_many_open_requests_as_the_limit_whoever_is_asked(
    strict: Pair, asked: str
) -> None:
    people = People(strict)
    alice, *others = people.new(4)
    if asked == "blockers":
        for other in others:
            people.block(other, alice)

    assert [_request(strict, alice, other) for other in others[:2]] == ["", ""]
    error = decoded(_answer(strict, alice, others[2]))

    assert (error.reason_name, error.metadata) == ("OPEN_REQUEST_LIMIT_REACHED", {"limit": "2"})
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert _request(strict, alice, others[0]) == ""
    strict.graph.CancelConnectionRequest(
        pb.CancelConnectionRequestRequest(user_id=alice, peer_id=others[0])
    )
    assert _request(strict, alice, others[2]) == ""


def test_who_is_asked_already_connects_also_at_the_limit_of_open_requests(strict: Pair) -> None:
    people = People(strict)
    alice, *others = people.new(4)
    for other in others[:2]:
        _request(strict, alice, other)

    _request(strict, others[2], alice)

    assert _request(strict, alice, others[2]) == ""


def _declines(pair: Pair, asked: int, asker: int) -> None:
    _request(pair, asker, asked)
    _decline(pair, asked, asker)


def _blocks(pair: Pair, asked: int, asker: int) -> None:
    _request(pair, asker, asked)
    People(pair).block(asked, asker)


def _unblocks(pair: Pair, asked: int, asker: int) -> None:
    People(pair).block(asked, asker)
    _request(pair, asker, asked)
    People(pair).unblock(asked, asker)


_LOSSES: Mapping[str, Callable[[Pair, int, int], None]] = {
    "a decline": _declines,
    "a block": _blocks,
    "the end of a block": _unblocks,
}


@pytest.mark.parametrize("lost_by", _LOSSES)
def test_who_lost_a_request_asks_the_same_person_again_after_a_week(
    pair: Pair, people: People, lost_by: str
) -> None:
    alice, bob, carol = people.new(3)
    _LOSSES[lost_by](pair, alice, bob)

    error = decoded(_answer(pair, bob, alice))

    assert (error.reason_name, error.metadata) == ("REQUEST_PAUSED", {"limit": "7"})
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    # It would tell when the request was declined.
    assert error.retry_after is None
    assert _request(pair, bob, carol) == ""
    _age(pair, days=7)
    assert _request(pair, bob, alice) == ""


def test_a_block_during_the_pause_is_not_shown(pair: Pair, people: People) -> None:
    alice, bob, carol = people.new(3)
    for asked in (alice, carol):
        _declines(pair, asked, bob)
    people.block(alice, bob)

    assert decoded(_answer(pair, bob, alice)).message == decoded(_answer(pair, bob, carol)).message
    _age(pair, days=7)
    assert (_request(pair, bob, alice), _request(pair, bob, carol)) == ("", "")


def test_who_has_declined_may_ask_and_be_accepted(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    _declines(pair, alice, bob)

    assert _request(pair, alice, bob) == ""
    assert _request(pair, bob, alice) == ""


def test_a_request_that_was_withdrawn_can_be_made_again_at_once(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    _request(pair, bob, alice)
    pair.graph.CancelConnectionRequest(
        pb.CancelConnectionRequestRequest(user_id=bob, peer_id=alice)
    )

    assert _request(pair, bob, alice) == ""


def test_a_pause_of_no_days_is_none(databases: Databases) -> None:
    with running_pair(databases, {"REQUEST_PAUSE_DAYS": "0"}) as pair:
        alice, bob = People(pair).new(2)
        _declines(pair, alice, bob)

        assert _request(pair, bob, alice) == ""


def test_declines_are_forgotten_after_the_pause(databases: Databases) -> None:
    with running_pair(databases) as before:
        people = People(before)
        alice, bob, carol = people.new(3)
        _declines(before, alice, bob)
        _age(before, days=1)
        _declines(before, alice, carol)
        # The pause is 7 days.
        _age(before, days=6.99)
        assert _number_of_declines(before) == 2

        with cleaning(before) as upkeep:
            upkeep.run()

        assert _number_of_declines(before) == 1
        assert _request(before, carol, alice) == "REQUEST_PAUSED"
