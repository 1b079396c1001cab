"""The calls that are replayed: what feed_service answers a viewer, as sets of items.

They change nothing. Of digests only the week that is not over is asked for, because reading one of
a week that is over freezes it.
"""

import random
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import grpc

from feed_service.auditor.items import Item
from kith.exceptions import AppException, from_rpc_error
from kith.feed.v1 import feed_pb2 as pb
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.positions import KEY
from shared.logs import REQUEST_ID

_SECONDS: Final = 10
_PAGE: Final = 50
_MOST_AT_ONCE: Final = 100
_CLAUSE: Final = "VISIBILITY_CLAUSE_"
_HIDDEN: Final = frozenset({"POST_NOT_FOUND", "COMMENT_NOT_FOUND"})


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a viewer is answered about some items.

    With a `position` a replica may answer, of a state that is not older. `since` is when the posts
    of the items were created.
    """

    viewer_id: int
    items: Collection[Item]
    since: Mapping[Item, datetime]
    position: str

    @property
    def posts(self) -> list[Item]:
        """The posts among the items."""
        return [item for item in self.items if not item.comment_id]

    @property
    def comments(self) -> list[Item]:
        """The comments among the items."""
        return [item for item in self.items if item.comment_id]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was shown, of what was asked.

    Of the items `asked`, all that the viewer sees must be shown. `clauses` are those that were told
    as the reason. A feed `leaves_out_muted` people.
    """

    request_id: str
    shown: frozenset[Item]
    asked: frozenset[Item]
    clauses: Mapping[Item, str] = field(default_factory=dict)
    leaves_out_muted: bool = False


class Replay(Protocol):
    """One call."""

    def __call__(self, question: Question) -> Answer:
        """Make it; raises AppException if it is not answered."""


