"""Decisions about posts and comments in requests."""

from datetime import datetime, timedelta

from feed_service import messages
from feed_service.models import (
    MODERATION_REASON_LENGTH,
)
from feed_service.queries.moderation import Decision, ModerationState
from kith.feed.v1 import feed_pb2 as pb
from shared.api.fields import Fields

# Ten years; SetModeration can hold anew.
_LONGEST_HOLD = timedelta(days=3_650)


def read_decision(fields: Fields, request: pb.SetModerationRequest) -> Decision:
    """Read what a service decides about a post or comment."""
    state = fields.choice("state", request.state, choices=messages.MODERATION_STATES)
    is_visible = state is ModerationState.VISIBLE
    reason = fields.text(
        "reason", request.reason, max_length=MODERATION_REASON_LENGTH, may_be_empty=is_visible
    )
    if is_visible and reason:
        fields.reject("reason", "must be empty if state is VISIBLE")
    return Decision(state=state, reason=reason, held_until=_hold_end(fields, request, state))


def _hold_end(
    fields: Fields, request: pb.SetModerationRequest, state: ModerationState
) -> datetime | None:
    if state is not ModerationState.HELD:
        if request.HasField("expire_time"):
            fields.reject("expire_time", "must be empty unless state is HELD")
        return None
    if not request.HasField("expire_time"):
        fields.reject("expire_time", "must be given if state is HELD")
        return None
    return fields.future("expire_time", request.expire_time, most=_LONGEST_HOLD)
