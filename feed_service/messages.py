"""What the feed holds, as protobuf messages."""

from collections.abc import Callable

from feed_service.models import ALL, PRIVATE, TAGS
from feed_service.object_store import MAX_PHOTO_BYTES, UploadPermission
from feed_service.queries.audiences import Explanation
from feed_service.queries.comments import CommentRow
from feed_service.queries.digests import ChosenPost, Reason
from feed_service.queries.posts import PostRow
from feed_service.queries.tags import MemberRow, TagRow
from feed_service.queries.transfers import TaggedRow
from feed_service.url_signer import SignedUrl
from feed_service.visibility import Clause
from kith.feed.v1 import feed_pb2 as pb
from kith.timestamps import set_timestamp, timestamp

DownloadUrl = Callable[[str], SignedUrl | None]

AUDIENCE_KINDS = {
    pb.AUDIENCE_KIND_ALL: ALL,
    pb.AUDIENCE_KIND_TAGS: TAGS,
    pb.AUDIENCE_KIND_PRIVATE: PRIVATE,
}
CONTENT_TYPES = {
    pb.PHOTO_CONTENT_TYPE_JPEG: "image/jpeg",
    pb.PHOTO_CONTENT_TYPE_PNG: "image/png",
    pb.PHOTO_CONTENT_TYPE_WEBP: "image/webp",
    pb.PHOTO_CONTENT_TYPE_AVIF: "image/avif",
}
_KIND_OF_AUDIENCE = {audience: kind for kind, audience in AUDIENCE_KINDS.items()}
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
    """Make a message a post as the viewer sees it: its audience and etag are for the author alone.

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
    for key, width, height in row.photos:
        photo = message.photos.add()
        photo.width, photo.height = int(width), int(height)
        _fill_photo(photo, key, download_url(key))
    if viewer_id == row.author_id:
        message.etag = etag(row.version)
        message.audience.kind = _KIND_OF_AUDIENCE[row.audience]
        message.audience.tag_ids.extend(row.tag_ids)
        message.audience.excluded_tag_ids.extend(row.excluded_tag_ids)


def _fill_photo(message: pb.Photo, key: str, signed: SignedUrl | None) -> None:
    """Make a message a photo, which has no URL while nobody can sign one."""
    message.key = key
    if signed is not None:
        message.url = signed.url
        set_timestamp(message.expire_time, signed.expire_time)


def photo_upload(
    key: str, permission: UploadPermission
) -> pb.CreatePhotoUploadsResponse.PhotoUpload:
    """Return the permission to upload one photo."""
    return pb.CreatePhotoUploadsResponse.PhotoUpload(
        key=key,
        url=permission.url,
        fields=permission.fields,
        expire_time=timestamp(permission.expire_time),
        max_size_bytes=MAX_PHOTO_BYTES,
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
    )


def member(row: MemberRow) -> pb.TagMember:
    """Return a person who has a tag, or had it."""
    return pb.TagMember(
        target_user_id=row.target_user_id,
        create_time=timestamp(row.created_at),
        former=row.is_former,
    )


def tagged_user(row: TaggedRow) -> pb.ExportUserResponse.TaggedUser:
    """Return a tag with somebody who has it, or had it."""
    return pb.ExportUserResponse.TaggedUser(tag_id=row.tag_id, member=member(row))


def comment(row: CommentRow) -> pb.Comment:
    """Return a comment."""
    return pb.Comment(
        post=pb.PostName(author_id=row.post_author_id, post_id=row.post_id),
        comment_id=row.id,
        author_id=row.author_id,
        body=row.body,
        create_time=timestamp(row.created_at),
        edit_time=None if row.edited_at is None else timestamp(row.edited_at),
        etag=etag(row.version),
    )


def etag(version: int) -> str:
    """Return a version as callers see it."""
    return f'"{version}"'
