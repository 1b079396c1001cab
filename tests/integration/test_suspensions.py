"""A suspended user is out of everybody's sight, and comes back exactly as before."""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
import sqlalchemy
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from feed_service.safe_read import _MOST_READS
from kith.client import pages
from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as pb
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from tests.support.engines import engine_to
from tests.support.errors import decoded, fields_of, refusal
from tests.support.examples import seeds
from tests.support.following import until_followed
from tests.support.pair import Databases, Pair, another_graph, running_fenced_pair, running_pair
from tests.support.people import ALL, PRIVATE, People, all_without, tagged
from tests.support.processes import until
from tests.support.rows import row_counts
from tests.support.tokens import integers_in

_Answer = pb.GetConnectedUserIdsResponse.ConnectedUsers


def _answer(pair: Pair, user_id: int, known_revision: int = 0, **options: bool) -> _Answer:
    query = pb.GetConnectedUserIdsRequest.UserQuery(user_id=user_id, known_revision=known_revision)
    request = pb.GetConnectedUserIdsRequest(users=[query], **options)  # type: ignore[arg-type]  # all are flags
    return pair.graph.GetConnectedUserIds(request).users[0]


def _ids(pair: Pair, user_id: int, **options: bool) -> set[int]:
    return set(_answer(pair, user_id, **options).connected_user_ids)


def _state(pair: Pair, user_id: int, peer_id: int) -> str:
    request = pb.CheckConnectionsRequest(user_id=user_id, peer_ids=[peer_id])
    [connection] = pair.graph.CheckConnections(request).connections
    return pb.ConnectionState.Name(connection.state).removeprefix("CONNECTION_STATE_")


def _change(pair: Pair, method: str, user_id: int, peer_id: int) -> str:
    """Return the reason for which a change of a pair is refused, or nothing."""
    request = getattr(pb, f"{method}Request")(user_id=user_id, peer_id=peer_id)
    return refusal(getattr(pair.graph, method), request)


def _requests(pair: Pair, user_id: int, direction: "pb.RequestDirection.ValueType") -> list[int]:
    request = pb.ListConnectionRequestsRequest(user_id=user_id, direction=direction)
    return [peer.peer_id for peer in pair.graph.ListConnectionRequests(request).connections]


def _counts(pair: Pair, *user_ids: int) -> list[int]:
    request = pb.CountConnectionsRequest(user_ids=user_ids)
    return [count.connection_count for count in pair.graph.CountConnections(request).counts]


def _comment(pair: Pair, user_id: int, post: feed.PostName) -> int:
    request = feed.CreateCommentRequest(user_id=user_id, post=post, body="hello")
    return pair.feed.CreateComment(request).comment.comment_id


def _comments(pair: Pair, user_id: int, post: feed.PostName, page_size: int = 100) -> list[int]:
    request = feed.ListCommentsRequest(user_id=user_id, post=post, page_size=page_size)
    listed = pages(pair.feed.ListComments, request)
    return [comment.comment_id for page in listed for comment in page.comments]


def _checked(pair: Pair, viewer_id: int, post: feed.PostName, comment_id: int = 0) -> bool:
    check = feed.CheckVisibilityRequest.VisibilityCheck(
        viewer_id=viewer_id, post=post, comment_id=comment_id
    )
    [visible] = pair.feed.CheckVisibility(feed.CheckVisibilityRequest(checks=[check])).visible
    return visible


def _suspended(pair: Pair, page_size: int = 500) -> list[tuple[int, str]]:
    request = pb.ListSuspendedUsersRequest(page_size=page_size)
    listed = pages(pair.graph.ListSuspendedUsers, request)
    return [(user.user_id, user.reason) for page in listed for user in page.suspended_users]


def _rows(url: str, statement: str) -> list[Any]:
    with engine_to(url).connect() as connection:
        found = connection.execute(text(statement))
        return list(found.all()) if found.returns_rows else []


def _name(people: People, author_id: int, audience: feed.Audience = ALL) -> feed.PostName:
    return feed.PostName(author_id=author_id, post_id=people.post(author_id, audience))


# The graph.


def test_a_suspended_user_is_among_nobodys_connections_and_has_none(
    pair: Pair, people: People
) -> None:
    hub, bob, carol = people.connected(3)
    people.connect(bob, carol)

    people.suspend(bob)

    assert [_ids(pair, user) for user in (hub, bob, carol)] == [{carol}, set(), {hub}]
    assert [_answer(pair, user).suspended for user in (hub, bob, carol)] == [False, True, False]


def test_a_service_that_compares_what_it_stores_is_told_the_connections_with_the_suspended(
    pair: Pair, people: People
) -> None:
    hub, bob, carol = people.connected(3)

    people.suspend(bob)

    assert _ids(pair, hub, include_suspended=True) == {bob, carol}
    assert _ids(pair, bob, include_suspended=True) == {hub}


