"""Replies to comments: who sees and writes them, their number, and what takes them along."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from tests.support.comments import Comments, Post, refused
from tests.support.errors import fields_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People


@pytest.fixture
def comments(pair: Pair) -> Comments:
    """Calls about comments."""
    return Comments(pair)


@pytest.fixture
def posted(people: People) -> tuple[int, int, int, Post]:
    """An author, two friends of theirs who are no friends, and a post that all see."""
    author, one, other = people.connected(3)
    return author, one, other, (author, people.post(author))


def test_replies_are_listed_under_their_comment_and_nowhere_else(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    first, second = comments.write(one, post, "first"), comments.write(other, post, "second")

    replies = [comments.write(user, post, "reply", to=first) for user in (other, author, one)]

    assert [reply.parent_comment_id for reply in replies] == [first.comment_id] * 3
    assert comments.bodies(author, post) == ["first", "second"]
    assert comments.replies(author, first) == replies
    assert comments.replies(author, second) == []
    assert [comment.reply_count for comment in comments.all(author, post)] == [3, 0]


def test_replies_count_as_comments_of_their_post(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    reply, _ = (comments.write(other, post, to=comment) for _ in range(2))

    before = comments.count(author, post)
    comments.delete(other, reply)

    assert (before, comments.count(author, post)) == (3, 2)
    assert comments.get(author, comment).reply_count == 1


def test_replies_are_listed_in_pages_in_either_order(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    _, one, _, post = posted
    comment = comments.write(one, post)
    written = [comments.write(one, post, to=comment).comment_id for _ in range(5)]

    for order, expected in (
        (pb.COMMENT_ORDER_OLDEST_FIRST, written),
        (pb.COMMENT_ORDER_NEWEST_FIRST, written[::-1]),
    ):
        request = pb.ListCommentsRequest(
            user_id=one,
            post=comment.post,
            parent_comment_id=comment.comment_id,
            order=order,
            page_size=2,
        )
        found = [
            [reply.comment_id for reply in page.comments]
            for page in pages(comments.listed, request)
        ]
        assert found == [expected[:2], expected[2:4], expected[4:]]


def test_a_token_is_refused_for_another_comment_and_another_order(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    _, one, _, post = posted
    named = [comments.write(one, post) for _ in range(2)]
    for comment in named:
        for _ in range(2):
            comments.write(one, post, to=comment)
    request = pb.ListCommentsRequest(
        user_id=one, post=named[0].post, parent_comment_id=named[0].comment_id, page_size=1
    )
    token = comments.listed(request).next_page_token
    of_comments = comments.page(one, post, 1).next_page_token

    for parent, order, foreign in (
        (named[1].comment_id, pb.COMMENT_ORDER_OLDEST_FIRST, token),
        (named[0].comment_id, pb.COMMENT_ORDER_NEWEST_FIRST, token),
        (0, pb.COMMENT_ORDER_OLDEST_FIRST, token),
        (0, pb.COMMENT_ORDER_NEWEST_FIRST, of_comments),
    ):
        request.parent_comment_id, request.order, request.page_token = parent, order, foreign
        assert refused(comments.listed, request) == "INVALID_PAGE_TOKEN"


def test_nobody_replies_to_a_reply(comments: Comments, posted: tuple[int, int, int, Post]) -> None:
    author, one, other, post = posted
    reply = comments.write(other, post, to=comments.write(one, post))

    assert refused(comments.write, author, post, to=reply) == "COMMENT_NOT_FOUND"
    assert refused(comments.replies, author, reply) == "COMMENT_NOT_FOUND"
    assert comments.count(author, post) == 2


def test_a_reply_needs_a_comment_on_its_own_post(
    people: People, comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, _, post = posted
    elsewhere = comments.write(one, (author, people.post(author)))
    deleted = comments.write(one, post)
    comments.delete(one, deleted)

    for comment in (elsewhere, deleted):
        assert refused(comments.write, one, post, to=comment) == "COMMENT_NOT_FOUND"
    assert comments.count(author, post) == 0


def test_a_negative_comment_to_reply_to_is_named(
    pair: Pair, posted: tuple[int, int, int, Post]
) -> None:
    _, one, _, post = posted
    name = pb.PostName(author_id=post[0], post_id=post[1])

    with pytest.raises(grpc.RpcError) as written:
        pair.feed.CreateComment(
            pb.CreateCommentRequest(user_id=one, post=name, body="hi", parent_comment_id=-1)
        )
    with pytest.raises(grpc.RpcError) as listed:
        pair.feed.ListComments(pb.ListCommentsRequest(user_id=one, post=name, parent_comment_id=-1))

    assert fields_of(written) == fields_of(listed) == ["parent_comment_id"]


@pytest.mark.parametrize("deleting", ["its author", "the author of the post"])
def test_a_deleted_comment_takes_the_replies_along(
    comments: Comments, posted: tuple[int, int, int, Post], deleting: str
) -> None:
    author, one, other, post = posted
    comment, stays = comments.write(one, post), comments.write(one, post)
    replies = [comments.write(user, post, to=comment) for user in (author, other)]
    comments.delete(other, replies[1])

    comments.delete(one if deleting == "its author" else author, comment)

    assert comments.all(author, post) == [stays]
    assert comments.count(author, post) == 1
    assert comments.own(author) == comments.own(other) == []
    assert refused(comments.replies, author, comment) == "COMMENT_NOT_FOUND"
    assert refused(comments.get, author, replies[0]) == "COMMENT_NOT_FOUND"
    assert refused(comments.update, author, replies[0], "new") == "COMMENT_NOT_FOUND"


def test_the_author_of_a_comment_does_not_delete_single_replies_of_others(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    reply = comments.write(other, post, to=comment)

    assert refused(comments.delete, one, reply) == "COMMENT_NOT_FOUND"
    comments.delete(author, reply)

    assert comments.replies(one, comment) == []


def test_no_reply_is_left_and_the_count_is_right_when_a_comment_is_deleted_among_replies(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    for _ in range(5):
        comment = comments.write(one, post)
        start = threading.Barrier(6)

        def reply(
            comment: pb.Comment = comment, start: threading.Barrier = start
        ) -> pb.Comment | str:
            start.wait()
            try:
                return comments.write(other, post, to=comment)
            except grpc.RpcError as error:
                return str(error)

        def delete(comment: pb.Comment = comment, start: threading.Barrier = start) -> None:
            start.wait()
            comments.delete(one, comment)

        with ThreadPoolExecutor(6) as threads:
            running = [threads.submit(reply) for _ in range(5)] + [threads.submit(delete)]
            for future in running:
                future.result()

    assert comments.own(other) == comments.all(author, post) == []
    assert comments.count(author, post) == 0


@pytest.fixture
def before_the_comment_is_locked(pair: Pair) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Chooses what happens once, when a reply was confirmed and its comment is not locked yet."""

    def choose(action: Callable[[], object]) -> None:
        def act(statement: str) -> None:
            if "comments AS c" in statement and "FOR SHARE" in statement:
                pair.feed_tap.before_statement = lambda _statement: None
                action()

        pair.feed_tap.before_statement = act

    yield choose
    pair.feed_tap.before_statement = lambda _statement: None


