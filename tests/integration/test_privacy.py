"""What docs/privacy.md says of every call that users can make is so.

A user calls about three people: a stranger, one who blocks the user, and one that the user blocks.
Then the three do what the user must not learn of, and the user calls again.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.errors import decoded, reason_of
from tests.support.over_http import exposed
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, People
from tests.support.rpcs import RPCS, Rpc

_TABLE: Final = Path(__file__).parents[2] / "docs" / "privacy.md"
_ROW: Final = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
_REASON: Final = re.compile(r"`([A-Z_]+)`")
_ID_FIELD: Final = re.compile(r"(post|comment|)\w*?ids?", re.IGNORECASE)
_PHOTOS: Final = {
    "S3_BUCKET": "photos",
    "S3_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
}
_ABSENT: Final = 1 << 50
# What a call tells of itself, or of everybody who has commented.
_OF_THE_CALL: Final = {"createTime", "commentCount", "refreshToken"}
_numbers = count()


@dataclass(frozen=True, kw_only=True)
class World:
    """The user, a friend of theirs with a post, and three people without a connection to them."""

    people: People
    me: int
    friend: int
    post: feed.PostName
    own_post: int
    own_tag: int
    stranger: int
    blocker: int
    blocked: int
    posts: Mapping[int, int]
    comments: dict[int, int] = field(default_factory=dict)

    def post_of(self, other: int) -> feed.PostName:
        """Return the name of a post by one of the three."""
        return feed.PostName(author_id=other, post_id=self.posts[other])

    def comment_of(self, other: int) -> int:
        """Return the id of their comment on the friend's post, or of none."""
        return self.comments.get(other, _ABSENT)


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """Services that sign uploads of photos, which takes no object store."""
    with running_pair(databases, _PHOTOS) as running:
        yield running


@pytest.fixture
def world(pair: Pair) -> World:
    """People of this test alone."""
    people = People(pair)
    me, friend = people.connected(2)
    others = people.new(3)
    stranger, blocker, blocked = others
    people.block(blocker, me)
    people.block(me, blocked)
    return World(
        people=people,
        me=me,
        friend=friend,
        post=feed.PostName(author_id=friend, post_id=people.post(friend)),
        own_post=people.post(me),
        own_tag=people.tag(me, "family", friend),
        stranger=stranger,
        blocker=blocker,
        blocked=blocked,
        posts={other: people.post(other) for other in others},
    )


def _live(pair: Pair, world: World) -> None:
    """Let the three do what the user must not learn of."""
    people = world.people
    for other in (world.stranger, world.blocker, world.blocked):
        [companion] = people.new(1)
        people.connect(other, companion)
        people.tag(other, "friends", companion)
        people.post(other)
        people.block(other, *people.new(1))
    for enemy in (world.blocker, world.blocked):
        people.connect(enemy, world.friend)
        request = feed.CreateCommentRequest(user_id=enemy, post=world.post, body="about you")
        world.comments[enemy] = pair.feed.CreateComment(request).comment.comment_id
    pair.graph.RequestConnection(
        graph.RequestConnectionRequest(user_id=world.blocked, peer_id=world.me)
    )