def test_those_who_know_the_connections_of_a_suspended_users_connection_learn_that_they_changed(
    pair: Pair, people: People
) -> None:
    hub, bob, stranger = [*people.connected(2), *people.new(1)]
    people.connect(stranger, *people.new(1))
    before = {user: _answer(pair, user).revision for user in (hub, bob, stranger)}

    people.suspend(bob)
    suspended = {user: _answer(pair, user, before[user]) for user in before}
    people.restore(bob)
    restored = {user: _answer(pair, user, suspended[user].revision) for user in before}

    assert [suspended[user].unchanged for user in before] == [False, False, True]
    assert [restored[user].unchanged for user in before] == [False, False, True]
    assert set(restored[hub].connected_user_ids) == {bob}


def test_a_suspended_user_is_in_no_list_and_looks_like_a_stranger(
    pair: Pair, people: People
) -> None:
    alice, bob, carol = people.connected(3)

    people.suspend(bob)

    listed = pair.graph.ListConnections(pb.ListConnectionsRequest(user_id=alice)).connections
    assert [peer.peer_id for peer in listed] == [carol]
    assert _state(pair, alice, bob) == "NONE"
    request = pb.CountConnectionsRequest(user_id=alice, user_ids=[bob])
    assert refusal(pair.graph.CountConnections, request) == "NOT_CONNECTED"


def test_pages_of_connections_are_full_without_the_suspended(pair: Pair, people: People) -> None:
    alice, *others = people.connected(9)
    for suspended in others[::2]:
        people.suspend(suspended)

    request = pb.ListConnectionsRequest(user_id=alice, page_size=2)
    sizes = [len(page.connections) for page in pages(pair.graph.ListConnections, request)]

    assert sizes == [2, 2]


def test_counts_leave_out_connections_with_the_suspended_whatever_happens_to_them(
    pair: Pair, people: People
) -> None:
    alice, bob, carol, dave = people.connected(4)
    people.connect(bob, carol)

    for suspended in (bob, carol):
        people.suspend(suspended)
    assert _counts(pair, alice, bob, carol, dave) == [1, 0, 0, 1]

    people.connect(alice, *people.new(1))
    people.connect(bob, dave)
    people.remove(alice, bob)
    assert _counts(pair, alice, bob, carol, dave) == [2, 0, 0, 1]

    for restored in (bob, carol):
        people.restore(restored)
    assert _counts(pair, alice, bob, carol, dave) == [3, 2, 2, 2]


def test_nobody_has_a_suspended_user_in_common_with_anybody(pair: Pair, people: People) -> None:
    hub, bob, carol = people.connected(3)
    people.connect(bob, carol)

    def mutual(user_id: int, peer_id: int) -> list[int]:
        request = pb.ListMutualConnectionsRequest(user_id=user_id, peer_id=peer_id)
        return list(pair.graph.ListMutualConnections(request).mutual_user_ids)

    before = (mutual(bob, carol), mutual(carol, bob))
    people.suspend(hub)
    assert (before, mutual(bob, carol)) == (([hub], [hub]), [])
    people.restore(hub)
    restored = mutual(carol, bob)
    people.suspend(bob)
    assert (restored, mutual(carol, bob)) == ([hub], [])


def test_a_suspended_user_is_suggested_to_nobody_and_leads_to_nobody(
    pair: Pair, people: People
) -> None:
    alice, friend = people.connected(2)
    far, farther = people.new(2)
    people.connect(friend, far)
    people.connect(far, farther)

    def suggested(user_id: int) -> list[int]:
        request = pb.SuggestConnectionsRequest(user_id=user_id)
        return [one.suggested_user_id for one in pair.graph.SuggestConnections(request).suggestions]

    before = suggested(alice)
    people.suspend(far)
    without_far = (suggested(alice), suggested(friend))
    people.restore(far)
    people.suspend(friend)

    assert before == [far]
    assert without_far == ([], [])
    assert suggested(alice) == []


def test_requests_from_and_to_a_suspended_user_are_hidden_and_come_back(
    pair: Pair, people: People
) -> None:
    bob, asking, asked = people.new(3)
    assert not _change(pair, "RequestConnection", asking, bob)
    assert not _change(pair, "RequestConnection", bob, asked)

    def listed() -> tuple[list[int], list[int]]:
        return (
            _requests(pair, asking, pb.REQUEST_DIRECTION_OUTGOING),
            _requests(pair, asked, pb.REQUEST_DIRECTION_INCOMING),
        )

    people.suspend(bob)
    hidden = (listed(), _state(pair, asking, bob), _state(pair, asked, bob))
    accepted = _change(pair, "AcceptConnection", asked, bob)
    people.restore(bob)

    assert hidden == (([], []), "NONE", "NONE")
    assert accepted == "CONNECTION_REQUEST_NOT_FOUND"
    assert listed() == ([bob], [bob])
    assert not _change(pair, "AcceptConnection", asked, bob)


