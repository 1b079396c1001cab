"""What a request says of the call itself: who makes it, and by which id it may be repeated."""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from kith.feed.v1 import feed_pb2 as pb
from shared.api.fields import Fields
from shared.api.idempotency import NOBODY, Call, M

R = TypeVar("R")


_Repeatable: TypeAlias = (
    pb.CreatePostRequest
    | pb.UpdatePostRequest
    | pb.DeletePostRequest
    | pb.UndeletePostRequest
    | pb.CreatePhotoUploadsRequest
    | pb.CreateTagRequest
    | pb.UpdateTagRequest
    | pb.DeleteTagRequest
    | pb.AddTagMembersRequest
    | pb.RemoveTagMembersRequest
    | pb.CreateCommentRequest
    | pb.UpdateCommentRequest
    | pb.DeleteCommentRequest
    | pb.HideCommentRequest
    | pb.UnhideCommentRequest
    | pb.MarkFeedReadRequest
    | pb.SetDigestSubscriptionRequest
    | pb.DeleteDigestSubscriptionRequest
)


def user_call(
    fields: Fields,
    request: _Repeatable,
    answered_by: type[M],
    answer: Callable[[R], M],
    *,
    about_user_id: int | None = None,
) -> Call[R, M]:
    """Return a user's call, of which the answer may name another user."""
    return Call(
        message=request,
        user_id=fields.identifier("user_id", request.user_id),
        request_id=fields.request_id("request_id", request.request_id),
        answered_by=answered_by,
        answer=answer,
        about_user_id=None if about_user_id == request.user_id else about_user_id,
    )


def service_call(
    fields: Fields,
    request: pb.SetPostImportanceRequest | pb.SetModerationRequest | pb.DeleteUserRequest,
    answered_by: type[M],
    answer: Callable[[R], M],
    *,
    about_user_id: int | None = None,
) -> Call[R, M]:
    """Return a call that services make, for no user; its answer may be about one."""
    return Call(
        message=request,
        user_id=NOBODY,
        request_id=fields.request_id("request_id", request.request_id),
        answered_by=answered_by,
        answer=answer,
        about_user_id=about_user_id,
    )


def done(answered_by: type[M]) -> Callable[[None], M]:
    """Return what answers a call that has no result."""
    return lambda _: answered_by()
