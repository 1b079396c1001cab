"""Creations that can be retried: the first success of a request id is what every repeat returns.

The answer is kept in the transaction that creates, so there is no moment at which one is there and
the other is not. A concurrent repeat waits for the first to finish.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from feed_service import queries
from feed_service.queries.requests import Replay
from shared.database import Database
from shared.errors import AppException, ValidationError
from shared.gen.kith.errors.v1 import errors_pb2

M = TypeVar("M", bound=Message)
P = TypeVar("P")


@dataclass(frozen=True, kw_only=True)
class Request(Generic[M]):
    """A creation as its caller sent it, and the kind of message that answers it.

    `about_user_id` is somebody else whom the answer names.
    """

    message: Message
    user_id: int
    request_id: uuid.UUID | None
    answered_by: type[M]
    about_user_id: int | None = None

    @property
    def fingerprint(self) -> bytes:
        """What tells this request from one with other arguments."""
        name = self.message.DESCRIPTOR.full_name.encode()
        content = self.message.SerializeToString(deterministic=True)
        return hashlib.sha256(name + b"\0" + content).digest()


def create_once(
    database: Database, request: Request[M], create: Callable[[Connection], M]
) -> tuple[M, bool]:
    """Return what `create` returns or returned for this request, and whether it ran now.

    Raises ValidationError naming `request_id` when it was used with other arguments.
    """
    return database.write(lambda connection: _create_in(connection, request, create))


def create_prepared_once(
    database: Database,
    request: Request[M],
    *,
    prepare: Callable[[], P],
    create: Callable[[Connection, P], M],
) -> tuple[M, bool]:
    """Do the same for what needs other services first: they are asked before the transaction.

    They are not asked for a repeat, which is answered even if they would refuse by now.
    """
    if (answer := _answered(database, request)) is not None:
        return answer, False
    try:
        prepared = prepare()
    except AppException:
        # A repeat at the same time may have been faster, and have used up what was to be prepared.
        if (answer := _answered(database, request)) is not None:
            return answer, False
        raise
    return create_once(database, request, lambda connection: create(connection, prepared))


def _answered(database: Database, request: Request[M]) -> M | None:
    request_id = request.request_id
    if request_id is None:
        return None
    replay = database.read(
        lambda connection: queries.requests.replay(
            connection, user_id=request.user_id, request_id=request_id
        )
    )
    if replay is None:
        return None
    database.tell_position()
    return _repeated(request, replay)


def _create_in(
    connection: Connection, request: Request[M], create: Callable[[Connection], M]
) -> tuple[M, bool]:
    user_id, request_id = request.user_id, request.request_id
    if request_id is None:
        return create(connection), True
    if queries.requests.claim_request(
        connection, user_id=user_id, request_id=request_id, fingerprint=request.fingerprint
    ):
        response = create(connection)
        queries.requests.answer_request(
            connection,
            user_id=user_id,
            request_id=request_id,
            response=response.SerializeToString(deterministic=True),
            about_user_id=request.about_user_id,
        )
        return response, True
    replay = queries.requests.replay(connection, user_id=user_id, request_id=request_id)
    if replay is None:
        raise LookupError("a request that was answered is gone")
    return _repeated(request, replay), False


def _repeated(request: Request[M], replay: Replay) -> M:
    if replay.fingerprint != request.fingerprint:
        raise ValidationError.of(
            "request_id",
            "was used before with other arguments",
            reason=errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        )
    return request.answered_by.FromString(replay.response)