_CALLS: Final[Mapping[str, Callable[[World, int], Message]]] = {
    "CheckConnections": lambda w, o: graph.CheckConnectionsRequest(user_id=w.me, peer_ids=[o]),
    "GetConnection": lambda w, o: graph.GetConnectionRequest(user_id=w.me, peer_id=o),
    "ListConnections": lambda w, _: graph.ListConnectionsRequest(user_id=w.me),
    "ListConnectionRequests": lambda w, _: graph.ListConnectionRequestsRequest(
        user_id=w.me, direction=graph.REQUEST_DIRECTION_INCOMING
    ),
    "ListBlockedUsers": lambda w, _: graph.ListBlockedUsersRequest(user_id=w.me),
    "ListMutualConnections": lambda w, o: graph.ListMutualConnectionsRequest(
        user_id=w.me, peer_id=o
    ),
    "CountConnections": lambda w, o: graph.CountConnectionsRequest(user_id=w.me, user_ids=[o]),
    "SuggestConnections": lambda w, _: graph.SuggestConnectionsRequest(user_id=w.me),
    "RequestConnection": lambda w, o: graph.RequestConnectionRequest(user_id=w.me, peer_id=o),
    "AcceptConnection": lambda w, o: graph.AcceptConnectionRequest(user_id=w.me, peer_id=o),
    "DeclineConnection": lambda w, o: graph.DeclineConnectionRequest(user_id=w.me, peer_id=o),
    "CancelConnectionRequest": lambda w, o: graph.CancelConnectionRequestRequest(
        user_id=w.me, peer_id=o
    ),
    "RemoveConnection": lambda w, o: graph.RemoveConnectionRequest(user_id=w.me, peer_id=o),
    "BlockUser": lambda w, o: graph.BlockUserRequest(user_id=w.me, peer_id=o),
    "UnblockUser": lambda w, o: graph.UnblockUserRequest(user_id=w.me, peer_id=o),
    "GetFeed": lambda w, o: feed.GetFeedRequest(user_id=w.me, author_ids=[w.me, w.friend, o]),
    "GetDigest": lambda w, _: feed.GetDigestRequest(user_id=w.me, include_own_posts=True),
    "CreatePost": lambda w, _: feed.CreatePostRequest(user_id=w.me, body="new", audience=ALL),
    "GetPost": lambda w, o: feed.GetPostRequest(user_id=w.me, author_id=o, post_id=w.posts[o]),
    "BatchGetPosts": lambda w, o: feed.BatchGetPostsRequest(
        user_id=w.me, posts=[w.post, w.post_of(o)]
    ),
    "ListPosts": lambda w, o: feed.ListPostsRequest(user_id=w.me, author_id=o),
    "UpdatePost": lambda w, _: feed.UpdatePostRequest(
        user_id=w.me,
        post=feed.Post(post_id=w.own_post, body="changed"),
        update_mask=FieldMask(paths=["body"]),
    ),
    "DeletePost": lambda w, _: feed.DeletePostRequest(user_id=w.me, post_id=w.own_post),
    "UndeletePost": lambda w, _: feed.UndeletePostRequest(user_id=w.me, post_id=w.own_post),
    "ListDeletedPosts": lambda w, _: feed.ListDeletedPostsRequest(user_id=w.me),
    "CreatePhotoUploads": lambda w, _: feed.CreatePhotoUploadsRequest(
        user_id=w.me,
        photos=[
            feed.CreatePhotoUploadsRequest.PhotoUploadDraft(
                content_type=feed.PHOTO_CONTENT_TYPE_PNG
            )
        ],
    ),
    "CreateTag": lambda w, o: feed.CreateTagRequest(user_id=w.me, name=f"tag {o}"),
    "ListTags": lambda w, _: feed.ListTagsRequest(user_id=w.me),
    "UpdateTag": lambda w, o: feed.UpdateTagRequest(
        user_id=w.me,
        tag=feed.Tag(tag_id=w.own_tag, name=f"tag {o}"),
        update_mask=FieldMask(paths=["name"]),
    ),
    "DeleteTag": lambda w, _: feed.DeleteTagRequest(
        user_id=w.me, tag_id=w.people.tag(w.me, f"tag {next(_numbers)}")
    ),
    "AddTagMembers": lambda w, o: feed.AddTagMembersRequest(
        user_id=w.me, tag_id=w.own_tag, target_user_ids=[o]
    ),
    "RemoveTagMembers": lambda w, o: feed.RemoveTagMembersRequest(
        user_id=w.me, tag_id=w.own_tag, target_user_ids=[o]
    ),
    "ListTagMembers": lambda w, _: feed.ListTagMembersRequest(user_id=w.me, tag_id=w.own_tag),
    "ListUserTags": lambda w, o: feed.ListUserTagsRequest(user_id=w.me, target_user_id=o),
    "CreateComment": lambda w, o: feed.CreateCommentRequest(
        user_id=w.me, post=w.post_of(o), body="hello"
    ),
    "GetComment": lambda w, o: feed.GetCommentRequest(
        user_id=w.me, post=w.post, comment_id=w.comment_of(o)
    ),
    "BatchGetComments": lambda w, o: feed.BatchGetCommentsRequest(
        user_id=w.me, comments=[feed.CommentName(post=w.post, comment_id=w.comment_of(o))]
    ),
    "ListComments": lambda w, _: feed.ListCommentsRequest(user_id=w.me, post=w.post),
    "ListOwnComments": lambda w, _: feed.ListOwnCommentsRequest(user_id=w.me),
    "UpdateComment": lambda w, o: feed.UpdateCommentRequest(
        user_id=w.me,
        comment=feed.Comment(post=w.post, comment_id=w.comment_of(o), body="changed"),
        update_mask=FieldMask(paths=["body"]),
    ),
    "DeleteComment": lambda w, o: feed.DeleteCommentRequest(
        user_id=w.me, post=w.post, comment_id=w.comment_of(o)
    ),
    "HideComment": lambda w, o: feed.HideCommentRequest(
        user_id=w.me, post_id=w.own_post, comment_id=w.comment_of(o)
    ),
    "UnhideComment": lambda w, o: feed.UnhideCommentRequest(
        user_id=w.me, post_id=w.own_post, comment_id=w.comment_of(o)
    ),
    "ExplainVisibility": lambda w, o: feed.ExplainVisibilityRequest(
        user_id=w.me, post_id=w.own_post, viewer_id=o
    ),
    "PreviewAudience": lambda w, _: feed.PreviewAudienceRequest(user_id=w.me, audience=ALL),
    "MarkFeedRead": lambda w, o: feed.MarkFeedReadRequest(user_id=w.me, post=w.post_of(o)),
    "CountUnreadPosts": lambda w, _: feed.CountUnreadPostsRequest(user_id=w.me),
    "SetDigestSubscription": lambda w, _: feed.SetDigestSubscriptionRequest(user_id=w.me),
    "GetDigestSubscription": lambda w, _: feed.GetDigestSubscriptionRequest(user_id=w.me),
    "DeleteDigestSubscription": lambda w, _: feed.DeleteDigestSubscriptionRequest(user_id=w.me),
}
# They change something of the user's own and name no other user: each time another answer.
_OWN: Final = {
    "CreatePost",
    "CreatePhotoUploads",
    "CreateTag",
    "DeletePost",
    "DeleteTag",
    "UndeletePost",
    "UpdatePost",
    "UpdateTag",
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a call has told: why it was refused, or nothing, and everything that it has answered."""

    reason: str
    answer: object


def _told(pair: Pair, rpc: Rpc, world: World, other: int) -> Told:
    call = getattr(pair.graph if rpc.service == "graph" else pair.feed, rpc.name)
    named = {
        "comment": (world.comment_of(other), "their comment"),
        "post": (world.posts[other], "their post"),
        "": (other, "the other"),
    }
    try:
        answer = call(_CALLS[rpc.name](world, other))
    except grpc.RpcError as error:
        refused = decoded(error)
        told = [type(refused).__name__, refused.message, dict(refused.metadata)]
        return Told(reason=reason_of(error), answer=_without_ids(told, named))
    return Told(reason="", answer=_without_ids(MessageToDict(answer), named))


def _without_ids(told: Any, named: Mapping[str, tuple[int, str]], field: str = "") -> object:
    """Return what was told, with names for the ids of the other, their post and their comment.

    Which of them an id can be, its field says: a post and a comment may have the same id.
    """
    if isinstance(told, dict):
        return {
            name: _without_ids(value, named, name)
            for name, value in told.items()
            if name not in _OF_THE_CALL
        }
    if isinstance(told, list):
        return [_without_ids(value, named, field) for value in told]
    ids = _ID_FIELD.fullmatch(field)
    id_, name = named[ids[1].lower()] if ids else (None, "")
    return name if str(told) == str(id_) else told


def _rows() -> dict[str, tuple[str, str, str]]:
    return {
        call: (first, second, third)
        for call, first, second, third in _ROW.findall(_TABLE.read_text())
    }


def _expected(cell: str) -> str:
    """Return the reason for which a cell says that the call is refused, or nothing."""
    found = _REASON.match(cell)
    return found[1] if found else ""


def test_the_table_has_a_row_for_every_call_that_users_can_make() -> None:
    calls = [call for call, *_ in _ROW.findall(_TABLE.read_text())]

    assert calls == [rpc.name for rpc in exposed()]
    assert {second.split(",")[0] for _, second, _ in _rows().values()} == {"the same", "nothing"}


@pytest.mark.parametrize("rpc", [rpc for rpc in exposed() if rpc.name not in _OWN], ids=str)
def test_a_call_tells_of_others_what_the_table_says_whatever_they_have_done(
    pair: Pair, world: World, rpc: Rpc
) -> None:
    stranger, _, blocked = _rows()[rpc.name]
    others = [world.stranger, world.blocker, world.blocked]

    before = [_told(pair, rpc, world, other) for other in others]
    if rpc.name == "UnblockUser":
        # A request by a user who is not blocked any more may be seen.
        world.people.block(world.me, world.blocked)
    _live(pair, world)
    after = [_told(pair, rpc, world, other) for other in others]

    assert after == before
    assert before[0] == before[1]
    reasons = [_expected(cell) for cell in (stranger, stranger, blocked)]
    assert [one.reason for one in before] == reasons


@pytest.mark.parametrize("rpc", [rpc for rpc in exposed() if rpc.name in _OWN], ids=str)
def test_a_change_of_ones_own_tells_of_nobody_else(pair: Pair, world: World, rpc: Rpc) -> None:
    _live(pair, world)

    told = _told(pair, rpc, world, world.blocker)

    assert told.reason == ""
    assert not re.search("the other|their", str(told.answer))
    assert set(_rows()[rpc.name]) == {"nothing", "the same"}


_EXPORTS: Final = [rpc for rpc in RPCS if rpc.name == "ExportUser"]


@pytest.mark.parametrize("rpc", _EXPORTS, ids=str)
def test_an_export_tells_of_others_only_what_the_user_did_whatever_they_have_done(
    pair: Pair, world: World, rpc: Rpc
) -> None:
    def exported() -> list[Any]:
        request = rpc.request()
        request.user_id = world.me
        stub = pair.graph if rpc.service == "graph" else pair.feed
        return [MessageToDict(message) for message in stub.ExportUser(request)]

    before = exported()
    _live(pair, world)

    assert exported() == before != []
    assert str(world.blocker) not in str(before)


@pytest.mark.parametrize("rpc", [rpc for rpc in exposed() if rpc.name not in _OWN], ids=str)
def test_a_suspended_connection_looks_like_a_stranger_who_cannot_be_asked(
    pair: Pair, world: World, rpc: Rpc
) -> None:
    people = world.people
    [bob] = people.new(1)
    people.connect(bob, world.me, world.friend)
    request = feed.CreateCommentRequest(user_id=bob, post=world.post, body="hello")
    world.comments[bob] = pair.feed.CreateComment(request).comment.comment_id
    known = replace(world, posts={**world.posts, bob: people.post(bob)})
    people.suspend(bob)

    told, of_stranger = (_told(pair, rpc, known, other) for other in (bob, world.stranger))

    if rpc.name == "RequestConnection":
        assert told.reason == "CONNECTION_NOT_ALLOWED"
    else:
        assert told == of_stranger
