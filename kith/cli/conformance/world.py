"""The small world that checks are made in: people under ids of its own, erased at the end."""

import secrets
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from kith.cli.clients import sentence
from kith.cli.conformance.evidence import NotTriedError, is_withheld
from kith.client import KithClient
from kith.exceptions import AppException
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

# That one of a billion people has one of these ids is less likely than one in a billion.
_FIRST_ID: Final = 2**62
_IDS: Final = 2**61
_SECONDS: Final = 60.0
_AT_ONCE: Final = 4

ALL: Final = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL)
PRIVATE: Final = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_PRIVATE)


@dataclass(frozen=True, kw_only=True)
class Cast:
    """An author with posts for different people, and those who may read some of them or none."""

    author: int
    viewers: Mapping[str, int]
    """By what they are to the author, who is one of them."""
    posts: Mapping[str, feed_pb2.PostName]
    """By their audience."""

    def named(self, post_ids: Iterable[int]) -> set[str]:
        """Return the names of some posts; an unknown one is named by its id."""
        names = {post.post_id: name for name, post in self.posts.items()}
        return {names.get(post_id, f"post {post_id}") for post_id in post_ids}


class World:
    """Makes people, and what is between them, by the calls that any caller makes."""

    def __init__(self, kith: KithClient) -> None:
        self._kith = kith
        self._next = _FIRST_ID + secrets.randbelow(_IDS)
        self._can_erase = False
        self.made: list[int] = []
        """The people who are not erased yet."""

    def people(self, count: int) -> list[int]:
        """Return ids of new people; raises NotTriedError if they could not be erased."""
        if not self._can_erase:
            self._require_erasure()
        made = list(range(self._next, self._next + count))
        self._next += count
        self.made += made
        return made

    def connected(self, count: int) -> list[int]:
        """Return new people; the first is connected with all others."""
        first, *others = self.people(count)
        for other in others:
            self.connect(first, other)
        return [first, *others]

    def connect(self, user_id: int, peer_id: int) -> None:
        """Connect two people, as they would."""
        graph = self._kith.graph
        graph.RequestConnection(
            graph_pb2.RequestConnectionRequest(user_id=user_id, peer_id=peer_id)
        )
        graph.AcceptConnection(graph_pb2.AcceptConnectionRequest(user_id=peer_id, peer_id=user_id))

    def post(self, author_id: int, audience: feed_pb2.Audience = ALL) -> feed_pb2.PostName:
        """Publish a post."""
        answer = self._kith.feed.CreatePost(
            feed_pb2.CreatePostRequest(
                user_id=author_id, body="a check of conformance", audience=audience
            )
        )
        return feed_pb2.PostName(author_id=author_id, post_id=answer.post.post_id)

    def tag(self, owner_id: int, name: str, member_id: int) -> int:
        """Create a tag and give it to somebody; returns its id."""
        feed = self._kith.feed
        made = feed.CreateTag(feed_pb2.CreateTagRequest(user_id=owner_id, name=name))
        feed.AddTagMembers(
            feed_pb2.AddTagMembersRequest(
                user_id=owner_id, tag_id=made.tag.tag_id, target_user_ids=[member_id]
            )
        )
        return made.tag.tag_id

    @cached_property
    def cast(self) -> Cast:
        """The people and posts that checks share which change nothing."""
        author, friend, close, colleague, blocked = self.connected(5)
        [stranger] = self.people(1)
        self._kith.graph.BlockUser(graph_pb2.BlockUserRequest(user_id=author, peer_id=blocked))
        of_close, of_work = self.tag(author, "close", close), self.tag(author, "work", colleague)
        tagged = feed_pb2.AUDIENCE_KIND_TAGS
        audiences = {
            "all": ALL,
            "nobody": PRIVATE,
            "close": feed_pb2.Audience(kind=tagged, tag_ids=[of_close]),
            "close and work": feed_pb2.Audience(kind=tagged, tag_ids=[of_close, of_work]),
            "all but work": feed_pb2.Audience(
                kind=feed_pb2.AUDIENCE_KIND_ALL, excluded_tag_ids=[of_work]
            ),
            "a deleted post": ALL,
        }
        posts = {name: self.post(author, audience) for name, audience in audiences.items()}
        self._kith.feed.DeletePost(
            feed_pb2.DeletePostRequest(user_id=author, post_id=posts["a deleted post"].post_id)
        )
        return Cast(
            author=author,
            viewers={
                "the author": author,
                "a friend": friend,
                "a close friend": close,
                "a colleague": colleague,
                "a blocked person": blocked,
                "a stranger": stranger,
            },
            posts=posts,
        )

    def erase(self) -> dict[int, str]:
        """Erase everybody who was made; returns why somebody could not be erased, by their ids."""
        # Erasures read and delete in many tables, so they take most of the time of a run.
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            outcomes = threads.map(self._erase_or_tell, list(self.made))
            return {user_id: problem for user_id, problem in outcomes if problem}

    def _erase_or_tell(self, user_id: int) -> tuple[int, str]:
        try:
            self._erase(user_id)
        except AppException as error:
            return user_id, sentence(error)
        self.made.remove(user_id)
        return user_id, ""

    def _erase(self, user_id: int) -> None:
        """Erase somebody, first from the graph, which hides them from all others at once."""
        self._kith.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=user_id), timeout=_SECONDS)
        self._kith.feed.DeleteUser(feed_pb2.DeleteUserRequest(user_id=user_id), timeout=_SECONDS)

    def _require_erasure(self) -> None:
        """Erase somebody who was never there, before anything is made."""
        try:
            self._erase(self._next)
        except AppException as error:
            if not is_withheld(error):
                raise
            raise NotTriedError(
                f"nobody is made who cannot be erased by DeleteUser: {sentence(error)}"
            ) from error
        self._next += 1
        self._can_erase = True
