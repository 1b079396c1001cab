"""A read that is paused between any two of its steps never shows what it must not.

Alice removes Bob, or blocks him, or takes a tag from him, or lets him back, and then posts. Bob's
read was under way all the time: the proxies between the parts of the pair stop it at a chosen step,
let Alice act, and let it go on.
"""

from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from feed_service.connections_cache import CachedViewer
from feed_service.graph_client import GraphClient
from kith.feed.v1 import feed_pb2
from tests.support.errors import reason_of, refusal
from tests.support.pair import Pair
from tests.support.pauses import CASES, Pause
from tests.support.people import ALL, PRIVATE, People, tagged
from tests.support.tokens import integers_in

Read = Callable[[Pair, int, int], list[int]]
"""What a viewer is shown of an author, by one of the calls."""


@pytest.fixture
def pause(pair: Pair) -> Iterator[Pause]:
    """A pause that is gone after the test."""
    pause = Pause(pair)
    yield pause
    pause.off()


def _bob_and_alice(people: People, start: str) -> tuple[int, int]:
    """Return two connected people; when warm, feed_service has cached Bob's connections already."""
    bob, alice = people.connected(2)
    people.post(alice, body="from before")
    if start == "warm":
        people.feed(bob)
    return bob, alice


def _comments(
    pair: Pair, viewer_id: int, post: feed_pb2.PostName, parent_comment_id: int = 0
) -> list[feed_pb2.Comment]:
    """Return what the viewer is shown, which is nothing when it is not to be seen."""
    try:
        request = feed_pb2.ListCommentsRequest(
            user_id=viewer_id, post=post, parent_comment_id=parent_comment_id
        )
        return list(pair.feed.ListComments(request).comments)
    except grpc.RpcError as error:
        if reason_of(error) in {"POST_NOT_FOUND", "COMMENT_NOT_FOUND"}:
            return []
        raise


def _sees(pair: Pair, viewer_id: int, author_id: int, post_id: int) -> bool:
    request = feed_pb2.GetPostRequest(user_id=viewer_id, author_id=author_id, post_id=post_id)
    try:
        pair.feed.GetPost(request)
    except grpc.RpcError as error:
        if reason_of(error) == "POST_NOT_FOUND":
            return False
        raise
    return True


def _feed(pair: Pair, viewer_id: int, _author_id: int) -> list[int]:
    request = feed_pb2.GetFeedRequest(user_id=viewer_id)
    return [post.post_id for post in pair.feed.GetFeed(request).posts]


def _list(pair: Pair, viewer_id: int, author_id: int) -> list[int]:
    request = feed_pb2.ListPostsRequest(user_id=viewer_id, author_id=author_id)
    return [post.post_id for post in pair.feed.ListPosts(request).posts]


def _digest(pair: Pair, viewer_id: int, _author_id: int) -> list[int]:
    request = feed_pb2.GetDigestRequest(user_id=viewer_id)
    return [item.post.post_id for item in pair.feed.GetDigest(request).items]


_READS = pytest.mark.parametrize("read", [_feed, _list, _digest])


@_READS
@pytest.mark.parametrize(("start", "step"), CASES)
@pytest.mark.parametrize("ending", ["remove", "block"])
def test_what_was_posted_after_a_connection_ended_is_never_shown(
    people: People, pause: Pause, read: Read, ending: str, start: str, step: str
) -> None:
    bob, alice = _bob_and_alice(people, start)
    written_after: list[int] = []

    def end_and_post() -> None:
        getattr(people, ending)(alice, bob)
        written_after.append(people.post(alice))

    pause.at(step, end_and_post)
    page = read(pause.pair, bob, alice)
    pause.off()

    assert written_after
    assert not set(page) & set(written_after)
    assert read(pause.pair, bob, alice) == []


@_READS
@pytest.mark.parametrize(("start", "step"), CASES)
@pytest.mark.parametrize("ending", ["taken", "ended with its connection"])
def test_what_was_posted_for_a_tag_after_the_tag_was_gone_is_never_shown(
    people: People, pause: Pause, read: Read, ending: str, start: str, step: str
) -> None:
    bob, alice = _bob_and_alice(people, start)
    tag = people.tag(alice, "family", bob)
    written_after: list[int] = []

    def end_and_post() -> None:
        if ending == "taken":
            people.take(alice, tag, bob)
        else:
            people.remove(alice, bob)
            people.connect(alice, bob)
        written_after.append(people.post(alice, tagged(tag)))

    pause.at(step, end_and_post)
    page = read(pause.pair, bob, alice)
    pause.off()

    assert written_after
    assert not set(page) & set(written_after)
    assert not set(read(pause.pair, bob, alice)) & set(written_after)


