"""A feed that is asked again tells exactly what has come since."""

import threading
from collections.abc import Sequence

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from kith.feed.v1 import feed_pb2 as feed
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Pair
from tests.support.people import ALL, PRIVATE, People


def _page(pair: Pair, viewer_id: int, **arguments: object) -> feed.GetFeedResponse:
    return pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer_id, **arguments))  # type: ignore[arg-type]  # each test sets its own


def _ids(page: feed.GetFeedResponse) -> list[int]:
    return [post.post_id for post in page.posts]


def test_nothing_has_come_since(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    people.post(author)
    token = _page(pair, viewer).refresh_token

    again = _page(pair, viewer, newer_than=token)

    assert _ids(again) == []
    assert _ids(_page(pair, viewer, newer_than=again.refresh_token)) == []


def test_each_new_post_is_told_once(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    told = list[int]()
    token = _page(pair, viewer).refresh_token
    posts = list[int]()

    for number in range(12):
        posts += [people.post(author) for _ in range(number % 3)]
        page = _page(pair, viewer, newer_than=token)
        told = [*_ids(page), *told]
        token = page.refresh_token

    assert told == posts[::-1]


def test_a_feed_that_was_empty_tells_its_first_post(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    token = _page(pair, viewer).refresh_token

    post = people.post(author)

    assert _ids(_page(pair, viewer, newer_than=token)) == [post]


def test_more_news_than_a_page_holds_goes_on_with_page_tokens(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    people.post(author)
    token = _page(pair, viewer, page_size=2).refresh_token
    posts = [people.post(author) for _ in range(5)]

    first = _page(pair, viewer, page_size=2, newer_than=token)
    second = _page(pair, viewer, page_size=2, newer_than=token, page_token=first.next_page_token)
    third = _page(pair, viewer, page_size=2, newer_than=token, page_token=second.next_page_token)

    assert _ids(first) + _ids(second) + _ids(third) == posts[::-1]
    assert not third.next_page_token
    assert first.refresh_token
    assert not second.refresh_token


def test_what_further_pages_still_hold_is_not_told_as_news(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    posts = [people.post(author) for _ in range(5)]
    first = _page(pair, viewer, page_size=2)

    newest = people.post(author)

    assert _ids(_page(pair, viewer, newer_than=first.refresh_token)) == [newest]
    rest = _page(pair, viewer, page_token=first.next_page_token)
    assert _ids(first) + _ids(rest) == posts[::-1]


def test_a_post_that_is_committed_late_is_told_all_the_same(pair: Pair, people: People) -> None:
    viewer, slow, quick = people.connected(3)
    has_its_time, may_go_on = threading.Event(), threading.Event()

    def wait_at_the_first(statement: str) -> None:
        if statement.endswith("COMMIT") and not has_its_time.is_set():
            has_its_time.set()
            may_go_on.wait(30)

    pair.feed_tap.before_statement = wait_at_the_first
    try:
        late = threading.Thread(target=people.post, args=(slow,))
        late.start()
        assert has_its_time.wait(30)
        post = people.post(quick)
        page = _page(pair, viewer)
    finally:
        may_go_on.set()
        pair.feed_tap.before_statement = lambda _statement: None
    late.join()

    assert _ids(page) == [post]
    [told] = _page(pair, viewer, newer_than=page.refresh_token).posts
    assert told.author_id == slow
    assert told.create_time.ToNanoseconds() < page.posts[0].create_time.ToNanoseconds()


def test_many_posts_in_a_moment_are_told_once(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    before = [people.post(author) for _ in range(130)]
    first = _page(pair, viewer, page_size=100)
    rest = _page(pair, viewer, page_size=100, newer_than=first.refresh_token)
    after = [people.post(author) for _ in range(3)]

    assert _ids(first) == before[:-101:-1]
    assert _ids(rest) == []
    assert _ids(_page(pair, viewer, newer_than=rest.refresh_token)) == after[::-1]


@pytest.mark.parametrize(
    "arguments", [{"author_ids": [5]}, {"tag_ids": [5]}, {"user_id": 5}], ids=str
)
def test_a_refresh_token_belongs_to_its_filters(
    pair: Pair, people: People, arguments: dict[str, object]
) -> None:
    [viewer] = people.new(1)
    token = _page(pair, viewer).refresh_token
    request = {"user_id": viewer, "newer_than": token, **arguments}

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.GetFeed(feed.GetFeedRequest(**request))  # type: ignore[arg-type]  # as above

    assert fields_of(caught) == ["newer_than"]
    assert reason_of(caught.value) == "INVALID_PAGE_TOKEN"


def _open(pair: Pair, author_id: int, post_id: int) -> None:
    pair.feed.UpdatePost(
        feed.UpdatePostRequest(
            user_id=author_id,
            post=feed.Post(post_id=post_id, audience=ALL),
            update_mask=FieldMask(paths=["audience"]),
        )
    )


def _import(pair: Pair, author_id: int, *, seconds_ago: int) -> int:
    """Import a post of some time ago and return its id."""
    before = {post.post_id for post in _own(pair, author_id)}
    moment = Timestamp()
    moment.GetCurrentTime()
    moment.seconds -= seconds_ago
    post = feed.ImportPostsRequest.ImportedPost(
        author_id=author_id,
        external_id=f"{seconds_ago} seconds ago",
        body="from elsewhere",
        create_time=moment,
        audience=ALL,
    )
    pair.feed.ImportPosts(iter([feed.ImportPostsRequest(posts=[post])]))
    [new] = [post.post_id for post in _own(pair, author_id) if post.post_id not in before]
    return new


def _own(pair: Pair, author_id: int) -> Sequence[feed.Post]:
    request = feed.ListPostsRequest(user_id=author_id, author_id=author_id)
    return pair.feed.ListPosts(request).posts


def test_a_post_that_was_opened_since_is_told_if_it_is_no_older_than_the_page(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    closed = people.post(author, PRIVATE)
    people.post(author)
    token = _page(pair, viewer).refresh_token

    _open(pair, author, closed)

    assert _ids(_page(pair, viewer, newer_than=token)) == [closed]


def test_what_was_imported_since_is_told_if_it_is_younger_than_ten_seconds_before_the_page(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    people.post(author)
    token = _page(pair, viewer).refresh_token

    younger = _import(pair, author, seconds_ago=3)
    older = _import(pair, author, seconds_ago=3_600)

    assert _ids(_page(pair, viewer, newer_than=token)) == [younger]
    assert older in _ids(_page(pair, viewer))
