"""Deleted posts: until they are purged their author sees them, and can restore them."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
import sqlalchemy

from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from tests.support.engines import engine_to
from tests.support.errors import reason_of
from tests.support.pair import Pair
from tests.support.people import ALL, People, all_without, tagged


def _delete(pair: Pair, author_id: int, post_id: int) -> None:
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author_id, post_id=post_id))


def _undelete(pair: Pair, author_id: int, post_id: int) -> pb.Post:
    return pair.feed.UndeletePost(pb.UndeletePostRequest(user_id=author_id, post_id=post_id)).post


def _deleted(pair: Pair, author_id: int) -> list[pb.Post]:
    return list(pair.feed.ListDeletedPosts(pb.ListDeletedPostsRequest(user_id=author_id)).posts)


def _get(pair: Pair, viewer_id: int, author_id: int, post_id: int) -> pb.Post:
    request = pb.GetPostRequest(user_id=viewer_id, author_id=author_id, post_id=post_id)
    return pair.feed.GetPost(request).post


def _execute(pair: Pair, statement: str, **parameters: object) -> None:
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(sqlalchemy.text(statement), parameters)


def test_a_restored_post_is_what_it_was(pair: Pair, people: People) -> None:
    author, friend, enemy = people.connected(3)
    family, work = people.tag(author, "family", friend), people.tag(author, "work", enemy)
    draft = pb.CreatePostRequest(
        user_id=author,
        body="hello",
        audience=tagged(family, without=(work,)),
        attributes={"place": "Porto"},
    )
    name = pb.PostName(author_id=author, post_id=pair.feed.CreatePost(draft).post.post_id)
    newer = people.post(author)
    pair.feed.CreateComment(pb.CreateCommentRequest(user_id=friend, post=name, body="hi"))
    comments = pb.ListCommentsRequest(user_id=friend, post=name)
    before = [_get(pair, viewer, author, name.post_id) for viewer in (author, friend)]
    commented = pair.feed.ListComments(comments)
    _delete(pair, author, name.post_id)

    restored = _undelete(pair, author, name.post_id)

    after = [_get(pair, viewer, author, name.post_id) for viewer in (author, friend)]
    assert after[0] == restored
    assert restored.etag != before[0].etag
    restored.etag = before[0].etag
    assert [restored, after[1]] == before
    assert pair.feed.ListComments(comments) == commented
    assert people.feed(friend) == [newer, name.post_id]
    assert people.feed(enemy) == [newer]
    assert _deleted(pair, author) == []


def test_an_exclusion_survives_deletion_and_the_end_of_its_tag(pair: Pair, people: People) -> None:
    author, enemy, friend = people.connected(3)
    work = people.tag(author, "work", enemy)
    post_id = people.post(author, all_without(work))
    _delete(pair, author, post_id)
    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=author, tag_id=work))

    restored = _undelete(pair, author, post_id)

    assert list(restored.audience.excluded_tag_ids) == [work]
    assert (people.feed(enemy), people.feed(friend)) == ([], [post_id])


def test_a_tag_that_was_deleted_meanwhile_shows_the_restored_post_to_nobody(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    family = people.tag(author, "family", friend)
    post_id = people.post(author, tagged(family))
    _delete(pair, author, post_id)
    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=author, tag_id=family))

    assert list(_undelete(pair, author, post_id).audience.tag_ids) == []
    assert (people.feed(friend), people.feed(author)) == ([], [post_id])


def test_an_author_lists_what_they_deleted_the_last_first(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    first, second, _ = (people.post(author, body=str(number)) for number in range(3))
    now = datetime.now(UTC)
    _delete(pair, author, second)
    _delete(pair, author, first)

    listed = _deleted(pair, author)

    assert [(post.post_id, post.body) for post in listed] == [(first, "0"), (second, "1")]
    for post in listed:
        deleted, purged = (moment.ToDatetime(UTC) for moment in (post.delete_time, post.purge_time))
        assert purged - deleted == timedelta(days=30)
        assert abs(deleted - now) < timedelta(minutes=5)
    assert listed[0].audience == ALL
    assert _deleted(pair, friend) == []


def test_deleted_posts_are_paged_without_gap_or_duplicate(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    posts = [people.post(author) for _ in range(7)]
    for post_id in posts:
        _delete(pair, author, post_id)
    request = pb.ListDeletedPostsRequest(user_id=author, page_size=3)

    listed = [
        [post.post_id for post in page.posts] for page in pages(pair.feed.ListDeletedPosts, request)
    ]

    assert [post_id for page in listed for post_id in page] == posts[::-1]
    assert [len(page) for page in listed] == [3, 3, 1]


def test_a_post_that_is_not_deleted_is_restored_without_a_change(
    pair: Pair, people: People
) -> None:
    [author] = people.new(1)
    post_id = people.post(author)
    before = _get(pair, author, author, post_id)

    assert _undelete(pair, author, post_id) == before


def test_a_deleted_post_is_shown_by_no_other_read(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post_id = people.post(author)
    _delete(pair, author, post_id)

    with pytest.raises(grpc.RpcError) as caught:
        _get(pair, author, author, post_id)

    assert reason_of(caught.value) == "POST_NOT_FOUND"
    assert people.feed(author) == []


def test_nobody_restores_a_post_of_somebody_else(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post_id = people.post(author)
    _delete(pair, author, post_id)

    with pytest.raises(grpc.RpcError) as caught:
        _undelete(pair, friend, post_id)

    assert reason_of(caught.value) == "POST_NOT_FOUND"
    assert people.feed(friend) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE posts SET purge_at = now() WHERE id = :id",
        # As the version before leaves it, which has forgotten the people that the post excludes.
        "UPDATE posts SET purge_at = NULL WHERE id = :id",
    ],
    ids=["its time has passed", "another version deleted it"],
)
def test_a_post_is_gone_when_it_cannot_be_restored_any_more(
    pair: Pair, people: People, change: str
) -> None:
    [author] = people.new(1)
    post_id = people.post(author)
    _delete(pair, author, post_id)
    _execute(pair, change, id=post_id)

    with pytest.raises(grpc.RpcError) as caught:
        _undelete(pair, author, post_id)

    assert reason_of(caught.value) == "POST_NOT_FOUND"
    assert _deleted(pair, author) == []


def test_a_restored_post_that_the_version_before_deletes_cannot_be_restored_again(
    pair: Pair, people: People
) -> None:
    [author] = people.new(1)
    post_id = people.post(author)
    _delete(pair, author, post_id)
    _undelete(pair, author, post_id)
    _execute(pair, "UPDATE posts SET deleted_at = now() WHERE id = :id", id=post_id)

    with pytest.raises(grpc.RpcError) as caught:
        _undelete(pair, author, post_id)

    assert reason_of(caught.value) == "POST_NOT_FOUND"


def test_a_restored_post_is_counted_again(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post_id = people.post(author)
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    total = "SELECT sum(value) FROM totals WHERE name = 'posts_total'"

    def count() -> int:
        with engine.connect() as connection:
            return int(connection.exec_driver_sql(total).scalar_one())

    before = count()
    _delete(pair, author, post_id)
    _undelete(pair, author, post_id)
    _undelete(pair, author, post_id)

    assert count() == before
