"""A new user with the id of an erased one never shows or sees what the erased user could.

The follower is stopped, so that the graph alone has erased the user when the id returns, connects
with the same friend and is read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc
import pytest
import sqlalchemy
from google.protobuf.timestamp_pb2 import Timestamp

from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2
from tests.support.errors import reason_of
from tests.support.following import until_followed
from tests.support.pair import Databases, Pair, another_feed, running_pair
from tests.support.pauses import nothing_told
from tests.support.people import ALL, People, tagged
from tests.support.processes import Session, until

_PAST_WEEK = Timestamp(seconds=int(datetime(2024, 3, 4, tzinfo=UTC).timestamp()))


@dataclass(frozen=True)
class World:
    """A pair, a user whose id will return, and their friend."""

    pair: Pair
    people: People
    returning: int
    friend: int
    post: pb.PostName
    for_tag: int
    """A post of the friend for a tag that the person had who will be erased."""

    def erase_in_graph(self) -> None:
        """Erase the person in the graph alone."""
        self.pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=self.returning))

    def erase_in_feed(self) -> None:
        """Erase the person in the feed alone."""
        self.pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=self.returning))

    def come_back(self) -> None:
        """Connect the new user of the id with the friend, by an import."""
        self.people.connect(self.returning, self.friend)

    def be_accepted(self) -> None:
        """Let the new user of the id ask the friend, who accepts."""
        self.ask()
        self.pair.graph.AcceptConnection(
            graph_pb2.AcceptConnectionRequest(user_id=self.friend, peer_id=self.returning)
        )

    def ask(self) -> None:
        """Let the new user of the id ask the friend for a connection, and do nothing else."""
        self.pair.graph.RequestConnection(
            graph_pb2.RequestConnectionRequest(user_id=self.returning, peer_id=self.friend)
        )

    def stay_away(self) -> None:
        """Let the new user of the id do nothing in the graph."""


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """A pair whose follower a test may stop."""
    with running_pair(databases, {"WATCH_HEARTBEAT_SECONDS": "1"}) as running:
        # A follower that begins finds erasures by itself, also those that it is not told of.
        with Session(running.feed_url) as session:
            until(lambda: session.rows("SELECT cursor FROM followed"))
        yield running


@pytest.fixture
def world(pair: Pair) -> World:
    """A friendship in which everything has been done that an id could bring back."""
    people = People(pair)
    friend, returning = people.connected(2)
    people.tag(friend, "family", returning)
    family = pair.feed.ListTags(pb.ListTagsRequest(user_id=friend)).tags[0].tag_id
    past = pb.ImportPostsRequest.ImportedPost(
        author_id=returning,
        external_id="past",
        body="from a past week",
        create_time=_PAST_WEEK,
        audience=ALL,
        importance=6.0,
    )
    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=[past])]))
    post = pb.PostName(author_id=returning, post_id=people.post(returning))
    made = World(pair, people, returning, friend, post, people.post(friend, tagged(family)))
    assert len(_frozen_digest(made)) == 1
    assert post.post_id in people.feed(friend)
    assert made.for_tag in people.feed(returning)
    return made


def _reason(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return reason_of(error)
    return ""


def _frozen_digest(world: World) -> list[int]:
    request = pb.GetDigestRequest(user_id=world.friend, week_of=_PAST_WEEK)
    return [item.post.post_id for item in world.pair.feed.GetDigest(request).items]


def _checked(world: World, viewer_id: int, post: pb.PostName) -> list[bool]:
    """Whether services are told that a user sees a post, by its author's and by their side."""
    another = pb.PostName(author_id=post.author_id + 1_000_000_000, post_id=1)
    requests = [
        pb.CheckVisibilityRequest(
            checks=[
                pb.CheckVisibilityRequest.VisibilityCheck(viewer_id=viewer_id, post=name)
                for name in names
            ]
        )
        for names in ([post], [post, another])
    ]
    return [world.pair.feed.CheckVisibility(request).visible[0] for request in requests]


