"""What the feed shows, as protobuf messages, and what is read back from messages and etags."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from google.protobuf.message import Message

from feed_service.digest_subscriptions import ClaimedDigest
from feed_service.exports import ExportedRows, Section
from feed_service.models import ALL, NOBODY, PRIVATE, TAGS, EventKind
from feed_service.moderation import Inspection
from feed_service.object_store import MAX_PHOTO_BYTES
from feed_service.photos import DownloadUrl, PermittedUpload
from feed_service.queries.audiences import Explanation
from feed_service.queries.comments import NO_COMMENT, CommentName, CommentRow
from feed_service.queries.digest_subscriptions import SubscriptionRow
from feed_service.queries.digests import ChosenPost, Reason
from feed_service.queries.events import EventRow
from feed_service.queries.exports import FrozenDigestRow, TaggedRow
from feed_service.queries.moderation import (
    InspectedComment,
    KeptRow,
    ModerationRow,
    ModerationState,
)
from feed_service.queries.posts import DeletedPostRow, PostName, PostRow
from feed_service.queries.tags import MemberRow, TagRow
from feed_service.url_signer import SignedUrl
from feed_service.visibility import Clause
from kith.feed.v1 import feed_pb2 as pb
from kith.timestamps import set_timestamp, timestamp

AUDIENCE_KINDS = {
    pb.AUDIENCE_KIND_ALL: ALL,
    pb.AUDIENCE_KIND_TAGS: TAGS,
    pb.AUDIENCE_KIND_PRIVATE: PRIVATE,
}
COMMENT_POLICY_KINDS = {
    pb.COMMENT_POLICY_KIND_ALL: ALL,
    pb.COMMENT_POLICY_KIND_NOBODY: NOBODY,
    pb.COMMENT_POLICY_KIND_TAGS: TAGS,
}
IS_NEWEST_FIRST = {
    pb.COMMENT_ORDER_UNSPECIFIED: False,
    pb.COMMENT_ORDER_OLDEST_FIRST: False,
    pb.COMMENT_ORDER_NEWEST_FIRST: True,
}
CONTENT_TYPES = {
    pb.PHOTO_CONTENT_TYPE_JPEG: "image/jpeg",
    pb.PHOTO_CONTENT_TYPE_PNG: "image/png",
    pb.PHOTO_CONTENT_TYPE_WEBP: "image/webp",
    pb.PHOTO_CONTENT_TYPE_AVIF: "image/avif",
}
EVENT_KINDS: Mapping[pb.ContentEventKind.ValueType, EventKind] = {
    pb.ContentEventKind.Value(f"CONTENT_EVENT_KIND_{kind.name}"): kind for kind in EventKind
}
MODERATION_STATES = {
    pb.MODERATION_STATE_VISIBLE: ModerationState.VISIBLE,
    pb.MODERATION_STATE_HIDDEN: ModerationState.HIDDEN,
    pb.MODERATION_STATE_HELD: ModerationState.HELD,
}
HIDING_STATES = {
    number: state
    for number, state in MODERATION_STATES.items()
    if state is not ModerationState.VISIBLE
}
# A client's own limit is 4 MiB unless it was raised.
_EXPORT_BYTES: Final = 1024 * 1024
_ETAG: Final = re.compile(r'"([1-9][0-9]{0,17})"')
# Versions are counted from 1.
_NO_VERSION: Final = 0
_KIND_OF_AUDIENCE = {audience: kind for kind, audience in AUDIENCE_KINDS.items()}
_KINDS_OF_EVENTS: Mapping[str, pb.ContentEventKind.ValueType] = {
    kind: value for value, kind in EVENT_KINDS.items()
}
_KIND_OF_POLICY = {policy: kind for kind, policy in COMMENT_POLICY_KINDS.items()}
_CLAUSES = {
    clause: pb.VisibilityClause.Value(f"VISIBILITY_CLAUSE_{clause.name}") for clause in Clause
}
_DIGEST_REASONS = {
    reason: pb.DigestReason.Value(f"DIGEST_REASON_{reason.name}") for reason in Reason
}


def post(row: PostRow, *, viewer_id: int, download_url: DownloadUrl) -> pb.Post:
    """Return a post as the viewer sees it."""
    message = pb.Post()
    fill_post(message, row, viewer_id=viewer_id, download_url=download_url)
    return message


def fill_post(message: pb.Post, row: PostRow, *, viewer_id: int, download_url: DownloadUrl) -> None:
    """Make a message a post as the viewer sees it.

    Its audience, comment policy and etag are for the author alone.

    Filled where they belong, the posts of a page and their photos cost half of what it takes to
    make them and hand them on: protobuf copies a message by writing and reading it.
    """
    message.author_id = row.author_id
    message.post_id = row.id
    message.body = row.body
    set_timestamp(message.create_time, row.created_at)
    if row.edited_at is not None:
        set_timestamp(message.edit_time, row.edited_at)
    message.comment_count = row.comment_count
    message.comments_locked = row.comments_locked
    if row.attributes is not None:
        message.attributes.update(json.loads(row.attributes))
    for key, width, height, alt_text in row.photos:
        photo = message.photos.add()
        photo.alt_text = alt_text
        photo.width, photo.height = int(width), int(height)
        _fill_photo(photo, key, download_url(key))
    if viewer_id == row.author_id:
        message.etag = etag(row.version)
        message.audience.kind = _KIND_OF_AUDIENCE[row.audience]
        message.audience.tag_ids.extend(row.tag_ids)
        message.audience.excluded_tag_ids.extend(row.excluded_tag_ids)
        message.moderated = row.is_moderated
        message.comment_policy.kind = _KIND_OF_POLICY[row.comment_policy]
        message.comment_policy.tag_ids.extend(row.comment_tag_ids)


def fill_deleted_post(message: pb.Post, row: DeletedPostRow, *, download_url: DownloadUrl) -> None:
    """Make a message a deleted post as its author sees it."""
    fill_post(message, row.post, viewer_id=row.post.author_id, download_url=download_url)
    set_timestamp(message.delete_time, row.deleted_at)
    set_timestamp(message.purge_time, row.purge_at)


def _fill_photo(message: pb.Photo, key: str, signed: SignedUrl | None) -> None:
    """Make a message a photo, which has no URL while URLs cannot be signed."""
    message.key = key
    if signed is not None:
        message.url = signed.url
        set_timestamp(message.expire_time, signed.expire_time)


def permitted_uploads(uploads: Sequence[PermittedUpload]) -> pb.CreatePhotoUploadsResponse:
    """Return the permissions to upload photos."""
    return pb.CreatePhotoUploadsResponse(
        uploads=[
            pb.CreatePhotoUploadsResponse.PhotoUpload(
                key=upload.key,
                url=upload.permission.url,
                fields=upload.permission.fields,
                expire_time=timestamp(upload.permission.expire_time),
                max_size_bytes=MAX_PHOTO_BYTES,
            )
            for upload in uploads
        ]
    )


def digest_item(
    chosen: ChosenPost, *, viewer_id: int, download_url: DownloadUrl
) -> pb.GetDigestResponse.DigestItem:
    """Return a post of a digest as the viewer sees it."""
    return pb.GetDigestResponse.DigestItem(
        post=post(chosen.post, viewer_id=viewer_id, download_url=download_url),
        importance=chosen.importance,
        reason=_DIGEST_REASONS[chosen.reason],
    )


def explanation(found: Explanation) -> pb.ExplainVisibilityResponse:
    """Return why a viewer sees a post or not."""
    return pb.ExplainVisibilityResponse(
        visible=found.clause.is_visible, clause=_CLAUSES[found.clause], tag_ids=found.tag_ids
    )


def tag(row: TagRow) -> pb.Tag:
    """Return a tag."""
    return pb.Tag(
        tag_id=row.id,
        name=row.name,
        create_time=timestamp(row.created_at),
        etag=etag(row.version),
        delete_time=None if row.deleted_at is None else timestamp(row.deleted_at),
        muted=row.is_muted,
        mute_until=None if row.mute_until is None else timestamp(row.mute_until),
    )


def digest_subscription(row: SubscriptionRow) -> pb.DigestSubscription:
    """Return a subscription to digests."""
    return pb.DigestSubscription(
        time_zone=row.time_zone,
        week_start_day=row.week_start_day,
        next_digest_time=timestamp(row.due_at),
    )


def claimed_digest(digest: ClaimedDigest) -> pb.ClaimDigestsResponse.ClaimedDigest:
    """Return a digest that a mailer has claimed."""
    return pb.ClaimDigestsResponse.ClaimedDigest(
        user_id=digest.user_id,
        time_zone=digest.time_zone,
        week_start_day=digest.week_start_day,
        start_time=timestamp(digest.week.start),
        end_time=timestamp(digest.week.end),
    )


def member(row: MemberRow) -> pb.TagMember:
    """Return a person who has a tag, or had it."""
    return pb.TagMember(
        target_user_id=row.target_user_id,
        create_time=timestamp(row.created_at),
        former=row.is_former,
    )


def tagged_user(row: TaggedRow) -> pb.ExportUserResponse.TaggedUser:
    """Return a tag with a person who has it, or had it."""
    return pb.ExportUserResponse.TaggedUser(tag_id=row.tag_id, member=member(row))


def comment(row: CommentRow, *, viewer_id: int) -> pb.Comment:
    """Return a comment as the viewer sees it: only the post's author is told that it is hidden."""
    return pb.Comment(
        post=pb.PostName(author_id=row.post_author_id, post_id=row.post_id),
        comment_id=row.id,
        author_id=row.author_id,
        body=row.body,
        create_time=timestamp(row.created_at),
        edit_time=None if row.edited_at is None else timestamp(row.edited_at),
        etag=etag(row.version),
        moderated=row.is_moderated,
        parent_comment_id=row.parent_id or NO_COMMENT,
        reply_count=row.reply_count,
        hidden=row.hidden and viewer_id == row.post_author_id,
    )


