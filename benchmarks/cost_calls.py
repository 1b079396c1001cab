"""One call of each kind that capacity counts with, each time of other people."""

from collections.abc import Callable, Iterator
from itertools import count, cycle, product
from typing import Final

from benchmarks import dataset as datasets
from benchmarks.dataset import Dataset
from kith.client import KithClient
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_PEERS: Final = 20
_WEEK_SECONDS: Final = 7 * 24 * 3600
_FIRST_SECOND: Final = int(datasets.YEAR.astype("datetime64[s]").astype("int64"))
_WEEKS: Final = range(1, 51)
_TAG: Final = "people of a benchmark"


class CostCalls:
    """Calls by or about people with as many connections as usual. Thread-safe."""

    def __init__(self, kith: KithClient, dataset: Dataset) -> None:
        viewers = dataset.viewer_ids(dataset.usual)
        self._graph, self._feed = kith.graph, kith.feed
        self._people = dataset.ordinary_ids
        self._viewers = cycle(viewers)
        # No viewer reads a week twice, except the last one.
        self._weeks = product(_WEEKS[:-1], viewers)
        self._last_week = cycle(product(_WEEKS[-1:], viewers))
        # New people without connections, so that every two of them are strangers.
        self._strangers = count(dataset.people + 1_000_000)
        self._posts = cycle([self.post(viewer) for viewer in viewers])
        self._gifts = cycle([gift for viewer in viewers for gift in self._possible_gifts(viewer)])

    @property
    def by_name(self) -> dict[str, Callable[[], object]]:
        """The calls by the names under which capacity asks for them."""
        return {
            "GetFeed": lambda: self._feed.GetFeed(
                feed_pb2.GetFeedRequest(user_id=next(self._viewers))
            ),
            "GetConnectedUserIds": lambda: self._connected_ids(next(self._viewers)),
            "GetDigest, first reading": lambda: self._digest(self._weeks),
            "GetDigest, further reading": lambda: self._digest(self._last_week),
            "ListComments": self._list_comments,
            "CreatePost": lambda: self.post(next(self._viewers)),
            "CreateComment": self._comment,
            "AddTagMembers": lambda: self._feed.AddTagMembers(next(self._gifts)),
            "ListConnections": lambda: self._graph.ListConnections(
                graph_pb2.ListConnectionsRequest(user_id=next(self._viewers))
            ),
            "CheckConnections": self._check,
            "RequestConnection and AcceptConnection": self.connect,
        }

    def connect(self) -> None:
        """Let two people connect who did not know each other: two changes of the graph."""
        first, second = next(self._strangers), next(self._strangers)
        self._graph.RequestConnection(
            graph_pb2.RequestConnectionRequest(user_id=first, peer_id=second)
        )
        self._graph.AcceptConnection(
            graph_pb2.AcceptConnectionRequest(user_id=second, peer_id=first)
        )

    def post(self, author_id: int) -> feed_pb2.PostName:
        """Publish a post, and return its name."""
        audience = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL)
        draft = feed_pb2.CreatePostRequest(
            user_id=author_id, body="Good morning from a benchmark.", audience=audience
        )
        created = self._feed.CreatePost(draft).post
        return feed_pb2.PostName(author_id=author_id, post_id=created.post_id)

    def post_and_read(self, person_id: int) -> None:
        """Publish a post, and say that it is read."""
        request = feed_pb2.MarkFeedReadRequest(user_id=person_id, post=self.post(person_id))
        self._feed.MarkFeedRead(request)

    def _connected_ids(self, user_id: int) -> list[int]:
        query = graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=user_id)
        request = graph_pb2.GetConnectedUserIdsRequest(users=[query])
        [answer] = self._graph.GetConnectedUserIds(request).users
        return list(answer.connected_user_ids)

    def _digest(self, readings: Iterator[tuple[int, int]]) -> None:
        week, viewer_id = next(readings)
        request = feed_pb2.GetDigestRequest(user_id=viewer_id)
        request.week_of.FromSeconds(_FIRST_SECOND + week * _WEEK_SECONDS)
        self._feed.GetDigest(request)

    def _list_comments(self) -> None:
        post = next(self._posts)
        self._feed.ListComments(feed_pb2.ListCommentsRequest(user_id=post.author_id, post=post))

    def _comment(self) -> None:
        post = next(self._posts)
        self._feed.CreateComment(
            feed_pb2.CreateCommentRequest(user_id=post.author_id, post=post, body="indeed")
        )

    def _possible_gifts(self, owner_id: int) -> list[feed_pb2.AddTagMembersRequest]:
        tag = feed_pb2.CreateTagRequest(user_id=owner_id, name=_TAG)
        tag_id = self._feed.CreateTag(tag).tag.tag_id
        return [
            feed_pb2.AddTagMembersRequest(user_id=owner_id, tag_id=tag_id, target_user_ids=[peer])
            for peer in self._connected_ids(owner_id)
        ]

    def _check(self) -> None:
        viewer_id = next(self._viewers)
        start = viewer_id % (len(self._people) - _PEERS)
        peer_ids = [peer for peer in self._people[start : start + _PEERS] if peer != viewer_id]
        self._graph.CheckConnections(
            graph_pb2.CheckConnectionsRequest(user_id=viewer_id, peer_ids=peer_ids)
        )