@pytest.mark.parametrize("before", ["nothing", "connected", "asked", "was asked", "a block"])
def test_a_request_to_a_suspended_user_is_refused_whatever_there_is_between_the_two(
    pair: Pair, people: People, before: str
) -> None:
    alice, bob = people.new(2)
    if before == "connected":
        people.connect(alice, bob)
    elif before == "asked":
        _change(pair, "RequestConnection", alice, bob)
    elif before == "was asked":
        _change(pair, "RequestConnection", bob, alice)
    elif before == "a block":
        people.block(bob, alice)
    people.suspend(bob)

    with pytest.raises(grpc.RpcError) as caught:
        pair.graph.RequestConnection(pb.RequestConnectionRequest(user_id=alice, peer_id=bob))

    error = decoded(caught.value)
    assert (error.reason_name, error.message) == (
        "CONNECTION_NOT_ALLOWED",
        "this user cannot be asked",
    )
    assert not error.metadata


def test_what_others_end_during_a_suspension_does_not_come_back(pair: Pair, people: People) -> None:
    bob, *others = people.connected(3)
    remover, blocker = others
    canceller, decliner = people.new(2)
    _change(pair, "RequestConnection", canceller, bob)
    _change(pair, "RequestConnection", bob, decliner)
    people.suspend(bob)

    answers = [
        _change(pair, "RemoveConnection", remover, bob),
        _change(pair, "BlockUser", blocker, bob),
        _change(pair, "CancelConnectionRequest", canceller, bob),
        _change(pair, "DeclineConnection", decliner, bob),
    ]
    people.restore(bob)

    assert answers == [""] * 4
    assert _ids(pair, bob) == set()
    assert _state(pair, blocker, bob) == "BLOCKED"
    assert [_state(pair, user, bob) for user in (remover, canceller, decliner)] == ["NONE"] * 3
    assert _counts(pair, bob, *others) == [0, 0, 0]


@pytest.mark.parametrize("method", ["DeclineConnection", "CancelConnectionRequest"])
def test_a_suspended_connection_is_not_told_by_a_refusal(
    pair: Pair, people: People, method: str
) -> None:
    alice, bob = people.connected(2)
    people.suspend(bob)

    assert _change(pair, method, alice, bob) == ""
    assert _ids(pair, alice, include_suspended=True) == {bob}


def test_users_see_whom_they_block_also_while_that_user_is_suspended(
    pair: Pair, people: People
) -> None:
    alice, bob = people.new(2)
    people.block(alice, bob)
    people.suspend(bob)

    blocked = pair.graph.ListBlockedUsers(pb.ListBlockedUsersRequest(user_id=alice)).connections
    assert [peer.peer_id for peer in blocked] == [bob]
    assert _state(pair, alice, bob) == "BLOCKED"
    assert _change(pair, "RequestConnection", alice, bob) == "PEER_BLOCKED"


def test_a_users_own_revision_grows_when_a_connection_leaves_their_sight_or_comes_back(
    pair: Pair, people: People
) -> None:
    alice, bob, stranger = [*people.connected(2), *people.new(1)]

    def revisions() -> list[int]:
        return [
            pair.graph.CheckConnections(
                pb.CheckConnectionsRequest(user_id=user, peer_ids=[user + 1])
            ).user_revision
            for user in (alice, stranger)
        ]

    before = revisions()
    people.suspend(bob)
    suspended = revisions()
    people.restore(bob)
    restored = revisions()

    assert before[0] < suspended[0] < restored[0]
    assert before[1] == suspended[1] == restored[1]


def test_a_users_own_revision_stays_when_an_import_changes_what_is_out_of_their_sight(
    pair: Pair, people: People
) -> None:
    alice, bob, carol = [*people.connected(2), *people.new(1)]
    for suspended in (bob, carol):
        people.suspend(suspended)
    block = pb.ImportConnectionsRequest.Block(blocker_id=bob, blocked_id=alice)
    connection = pb.ConnectionPair(first_user_id=alice, second_user_id=carol)

    def revision() -> int:
        request = pb.CheckConnectionsRequest(user_id=alice, peer_ids=[bob])
        return pair.graph.CheckConnections(request).user_revision

    before = revision()
    chunk = pb.ImportConnectionsRequest(blocks=[block], connections=[connection])
    pair.graph.ImportConnections(iter([chunk]))
    imported = revision()
    people.restore(bob)
    people.restore(carol)

    assert before == imported < revision()
    assert _ids(pair, alice) == {carol}


def test_an_export_has_the_connections_of_the_suspended(databases: Databases) -> None:
    with running_pair(databases) as pair:
        people = People(pair)
        alice, bob = people.connected(2)
        people.suspend(bob)

        [chunk] = pair.graph.ExportConnections(pb.ExportConnectionsRequest())

        assert [(edge.first_user_id, edge.second_user_id) for edge in chunk.connections] == [
            (alice, bob)
        ]


def test_followers_are_told_of_a_suspension_and_its_end(pair: Pair, people: People) -> None:
    [bob] = people.new(1)
    stream = pair.graph.WatchConnections(pb.WatchConnectionsRequest())
    next(stream)

    people.suspend(bob)
    people.restore(bob)
    told: list[pb.ConnectionEvent] = []
    for message in stream:
        told += [event for event in message.events if event.actor_id == bob]
        if len(told) == 2:
            break
    stream.cancel()

    assert [event.kind for event in told] == [
        pb.CONNECTION_EVENT_KIND_SUSPENDED,
        pb.CONNECTION_EVENT_KIND_RESTORED,
    ]
    assert told[0].actor_revision < told[1].actor_revision
    assert not any(event.peer_id or event.peer_revision for event in told)