@pytest.mark.parametrize(("start", "step"), CASES)
def test_a_single_post_is_not_shown_when_the_connection_ended_before_it_became_visible(
    pair: Pair, people: People, pause: Pause, start: str, step: str
) -> None:
    bob, alice = _bob_and_alice(people, start)
    tag = people.tag(alice, "family", bob)
    hidden = people.post(alice, tagged(people.tag(alice, "nobody")))
    made_visible: list[int] = []

    def end_and_post() -> None:
        people.remove(alice, bob)
        made_visible.append(people.post(alice, tagged(tag)))

    pause.at(step, end_and_post)
    shown = _sees(pair, bob, alice, hidden)

    assert made_visible
    assert not shown
    assert not any(_sees(pair, bob, alice, post) for post in made_visible)


@_READS
@pytest.mark.parametrize(("start", "step"), CASES)
def test_what_was_posted_after_its_author_was_suspended_is_never_shown(
    people: People, pause: Pause, read: Read, start: str, step: str
) -> None:
    bob, alice = _bob_and_alice(people, start)
    posted_before = _list(pause.pair, alice, alice)
    now = Timestamp()
    now.GetCurrentTime()
    posts = [
        feed_pb2.ImportPostsRequest.ImportedPost(
            author_id=alice,
            external_id="after",
            body="after",
            create_time=now,
            audience=ALL,
            importance=6.0,
        )
    ]

    def suspend_and_post() -> None:
        people.suspend(alice)
        pause.pair.feed.ImportPosts(iter([feed_pb2.ImportPostsRequest(posts=posts)]))
        posts.clear()

    pause.at(step, suspend_and_post)
    page = read(pause.pair, bob, alice)
    pause.off()

    assert not posts
    assert set(page) <= set(posted_before)
    assert read(pause.pair, bob, alice) == []


@pytest.mark.parametrize(("start", "step"), CASES)
def test_a_comment_written_just_before_its_author_was_suspended_is_never_shown(
    people: People, pause: Pause, start: str, step: str
) -> None:
    pair = pause.pair
    alice, bob, carol = people.connected(3)
    post = feed_pb2.PostName(author_id=alice, post_id=people.post(alice))
    if start == "warm":
        _comments(pair, bob, post)
    written: list[feed_pb2.Comment] = []

    def write_and_suspend() -> None:
        request = feed_pb2.CreateCommentRequest(user_id=carol, post=post, body="spam")
        written.append(pair.feed.CreateComment(request).comment)
        people.suspend(carol)

    pause.at(step, write_and_suspend)
    shown = _comments(pair, bob, post)
    pause.off()

    assert written
    assert shown == []
    assert _comments(pair, bob, post) == []


@pytest.mark.parametrize("step", ["before the posts are read", "after the posts are read"])
def test_a_comment_whose_author_is_suspended_meanwhile_is_not_said_to_be_visible(
    people: People, pause: Pause, step: str
) -> None:
    pair = pause.pair
    alice, bob, carol = people.connected(3)
    post = feed_pb2.PostName(author_id=alice, post_id=people.post(alice))
    request = feed_pb2.CreateCommentRequest(user_id=carol, post=post, body="spam")
    comment = pair.feed.CreateComment(request).comment
    check = feed_pb2.CheckVisibilityRequest.VisibilityCheck(
        viewer_id=bob, post=post, comment_id=comment.comment_id
    )
    checks = feed_pb2.CheckVisibilityRequest(checks=[check])
    assert list(pair.feed.CheckVisibility(checks).visible) == [True]

    pause.at(step, lambda: people.suspend(carol))

    assert list(pair.feed.CheckVisibility(checks).visible) == [False]


