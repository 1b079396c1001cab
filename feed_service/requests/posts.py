"""Posts in requests: their audiences, comment policies, photos and attributes."""

from collections.abc import Mapping, Sequence

from feed_service import messages
from feed_service.audiences import WITHOUT_TAGS
from feed_service.models import (
    ALT_TEXT_LENGTH,
    PRIVATE,
    TAGS,
)
from feed_service.queries.photos import PhotoDraft
from feed_service.queries.posts import Audience, CommentPolicy
from kith.feed.v1 import feed_pb2 as pb
from shared.api.fields import Fields
from shared.api.limits import limits

_MAX_AUDIENCE_TAGS = limits(pb.Audience, "tag_ids").max_items
_MAX_POLICY_TAGS = limits(pb.CommentPolicy, "tag_ids").max_items
_MAX_PHOTOS = limits(pb.CreatePostRequest, "photo_keys").max_items
_MAX_ATTRIBUTE_BYTES = limits(pb.Post, "attributes").max_bytes
_KEY_LENGTH = limits(pb.CreatePostRequest, "photo_keys").max_length


def read_audience(
    fields: Fields, field: str, message: pb.Audience, *, may_be_as_read: bool = False
) -> Audience:
    """Read an audience; as a post is read, TAGS may be without tags."""
    kind = fields.choice(f"{field}.kind", message.kind, choices=messages.AUDIENCE_KINDS)
    tag_ids = fields.identifiers(f"{field}.tag_ids", message.tag_ids, max_items=_MAX_AUDIENCE_TAGS)
    excluded_tag_ids = fields.identifiers(
        f"{field}.excluded_tag_ids", message.excluded_tag_ids, max_items=_MAX_AUDIENCE_TAGS
    )
    if kind == TAGS and not message.tag_ids and not may_be_as_read:
        fields.reject(f"{field}.tag_ids", WITHOUT_TAGS)
    if kind != TAGS and message.tag_ids:
        fields.reject(f"{field}.tag_ids", "must be empty unless kind is TAGS")
    if kind == PRIVATE and message.excluded_tag_ids:
        fields.reject(f"{field}.excluded_tag_ids", "must be empty if kind is PRIVATE")
    for index, tag_id in enumerate(excluded_tag_ids):
        if tag_id in tag_ids:
            fields.reject(f"{field}.excluded_tag_ids[{index}]", "must not also be in tag_ids")
    return Audience(kind=kind, tag_ids=tag_ids, excluded_tag_ids=excluded_tag_ids)


def read_comment_policy(
    fields: Fields,
    field: str,
    of: pb.CreatePostRequest | pb.Post | pb.ImportPostsRequest.ImportedPost,
    *,
    may_be_as_read: bool = False,
) -> CommentPolicy:
    """Read a policy, which is ALL if it is not given; as a post is read, TAGS may be without."""
    if not of.HasField("comment_policy"):
        return CommentPolicy()
    message = of.comment_policy
    kind = fields.choice(f"{field}.kind", message.kind, choices=messages.COMMENT_POLICY_KINDS)
    tag_ids = fields.identifiers(f"{field}.tag_ids", message.tag_ids, max_items=_MAX_POLICY_TAGS)
    if kind == TAGS and not message.tag_ids and not may_be_as_read:
        fields.reject(f"{field}.tag_ids", WITHOUT_TAGS)
    if kind != TAGS and message.tag_ids:
        fields.reject(f"{field}.tag_ids", "must be empty unless kind is TAGS")
    return CommentPolicy(kind=kind, tag_ids=tag_ids)


def read_new_photos(fields: Fields, request: pb.CreatePostRequest) -> list[PhotoDraft]:
    """Read the photos of a new post with their alternative texts."""
    keys = fields.texts(
        "photo_keys", request.photo_keys, max_items=_MAX_PHOTOS, max_length=_KEY_LENGTH
    )
    alt_texts = request.alt_texts or [""] * len(keys)
    if len(alt_texts) != len(keys):
        fields.reject("alt_texts", "must be empty or have one item for each of photo_keys")
    return [
        PhotoDraft(key, _alt_text(fields, f"alt_texts[{index}]", alt_text), f"photo_keys[{index}]")
        for index, (key, alt_text) in enumerate(zip(keys, alt_texts, strict=False))
    ]


def read_photos(fields: Fields, at: str, photos: Sequence[pb.Photo]) -> list[PhotoDraft]:
    """Read the photos of a post as it is read."""
    if not photos:
        return []
    fields.count(at, len(photos), min_items=0, max_items=_MAX_PHOTOS)
    drafts, seen = list[PhotoDraft](), set[str]()
    for index, photo in enumerate(photos[:_MAX_PHOTOS]):
        key_field = f"{at}[{index}].key"
        key = fields.text(key_field, photo.key, max_length=_KEY_LENGTH)
        if key in seen:
            fields.reject(key_field, "must not be given twice")
        seen.add(key)
        alt_text = _alt_text(fields, f"{at}[{index}].alt_text", photo.alt_text)
        drafts.append(PhotoDraft(key, alt_text, key_field))
    return drafts


def _alt_text(fields: Fields, field: str, value: str) -> str:
    return fields.text(field, value, max_length=ALT_TEXT_LENGTH, may_be_empty=True)


def read_attributes(fields: Fields, field: str, values: Mapping[str, str]) -> Mapping[str, str]:
    """Read the attributes of a post."""
    return fields.text_map(field, values, max_bytes=_MAX_ATTRIBUTE_BYTES)