# The feed.


def test_posts_of_a_suspended_author_are_seen_by_nobody(pair: Pair, people: People) -> None:
    alice, bob = people.connected(2)
    tag = people.tag(bob, "friends", alice)
    posts = [_name(people, bob), _name(people, bob, tagged(tag))]
    assert len(people.feed(alice)) == 2

    people.suspend(bob)

    assert people.feed(alice) == []
    assert not pair.feed.GetDigest(feed.GetDigestRequest(user_id=alice)).items
    unread = pair.feed.CountUnreadPosts(feed.CountUnreadPostsRequest(user_id=alice))
    assert unread.unread_count == 0
    listed = pair.feed.ListPosts(feed.ListPostsRequest(user_id=alice, author_id=bob))
    assert not listed.posts
    batch = pair.feed.BatchGetPosts(feed.BatchGetPostsRequest(user_id=alice, posts=posts))
    assert (list(batch.posts), len(batch.not_found)) == ([], 2)
    for post in posts:
        request = feed.GetPostRequest(user_id=alice, author_id=bob, post_id=post.post_id)
        assert refusal(pair.feed.GetPost, request) == "POST_NOT_FOUND"
        assert not _checked(pair, alice, post)
        viewers = pair.feed.ListViewers(feed.ListViewersRequest(post=post))
        assert (viewers.total_count, list(viewers.viewer_ids)) == (0, [])


def test_a_suspended_viewer_sees_no_post_and_is_told_to_see_none(
    pair: Pair, people: People
) -> None:
    alice, bob, carol = people.connected(3)
    people.connect(bob, carol)
    tag = people.tag(alice, "friends", bob, carol)
    posts = [_name(people, alice), _name(people, alice, tagged(tag))]

    people.suspend(bob)

    assert not any(_checked(pair, bob, post) for post in posts)
    for post in posts:
        viewers = pair.feed.ListViewers(feed.ListViewersRequest(post=post))
        assert list(viewers.viewer_ids) == [alice, carol]
        request = feed.ExplainVisibilityRequest(user_id=alice, post_id=post.post_id, viewer_id=bob)
        explained = pair.feed.ExplainVisibility(request)
        assert explained.clause == feed.VISIBILITY_CLAUSE_NOT_CONNECTED
    for audience in (ALL, tagged(tag)):
        preview = pair.feed.PreviewAudience(
            feed.PreviewAudienceRequest(user_id=alice, audience=audience)
        )
        assert list(preview.viewer_ids) == [carol]


def test_the_own_posts_of_a_suspended_user_are_not_said_to_be_visible_to_them(
    pair: Pair, people: People
) -> None:
    bob, other = people.connected(2)
    own, theirs = _name(people, bob), _name(people, other)
    people.suspend(bob)

    until(lambda: not _checked(pair, bob, own))

    checks = [
        feed.CheckVisibilityRequest.VisibilityCheck(viewer_id=bob, post=post)
        for post in (own, theirs)
    ]
    request = feed.CheckVisibilityRequest(checks=checks)
    assert list(pair.feed.CheckVisibility(request).visible) == [False, False]


def test_a_suspended_person_is_no_member_of_a_tag_until_they_are_restored(
    pair: Pair, people: People
) -> None:
    alice, bob, carol = people.connected(3)
    tag = people.tag(alice, "friends", bob, carol)

    def members() -> list[int]:
        request = feed.ListTagMembersRequest(user_id=alice, tag_id=tag)
        return [member.target_user_id for member in pair.feed.ListTagMembers(request).members]

    def tags() -> int:
        request = feed.ListUserTagsRequest(user_id=alice, target_user_id=bob)
        return len(pair.feed.ListUserTags(request).tags)

    people.suspend(bob)
    hidden = (members(), tags())
    people.restore(bob)

    assert hidden == ([carol], 0)
    assert (members(), tags()) == ([bob, carol], 1)


def test_comments_of_a_suspended_person_are_hidden_from_people_who_do_not_know_them(
    pair: Pair, people: People
) -> None:
    author, viewer, bob = people.connected(3)
    post = _name(people, author)
    theirs, of_viewer = _comment(pair, bob, post), _comment(pair, viewer, post)
    assert _comments(pair, viewer, post) == [theirs, of_viewer]

    people.suspend(bob)

    for user in (author, viewer):
        assert _comments(pair, user, post) == [of_viewer]
        assert not _checked(pair, user, post, theirs)
        assert _checked(pair, user, post, of_viewer)
    people.restore(bob)
    assert _comments(pair, viewer, post) == [theirs, of_viewer]
    assert _checked(pair, viewer, post, theirs)


def test_pages_of_comments_are_full_without_those_of_the_suspended(
    pair: Pair, people: People
) -> None:
    author, viewer, *others = people.connected(8)
    post = _name(people, author)
    written = [_comment(pair, user, post) for user in (*others, viewer, viewer, viewer)]
    for suspended in others[:-1]:
        people.suspend(suspended)

    request = feed.ListCommentsRequest(user_id=viewer, post=post, page_size=2)
    listed = [
        [comment.comment_id for comment in page.comments]
        for page in pages(pair.feed.ListComments, request)
    ]

    assert listed == [written[-4:-2], written[-2:]]


