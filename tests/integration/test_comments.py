"""Comments: who may read and write them, their order, their number, and what their authors do."""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import text

from kith.exceptions import AbortedError, AppException
from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2
from tests.support.comments import Comments, Post, post_name, refused
from tests.support.engines import engine_to
from tests.support.errors import decoded, fields_of, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, PRIVATE, People, all_without, tagged


@pytest.fixture
def comments(pair: Pair) -> Comments:
    """Calls about comments."""
    return Comments(pair)


@pytest.fixture
def posted(people: People) -> tuple[int, int, Post]:
    """An author, a friend of theirs, and a post that both see."""
    author, friend = people.connected(2)
    return author, friend, (author, people.post(author))


def test_a_comment_is_listed_as_it_was_written(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    body = "مرحبا \U0001f469\u200d\U0001f4bb 'quoted' \\ %(x)s {1,2}\n\ttabbed"

    written = comments.write(friend, post, body)

    assert (written.author_id, written.body, written.post) == (friend, body, post_name(post))
    assert written.HasField("create_time")
    assert not written.HasField("edit_time")
    assert comments.all(author, post) == comments.all(friend, post) == [written]


def test_eighty_concurrent_comments_count_as_eighty(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    writers = [author, friend] * 40

    with ThreadPoolExecutor(40) as threads:
        written = list(threads.map(lambda writer: comments.write(writer, post), writers))

    listed = comments.all(author, post, page_size=7)
    assert comments.count(friend, post) == len(listed) == 80
    assert {one.comment_id for one in listed} == {one.comment_id for one in written}


def test_the_feed_counts_the_comments_that_are_listed(
    pair: Pair, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    first, *_ = [comments.write(friend, post) for _ in range(3)]
    comments.delete(author, first)

    [shown] = pair.feed.GetFeed(pb.GetFeedRequest(user_id=friend)).posts

    assert shown.comment_count == len(comments.all(friend, post)) == 2


def test_a_reader_who_follows_the_last_page_misses_no_comment_and_reads_none_twice(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    comments.write(author, post)

    seen = list[int]()
    with ThreadPoolExecutor(6) as threads:
        writing = [threads.submit(comments.write, friend, post) for _ in range(60)]
        token = ""
        while not all(one.done() for one in writing):
            # Of a page with a token there is always more; one comment is left for the next page.
            page = comments.page(friend, post, 2, token)
            if page.next_page_token:
                token = page.next_page_token
                seen += [one.comment_id for one in page.comments]
    while token:
        page = comments.page(friend, post, 2, token)
        seen += [one.comment_id for one in page.comments]
        token = page.next_page_token

    listed = comments.all(author, post)
    assert seen == [one.comment_id for one in listed]
    assert len(seen) == 61


def test_comments_that_stay_are_read_once_while_others_come_and_go(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    staying, leaving = list[int](), list[pb.Comment]()
    for _ in range(25):
        staying.append(comments.write(author, post).comment_id)
        leaving.append(comments.write(friend, post))
    is_over = threading.Event()

    def come_and_go() -> None:
        while leaving and not is_over.is_set():
            comments.write(friend, post)
            comments.delete(friend, leaving.pop())

    thread = threading.Thread(target=come_and_go, daemon=True)
    thread.start()
    seen = [one.comment_id for one in comments.all(author, post, page_size=3)]
    is_over.set()
    thread.join()

    assert len(seen) == len(set(seen))
    assert [one for one in seen if one in staying] == staying


def test_pages_are_full_until_the_comments_end(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    _, friend, post = posted
    written = [comments.write(friend, post) for _ in range(13)]

    pages = comments.pages(friend, post, 5)

    assert [len(page) for page in pages] == [5, 5, 3]
    assert [one for page in pages for one in page] == written


def test_comments_of_the_same_moment_are_neither_lost_nor_repeated(
    pair: Pair, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    _, friend, post = posted
    written = [comments.write(friend, post).comment_id for _ in range(9)]
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(
            text("UPDATE comments SET created_at = '2026-01-01 UTC' WHERE post_author_id = :a"),
            {"a": post[0]},
        )

    assert [one.comment_id for one in comments.all(friend, post, page_size=2)] == written


def _store(pair: Pair, author: int, post: Post, *, number: int) -> None:
    """Store comments as calls would, in a hundredth of their time."""
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(
            text("""
                INSERT INTO comments (post_author_id, post_id, author_id, body)
                SELECT :of, :post, :author, 'hello' FROM generate_series(1, :number)"""),
            {"of": post[0], "post": post[1], "author": author, "number": number},
        )


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1_000, 200)])
def test_no_page_size_is_fifty_and_two_hundred_is_the_most(
    pair: Pair, comments: Comments, posted: tuple[int, int, Post], asked: int, given: int
) -> None:
    _, friend, post = posted
    _store(pair, friend, post, number=given + 1)

    page = comments.page(friend, post, asked)

    assert len(page.comments) == given
    assert page.next_page_token


def test_a_token_is_refused_for_another_post_and_for_another_viewer(
    people: People, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    other = (author, people.post(author))
    for _ in range(2):
        comments.write(friend, post)
    token = comments.page(friend, post, 1).next_page_token

    for viewer, of in ((author, post), (friend, other)):
        with pytest.raises(grpc.RpcError) as caught:
            comments.page(viewer, of, 1, token)
        assert fields_of(caught) == ["page_token"]
        assert reason_of(caught.value) == "INVALID_PAGE_TOKEN"


def test_exactly_those_who_see_a_post_read_and_write_its_comments(
    people: People, comments: Comments
) -> None:
    author, member, excluded, other, removed, blocked = people.connected(6)
    [stranger] = people.new(1)
    family = people.tag(author, "family", member, excluded, removed, blocked)
    work = people.tag(author, "work", excluded)
    audiences = [
        ALL,
        PRIVATE,
        tagged(family),
        tagged(people.tag(author, "nobody")),
        all_without(work),
        tagged(family, without=(work,)),
    ]
    posts = [people.post(author, audience) for audience in audiences]
    for post_id in posts:
        comments.write(author, (author, post_id))
    people.remove(removed, author)
    people.block(author, blocked)

    for viewer in (author, member, excluded, other, removed, blocked, stranger):
        visible = people.feed(viewer)
        for post_id in posts:
            post = (author, post_id)
            if post_id in visible:
                assert comments.write(viewer, post) in comments.all(viewer, post)
            else:
                assert refused(comments.all, viewer, post) == "POST_NOT_FOUND"
                assert refused(comments.write, viewer, post) == "POST_NOT_FOUND"

    assert [len(people.feed(viewer)) for viewer in (author, member, excluded, other)] == [
        6,
        4,
        2,
        2,
    ]
    assert not any(people.feed(viewer) for viewer in (removed, blocked, stranger))
    counts = [comments.count(author, (author, post_id)) for post_id in posts]
    assert counts == [5, 2, 4, 2, 4, 3]


def test_a_hidden_post_and_one_that_does_not_exist_cannot_be_told_apart_by_their_comments(
    people: People, comments: Comments
) -> None:
    author, friend = people.connected(2)
    hidden = people.post(author, PRIVATE)
    answers = set[tuple[str, str]]()

    for post_id in (hidden, hidden + 1_000_000):
        for call in (comments.all, comments.write):
            with pytest.raises(grpc.RpcError) as caught:
                call(friend, (author, post_id))
            answers.add((reason_of(caught.value), decoded(caught.value).message))

    assert answers == {("POST_NOT_FOUND", "the post does not exist, or the user may not see it")}


def test_a_deleted_post_takes_its_comments_along(
    pair: Pair, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    comment = comments.write(friend, post)

    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author, post_id=post[1]))

    for user in (author, friend):
        assert refused(comments.all, user, post) == "POST_NOT_FOUND"
        assert refused(comments.write, user, post) == "POST_NOT_FOUND"
    assert refused(comments.update, friend, comment, "new") == "COMMENT_NOT_FOUND"
    comments.delete(friend, comment)


@pytest.fixture
def before_the_post_is_locked(pair: Pair) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Chooses what happens once, when a comment's post was confirmed and is not locked yet."""

    def choose(action: Callable[[], object]) -> None:
        def act(statement: str) -> None:
            if "posts AS p" in statement and "FOR SHARE" in statement:
                pair.feed_tap.before_statement = lambda _statement: None
                action()

        pair.feed_tap.before_statement = act

    yield choose
    pair.feed_tap.before_statement = lambda _statement: None


def test_a_comment_is_refused_when_its_post_is_hidden_while_it_is_on_its_way(
    pair: Pair,
    comments: Comments,
    posted: tuple[int, int, Post],
    before_the_post_is_locked: Callable[[Callable[[], object]], None],
) -> None:
    author, friend, post = posted
    written = comments.write(friend, post, "before")

    def set_audience(audience: pb.Audience) -> None:
        changed = pb.Post(post_id=post[1], audience=audience)
        pair.feed.UpdatePost(
            pb.UpdatePostRequest(
                user_id=author, post=changed, update_mask=FieldMask(paths=["audience"])
            )
        )

    before_the_post_is_locked(lambda: set_audience(PRIVATE))
    assert refused(comments.write, friend, post) == "POST_NOT_FOUND"
    set_audience(ALL)
    before_the_post_is_locked(lambda: set_audience(PRIVATE))
    assert refused(comments.update, friend, written, "after") == "COMMENT_NOT_FOUND"

    assert comments.bodies(author, post) == ["before"]
    assert comments.count(author, post) == 1


def test_a_repeated_request_returns_the_first_comment(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    request_id = str(uuid.uuid4())

    first = comments.write(friend, post, request_id=request_id)
    second = comments.write(friend, post, request_id=request_id)

    assert first == second
    assert comments.all(author, post) == [first]


def test_concurrent_repeats_of_a_request_write_one_comment(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    request_id = str(uuid.uuid4())

    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(lambda _: comments.write(friend, post, request_id=request_id), range(16))
        )

    assert comments.all(author, post) == answers[:1]
    assert comments.count(author, post) == 1
    assert all(answer == answers[0] for answer in answers)


def test_a_request_id_cannot_be_used_for_another_comment(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    request_id = str(uuid.uuid4())
    comments.write(friend, post, "first", request_id)

    with pytest.raises(grpc.RpcError) as caught:
        comments.write(friend, post, "second", request_id)

    assert fields_of(caught) == ["request_id"]
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"
    assert comments.bodies(author, post) == ["first"]


def test_a_repeat_is_answered_when_the_post_may_not_be_seen_any_more(
    people: People, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    request_id = str(uuid.uuid4())
    first = comments.write(friend, post, request_id=request_id)

    people.remove(author, friend)

    assert comments.write(friend, post, request_id=request_id) == first
    assert comments.count(author, post) == 1


def test_a_change_is_shown_with_its_time_and_another_etag(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    written = comments.write(friend, post, "before")

    changed = comments.update(friend, written, "after", etag=written.etag)

    assert (changed.body, changed.create_time) == ("after", written.create_time)
    assert changed.HasField("edit_time")
    assert changed.etag != written.etag
    assert comments.all(author, post) == [changed]


def test_of_concurrent_changes_with_one_etag_one_wins_and_the_others_are_told(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    written = comments.write(friend, post)

    def change(number: int) -> str | AppException:
        try:
            return comments.update(friend, written, f"change {number}", etag=written.etag).body
        except grpc.RpcError as error:
            return decoded(error)

    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(change, range(16)))

    refusals = [one for one in outcomes if isinstance(one, AbortedError)]
    assert [one.reason_name for one in refusals] == ["ETAG_MISMATCH"] * 15
    assert comments.bodies(author, post) == [one for one in outcomes if one not in refusals]


def test_nobody_but_its_author_changes_a_comment(
    people: People, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    [other] = people.new(1)
    people.connect(author, other)
    comment = comments.write(friend, post, "mine")

    for user in (author, other):
        assert refused(comments.update, user, comment, "yours") == "COMMENT_NOT_FOUND"

    assert comments.bodies(author, post) == ["mine"]


def test_who_cannot_see_the_post_any_more_deletes_comments_on_it_but_does_not_change_them(
    people: People, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    comment = comments.write(friend, post, "from before")
    people.remove(author, friend)

    assert refused(comments.update, friend, comment, "new") == "COMMENT_NOT_FOUND"
    assert comments.bodies(author, post) == ["from before"]
    comments.delete(friend, comment)

    assert comments.all(author, post) == []


def test_the_author_of_the_post_deletes_comments_of_others(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    comment = comments.write(friend, post)

    comments.delete(author, comment)

    assert comments.all(friend, post) == []
    assert refused(comments.update, friend, comment, "again") == "COMMENT_NOT_FOUND"


def test_nobody_else_deletes_a_comment(
    people: People, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    [other] = people.new(1)
    people.connect(author, other)
    comment = comments.write(friend, post)

    assert refused(comments.delete, other, comment) == "COMMENT_NOT_FOUND"

    assert comments.count(author, post) == 1
    assert comments.all(author, post) == [comment]


def test_a_comment_is_not_found_under_another_post(
    people: People, comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    comment = comments.write(friend, post, "mine")
    elsewhere = pb.Comment(
        post=post_name((author, people.post(author))), comment_id=comment.comment_id
    )

    assert refused(comments.update, friend, elsewhere, "new") == "COMMENT_NOT_FOUND"
    assert refused(comments.delete, friend, elsewhere) == "COMMENT_NOT_FOUND"
    assert comments.all(author, post) == [comment]


def test_concurrent_deletions_take_a_comment_off_the_count_once(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    comment, stays = comments.write(friend, post), comments.write(friend, post)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda user: comments.delete(user, comment), [author, friend] * 16))

    assert comments.count(author, post) == 1
    assert comments.all(author, post) == [stays]


def test_the_count_is_right_after_comments_were_written_changed_and_deleted_all_at_once(
    comments: Comments, posted: tuple[int, int, Post]
) -> None:
    author, friend, post = posted
    written = [comments.write(friend, post) for _ in range(20)]

    def act(number: int) -> None:
        comments.write(author, post)
        comments.update(friend, written[number], "changed")
        comments.delete(author if number % 2 else friend, written[number])

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(act, range(20)))

    assert comments.count(friend, post) == len(comments.all(friend, post)) == 20


def test_ones_own_posts_are_commented_without_the_graph_but_not_read(databases: Databases) -> None:
    with running_pair(databases) as pair:
        people, comments = People(pair), Comments(pair)
        author, friend = people.connected(2)
        own, others = (author, people.post(author)), (friend, people.post(friend))
        pair.graph_server.stop()

        first, second = comments.write(author, own), comments.write(author, own, "second")
        comments.update(author, second, "changed")
        comments.delete(author, first)

        assert comments.count(author, own) == 1
        # Without the graph the service does not know who has a block with the user now.
        assert refused(comments.all, author, own) == "GRAPH_UNAVAILABLE"
        assert refused(comments.all, author, others) == "GRAPH_UNAVAILABLE"
        assert refused(comments.write, author, others) == "GRAPH_UNAVAILABLE"


@pytest.fixture
def enemies(people: People) -> tuple[int, int, int, Post]:
    """An author, and two friends of theirs who see the same post; the author knows both."""
    author, one, other = people.connected(3)
    return author, one, other, (author, people.post(author))


@pytest.mark.parametrize("blocker", ["one", "other", "both"])
def test_two_with_a_block_do_not_see_each_others_comments(
    people: People, comments: Comments, enemies: tuple[int, int, int, Post], blocker: str
) -> None:
    author, one, other, post = enemies
    for writer, body in ((one, "by one"), (other, "by other"), (author, "by the author")):
        comments.write(writer, post, body)
    assert len(comments.all(one, post)) == len(comments.all(other, post)) == 3

    if blocker in {"one", "both"}:
        people.block(one, other)
    if blocker in {"other", "both"}:
        people.block(other, one)

    assert comments.bodies(one, post) == ["by one", "by the author"]
    assert comments.bodies(other, post) == ["by other", "by the author"]
    assert comments.bodies(author, post) == ["by one", "by other", "by the author"]
    assert comments.count(one, post) == comments.count(other, post) == 3


def test_comments_come_back_when_a_block_is_lifted(
    pair: Pair, people: People, comments: Comments, enemies: tuple[int, int, int, Post]
) -> None:
    _, one, other, post = enemies
    comments.write(other, post, "from before")
    people.block(one, other)
    hidden = comments.bodies(one, post)

    pair.graph.UnblockUser(graph_pb2.UnblockUserRequest(user_id=one, peer_id=other))

    assert (hidden, comments.bodies(one, post)) == ([], ["from before"])


@pytest.mark.parametrize("blocker", ["the author of the post", "who has commented"])
def test_the_author_of_a_post_does_not_see_comments_of_somebody_with_a_block_but_deletes_them(
    people: People, comments: Comments, posted: tuple[int, int, Post], blocker: str
) -> None:
    author, friend, post = posted
    comment = comments.write(friend, post)
    people.block(*((author, friend) if blocker == "the author of the post" else (friend, author)))

    assert comments.all(author, post) == []

    comments.delete(author, comment)
    comments.delete(author, comment)
    assert comments.count(author, post) == 0


def test_pages_are_full_also_where_comments_are_left_out(
    people: People, comments: Comments, enemies: tuple[int, int, int, Post]
) -> None:
    _, one, other, post = enemies
    for _ in range(7):
        comments.write(other, post)
        comments.write(one, post)
    people.block(one, other)

    pages = comments.pages(one, post, 3)

    assert [len(page) for page in pages] == [3, 3, 1]
    assert all(comment.author_id == one for page in pages for comment in page)
