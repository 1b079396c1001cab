"""Up to where a feed was read, and how much of it is unread."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from kith.feed.v1 import feed_pb2 as pb
from tests.support.engines import engine_to
from tests.support.errors import reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import PRIVATE, People, all_without, tagged


def _mark(pair: Pair, user_id: int, author_id: int, post_id: int) -> Timestamp:
    post = pb.PostName(author_id=author_id, post_id=post_id)
    return pair.feed.MarkFeedRead(pb.MarkFeedReadRequest(user_id=user_id, post=post)).read_time


def _unread(pair: Pair, user_id: int) -> int:
    response = pair.feed.CountUnreadPosts(pb.CountUnreadPostsRequest(user_id=user_id))
    assert not response.more
    return response.unread_count


def _time(pair: Pair, author_id: int, post_id: int) -> Timestamp:
    request = pb.GetPostRequest(user_id=author_id, author_id=author_id, post_id=post_id)
    return pair.feed.GetPost(request).post.create_time


def test_everything_by_others_is_unread_before_the_first_mark(pair: Pair, people: People) -> None:
    user, friend = people.connected(2)
    people.post(friend)
    people.post(user)
    people.post(friend)

    assert _unread(pair, user) == 2


def test_nothing_is_unread_in_an_empty_feed(pair: Pair, people: People) -> None:
    [user] = people.new(1)

    assert _unread(pair, user) == 0


def test_what_is_newer_than_the_marked_post_is_unread(pair: Pair, people: People) -> None:
    user, friend = people.connected(2)
    posts = [people.post(friend) for _ in range(3)]

    read_time = _mark(pair, user, friend, posts[1])

    assert read_time == _time(pair, friend, posts[1])
    assert _unread(pair, user) == 1


def test_marking_an_older_post_does_not_move_back(pair: Pair, people: People) -> None:
    user, friend = people.connected(2)
    older, newer, _ = [people.post(friend) for _ in range(3)]
    _mark(pair, user, friend, newer)

    read_time = _mark(pair, user, friend, older)

    assert read_time == _time(pair, friend, newer)
    assert _unread(pair, user) == 1


def test_concurrent_marks_end_at_the_newest_and_never_answer_less_than_was_marked(
    pair: Pair, people: People
) -> None:
    user, friend = people.connected(2)
    posts = [people.post(friend) for _ in range(32)]
    times = [_time(pair, friend, post).ToNanoseconds() for post in posts]

    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(
                lambda post: _mark(pair, user, friend, post).ToNanoseconds(),
                [*posts[::2], *posts[::-2]],
            )
        )

    marked = [*times[::2], *times[::-2]]
    assert all(answer >= own for answer, own in zip(answers, marked, strict=True))
    assert _mark(pair, user, friend, posts[0]).ToNanoseconds() == times[-1]
    assert _unread(pair, user) == 0


@pytest.mark.parametrize("index", range(4))
def test_any_of_several_posts_of_one_moment_marks_all_of_them_read(
    pair: Pair, people: People, index: int
) -> None:
    user, friend = people.connected(2)
    posts = [people.post(friend) for _ in range(4)]
    _set_times(pair, friend, datetime(2026, 1, 1, tzinfo=UTC))
    newer = people.post(friend)

    _mark(pair, user, friend, posts[index])

    assert _unread(pair, user) == 1
    _mark(pair, user, friend, newer)
    assert _unread(pair, user) == 0


def test_only_a_post_that_the_user_may_see_can_be_marked(pair: Pair, people: People) -> None:
    user, friend, removed = people.connected(3)
    names = [(friend, people.post(friend, PRIVATE)), (removed, people.post(removed))]
    people.remove(user, removed)

    for name in [*names, (friend, names[0][1] + 1_000_000)]:
        with pytest.raises(grpc.RpcError) as caught:
            _mark(pair, user, *name)
        assert reason_of(caught.value) == "POST_NOT_FOUND"

    people.post(friend)
    assert _unread(pair, user) == 1


def test_as_much_is_unread_as_the_feed_shows_behind_the_position(
    pair: Pair, people: People
) -> None:
    user, one, two, three = people.connected(4)
    given, other = people.tag(one, "given", user), people.tag(one, "other")
    withheld = people.tag(two, "withheld", user)
    for _ in range(3):
        for audience in (tagged(given), tagged(other), PRIVATE):
            people.post(one, audience)
        people.post(two)
        people.post(two, all_without(withheld))
        people.post(three)
        people.post(user)
    people.remove(three, user)
    page = pair.feed.GetFeed(pb.GetFeedRequest(user_id=user, page_size=100)).posts

    for index, post in reversed(list(enumerate(page))):
        _mark(pair, user, post.author_id, post.post_id)
        assert _unread(pair, user) == sum(newer.author_id != user for newer in page[:index])


def test_people_do_not_share_a_position(pair: Pair, people: People) -> None:
    author, one, two = people.connected(3)
    post = people.post(author)

    _mark(pair, one, author, post)

    assert (_unread(pair, one), _unread(pair, two)) == (0, 1)


@pytest.mark.parametrize("unread", [999, 1_000, 1_001, 1_500])
def test_more_than_a_thousand_are_not_counted(pair: Pair, people: People, unread: int) -> None:
    user, *friends = people.connected(4)
    _insert_posts(pair, friends, unread)

    response = pair.feed.CountUnreadPosts(pb.CountUnreadPostsRequest(user_id=user))

    assert (response.unread_count, response.more) == (min(unread, 1_000), unread > 1_000)


def test_one_own_post_is_marked_without_the_graph_and_counting_fails_closed(
    databases: Databases,
) -> None:
    with running_pair(databases) as pair:
        people = People(pair)
        user, friend = people.connected(2)
        own, others = people.post(user), people.post(friend)
        pair.graph_server.stop()

        assert _mark(pair, user, user, own) == _time(pair, user, own)
        with pytest.raises(grpc.RpcError) as marking:
            _mark(pair, user, friend, others)
        with pytest.raises(grpc.RpcError) as counting:
            _unread(pair, user)

    assert reason_of(marking.value) == reason_of(counting.value) == "GRAPH_UNAVAILABLE"


def _set_times(pair: Pair, author_id: int, moment: datetime) -> None:
    _execute(
        pair,
        "UPDATE posts SET created_at = :moment WHERE author_id = :author",
        {"moment": moment, "author": author_id},
    )


def _insert_posts(pair: Pair, author_ids: list[int], number: int) -> None:
    _execute(
        pair,
        """INSERT INTO posts (author_id, body, importance, audience)
           SELECT (CAST(:authors AS bigint[]))[n % :size + 1], 'body', 5, 'all'
           FROM generate_series(1, :number) AS n""",
        {"authors": author_ids, "size": len(author_ids), "number": number},
    )
    _execute(
        pair,
        "INSERT INTO authors SELECT DISTINCT author_id FROM posts ON CONFLICT DO NOTHING",
        {},
    )


def _execute(pair: Pair, statement: str, parameters: dict[str, object]) -> None:
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(text(statement), parameters)
