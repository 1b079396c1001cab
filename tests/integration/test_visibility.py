"""Who sees which post, through the API."""

from tests.support.pair import Pair
from tests.support.people import PRIVATE, People, all_without, tagged


def test_a_connection_sees_posts_for_all_and_a_stranger_does_not(people: People) -> None:
    author, friend = people.connected(2)
    [stranger] = people.new(1)

    post = people.post(author)

    assert people.feed(friend) == [post]
    assert people.feed(stranger) == []