def _own_comment(row: CommentRow) -> pb.Comment:
    return comment(row, viewer_id=row.author_id)


def comment_name(name: CommentName) -> pb.CommentName:
    """Return the name of a comment."""
    author_id, post_id, comment_id = name
    return pb.CommentName(
        post=pb.PostName(author_id=author_id, post_id=post_id), comment_id=comment_id
    )


def moderation(row: ModerationRow | None) -> pb.Moderation:
    """Return how a post or a comment is moderated, None for one that is visible."""
    if row is None:
        return pb.Moderation(state=pb.MODERATION_STATE_VISIBLE)
    is_held = row.held_until is not None
    return pb.Moderation(
        state=pb.MODERATION_STATE_HELD if is_held else pb.MODERATION_STATE_HIDDEN,
        reason=row.reason,
        set_time=timestamp(row.moderated_at),
        expire_time=None if row.held_until is None else timestamp(row.held_until),
    )


def moderated_item(row: ModerationRow) -> pb.ListModeratedResponse.ModeratedItem:
    """Return a post or a comment that is moderated, and how."""
    return pb.ListModeratedResponse.ModeratedItem(
        post=pb.PostName(author_id=row.author_id, post_id=row.post_id),
        comment_id=row.comment_id,
        author_id=row.written_by,
        moderation=moderation(row),
    )


