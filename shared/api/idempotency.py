"""Calls that can be repeated: the first success of a request id is what every repeat is answered.

The answer is kept in the transaction that does the work, so there is no moment at which one is
there and the other is not. A concurrent repeat waits for the first to finish. Errors are not kept,
for nothing of their transaction is.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kith.errors.v1 import errors_pb2
from kith.exceptions import AppException, ResourceNotFoundError, ValidationError
from shared.api import idempotency_keys
from shared.api.idempotency_keys import Kept
from shared.database.database import Database

M = TypeVar("M", bound=Message)
P = TypeVar("P")
R = TypeVar("R")

_FIELD = "request_id"


@dataclass(frozen=True, kw_only=True)
class Call(Generic[R, M]):
    """A call that changes something, as its caller sent it, and how it is answered.

    `user_id` is the user that the request id belongs to. `answer` makes the response from the
    result, in the transaction; repeats get the same response. `about_user_id` is another user that
    the response names.
    """

    message: Message
    user_id: int
    request_id: uuid.UUID | None
    answered_by: type[M]
    answer: Callable[[R], M]
    about_user_id: int | None = None

    @property
    def fingerprint(self) -> bytes:
        """What tells this call from one with other arguments, whatever its UUID is spelled like."""
        message = type(self.message)()
        message.CopyFrom(self.message)
        # Set and not cleared, so that it is what earlier versions have stored.
        setattr(message, _FIELD, str(self.request_id))
        name = message.DESCRIPTOR.full_name.encode()
        content = message.SerializeToString(deterministic=True)
        return hashlib.sha256(name + b"\0" + content).digest()


def once(
    database: Database,
    call: Call[R, M],
    work: Callable[[Connection], R],
    *,
    still_there: Callable[[Connection, M], bool] | None = None,
) -> tuple[M, bool]:
    """Return the answer to what `work` returns or returned for this call, and whether it ran now.

    `still_there` says whether what an earlier answer shows has not been deleted since. Raises
    ValidationError naming `request_id` when it was used with other arguments, and
    ResourceNotFoundError when the result is gone.
    """
    user_id, request_id = call.user_id, call.request_id
    if request_id is None:
        return database.write(lambda connection: call.answer(work(connection))), True

    def claimed_work(connection: Connection) -> M:
        idempotency_keys.claim(
            connection,
            user_id=user_id,
            request_id=request_id,
            fingerprint=call.fingerprint,
            about_user_id=call.about_user_id,
        )
        response = call.answer(work(connection))
        idempotency_keys.answer(
            connection,
            user_id=user_id,
            request_id=request_id,
            response=response.SerializeToString(deterministic=True),
        )
        return response

    while True:
        try:
            return database.write(claimed_work), True
        except IntegrityError as error:
            if not idempotency_keys.is_claimed(error):
                raise
        if (answer := answered(database, call, still_there=still_there)) is not None:
            return answer, False
        # It was claimed more than a day ago, or has been forgotten just now.
        database.write(
            lambda connection: idempotency_keys.free(
                connection, user_id=user_id, request_id=request_id
            )
        )


def once_prepared(
    database: Database,
    call: Call[R, M],
    *,
    prepare: Callable[[], P],
    work: Callable[[Connection, P], R],
    still_there: Callable[[Connection, M], bool] | None = None,
) -> tuple[M, bool]:
    """Do the same for what needs other services first: they are asked before the transaction.

    They are not asked for a repeat, which is answered even if they would refuse by now.
    """
    if (answer := answered(database, call, still_there=still_there)) is not None:
        return answer, False
    try:
        prepared = prepare()
    except AppException:
        # A repeat at the same time may have been faster, and have used up what was to be prepared.
        if (answer := answered(database, call, still_there=still_there)) is not None:
            return answer, False
        raise
    return once(
        database, call, lambda connection: work(connection, prepared), still_there=still_there
    )


def answered(
    database: Database,
    call: Call[R, M],
    *,
    still_there: Callable[[Connection, M], bool] | None = None,
) -> M | None:
    """Return what the call was answered before, if it was; raises as `once` does."""
    request_id = call.request_id
    if request_id is None:
        return None

    def read(connection: Connection) -> M | None:
        kept = idempotency_keys.kept(connection, user_id=call.user_id, request_id=request_id)
        if kept is None:
            return None
        answer = _repeated(call, kept)
        if still_there is not None and not still_there(connection, answer):
            raise _result_deleted()
        return answer

    answer = database.read(read)
    if answer is not None:
        database.tell_position()
    return answer


def _repeated(call: Call[R, M], kept: Kept) -> M:
    if not kept.fingerprint:
        raise _result_deleted()
    if kept.fingerprint != call.fingerprint:
        raise ValidationError.of(
            _FIELD,
            "was used before with other arguments",
            reason=errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        )
    return call.answered_by.FromString(kept.response)


def _result_deleted() -> ResourceNotFoundError:
    return ResourceNotFoundError(
        "the first call took effect, but its result has been deleted since",
        reason=errors_pb2.ERROR_REASON_RESULT_DELETED,
    )
