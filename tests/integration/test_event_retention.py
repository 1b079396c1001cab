"""Changes of the graph are kept for some time; a stream that resumes after that is refused."""

from collections.abc import Iterator

import grpc
import pytest
from sqlalchemy import text

from kith.graph.v1 import graph_pb2 as pb
from tests.support.engines import engine_to
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Databases, Pair, another_feed, running_pair
from tests.support.people import People
from tests.support.processes import until
from tests.support.upkeep import cleaning


@pytest.fixture
def own_pair(databases: Databases) -> Iterator[Pair]:
    """Services whose events are of this test alone, and which purge none of them by themselves.

    Their own upkeep may run at any moment, also between two steps of a test.
    """
    with running_pair(databases, {"CONNECTION_EVENTS_DAYS": "3650"}) as running:
        yield running


def _rows(url: str, statement: str) -> list[object]:
    with engine_to(url).connect() as connection:
        result = connection.execute(text(statement))
        return list(result.scalars()) if result.returns_rows else []


def _age(pair: Pair, *, days: int = 90) -> None:
    """Let all events there are be so much older."""
    _rows(
        pair.graph_url,
        f"UPDATE connection_events SET occurred_at = occurred_at - interval '{days} days'",
    )


def _clean_up(pair: Pair) -> None:
    with cleaning(pair) as upkeep:
        upkeep.run()


def _kinds(pair: Pair) -> list[object]:
    return _rows(pair.graph_url, "SELECT kind FROM connection_events ORDER BY seq")


def _next(pair: Pair, cursor: str = "") -> pb.WatchConnectionsResponse:
    """Return what comes first, or, behind a cursor, the first message with events."""
    stream = pair.graph.WatchConnections(pb.WatchConnectionsRequest(cursor=cursor))
    return next(message for message in stream if message.events or not cursor)


def test_events_are_kept_for_ninety_days_and_no_longer(own_pair: Pair) -> None:
    people = People(own_pair)
    people.connected(2)
    _age(own_pair, days=89)
    _clean_up(own_pair)
    people.block(*people.new(2))
    assert _kinds(own_pair) == ["imported", "blocked"]

    _age(own_pair, days=1)
    _clean_up(own_pair)

    assert _kinds(own_pair) == ["blocked"]


def test_a_cursor_before_what_is_kept_is_refused_and_later_ones_are_resumed(
    own_pair: Pair,
) -> None:
    people = People(own_pair)
    early = _next(own_pair).cursor
    alice, bob = people.connected(2)
    _age(own_pair)
    late = _next(own_pair, early).cursor
    _clean_up(own_pair)
    people.remove(alice, bob)

    with pytest.raises(grpc.RpcError) as caught:
        _next(own_pair, early)

    assert reason_of(caught.value) == "CURSOR_EXPIRED"
    assert fields_of(caught) == ["cursor"]
    assert [event.peer_id for event in _next(own_pair, late).events] == [bob]


def test_who_has_been_told_of_all_that_was_purged_goes_on(own_pair: Pair) -> None:
    people = People(own_pair)
    early = _next(own_pair).cursor
    alice, bob = people.connected(2)
    _age(own_pair)
    told = _next(own_pair, early).cursor
    _clean_up(own_pair)
    assert not _kinds(own_pair)

    began = _next(own_pair).cursor
    people.remove(alice, bob)

    for cursor in (told, began):
        assert [event.peer_id for event in _next(own_pair, cursor).events] == [bob]


def test_a_cursor_is_refused_when_every_event_is_gone(own_pair: Pair) -> None:
    early = _next(own_pair).cursor
    People(own_pair).connected(2)
    _age(own_pair)
    _clean_up(own_pair)

    with pytest.raises(grpc.RpcError) as caught:
        _next(own_pair, early)

    assert reason_of(caught.value) == "CURSOR_EXPIRED"


def test_the_feed_begins_anew_by_itself_when_it_was_away_for_too_long(own_pair: Pair) -> None:
    people = People(own_pair)
    alice, bob = people.connected(2)
    people.tag(alice, "friends", bob)
    until(lambda: len(_rows(own_pair.feed_url, "SELECT 1 FROM followed")) == 1)
    own_pair.feed_server.stop()
    people.remove(alice, bob)
    _age(own_pair)
    _clean_up(own_pair)
    assert not _kinds(own_pair)

    with another_feed(own_pair):
        until(
            lambda: not _rows(own_pair.feed_url, "SELECT 1 FROM user_tags WHERE owner_revision > 0")
        )
