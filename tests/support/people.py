"""Factories: people, connections, tags and posts, made through the API."""

from itertools import count

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from tests.support.rpcs import Stubs

_ids = count(1_000_000)

ALL = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL)
PRIVATE = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_PRIVATE)


def tagged(*tag_ids: int, without: tuple[int, ...] = ()) -> feed_pb2.Audience:
    """Return the audience of some tags."""
    return feed_pb2.Audience(
        kind=feed_pb2.AUDIENCE_KIND_TAGS, tag_ids=tag_ids, excluded_tag_ids=without
    )


def all_without(*tag_ids: int) -> feed_pb2.Audience:
    """Return the audience of all connections but those with one of some tags."""
    return feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL, excluded_tag_ids=tag_ids)


class People:
    """Makes people that no other test uses."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs

    def new(self, number: int) -> list[int]:
        """Return the ids of some new people."""
        return [next(_ids) for _ in range(number)]

    def connect(self, user_id: int, *peer_ids: int) -> None:
        """Connect a user with others."""
        pairs = [
            graph_pb2.ConnectionPair(first_user_id=user_id, second_user_id=peer_id)
            for peer_id in peer_ids
        ]
        self._stubs.graph.ImportConnections(
            iter([graph_pb2.ImportConnectionsRequest(connections=pairs)])
        )

    def connected(self, number: int) -> list[int]:
        """Return new people; the first is connected with all others."""
        first, *others = self.new(number)
        self.connect(first, *others)
        return [first, *others]

    def remove(self, user_id: int, peer_id: int) -> None:
        """End a connection."""
        self._stubs.graph.RemoveConnection(
            graph_pb2.RemoveConnectionRequest(user_id=user_id, peer_id=peer_id)
        )

    def block(self, user_id: int, peer_id: int) -> None:
        """Let a user block another."""
        self._stubs.graph.BlockUser(graph_pb2.BlockUserRequest(user_id=user_id, peer_id=peer_id))

    def unblock(self, user_id: int, peer_id: int) -> None:
        """Lift a block."""
        self._stubs.graph.UnblockUser(
            graph_pb2.UnblockUserRequest(user_id=user_id, peer_id=peer_id)
        )

    def suspend(self, user_id: int, reason: str = "") -> None:
        """Suspend somebody. Calls of theirs that ask nobody may be answered for a moment."""
        self._stubs.graph.SuspendUser(graph_pb2.SuspendUserRequest(user_id=user_id, reason=reason))

    def restore(self, user_id: int) -> None:
        """End a suspension. Calls of theirs may be refused for a moment."""
        self._stubs.graph.RestoreUser(graph_pb2.RestoreUserRequest(user_id=user_id))

    def tag(self, owner_id: int, name: str, *member_ids: int) -> int:
        """Create a tag, give it to people, return its id."""
        response = self._stubs.feed.CreateTag(
            feed_pb2.CreateTagRequest(user_id=owner_id, name=name)
        )
        if member_ids:
            self.give(owner_id, response.tag.tag_id, *member_ids)
        return response.tag.tag_id

    def give(self, owner_id: int, tag_id: int, *member_ids: int) -> None:
        """Give a tag to people."""
        self._stubs.feed.AddTagMembers(
            feed_pb2.AddTagMembersRequest(
                user_id=owner_id, tag_id=tag_id, target_user_ids=member_ids
            )
        )

    def take(self, owner_id: int, tag_id: int, *member_ids: int) -> None:
        """Take a tag from people."""
        self._stubs.feed.RemoveTagMembers(
            feed_pb2.RemoveTagMembersRequest(
                user_id=owner_id, tag_id=tag_id, target_user_ids=member_ids
            )
        )

    def post(self, author_id: int, audience: feed_pb2.Audience = ALL, body: str = "hello") -> int:
        """Publish a post and return its id."""
        response = self._stubs.feed.CreatePost(
            feed_pb2.CreatePostRequest(user_id=author_id, body=body, audience=audience)
        )
        return response.post.post_id

    def feed(self, user_id: int, page_size: int = 100) -> list[int]:
        """Return the ids of the first page of a feed."""
        response = self._stubs.feed.GetFeed(
            feed_pb2.GetFeedRequest(user_id=user_id, page_size=page_size)
        )
        return [post.post_id for post in response.posts]