def inspection(found: Inspection, *, download_url: DownloadUrl) -> pb.InspectPostResponse:
    """Return a post and comments on it, also those that are hidden or deleted."""
    of_post = found.post
    response = pb.InspectPostResponse(
        moderation=moderation(of_post.moderation),
        comments=[_inspected_comment(row) for row in found.comments.items],
        next_page_token=found.comments.next_page_token,
    )
    row = of_post.post
    fill_post(response.post, row, viewer_id=row.author_id, download_url=download_url)
    for field, moment in (
        (response.post.delete_time, of_post.deleted_at),
        (response.post.purge_time, of_post.purge_at),
        (response.hold_expire_time, of_post.kept_until),
    ):
        if moment is not None:
            set_timestamp(field, moment)
    return response


def _inspected_comment(row: InspectedComment) -> pb.InspectPostResponse.InspectedComment:
    return pb.InspectPostResponse.InspectedComment(
        comment=comment(row.comment, viewer_id=row.comment.post_author_id),
        delete_time=None if row.deleted_at is None else timestamp(row.deleted_at),
        moderation=moderation(row.moderation),
    )


def frozen_digest(row: FrozenDigestRow) -> pb.ExportUserResponse.FrozenDigest:
    """Return the choice of posts of a past week."""
    return pb.ExportUserResponse.FrozenDigest(
        start_time=timestamp(row.start_at),
        create_time=timestamp(row.created_at),
        items=[
            pb.ExportUserResponse.FrozenDigest.FrozenItem(
                post=pb.PostName(author_id=item.author_id, post_id=item.post_id),
                importance=item.importance,
                reason=_DIGEST_REASONS[item.reason],
            )
            for item in row.items
        ],
        left_out_count=row.left_out_count,
    )