def test_a_page_between_very_many_comments_of_the_suspended_is_short_and_has_a_token(
    pair: Pair, people: People
) -> None:
    author, viewer, *others = people.connected(2 * _MOST_READS + 6)
    post = _name(people, author)
    hidden = set[int]()
    for suspended in others:
        hidden.add(_comment(pair, suspended, post))
        people.suspend(suspended)
    last = _comment(pair, viewer, post)

    request = feed.ListCommentsRequest(user_id=viewer, post=post, page_size=1)
    first = pair.feed.ListComments(request)

    assert not first.comments
    assert first.next_page_token
    assert not hidden.intersection(integers_in(first.next_page_token))
    assert _comments(pair, viewer, post, page_size=1) == [last]


def test_comments_cost_no_more_when_nobody_is_suspended_and_one_more_read_when_somebody_is(
    pair: Pair, people: People
) -> None:
    author, viewer, bob = people.connected(3)
    post = _name(people, author)
    for user in (bob, viewer):
        _comment(pair, user, post)
    _comments(pair, viewer, post)

    def counts() -> tuple[int, int]:
        pair.feed_tap.reset()
        pair.graph_tap.reset()
        _comments(pair, viewer, post)
        return (
            sum("comments" in statement for statement in pair.feed_tap.statements),
            sum("connected_user_ids" in statement for statement in pair.graph_tap.statements),
        )

    before = counts()
    people.suspend(bob)

    assert before == (1, 1)
    assert counts() == (2, 2)


def test_only_users_with_suspended_connections_cost_a_second_statement(
    pair: Pair, people: People
) -> None:
    hub, bob = people.connected(2)
    other, *others = people.connected(2)
    queries = [pb.GetConnectedUserIdsRequest.UserQuery(user_id=user) for user in (hub, other)]

    def count(*asked: pb.GetConnectedUserIdsRequest.UserQuery) -> int:
        pair.graph_tap.reset()
        pair.graph.GetConnectedUserIds(pb.GetConnectedUserIdsRequest(users=asked))
        return sum("connected_user_ids" in text for text in pair.graph_tap.statements)

    people.suspend(bob)
    of_suspended = _answer(pair, hub).revision

    assert [count(query) for query in queries] == [2, 1]
    assert count(*queries) == 2
    queries[0].known_revision = of_suspended
    assert count(queries[0]) == 1
    assert _ids(pair, other) == set(others)


# What is refused.


@pytest.mark.parametrize(
    "method",
    [
        "RequestConnection",
        "AcceptConnection",
        "DeclineConnection",
        "CancelConnectionRequest",
        "RemoveConnection",
        "BlockUser",
        "UnblockUser",
    ],
)
def test_a_suspended_user_changes_nothing_in_the_graph(
    pair: Pair, people: People, method: str
) -> None:
    bob, peer = people.connected(2)
    people.suspend(bob)

    assert _change(pair, method, bob, peer) == "USER_SUSPENDED"


_AsksTheGraph = Callable[[Pair, int, feed.PostName], object]
_ASK_THE_GRAPH: dict[str, _AsksTheGraph] = {
    "GetFeed": lambda pair, user, _: pair.feed.GetFeed(feed.GetFeedRequest(user_id=user)),
    "GetDigest": lambda pair, user, _: pair.feed.GetDigest(feed.GetDigestRequest(user_id=user)),
    "GetPost": lambda pair, user, post: pair.feed.GetPost(
        feed.GetPostRequest(user_id=user, author_id=post.author_id, post_id=post.post_id)
    ),
    "ListPosts": lambda pair, user, post: pair.feed.ListPosts(
        feed.ListPostsRequest(user_id=user, author_id=post.author_id)
    ),
    "ListComments": lambda pair, user, post: pair.feed.ListComments(
        feed.ListCommentsRequest(user_id=user, post=post)
    ),
    "CreateComment": lambda pair, user, post: pair.feed.CreateComment(
        feed.CreateCommentRequest(user_id=user, post=post, body="hello")
    ),
    "MarkFeedRead": lambda pair, user, post: pair.feed.MarkFeedRead(
        feed.MarkFeedReadRequest(user_id=user, post=post)
    ),
    "CountUnreadPosts": lambda pair, user, _: pair.feed.CountUnreadPosts(
        feed.CountUnreadPostsRequest(user_id=user)
    ),
    "AddTagMembers": lambda pair, user, post: pair.feed.AddTagMembers(
        feed.AddTagMembersRequest(user_id=user, tag_id=1, target_user_ids=[post.author_id])
    ),
}


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("call", _ASK_THE_GRAPH)
def test_calls_of_a_suspended_user_that_ask_the_graph_are_refused_at_once(
    pair: Pair, people: People, call: str, start: str
) -> None:
    bob, author = people.connected(2)
    post = _name(people, author)
    if start == "warm":
        people.feed(bob)
    people.suspend(bob)

    reason = refusal(lambda _: _ASK_THE_GRAPH[call](pair, bob, post), None)

    assert reason == "USER_SUSPENDED"


