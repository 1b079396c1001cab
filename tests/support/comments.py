"""Comments, written and read through the API."""

from collections.abc import Callable

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import reason_of
from tests.support.rpcs import Stubs

Post = tuple[int, int]
"""The author of a post, and its id."""


class Comments:
    """Writes and reads comments through the API."""

    def __init__(self, stubs: Stubs) -> None:
        self._feed = stubs.feed

    def write(
        self,
        author_id: int,
        post: Post,
        body: str = "hello",
        request_id: str = "",
        *,
        to: pb.Comment | None = None,
    ) -> pb.Comment:
        """Write a comment, or a reply `to` one."""
        request = pb.CreateCommentRequest(
            user_id=author_id,
            post=post_name(post),
            body=body,
            request_id=request_id,
            parent_comment_id=to.comment_id if to else 0,
        )
        return self._feed.CreateComment(request).comment

    def page(
        self, viewer_id: int, post: Post, page_size: int = 0, page_token: str = ""
    ) -> pb.ListCommentsResponse:
        """Return a page of the comments on a post."""
        return self.listed(
            pb.ListCommentsRequest(
                user_id=viewer_id, post=post_name(post), page_size=page_size, page_token=page_token
            )
        )

    def listed(self, request: pb.ListCommentsRequest) -> pb.ListCommentsResponse:
        """Return a page as it is asked for."""
        return self._feed.ListComments(request)

    def pages(self, viewer_id: int, post: Post, page_size: int) -> list[list[pb.Comment]]:
        """Return all pages of the comments on a post."""
        pages = list[list[pb.Comment]]()
        token = ""
        while True:
            response = self.page(viewer_id, post, page_size, token)
            pages.append(list(response.comments))
            token = response.next_page_token
            if not token:
                return pages

    def all(self, viewer_id: int, post: Post, page_size: int = 200) -> list[pb.Comment]:
        """Return all comments on a post."""
        return [one for page in self.pages(viewer_id, post, page_size) for one in page]

    def replies(self, viewer_id: int, comment: pb.Comment) -> list[pb.Comment]:
        """Return the replies to a comment."""
        request = pb.ListCommentsRequest(
            user_id=viewer_id, post=comment.post, parent_comment_id=comment.comment_id
        )
        return list(self.listed(request).comments)

    def bodies(self, viewer_id: int, post: Post) -> list[str]:
        """Return the texts of all comments on a post."""
        return [comment.body for comment in self.all(viewer_id, post)]

    def get(self, viewer_id: int, comment: pb.Comment) -> pb.Comment:
        """Return one comment as somebody sees it."""
        request = pb.GetCommentRequest(
            user_id=viewer_id, post=comment.post, comment_id=comment.comment_id
        )
        return self._feed.GetComment(request).comment

    def batch(self, viewer_id: int, *comments: pb.Comment) -> pb.BatchGetCommentsResponse:
        """Return several comments as somebody sees them."""
        request = pb.BatchGetCommentsRequest(
            user_id=viewer_id, comments=[comment_name(comment) for comment in comments]
        )
        return self._feed.BatchGetComments(request)

    def own(self, user_id: int) -> list[pb.Comment]:
        """Return the comments that somebody has written."""
        request = pb.ListOwnCommentsRequest(user_id=user_id, page_size=200)
        return list(self._feed.ListOwnComments(request).comments)

    def update(self, user_id: int, comment: pb.Comment, body: str, etag: str = "") -> pb.Comment:
        """Change the text of a comment."""
        changed = pb.Comment(post=comment.post, comment_id=comment.comment_id, body=body, etag=etag)
        request = pb.UpdateCommentRequest(
            user_id=user_id, comment=changed, update_mask=FieldMask(paths=["body"])
        )
        return self._feed.UpdateComment(request).comment

    def delete(self, user_id: int, comment: pb.Comment) -> None:
        """Delete a comment."""
        self._feed.DeleteComment(
            pb.DeleteCommentRequest(
                user_id=user_id, post=comment.post, comment_id=comment.comment_id
            )
        )

    def hide(self, user_id: int, comment: pb.Comment) -> None:
        """Hide a comment from others."""
        self._feed.HideComment(
            pb.HideCommentRequest(
                user_id=user_id, post_id=comment.post.post_id, comment_id=comment.comment_id
            )
        )

    def unhide(self, user_id: int, comment: pb.Comment) -> None:
        """Show a comment again."""
        self._feed.UnhideComment(
            pb.UnhideCommentRequest(
                user_id=user_id, post_id=comment.post.post_id, comment_id=comment.comment_id
            )
        )

    def moderate(self, comment: pb.Comment) -> None:
        """Hide a comment as a service does, from all but its author."""
        self._feed.SetModeration(
            pb.SetModerationRequest(
                post=comment.post,
                comment_id=comment.comment_id,
                state=pb.MODERATION_STATE_HIDDEN,
                reason="rude",
            )
        )

    def count(self, viewer_id: int, post: Post) -> int:
        """Return how many comments the post itself says it has."""
        request = pb.GetPostRequest(user_id=viewer_id, author_id=post[0], post_id=post[1])
        return self._feed.GetPost(request).post.comment_count


def post_name(post: Post) -> pb.PostName:
    """Return the name of a post as a message."""
    return pb.PostName(author_id=post[0], post_id=post[1])


def comment_name(comment: pb.Comment) -> pb.CommentName:
    """Return the name of a comment as a message."""
    return pb.CommentName(post=comment.post, comment_id=comment.comment_id)


def refused(call: Callable[..., object], *arguments: object, **named: object) -> str:
    """Return the reason for which a call is refused, which it has to be."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **named)
    return reason_of(caught.value)
