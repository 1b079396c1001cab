"""Protobuf messages that both services use."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(moment: datetime) -> Timestamp:
    """Return a moment as the message."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message