def test_without_the_question_afterwards_the_post_would_leak(
    people: People, pause: Pause, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, alice = people.connected(2)
    people.feed(bob)
    written_after: list[int] = []

    def trust(
        _self: GraphClient, known: CachedViewer, **_options: object
    ) -> tuple[CachedViewer, frozenset[int]]:
        return known, frozenset()

    def end_and_post() -> None:
        people.remove(alice, bob)
        written_after.append(people.post(alice, ALL))

    monkeypatch.setattr(GraphClient, "current", trust)
    pause.at("before the posts are read", end_and_post)

    assert people.feed(bob) == written_after


@pytest.mark.usefixtures("pause")
def test_a_viewer_whose_connections_change_during_every_read_still_gets_a_page(
    pair: Pair, people: People
) -> None:
    bob, alice, *others = people.connected(8)
    post = people.post(alice)
    people.feed(bob)
    gone = iter(others)

    def remove_another(statement: str) -> None:
        if "p.body" in statement:
            people.remove(bob, next(gone))

    pair.feed_tap.before_statement = remove_another

    assert people.feed(bob) == [post]


@pytest.mark.usefixtures("pause")
def test_a_viewer_whose_connections_keep_changing_is_not_shown_someone_just_removed(
    pair: Pair, people: People
) -> None:
    bob, alice, *others = people.connected(8)
    people.feed(bob)
    written_after: list[int] = []
    gone = iter([*others[:2], alice])

    def remove_another(statement: str) -> None:
        if "p.body" in statement and (peer := next(gone, None)):
            people.remove(peer, bob)
            written_after.append(people.post(peer))

    pair.feed_tap.before_statement = remove_another

    assert not set(people.feed(bob)) & set(written_after)


@pytest.mark.usefixtures("pause")
@pytest.mark.parametrize("changes", [3, 7])
def test_a_page_is_full_although_its_authors_are_removed_while_it_is_read(
    pair: Pair, people: People, changes: int
) -> None:
    bob, *authors = people.connected(10)
    posts = [people.post(author) for author in authors]
    people.feed(bob)
    gone = iter(authors[: -changes - 1 : -1])

    def remove_the_newest(statement: str) -> None:
        if "p.body" in statement and (peer := next(gone, None)):
            people.remove(peer, bob)

    pair.feed_tap.before_statement = remove_the_newest

    assert people.feed(bob, page_size=2) == posts[: len(posts) - changes][: -2 - 1 : -1]


@pytest.mark.usefixtures("pause")
def test_a_page_that_is_short_because_its_authors_keep_changing_has_a_token(
    pair: Pair, people: People
) -> None:
    bob, posts, page = _short_page(pair, people)

    rest = feed_pb2.GetFeedRequest(user_id=bob, page_token=page.next_page_token)
    shown = [post.post_id for post in (*page.posts, *pair.feed.GetFeed(rest).posts)]
    assert shown == posts[: len(posts) - 8][::-1]


@pytest.mark.usefixtures("pause")
def test_the_token_of_a_page_from_which_a_post_was_dropped_does_not_tell_its_time(
    pair: Pair, people: People
) -> None:
    _, _, page = _short_page(pair, people)

    [_, last, pace] = integers_in(page.next_page_token)
    assert (last, pace) == (page.posts[0].post_id, 0)


def _short_page(pair: Pair, people: People) -> tuple[int, list[int], feed_pb2.GetFeedResponse]:
    """Return a viewer, posts of others, and a page from which the newest post was dropped."""
    bob, *authors = people.connected(12)
    posts = [people.post(author) for author in authors]
    people.feed(bob)
    gone = iter(authors[:1:-1])

    def remove_the_newest(statement: str) -> None:
        if "p.body" in statement and (peer := next(gone, None)):
            people.remove(peer, bob)

    pair.feed_tap.before_statement = remove_the_newest
    page = pair.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=bob, page_size=2))
    pair.feed_tap.before_statement = lambda _statement: None
    assert len(page.posts) == 1
    return bob, posts, page


@pytest.mark.usefixtures("pause")
def test_no_token_names_a_post_that_was_written_after_its_author_removed_the_viewer(
    pair: Pair, people: People
) -> None:
    bob, *authors = people.connected(12)
    posts = [people.post(author) for author in authors]
    people.feed(bob)
    written_after: list[int] = []
    gone = iter(authors[:1:-1])

    def remove_another(statement: str) -> None:
        if "p.body" in statement and (peer := next(gone, None)):
            people.remove(peer, bob)
            written_after.append(people.post(peer))

    pair.feed_tap.before_statement = remove_another
    page = pair.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=bob, page_size=1))
    pair.feed_tap.before_statement = lambda _statement: None

    named = {*integers_in(page.next_page_token), *integers_in(page.refresh_token)}
    rest = feed_pb2.GetFeedRequest(user_id=bob, page_token=page.next_page_token)
    assert not page.posts
    assert not named & set(written_after)
    shown = [post.post_id for post in pair.feed.GetFeed(rest).posts]
    assert shown == posts[: len(posts) - len(written_after)][::-1]


