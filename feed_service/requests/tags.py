"""Tags and their members in requests."""

from feed_service.models import (
    TAG_NAME_LENGTH,
)
from feed_service.queries.tags import Mute
from feed_service.tags import UNMUTED_WITH_END, TagChanges
from kith.feed.v1 import feed_pb2 as pb
from shared.api.fields import Fields
from shared.api.limits import limits

_MAX_MEMBERS = limits(pb.AddTagMembersRequest, "target_user_ids").max_items
_CHANGEABLE_OF_TAG = frozenset({"name", "muted", "mute_until"})


def read_tag_name(fields: Fields, field: str, value: str) -> str:
    """Read the name of a tag."""
    name = fields.text(field, value, max_length=TAG_NAME_LENGTH)
    if name != name.strip():
        fields.reject(field, "must not begin or end with white space")
    return name


def read_mute(
    fields: Fields, field: str, tag: pb.CreateTagRequest | pb.ImportTagsRequest.ImportedTag
) -> Mute | None:
    """Read whether a new tag is muted, and until when; None if it is not."""
    has_end = tag.HasField("mute_until")
    if has_end and not tag.muted:
        fields.reject(field, UNMUTED_WITH_END)
    until = fields.moment(field, tag.mute_until) if has_end else None
    return Mute(until=until) if tag.muted else None


def read_tag_changes(fields: Fields, request: pb.UpdateTagRequest) -> TagChanges:
    """Read what is to be changed of a tag."""
    changed = fields.update_mask(
        "update_mask",
        request.update_mask.paths,
        allowed=_CHANGEABLE_OF_TAG,
        resource=request.tag,
    )
    changes_end, mute_until = "mute_until" in changed, None
    if changes_end and request.tag.HasField("mute_until"):
        mute_until = fields.moment("tag.mute_until", request.tag.mute_until)
    return TagChanges(
        name=read_tag_name(fields, "tag.name", request.tag.name) if "name" in changed else None,
        is_muted=request.tag.muted if "muted" in changed else None,
        changes_end=changes_end,
        mute_until=mute_until,
    )


def read_members(
    fields: Fields, request: pb.AddTagMembersRequest | pb.RemoveTagMembersRequest
) -> tuple[int, list[int]]:
    """Read a tag and those of its members who are meant."""
    tag_id = fields.identifier("tag_id", request.tag_id)
    target_ids = fields.identifiers(
        "target_user_ids", request.target_user_ids, min_items=1, max_items=_MAX_MEMBERS
    )
    for index, target_id in enumerate(target_ids):
        if target_id == request.user_id:
            fields.reject(f"target_user_ids[{index}]", "must not be the user")
    return tag_id, target_ids
