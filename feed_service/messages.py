"""What the feed holds, as protobuf messages."""

from feed_service.models import ALL, PRIVATE, TAGS
from feed_service.queries import MemberRow, PostRow, TagRow
from shared.gen.kith.feed.v1 import feed_pb2 as pb
from shared.messages import timestamp

AUDIENCE_KINDS = {
    pb.AUDIENCE_KIND_ALL: ALL,
    pb.AUDIENCE_KIND_TAGS: TAGS,
    pb.AUDIENCE_KIND_PRIVATE: PRIVATE,
}
_KIND_OF_AUDIENCE = {audience: kind for kind, audience in AUDIENCE_KINDS.items()}


def post(row: PostRow, *, viewer_id: int) -> pb.Post:
    """Return a post as the viewer sees it: its audience and etag are for the author alone."""
    message = pb.Post(
        author_id=row.author_id,
        post_id=row.id,
        body=row.body,
        create_time=timestamp(row.created_at),
        edit_time=None if row.edited_at is None else timestamp(row.edited_at),
    )
    if viewer_id == row.author_id:
        message.etag = etag(row.version)
        message.audience.CopyFrom(
            pb.Audience(
                kind=_KIND_OF_AUDIENCE[row.audience],
                tag_ids=row.tag_ids,
                excluded_tag_ids=row.excluded_tag_ids,
            )
        )
    return message


def tag(row: TagRow) -> pb.Tag:
    """Return a tag."""
    return pb.Tag(
        tag_id=row.id,
        name=row.name,
        create_time=timestamp(row.created_at),
        etag=etag(row.version),
    )


def member(row: MemberRow) -> pb.TagMember:
    """Return a person who has a tag."""
    return pb.TagMember(target_user_id=row.target_user_id, create_time=timestamp(row.created_at))


def etag(version: int) -> str:
    """Return a version as callers see it."""
    return f'"{version}"'