def _shown(world: World) -> dict[str, object]:
    """What the friend is shown of the id by every call that could show something."""
    feed, friend, post = world.pair.feed, world.friend, world.post
    name = {"user_id": friend, "author_id": post.author_id, "post_id": post.post_id}
    everybody = pb.PreviewAudienceRequest(user_id=friend, audience=ALL)
    return {
        "feed": [
            shown.post_id
            for shown in feed.GetFeed(pb.GetFeedRequest(user_id=friend)).posts
            if shown.author_id == post.author_id
        ],
        "feed of one author": len(
            feed.GetFeed(pb.GetFeedRequest(user_id=friend, author_ids=[post.author_id])).posts
        ),
        "post": _reason(lambda: feed.GetPost(pb.GetPostRequest(**name))),
        "posts": len(
            feed.BatchGetPosts(pb.BatchGetPostsRequest(user_id=friend, posts=[post])).posts
        ),
        "list": len(
            feed.ListPosts(pb.ListPostsRequest(user_id=friend, author_id=post.author_id)).posts
        ),
        "digest": [
            item.post.post_id for item in feed.GetDigest(pb.GetDigestRequest(user_id=friend)).items
        ],
        "frozen digest": _frozen_digest(world),
        "comments": _reason(
            lambda: feed.ListComments(pb.ListCommentsRequest(user_id=friend, post=post))
        ),
        "comment": _reason(
            lambda: feed.CreateComment(
                pb.CreateCommentRequest(user_id=friend, post=post, body="still there?")
            )
        ),
        "mark": _reason(
            lambda: feed.MarkFeedRead(pb.MarkFeedReadRequest(user_id=friend, post=post))
        ),
        "unread": feed.CountUnreadPosts(pb.CountUnreadPostsRequest(user_id=friend)).unread_count,
        "preview": list(feed.PreviewAudience(everybody).viewer_ids),
        "checks": _checked(world, friend, post),
        "viewers": _reason(lambda: feed.ListViewers(pb.ListViewersRequest(post=post))),
    }


_NOTHING = {
    "feed": [],
    "feed of one author": 0,
    "post": "POST_NOT_FOUND",
    "posts": 0,
    "list": 0,
    "digest": [],
    "frozen digest": [],
    "comments": "POST_NOT_FOUND",
    "comment": "POST_NOT_FOUND",
    "mark": "POST_NOT_FOUND",
    "unread": 0,
    "preview": [],
    "checks": [False, False],
    "viewers": "ERASURE_PENDING",
}


def _until_seen(world: World, post_id: int) -> None:
    until(lambda: post_id in world.people.feed(world.friend))


def _until_erased(world: World) -> None:
    until(lambda: _reason(lambda: world.people.feed(world.returning)) != "ERASURE_PENDING")


_CONNECTS = pytest.mark.parametrize("connect", [World.come_back, World.be_accepted])


@_CONNECTS
def test_a_returning_id_shows_nothing_of_the_former_person_however_late_the_feed_learns_of_it(
    world: World, connect: Callable[[World], None]
) -> None:
    with nothing_told(world.pair):
        world.erase_in_graph()
        connect(world)

        assert _shown(world) == _NOTHING


def test_a_returning_id_shows_nothing_to_a_feed_that_starts_afterwards(world: World) -> None:
    with nothing_told(world.pair):
        world.erase_in_graph()
        world.come_back()
        with another_feed(world.pair) as (_, feed):
            page = feed.GetFeed(pb.GetFeedRequest(user_id=world.friend)).posts

    assert world.returning not in {post.author_id for post in page}


_COMES_BACK = pytest.mark.parametrize("come_back", [World.come_back, World.ask, World.stay_away])


@_COMES_BACK
def test_whoever_has_the_id_is_refused_what_the_former_person_could_see(
    world: World, come_back: Callable[[World], None]
) -> None:
    with nothing_told(world.pair):
        world.erase_in_graph()
        come_back(world)
        feed, user_id = world.pair.feed, world.returning
        explain = pb.ExplainVisibilityRequest(
            user_id=world.friend, post_id=world.for_tag, viewer_id=user_id
        )
        refused = {
            _reason(lambda: world.people.feed(user_id)),
            _reason(lambda: feed.GetDigest(pb.GetDigestRequest(user_id=user_id))),
            _reason(lambda: feed.CountUnreadPosts(pb.CountUnreadPostsRequest(user_id=user_id))),
            _reason(
                lambda: feed.GetPost(
                    pb.GetPostRequest(
                        user_id=user_id, author_id=world.friend, post_id=world.for_tag
                    )
                )
            ),
            _reason(
                lambda: feed.PreviewAudience(
                    pb.PreviewAudienceRequest(user_id=user_id, audience=ALL)
                )
            ),
            _reason(lambda: feed.ExplainVisibility(explain)),
        }

    assert refused == {"ERASURE_PENDING"}


@_COMES_BACK
def test_services_are_told_that_whoever_has_the_id_sees_nothing_of_others(
    world: World, come_back: Callable[[World], None]
) -> None:
    post = pb.PostName(author_id=world.friend, post_id=world.for_tag)
    request = pb.CreateCommentRequest(user_id=world.friend, post=world.post, body="hello")
    comment_id = world.pair.feed.CreateComment(request).comment.comment_id
    comment = pb.CheckVisibilityRequest.VisibilityCheck(
        viewer_id=world.returning, post=world.post, comment_id=comment_id
    )
    assert _checked(world, world.returning, post) == [True, True]
    with nothing_told(world.pair):
        world.erase_in_graph()
        come_back(world)
        listed = world.pair.feed.ListViewers(pb.ListViewersRequest(post=post))
        of_comment = world.pair.feed.CheckVisibility(pb.CheckVisibilityRequest(checks=[comment]))

        assert _checked(world, world.returning, post) == [False, False]
        assert list(of_comment.visible) == [False]
        assert list(listed.viewer_ids) == [world.friend]


