"""Comments come from elsewhere with their times, once, on posts that were imported."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import sqlalchemy
from google.protobuf.timestamp_pb2 import Timestamp

from feed_service import queries
from kith.feed.v1 import feed_pb2 as pb
from kith.timestamps import timestamp
from tests.support.errors import fields_of
from tests.support.locks import is_waited_for
from tests.support.pair import Pair
from tests.support.people import ALL, People
from tests.support.processes import until

ImportedComment = pb.ImportCommentsRequest.ImportedComment

_LONG_AGO = timestamp(datetime(2019, 2, 28, 23, 59, 59, 123456, tzinfo=UTC))
_LATER = timestamp(datetime(2019, 3, 1, tzinfo=UTC))


def _post(pair: Pair, author_id: int) -> pb.PostName:
    post = pb.ImportPostsRequest.ImportedPost(
        author_id=author_id, external_id="post", body="x", create_time=_LONG_AGO, audience=ALL
    )
    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=[post])]))
    request = pb.ListPostsRequest(user_id=author_id, author_id=author_id)
    [found] = pair.feed.ListPosts(request).posts
    return pb.PostName(author_id=author_id, post_id=found.post_id)


def _comment(
    author_id: int,
    post_author_id: int,
    external_id: str = "1",
    post: str = "post",
    edited: Timestamp | None = None,
) -> ImportedComment:
    return ImportedComment(
        author_id=author_id,
        external_id=external_id,
        post_author_id=post_author_id,
        post_external_id=post,
        body=f"comment {external_id}",
        create_time=_LONG_AGO,
        edit_time=edited,
    )


def _import(pair: Pair, *chunks: Sequence[ImportedComment]) -> pb.ImportCommentsResponse:
    return pair.feed.ImportComments(pb.ImportCommentsRequest(comments=chunk) for chunk in chunks)


def _shown(pair: Pair, viewer_id: int, post: pb.PostName) -> list[pb.Comment]:
    request = pb.ListCommentsRequest(user_id=viewer_id, post=post)
    return list(pair.feed.ListComments(request).comments)


def _count(pair: Pair, post: pb.PostName) -> int:
    request = pb.GetPostRequest(
        user_id=post.author_id, author_id=post.author_id, post_id=post.post_id
    )
    return pair.feed.GetPost(request).post.comment_count


def _purge(pair: Pair) -> None:
    """Purge comments that were deleted at any time."""
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        queries.upkeep.purge_comments(connection, age=timedelta(0), limit=10_000)


def test_a_comment_comes_as_it_was_with_its_times(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)

    done = _import(pair, [_comment(friend, author, edited=_LATER)])

    [seen] = _shown(pair, author, post)
    assert done == pb.ImportCommentsResponse(imported_count=1, committed_chunks=1)
    assert (seen.author_id, seen.body) == (friend, "comment 1")
    assert (seen.create_time, seen.edit_time) == (_LONG_AGO, _LATER)
    assert _count(pair, post) == 1


def test_what_is_sent_again_is_counted_and_a_deleted_comment_is_not_brought_back(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    chunk = [_comment(friend, author), _comment(author, author), _comment(friend, author, "2")]
    _import(pair, chunk)
    first = _shown(pair, author, post)[0]
    pair.feed.DeleteComment(
        pb.DeleteCommentRequest(user_id=author, post=post, comment_id=first.comment_id)
    )

    again = _import(pair, chunk, [])

    assert again == pb.ImportCommentsResponse(existing_count=3, committed_chunks=2)
    assert len(_shown(pair, author, post)) == _count(pair, post) == 2


def test_concurrent_imports_of_the_same_comments_count_each_once(
    pair: Pair, people: People
) -> None:
    author, *friends = people.connected(4)
    post = _post(pair, author)
    chunk = [_comment(friend, author, str(number)) for friend in friends for number in range(30)]

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda each: _import(pair, each), [chunk, chunk[::-1]]))

    assert sum(answer.imported_count for answer in answers) == 90
    assert _count(pair, post) == 90


def test_comments_on_a_post_that_was_not_imported_are_refused_by_name(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    people.post(friend)

    with pytest.raises(grpc.RpcError) as caught:
        _import(
            pair,
            [
                _comment(friend, author),
                _comment(friend, author, post="another"),
                _comment(author, friend),
            ],
        )

    assert fields_of(caught) == [f"comments[{index}].post_external_id" for index in (1, 2)]
    assert _shown(pair, author, post) == []


def test_a_block_hides_an_imported_comment_too(pair: Pair, people: People) -> None:
    author, friend, enemy = people.connected(3)
    post = _post(pair, author)
    people.block(enemy, friend)

    _import(pair, [_comment(enemy, author)])

    assert _shown(pair, friend, post) == []
    assert len(_shown(pair, author, post)) == 1


def _reply(author_id: int, post_author_id: int, external_id: str, parent: str) -> ImportedComment:
    comment = _comment(author_id, post_author_id, external_id)
    comment.parent_external_id = parent
    return comment


def test_replies_come_with_what_they_reply_to_in_any_order(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    chunk = [_reply(author, author, "2", "1"), _comment(friend, author)]

    first, again = _import(pair, chunk), _import(pair, chunk)

    [comment] = _shown(pair, author, post)
    request = pb.ListCommentsRequest(
        user_id=friend, post=post, parent_comment_id=comment.comment_id
    )
    [reply] = pair.feed.ListComments(request).comments
    assert (first.imported_count, again.existing_count) == (2, 2)
    assert (comment.author_id, comment.reply_count, reply.author_id) == (friend, 1, author)
    assert _count(pair, post) == 2


def test_a_reply_to_a_reply_or_to_nothing_is_refused_by_name(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    _import(pair, [_comment(friend, author), _reply(friend, author, "2", "1")])

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [_reply(author, author, "3", "2"), _reply(author, author, "4", "x")])

    assert fields_of(caught) == [f"comments[{index}].parent_external_id" for index in (0, 1)]
    assert _count(pair, post) == 2


def test_a_comment_that_the_author_of_the_post_had_hidden_stays_hidden(
    pair: Pair, people: People
) -> None:
    author, friend, other = people.connected(3)
    post = _post(pair, author)
    hidden = _comment(friend, author)
    hidden.hidden = True

    _import(pair, [hidden])

    assert [len(_shown(pair, viewer, post)) for viewer in (author, friend, other)] == [1, 1, 0]


def test_a_comment_that_was_hidden_elsewhere_stays_hidden_and_is_not_counted(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    hidden = _comment(friend, author)
    hidden.moderated = True

    _import(pair, [hidden, _comment(friend, author, "2")])

    assert [comment.body for comment in _shown(pair, author, post)] == ["comment 2"]
    assert [comment.moderated for comment in _shown(pair, friend, post)] == [True, False]
    assert _count(pair, post) == 1


def test_a_comment_that_was_hidden_elsewhere_is_counted_once_a_service_shows_it(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    hidden = _comment(friend, author)
    hidden.moderated = True
    _import(pair, [hidden])
    [comment] = _shown(pair, friend, post)

    pair.feed.SetModeration(
        pb.SetModerationRequest(
            post=post, comment_id=comment.comment_id, state=pb.MODERATION_STATE_VISIBLE
        )
    )

    assert len(_shown(pair, author, post)) == _count(pair, post) == 1


def test_a_reply_that_is_sent_again_is_counted_although_its_parent_is_deleted(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    chunk = [_comment(friend, author), _reply(author, author, "2", "1")]
    _import(pair, chunk)
    parent = _shown(pair, friend, post)[0]
    pair.feed.DeleteComment(
        pb.DeleteCommentRequest(user_id=friend, post=post, comment_id=parent.comment_id)
    )

    response = _import(pair, chunk)

    assert (response.imported_count, response.existing_count) == (0, 2)


def test_what_was_purged_counts_as_never_imported(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    parents, replies = [_comment(friend, author)], [_reply(author, author, "2", "1")]
    _import(pair, parents, replies)
    [parent] = _shown(pair, friend, post)
    pair.feed.DeleteComment(
        pb.DeleteCommentRequest(user_id=friend, post=post, comment_id=parent.comment_id)
    )
    _purge(pair)

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, replies)
    again = _import(pair, parents, replies)

    assert fields_of(caught) == ["comments[0].parent_external_id"]
    assert (again.imported_count, again.existing_count) == (2, 0)
    assert _count(pair, post) == 2


def test_no_reply_is_left_when_its_parent_is_deleted_while_it_is_imported(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(pair, author)
    _import(pair, [_comment(friend, author)])
    [parent] = _shown(pair, friend, post)
    deletion = pb.DeleteCommentRequest(user_id=friend, post=post, comment_id=parent.comment_id)

    with ThreadPoolExecutor(1) as executor:

        def delete(statement: str) -> None:
            if "INSERT INTO comments" in statement:
                pair.feed_tap.before_statement = lambda _statement: None
                deleting = executor.submit(pair.feed.DeleteComment, deletion)
                until(lambda: deleting.done() or is_waited_for(pair.feed_url))

        pair.feed_tap.before_statement = delete
        _import(pair, [_reply(author, author, "2", "1")])

    assert _shown(pair, author, post) == []
    assert _count(pair, post) == 0


_REFUSED = {
    "no time": (
        ImportedComment(
            author_id=1, external_id="1", post_author_id=1, post_external_id="1", body="x"
        ),
        "create_time",
    ),
    "edited before it was written": (_comment(1, 1, edited=Timestamp(seconds=1)), "edit_time"),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("fault", _REFUSED)
def test_a_comment_that_cannot_be_is_refused_by_name(pair: Pair, fault: str) -> None:
    comment, field = _REFUSED[fault]

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [comment])

    assert fields_of(caught) == [f"comments[0].{field}"]


def test_a_comment_is_in_a_chunk_once(pair: Pair) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [_comment(1, 1), _comment(1, 1)])

    assert fields_of(caught) == ["comments[1].external_id"]
