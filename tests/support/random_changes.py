"""Random changes by a few people, through the API: everything that decides who sees what."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from kith.exceptions import InternalError, from_rpc_error
from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2 as graph
from tests.support.people import ALL, PRIVATE, People, all_without, tagged
from tests.support.rpcs import Stubs


@contextmanager
def may_be_refused() -> Iterator[None]:
    """Let calls be refused. Refusals are part of life; an internal error is none."""
    try:
        yield
    except grpc.RpcError as error:
        if isinstance(from_rpc_error(error), InternalError):
            raise


@dataclass
class RandomChanges:
    """Makes one change after the other. For one thread; several may have the same people."""

    stubs: Stubs
    ids: list[int]
    pick: random.Random
    posts: list[pb.PostName] = field(default_factory=list)
    comments: list[pb.CommentName] = field(default_factory=list)
    tags: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Note what changes there are, the frequent ones several times."""
        self._people = People(self.stubs)
        self._changes: list[Callable[[], None]] = [
            *[self._post] * 6,
            *[self._comment] * 4,
            *[self._give] * 5,
            *[self._connect] * 3,
            self._remove,
            self._remove_and_connect,
            self._block,
            self._request,
            self._suspend,
            self._restore,
            self._erase,
            self._take,
            self._mute,
            self._renew_tag,
            self._change_audience,
            self._delete_post,
            self._moderate,
            self._hide_comment,
            self._delete_comment,
        ]

    def begin(self) -> None:
        """Connect most of the people, with two tags, a post and a comment for each."""
        for user_id in self.ids:
            others = [other for other in self.ids if other > user_id and self.pick.random() < 0.8]
            if others:
                self._people.connect(user_id, *others)
            self.tags += [(user_id, self._people.tag(user_id, name)) for name in ("one", "two")]
            self._post_by(user_id)
            post = self.posts[-1]
            comment = self.stubs.feed.CreateComment(
                pb.CreateCommentRequest(user_id=post.author_id, post=post, body="hello")
            ).comment
            self.comments.append(pb.CommentName(post=post, comment_id=comment.comment_id))

    def change(self, number: int = 1) -> None:
        """Make changes."""
        for _ in range(number):
            with may_be_refused():
                self.pick.choice(self._changes)()

    def publish(self, number: int) -> None:
        """Publish posts by anybody, for any audience."""
        for _ in range(number):
            with may_be_refused():
                self._post()

    def _two(self) -> tuple[int, int]:
        one, other = self.pick.sample(self.ids, 2)
        return one, other

    def _connect(self) -> None:
        self._people.connect(*self._two())

    def _remove(self) -> None:
        self._people.remove(*self._two())

    def _remove_and_connect(self) -> None:
        two = self._two()
        self._people.remove(*two)
        self._people.connect(*two)

    def _block(self) -> None:
        two = self._two()
        self._people.block(*two)
        if self.pick.random() < 0.7:
            self._people.unblock(*two)

    def _request(self) -> None:
        user_id, peer_id = self._two()
        self.stubs.graph.RequestConnection(
            graph.RequestConnectionRequest(user_id=user_id, peer_id=peer_id)
        )

    def _suspend(self) -> None:
        user_id = self.pick.choice(self.ids)
        self._people.suspend(user_id)
        if self.pick.random() < 0.8:
            self._people.restore(user_id)

    def _restore(self) -> None:
        self._people.restore(self.pick.choice(self.ids))

    def _erase(self) -> None:
        # Rarely, for what a person has made is gone then.
        if self.pick.random() > 0.05:
            return
        user_id = self.pick.choice(self.ids)
        if self.pick.random() < 0.5:
            self.stubs.feed.DeleteUser(pb.DeleteUserRequest(user_id=user_id))
        self.stubs.graph.DeleteUser(graph.DeleteUserRequest(user_id=user_id))

    def _give(self) -> None:
        owner_id, tag_id = self.pick.choice(self.tags)
        self._people.give(owner_id, tag_id, self._other(owner_id))

    def _take(self) -> None:
        owner_id, tag_id = self.pick.choice(self.tags)
        self._people.take(owner_id, tag_id, self._other(owner_id))

    def _mute(self) -> None:
        owner_id, tag_id = self.pick.choice(self.tags)
        self.stubs.feed.UpdateTag(
            pb.UpdateTagRequest(
                user_id=owner_id,
                tag=pb.Tag(tag_id=tag_id, muted=self.pick.random() < 0.3),
                update_mask=FieldMask(paths=["muted"]),
            )
        )

    def _renew_tag(self) -> None:
        position = self.pick.randrange(len(self.tags))
        owner_id, tag_id = self.tags[position]
        self.stubs.feed.DeleteTag(pb.DeleteTagRequest(user_id=owner_id, tag_id=tag_id))
        name = f"tag {self.pick.random()}"
        self.tags[position] = (owner_id, self._people.tag(owner_id, name))

    def _post(self) -> None:
        self._post_by(self.pick.choice(self.ids))

    def _post_by(self, author_id: int) -> None:
        post_id = self._people.post(author_id, self.audience(author_id))
        self.posts.append(pb.PostName(author_id=author_id, post_id=post_id))

    def _change_audience(self) -> None:
        post = self.pick.choice(self.posts)
        self.stubs.feed.UpdatePost(
            pb.UpdatePostRequest(
                user_id=post.author_id,
                post=pb.Post(post_id=post.post_id, audience=self.audience(post.author_id)),
                update_mask=FieldMask(paths=["audience"]),
            )
        )

    def _delete_post(self) -> None:
        post = self.pick.choice(self.posts)
        name: Any = {"user_id": post.author_id, "post_id": post.post_id}
        self.stubs.feed.DeletePost(pb.DeletePostRequest(**name))
        if self.pick.random() < 0.5:
            self.stubs.feed.UndeletePost(pb.UndeletePostRequest(**name))

    def _moderate(self) -> None:
        post = self.pick.choice(self.posts)
        comment_id = 0
        if self.comments and self.pick.random() < 0.5:
            comment = self.pick.choice(self.comments)
            post, comment_id = comment.post, comment.comment_id
        is_hidden = self.pick.random() < 0.5
        self.stubs.feed.SetModeration(
            pb.SetModerationRequest(
                post=post,
                comment_id=comment_id,
                reason="rude" if is_hidden else "",
                state=pb.MODERATION_STATE_HIDDEN if is_hidden else pb.MODERATION_STATE_VISIBLE,
            )
        )

    def _comment(self) -> None:
        on_same = [each for each in self.comments if self.pick.random() < 0.3]
        parent = self.pick.choice(on_same) if on_same and self.pick.random() < 0.5 else None
        post = self.pick.choice(self.posts) if parent is None else parent.post
        created = self.stubs.feed.CreateComment(
            pb.CreateCommentRequest(
                user_id=self.pick.choice(self.ids),
                post=post,
                body="hello",
                parent_comment_id=0 if parent is None else parent.comment_id,
            )
        ).comment
        self.comments.append(pb.CommentName(post=post, comment_id=created.comment_id))

    def _hide_comment(self) -> None:
        comment = self.pick.choice(self.comments)
        post = comment.post
        name: Any = {
            "user_id": post.author_id,
            "post_id": post.post_id,
            "comment_id": comment.comment_id,
        }
        self.stubs.feed.HideComment(pb.HideCommentRequest(**name))
        if self.pick.random() < 0.5:
            self.stubs.feed.UnhideComment(pb.UnhideCommentRequest(**name))

    def _delete_comment(self) -> None:
        comment = self.pick.choice(self.comments)
        self.stubs.feed.DeleteComment(
            pb.DeleteCommentRequest(
                user_id=comment.post.author_id, post=comment.post, comment_id=comment.comment_id
            )
        )

    def _other(self, user_id: int) -> int:
        return self.pick.choice([each for each in self.ids if each != user_id])

    def audience(self, author_id: int) -> pb.Audience:
        """Return any audience of an author, by the author's own tags."""
        own = [tag_id for owner_id, tag_id in self.tags if owner_id == author_id]
        return self.pick.choice(
            [ALL, ALL, PRIVATE, tagged(own[0]), tagged(*own), tagged(own[0], without=(own[1],)),
             all_without(own[0])]
        )  # fmt: skip