def test_all_other_calls_of_a_suspended_user_are_refused_soon_and_answered_soon_after_the_end(
    pair: Pair, people: People
) -> None:
    [bob] = people.new(1)
    own = _name(people, bob)
    calls: list[Callable[[], object]] = [
        lambda: people.post(bob),
        lambda: people.tag(bob, "friends"),
        lambda: pair.feed.ListTags(feed.ListTagsRequest(user_id=bob)),
        lambda: pair.feed.GetPost(
            feed.GetPostRequest(user_id=bob, author_id=bob, post_id=own.post_id)
        ),
        lambda: pair.graph.ListConnections(pb.ListConnectionsRequest(user_id=bob)),
    ]

    def refusals() -> set[str]:
        return {refusal(lambda _, call=call: call(), None) for call in calls}  # type: ignore[misc]  # the default binds

    people.suspend(bob)
    until(lambda: refusals() == {"USER_SUSPENDED"})
    people.restore(bob)
    until(lambda: "USER_SUSPENDED" not in refusals())


def test_a_service_that_drains_learns_who_is_suspended(databases: Databases) -> None:
    with running_fenced_pair(databases, {"DRAIN_SECONDS": "3"}) as (pair, _):
        people = People(pair)
        [bob] = people.new(1)
        people.tag(bob, "friends")
        request = feed.ListTagsRequest(user_id=bob)
        stopping = threading.Thread(target=pair.feed_server.stop)
        stopping.start()

        people.suspend(bob)
        until(lambda: refusal(pair.feed.ListTags, request) == "USER_SUSPENDED")
        stopping.join()


def test_a_feed_whose_schema_is_not_ready_learns_who_is_suspended(databases: Databases) -> None:
    with running_fenced_pair(databases) as (pair, _):
        people = People(pair)
        [bob] = people.new(1)
        request = feed.ListTagsRequest(user_id=bob)
        _rows(pair.feed_url, "UPDATE alembic_version SET version_num = 'feed_0001'")

        _assert_learns(people, bob, lambda: refusal(pair.feed.ListTags, request))


def test_a_graph_whose_schema_is_not_ready_learns_whom_another_process_has_suspended(
    databases: Databases,
) -> None:
    with running_pair(databases) as pair, another_graph(pair) as other:
        # A client would not call it: its schema is that of the first.
        people = People(replace(other, graph=GraphServiceStub(other.graph_channel)))
        [bob] = people.new(1)
        request = pb.ListConnectionsRequest(user_id=bob)
        _rows(pair.graph_url, "UPDATE alembic_version SET version_num = 'graph_0001'")

        _assert_learns(people, bob, lambda: refusal(pair.graph.ListConnections, request))


def _assert_learns(people: People, user_id: int, reason: Callable[[], str]) -> None:
    """Suspend and restore somebody, and see that a call of theirs is refused, and not any more."""
    people.suspend(user_id)
    until(lambda: reason() == "USER_SUSPENDED")
    people.restore(user_id)
    # The next time that it is asked without a reason is half a minute after this.
    until(lambda: reason() != "USER_SUSPENDED", within_seconds=20)


def test_a_refusal_says_that_the_user_is_suspended_and_nothing_else(
    pair: Pair, people: People
) -> None:
    bob, peer = people.connected(2)
    people.suspend(bob, "spam, case 77")

    with pytest.raises(grpc.RpcError) as caught:
        pair.graph.RemoveConnection(pb.RemoveConnectionRequest(user_id=bob, peer_id=peer))

    error = decoded(caught.value)
    assert error.code is grpc.StatusCode.PERMISSION_DENIED
    assert (error.message, dict(error.metadata)) == ("the user is suspended", {})


def test_the_data_of_a_suspended_user_can_be_exported(pair: Pair, people: People) -> None:
    bob, friend = people.connected(2)
    people.tag(bob, "friends", friend)
    post = people.post(bob)
    people.suspend(bob)
    refused = feed.ListTagsRequest(user_id=bob)
    until(lambda: refusal(pair.feed.ListTags, refused) == "USER_SUSPENDED")

    exported = list(pair.feed.ExportUser(feed.ExportUserRequest(user_id=bob)))
    pairs = list(pair.graph.ExportUser(pb.ExportUserRequest(user_id=bob)))
    of_friend = list(pair.graph.ExportUser(pb.ExportUserRequest(user_id=friend)))

    assert [one.post_id for message in exported for one in message.posts] == [post]
    assert [peer.peer_id for message in pairs for peer in message.connections] == [friend]
    assert of_friend == []


def test_the_tags_of_a_suspended_user_are_exported_with_those_who_will_have_them_again(
    pair: Pair, people: People
) -> None:
    bob, friend, suspended, former = people.connected(4)
    people.tag(bob, "friends", friend, suspended, former)
    people.remove(bob, former)

    for user in (bob, suspended):
        people.suspend(user)

    assert _exported_members(pair, bob) == {friend: False, suspended: True, former: True}


