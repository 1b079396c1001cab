"""Creations that can be retried: the first success of a request id is what every repeat returns.

The answer is kept in the transaction that creates, so there is no moment at which one is there and
the other is not. A concurrent repeat waits for the first to finish.
"""

import hashlib
import uuid
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from feed_service import queries
from shared.errors import ValidationError
from shared.gen.kith.errors.v1 import errors_pb2

M = TypeVar("M", bound=Message)


def create_once(
    connection: Connection,
    *,
    user_id: int,
    request_id: uuid.UUID | None,
    request: Message,
    kind: type[M],
    create: Callable[[], M],
) -> tuple[M, bool]:
    """Return the `kind` that `create` returns or returned for this request, and whether it ran now.

    Raises ValidationError naming `request_id` when it was used with other arguments.
    """
    if request_id is None:
        return create(), True
    fingerprint = _fingerprint(request)
    replay = queries.claim_request(
        connection, user_id=user_id, request_id=request_id, fingerprint=fingerprint
    )
    if replay is None:
        response = create()
        queries.answer_request(
            connection,
            user_id=user_id,
            request_id=request_id,
            response=response.SerializeToString(deterministic=True),
        )
        return response, True
    if replay.fingerprint != fingerprint:
        raise ValidationError.of(
            "request_id",
            "was used before with other arguments",
            reason=errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        )
    return kind.FromString(replay.response), False


def _fingerprint(request: Message) -> bytes:
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + request.SerializeToString(deterministic=True)).digest()