def exported(part: ExportedRows, *, download_url: DownloadUrl) -> Iterator[pb.ExportUserResponse]:
    """Yield the rows, as many in a message as fit, each with the cursor behind its last row."""
    encode = _exported_items(download_url)[part.section]
    items, size, last = list[Message](), 0, None
    for row in part.rows:
        item = encode(row)
        if items and size + item.ByteSize() > _EXPORT_BYTES:
            yield _export(part, items, last)
            items, size = [], 0
        items.append(item)
        size += item.ByteSize()
        last = row
    yield _export(part, items, last)


def _exported_items(download_url: DownloadUrl) -> Mapping[Section, Callable[[Any], Message]]:
    return {
        Section.TAGS: tag,
        Section.TAGGED_USERS: tagged_user,
        Section.POSTS: lambda row: post(row, viewer_id=row.author_id, download_url=download_url),
        Section.COMMENTS: _own_comment,
        Section.READ_TIME: timestamp,
        Section.FROZEN_DIGESTS: frozen_digest,
        Section.DIGEST_SUBSCRIPTION: digest_subscription,
    }


def _export(part: ExportedRows, items: Sequence[Message], last: object) -> pb.ExportUserResponse:
    response = pb.ExportUserResponse(cursor=part.cursor(last))
    field = getattr(response, part.section)
    if isinstance(field, Message):
        [item] = items
        field.CopyFrom(item)
    else:
        field.extend(items)
    return response


def created_post(row: PostRow, *, download_url: DownloadUrl) -> pb.CreatePostResponse:
    """Return the answer to the creation of a post, as its author sees it."""
    return pb.CreatePostResponse(post=post(row, viewer_id=row.author_id, download_url=download_url))


def changed_post(row: PostRow, *, download_url: DownloadUrl) -> pb.UpdatePostResponse:
    """Return the answer to the change of a post, as its author sees it."""
    return pb.UpdatePostResponse(post=post(row, viewer_id=row.author_id, download_url=download_url))


def restored_post(row: PostRow, *, download_url: DownloadUrl) -> pb.UndeletePostResponse:
    """Return the answer when a post is there again, as its author sees it."""
    return pb.UndeletePostResponse(
        post=post(row, viewer_id=row.author_id, download_url=download_url)
    )


def created_tag(row: TagRow) -> pb.CreateTagResponse:
    """Return the answer to the creation of a tag."""
    return pb.CreateTagResponse(tag=tag(row))


