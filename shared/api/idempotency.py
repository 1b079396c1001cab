"""Calls that can be repeated: the first success of a request id is the answer to every repeat.

Both services have a table of request ids and answers, stored for 24 hours. A row belongs to a user,
or to NOBODY for calls that services make. In a distributed database it lies on the user's shard,
where the user's rows are written.

The answer is stored in the transaction that does the work, so there is no moment at which one is
there and the other is not. A concurrent repeat waits for the first to finish. Errors are not
stored, because nothing of their transaction is.

A claim and an answer cost no message of their own: the claim travels with the first statement of
the transaction that does the work, and the answer with its COMMIT.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message
from sqlalchemy import BigInteger, Column, Connection, Index, LargeBinary, MetaData, Table, Uuid
from sqlalchemy import text as sql
from sqlalchemy.exc import IntegrityError

from kith.errors.v1 import errors_pb2
from kith.exceptions import AppException, ResourceNotFoundError, ValidationError
from shared.database.columns import big_id, moment
from shared.database.database import (
    Database,
    run,
    send_with_begin,
    send_with_commit,
    violates,
)
from shared.database.statement import Statement

M = TypeVar("M", bound=Message)
P = TypeVar("P")
R = TypeVar("R")

NOBODY: Final = 0
"""Stands for the user of calls that services make. No user has this id."""

_STORED_FOR: Final = {"kept_for": timedelta(hours=24)}
_TABLE: Final = "idempotency_keys"
_FIELD: Final = "request_id"


def idempotency_keys_table(metadata: MetaData) -> Table:
    """Return the table with its indexes, for the models of a service."""
    table = Table(
        _TABLE,
        metadata,
        big_id("user_id", primary_key=True),
        Column("request_id", Uuid, primary_key=True),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("response", LargeBinary, nullable=False),
        # Another user that the response names, so that it is deleted when that user is erased.
        Column("about_user_id", BigInteger),
        moment("created_at"),
    )
    # purge.
    Index("idx_idempotency_key_created_at", table.c.created_at)
    # forget_about.
    Index(
        "idx_idempotency_key_about_user",
        table.c.about_user_id,
        postgresql_where=sql("about_user_id IS NOT NULL"),
    )
    return table


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
    def key(self) -> dict[str, object]:
        """What its row is found by."""
        return {"user_id": self.user_id, "request_id": str(self.request_id)}

    @property
    def fingerprint(self) -> bytes:
        """What tells this call from one with other arguments; all spellings of a UUID are equal."""
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
    if call.request_id is None:
        return database.write(lambda connection: call.answer(work(connection))), True

    def claimed_work(connection: Connection) -> M:
        _claim(connection, call)
        response = call.answer(work(connection))
        _store(connection, call, response)
        return response

    while True:
        try:
            return database.write(claimed_work), True
        except IntegrityError as error:
            if not violates(error, f"pk_{_TABLE}"):
                raise
        if (answer := answered(database, call, still_there=still_there)) is not None:
            return answer, False
        # It was claimed more than a day ago, or has been forgotten just now.
        database.write(lambda connection: connection.execute(_FREE, {**call.key, **_STORED_FOR}))


def once_prepared(
    database: Database,
    call: Call[R, M],
    *,
    prepare: Callable[[], P],
    work: Callable[[Connection, P], R],
    still_there: Callable[[Connection, M], bool] | None = None,
    looks_first: bool = True,
) -> tuple[M, bool]:
    """Do the same for what needs other services first: they are asked before the transaction.

    A repeat is answered even if they would refuse by now. With `looks_first` they are not asked for
    it. Without, no first call has to look for an earlier answer, which is right where repeats are
    rare and `prepare` changes nothing.
    """
    if looks_first:
        answer = answered(database, call, still_there=still_there)
        if answer is not None:
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
    if call.request_id is None:
        return None

    def read(connection: Connection) -> M | None:
        answer = _stored(connection, call)
        if answer is not None and still_there is not None and not still_there(connection, answer):
            raise _result_deleted()
        return answer

    answer = database.read(read)
    if answer is not None:
        database.tell_position()
    return answer


# A second transaction with the same id waits here for the first, and fails if that commits. An
# ON CONFLICT would need its result looked at, and so a message of its own for every first call, to
# spare the rare repeat an error.
_CLAIM: Final = Statement(
    "claim_request_id",
    """
    INSERT INTO idempotency_keys (user_id, request_id, fingerprint, response, about_user_id)
    VALUES (:user_id, :request_id, :fingerprint, '', :about_user_id)
