"""The first success of every creation that named a request id."""

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a creation with this request id was asked and answered the first time."""

    fingerprint: bytes
    response: bytes


# The empty insert makes a second transaction with the same id wait for the first, and see its row.
# In UTC, because Citus takes nothing here that depends on a session's time zone.
_CLAIM_REQUEST = text("""
    INSERT INTO idempotency_keys (user_id, request_id, fingerprint, response, created_at)
    VALUES (:user_id, :request_id, :fingerprint, '', now())
    ON CONFLICT (user_id, request_id) DO UPDATE
       SET fingerprint = excluded.fingerprint, response = '', created_at = excluded.created_at
     WHERE idempotency_keys.created_at AT TIME ZONE 'UTC'
           < excluded.created_at AT TIME ZONE 'UTC' - interval '24 hours'
    RETURNING user_id
""")

_REPLAY = text("""
    SELECT fingerprint, response FROM idempotency_keys
    WHERE user_id = :user_id AND request_id = :request_id
      AND created_at >= now() - interval '24 hours'
""")


def replay(connection: Connection, *, user_id: int, request_id: uuid.UUID) -> Replay | None:
    """What the request answered before, if it did."""
    found = connection.execute(_REPLAY, {"user_id": user_id, "request_id": request_id})
    row = found.mappings().one_or_none()
    if row is None:
        return None
    return Replay(fingerprint=bytes(row["fingerprint"]), response=bytes(row["response"]))


def claim_request(
    connection: Connection, *, user_id: int, request_id: uuid.UUID, fingerprint: bytes
) -> bool:
    """Whether the request is new, and now ours to answer."""
    claimed = connection.execute(
        _CLAIM_REQUEST,
        {"user_id": user_id, "request_id": request_id, "fingerprint": fingerprint},
    )
    return claimed.one_or_none() is not None


_ANSWER_REQUEST = text("""
    UPDATE idempotency_keys SET response = :response, about_user_id = :about_user_id
    WHERE user_id = :user_id AND request_id = :request_id
""")


def answer_request(
    connection: Connection,
    *,
    user_id: int,
    request_id: uuid.UUID,
    response: bytes,
    about_user_id: int | None,
) -> None:
    """Nothing; repeating the request will answer this, which names somebody else or nobody."""
    connection.execute(
        _ANSWER_REQUEST,
        {
            "user_id": user_id,
            "request_id": request_id,
            "response": response,
            "about_user_id": about_user_id,
        },
    )
