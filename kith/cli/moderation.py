"""Hiding and holding posts and comments."""

from datetime import UTC, date, datetime, time
from typing import Final

from rich.console import Console

from kith.client import KithClient
from kith.feed.v1 import feed_pb2
from kith.timestamps import timestamp

STATES: Final = {
    "visible": feed_pb2.MODERATION_STATE_VISIBLE,
    "hidden": feed_pb2.MODERATION_STATE_HIDDEN,
    "held": feed_pb2.MODERATION_STATE_HELD,
}
"""What a post or a comment can be made."""


def moderate(
    post: feed_pb2.PostName,
    kith: KithClient,
    console: Console,
    *,
    comment_id: int,
    state: str,
    reason: str,
    until: date | None,
) -> None:
    """Make a post, or if there is a comment's id the comment on it, one of STATES.

    A hold ends at the beginning of a day in UTC.
    """
    request = feed_pb2.SetModerationRequest(
        post=post, comment_id=comment_id, state=STATES[state], reason=reason
    )
    if until is not None:
        request.expire_time.CopyFrom(timestamp(datetime.combine(until, time(), UTC)))
    kith.feed.SetModeration(request)
    about = f"post {post.post_id} of person {post.author_id}"
    if comment_id:
        about = f"comment {comment_id} on {about}"
    end = f" until {until}" if until is not None else ""
    console.print(f"{about.capitalize()} is {state}{end}.", highlight=False, soft_wrap=True)
