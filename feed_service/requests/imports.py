"""Chunks of imports: tags with their members, posts and comments."""

from collections.abc import Hashable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from feed_service.models import (
    BODY_LENGTH,
    COMMENT_LENGTH,
    EXTERNAL_ID_LENGTH,
    PRIVATE,
    TAGS,
)
from feed_service.queries.imported_comments import ImportedComment
from feed_service.queries.imported_tags import ImportedMember, ImportedTag
from feed_service.queries.imports import ImportedPost
from feed_service.queries.posts import Audience, CommentPolicy
from feed_service.requests.digests import FIRST_MOMENT
from feed_service.requests.posts import (
    read_attributes,
    read_audience,
    read_comment_policy,
    read_photos,
)
from feed_service.requests.tags import read_mute, read_tag_name
from feed_service.tag_imports import Chunk
from kith.feed.v1 import feed_pb2 as pb
from shared.api.fields import Fields
from shared.api.limits import limits

_MAX_AUDIENCE_TAGS = limits(pb.Audience, "tag_ids").max_items
_MAX_POLICY_TAGS = limits(pb.CommentPolicy, "tag_ids").max_items
_MAX_IMPORT_CHUNK = limits(pb.ImportPostsRequest, "posts").max_items
_MAX_IMPORTED_PHOTOS = 100
_MAX_IMPORTANCE = limits(pb.ImportPostsRequest.ImportedPost, "importance").maximum


