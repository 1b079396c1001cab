"""Pages: full, complete, each item once, and only by tokens that were issued for them."""

import base64
import threading
from collections.abc import Callable

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import text

from kith.client import items, pages
from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.engines import engine_to
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Pair
from tests.support.people import ALL, PRIVATE, People, tagged
from tests.support.tokens import integers_in


def _pages(pair: Pair, viewer_id: int, page_size: int) -> list[list[int]]:
    request = feed.GetFeedRequest(user_id=viewer_id, page_size=page_size)
    return [[post.post_id for post in page.posts] for page in pages(pair.feed.GetFeed, request)]


def _mixed(people: People, number: int) -> tuple[int, int, list[int]]:
    """Return a viewer, an author, and the posts of which the viewer sees two in five."""
    viewer, author = people.connected(2)
    given, other = people.tag(author, "given", viewer), people.tag(author, "other")
    audiences = [ALL, PRIVATE, tagged(other), tagged(given), PRIVATE]
    visible = list[int]()
    for index in range(number):
        post = people.post(author, audiences[index % 5])
        if index % 5 in (0, 3):
            visible.insert(0, post)
    return viewer, author, visible


@pytest.mark.parametrize("page_size", [1, 7, 20, 100])
def test_pages_are_full_until_the_feed_ends_and_hold_every_visible_post_once(
    pair: Pair, people: People, page_size: int
) -> None:
    viewer, _, visible = _mixed(people, 60)

    pages = _pages(pair, viewer, page_size)

    assert [post for page in pages for post in page] == visible
    assert all(len(page) == page_size for page in pages[:-1])
    assert pages[-1]


def test_a_token_tells_the_mean_time_between_the_posts_of_its_page(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    for _ in range(6):
        people.post(author)

    page = pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_size=5))

    newest, *_, oldest = [post.create_time.ToMicroseconds() for post in page.posts]
    assert integers_in(page.next_page_token) == [
        oldest,
        page.posts[-1].post_id,
        (newest - oldest) // 4,
    ]


def test_a_page_is_right_whatever_became_of_the_posts_that_were_expected_on_it(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    posts = [people.post(author, PRIVATE if index < 8 else ALL) for index in range(40)]
    first = pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_size=5))
    for post in posts[15:35]:
        pair.feed.DeletePost(feed.DeletePostRequest(user_id=author, post_id=post))
    shown = feed.Post(post_id=posts[3], audience=ALL)
    pair.feed.UpdatePost(
        feed.UpdatePostRequest(
            user_id=author, post=shown, update_mask=FieldMask(paths=["audience"])
        )
    )
    people.post(author)

    rest = pair.feed.GetFeed(
        feed.GetFeedRequest(user_id=viewer, page_token=first.next_page_token, page_size=20)
    )

    assert [post.post_id for post in rest.posts] == [*posts[14:7:-1], posts[3]]


def test_an_empty_feed_is_one_empty_page(pair: Pair, people: People) -> None:
    [viewer] = people.new(1)

    assert _pages(pair, viewer, 20) == [[]]


def test_posts_of_the_same_moment_are_neither_lost_nor_repeated(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    posts = [people.post(author) for _ in range(12)]
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(
            text("UPDATE posts SET created_at = '2026-01-01 UTC' WHERE author_id = :author"),
            {"author": author},
        )

    pages = _pages(pair, viewer, 5)

    assert [post for page in pages for post in page] == posts[::-1]


def test_of_one_moment_lists_show_the_newest_post_first_and_the_oldest_comment(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    posts = [people.post(author) for _ in range(3)]
    commented = feed.PostName(author_id=author, post_id=posts[0])
    comments = [
        pair.feed.CreateComment(
            feed.CreateCommentRequest(user_id=writer, post=commented, body="hello")
        ).comment.comment_id
        for writer in (friend, author, friend)
    ]
    with engine_to(pair.feed_url).connect() as connection:
        for table, whose in (("posts", "author_id"), ("comments", "post_author_id")):
            connection.execute(
                text(f"UPDATE {table} SET created_at = '2026-01-01 UTC' WHERE {whose} = :author"),
                {"author": author},
            )

    listed = pair.feed.ListPosts(feed.ListPostsRequest(user_id=friend, author_id=author)).posts
    under = pair.feed.ListComments(feed.ListCommentsRequest(user_id=friend, post=commented))
    assert [post.post_id for post in listed] == posts[::-1]
    assert [comment.comment_id for comment in under.comments] == comments


def test_posts_that_stay_are_read_once_while_others_come_and_go(pair: Pair, people: People) -> None:
    viewer, author, other = people.connected(3)
    staying = list[int]()
    leaving = list[int]()
    for _ in range(40):
        leaving.append(people.post(other))
        staying.insert(0, people.post(author))
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.is_set() and leaving:
            people.post(other)
            pair.feed.DeletePost(feed.DeletePostRequest(user_id=other, post_id=leaving.pop()))

    thread = threading.Thread(target=come_and_go, daemon=True)
    thread.start()
    pages = _pages(pair, viewer, 3)
    is_over.set()
    thread.join()

    seen = [post for page in pages for post in page]
    assert len(seen) == len(set(seen))
    assert [post for post in seen if post in staying] == staying


def test_a_token_goes_on_with_another_page_size(pair: Pair, people: People) -> None:
    viewer, _, visible = _mixed(people, 30)
    first = pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_size=4))

    rest = pair.feed.GetFeed(
        feed.GetFeedRequest(user_id=viewer, page_size=100, page_token=first.next_page_token)
    )

    assert [post.post_id for post in [*first.posts, *rest.posts]] == visible


