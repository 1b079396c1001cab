"""Authors of posts hide comments: from everybody but the comment's author, who is not told."""

import pytest

from kith.feed.v1 import feed_pb2 as pb
from tests.support.comments import Comments, Post, post_name, refused
from tests.support.pair import Pair
from tests.support.people import People
from tests.support.processes import Session


@pytest.fixture
def comments(pair: Pair) -> Comments:
    """Calls about comments."""
    return Comments(pair)


@pytest.fixture
def posted(people: People) -> tuple[int, int, int, Post]:
    """An author, two friends of theirs, and a post that all see."""
    author, one, other = people.connected(3)
    return author, one, other, (author, people.post(author))


def test_a_hidden_comment_is_for_its_author_and_that_of_the_post(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)

    comments.hide(author, comment)

    assert comments.all(one, post) == [comments.get(one, comment)] == [comment]
    assert comments.all(other, post) == []
    assert refused(comments.get, other, comment) == "COMMENT_NOT_FOUND"
    [shown] = comments.all(author, post)
    assert shown.hidden
    shown.ClearField("hidden")
    assert shown == comment


def test_a_comment_that_is_shown_again_is_as_it_was(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    comments.hide(author, comment)

    comments.unhide(author, comment)

    assert comments.all(author, post) == comments.all(other, post) == [comment]


def test_hiding_twice_and_showing_twice_succeed(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)

    shown = list[bool]()
    for act in (comments.hide, comments.hide, comments.unhide, comments.unhide):
        act(author, comment)
        shown.append(bool(comments.all(other, post)))

    assert shown == [False, False, True, True]


def test_no_count_tells_that_a_comment_is_hidden(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    replies = [comments.write(user, post, to=comment) for user in (one, other)]

    comments.hide(author, comment)
    comments.hide(author, replies[0])

    assert [comments.count(user, post) for user in (author, one, other)] == [3, 3, 3]
    assert comments.get(one, comment).reply_count == 2


def test_the_replies_to_a_hidden_comment_are_for_those_who_see_it(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    reply = comments.write(other, post, "quoting one", to=comment)

    comments.hide(author, comment)

    for user in (author, one):
        assert comments.replies(user, comment) == [reply]
        assert comments.get(user, reply) == reply
    # Also its own author, who still finds it among their own.
    assert refused(comments.replies, other, comment) == "COMMENT_NOT_FOUND"
    assert refused(comments.get, other, reply) == "COMMENT_NOT_FOUND"
    assert comments.own(other) == [reply]


def test_a_hidden_reply_is_for_its_author_and_that_of_the_post(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    reply = comments.write(other, post, to=comment)

    comments.hide(author, reply)

    assert [len(comments.replies(user, comment)) for user in (author, one, other)] == [1, 0, 1]
    counts = [comments.get(user, comment).reply_count for user in (author, one, other)]
    assert counts == [1, 0, 1]


def test_its_author_changes_and_deletes_a_hidden_comment(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    comments.hide(author, comment)

    changed = comments.update(one, comment, "changed", etag=comment.etag)

    assert comments.all(other, post) == []
    assert not changed.hidden
    comments.delete(one, comment)
    assert comments.count(author, post) == 0


def test_nobody_but_the_author_of_the_post_hides_a_comment(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)

    for user in (one, other):
        for act in (comments.hide, comments.unhide):
            assert refused(act, user, comment) == "COMMENT_NOT_FOUND"

    assert comments.all(other, post) == [comment]
    assert not comments.get(author, comment).hidden


def test_a_deleted_comment_is_not_found_to_be_hidden(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, _, post = posted
    comment = comments.write(one, post)
    comments.delete(one, comment)

    for act in (comments.hide, comments.unhide):
        assert refused(act, author, comment) == "COMMENT_NOT_FOUND"


def test_a_comment_by_somebody_with_a_block_is_hidden_by_its_name(
    people: People, comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    people.block(author, one)

    comments.hide(author, comment)

    assert comments.all(other, post) == []


def test_an_export_does_not_tell_that_a_comment_is_hidden(
    pair: Pair, comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, _, post = posted
    comment = comments.write(one, post)
    comments.hide(author, comment)

    exported = [
        found
        for message in pair.feed.ExportUser(pb.ExportUserRequest(user_id=one))
        for found in message.comments
    ]

    assert exported == comments.own(one) == [comment]


def test_hidden_comments_fill_no_page(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    written = [comments.write(one, post) for _ in range(10)]
    for comment in written[::2]:
        comments.hide(author, comment)

    pages = comments.pages(other, post, 3)

    assert [len(page) for page in pages] == [3, 2]
    assert [one for page in pages for one in page] == written[1::2]


def test_services_are_told_what_readers_see(
    pair: Pair, comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    comment = comments.write(one, post)
    reply = comments.write(author, post, to=comment)
    comments.hide(author, comment)

    checks = [
        pb.CheckVisibilityRequest.VisibilityCheck(
            viewer_id=user, post=post_name(post), comment_id=asked.comment_id
        )
        for user in (author, one, other)
        for asked in (comment, reply)
    ]
    visible = pair.feed.CheckVisibility(pb.CheckVisibilityRequest(checks=checks)).visible

    assert list(visible) == [True, True, True, True, False, False]


def test_the_count_in_the_database_is_the_number_of_comments_after_everything(
    pair: Pair, comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, one, other, post = posted
    for number in range(6):
        comment = comments.write(one, post)
        replies = [comments.write(other, post, to=comment) for _ in range(2)]
        comments.hide(author, (comment, replies[0])[number % 2])
        if number % 3 == 0:
            comments.delete(one, comment)
        elif number % 3 == 1:
            comments.delete(other, replies[1])

    with Session(pair.feed_url) as session:
        [(stored, counted)] = session.rows(
            f"""SELECT stats.comment_count,
                       (SELECT count(*) FROM comments
                        WHERE post_author_id = {author} AND post_id = {post[1]}
                          AND deleted_at IS NULL)
                FROM post_stats AS stats
                WHERE stats.author_id = {author} AND stats.post_id = {post[1]}"""
        )
    assert stored == counted == 10


def test_an_author_hides_their_own_comment_that_a_service_has_hidden(
    comments: Comments, posted: tuple[int, int, int, Post]
) -> None:
    author, _one, _other, post = posted
    comment = comments.write(author, post)
    comments.moderate(comment)

    shown = list[bool]()
    for act in (comments.hide, comments.unhide):
        act(author, comment)
        shown.append(comments.get(author, comment).hidden)

    assert shown == [True, False]
