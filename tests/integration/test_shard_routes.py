"""Which calls of a distributed feed ask one shard, and which ask all of them."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from feed_service.access import ACCESS
from kith.feed.v1 import feed_pb2 as pb
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.support.pair import Databases, another_feed, running_pair
from tests.support.people import People, all_without, tagged
from tests.support.processes import Session
from tests.support.s3 import S3Server

_PAGE = Path(__file__).parents[2] / "deploy" / "CITUS.md"
_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class _World:
    """An author with a tag, a post and a comment of a friend, and the friend, who has the tag."""

    feed: FeedServiceStub
    author: int
    friend: int
    tag: int
    post: pb.PostName
    comment: int


@pytest.fixture
def world(databases: Databases) -> Iterator[_World]:
    """On a database that refuses to ask more than one shard for one statement."""
    with S3Server() as store, running_pair(databases, store.environment) as pair:
        people = People(pair)
        author, friend = people.connected(2)
        tag = people.tag(author, "close", friend)
        post = people.post(author, tagged(tag))
        name = pb.PostName(author_id=author, post_id=post)
        comment = pair.feed.CreateComment(
            pb.CreateCommentRequest(user_id=friend, post=name, body="hello")
        ).comment.comment_id
        with Session(pair.feed_url) as session:
            session.rows(
                "DO $$ BEGIN EXECUTE format('ALTER ROLE kith_feed IN DATABASE %I"
                " SET citus.multi_task_query_log_level = error', current_database()); END $$"
            )
            session.commit()
        with another_feed(pair, store.environment) as (_, feed):
            yield _World(
                feed=feed, author=author, friend=friend, tag=tag, post=name, comment=comment
            )


# In the order in which they are made: what is deleted comes last.
_ON_ONE_SHARD: Mapping[str, Callable[[_World], Message]] = {
    "CreatePost": lambda w: pb.CreatePostRequest(
        user_id=w.author,
        body="hello",
        audience=all_without(w.tag),
        request_id=str(uuid.uuid4()),
    ),
    "GetPost": lambda w: pb.GetPostRequest(
        user_id=w.friend, author_id=w.post.author_id, post_id=w.post.post_id
    ),
    "ListPosts": lambda w: pb.ListPostsRequest(user_id=w.friend, author_id=w.author),
    "BatchGetPosts": lambda w: pb.BatchGetPostsRequest(user_id=w.friend, posts=[w.post]),
    "UpdatePost": lambda w: pb.UpdatePostRequest(
        user_id=w.author,
        post=pb.Post(post_id=w.post.post_id, body="bye", audience=tagged(w.tag)),
        update_mask=FieldMask(paths=["body", "audience"]),
    ),
    "CreatePhotoUploads": lambda w: pb.CreatePhotoUploadsRequest(
        user_id=w.author,
        photos=[
            pb.CreatePhotoUploadsRequest.PhotoUploadDraft(content_type=pb.PHOTO_CONTENT_TYPE_JPEG)
        ],
    ),
    "CreateTag": lambda w: pb.CreateTagRequest(user_id=w.author, name="new"),
    "ListTags": lambda w: pb.ListTagsRequest(user_id=w.author),
    "UpdateTag": lambda w: pb.UpdateTagRequest(
        user_id=w.author,
        tag=pb.Tag(tag_id=w.tag, name="closer"),
        update_mask=FieldMask(paths=["name"]),
    ),
    "AddTagMembers": lambda w: pb.AddTagMembersRequest(
        user_id=w.author, tag_id=w.tag, target_user_ids=[w.friend]
    ),
    "ListTagMembers": lambda w: pb.ListTagMembersRequest(user_id=w.author, tag_id=w.tag),
    "ListUserTags": lambda w: pb.ListUserTagsRequest(user_id=w.author, target_user_id=w.friend),
    "CreateComment": lambda w: pb.CreateCommentRequest(
        user_id=w.friend, post=w.post, body="hello", request_id=str(uuid.uuid4())
    ),
    "GetComment": lambda w: pb.GetCommentRequest(
        user_id=w.friend, post=w.post, comment_id=w.comment
    ),
    "BatchGetComments": lambda w: pb.BatchGetCommentsRequest(
        user_id=w.friend, comments=[pb.CommentName(post=w.post, comment_id=w.comment)]
    ),
    "ListComments": lambda w: pb.ListCommentsRequest(user_id=w.friend, post=w.post),
    "HideComment": lambda w: pb.HideCommentRequest(
        user_id=w.author, post_id=w.post.post_id, comment_id=w.comment
    ),
    "UnhideComment": lambda w: pb.UnhideCommentRequest(
        user_id=w.author, post_id=w.post.post_id, comment_id=w.comment
    ),
    "UpdateComment": lambda w: pb.UpdateCommentRequest(
        user_id=w.friend,
        comment=pb.Comment(post=w.post, comment_id=w.comment, body="bye"),
        update_mask=FieldMask(paths=["body"]),
    ),
    "ExplainVisibility": lambda w: pb.ExplainVisibilityRequest(
        user_id=w.author, post_id=w.post.post_id, viewer_id=w.friend
    ),
    "PreviewAudience": lambda w: pb.PreviewAudienceRequest(
        user_id=w.author, audience=tagged(w.tag)
    ),
    "CheckVisibility": lambda w: pb.CheckVisibilityRequest(
        checks=[
            pb.CheckVisibilityRequest.VisibilityCheck(
                viewer_id=w.friend, post=w.post, comment_id=comment_id
            )
            for comment_id in (0, w.comment)
        ]
    ),
    "ListViewers": lambda w: pb.ListViewersRequest(post=w.post),
    "SetModeration": lambda w: pb.SetModerationRequest(
        post=w.post,
        comment_id=w.comment,
        state=pb.MODERATION_STATE_HIDDEN,
        reason="rude",
        request_id=str(uuid.uuid4()),
    ),
    "InspectPost": lambda w: pb.InspectPostRequest(post=w.post),
    "MarkFeedRead": lambda w: pb.MarkFeedReadRequest(user_id=w.friend, post=w.post),
    "SetDigestSubscription": lambda w: pb.SetDigestSubscriptionRequest(
        user_id=w.author, request_id=str(uuid.uuid4())
    ),
    "GetDigestSubscription": lambda w: pb.GetDigestSubscriptionRequest(user_id=w.author),
    "DeleteDigestSubscription": lambda w: pb.DeleteDigestSubscriptionRequest(user_id=w.author),
    "DeleteComment": lambda w: pb.DeleteCommentRequest(
        user_id=w.friend, post=w.post, comment_id=w.comment
    ),
    "RemoveTagMembers": lambda w: pb.RemoveTagMembersRequest(
        user_id=w.author, tag_id=w.tag, target_user_ids=[w.friend]
    ),
    "DeletePost": lambda w: pb.DeletePostRequest(user_id=w.author, post_id=w.post.post_id),
    "ListDeletedPosts": lambda w: pb.ListDeletedPostsRequest(user_id=w.author),
    "UndeletePost": lambda w: pb.UndeletePostRequest(user_id=w.author, post_id=w.post.post_id),
    "DeleteTag": lambda w: pb.DeleteTagRequest(user_id=w.author, tag_id=w.tag),
}
# These are about rows of many people, and ask every shard.
_ON_ALL_SHARDS = {
    "GetFeed",
    "GetDigest",
    "CountUnreadPosts",
    "ListOwnComments",
    "SetPostImportance",
    "ClaimDigests",
    "AcknowledgeDigests",
    "ImportTags",
    "ImportPosts",
    "ImportComments",
    "ListModerated",
    "ExportUser",
    "WatchPosts",
    "DeleteUser",
}


@pytest.mark.usefixtures("citus")
def test_all_calls_about_one_person_ask_one_shard_at_a_time(world: _World) -> None:
    failed = {}
    for name, request in _ON_ONE_SHARD.items():
        try:
            getattr(world.feed, name)(request(world), timeout=_SECONDS)
        except grpc.RpcError as error:
            failed[name] = error.code()

    assert failed == {}


def test_of_every_call_it_is_known_where_it_goes() -> None:
    assert set(_ON_ONE_SHARD) | _ON_ALL_SHARDS == set(ACCESS)


def test_the_page_for_operators_names_every_call_that_asks_all_shards() -> None:
    page = _PAGE.read_text()

    assert {call for call in _ON_ALL_SHARDS if f"`{call}`" not in page} == set()
