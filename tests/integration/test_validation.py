"""Bad input gets an INVALID_ARGUMENT that names its fields, and leaves no row behind."""

import uuid
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.errors import decoded, fields_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, PRIVATE, People, tagged
from tests.support.rows import row_counts

_FOREIGN = "a tag of somebody else"


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """A pair in which nothing that another file has done is finished while rows are counted."""
    with running_pair(databases) as running:
        yield running


def _draft(**changes: object) -> feed.CreatePostRequest:
    draft = {"user_id": 7, "body": "hello", "audience": ALL, **changes}
    return feed.CreatePostRequest(**draft)  # type: ignore[arg-type]  # each case sets its own


_BAD_POSTS = {
    "a body that is too long": (_draft(body="x" * 10_001), ["body"]),
    "an empty body": (_draft(body=""), ["body"]),
    "a body of white space": (_draft(body=" \n\t\u2003"), ["body"]),
    "a control character": (_draft(body="a\x00b"), ["body"]),
    "no user": (_draft(user_id=0), ["user_id"]),
    "a negative user": (_draft(user_id=-1), ["user_id"]),
    "no audience": (_draft(audience=None), ["audience.kind"]),
    "an unknown audience": (_draft(audience=feed.Audience(kind=99)), ["audience.kind"]),  # type: ignore[arg-type]  # what an old client might send
    "tags without a tag": (_draft(audience=tagged()), ["audience.tag_ids"]),
    "an unknown tag": (_draft(audience=tagged(999_999)), ["audience.tag_ids[0]"]),
    "a tag twice": (_draft(audience=tagged(5, 5)), ["audience.tag_ids[1]"]),
    "a zero tag": (_draft(audience=tagged(0)), ["audience.tag_ids[0]"]),
    "tags for all": (
        _draft(audience=feed.Audience(kind=feed.AUDIENCE_KIND_ALL, tag_ids=[5])),
        ["audience.tag_ids"],
    ),
    "exclusions from a private post": (
        _draft(audience=feed.Audience(kind=feed.AUDIENCE_KIND_PRIVATE, excluded_tag_ids=[5])),
        ["audience.excluded_tag_ids"],
    ),
    "a tag that is included and excluded": (
        _draft(audience=tagged(5, without=(5,))),
        ["audience.excluded_tag_ids[0]"],
    ),
    "too many tags": (_draft(audience=tagged(*range(1, 52))), ["audience.tag_ids"]),
    "a request id that is no UUID": (_draft(request_id="again"), ["request_id"]),
    "attributes that are too long": (_draft(attributes={"a": "é" * 2_048}), ["attributes"]),
    "an attribute without a name": (_draft(attributes={"": "a"}), ["attributes"]),
    "a control character in an attribute": (_draft(attributes={"a": "\0"}), ["attributes"]),
    "several faults at once": (_draft(user_id=0, body=""), ["user_id", "body"]),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("fault", _BAD_POSTS)
def test_a_bad_draft_is_refused_by_the_names_of_its_fields(pair: Pair, fault: str) -> None:
    request, fields = _BAD_POSTS[fault]

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreatePost(request)

    assert fields_of(caught) == fields


@pytest.mark.parametrize("list_name", ["tag_ids", "excluded_tag_ids"])
def test_a_tag_of_somebody_else_is_refused_like_one_that_does_not_exist(
    pair: Pair, people: People, list_name: str
) -> None:
    author, other = people.new(2)
    own, foreign = people.tag(author, "own"), people.tag(other, _FOREIGN)
    audience = tagged(own)
    getattr(audience, list_name).append(foreign)
    before = row_counts(pair)

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreatePost(_draft(user_id=author, audience=audience))

    index = 1 if list_name == "tag_ids" else 0
    assert fields_of(caught) == [f"audience.{list_name}[{index}]"]
    assert _FOREIGN not in str(decoded(caught.value))
    assert row_counts(pair) == before


_Call = Callable[[Pair], object]
_POST = feed.PostName(author_id=7, post_id=1)


def _comment(**changes: object) -> feed.CreateCommentRequest:
    return feed.CreateCommentRequest(**{"user_id": 7, "post": _POST, "body": "x", **changes})  # type: ignore[arg-type]  # each case sets its own


_BAD_CALLS: dict[str, tuple[_Call, list[str]]] = {
    "GetFeed of nobody": (lambda p: p.feed.GetFeed(feed.GetFeedRequest()), ["user_id"]),
    "GetFeed of a negative page size": (
        lambda p: p.feed.GetFeed(feed.GetFeedRequest(user_id=7, page_size=-1)),
        ["page_size"],
    ),
    "GetFeed of a tag twice": (
        lambda p: p.feed.GetFeed(feed.GetFeedRequest(user_id=7, tag_ids=[1, 1])),
        ["tag_ids[1]"],
    ),
    "GetPost without ids": (
        lambda p: p.feed.GetPost(feed.GetPostRequest()),
        ["user_id", "author_id", "post_id"],
    ),
    "DeletePost of a negative id": (
        lambda p: p.feed.DeletePost(feed.DeletePostRequest(user_id=7, post_id=-5)),
        ["post_id"],
    ),
    "CreateTag without a name": (
        lambda p: p.feed.CreateTag(feed.CreateTagRequest(user_id=7)),
        ["name"],
    ),
    "CreateTag with white space around the name": (
        lambda p: p.feed.CreateTag(feed.CreateTagRequest(user_id=7, name=" family")),
        ["name"],
    ),
    "CreateTag with a long name": (
        lambda p: p.feed.CreateTag(feed.CreateTagRequest(user_id=7, name="x" * 51)),
        ["name"],
    ),
    "UpdateTag without a mask and a value": (
        lambda p: p.feed.UpdateTag(
            feed.UpdateTagRequest(user_id=7, tag=feed.Tag(tag_id=1, etag='"1"'))
        ),
        ["update_mask"],
    ),
    "UpdateTag of what cannot be updated": (
        lambda p: p.feed.UpdateTag(
            feed.UpdateTagRequest(
                user_id=7,
                tag=feed.Tag(tag_id=1, name="x"),
                update_mask=FieldMask(paths=["create_time"]),
            )
        ),
        ["update_mask"],
    ),
    "AddTagMembers of nobody": (
        lambda p: p.feed.AddTagMembers(feed.AddTagMembersRequest(user_id=7, tag_id=1)),
        ["target_user_ids"],
    ),
    "AddTagMembers of oneself": (
        lambda p: p.feed.AddTagMembers(
            feed.AddTagMembersRequest(user_id=7, tag_id=1, target_user_ids=[7])
        ),
        ["target_user_ids[0]"],
    ),
    "AddTagMembers of too many": (
        lambda p: p.feed.AddTagMembers(
            feed.AddTagMembersRequest(user_id=7, tag_id=1, target_user_ids=range(10, 1_011))
        ),
        ["target_user_ids"],
    ),
    "GetConnectedUserIds of nobody": (
        lambda p: p.graph.GetConnectedUserIds(graph.GetConnectedUserIdsRequest()),
        ["users"],
    ),
    "GetConnectedUserIds of one user twice": (
        lambda p: p.graph.GetConnectedUserIds(
            graph.GetConnectedUserIdsRequest(
                users=[graph.GetConnectedUserIdsRequest.UserQuery(user_id=7)] * 2
            )
        ),
        ["users[1]"],
    ),
    "GetConnectedUserIds of too many": (
        lambda p: p.graph.GetConnectedUserIds(
            graph.GetConnectedUserIdsRequest(
                users=[
                    graph.GetConnectedUserIdsRequest.UserQuery(user_id=number)
                    for number in range(1, 102)
                ]
            )
        ),
        ["users"],
    ),
    "CheckConnections with oneself": (
        lambda p: p.graph.CheckConnections(
            graph.CheckConnectionsRequest(user_id=7, peer_ids=[8, 7])
        ),
        ["peer_ids[1]"],
    ),
    "RequestConnection with oneself": (
        lambda p: p.graph.RequestConnection(graph.RequestConnectionRequest(user_id=7, peer_id=7)),
        ["peer_id"],
    ),
    "BlockUser of a negative id": (
        lambda p: p.graph.BlockUser(graph.BlockUserRequest(user_id=7, peer_id=-7)),
        ["peer_id"],
    ),
    "ListConnectionRequests without a direction": (
        lambda p: p.graph.ListConnectionRequests(graph.ListConnectionRequestsRequest(user_id=7)),
        ["direction"],
    ),
    "ImportConnections of a pair with itself": (
        lambda p: p.graph.ImportConnections(
            iter(
                [
                    graph.ImportConnectionsRequest(
                        connections=[
                            graph.ConnectionPair(first_user_id=7, second_user_id=8),
                            graph.ConnectionPair(first_user_id=7, second_user_id=7),
                        ]
                    )
                ]
            )
        ),
        ["connections[1].second_user_id"],
    ),
    "DeleteUser of nobody": (
        lambda p: p.graph.DeleteUser(graph.DeleteUserRequest()),
        ["user_id"],
    ),
    "CreateComment without anything": (
        lambda p: p.feed.CreateComment(feed.CreateCommentRequest()),
        ["user_id", "post.author_id", "post.post_id", "body"],
    ),
    "CreateComment with a long body": (
        lambda p: p.feed.CreateComment(_comment(body="x" * 2_001)),
        ["body"],
    ),
    "CreateComment with a body of white space": (
        lambda p: p.feed.CreateComment(_comment(body="\n\t ")),
        ["body"],
    ),
    "CreateComment with a control character": (
        lambda p: p.feed.CreateComment(_comment(body="a\x07b")),
        ["body"],
    ),
    "CreateComment with a request id that is no UUID": (
        lambda p: p.feed.CreateComment(_comment(request_id="again")),
        ["request_id"],
    ),
    "ListComments of a negative page size": (
        lambda p: p.feed.ListComments(
            feed.ListCommentsRequest(user_id=7, post=_POST, page_size=-1)
        ),
        ["page_size"],
    ),
    "ListComments of no post": (
        lambda p: p.feed.ListComments(feed.ListCommentsRequest(user_id=7)),
        ["post.author_id", "post.post_id"],
    ),
    "UpdateComment without anything": (
        lambda p: p.feed.UpdateComment(feed.UpdateCommentRequest()),
        [
            "user_id",
            "comment.post.author_id",
            "comment.post.post_id",
            "comment.comment_id",
            "update_mask",
            "comment.body",
        ],
    ),
    "UpdateComment of somebody else's": (
        lambda p: p.feed.UpdateComment(
            feed.UpdateCommentRequest(
                user_id=7,
                comment=feed.Comment(post=_POST, comment_id=1, author_id=8, body="x"),
                update_mask=FieldMask(paths=["*"]),
            )
        ),
        ["comment.author_id"],
    ),
    "UpdateComment of what cannot be updated": (
        lambda p: p.feed.UpdateComment(
            feed.UpdateCommentRequest(
                user_id=7,
                comment=feed.Comment(post=_POST, comment_id=1, body="x"),
                update_mask=FieldMask(paths=["body", "author_id"]),
            )
        ),
        ["update_mask"],
    ),
    "DeleteComment of a negative id": (
        lambda p: p.feed.DeleteComment(
            feed.DeleteCommentRequest(user_id=7, post=_POST, comment_id=-1)
        ),
        ["comment_id"],
    ),
    "MarkFeedRead of no post": (
        lambda p: p.feed.MarkFeedRead(feed.MarkFeedReadRequest(user_id=7)),
        ["post.author_id", "post.post_id"],
    ),
    "CountUnreadPosts of nobody": (
        lambda p: p.feed.CountUnreadPosts(feed.CountUnreadPostsRequest()),
        ["user_id"],
    ),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("call", _BAD_CALLS)
def test_a_bad_call_is_refused_by_the_names_of_its_fields(pair: Pair, call: str) -> None:
    make, fields = _BAD_CALLS[call]

    with pytest.raises(grpc.RpcError) as caught:
        make(pair)

    assert fields_of(caught) == fields


def test_attributes_of_the_greatest_size_are_taken(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    attributes = {"ab": "é" * 2_047}
    draft = feed.CreatePostRequest(
        user_id=author, body="x", audience=PRIVATE, attributes=attributes
    )

    assert dict(pair.feed.CreatePost(draft).post.attributes) == attributes


def test_a_body_of_the_greatest_length_is_taken(pair: Pair, people: People) -> None:
    [author] = people.new(1)

    people.post(author, PRIVATE, body="\U0001f600" * 10_000)

    [post] = pair.feed.GetFeed(feed.GetFeedRequest(user_id=author)).posts
    assert len(post.body) == 10_000


def test_a_comment_of_the_greatest_length_is_taken(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post = feed.PostName(author_id=author, post_id=people.post(author))
    body = "\U0001f600" * 2_000

    pair.feed.CreateComment(feed.CreateCommentRequest(user_id=author, post=post, body=body))

    [comment] = pair.feed.ListComments(feed.ListCommentsRequest(user_id=author, post=post)).comments
    assert comment.body == body


def test_a_refused_comment_leaves_no_row_behind(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = feed.PostName(author_id=author, post_id=people.post(author, PRIVATE))
    before = row_counts(pair)

    for request_id in ("", str(uuid.uuid4())):
        with pytest.raises(grpc.RpcError):
            pair.feed.CreateComment(_comment(user_id=friend, post=post, request_id=request_id))
        with pytest.raises(grpc.RpcError):
            pair.feed.MarkFeedRead(feed.MarkFeedReadRequest(user_id=friend, post=post))

    assert row_counts(pair) == before