@_COMES_BACK
def test_whoever_has_the_id_is_refused_by_a_feed_that_starts_afterwards(
    world: World, come_back: Callable[[World], None]
) -> None:
    with nothing_told(world.pair):
        world.erase_in_graph()
        come_back(world)
        with another_feed(world.pair) as (_, feed):
            page, digest = (
                pb.GetFeedRequest(user_id=world.returning),
                pb.GetDigestRequest(user_id=world.returning, include_own_posts=True),
            )
            refused = [_reason(lambda: feed.GetFeed(page)), _reason(lambda: feed.GetDigest(digest))]

    assert refused == ["ERASURE_PENDING"] * 2


def test_the_feed_erases_the_former_person_by_itself_and_then_the_new_one_is_seen(
    world: World,
) -> None:
    with nothing_told(world.pair):
        world.erase_in_graph()
        world.come_back()
    _until_erased(world)

    post = world.people.post(world.returning)

    _until_seen(world, post)
    assert [shown for shown in world.people.feed(world.friend) if shown != world.for_tag] == [post]
    assert world.people.feed(world.returning) == [post]


def test_when_both_services_have_erased_the_user_the_new_one_is_seen_before_anybody_follows(
    world: World,
) -> None:
    with nothing_told(world.pair):
        world.erase_in_graph()
        world.erase_in_feed()
        world.come_back()
        post = world.people.post(world.returning)

        assert world.people.feed(world.friend) == [post, world.for_tag]
        assert world.people.feed(world.returning) == [post]
    # The news of the erasure comes late, and does the new person no harm.
    until_followed(world.pair)
    assert world.people.feed(world.friend) == [post, world.for_tag]


def test_what_was_written_between_the_two_erasures_is_not_shown_when_the_feed_came_first(
    world: World,
) -> None:
    with nothing_told(world.pair):
        world.erase_in_feed()
        between = world.people.post(world.returning)
        world.erase_in_graph()
        world.come_back()

        assert world.people.feed(world.friend) == [world.for_tag]
    _until_erased(world)

    post = world.people.post(world.returning)

    _until_seen(world, post)
    assert between not in world.people.feed(world.friend)


def test_somebody_who_never_had_a_connection_leaves_nothing_to_the_next_one_with_the_id(
    pair: Pair,
) -> None:
    people = People(pair)
    alone, friend = people.new(2)
    people.post(alone)

    with nothing_told(pair):
        pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=alone))
        people.connect(friend, alone)

        assert people.feed(friend) == []


def test_an_id_that_is_erased_again_hides_what_its_second_holder_wrote(world: World) -> None:
    world.erase_in_graph()
    world.erase_in_feed()
    world.come_back()
    second = world.people.post(world.returning)
    assert world.people.feed(world.friend) == [second, world.for_tag]

    with nothing_told(world.pair):
        world.erase_in_graph()
        world.come_back()

        assert world.people.feed(world.friend) == [world.for_tag]


def test_a_request_that_is_accepted_counts_like_an_import(world: World) -> None:
    graph, user_id, peer_id = world.pair.graph, world.returning, world.friend
    with nothing_told(world.pair):
        world.erase_in_graph()
        graph.RequestConnection(
            graph_pb2.RequestConnectionRequest(user_id=user_id, peer_id=peer_id)
        )
        graph.AcceptConnection(graph_pb2.AcceptConnectionRequest(user_id=peer_id, peer_id=user_id))

        assert _shown(world) == _NOTHING


def test_a_reader_who_is_connected_with_nobody_new_costs_no_statement_more(world: World) -> None:
    statements: list[str] = []
    world.pair.feed_tap.before_statement = statements.append
    try:
        world.people.feed(world.friend)
    finally:
        world.pair.feed_tap.before_statement = lambda _statement: None

    assert not [statement for statement in statements if "erased_users" in statement]


@_CONNECTS
def test_the_graph_tells_an_erasure_to_those_who_are_connected_with_the_id(
    world: World, connect: Callable[[World], None]
) -> None:
    world.erase_in_graph()
    connect(world)
    queries = [
        graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=user_id)
        for user_id in (world.returning, world.friend)
    ]

    answers = world.pair.graph.GetConnectedUserIds(
        graph_pb2.GetConnectedUserIdsRequest(users=queries)
    ).users

    told = [[erasure.user_id for erasure in answer.erasures] for answer in answers]
    assert told == [[world.returning], [world.returning]]
    assert len({erasure.revision for answer in answers for erasure in answer.erasures}) == 1
    assert answers[0].erasures[0].revision < answers[0].revision
    engine = sqlalchemy.create_engine(world.pair.graph_url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        meets = connection.execute(
            sqlalchemy.text("SELECT user_id FROM users WHERE meets_erased AND user_id = ANY(:ids)"),
            {"ids": [world.returning, world.friend]},
        )
        assert set(meets.scalars()) == {world.returning, world.friend}