def changed_tag(row: TagRow) -> pb.UpdateTagResponse:
    """Return the answer to the change of a tag."""
    return pb.UpdateTagResponse(tag=tag(row))


def stored_subscription(row: SubscriptionRow) -> pb.SetDigestSubscriptionResponse:
    """Return the answer to a subscription to digests."""
    return pb.SetDigestSubscriptionResponse(subscription=digest_subscription(row))


def added_members(count: int) -> pb.AddTagMembersResponse:
    """Return the answer when so many people got a tag."""
    return pb.AddTagMembersResponse(added_count=count)


def removed_members(count: int) -> pb.RemoveTagMembersResponse:
    """Return the answer when a tag was taken from so many people."""
    return pb.RemoveTagMembersResponse(removed_count=count)


def created_comment(row: CommentRow) -> pb.CreateCommentResponse:
    """Return the answer to the creation of a comment."""
    return pb.CreateCommentResponse(comment=_own_comment(row))


def changed_comment(row: CommentRow) -> pb.UpdateCommentResponse:
    """Return the answer to the change of a comment."""
    return pb.UpdateCommentResponse(comment=_own_comment(row))


def scored_posts(count: int) -> pb.SetPostImportanceResponse:
    """Return the answer when so many posts got their score."""
    return pb.SetPostImportanceResponse(scored_count=count)


def decided(row: ModerationRow | None) -> pb.SetModerationResponse:
    """Return the answer when a post or a comment is moderated, without the reason.

    It is stored for repeats for a day, which would outlive a commenter who is erased meanwhile. A
    repeat brings the reason itself.
    """
    response = pb.SetModerationResponse(moderation=moderation(row))
    response.moderation.ClearField("reason")
    return response


def erased_user(kept: Sequence[KeptRow]) -> pb.DeleteUserResponse:
    """Return the answer when a user is erased, except for these posts and comments."""
    return pb.DeleteUserResponse(
        kept=[
            pb.DeleteUserResponse.KeptItem(
                post=pb.PostName(author_id=row.author_id, post_id=row.post_id),
                comment_id=row.comment_id,
                hold_expire_time=timestamp(row.kept_until),
            )
            for row in kept
        ]
    )


def moved_position(read_at: datetime) -> pb.MarkFeedReadResponse:
    """Return the answer when a feed is read up to a moment."""
    return pb.MarkFeedReadResponse(read_time=timestamp(read_at))


def shown_post(answer: pb.CreatePostResponse) -> PostName:
    """Return which post an answer shows."""
    return answer.post.author_id, answer.post.post_id


def shown_tag(answer: pb.CreateTagResponse) -> int:
    """Return the id of the tag that an answer shows."""
    return answer.tag.tag_id


def shown_comment(answer: pb.CreateCommentResponse) -> CommentName:
    """Return which comment an answer shows."""
    post_name = answer.comment.post
    return post_name.author_id, post_name.post_id, answer.comment.comment_id


def event(row: EventRow) -> pb.ContentEvent:
    """Return one change of posts or comments."""
    return pb.ContentEvent(
        sequence=row.seq,
        kind=_KINDS_OF_EVENTS[row.kind],
        author_id=row.author_id,
        post_id=row.post_id,
        comment_id=row.comment_id,
        comment_author_id=row.comment_author_id,
        posts=[
            pb.PostName(author_id=author_id, post_id=post_id) for author_id, post_id in row.posts
        ],
        event_time=timestamp(row.occurred_at),
    )


def etag(version: int) -> str:
    """Return a version as callers see it."""
    return f'"{version}"'


def version(etag: str) -> int | None:
    """Return the version that an etag stands for; None for the empty one, which fits every version.

    An etag that was never issued stands for a version that nothing has.
    """
    if not etag:
        return None
    found = _ETAG.fullmatch(etag)
    return int(found[1]) if found else _NO_VERSION
