"""Pages: together they are complete, and their tokens are of use to nobody else."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from kith.cli.conformance.deployments import Deployment
from kith.cli.conformance.evidence import listing, refusal, require, require_field, require_refused
from kith.exceptions import ValidationError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_INVALID: Final = "INVALID_PAGE_TOKEN"


def pages_of_a_list_are_complete_and_repeat_nothing(deployment: Deployment) -> str:
    """Try the connections of somebody, one on a page."""
    user, *peers = deployment.world.connected(4)
    request = graph_pb2.ListConnectionsRequest(user_id=user, page_size=1)
    listed = listing(deployment.kith.graph.ListConnections, request, lambda page: page.connections)
    return _complete([connection.peer_id for connection in listed], peers)


def pages_of_a_feed_are_complete_and_newest_first(deployment: Deployment) -> str:
    """Try one post on a page."""
    reader, author = deployment.world.connected(2)
    posts = [deployment.world.post(author).post_id for _ in range(4)]
    read = _feed(deployment, feed_pb2.GetFeedRequest(user_id=reader, page_size=1))
    evidence = _complete(read, posts)
    require(read == posts[::-1], f"came as {read} and not newest first")
    return evidence


def a_page_is_no_longer_than_asked(deployment: Deployment) -> str:
    """Try two of three."""
    user, *_ = deployment.world.connected(4)
    request = graph_pb2.ListConnectionsRequest(user_id=user, page_size=2)
    page = deployment.kith.graph.ListConnections(request)
    require(len(page.connections) == 2, f"{len(page.connections)} on a page of 2 of 3")  # noqa: PLR2004 -- as asked
    require(page.next_page_token, "the first page has no token for the next")
    return "2 of 3, and a token for the rest"


def posts_that_come_while_a_feed_is_read_repeat_nothing_in_it(deployment: Deployment) -> str:
    """Try one that comes between two pages."""
    reader, author = deployment.world.connected(2)
    posts = [deployment.world.post(author).post_id for _ in range(3)]
    request = feed_pb2.GetFeedRequest(user_id=reader, page_size=2)
    first = deployment.kith.feed.GetFeed(request)
    deployment.world.post(author)
    request.page_token = first.next_page_token
    read = [*(post.post_id for post in first.posts), *_feed(deployment, request)]
    return _complete(read, posts)


def a_page_token_of_another_user_is_refused(deployment: Deployment) -> str:
    """Try to read on in the list of somebody else."""
    user, peer, _ = deployment.world.connected(3)
    graph = deployment.kith.graph
    request = graph_pb2.ListConnectionsRequest(user_id=user, page_size=1)
    token = graph.ListConnections(request).next_page_token
    require(token, "the first page has no token for the next")
    theirs = graph_pb2.ListConnectionsRequest(user_id=peer, page_size=1, page_token=token)
    return _refused(graph.ListConnections, theirs)


def a_page_token_that_nobody_was_given_is_refused(deployment: Deployment) -> str:
    """Try it in both services."""
    [user] = deployment.world.people(1)
    token = "bm90IGEgdG9rZW4"  # noqa: S105 -- of a page, and of none
    graph_request = graph_pb2.ListConnectionsRequest(user_id=user, page_token=token)
    feed_request = feed_pb2.GetFeedRequest(user_id=user, page_token=token)
    _refused(deployment.kith.graph.ListConnections, graph_request)
    return _refused(deployment.kith.feed.GetFeed, feed_request)


def a_negative_page_size_is_refused_by_name(deployment: Deployment) -> str:
    """Try one of a feed."""
    error = refusal(deployment.kith.feed.GetFeed, feed_pb2.GetFeedRequest(user_id=1, page_size=-1))
    require_refused(error, ValidationError, "INVALID_FIELD")
    return require_field(error, "page_size")


CHECKS: Final = (
    pages_of_a_list_are_complete_and_repeat_nothing,
    pages_of_a_feed_are_complete_and_newest_first,
    a_page_is_no_longer_than_asked,
    posts_that_come_while_a_feed_is_read_repeat_nothing_in_it,
    a_page_token_of_another_user_is_refused,
    a_page_token_that_nobody_was_given_is_refused,
    a_negative_page_size_is_refused_by_name,
)


def _feed(deployment: Deployment, request: feed_pb2.GetFeedRequest) -> list[int]:
    read = listing(deployment.kith.feed.GetFeed, request, lambda page: page.posts)
    return [post.post_id for post in read]


def _complete(found: Sequence[int], there: Sequence[int]) -> str:
    require(len({*found}) == len(found), f"{found} has repeats")
    require({*found} == {*there}, f"{sorted(found)} were found of {sorted(there)}")
    return f"{len(found)} of {len(there)}"


def _refused(call: Callable[..., object], request: Any) -> str:
    error = refusal(call, request)
    require_refused(error, ValidationError, _INVALID)
    return require_field(error, "page_token")
