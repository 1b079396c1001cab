"""The first success of every call that named a request id, kept for 24 hours.

Both services have this table. What is kept belongs to a user, or to NOBODY for calls that services
make. In a distributed database it lies on the user's shard, where the user's rows are written.

A claim and an answer cost no message of their own: the claim travels with the first statement of
the transaction that does the work, and the answer with its COMMIT.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Index, LargeBinary, MetaData, Table, Uuid
from sqlalchemy import text as sql
from sqlalchemy.exc import IntegrityError

from shared.database.columns import big_id, moment
from shared.database.database import send_with_begin, send_with_commit, violates

NOBODY: Final = 0
"""Stands for the user of calls that services make. No user has this id."""

KEPT_FOR: Final = timedelta(hours=24)
_TABLE: Final = "idempotency_keys"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a call with this request id was asked and answered the first time.

    The fingerprint is empty when the answer named a user who has been erased since.
    """

    fingerprint: bytes
    response: bytes


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


# A second transaction with the same id waits here for the first, and fails if that commits. An
# ON CONFLICT would need its result looked at, and so a message of its own for every first call, to
# spare the rare repeat an error.
_CLAIM: Final = """
    INSERT INTO idempotency_keys (user_id, request_id, fingerprint, response, about_user_id)
    VALUES (%(user_id)s, CAST(%(request_id)s AS uuid), %(fingerprint)s, '', %(about_user_id)s)"""


def claim(
    connection: Connection,
    *,
    user_id: int,
    request_id: uuid.UUID,
    fingerprint: bytes,
    about_user_id: int | None,
) -> None:
    """Claim the id with the transaction's first statement, which fails if it has been claimed.

    `is_claimed` tells that failure from others.
    """
    send_with_begin(
        connection,
        _CLAIM,
        {
            "user_id": user_id,
            "request_id": str(request_id),
            "fingerprint": fingerprint,
            "about_user_id": about_user_id,
        },
    )


def is_claimed(error: IntegrityError) -> bool:
    """Whether a statement failed because the id had been claimed before."""
    return violates(error, f"pk_{_TABLE}")


_ANSWER: Final = """
    UPDATE idempotency_keys SET response = %(response)s
    WHERE user_id = %(user_id)s AND request_id = CAST(%(request_id)s AS uuid)"""


def answer(connection: Connection, *, user_id: int, request_id: uuid.UUID, response: bytes) -> None:
    """Store what repeats of the request are answered, with the transaction's COMMIT."""
    send_with_commit(
        connection,
        _ANSWER,
        {"user_id": user_id, "request_id": str(request_id), "response": response},
    )


_KEPT = sql("""
    SELECT fingerprint, response FROM idempotency_keys
    WHERE user_id = :user_id AND request_id = :request_id
      AND created_at >= now() - CAST(:kept_for AS interval)
""")


def kept(connection: Connection, *, user_id: int, request_id: uuid.UUID) -> Kept | None:
    """What the request was answered before, if it was and that is not too long ago."""
    row = (
        connection.execute(
            _KEPT, {"user_id": user_id, "request_id": request_id, "kept_for": KEPT_FOR}
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        return None
    return Kept(fingerprint=bytes(row["fingerprint"]), response=bytes(row["response"]))


_FREE = sql("""
    DELETE FROM idempotency_keys
    WHERE user_id = :user_id AND request_id = :request_id
      AND created_at < now() - CAST(:kept_for AS interval)
""")


def free(connection: Connection, *, user_id: int, request_id: uuid.UUID) -> None:
    """Forget an id that was kept for too long and has not been purged yet."""
    connection.execute(_FREE, {"user_id": user_id, "request_id": request_id, "kept_for": KEPT_FOR})


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
    return connection.execute(_PURGE, {"kept_for": KEPT_FOR, "limit": limit}).rowcount


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