@pytest.mark.parametrize(("start", "step"), CASES)
@pytest.mark.parametrize("ending", ["remove", "block"])
def test_comments_written_after_a_connection_ended_are_never_shown(
    people: People, pause: Pause, ending: str, start: str, step: str
) -> None:
    pair = pause.pair
    bob, alice = _bob_and_alice(people, start)
    post = feed_pb2.PostName(author_id=alice, post_id=people.post(alice))
    written_after: list[feed_pb2.Comment] = []

    def end_and_write() -> None:
        getattr(people, ending)(alice, bob)
        request = feed_pb2.CreateCommentRequest(user_id=alice, post=post, body="between us")
        written_after.append(pair.feed.CreateComment(request).comment)

    pause.at(step, end_and_write)
    shown = _comments(pair, bob, post)
    pause.off()

    assert written_after
    assert not [comment for comment in shown if comment in written_after]


@pytest.mark.parametrize(("start", "step"), CASES)
def test_a_comment_is_not_written_on_a_post_that_became_visible_after_the_connection_ended(
    pair: Pair, people: People, pause: Pause, start: str, step: str
) -> None:
    bob, alice = _bob_and_alice(people, start)
    post_id = people.post(alice, PRIVATE)
    name = feed_pb2.PostName(author_id=alice, post_id=post_id)

    def end_and_show() -> None:
        people.remove(alice, bob)
        pair.feed.UpdatePost(
            feed_pb2.UpdatePostRequest(
                user_id=alice,
                post=feed_pb2.Post(post_id=post_id, audience=ALL),
                update_mask=FieldMask(paths=["audience"]),
            )
        )

    pause.at(step, end_and_show)
    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreateComment(
            feed_pb2.CreateCommentRequest(user_id=bob, post=name, body="what is this?")
        )
    pause.off()

    assert reason_of(caught.value) == "POST_NOT_FOUND"
    assert _comments(pair, alice, name) == []


def _hide(pair: Pair, post: feed_pb2.PostName, comment_id: int = 0) -> None:
    pair.feed.SetModeration(
        feed_pb2.SetModerationRequest(
            post=post,
            comment_id=comment_id,
            state=feed_pb2.MODERATION_STATE_HIDDEN,
            reason="rude",
        )
    )


_BEFORE_THE_POSTS = [
    ("cold", "before the 1st question to the graph"),
    ("cold", "after the 1st question to the graph"),
    ("cold", "before the posts are read"),
    ("warm", "before the posts are read"),
]


@_READS
@pytest.mark.parametrize(("start", "step"), _BEFORE_THE_POSTS)
def test_what_was_hidden_before_the_posts_were_read_is_not_shown(
    people: People, pause: Pause, read: Read, start: str, step: str
) -> None:
    bob, alice = _bob_and_alice(people, start)
    post_id = people.post(alice)
    hidden: list[int] = []

    def hide() -> None:
        _hide(pause.pair, feed_pb2.PostName(author_id=alice, post_id=post_id))
        hidden.append(post_id)

    pause.at(step, hide)
    page = read(pause.pair, bob, alice)
    pause.off()

    assert hidden
    assert post_id not in page


@_READS
@pytest.mark.parametrize(("start", "step"), CASES)
def test_what_was_hidden_before_two_people_connected_is_never_shown(
    people: People, pause: Pause, read: Read, start: str, step: str
) -> None:
    bob, carol = _bob_and_alice(people, start)
    [alice] = people.new(1)
    post_id = people.post(alice)
    hidden: list[int] = []

    def hide_and_connect() -> None:
        _hide(pause.pair, feed_pb2.PostName(author_id=alice, post_id=post_id))
        people.connect(alice, bob)
        hidden.append(post_id)

    pause.at(step, hide_and_connect)
    author = alice if read is _list else carol
    page = read(pause.pair, bob, author)
    pause.off()

    assert hidden
    assert post_id not in page
    assert post_id not in read(pause.pair, bob, author)


@pytest.mark.parametrize(("start", "step"), _BEFORE_THE_POSTS)
def test_a_comment_that_was_hidden_before_the_comments_were_read_is_not_shown(
    people: People, pause: Pause, start: str, step: str
) -> None:
    pair = pause.pair
    bob, alice = _bob_and_alice(people, start)
    post = feed_pb2.PostName(author_id=alice, post_id=people.post(alice))
    request = feed_pb2.CreateCommentRequest(user_id=alice, post=post, body="rude")
    comment_id = pair.feed.CreateComment(request).comment.comment_id
    if start == "warm":
        _comments(pair, bob, post)
    hidden: list[int] = []

    def hide() -> None:
        _hide(pair, post, comment_id)
        hidden.append(comment_id)

    pause.at(step, hide)
    shown = _comments(pair, bob, post)
    pause.off()

    assert hidden
    assert shown == []