def read_chunk_of_tags(request: pb.ImportTagsRequest) -> Chunk:
    """Read and check a chunk of tags and members."""
    now = datetime.now(UTC)
    with Fields() as fields:
        fields.count("tags", len(request.tags), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        fields.count("members", len(request.members), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        tags = [
            _imported_tag(fields, f"tags[{index}]", tag, now=now)
            for index, tag in enumerate(request.tags[:_MAX_IMPORT_CHUNK])
        ]
        members = [
            _imported_member(fields, f"members[{index}]", member, now=now)
            for index, member in enumerate(request.members[:_MAX_IMPORT_CHUNK])
        ]
        _reject_repeated(fields, "tags", "external_id", [tag.key for tag in tags])
        given = [(member.tag, member.target_user_id) for member in members]
        _reject_repeated(fields, "members", "target_user_id", given)
    return Chunk(tags=tags, members=members)


def _imported_tag(
    fields: Fields, at: str, tag: pb.ImportTagsRequest.ImportedTag, *, now: datetime
) -> ImportedTag:
    created_at = _create_time(fields, f"{at}.create_time", tag, now=now)
    return ImportedTag(
        owner_id=fields.identifier(f"{at}.owner_id", tag.owner_id),
        external_id=_external_id(fields, f"{at}.external_id", tag.external_id),
        name=read_tag_name(fields, f"{at}.name", tag.name),
        created_at=created_at,
        deleted_at=_later_time(fields, at, tag, "delete_time", than=created_at, now=now),
        mute=read_mute(fields, f"{at}.mute_until", tag),
    )


def _imported_member(
    fields: Fields, at: str, member: pb.ImportTagsRequest.ImportedMember, *, now: datetime
) -> ImportedMember:
    owner_id = fields.identifier(f"{at}.owner_id", member.owner_id)
    return ImportedMember(
        owner_id=owner_id,
        tag_external_id=_external_id(fields, f"{at}.tag_external_id", member.tag_external_id),
        target_user_id=fields.other(f"{at}.target_user_id", member.target_user_id, than=owner_id),
        created_at=_create_time(fields, f"{at}.create_time", member, now=now),
        is_former=member.former,
    )


def read_chunk_of_posts(request: pb.ImportPostsRequest) -> list[ImportedPost]:
    """Read and check a chunk of posts."""
    now = datetime.now(UTC)
    with Fields() as fields:
        fields.count("posts", len(request.posts), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        posts = [
            _imported_post(fields, f"posts[{index}]", post, now=now)
            for index, post in enumerate(request.posts[:_MAX_IMPORT_CHUNK])
        ]
        _reject_repeated(fields, "posts", "external_id", [post.key for post in posts])
        _check_photos(fields, posts)
    return posts


def _check_photos(fields: Fields, posts: Sequence[ImportedPost]) -> None:
    """Check that no two posts have a photo in common, and that there are not too many in all."""
    seen = set[str]()
    for post in posts:
        for draft in post.photos:
            if draft.key in seen:
                fields.reject(draft.field, "must not be given twice")
        seen.update(draft.key for draft in post.photos)
    if sum(len(post.photos) for post in posts) > _MAX_IMPORTED_PHOTOS:
        fields.reject("posts", f"must have at most {_MAX_IMPORTED_PHOTOS} photos in all")
    if len({post.author_id for post in posts if post.photos}) > 1:
        fields.reject("posts", "must have one author, as far as they have photos")


def read_chunk_of_comments(request: pb.ImportCommentsRequest) -> list[ImportedComment]:
    """Read and check a chunk of comments."""
    now = datetime.now(UTC)
    with Fields() as fields:
        fields.count("comments", len(request.comments), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        comments = [
            _imported_comment(fields, f"comments[{index}]", comment, now=now)
            for index, comment in enumerate(request.comments[:_MAX_IMPORT_CHUNK])
        ]
        keys = [(comment.post, comment.author_id, comment.external_id) for comment in comments]
        _reject_repeated(fields, "comments", "external_id", keys)
    return comments


def _imported_comment(
    fields: Fields, at: str, comment: pb.ImportCommentsRequest.ImportedComment, *, now: datetime
) -> ImportedComment:
    created_at = _create_time(fields, f"{at}.create_time", comment, now=now)
    return ImportedComment(
        author_id=fields.identifier(f"{at}.author_id", comment.author_id),
        external_id=_external_id(fields, f"{at}.external_id", comment.external_id),
        post_author_id=fields.identifier(f"{at}.post_author_id", comment.post_author_id),
        post_external_id=_external_id(fields, f"{at}.post_external_id", comment.post_external_id),
        body=fields.text(f"{at}.body", comment.body, max_length=COMMENT_LENGTH),
        created_at=created_at,
        edited_at=_later_time(fields, at, comment, "edit_time", than=created_at, now=now),
        is_moderated=comment.moderated,
        parent_external_id=fields.text(
            f"{at}.parent_external_id",
            comment.parent_external_id,
            max_length=EXTERNAL_ID_LENGTH,
            may_be_empty=True,
        ),
        is_hidden=comment.hidden,
    )


def _reject_repeated(fields: Fields, items: str, field: str, keys: Sequence[Hashable]) -> None:
    seen = set[Hashable]()
    for index, key in enumerate(keys):
        if key in seen:
            fields.reject(f"{items}[{index}].{field}", "must not be given twice")
        seen.add(key)


def _external_id(fields: Fields, field: str, value: str) -> str:
    return fields.text(field, value, max_length=EXTERNAL_ID_LENGTH)


def _imported_post(
    fields: Fields, at: str, post: pb.ImportPostsRequest.ImportedPost, *, now: datetime
) -> ImportedPost:
    author_id = fields.identifier(f"{at}.author_id", post.author_id)
    external_id = _external_id(fields, f"{at}.external_id", post.external_id)
    body = fields.text(
        f"{at}.body", post.body, max_length=BODY_LENGTH, may_be_empty=bool(post.photos)
    )
    created_at = _create_time(fields, f"{at}.create_time", post, now=now)
    audience = read_audience(fields, f"{at}.audience", post.audience, may_be_as_read=True)
    tags, excluded_tags = _external_tags(fields, at, post, audience)
    policy = read_comment_policy(fields, f"{at}.comment_policy", post, may_be_as_read=True)
    is_scored = post.HasField("importance")
    if is_scored:
        fields.number(f"{at}.importance", post.importance, maximum=_MAX_IMPORTANCE)
    return ImportedPost(
        author_id=author_id,
        external_id=external_id,
        body=body,
        created_at=created_at,
        edited_at=_later_time(fields, at, post, "edit_time", than=created_at, now=now),
        audience=audience,
        tag_external_ids=tags,
        excluded_tag_external_ids=excluded_tags,
        importance=post.importance if is_scored else None,
        attributes=read_attributes(fields, f"{at}.attributes", post.attributes),
        photos=read_photos(fields, f"{at}.photos", post.photos),
        is_moderated=post.moderated,
        comment_policy=policy,
        comment_tag_external_ids=_policy_tags(fields, at, post, policy),
        comments_locked=post.comments_locked,
    )


def _policy_tags(
    fields: Fields, at: str, post: pb.ImportPostsRequest.ImportedPost, policy: CommentPolicy
) -> list[str]:
    """Read the imported tags of a comment policy, which has no others then."""
    field = f"{at}.comment_tag_external_ids"
    tags = fields.texts(
        field,
        post.comment_tag_external_ids,
        max_items=_MAX_POLICY_TAGS,
        max_length=EXTERNAL_ID_LENGTH,
    )
    if tags and (policy.kind != TAGS or policy.tag_ids):
        fields.reject(field, "must be empty unless kind is TAGS and tag_ids are empty")
    return tags


def _external_tags(
    fields: Fields, at: str, post: pb.ImportPostsRequest.ImportedPost, audience: Audience
) -> tuple[list[str], list[str]]:
    """Read the imported tags of an audience, which has no others then."""
    shown, excluded = (
        fields.texts(
            f"{at}.{name}",
            getattr(post, name),
            max_items=_MAX_AUDIENCE_TAGS,
            max_length=EXTERNAL_ID_LENGTH,
        )
        for name in ("tag_external_ids", "excluded_tag_external_ids")
    )
    if shown and (audience.kind != TAGS or audience.tag_ids):
        fields.reject(
            f"{at}.tag_external_ids", "must be empty unless kind is TAGS and tag_ids are empty"
        )
    if excluded and (audience.kind == PRIVATE or audience.excluded_tag_ids):
        fields.reject(
            f"{at}.excluded_tag_external_ids",
            "must be empty if kind is PRIVATE or there are excluded_tag_ids",
        )
    for index, external_id in enumerate(excluded):
        if external_id in shown:
            fields.reject(
                f"{at}.excluded_tag_external_ids[{index}]",
                "must not also be in tag_external_ids",
            )
    return shown, excluded


_Timed: TypeAlias = (
    pb.ImportTagsRequest.ImportedTag
    | pb.ImportTagsRequest.ImportedMember
    | pb.ImportPostsRequest.ImportedPost
    | pb.ImportCommentsRequest.ImportedComment
)


def _create_time(fields: Fields, field: str, item: _Timed, *, now: datetime) -> datetime:
    if not item.HasField("create_time"):
        fields.reject(field, "must be given")
        return now
    moment = fields.past(field, item.create_time, now=now)
    if moment < FIRST_MOMENT:
        fields.reject(field, "must not be before 1970")
    return moment


def _later_time(
    fields: Fields, at: str, item: _Timed, name: str, *, than: datetime, now: datetime
) -> datetime | None:
    """Read when something was changed or deleted that was created before."""
    if not item.HasField(name):  # type: ignore[arg-type]  # each is a field of the items it is for
        return None
    moment = fields.past(f"{at}.{name}", getattr(item, name), now=now)
    if moment < than:
        fields.reject(f"{at}.{name}", "must not be before create_time")
    return moment
