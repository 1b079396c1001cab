"""Reads whose connections cannot have changed ask the graph nothing, and show what it would say."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import grpc
import pytest
import sqlalchemy

from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import fence_keeper_pb2
from kith.graph.v1 import graph_pb2 as graph
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from tests.support.errors import reason_of, refusal, succeeds
from tests.support.fence_keeper import open_fence
from tests.support.pair import Databases, Pair, another_feed, running_fenced_pair
from tests.support.people import People, tagged
from tests.support.ports import free_port
from tests.support.processes import Session, until
from tests.support.redis_server import running_redis
from tests.support.scrape import scrape

T = TypeVar("T")
_ASKED = "GetConnectedUserIds"


@pytest.fixture(scope="module")
def cache() -> Iterator[Mapping[str, str]]:
    """The settings of a Redis."""
    with running_redis() as server:
        yield {"REDIS_URL": f"redis://127.0.0.1:{server.port}", "REDIS_TIMEOUT_SECONDS": "0.3"}


@pytest.fixture(scope="module")
def both(
    databases: Databases, cache: Mapping[str, str]
) -> Iterator[tuple[Pair, FenceKeeperServiceStub]]:
    with running_fenced_pair(databases, cache) as running:
        yield running


@pytest.fixture
def fenced(both: tuple[Pair, FenceKeeperServiceStub]) -> Iterator[Pair]:
    """A pair with fences, of which hooks are gone after the test."""
    pair, _ = both
    yield pair
    pair.gate.before_call = pair.gate.after_call = lambda _method: None
    pair.feed_tap.before_statement = pair.feed_tap.after_statement = lambda _statement: None


@pytest.fixture
def keeper(both: tuple[Pair, FenceKeeperServiceStub]) -> FenceKeeperServiceStub:
    return both[1]


@pytest.fixture
def circle(fenced: Pair) -> People:
    return People(fenced)


def _asking(pair: Pair, read: Callable[[], T]) -> tuple[T, int]:
    """Return what is read, and how often the graph was asked for it."""
    asked = list[str]()
    pair.gate.before_call = asked.append
    try:
        return read(), asked.count(_ASKED)
    finally:
        pair.gate.before_call = lambda _method: None


def _warm(pair: Pair, read: Callable[[], T]) -> T:
    """Read until the graph is asked no more: it closes the fences of changes behind its answers."""
    until(lambda: _asking(pair, read)[1] == 0)
    return read()


def _name(pair: Pair, viewer: int) -> feed.PostName:
    [post, *_] = pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer)).posts
    return feed.PostName(author_id=post.author_id, post_id=post.post_id)


def _reads(
    pair: Pair, viewer: int, bob: int, name: feed.PostName, comment_id: int
) -> dict[str, Callable[[], object]]:
    author_id, post_id = name.author_id, name.post_id
    of_post = {"user_id": viewer, "author_id": author_id, "post_id": post_id}
    return {
        "GetFeed": lambda: pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer)),
        "GetDigest": lambda: pair.feed.GetDigest(feed.GetDigestRequest(user_id=viewer)),
        "GetPost": lambda: pair.feed.GetPost(feed.GetPostRequest(**of_post)),
        "BatchGetPosts": lambda: pair.feed.BatchGetPosts(
            feed.BatchGetPostsRequest(user_id=viewer, posts=[name])
        ),
        "ListPosts": lambda: pair.feed.ListPosts(
            feed.ListPostsRequest(user_id=viewer, author_id=author_id)
        ),
        "CountUnreadPosts": lambda: pair.feed.CountUnreadPosts(
            feed.CountUnreadPostsRequest(user_id=viewer)
        ),
        "ListComments": lambda: pair.feed.ListComments(
            feed.ListCommentsRequest(user_id=viewer, post=name)
        ),
        "GetComment": lambda: pair.feed.GetComment(
            feed.GetCommentRequest(user_id=viewer, post=name, comment_id=comment_id)
        ),
        "CheckVisibility of posts": lambda: pair.feed.CheckVisibility(
            feed.CheckVisibilityRequest(checks=[_check(viewer, name), _check(bob, name)])
        ),
        "CheckVisibility of comments": lambda: pair.feed.CheckVisibility(
            feed.CheckVisibilityRequest(
                checks=[_check(viewer, name, comment_id), _check(bob, name, comment_id)]
            )
        ),
    }


def _check(
    viewer: int, name: feed.PostName, comment_id: int = 0
) -> feed.CheckVisibilityRequest.VisibilityCheck:
    return feed.CheckVisibilityRequest.VisibilityCheck(
        viewer_id=viewer, post=name, comment_id=comment_id
    )


@pytest.mark.usefixtures("single_node")
@pytest.mark.parametrize(
    "call",
    [
        *("GetFeed", "GetDigest", "GetPost", "BatchGetPosts", "ListPosts"),
        *("CountUnreadPosts", "ListComments", "GetComment"),
        *("CheckVisibility of posts", "CheckVisibility of comments"),
    ],
)
def test_a_warm_read_is_one_statement_and_no_call(fenced: Pair, circle: People, call: str) -> None:
    viewer, alice, bob = circle.connected(3)
    circle.post(alice, tagged(circle.tag(alice, "family", viewer)))
    circle.post(bob)
    name = _name(fenced, viewer)
    comment = feed.CreateCommentRequest(user_id=viewer, post=name, body="hi")
    comment_id = fenced.feed.CreateComment(comment).comment.comment_id
    pair, read = fenced, _reads(fenced, viewer, bob, name, comment_id)[call]
    before = _warm(pair, read)

    pair.feed_tap.reset()
    answer, asked = _asking(pair, read)
    # The check of readiness reads the schema, and the fence of everybody beside it.
    sent = [text for text in pair.feed_tap.statements if "alembic_version" not in text]

    assert answer == before
    assert asked == 0
    assert len([text for text in sent if "_beside" in text]) == 1
    assert not [text for text in sent if "FROM posts" in text and "_beside" not in text]


@pytest.mark.parametrize(
    "call",
    [
        *("ListViewers", "PreviewAudience", "ExplainVisibility", "ListTagMembers"),
        *("ListUserTags", "MarkFeedRead", "AddTagMembers", "CreateComment"),
    ],
)
def test_what_else_depends_on_connections_asks_nothing_when_it_is_warm(
    fenced: Pair, circle: People, call: str
) -> None:
    alice, bob = circle.connected(2)
    tag_id = circle.tag(alice, "family", bob)
    name = feed.PostName(author_id=alice, post_id=circle.post(alice))
    pair = fenced.feed
    calls: Mapping[str, Callable[[], object]] = {
        "ListViewers": lambda: pair.ListViewers(feed.ListViewersRequest(post=name)),
        "PreviewAudience": lambda: pair.PreviewAudience(
            feed.PreviewAudienceRequest(user_id=alice, audience=tagged(tag_id))
        ),
        "ExplainVisibility": lambda: pair.ExplainVisibility(
            feed.ExplainVisibilityRequest(user_id=alice, post_id=name.post_id, viewer_id=bob)
        ),
        "ListTagMembers": lambda: pair.ListTagMembers(
            feed.ListTagMembersRequest(user_id=alice, tag_id=tag_id)
        ),
        "ListUserTags": lambda: pair.ListUserTags(
            feed.ListUserTagsRequest(user_id=alice, target_user_id=bob)
        ),
        "MarkFeedRead": lambda: pair.MarkFeedRead(feed.MarkFeedReadRequest(user_id=bob, post=name)),
        "AddTagMembers": lambda: pair.AddTagMembers(
            feed.AddTagMembersRequest(user_id=alice, tag_id=tag_id, target_user_ids=[bob])
        ),
        "CreateComment": lambda: pair.CreateComment(
            feed.CreateCommentRequest(user_id=bob, post=name, body="hi")
        ),
    }

    _warm(fenced, calls[call])

    assert _asking(fenced, calls[call])[1] == 0


def test_a_connection_that_ended_shows_nothing_from_then_on(fenced: Pair, circle: People) -> None:
    bob, alice, carol = circle.connected(3)
    circle.post(alice)
    kept = circle.post(carol)
    _warm(fenced, lambda: circle.feed(bob))

    circle.remove(alice, bob)

    assert circle.feed(bob) == [kept]
    _warm(fenced, lambda: circle.feed(bob))
    assert circle.feed(bob) == [kept]


def test_a_connection_that_ends_during_a_read_shows_nothing_that_was_posted_afterwards(
    fenced: Pair, circle: People
) -> None:
    bob, alice = circle.connected(2)
    circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))
    posted = list[int]()

    def end(statement: str) -> None:
        # By the name of what is prepared, or in a distributed database by the text.
        if ("feed_page" in statement or "posts AS p" in statement) and not posted:
            posted.append(0)
            circle.remove(alice, bob)
            posted.append(circle.post(alice))

    fenced.feed_tap.before_statement = end
    page, asked = _asking(fenced, lambda: circle.feed(bob))

    assert len(posted) == 2
    assert page == []
    assert asked


def test_a_new_connection_is_seen_at_once(fenced: Pair, circle: People) -> None:
    bob, alice = circle.new(2)
    post = circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))

    circle.connect(bob, alice)

    assert circle.feed(bob) == [post]


@pytest.mark.parametrize("everybody", [False, True])
def test_reads_ask_the_graph_while_a_change_is_open_and_once_when_it_is_closed(
    fenced: Pair,
    circle: People,
    keeper: FenceKeeperServiceStub,
    everybody: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    bob, alice = circle.connected(2)
    post = circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))
    with Session(fenced.graph_url) as under_way:
        users = [] if everybody else [bob]
        change_id = open_fence(keeper, under_way, *users)
        asked = [_asking(fenced, lambda: circle.feed(bob)) for _ in range(2)]
    keeper.CloseFences(fence_keeper_pb2.CloseFencesRequest(change_ids=[change_id]))
    asked += [_asking(fenced, lambda: circle.feed(bob)) for _ in range(2)]

    assert asked == [([post], 1), ([post], 1), ([post], 1), ([post], 0)]


def test_a_change_of_others_asks_nothing(fenced: Pair, circle: People) -> None:
    bob, alice = circle.connected(2)
    post = circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))

    circle.connected(2)

    assert _asking(fenced, lambda: circle.feed(bob)) == ([post], 0)


def test_a_confirmed_viewer_reads_on_without_the_graph(fenced: Pair, circle: People) -> None:
    bob, alice, carol = circle.connected(3)
    post = circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))

    over = threading.Event()

    def hang(_method: str) -> None:
        over.wait(60)

    read = partial(fenced.feed.GetFeed, timeout=0.5)
    request = feed.GetFeedRequest(user_id=carol)
    fenced.gate.before_call = hang
    try:
        assert circle.feed(bob) == [post]
        # A busy machine may tell the caller too late, but not when it asks nothing any more.
        until(lambda: refusal(read, request) == "GRAPH_UNAVAILABLE")
    finally:
        over.set()
    until(lambda: succeeds(lambda: circle.feed(carol)))


def test_another_process_needs_no_call_for_what_one_has_confirmed(
    fenced: Pair, circle: People, cache: Mapping[str, str]
) -> None:
    bob, alice = circle.connected(2)
    post = circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))
    request = feed.GetFeedRequest(user_id=bob)

    with another_feed(fenced, {**cache, "FENCES_PORT": str(free_port())}) as (server, other):

        def confirmed() -> float:
            return scrape(server).value("connections_confirmations_total", by="fence")

        # Until the graph has told it, it does not know whether the keeper is registered.
        _warm(fenced, lambda: other.GetFeed(feed.GetFeedRequest(user_id=alice)))
        before = confirmed()
        page, asked = _asking(fenced, lambda: other.GetFeed(request))
        after = confirmed()

    assert [each.post_id for each in page.posts] == [post]
    assert (asked, after - before) == (0, 1)


def test_a_viewer_who_is_not_cached_takes_one_call(fenced: Pair, circle: People) -> None:
    bob, alice = circle.connected(2)
    post = circle.post(alice)
    until(lambda: not _open_changes(fenced))

    assert _asking(fenced, lambda: circle.feed(bob)) == ([post], 1)
    assert _asking(fenced, lambda: circle.feed(bob)) == ([post], 0)


def test_fences_that_may_be_lost_confirm_nothing_until_the_keeper_is_registered_again(
    fenced: Pair, circle: People
) -> None:
    bob, alice = circle.connected(2)
    post = circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))

    # As after a restored dump: the rows are the same, in another file.
    _run(fenced, "VACUUM FULL fences")

    assert _asking(fenced, lambda: circle.feed(bob)) == ([post], 1)
    until(lambda: succeeds(lambda: circle.connected(2)))
    _warm(fenced, lambda: circle.feed(bob))
    assert circle.feed(bob) == [post]


@pytest.mark.parametrize("start", ["cached", "shared"])
def test_what_a_restored_feed_has_of_erased_users_is_shown_to_nobody_whose_connections_are_cached(
    fenced: Pair, circle: People, cache: Mapping[str, str], start: str
) -> None:
    bob, alice = circle.connected(2)
    fenced.graph.DeleteUser(graph.DeleteUserRequest(user_id=alice))
    until(lambda: _run(fenced, f"SELECT revision FROM erased_users WHERE user_id = {alice}"))
    circle.connect(bob, alice)
    post = circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))
    # As in a backup from before the erasure: the post may be of the user who had the id then.
    revision = _run(fenced, f"DELETE FROM erased_users WHERE user_id = {alice} RETURNING revision")
    _run(fenced, "VACUUM FULL fences")

    try:
        with another_feed(fenced, {**cache, "FENCES_PORT": str(free_port())}) as (_, stub):
            reader = circle if start == "cached" else People(replace(fenced, feed=stub))
            assert [reader.feed(bob) for _ in range(2)] == [[], []]
    finally:
        _run(fenced, f"INSERT INTO erased_users (user_id, revision) VALUES ({alice}, {revision})")
        until(lambda: circle.feed(bob) == [post])
        # Until the keeper is registered again, nothing can be changed.
        until(lambda: succeeds(lambda: circle.connected(2)))


def _open_changes(pair: Pair) -> object:
    return _run(pair, "SELECT count(*) FROM open_fences")


def _run(pair: Pair, statement: str) -> object:
    engine = sqlalchemy.create_engine(
        pair.feed_url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return result.scalar() if result.returns_rows else None


def test_a_process_without_fences_asks_the_graph_as_before(
    fenced: Pair, circle: People, cache: Mapping[str, str]
) -> None:
    bob, alice = circle.connected(2)
    post = circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))
    request = feed.GetFeedRequest(user_id=bob)

    with another_feed(fenced, cache) as (_, other):
        page, asked = _asking(fenced, lambda: other.GetFeed(request))

    assert [each.post_id for each in page.posts] == [post]
    assert asked == 1


@pytest.mark.usefixtures("single_node")
def test_a_read_that_is_not_prepared_looks_its_fence_up_behind_it(
    fenced: Pair, circle: People
) -> None:
    bob, alice = circle.connected(2)
    tag_id = circle.tag(bob, "family", alice)
    request = feed.ListTagMembersRequest(user_id=bob, tag_id=tag_id)

    def read() -> list[int]:
        members = fenced.feed.ListTagMembers(request).members
        return [member.target_user_id for member in members]

    _warm(fenced, read)
    fenced.feed_tap.reset()
    members, asked = _asking(fenced, read)
    # Fences of everybody are also looked up beside the calls.
    of_bob = [text for text in fenced.feed_tap.statements if str(bob) in text]
    sent = [text for text in of_bob if "user_tags" in text or _is_look_up(text)]

    assert (members, asked) == ([alice], 0)
    assert _is_look_up(sent[-1])
    assert "user_tags" in sent[0]


def _is_look_up(statement: str) -> bool:
    # On a Citus it is not prepared, and has no name.
    return statement.lstrip().startswith(("PREPARE fence_stamp", "SELECT CASE WHEN bool_and(open"))


def _bodies(pair: Pair, viewer: int, name: feed.PostName) -> list[str]:
    request = feed.ListCommentsRequest(user_id=viewer, post=name)
    return [comment.body for comment in pair.feed.ListComments(request).comments]


def test_a_comment_is_hidden_from_the_suspension_of_its_author_until_its_end(
    fenced: Pair, circle: People
) -> None:
    alice, bob, carol = circle.connected(3)
    circle.connect(bob, carol)
    circle.post(alice)
    name = _name(fenced, bob)
    fenced.feed.CreateComment(feed.CreateCommentRequest(user_id=carol, post=name, body="hi"))
    _warm(fenced, lambda: _bodies(fenced, bob, name))

    circle.suspend(carol)
    assert _bodies(fenced, bob, name) == []
    _warm(fenced, lambda: _bodies(fenced, bob, name))
    assert _bodies(fenced, bob, name) == []

    circle.restore(carol)
    assert _bodies(fenced, bob, name) == ["hi"]


def test_the_graph_is_not_asked_who_is_suspended_while_a_fence_tells_that_nobody_else_is(
    fenced: Pair,
) -> None:
    asked, asked_before = list[str](), list[int]()

    def note(statement: str) -> None:
        # The check of readiness, which looks at the fence of everybody beside the schema, or on a
        # Citus behind it.
        if "alembic_version" in statement:
            asked_before.append(asked.count("GetSuspendedUserIds"))

    fenced.gate.before_call = asked.append
    fenced.feed_tap.before_statement = note

    until(lambda: len(asked_before) > 2 and asked_before[-3] == asked_before[-1])


def test_a_suspended_viewer_is_refused_at_once(fenced: Pair, circle: People) -> None:
    bob, alice = circle.connected(2)
    circle.post(alice)
    _warm(fenced, lambda: circle.feed(bob))

    circle.suspend(bob)

    with pytest.raises(grpc.RpcError) as raised:
        circle.feed(bob)
    assert reason_of(raised.value) == "USER_SUSPENDED"


def test_blocks_of_a_viewer_hide_comments_at_once(fenced: Pair, circle: People) -> None:
    alice, bob, carol = circle.connected(3)
    circle.post(alice)
    name = _name(fenced, bob)
    fenced.feed.CreateComment(feed.CreateCommentRequest(user_id=carol, post=name, body="hi"))
    _warm(fenced, lambda: _bodies(fenced, bob, name))

    circle.block(bob, carol)

    assert _bodies(fenced, bob, name) == []


def _checked(pair: Pair, viewer: int, name: feed.PostName, comment_id: int = 0) -> bool:
    request = feed.CheckVisibilityRequest(checks=[_check(viewer, name, comment_id)])
    [is_visible] = pair.feed.CheckVisibility(request).visible
    return is_visible


def _checked_case(pair: Pair, circle: People, what: str) -> tuple[int, int, Callable[[], bool]]:
    """Return Bob, Alice, and a check of her post by her connections, or of a comment by Bob's."""
    bob, alice, carol = circle.connected(3)
    circle.connect(alice, carol)
    name = feed.PostName(author_id=alice, post_id=circle.post(alice))
    if what == "post":
        return bob, alice, lambda: _checked(pair, bob, name)
    comment = feed.CreateCommentRequest(user_id=carol, post=name, body="hi")
    comment_id = pair.feed.CreateComment(comment).comment.comment_id
    return bob, alice, lambda: _checked(pair, bob, name, comment_id)