@pytest.mark.parametrize(("start", "step"), CASES)
@pytest.mark.parametrize("reason", ["hidden", "blocked"])
def test_replies_written_after_their_comment_was_hidden_or_blocked_are_never_shown(
    people: People, pause: Pause, reason: str, start: str, step: str
) -> None:
    pair = pause.pair
    alice, bob, carol = people.connected(3)
    post = feed_pb2.PostName(author_id=alice, post_id=people.post(alice))
    request = feed_pb2.CreateCommentRequest(user_id=carol, post=post, body="from before")
    comment = pair.feed.CreateComment(request).comment
    if start == "warm":
        _comments(pair, bob, post)
    written_after: list[feed_pb2.Comment] = []

    def hide_and_reply() -> None:
        if reason == "blocked":
            people.block(carol, bob)
        else:
            pair.feed.HideComment(
                feed_pb2.HideCommentRequest(
                    user_id=alice, post_id=post.post_id, comment_id=comment.comment_id
                )
            )
        reply = feed_pb2.CreateCommentRequest(
            user_id=alice, post=post, body="about bob", parent_comment_id=comment.comment_id
        )
        written_after.append(pair.feed.CreateComment(reply).comment)

    pause.at(step, hide_and_reply)
    shown = _comments(pair, bob, post, parent_comment_id=comment.comment_id)
    pause.off()

    assert written_after
    assert not [reply for reply in shown if reply in written_after]
    assert _comments(pair, bob, post, parent_comment_id=comment.comment_id) == []


@pytest.mark.parametrize(("start", "step"), CASES)
def test_a_comment_is_not_written_by_a_tag_that_ended_before_the_post_was_opened_to_it(
    pair: Pair, people: People, pause: Pause, start: str, step: str
) -> None:
    bob, alice = _bob_and_alice(people, start)
    post_id = people.post(alice)
    tag = people.tag(alice, "family", bob)
    to_family = feed_pb2.CommentPolicy(kind=feed_pb2.COMMENT_POLICY_KIND_TAGS, tag_ids=[tag])

    def admit(policy: feed_pb2.CommentPolicy) -> None:
        pair.feed.UpdatePost(
            feed_pb2.UpdatePostRequest(
                user_id=alice,
                post=feed_pb2.Post(post_id=post_id, comment_policy=policy),
                update_mask=FieldMask(paths=["comment_policy"]),
            )
        )

    def end_and_open() -> None:
        people.remove(alice, bob)
        people.connect(alice, bob)
        admit(to_family)

    admit(feed_pb2.CommentPolicy(kind=feed_pb2.COMMENT_POLICY_KIND_NOBODY))
    pause.at(step, end_and_open)
    name = feed_pb2.PostName(author_id=alice, post_id=post_id)
    request = feed_pb2.CreateCommentRequest(user_id=bob, post=name, body="what is this?")
    refused = refusal(pair.feed.CreateComment, request)
    pause.off()

    assert refused == "COMMENTS_CLOSED"
    assert _comments(pair, alice, name) == []


@pytest.mark.parametrize(("start", "step"), CASES)
@pytest.mark.parametrize("blocker", ["bob", "carol"])
def test_comments_written_after_a_block_are_never_shown_to_either_side(
    people: People, pause: Pause, blocker: str, start: str, step: str
) -> None:
    pair = pause.pair
    alice, bob, carol = people.connected(3)
    post = feed_pb2.PostName(author_id=alice, post_id=people.post(alice))
    if start == "warm":
        _comments(pair, bob, post)
    written_after: list[feed_pb2.Comment] = []

    def block_and_write() -> None:
        people.block(*((bob, carol) if blocker == "bob" else (carol, bob)))
        request = feed_pb2.CreateCommentRequest(user_id=carol, post=post, body="about bob")
        written_after.append(pair.feed.CreateComment(request).comment)

    pause.at(step, block_and_write)
    shown = _comments(pair, bob, post)
    pause.off()

    assert written_after
    assert not [comment for comment in shown if comment in written_after]
    assert _comments(pair, bob, post) == []
