"""A call of every kind that the gateway exposes, and people whom they are about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from tests.support.people import ALL, People
from tests.support.rpcs import Stubs


@dataclass(frozen=True, kw_only=True)
class World:
    """Two who are connected, one who has asked the first, a stranger, and what the first has."""

    me: int
    friend: int
    asking: int
    asked: int
    stranger: int
    tag: int
    post: feed_pb2.PostName
    comment: int


def new_world(pair: Stubs, people: People) -> World:
    """Make one."""
    me, friend = people.connected(2)
    asking, asked, stranger = people.new(3)
    for user, peer in ((asking, me), (me, asked)):
        pair.graph.RequestConnection(graph_pb2.RequestConnectionRequest(user_id=user, peer_id=peer))
    post = feed_pb2.PostName(author_id=me, post_id=people.post(me))
    comment = pair.feed.CreateComment(
        feed_pb2.CreateCommentRequest(user_id=me, post=post, body="mine")
    ).comment.comment_id
    return World(
        me=me,
        friend=friend,
        asking=asking,
        asked=asked,
        stranger=stranger,
        tag=people.tag(me, "tag", friend),
        post=post,
        comment=comment,
    )


CALLS: Mapping[str, Callable[[World], Message]] = {
    "CheckConnections": lambda w: graph_pb2.CheckConnectionsRequest(
        user_id=w.me, peer_ids=[w.friend, w.stranger]
    ),
    "GetConnection": lambda w: graph_pb2.GetConnectionRequest(user_id=w.me, peer_id=w.friend),
    "ListConnections": lambda w: graph_pb2.ListConnectionsRequest(user_id=w.me, page_size=5),
    "ListConnectionRequests": lambda w: graph_pb2.ListConnectionRequestsRequest(
        user_id=w.me, direction=graph_pb2.REQUEST_DIRECTION_INCOMING
    ),
    "ListBlockedUsers": lambda w: graph_pb2.ListBlockedUsersRequest(user_id=w.me),
    "ListMutualConnections": lambda w: graph_pb2.ListMutualConnectionsRequest(
        user_id=w.me, peer_id=w.friend
    ),
    "CountConnections": lambda w: graph_pb2.CountConnectionsRequest(
        user_id=w.me, user_ids=[w.me, w.friend]
    ),
    "SuggestConnections": lambda w: graph_pb2.SuggestConnectionsRequest(user_id=w.me),
    "RequestConnection": lambda w: graph_pb2.RequestConnectionRequest(
        user_id=w.me, peer_id=w.stranger
    ),
    "AcceptConnection": lambda w: graph_pb2.AcceptConnectionRequest(user_id=w.me, peer_id=w.asking),
    "DeclineConnection": lambda w: graph_pb2.DeclineConnectionRequest(
        user_id=w.me, peer_id=w.asking
    ),
    "CancelConnectionRequest": lambda w: graph_pb2.CancelConnectionRequestRequest(
        user_id=w.me, peer_id=w.asked
    ),
    "RemoveConnection": lambda w: graph_pb2.RemoveConnectionRequest(user_id=w.me, peer_id=w.friend),
    "BlockUser": lambda w: graph_pb2.BlockUserRequest(user_id=w.me, peer_id=w.stranger),
    "UnblockUser": lambda w: graph_pb2.UnblockUserRequest(user_id=w.me, peer_id=w.stranger),
    "GetFeed": lambda w: feed_pb2.GetFeedRequest(user_id=w.me, author_ids=[w.me, w.friend]),
    "GetDigest": lambda w: feed_pb2.GetDigestRequest(
        user_id=w.me, time_zone="Europe/Lisbon", include_own_posts=True
    ),
    "CreatePost": lambda w: feed_pb2.CreatePostRequest(user_id=w.me, body="new", audience=ALL),
    "GetPost": lambda w: feed_pb2.GetPostRequest(
        user_id=w.friend, author_id=w.me, post_id=w.post.post_id
    ),
    "BatchGetPosts": lambda w: feed_pb2.BatchGetPostsRequest(user_id=w.friend, posts=[w.post]),
    "ListPosts": lambda w: feed_pb2.ListPostsRequest(user_id=w.friend, author_id=w.me),
    "UpdatePost": lambda w: feed_pb2.UpdatePostRequest(
        user_id=w.me,
        post=feed_pb2.Post(post_id=w.post.post_id, body="changed"),
        update_mask=FieldMask(paths=["body"]),
    ),
    "DeletePost": lambda w: feed_pb2.DeletePostRequest(user_id=w.me, post_id=w.post.post_id),
    "UndeletePost": lambda w: feed_pb2.UndeletePostRequest(user_id=w.me, post_id=w.post.post_id),
    "ListDeletedPosts": lambda w: feed_pb2.ListDeletedPostsRequest(user_id=w.me),
    "CreatePhotoUploads": lambda w: feed_pb2.CreatePhotoUploadsRequest(
        user_id=w.me,
        photos=[
            feed_pb2.CreatePhotoUploadsRequest.PhotoUploadDraft(
                content_type=feed_pb2.PHOTO_CONTENT_TYPE_PNG
            )
        ],
    ),
    "CreateTag": lambda w: feed_pb2.CreateTagRequest(user_id=w.me, name="another"),
    "ListTags": lambda w: feed_pb2.ListTagsRequest(user_id=w.me),
    "UpdateTag": lambda w: feed_pb2.UpdateTagRequest(
        user_id=w.me,
        tag=feed_pb2.Tag(tag_id=w.tag, name="renamed"),
        update_mask=FieldMask(paths=["name"]),
    ),
    "DeleteTag": lambda w: feed_pb2.DeleteTagRequest(user_id=w.me, tag_id=w.tag),
    "AddTagMembers": lambda w: feed_pb2.AddTagMembersRequest(
        user_id=w.me, tag_id=w.tag, target_user_ids=[w.friend]
    ),
    "RemoveTagMembers": lambda w: feed_pb2.RemoveTagMembersRequest(
        user_id=w.me, tag_id=w.tag, target_user_ids=[w.friend]
    ),
    "ListTagMembers": lambda w: feed_pb2.ListTagMembersRequest(user_id=w.me, tag_id=w.tag),
    "ListUserTags": lambda w: feed_pb2.ListUserTagsRequest(user_id=w.me, target_user_id=w.friend),
    "CreateComment": lambda w: feed_pb2.CreateCommentRequest(
        user_id=w.friend, post=w.post, body="theirs"
    ),
    "GetComment": lambda w: feed_pb2.GetCommentRequest(
        user_id=w.friend, post=w.post, comment_id=w.comment
    ),
    "BatchGetComments": lambda w: feed_pb2.BatchGetCommentsRequest(
        user_id=w.friend, comments=[feed_pb2.CommentName(post=w.post, comment_id=w.comment)]
    ),
    "ListComments": lambda w: feed_pb2.ListCommentsRequest(
        user_id=w.friend, post=w.post, order=feed_pb2.COMMENT_ORDER_NEWEST_FIRST
    ),
    "ListOwnComments": lambda w: feed_pb2.ListOwnCommentsRequest(user_id=w.me),
    "UpdateComment": lambda w: feed_pb2.UpdateCommentRequest(
        user_id=w.me,
        comment=feed_pb2.Comment(post=w.post, comment_id=w.comment, body="changed"),
        update_mask=FieldMask(paths=["body"]),
    ),
    "DeleteComment": lambda w: feed_pb2.DeleteCommentRequest(
        user_id=w.me, post=w.post, comment_id=w.comment
    ),
    "HideComment": lambda w: feed_pb2.HideCommentRequest(
        user_id=w.me, post_id=w.post.post_id, comment_id=w.comment
    ),
    "UnhideComment": lambda w: feed_pb2.UnhideCommentRequest(
        user_id=w.me, post_id=w.post.post_id, comment_id=w.comment
    ),
    "ExplainVisibility": lambda w: feed_pb2.ExplainVisibilityRequest(
        user_id=w.me, post_id=w.post.post_id, viewer_id=w.friend
    ),
    "PreviewAudience": lambda w: feed_pb2.PreviewAudienceRequest(user_id=w.me, audience=ALL),
    "MarkFeedRead": lambda w: feed_pb2.MarkFeedReadRequest(user_id=w.friend, post=w.post),
    "CountUnreadPosts": lambda w: feed_pb2.CountUnreadPostsRequest(user_id=w.friend),
    "SetDigestSubscription": lambda w: feed_pb2.SetDigestSubscriptionRequest(
        user_id=w.me, time_zone="Europe/Lisbon", week_start_day=1
    ),
    "GetDigestSubscription": lambda w: feed_pb2.GetDigestSubscriptionRequest(user_id=w.me),
    "DeleteDigestSubscription": lambda w: feed_pb2.DeleteDigestSubscriptionRequest(user_id=w.me),
}
