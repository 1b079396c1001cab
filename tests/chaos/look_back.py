"""Clients that look, right after each write, whether it is there, in a process of their own.

They call through sessions of the shipped client, which bring to each read what was written before.
"""

import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from typing import Final, Self

from google.protobuf.field_mask_pb2 import FieldMask

from kith.client import KithClient, Session
from kith.exceptions import AppException
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from tests.support.people import ALL, PRIVATE

_FIRST_USER: Final = 5_000_000
_START_SECONDS: Final = 240


@dataclass(kw_only=True)
class Seen:
    """How many writes were looked at, and which of them were not there, or not answered."""

    looked: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        """How many writes were looked at."""
        return self.looked.total()


class LookBack:
    """Writes and looks inside the block, until so many writes were looked at or it is stopped."""

    def __init__(self, *, graph: str, feed: str, clients: int, writes: int) -> None:
        self._ear, mouth = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (graph, feed, clients, writes, mouth)
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self.seen = Seen()

    def __enter__(self) -> Self:
        self._process.start()
        if not self._ear.poll(_START_SECONDS):
            raise TimeoutError("the clients do not begin")
        self._ear.recv()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def is_over(self, within_seconds: float) -> bool:
        """Wait for the end for so long."""
        if not self._ear.poll(within_seconds):
            return False
        self.seen = self._ear.recv()
        return True


def _run(graph: str, feed: str, clients: int, writes: int, pipe: Connection) -> None:
    seen, left = Seen(), iter(range(writes))
    with KithClient.from_environment(graph=graph, feed=feed, channels=4) as kith:
        couples = [_Couple(kith, number, seen) for number in range(clients)]
        threads = [threading.Thread(target=couple.live, args=(left,)) for couple in couples]
        pipe.send(None)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pipe.send(seen)


class _Couple:
    """Two who are connected, and strangers to everybody else. The first writes, both look."""

    def __init__(self, kith: KithClient, number: int, seen: Seen) -> None:
        self._seen = seen
        self._random = random.Random(number)
        self._session = kith.session(reads="replicas")
        self._author, self._friend = (_FIRST_USER + 1_000 * number + index for index in (1, 2))
        self._strangers = count(_FIRST_USER + 1_000_000 * (number + 1))
        self._tag = 0
        self._posts: list[int] = []
        pair = graph_pb2.ConnectionPair(first_user_id=self._author, second_user_id=self._friend)
        request = graph_pb2.ImportConnectionsRequest(connections=[pair])
        kith.graph.ImportConnections(iter([request]))
        self.publish(self._session)

    def live(self, left: Iterator[int]) -> None:
        """Write and look."""
        turns = [*_TURNS]
        for _ in left:
            [turn] = self._random.choices(turns, [*_TURNS.values()])
            try:
                is_there = turn(self, self._session)
            except AppException as error:
                self._seen.failed.append(f"{turn.__name__}: {error.code.name} {error}")
                continue
            self._seen.looked[turn.__name__] += 1
            if not is_there:
                self._seen.stale.append(turn.__name__)

    def publish(self, session: Session) -> bool:
        draft = feed_pb2.CreatePostRequest(user_id=self._author, body="hello", audience=ALL)
        post = session.feed.CreatePost(draft).post.post_id
        self._posts.append(post)
        feed = feed_pb2.GetFeedRequest(user_id=self._friend, page_size=5)
        return session.feed.GetFeed(feed).posts[0].post_id == post

    def list_own(self, session: Session) -> bool:
        draft = feed_pb2.CreatePostRequest(user_id=self._author, body="hello", audience=ALL)
        post = session.feed.CreatePost(draft).post.post_id
        self._posts.append(post)
        listing = feed_pb2.ListPostsRequest(
            user_id=self._author, author_id=self._author, page_size=5
        )
        return session.feed.ListPosts(listing).posts[0].post_id == post

    def hide(self, session: Session) -> bool:
        post = self._posts.pop() if len(self._posts) > 1 else self._posts[0]
        session.feed.UpdatePost(
            feed_pb2.UpdatePostRequest(
                user_id=self._author,
                post=feed_pb2.Post(post_id=post, audience=PRIVATE),
                update_mask=FieldMask(paths=["audience"]),
            )
        )
        feed = feed_pb2.GetFeedRequest(user_id=self._friend, page_size=5)
        return post not in [shown.post_id for shown in session.feed.GetFeed(feed).posts]

    def comment(self, session: Session) -> bool:
        post = feed_pb2.PostName(author_id=self._author, post_id=self._posts[-1])
        draft = feed_pb2.CreateCommentRequest(user_id=self._author, post=post, body="so it is")
        comment = session.feed.CreateComment(draft).comment.comment_id
        listing = feed_pb2.ListCommentsRequest(user_id=self._author, post=post, page_size=100)
        shown = session.feed.ListComments(listing)
        is_there = comment in [found.comment_id for found in shown.comments]
        return is_there or bool(shown.next_page_token)

    def tag(self, session: Session) -> bool:
        """Give a tag that there is, or take it away."""
        if not self._tag:
            named = feed_pb2.CreateTagRequest(user_id=self._author, name=f"tag {self._author}")
            self._tag = session.feed.CreateTag(named).tag.tag_id
        author, friend = self._author, self._friend
        is_given = self._random.random() < 0.5
        if is_given:
            session.feed.AddTagMembers(
                feed_pb2.AddTagMembersRequest(
                    user_id=author, tag_id=self._tag, target_user_ids=[friend]
                )
            )
        else:
            session.feed.RemoveTagMembers(
                feed_pb2.RemoveTagMembersRequest(
                    user_id=author, tag_id=self._tag, target_user_ids=[friend]
                )
            )
        asked = feed_pb2.ListUserTagsRequest(user_id=author, target_user_id=friend)
        return bool(session.feed.ListUserTags(asked).tags) == is_given

    def ask(self, session: Session) -> bool:
        author, stranger = self._author, next(self._strangers)
        session.graph.RequestConnection(
            graph_pb2.RequestConnectionRequest(user_id=author, peer_id=stranger)
        )
        asked = graph_pb2.GetConnectionRequest(user_id=author, peer_id=stranger)
        found = session.graph.GetConnection(asked).connection
        return found.state == graph_pb2.CONNECTION_STATE_REQUEST_SENT

    def part(self, session: Session) -> bool:
        """Remove the friend, look, and connect again."""
        author, friend = self._author, self._friend
        session.graph.RemoveConnection(
            graph_pb2.RemoveConnectionRequest(user_id=author, peer_id=friend)
        )
        check = graph_pb2.CheckConnectionsRequest(user_id=author, peer_ids=[friend])
        [found] = session.graph.CheckConnections(check).connections
        feed = feed_pb2.GetFeedRequest(user_id=friend, page_size=5)
        is_seen = bool(session.feed.GetFeed(feed).posts)
        for asking, asked in ((author, friend), (friend, author)):
            session.graph.RequestConnection(
                graph_pb2.RequestConnectionRequest(user_id=asking, peer_id=asked)
            )
        [again] = session.graph.CheckConnections(check).connections
        return (found.state, again.state, is_seen) == (
            graph_pb2.CONNECTION_STATE_NONE,
            graph_pb2.CONNECTION_STATE_CONNECTED,
            False,
        )


_TURNS: Final[dict[Callable[[_Couple, Session], bool], int]] = {
    _Couple.publish: 25,
    _Couple.list_own: 20,
    _Couple.hide: 10,
    _Couple.comment: 15,
    _Couple.tag: 10,
    _Couple.ask: 15,
    _Couple.part: 5,
}