def test_a_tag_that_is_imported_during_a_suspension_applies_after_it(
    pair: Pair, people: People
) -> None:
    bob, friend = people.connected(2)
    moment = Timestamp(seconds=1_600_000_000)
    chunk = feed.ImportTagsRequest(
        tags=[
            feed.ImportTagsRequest.ImportedTag(
                owner_id=owner, external_id="friends", name="friends", create_time=moment
            )
            for owner in (bob, friend)
        ],
        members=[
            feed.ImportTagsRequest.ImportedMember(
                owner_id=owner,
                tag_external_id="friends",
                target_user_id=member,
                create_time=moment,
            )
            for owner, member in ((bob, friend), (friend, bob))
        ],
    )

    people.suspend(bob)
    imported = pair.feed.ImportTags(iter([chunk]))
    during = _exported_members(pair, friend)
    people.restore(bob)

    assert imported.unconnected_member_count == 0
    assert during == {bob: True}
    assert _exported_members(pair, bob) == {friend: False}
    assert _exported_members(pair, friend) == {bob: False}


def _exported_members(pair: Pair, user_id: int) -> dict[int, bool]:
    """Return the people to whom a user has given a tag, and whether they are former members."""
    exported = pair.feed.ExportUser(feed.ExportUserRequest(user_id=user_id))
    members = [given.member for message in exported for given in message.tagged_users]
    return {member.target_user_id: member.former for member in members}


# The calls themselves.


def test_suspending_twice_keeps_the_time_and_replaces_the_reason(
    pair: Pair, people: People
) -> None:
    bob, friend = people.connected(2)
    first = pair.graph.SuspendUser(pb.SuspendUserRequest(user_id=bob, reason="spam"))
    revision = _answer(pair, friend).revision

    second = pair.graph.SuspendUser(pb.SuspendUserRequest(user_id=bob, reason="much spam"))

    assert first.suspend_time == second.suspend_time
    assert (bob, "much spam") in _suspended(pair)
    assert _answer(pair, friend).revision == revision


def test_restoring_somebody_who_is_not_suspended_changes_nothing(own_pair: Pair) -> None:
    [bob] = People(own_pair).new(1)
    before = row_counts(own_pair)

    assert not own_pair.graph.RestoreUser(pb.RestoreUserRequest(user_id=bob)).restored
    assert row_counts(own_pair) == before


def test_suspended_users_are_listed_in_pages_last_suspended_first(databases: Databases) -> None:
    with running_pair(databases) as pair:
        people = People(pair)
        users = people.new(5)
        for user in users:
            people.suspend(user, f"case {user}")
        people.restore(users[2])
        expected = [(user, f"case {user}") for user in reversed(users) if user != users[2]]

        assert _suspended(pair, page_size=3) == expected

        known = pair.graph.GetSuspendedUserIds(pb.GetSuspendedUserIdsRequest())
        again = pair.graph.GetSuspendedUserIds(
            pb.GetSuspendedUserIdsRequest(known_revision=known.revision)
        )
        people.restore(users[0])
        later = pair.graph.GetSuspendedUserIds(
            pb.GetSuspendedUserIdsRequest(known_revision=known.revision)
        )

        assert sorted(known.suspended_user_ids) == sorted(user for user, _ in expected)
        assert (again.unchanged, list(again.suspended_user_ids)) == (True, [])
        assert users[0] not in later.suspended_user_ids


def test_a_reason_is_a_text_of_at_most_500_characters(people: People) -> None:
    [bob] = people.new(1)
    with pytest.raises(grpc.RpcError) as caught:
        people.suspend(bob, "x" * 501)

    assert fields_of(caught) == ["reason"]


def test_an_erased_user_stays_suspended_without_the_reason(pair: Pair, people: People) -> None:
    author, viewer, bob = people.connected(3)
    post = _name(people, author)
    _comment(pair, bob, post)
    people.suspend(bob, "spam")

    pair.graph.DeleteUser(pb.DeleteUserRequest(user_id=bob))

    assert (bob, "") in _suspended(pair)
    assert _comments(pair, viewer, post) == []
    assert _counts(pair, author) == [1]
    people.connect(author, bob)
    assert bob not in _ids(pair, author)
    people.restore(bob)
    assert bob in _ids(pair, author)


# Nothing is lost.


@pytest.mark.parametrize("how", ["follows", "begins anew"])
def test_no_tag_ends_by_a_suspension(databases: Databases, how: str) -> None:
    with running_pair(databases, {"WATCH_HEARTBEAT_SECONDS": "0.3"}) as pair:
        people = People(pair)
        alice, bob, carol = people.connected(3)
        people.connect(bob, carol)
        tags = people.tag(alice, "friends", bob, carol), people.tag(bob, "friends", alice, carol)
        posts = [people.post(alice, tagged(tags[0])), people.post(bob, tagged(tags[1]))]
        people.suspend(bob)
        if how == "begins anew":
            _rows(pair.feed_url, "DELETE FROM followed")
            pair.gate.break_calls()
        marker, friend = people.connected(2)
        marked = people.tag(marker, "marker", friend)
        people.remove(marker, friend)
        until(
            lambda: _rows(
                pair.feed_url,
                f"SELECT FROM user_tags WHERE tag_id = {marked} AND owner_revision = 0",
            )
        )
        people.restore(bob)

        assert people.feed(carol) == posts[::-1]


