"""A second connection of two people is told from a first by the revisions of the last ending."""

from collections.abc import Iterator

import pytest
import sqlalchemy
from sqlalchemy import text

from kith.graph.v1 import graph_pb2 as pb
from shared.database import schema
from tests.support.pair import Databases, Pair
from tests.support.people import People

_Answer = pb.GetConnectedUserIdsResponse.ConnectedUsers


def _answer(pair: Pair, user_id: int, known_revision: int = 0) -> _Answer:
    query = pb.GetConnectedUserIdsRequest.UserQuery(user_id=user_id, known_revision=known_revision)
    return pair.graph.GetConnectedUserIds(pb.GetConnectedUserIdsRequest(users=[query])).users[0]


def _reconnections(pair: Pair, user_id: int) -> list[tuple[int, int, int]]:
    return [
        (entry.peer_id, entry.user_revision, entry.peer_revision)
        for entry in _answer(pair, user_id).reconnections
    ]


def _end(pair: Pair, ending: str, user_id: int, peer_id: int) -> tuple[int, int]:
    """End a connection so that another can be made, and return both revisions."""
    request = getattr(pb, f"{ending}Request")(user_id=user_id, peer_id=peer_id)
    getattr(pair.graph, ending)(request)
    own, peers = (_answer(pair, id_).revision for id_ in (user_id, peer_id))
    pair.graph.UnblockUser(pb.UnblockUserRequest(user_id=user_id, peer_id=peer_id))
    return own, peers


def test_a_first_connection_is_no_reconnection(pair: Pair, people: People) -> None:
    alice, bob, carol = people.new(3)
    people.block(alice, bob)
    pair.graph.UnblockUser(pb.UnblockUserRequest(user_id=alice, peer_id=bob))
    people.connect(alice, bob, carol)

    assert _reconnections(pair, alice) == _reconnections(pair, bob) == []


@pytest.mark.parametrize("ending", ["RemoveConnection", "BlockUser"])
def test_a_reconnection_carries_both_revisions_of_the_ending(
    pair: Pair, people: People, ending: str
) -> None:
    alice, bob = people.connected(2)

    own, peers = _end(pair, ending, bob, alice)
    people.connect(alice, bob)

    assert _reconnections(pair, alice) == [(bob, peers, own)]
    assert _reconnections(pair, bob) == [(alice, own, peers)]


def test_what_was_noted_before_an_ending_is_told_from_what_was_noted_after_it(
    pair: Pair, people: People
) -> None:
    alice, bob = people.connected(2)
    before = _answer(pair, alice).revision

    people.remove(alice, bob)
    people.connect(alice, bob)

    after = _answer(pair, alice)
    assert before < after.reconnections[0].user_revision < after.revision


def test_only_the_last_of_several_endings_counts(pair: Pair, people: People) -> None:
    alice, bob = people.connected(2)
    endings = []
    for ending in ("BlockUser", "RemoveConnection", "RemoveConnection"):
        endings.append(_end(pair, ending, alice, bob))
        people.connect(alice, bob)

    assert _reconnections(pair, alice) == [(bob, *endings[-1])]


def test_a_request_that_is_accepted_reconnects_as_an_import_does(
    pair: Pair, people: People
) -> None:
    alice, bob = people.connected(2)
    ending = _end(pair, "RemoveConnection", alice, bob)
    pair.graph.RequestConnection(pb.RequestConnectionRequest(user_id=bob, peer_id=alice))
    asked = _reconnections(pair, alice)

    pair.graph.AcceptConnection(pb.AcceptConnectionRequest(user_id=alice, peer_id=bob))

    assert (asked, _reconnections(pair, alice)) == ([], [(bob, *ending)])


def test_a_pair_that_stays_apart_is_no_reconnection(pair: Pair, people: People) -> None:
    alice, bob, carol = people.connected(3)

    people.remove(alice, bob)
    people.block(alice, carol)

    assert _reconnections(pair, alice) == []


def test_reconnections_are_not_sent_again_while_the_revision_holds(
    pair: Pair, people: People
) -> None:
    alice, bob = people.connected(2)
    people.remove(alice, bob)
    people.connect(alice, bob)

    again = _answer(pair, alice, _answer(pair, alice).revision)

    assert again.unchanged
    assert not again.reconnections


def test_a_batch_tells_each_user_of_their_own_reconnections(pair: Pair, people: People) -> None:
    alice, bob, carol = people.connected(3)
    people.remove(alice, carol)
    people.connect(alice, carol)
    queries = [pb.GetConnectedUserIdsRequest.UserQuery(user_id=user) for user in (bob, alice)]

    answers = pair.graph.GetConnectedUserIds(pb.GetConnectedUserIdsRequest(users=queries)).users

    assert [[entry.peer_id for entry in answer.reconnections] for answer in answers] == [
        [],
        [carol],
    ]


def test_an_erased_user_who_returns_is_no_reconnection(pair: Pair, people: People) -> None:
    alice, bob = people.connected(2)
    people.remove(alice, bob)

    pair.graph.DeleteUser(pb.DeleteUserRequest(user_id=alice))
    people.connect(alice, bob)

    assert _reconnections(pair, bob) == []


@pytest.fixture
def before_endings(databases: Databases) -> Iterator[tuple[str, sqlalchemy.Connection]]:
    """A database with the schema of the version before endings."""
    url = databases.new("graph")
    schema.downgrade("graph", url, "graph_0001")
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield url, connection


def test_the_migration_finds_the_endings_of_the_past(
    before_endings: tuple[str, sqlalchemy.Connection],
) -> None:
    url, connection = before_endings
    connection.execute(
        text("""
            INSERT INTO connection_events (kind, actor_id, peer_id, actor_revision, peer_revision)
            VALUES ('connected', 1, 2, 11, 21), ('removed', 2, 1, 22, 12),
                   ('imported', 1, 2, 13, 23), ('blocked', 2, 1, 24, 14),
                   ('unblocked', 2, 1, 24, 14), ('blocked', 1, 2, 15, 25),
                   ('blocked', 1, 3, 15, 31), ('connected', 1, 4, 16, 41),
                   ('user_deleted', 5, NULL, 0, 0)
        """)
    )

    schema.upgrade("graph", url)

    endings = text("SELECT user_a_id, user_b_id, user_a_revision, user_b_revision FROM endings")
    assert connection.execute(endings).all() == [(1, 2, 14, 24)]


def test_the_version_before_goes_on_with_the_new_schema(
    before_endings: tuple[str, sqlalchemy.Connection],
) -> None:
    url, connection = before_endings
    schema.upgrade("graph", url)

    connection.execute(
        text("""
            INSERT INTO connection_events (kind, actor_id, peer_id, actor_revision, peer_revision)
            VALUES ('removed', 1, 2, 12, 22)
        """)
    )

    assert connection.execute(text("SELECT kind FROM connection_events")).scalar() == "removed"