@pytest.mark.parametrize("what", ["deleted", "hidden"])
def test_a_reply_is_refused_when_its_comment_goes_while_it_is_on_its_way(
    comments: Comments,
    posted: tuple[int, int, int, Post],
    before_the_comment_is_locked: Callable[[Callable[[], object]], None],
    what: str,
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)

    before_the_comment_is_locked(
        lambda: (comments.delete if what == "deleted" else comments.hide)(author, comment)
    )

    assert refused(comments.write, other, post, to=comment) == "COMMENT_NOT_FOUND"
    assert comments.own(other) == []


@pytest.mark.parametrize("blocker", ["one", "other"])
def test_two_with_a_block_do_not_see_what_others_reply_to_each_other(
    people: People, comments: Comments, posted: tuple[int, int, int, Post], blocker: str
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    reply = comments.write(author, post, "quoting one", to=comment)

    people.block(*((one, other) if blocker == "one" else (other, one)))

    assert comments.all(other, post) == []
    for call in (comments.replies, comments.get):
        assert refused(call, other, comment) == "COMMENT_NOT_FOUND"
    assert refused(comments.get, other, reply) == "COMMENT_NOT_FOUND"
    assert refused(comments.write, other, post, to=comment) == "COMMENT_NOT_FOUND"
    assert comments.replies(one, comment) == [reply]


def test_a_reply_of_somebody_with_a_block_is_neither_shown_nor_counted(
    people: People, comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(author, post)
    replies = [comments.write(user, post, to=comment) for user in (one, other)]

    people.block(other, one)

    assert comments.replies(one, comment) == replies[:1]
    assert comments.get(one, comment).reply_count == 1
    assert comments.get(author, comment).reply_count == 2


def test_ones_own_post_is_not_replied_on_without_the_graph(databases: Databases) -> None:
    with running_pair(databases) as pair:
        people, comments = People(pair), Comments(pair)
        [author] = people.new(1)
        post = (author, people.post(author))
        comment = comments.write(author, post)
        pair.graph_server.stop()

        # Nobody can say whether somebody with a block has written the comment.
        assert refused(comments.write, author, post, to=comment) == "GRAPH_UNAVAILABLE"
        assert comments.own(author) == [comment]


def test_the_replies_to_a_suspended_person_are_out_of_sight_until_they_are_back(
    people: People, comments: Comments, pair: Pair, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    reply = comments.write(author, post, "quoting one", to=comment)
    check = pb.CheckVisibilityRequest.VisibilityCheck(
        viewer_id=other, post=reply.post, comment_id=reply.comment_id
    )

    people.suspend(one)

    for call in (comments.replies, comments.get):
        assert refused(call, other, comment) == "COMMENT_NOT_FOUND"
    assert refused(comments.get, other, reply) == "COMMENT_NOT_FOUND"
    assert refused(comments.write, other, post, to=comment) == "COMMENT_NOT_FOUND"
    request = pb.CheckVisibilityRequest(checks=[check])
    assert list(pair.feed.CheckVisibility(request).visible) == [False]
    people.restore(one)
    assert comments.replies(other, comment) == [reply]
    assert list(pair.feed.CheckVisibility(request).visible) == [True]
