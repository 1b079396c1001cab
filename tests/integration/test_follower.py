"""Tags end with the connection during which they were given, and do not come back with another.

That they have ended is noted with them; what they keep people from, they go on keeping them from.
"""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2
from tests.support.engines import engine_to
from tests.support.pair import Databases, Pair, another_feed, running_pair
from tests.support.pauses import nothing_told
from tests.support.people import People, all_without, tagged
from tests.support.processes import Session, until
from tests.support.scrape import scrape

_ONE_A_SECOND = {"WATCH_HEARTBEAT_SECONDS": "1"}


@pytest.fixture
def own_pair(databases: Databases) -> Iterator[Pair]:
    """A pair that a test may stop and look into."""
    with running_pair(databases, _ONE_A_SECOND) as running:
        yield running


def _members(pair: Pair, owner_id: int, tag_id: int) -> list[int]:
    request = pb.ListTagMembersRequest(user_id=owner_id, tag_id=tag_id)
    return [member.target_user_id for member in pair.feed.ListTagMembers(request).members]


def _stored(pair: Pair, statement: str) -> list[object]:
    with engine_to(pair.feed_url).connect() as connection:
        found = connection.execute(text(statement))
        return list(found.scalars()) if found.returns_rows else []


def _tagged_pairs(pair: Pair, *, ended: bool = False) -> list[object]:
    return _stored(
        pair,
        f"""SELECT (owner_user_id, target_user_id)::text FROM user_tags
            WHERE (owner_revision = 0) = {ended} ORDER BY 1""",
    )


def _names(*pairs: tuple[int, int]) -> list[object]:
    return [f"({owner},{target})" for owner, target in sorted(pairs)]