def _contents(pair: Pair) -> dict[str, object]:
    """Return every row of both databases, but for revisions and what tells of suspensions."""
    found = dict[str, object]()
    for service, url in (("graph", pair.graph_url), ("feed", pair.feed_url)):
        tables = set(sqlalchemy.inspect(engine_to(url)).get_table_names())
        for table in tables - {"followed", "suspension_changes", "totals"}:
            which = _WHICH.get(table, "true")
            row = f"CAST(to_jsonb(t) - {_REVISIONS} AS text)"
            rows = _rows(url, f"SELECT {row} FROM {table} AS t WHERE {which} ORDER BY 1")
            found[f"{service} {table}"] = rows
        totals = _rows(url, "SELECT name, sum(value) FROM totals GROUP BY name")
        found[f"{service} totals"] = {name: total for name, total in totals if total}
    return found


_REVISIONS = "CAST('{revision,shown_revision}' AS text[])"
_WHICH = {"connection_events": "kind NOT IN ('suspended', 'restored')"}


def _live(pair: Pair, people: People, pick: random.Random) -> list[int]:
    """Let everything happen between some people, in a random order."""
    ids = people.new(6)
    people.connect(ids[0], *ids[1:3])
    tags = {user: people.tag(user, "friends") for user in ids}
    posts: list[feed.PostName] = []
    for _ in range(60):
        user, peer = pick.sample(ids, 2)
        match pick.randrange(9):
            case 0 | 1:
                people.connect(user, peer)
            case 2:
                _change(pair, "RequestConnection", user, peer)
            case 3:
                pick.choice([people.remove, people.block, people.unblock])(user, peer)
            case 4:
                request = feed.AddTagMembersRequest(
                    user_id=user, tag_id=tags[user], target_user_ids=[peer]
                )
                refusal(pair.feed.AddTagMembers, request)
            case 5 | 6:
                tag = tags[user]
                audience = pick.choice([ALL, PRIVATE, tagged(tag), all_without(tag)])
                posts.append(_name(people, user, audience))
            case 7 if posts:
                comment = feed.CreateCommentRequest(
                    user_id=user, post=pick.choice(posts), body="hello"
                )
                refusal(pair.feed.CreateComment, comment)
            case 8 if posts:
                read = feed.MarkFeedReadRequest(user_id=user, post=pick.choice(posts))
                refusal(pair.feed.MarkFeedRead, read)
    return ids


def _seen(pair: Pair, people: People, ids: list[int]) -> list[object]:
    """Return what everybody sees."""
    return [
        (
            people.feed(user),
            pair.feed.CountUnreadPosts(feed.CountUnreadPostsRequest(user_id=user)).unread_count,
            [
                (peer.peer_id, peer.state)
                for peer in pair.graph.CheckConnections(
                    pb.CheckConnectionsRequest(
                        user_id=user, peer_ids=[peer for peer in ids if peer != user]
                    )
                ).connections
            ],
            _requests(pair, user, pb.REQUEST_DIRECTION_INCOMING),
            _requests(pair, user, pb.REQUEST_DIRECTION_OUTGOING),
            _counts(pair, user),
        )
        for user in ids
    ]


@pytest.mark.parametrize("seed", seeds(0))
def test_suspending_and_restoring_leaves_every_table_and_every_answer_as_it_was(
    own_pair: Pair, seed: int
) -> None:
    people, pick = People(own_pair), random.Random(seed)
    ids = _live(own_pair, people, pick)
    # Everybody has a row before, as those have whom the graph knows.
    people.connect(ids[0], *(user for user in ids[1:] if pick.random() < 0.5))
    until_followed(own_pair)
    stored, seen = _contents(own_pair), _seen(own_pair, people, ids)

    suspended = pick.sample(ids, pick.randint(1, len(ids)))
    for user in suspended:
        people.suspend(user, "a case")
    during = _contents(own_pair)
    # Or a service could learn of a suspension when it is over.
    until(lambda: all(_refusals(own_pair, user) == {"USER_SUSPENDED"} for user in suspended))
    for user in pick.sample(suspended, len(suspended)):
        people.restore(user)
    until(lambda: all(_refusals(own_pair, user) == {""} for user in suspended))
    until_followed(own_pair)

    assert during != stored
    assert _contents(own_pair) == stored
    assert _seen(own_pair, people, ids) == seen


def _refusals(pair: Pair, user_id: int) -> set[str]:
    """Return how the services, each of which learns it by itself, refuse calls of a user."""
    return {
        refusal(pair.graph.ListConnections, pb.ListConnectionsRequest(user_id=user_id)),
        refusal(pair.feed.ListTags, feed.ListTagsRequest(user_id=user_id)),
    }


@pytest.fixture(scope="module")
def own_pair(databases: Databases) -> Iterator[Pair]:
    """A pair without other people."""
    with running_pair(databases) as running:
        yield running
