"""The names of posts and comments in requests."""

from collections.abc import Sequence

from feed_service.queries.checks import Check
from feed_service.queries.comments import CommentName
from feed_service.queries.moderation import ContentName
from feed_service.queries.posts import PostName
from kith.feed.v1 import feed_pb2 as pb
from shared.api.fields import Fields
from shared.api.limits import limits

_MAX_COMMENT_BATCH = limits(pb.BatchGetCommentsRequest, "comments").max_items


def read_post_names(
    fields: Fields, field: str, names: Sequence[pb.PostName], *, max_items: int, within: str = ""
) -> list[PostName]:
    """Read names of posts, of which none may be given twice."""
    fields.count(field, len(names), min_items=1, max_items=max_items)
    seen = set[PostName]()
    for index, name in enumerate(names[:max_items]):
        found = read_post_name(fields, f"{field}[{index}]{within}", name)
        if found in seen:
            fields.reject(f"{field}[{index}]", "must not be given twice")
        seen.add(found)
    return [(name.author_id, name.post_id) for name in names]


def read_post_name(fields: Fields, field: str, name: pb.PostName) -> PostName:
    """Read the name of a post."""
    return (
        fields.identifier(f"{field}.author_id", name.author_id),
        fields.identifier(f"{field}.post_id", name.post_id),
    )


def read_comment_names(
    fields: Fields, field: str, names: Sequence[pb.CommentName]
) -> list[CommentName]:
    """Read names of comments, of which none may be given twice."""
    fields.count(field, len(names), min_items=1, max_items=_MAX_COMMENT_BATCH)
    found, seen = list[CommentName](), set[CommentName]()
    for index, message in enumerate(names[:_MAX_COMMENT_BATCH]):
        post = read_post_name(fields, f"{field}[{index}].post", message.post)
        comment_id = fields.identifier(f"{field}[{index}].comment_id", message.comment_id)
        name = (*post, comment_id)
        if name in seen:
            fields.reject(f"{field}[{index}]", "must not be given twice")
        seen.add(name)
        found.append(name)
    return found


def read_comment_on_own_post(
    fields: Fields, request: pb.HideCommentRequest | pb.UnhideCommentRequest
) -> CommentName:
    """Read the name of a comment on one of the user's own posts."""
    post_id = fields.identifier("post_id", request.post_id)
    return request.user_id, post_id, fields.identifier("comment_id", request.comment_id)


def read_parent_id(
    fields: Fields, request: pb.CreateCommentRequest | pb.ListCommentsRequest
) -> int:
    """Read the id of the comment that is replied to, 0 for none."""
    if request.parent_comment_id < 0:
        fields.reject("parent_comment_id", "must be a positive integer, or 0 for none")
    return request.parent_comment_id


def read_check(
    fields: Fields, field: str, check: pb.CheckVisibilityRequest.VisibilityCheck
) -> Check:
    """Read a pair of a viewer and a post or comment."""
    if check.comment_id < 0:
        fields.reject(f"{field}.comment_id", "must be a positive integer, or 0 for the post itself")
    author_id, post_id = read_post_name(fields, f"{field}.post", check.post)
    return Check(
        viewer_id=fields.identifier(f"{field}.viewer_id", check.viewer_id),
        author_id=author_id,
        post_id=post_id,
        comment_id=check.comment_id,
    )


def read_content_name(fields: Fields, request: pb.SetModerationRequest) -> ContentName:
    """Read the name of a post, or of one of its comments."""
    if request.comment_id < 0:
        fields.reject("comment_id", "must be a positive integer, or 0 for the post itself")
    return ContentName(*read_post_name(fields, "post", request.post), request.comment_id)