@pytest.mark.parametrize("what", ["post", "comment"])
def test_a_check_says_at_once_that_a_connection_has_ended(
    fenced: Pair, circle: People, what: str
) -> None:
    bob, alice, check = _checked_case(fenced, circle, what)
    assert _warm(fenced, check)

    circle.remove(alice, bob)

    assert not check()
    assert not _warm(fenced, check)
    circle.connect(alice, bob)
    assert check()


@pytest.mark.parametrize("what", ["post", "comment"])
def test_a_connection_that_ends_during_a_check_is_not_answered_for(
    fenced: Pair, circle: People, what: str
) -> None:
    bob, alice, check = _checked_case(fenced, circle, what)
    _warm(fenced, check)
    ended = list[int]()

    def end(statement: str) -> None:
        if "asked.viewer_id" in statement and not ended:
            ended.append(alice)
            circle.remove(alice, bob)

    fenced.feed_tap.before_statement = end
    is_visible, asked = _asking(fenced, check)

    assert ended
    assert not is_visible
    assert asked


@pytest.mark.parametrize("what", ["post", "comment"])
@pytest.mark.parametrize("everybody", [False, True])
def test_a_check_asks_the_graph_while_a_change_is_open_and_once_when_it_is_closed(
    fenced: Pair,
    circle: People,
    keeper: FenceKeeperServiceStub,
    what: str,
    everybody: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    bob, alice, check = _checked_case(fenced, circle, what)
    _warm(fenced, check)
    with Session(fenced.graph_url) as under_way:
        users = [] if everybody else [bob, alice]
        change_id = open_fence(keeper, under_way, *users)
        asked = [_asking(fenced, check) for _ in range(2)]
    keeper.CloseFences(fence_keeper_pb2.CloseFencesRequest(change_ids=[change_id]))
    _warm(fenced, check)

    assert asked == [(True, 1), (True, 1)]
    assert _asking(fenced, check) == (True, 0)


def test_a_check_of_a_comment_says_at_once_that_its_author_is_suspended(
    fenced: Pair, circle: People
) -> None:
    alice, bob, carol = circle.connected(3)
    name = feed.PostName(author_id=alice, post_id=circle.post(alice))
    comment = feed.CreateCommentRequest(user_id=carol, post=name, body="hi")
    comment_id = fenced.feed.CreateComment(comment).comment.comment_id

    def check() -> bool:
        return _checked(fenced, bob, name, comment_id)

    assert _warm(fenced, check)

    circle.suspend(carol)

    assert not check()
    # The graph is not asked any more: what is known of suspensions has to say it.
    assert not _warm(fenced, check)


@pytest.mark.usefixtures("single_node")
def test_a_check_of_many_asks_only_about_those_whose_connections_have_changed(
    fenced: Pair, circle: People
) -> None:
    viewer, *authors = circle.connected(120)
    names = [feed.PostName(author_id=author, post_id=circle.post(author)) for author in authors]
    checks = feed.CheckVisibilityRequest(
        checks=[_check(reader, name) for name in names for reader in (viewer, *authors[:3])]
        + [_check(reader, names[0]) for reader in authors]
    )

    def check() -> list[bool]:
        return list(fenced.feed.CheckVisibility(checks).visible)

    before = _warm(fenced, check)
    circle.connected(2)
    assert _asking(fenced, check) == (before, 0)

    circle.remove(viewer, authors[-1])
    visible, asked = _asking(fenced, check)

    assert visible.count(True) < before.count(True)
    assert asked <= 2