""",
)


def _claim(connection: Connection, call: Call[R, M]) -> None:
    """Claim the id with the transaction's first statement, which fails if it has been claimed."""
    send_with_begin(
        connection,
        _CLAIM,
        {
            **call.key,
            "fingerprint": call.fingerprint,
            "about_user_id": call.about_user_id,
        },
    )


_ANSWER: Final = Statement(
    "answer_request_id",
    """
    UPDATE idempotency_keys SET response = :response
    WHERE user_id = :user_id AND request_id = :request_id
""",
)


def _store(connection: Connection, call: Call[R, M], response: M) -> None:
    """Store the answer to repeats of the call, with the transaction's COMMIT."""
    send_with_commit(
        connection,
        _ANSWER,
        {
            **call.key,
            "response": response.SerializeToString(deterministic=True),
        },
    )


# The fingerprint is empty when the answer named a user who has been erased since.
_STORED: Final = Statement(
    "stored_answer",
    """
    SELECT fingerprint, response FROM idempotency_keys
    WHERE user_id = :user_id AND request_id = :request_id
      AND created_at >= now() - CAST(:kept_for AS interval)
""",
)


def _stored(connection: Connection, call: Call[R, M]) -> M | None:
    """The stored answer to the call, if it is not older than 24 hours."""
    rows = run(connection, _STORED, parameters={**call.key, **_STORED_FOR})
    if not rows:
        return None
    fingerprint, response = map(bytes, rows[0])
    if not fingerprint:
        raise _result_deleted()
    if fingerprint != call.fingerprint:
        raise ValidationError.of(
            _FIELD,
            "was used before with other arguments",
            reason=errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        )
    return call.answered_by.FromString(response)


def _result_deleted() -> ResourceNotFoundError:
    return ResourceNotFoundError(
        "the first call took effect, but its result has been deleted since",
        reason=errors_pb2.ERROR_REASON_RESULT_DELETED,
    )


_FREE = sql("""
    DELETE FROM idempotency_keys
    WHERE user_id = :user_id AND request_id = CAST(:request_id AS uuid)
      AND created_at < now() - CAST(:kept_for AS interval)
""")


_PURGE = sql("""
    DELETE FROM idempotency_keys AS kept
    USING (SELECT user_id, request_id FROM idempotency_keys
           WHERE created_at < now() - CAST(:kept_for AS interval)
           ORDER BY created_at LIMIT :limit) AS old
    WHERE kept.user_id = old.user_id AND kept.request_id = old.request_id
      AND kept.created_at < now() - CAST(:kept_for AS interval)
""")


def purge(connection: Connection, *, limit: int) -> int:
    """How many request ids are not to be replayed any more; they are forgotten."""
    return connection.execute(_PURGE, {**_STORED_FOR, "limit": limit}).rowcount


# The id stays, so that a late copy of the call does not take effect once more, as if it were new.
# The fingerprint goes too: of a few ids and a known request id it can be computed.
_FORGET_ABOUT = sql("""
    UPDATE idempotency_keys AS kept
    SET fingerprint = '', response = '', about_user_id = NULL
    FROM (SELECT user_id, request_id FROM idempotency_keys
          WHERE about_user_id = :user_id LIMIT :limit) AS found
    WHERE kept.user_id = found.user_id AND kept.request_id = found.request_id
""")


def forget_about(connection: Connection, *, user_id: int, limit: int | None = None) -> int:
    """How many kept answers to others named the user; their ids alone stay."""
    return connection.execute(_FORGET_ABOUT, {"user_id": user_id, "limit": limit}).rowcount


_FORGET_OF = sql("""
    DELETE FROM idempotency_keys AS kept
    USING (SELECT request_id FROM idempotency_keys
           WHERE user_id = :user_id LIMIT :limit FOR UPDATE) AS found
    WHERE kept.user_id = :user_id AND kept.request_id = found.request_id
""")


def forget_of(connection: Connection, *, user_id: int, limit: int | None = None) -> int:
    """How many answers were kept for calls of the user; they are forgotten with their ids."""
    return connection.execute(_FORGET_OF, {"user_id": user_id, "limit": limit}).rowcount
