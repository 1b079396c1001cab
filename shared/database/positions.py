"""Positions: how far a database's log was written, and how far a read has to see.

The response to a write has the position of its commit, a token that the caller sends with later
reads: "not older than this". The primary answers reads without a token, so that clients that do not
know of replicas never read old data.

Tokens are not signed, because a forged one does no harm. With a low one the caller sees what `any`
lets everybody see, and a read with a high one is answered by the primary.
"""

import base64
import binascii
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple, Self

from kith.exceptions import UnavailableError, ValidationError
from kith.positions import ANY_WORD, KEY, MOST_TOKENS

_FORM: Final = struct.Struct(">cIQ")
_TIMELINE_DIGITS: Final = 8
_HALF_BITS: Final = 32

# Where commits do not wait for the log, what others may see is ahead of what is flushed.
HERE: Final = """
    SELECT pg_walfile_name(lsn), lsn
    FROM (SELECT CASE current_setting('synchronous_commit')
                 WHEN 'off' THEN pg_current_wal_insert_lsn()
                 ELSE pg_current_wal_flush_lsn() END) AS here (lsn)"""
"""The primary's position, at or behind that of everything that its sessions may see."""


class BehindError(UnavailableError):
    """A replica has not come as far as it has to, or is none any more."""


class Position(NamedTuple):
    """A position in a database's log; each promotion begins a timeline.

    Later ones are greater, for a timeline goes on where it left the one before.
    """

    timeline: int
    offset: int

    @classmethod
    def of(cls, file: str, lsn: str) -> Self:
        """Return the position that HERE has told."""
        return cls(int(file[:_TIMELINE_DIGITS], 16), offset(lsn))

    @property
    def lsn(self) -> str:
        """The offset as PostgreSQL writes it."""
        return f"{self.offset >> _HALF_BITS:X}/{self.offset & (1 << _HALF_BITS) - 1:X}"


ANY: Final = Position(0, 0)
"""The position of a read that any state of the database satisfies."""

wanted: ContextVar[Position | None] = ContextVar("wanted_position", default=None)
"""How far the reads of a call have to see; None for all there is, which the primary alone has."""

commits: ContextVar[list[Position] | None] = ContextVar("commit_positions", default=None)
"""Where the commits of a call are noted; None when the caller does not need them."""

proof: ContextVar[str] = ContextVar("proof", default="")
"""What is put before a statement to prove how far the server has come."""


def offset(lsn: str) -> int:
    """Return the position in the log that PostgreSQL writes as two halves."""
    high, low = lsn.split("/")
    return (int(high, 16) << _HALF_BITS) + int(low, 16)


@contextmanager
def proving(position: Position) -> Iterator[None]:
    """Let each statement of the block fail on a server that is no replica, or is not so far.

    The proof is a statement of its own in the same message, before the other takes its snapshot.
    Within that it would prove nothing: a replica goes on between a snapshot and a look at its log.
    What fails is a number that is none, because that is what PostgreSQL's log then says.
    """
    has_come = f"pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= '{position.lsn}'"
    told = f"CASE WHEN {has_come} THEN '1' ELSE 'this replica is behind' END"
    token = proof.set(f"SELECT CAST({told} AS int); ")
    try:
        yield
    finally:
        proof.reset(token)


def issue(service: str, position: Position) -> str:
    """Return the token for a position in the log of a service's database."""
    return base64.urlsafe_b64encode(_FORM.pack(_mark(service), *position)).decode().rstrip("=")


def read(service: str, values: Sequence[str]) -> Position | None:
    """Return the latest position of a service's log in what a call brings; None if it brings none.

    A position in another service's log says that its bringer knows of replicas, like `any`. Raises
    ValidationError naming the metadata key.
    """
    tokens = [token.strip() for value in values for token in value.split(",")]
    if len(tokens) > MOST_TOKENS:
        raise ValidationError.of(KEY, f"must have at most {MOST_TOKENS} positions")
    return max((_position(service, token) for token in tokens), default=None)


def _position(service: str, token: str) -> Position:
    if token == ANY_WORD:
        return ANY
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        mark, timeline, offset = _FORM.unpack(raw)
    except (binascii.Error, ValueError, struct.error):
        raise ValidationError.of(
            KEY, "must be positions from earlier answers, unchanged, or the word any"
        ) from None
    return Position(timeline, offset) if mark == _mark(service) else ANY


def _mark(service: str) -> bytes:
    return service[:1].encode()
