"""Comments are read by their names, in either order, and by the people who wrote them."""

from collections.abc import Sequence

import grpc
import pytest

from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from tests.support.comments import Comments, Post, comment_name, post_name, refused
from tests.support.errors import fields_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import PRIVATE, People, tagged


@pytest.fixture
def comments(pair: Pair) -> Comments:
    """Calls about comments."""
    return Comments(pair)


@pytest.fixture
def posted(people: People) -> tuple[int, int, Post]:
    """An author, a friend of theirs, and a post that both see."""
    author, friend = people.connected(2)
    return author, friend, (author, people.post(author))


def test_a_comment_is_got_as_it_is_listed(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    comment = comments.write(friend, post)
    comments.write(author, post, to=comment)

    for user in (author, friend):
        assert [comments.get(user, comment)] == comments.all(user, post)


def test_a_comment_that_may_not_be_seen_is_like_one_that_does_not_exist(
    people: People, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    [stranger] = people.new(1)
    hidden = comments.write(author, (author, people.post(author, PRIVATE)))
    deleted, absent = comments.write(friend, post), comments.write(friend, post)
    comments.delete(friend, deleted)
    absent.comment_id += 1_000_000
    there = comments.write(friend, post)

    for user, comment in (
        (friend, hidden),
        (friend, deleted),
        (friend, absent),
        (stranger, there),
    ):
        assert refused(comments.get, user, comment) == "COMMENT_NOT_FOUND"


def test_a_batch_has_what_may_be_seen_in_the_order_asked_and_names_the_rest(
    people: People, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    [other] = people.new(1)
    people.connect(friend, other)
    own, theirs = (friend, people.post(friend)), (other, people.post(other))
    written = [
        comments.write(friend, post),
        comments.write(friend, own),
        comments.write(friend, theirs),
        comments.write(author, (author, people.post(author, PRIVATE))),
    ]
    written.append(comments.write(author, post, to=written[0]))
    gone = comments.write(friend, own)
    comments.delete(friend, gone)
    asked = [written[3], written[2], written[4], gone, written[0], written[1]]

    batch = comments.batch(friend, *asked)

    expected = [written[2], written[4], written[0], written[1]]
    assert [one.comment_id for one in batch.comments] == [one.comment_id for one in expected]
    assert [one.reply_count for one in batch.comments] == [0, 0, 1, 0]
    assert list(batch.not_found) == [comment_name(written[3]), comment_name(gone)]


def _names(*numbers: int) -> list[pb.CommentName]:
    return [
        pb.CommentName(post=pb.PostName(author_id=1, post_id=1), comment_id=number)
        for number in numbers
    ]


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        ([], ["comments"]),
        (_names(*range(1, 102)), ["comments"]),
        (_names(1, 2, 1), ["comments[2]"]),
        (_names(1, 0), ["comments[1].comment_id"]),
        (
            [pb.CommentName(comment_id=1)],
            ["comments[0].post.author_id", "comments[0].post.post_id"],
        ),
    ],
    ids=["none", "too many", "one twice", "no comment", "no post"],
)
def test_a_bad_batch_is_named(
    pair: Pair, names: Sequence[pb.CommentName], fields: Sequence[str]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.BatchGetComments(pb.BatchGetCommentsRequest(user_id=1, comments=names))

    assert fields_of(caught) == fields


def test_comments_are_listed_newest_first_in_full_pages(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    _, friend, post = posted
    written = [comments.write(friend, post) for _ in range(5)]
    request = pb.ListCommentsRequest(
        user_id=friend, post=post_name(post), order=pb.COMMENT_ORDER_NEWEST_FIRST, page_size=2
    )

    listed = [list(page.comments) for page in pages(comments.listed, request)]

    assert listed == [written[:2:-1], written[2:0:-1], written[:1]]


def test_an_order_that_does_not_exist_is_named(pair: Pair, posted: tuple[int, int, Post]) -> None:
    _, friend, post = posted
    request = pb.ListCommentsRequest(user_id=friend, post=post_name(post), order=9)  # type: ignore[arg-type]  # no such order

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.ListComments(request)

    assert fields_of(caught) == ["order"]


def test_ones_own_comments_are_listed_newest_first_whoever_sees_their_posts(
    pair: Pair, people: People, comments: Comments
) -> None:
    author, friend, other = people.connected(3)
    close = people.tag(author, "close", friend)
    posts = [(author, people.post(author)), (author, people.post(author, tagged(close)))]
    deleted = (author, people.post(author))
    written = [comments.write(friend, post) for post in (*posts, deleted)]
    written.append(comments.write(friend, posts[0], to=comments.write(other, posts[0])))
    comments.write(author, posts[0])
    people.remove(author, friend)
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author, post_id=deleted[1]))

    assert comments.own(friend) == written[::-1]
    for comment in written:
        comments.delete(friend, comment)
    assert comments.own(friend) == []


def test_ones_own_comments_are_listed_in_pages(
    pair: Pair, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    written = [comments.write(friend, post) for _ in range(5)]
    request = pb.ListOwnCommentsRequest(user_id=friend, page_size=2)

    listed = list(pages(pair.feed.ListOwnComments, request))

    assert [list(page.comments) for page in listed] == [
        written[:2:-1],
        written[2:0:-1],
        written[:1],
    ]
    request = pb.ListOwnCommentsRequest(user_id=author, page_token=listed[0].next_page_token)
    assert refused(pair.feed.ListOwnComments, request) == "INVALID_PAGE_TOKEN"


def test_ones_own_comments_are_listed_and_deleted_without_the_graph(databases: Databases) -> None:
    with running_pair(databases) as pair:
        people, comments = People(pair), Comments(pair)
        author, friend = people.connected(2)
        post = (author, people.post(author))
        comment = comments.write(friend, post)
        pair.graph_server.stop()

        assert comments.own(friend) == [comment]
        comments.delete(friend, comment)

        assert comments.own(friend) == []
        assert refused(comments.get, friend, comment) == "GRAPH_UNAVAILABLE"
        assert refused(comments.batch, friend, comment) == "GRAPH_UNAVAILABLE"