@pytest.mark.parametrize(("asked", "given"), [(0, 20), (1_000, 100)])
def test_no_page_size_is_twenty_and_a_hundred_is_the_most(
    pair: Pair, people: People, asked: int, given: int
) -> None:
    viewer, author = people.connected(2)
    for _ in range(given + 1):
        people.post(author)

    response = pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_size=asked))

    assert len(response.posts) == given
    assert response.next_page_token


@pytest.fixture(scope="module")
def token_of_a_feed(pair: Pair) -> tuple[int, str]:
    """A viewer, and the token behind the first of their posts."""
    people = People(pair)
    viewer, author = people.connected(2)
    for _ in range(3):
        people.post(author)
    response = pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_size=1))
    return viewer, response.next_page_token


def _expect_refusal(call: Callable[[], object]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert fields_of(caught) == ["page_token"]
    assert reason_of(caught.value) == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize("index", range(0, 32, 3))
def test_a_token_with_a_changed_byte_is_refused(
    pair: Pair, token_of_a_feed: tuple[int, str], index: int
) -> None:
    viewer, token = token_of_a_feed
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[index] ^= 1
    changed = base64.urlsafe_b64encode(raw).decode().rstrip("=")

    _expect_refusal(
        lambda: pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_token=changed))
    )


@pytest.mark.parametrize("token", ["x", "garbage!", "A" * 43, "A" * 5_000, "\N{SNOWMAN}", "===="])
def test_garbage_for_a_token_is_refused(
    pair: Pair, token_of_a_feed: tuple[int, str], token: str
) -> None:
    viewer, _ = token_of_a_feed

    _expect_refusal(
        lambda: pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_token=token))
    )


def test_a_token_is_refused_for_any_other_call(
    pair: Pair, token_of_a_feed: tuple[int, str]
) -> None:
    viewer, token = token_of_a_feed
    others: list[Callable[[], object]] = [
        lambda: pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer + 1, page_token=token)),
        lambda: pair.feed.GetFeed(
            feed.GetFeedRequest(user_id=viewer, tag_ids=[5], page_token=token)
        ),
        lambda: pair.feed.GetFeed(
            feed.GetFeedRequest(user_id=viewer, author_ids=[5], page_token=token)
        ),
        lambda: pair.feed.ListTags(feed.ListTagsRequest(user_id=viewer, page_token=token)),
        lambda: pair.graph.ListConnections(
            graph.ListConnectionsRequest(user_id=viewer, page_token=token)
        ),
    ]

    for call in others:
        _expect_refusal(call)


def test_lists_of_the_graph_hold_every_peer_once(pair: Pair, people: People) -> None:
    user, *peers = people.connected(14)
    request = graph.ListConnectionsRequest(user_id=user, page_size=5)

    listed = [page.connections for page in pages(pair.graph.ListConnections, request)]

    assert sorted(peer.peer_id for page in listed for peer in page) == peers
    assert [len(page) for page in listed] == [5, 5, 3]


def test_members_of_a_tag_are_listed_once_each(pair: Pair, people: People) -> None:
    owner, *members = people.connected(8)
    tag_id = people.tag(owner, "family", *members)
    request = feed.ListTagMembersRequest(user_id=owner, tag_id=tag_id, page_size=3)

    listed = items(pair.feed.ListTagMembers, request, lambda page: page.members)

    assert [member.target_user_id for member in listed] == members