class Replays:
    """Makes the calls. `pick` chooses where one call can be about one item only."""

    def __init__(self, stub: FeedServiceStub, *, pick: random.Random) -> None:
        self._stub = stub
        self._pick = pick
        self.by_call: Final[Mapping[str, Replay]] = {
            "CheckVisibility": self._check_visibility,
            "BatchGetPosts": self._batch_get_posts,
            "GetPost": self._get_post,
            "GetFeed": self._get_feed,
            "ListPosts": self._list_posts,
            "GetDigest": self._get_digest,
            "BatchGetComments": self._batch_get_comments,
            "ListComments": self._list_comments,
            "ExplainVisibility": self._explain_visibility,
        }

    def _check_visibility(self, question: Question) -> Answer:
        checks = list(question.items)
        if not checks:
            return _nothing()
        request = pb.CheckVisibilityRequest(
            checks=[
                pb.CheckVisibilityRequest.VisibilityCheck(
                    viewer_id=question.viewer_id, post=_name(item), comment_id=item.comment_id
                )
                for item in checks
            ]
        )
        request_id, response = self._call(self._stub.CheckVisibility, request, question)
        shown = (item for item, is_shown in zip(checks, response.visible, strict=True) if is_shown)
        return Answer(request_id=request_id, shown=frozenset(shown), asked=frozenset(checks))

    def _batch_get_posts(self, question: Question) -> Answer:
        asked = question.posts[:_MOST_AT_ONCE]
        if not asked:
            return _nothing()
        request = pb.BatchGetPostsRequest(
            user_id=question.viewer_id, posts=[_name(item) for item in asked]
        )
        request_id, response = self._call(self._stub.BatchGetPosts, request, question)
        return Answer(request_id=request_id, shown=_items(response.posts), asked=frozenset(asked))

    def _get_post(self, question: Question) -> Answer:
        if not question.posts:
            return _nothing()
        item = self._pick.choice(question.posts)
        request = pb.GetPostRequest(
            user_id=question.viewer_id, author_id=item.author_id, post_id=item.post_id
        )
        request_id, response = self._call(self._stub.GetPost, request, question)
        shown = _items([] if response is None else [response.post])
        return Answer(request_id=request_id, shown=shown, asked=frozenset({item}))

    def _get_feed(self, question: Question) -> Answer:
        request = pb.GetFeedRequest(user_id=question.viewer_id, page_size=_PAGE)
        request_id, response = self._call(self._stub.GetFeed, request, question)
        if response.stale:
            return _nothing()
        return Answer(
            request_id=request_id,
            shown=_items(response.posts),
            asked=_down_to_the_end(response, question),
            leaves_out_muted=True,
        )

    def _list_posts(self, question: Question) -> Answer:
        if not question.posts:
            return _nothing()
        author_id = self._pick.choice(question.posts).author_id
        request = pb.ListPostsRequest(
            user_id=question.viewer_id, author_id=author_id, page_size=_PAGE
        )
        request_id, response = self._call(self._stub.ListPosts, request, question)
        asked = _down_to_the_end(response, question)
        return Answer(
            request_id=request_id,
            shown=_items(response.posts),
            asked=frozenset(item for item in asked if item.author_id == author_id),
        )

    def _get_digest(self, question: Question) -> Answer:
        request = pb.GetDigestRequest(user_id=question.viewer_id, include_own_posts=True)
        request_id, response = self._call(self._stub.GetDigest, request, question)
        shown = _items([] if response.stale else [each.post for each in response.items])
        # Which of the visible posts a digest has to have is not a question of who sees them.
        return Answer(request_id=request_id, shown=shown, asked=frozenset(), leaves_out_muted=True)

    def _batch_get_comments(self, question: Question) -> Answer:
        asked = question.comments[:_MOST_AT_ONCE]
        if not asked:
            return _nothing()
        request = pb.BatchGetCommentsRequest(
            user_id=question.viewer_id,
            comments=[
                pb.CommentName(post=_name(item), comment_id=item.comment_id) for item in asked
            ],
        )
        request_id, response = self._call(self._stub.BatchGetComments, request, question)
        return Answer(
            request_id=request_id, shown=_comments(response.comments), asked=frozenset(asked)
        )

    def _list_comments(self, question: Question) -> Answer:
        if not question.comments:
            return _nothing()
        post = self._pick.choice(question.comments).post
        request = pb.ListCommentsRequest(
            user_id=question.viewer_id, post=_name(post), page_size=_PAGE
        )
        request_id, response = self._call(self._stub.ListComments, request, question)
        shown = _comments(response.comments if response is not None else [])
        return Answer(request_id=request_id, shown=shown, asked=frozenset())

    def _explain_visibility(self, question: Question) -> Answer:
        others = [item for item in question.posts if item.author_id != question.viewer_id]
        if not others:
            return _nothing()
        item = self._pick.choice(others)
        request = pb.ExplainVisibilityRequest(
            user_id=item.author_id, post_id=item.post_id, viewer_id=question.viewer_id
        )
        request_id, response = self._call(self._stub.ExplainVisibility, request, question)
        if response is None:
            return _nothing()
        clause = pb.VisibilityClause.Name(response.clause).removeprefix(_CLAUSE)
        return Answer(
            request_id=request_id,
            shown=frozenset({item} if response.visible else ()),
            asked=frozenset({item}),
            clauses={item: clause},
        )

    def _call(
        self, call: Callable[..., Any], request: object, question: Question
    ) -> tuple[str, Any]:
        """Return a request id and the answer, None if it is that there is no such thing."""
        request_id = f"audit-{uuid.uuid4()}"
        metadata = [(REQUEST_ID, request_id)]
        if question.position:
            metadata.append((KEY, question.position))
        try:
            return request_id, call(request, timeout=_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            refused: AppException = from_rpc_error(error)
            if refused.reason_name in _HIDDEN:
                return request_id, None
            raise refused from error


def _nothing() -> Answer:
    return Answer(request_id="", shown=frozenset(), asked=frozenset())


def _down_to_the_end(response: Any, question: Question) -> frozenset[Item]:
    """Return the posts that are on a page if they are in the list: those above its end."""
    if not response.next_page_token:
        return frozenset(question.posts)
    if not response.posts:
        return frozenset()
    last = response.posts[-1]
    end = (last.create_time.ToDatetime(UTC), last.post_id)
    return frozenset(
        item
        for item in question.posts
        if item in question.since and (question.since[item], item.post_id) > end
    )


def _name(item: Item) -> pb.PostName:
    return pb.PostName(author_id=item.author_id, post_id=item.post_id)


def _items(posts: Sequence[Any]) -> frozenset[Item]:
    return frozenset(Item(post.author_id, post.post_id) for post in posts)


def _comments(comments: Sequence[Any]) -> frozenset[Item]:
    return frozenset(
        Item(comment.post.author_id, comment.post.post_id, comment.comment_id)
        for comment in comments
    )
