"""A change can be repeated with its request id."""

import uuid
from typing import Final

from kith.cli.conformance.deployments import Deployment
from kith.cli.conformance.evidence import listing, refusal, require, require_refused
from kith.cli.conformance.world import ALL
from kith.exceptions import ValidationError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2


def a_repeated_creation_gets_the_first_answer_and_creates_nothing(deployment: Deployment) -> str:
    """Try a post."""
    [author] = deployment.world.people(1)
    feed = deployment.kith.feed
    request = _creation(author)
    answers = [feed.CreatePost(request) for _ in range(2)]
    require(answers[0] == answers[1], "the repeat got another answer")
    asked = feed_pb2.ListPostsRequest(user_id=author, author_id=author)
    count = sum(1 for _ in listing(feed.ListPosts, asked, lambda page: page.posts))
    require(count == 1, f"two calls with one request id left {count} posts")
    return "one post, and the same answer twice"


def a_repeated_change_gets_the_first_answer(deployment: Deployment) -> str:
    """Try a request to connect, which would be refused without its request id once accepted."""
    user, peer = deployment.world.people(2)
    graph = deployment.kith.graph
    request = graph_pb2.RequestConnectionRequest(
        user_id=user, peer_id=peer, request_id=str(uuid.uuid4())
    )
    first = graph.RequestConnection(request)
    graph.AcceptConnection(graph_pb2.AcceptConnectionRequest(user_id=peer, peer_id=user))
    require(graph.RequestConnection(request) == first, "the repeat got another answer")
    return "the same answer before and after the other had accepted"


def a_request_id_with_another_request_is_refused(deployment: Deployment) -> str:
    """Try another body."""
    [author] = deployment.world.people(1)
    request = _creation(author)
    deployment.kith.feed.CreatePost(request)
    request.body = "another body"
    error = refusal(deployment.kith.feed.CreatePost, request)
    return require_refused(error, ValidationError, "REQUEST_ID_REUSED")


def a_read_after_a_write_sees_it_on_every_replica(deployment: Deployment) -> str:
    """Try a session that otherwise reads from replicas, several times."""
    user, peer = deployment.world.people(2)
    session = deployment.kith.session(reads="replicas")
    session.graph.RequestConnection(graph_pb2.RequestConnectionRequest(user_id=user, peer_id=peer))
    session.feed.CreatePost(_creation(user))
    require(any(session.positions.values()), "no write was answered with a position")
    times = 5
    for _ in range(times):
        request = graph_pb2.GetConnectionRequest(user_id=user, peer_id=peer)
        state = session.graph.GetConnection(request).connection.state
        require(
            state == graph_pb2.CONNECTION_STATE_REQUEST_SENT, f"the request is not there: {state}"
        )
        page = session.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=user))
        require(len(page.posts) == 1, f"the post is not there: {len(page.posts)} posts")
    return f"a request and a post were read {times} times"


CHECKS: Final = (
    a_repeated_creation_gets_the_first_answer_and_creates_nothing,
    a_repeated_change_gets_the_first_answer,
    a_request_id_with_another_request_is_refused,
    a_read_after_a_write_sees_it_on_every_replica,
)


def _creation(author: int) -> feed_pb2.CreatePostRequest:
    return feed_pb2.CreatePostRequest(
        user_id=author,
        body="a check of conformance",
        audience=ALL,
        request_id=str(uuid.uuid4()),
    )