def _followers(pair: Pair) -> list[object]:
    return _stored(
        pair,
        """SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
    )


def _end(pair: Pair, ending: str, user_id: int, peer_id: int) -> None:
    """End a connection so that another can be made."""
    request = getattr(graph_pb2, f"{ending}Request")(user_id=user_id, peer_id=peer_id)
    getattr(pair.graph, ending)(request)
    pair.graph.UnblockUser(graph_pb2.UnblockUserRequest(user_id=user_id, peer_id=peer_id))


def _until_followed(pair: Pair, people: People) -> None:
    """Wait until everything that has happened so far was followed, and where to go on is stored."""
    owner, friend = people.connected(2)
    tag = people.tag(owner, "marker", friend)
    people.remove(friend, owner)
    until(lambda: _is_ended(pair, tag))
    # A follower that compares all tags first ends them before it stores its first cursor.
    until(lambda: _stored(pair, "SELECT cursor FROM followed"))


def _is_ended(pair: Pair, tag_id: int) -> bool:
    """Return whether a tag is stored as ended for everybody who was given it."""
    ended = f"SELECT bool_and(owner_revision = 0) FROM user_tags WHERE tag_id = {tag_id}"
    return _stored(pair, ended) == [True]


@pytest.mark.parametrize("ending", ["RemoveConnection", "BlockUser"])
def test_the_tags_of_both_end_with_their_connection_and_those_of_others_stay(
    pair: Pair, people: People, ending: str
) -> None:
    alice, bob, carol = people.connected(3)
    people.connect(bob, carol)
    of_alice = people.tag(alice, "friends", bob, carol)
    of_bob = people.tag(bob, "friends", alice, carol)

    _end(pair, ending, alice, bob)
    _until_followed(pair, people)

    assert _members(pair, alice, of_alice) == _members(pair, bob, of_bob) == [carol]
    ended = _tagged_pairs(pair, ended=True)
    assert set(_names((alice, bob), (bob, alice))) <= set(ended)
    assert not set(_names((alice, carol), (bob, carol))) & set(ended)


def test_who_connects_again_has_no_tag_until_it_is_given_again(pair: Pair, people: People) -> None:
    alice, bob = people.connected(2)
    tag = people.tag(alice, "friends", bob)
    post = people.post(alice, tagged(tag))
    people.remove(alice, bob)
    people.connect(alice, bob)
    _until_followed(pair, people)

    before = (_members(pair, alice, tag), people.feed(bob))
    people.give(alice, tag, bob)
    _until_followed(pair, people)

    assert before == ([], [])
    assert (_members(pair, alice, tag), people.feed(bob)) == ([bob], [post])


def test_a_tag_of_a_past_connection_lets_nobody_in_before_anybody_has_followed(
    own_pair: Pair,
) -> None:
    people = People(own_pair)
    alice, bob = people.connected(2)
    tag = people.tag(alice, "friends", bob)
    people.post(alice, tagged(tag))
    people.post(alice, all_without(tag))

    with nothing_told(own_pair):
        people.remove(alice, bob)
        people.connect(alice, bob)

        assert _tagged_pairs(own_pair) == _names((alice, bob))
        assert people.feed(bob) == []
        assert _members(own_pair, alice, tag) == []


def test_a_tag_given_in_a_new_connection_survives_the_late_news_of_the_old_ones_end(
    own_pair: Pair,
) -> None:
    people = People(own_pair)
    alice, bob = people.connected(2)
    tag = people.tag(alice, "friends", bob)

    with nothing_told(own_pair):
        people.remove(alice, bob)
        people.connect(alice, bob)
        people.give(alice, tag, bob)
    _until_followed(own_pair, people)

    assert _members(own_pair, alice, tag) == [bob]


def test_news_told_again_takes_no_tag_of_a_later_connection(own_pair: Pair) -> None:
    people = People(own_pair)
    alice, bob = people.connected(2)
    tag = people.tag(alice, "friends")
    _until_followed(own_pair, people)
    [cursor] = _stored(own_pair, "SELECT cursor FROM followed")
    people.remove(alice, bob)
    people.connect(alice, bob)
    people.give(alice, tag, bob)
    own_pair.feed_server.stop()
    _stored(own_pair, f"UPDATE followed SET cursor = '{cursor}'")

    with another_feed(own_pair):
        until(lambda: _stored(own_pair, "SELECT cursor FROM followed") != [cursor])

    assert _tagged_pairs(own_pair) == _names((alice, bob))


def _while_stopped(pair: Pair, act: Callable[[], object]) -> None:
    pair.feed_server.stop()
    act()


def test_what_ended_while_nobody_followed_is_made_up_for(own_pair: Pair) -> None:
    people = People(own_pair)
    alice, bob, carol = people.connected(3)
    people.tag(alice, "friends", bob, carol)
    until(lambda: len(_stored(own_pair, "SELECT 1 FROM followed")) == 1)

    _while_stopped(own_pair, lambda: people.block(bob, alice))
    with another_feed(own_pair):
        until(lambda: _tagged_pairs(own_pair) == _names((alice, carol)))


@pytest.mark.parametrize(
    "loss", ["DELETE FROM followed", "UPDATE followed SET cursor = 'of another graph'"]
)
def test_without_a_cursor_to_resume_from_all_tags_are_compared_with_the_graph(
    own_pair: Pair, loss: str
) -> None:
    people = People(own_pair)
    alice, bob, carol, dave = people.connected(4)
    people.connect(bob, carol)
    tag = people.tag(alice, "friends", bob, carol, dave)
    people.tag(bob, "friends", alice, carol)
    people.remove(alice, dave)
    people.connect(alice, dave)
    people.give(alice, tag, dave)
    until(lambda: len(_stored(own_pair, "SELECT 1 FROM followed")) == 1)

    def lose() -> None:
        people.remove(alice, bob)
        people.remove(alice, carol)
        people.connect(alice, carol)
        _stored(own_pair, loss)

    _while_stopped(own_pair, lose)
    with another_feed(own_pair):
        until(lambda: _tagged_pairs(own_pair) == _names((alice, dave), (bob, carol)))
        _until_followed_by_anybody(own_pair, people)

    assert _tagged_pairs(own_pair) == _names((alice, dave), (bob, carol))


_FORGET_NEWEST_EVENTS = """
    DELETE FROM connection_events WHERE seq > (SELECT max(seq) - 3 FROM connection_events);
    SELECT setval('connection_events_seq_seq', max(seq)) FROM connection_events
"""


def test_what_ended_in_a_graph_that_was_restored_from_a_backup_is_made_up_for(
    own_pair: Pair,
) -> None:
    people = People(own_pair)
    alice, bob, carol, dave = people.connected(4)
    people.tag(alice, "friends", bob, carol)
    _until_followed(own_pair, people)

    def restore() -> None:
        with Session(own_pair.graph_url) as session:
            session.rows(_FORGET_NEWEST_EVENTS)
            session.commit()
        # They are given the numbers that the feed has seen already.
        people.remove(alice, bob)
        people.remove(alice, dave)
        people.connect(alice, dave)

    _while_stopped(own_pair, restore)
    with another_feed(own_pair):
        until(lambda: _names((alice, bob))[0] not in _tagged_pairs(own_pair))

    assert _names((alice, carol))[0] in _tagged_pairs(own_pair)


def test_who_was_erased_is_erased_also_when_there_is_no_cursor_to_go_on_from(
    own_pair: Pair,
) -> None:
    people = People(own_pair)
    alice, _ = people.connected(2)
    people.post(alice, all_without())
    until(lambda: len(_stored(own_pair, "SELECT 1 FROM followed")) == 1)

    def lose() -> None:
        own_pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=alice))
        _stored(own_pair, "DELETE FROM followed")

    _while_stopped(own_pair, lose)
    with another_feed(own_pair):
        until(lambda: _stored(own_pair, "SELECT user_id FROM erased_users") == [alice])

    assert _stored(own_pair, f"SELECT 1 FROM posts WHERE author_id = {alice}") == []


def _until_followed_by_anybody(pair: Pair, people: People) -> None:
    # A cursor is stored only after what was compared.
    until(lambda: _stored(pair, "SELECT cursor FROM followed"))
    [before] = _stored(pair, "SELECT cursor FROM followed")
    people.connected(2)
    until(lambda: _stored(pair, "SELECT cursor FROM followed") != [before])


def test_one_process_follows_and_another_takes_over_when_it_stops(own_pair: Pair) -> None:
    people = People(own_pair)
    alice, bob = people.connected(2)
    people.tag(alice, "friends", bob)
    until(lambda: len(_followers(own_pair)) == 1)

    with another_feed(own_pair):
        first = _followers(own_pair)
        own_pair.feed_server.stop()
        people.remove(alice, bob)

        until(lambda: not _tagged_pairs(own_pair))
        assert len(_followers(own_pair)) == 1
        assert _followers(own_pair) != first


def test_a_process_that_loses_its_connection_stops_writing_and_somebody_goes_on(
    own_pair: Pair,
) -> None:
    people = People(own_pair)
    alice, bob, carol = people.connected(3)
    people.tag(alice, "friends", bob, carol)
    until(lambda: len(_followers(own_pair)) == 1)

    with another_feed(own_pair):
        _stored(own_pair, f"SELECT pg_terminate_backend({_followers(own_pair)[0]})")
        people.remove(alice, bob)
        until(lambda: _tagged_pairs(own_pair) == _names((alice, carol)))
        own_pair.feed_tap.break_connections()
        people.remove(alice, carol)
        until(lambda: not _tagged_pairs(own_pair))

        assert len(_followers(own_pair)) == 1


def test_a_cursor_that_stays_where_it_is_is_not_stored_with_each_heartbeat(
    databases: Databases,
) -> None:
    with running_pair(databases, {"WATCH_HEARTBEAT_SECONDS": "0.1"}) as pair:
        heard, stored = set[float](), set[object]()

        def heartbeats() -> int:
            heard.add(scrape(pair.feed_server).value("connections_followed_timestamp_seconds"))
            stored.update(_stored(pair, "SELECT updated_at FROM followed"))
            return len(heard)

        until(lambda: heartbeats() > 6)

    # At the beginning, and with the first heartbeat.
    assert len(stored) <= 2


def test_following_goes_on_after_the_graph_could_not_be_reached(own_pair: Pair) -> None:
    people = People(own_pair)
    alice, bob = people.connected(2)
    tag = people.tag(alice, "friends", bob)
    # Only a stream that has brought something is broken below.
    until(lambda: scrape(own_pair.feed_server).value("connections_followed_timestamp_seconds"))
    attempts = []

    def refuse_two(method: str) -> None:
        if method == "WatchConnections":
            attempts.append(method)
            if len(attempts) <= 2:
                raise ConnectionRefusedError

    own_pair.gate.before_call = refuse_two
    own_pair.gate.break_calls()
    people.remove(alice, bob)

    until(lambda: _is_ended(own_pair, tag))
    assert len(attempts) == 3
