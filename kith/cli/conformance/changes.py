"""What takes sight away does so at once: after the answer no read shows what it showed before."""

from collections.abc import Callable
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from kith.cli.conformance.deployments import Deployment
from kith.cli.conformance.evidence import require
from kith.cli.conformance.world import PRIVATE
from kith.exceptions import ResourceNotFoundError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2


def the_end_of_a_connection_hides_posts_at_once(deployment: Deployment) -> str:
    """Try it by the reader."""
    reader, author = deployment.world.connected(2)
    request = graph_pb2.RemoveConnectionRequest(user_id=reader, peer_id=author)
    return _hides(
        deployment,
        reader,
        deployment.world.post(author),
        lambda: deployment.kith.graph.RemoveConnection(request),
    )


def a_block_hides_posts_at_once(deployment: Deployment) -> str:
    """Try it by the author."""
    reader, author = deployment.world.connected(2)
    request = graph_pb2.BlockUserRequest(user_id=author, peer_id=reader)
    return _hides(
        deployment,
        reader,
        deployment.world.post(author),
        lambda: deployment.kith.graph.BlockUser(request),
    )


def a_tag_that_is_taken_away_hides_posts_at_once(deployment: Deployment) -> str:
    """Try a post for one tag."""
    reader, author = deployment.world.connected(2)
    tag_id = deployment.world.tag(author, "tag", reader)
    audience = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_TAGS, tag_ids=[tag_id])
    request = feed_pb2.RemoveTagMembersRequest(
        user_id=author, tag_id=tag_id, target_user_ids=[reader]
    )
    return _hides(
        deployment,
        reader,
        deployment.world.post(author, audience),
        lambda: deployment.kith.feed.RemoveTagMembers(request),
    )


def a_narrower_audience_hides_a_post_at_once(deployment: Deployment) -> str:
    """Try a post that becomes private."""
    reader, author = deployment.world.connected(2)
    post = deployment.world.post(author)
    request = feed_pb2.UpdatePostRequest(
        user_id=author,
        post=feed_pb2.Post(post_id=post.post_id, audience=PRIVATE),
        update_mask=FieldMask(paths=["audience"]),
    )
    return _hides(deployment, reader, post, lambda: deployment.kith.feed.UpdatePost(request))


def a_deleted_post_is_gone_at_once(deployment: Deployment) -> str:
    """Try it for a reader."""
    reader, author = deployment.world.connected(2)
    post = deployment.world.post(author)
    request = feed_pb2.DeletePostRequest(user_id=author, post_id=post.post_id)
    return _hides(deployment, reader, post, lambda: deployment.kith.feed.DeletePost(request))


def the_erasure_of_a_person_from_the_graph_hides_their_posts_at_once(
    deployment: Deployment,
) -> str:
    """Try it before the feed is told."""
    reader, author = deployment.world.connected(2)
    request = graph_pb2.DeleteUserRequest(user_id=author)
    return _hides(
        deployment,
        reader,
        deployment.world.post(author),
        lambda: deployment.kith.graph.DeleteUser(request),
    )


CHECKS: Final = (
    the_end_of_a_connection_hides_posts_at_once,
    a_block_hides_posts_at_once,
    a_tag_that_is_taken_away_hides_posts_at_once,
    a_narrower_audience_hides_a_post_at_once,
    a_deleted_post_is_gone_at_once,
    the_erasure_of_a_person_from_the_graph_hides_their_posts_at_once,
)


def _hides(
    deployment: Deployment, reader: int, post: feed_pb2.PostName, change: Callable[[], object]
) -> str:
    """Require that a post is seen before a change and not after it, in any way of reading."""
    before = _ways(deployment, reader, post)
    missing = [name for name, is_seen in before.items() if not is_seen]
    require(not missing, f"not seen by {', '.join(missing)} before the change")
    change()
    after = _ways(deployment, reader, post)
    left = [name for name, is_seen in after.items() if is_seen]
    require(not left, f"still seen by {', '.join(left)}")
    return f"seen by {', '.join(before)} before and not after"


def _ways(deployment: Deployment, reader: int, post: feed_pb2.PostName) -> dict[str, bool]:
    feed = deployment.kith.feed
    one = feed_pb2.GetPostRequest(user_id=reader, author_id=post.author_id, post_id=post.post_id)
    many = feed_pb2.BatchGetPostsRequest(user_id=reader, posts=[post])
    page = feed.GetFeed(feed_pb2.GetFeedRequest(user_id=reader))
    return {
        "GetFeed": any(each.post_id == post.post_id for each in page.posts),
        "GetPost": _is_found(lambda: feed.GetPost(one)),
        "BatchGetPosts": bool(feed.BatchGetPosts(many).posts),
    }


def _is_found(call: Callable[[], object]) -> bool:
    try:
        call()
    except ResourceNotFoundError:
        return False
    return True
