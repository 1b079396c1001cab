"""Page tokens: opaque, authenticated, bound to the call they belong to.

A token is the position of the last item of a page, signed together with a digest of the request's
other arguments (HMAC-SHA256, RFC 2104, cut to 16 bytes). It confers no rights: every page is
filtered for its viewer again, so a token in the wrong hands shows nothing. Tokens carry no time
and do not expire; they end when their key is retired. Follows AIP-158.

Everybody can read the position. So where the last item of a page is dropped from it, because the
viewer may not see it any more, the position is sealed: masked with a MAC of random bits, which are
put before it.
"""

import base64
import binascii
import hashlib
import hmac
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, Generic, NamedTuple, TypeVar

from kith.errors.v1 import errors_pb2
from kith.exceptions import ValidationError

_MAX_TOKEN_LENGTH = 4096
_MAC_BYTES = 16
_NUMBER: Final = struct.Struct(">q")
_MASKS: Final = struct.Struct(">4q")  # a SHA-256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

T = TypeVar("T")
# All fields are integers of 64 bits.
P = TypeVar("P", bound=NamedTuple)


class ById(NamedTuple):
    """The position of a row in a list that is ordered by id."""

    id: int


class ByTime(NamedTuple):
    """The position of a row in a list that is ordered by time and then by id, either way.

    The time is in microseconds since 1970, PostgreSQL's own precision.
    """

    micros: int
    id: int

    @classmethod
    def of(cls, moment: datetime, row_id: int) -> "ByTime":
        """Return the position of a row."""
        return cls((moment - _EPOCH) // _MICROSECOND, row_id)

    @property
    def key(self) -> tuple[datetime, int]:
        """The time and the id, as the database orders by them."""
        return _EPOCH + timedelta(microseconds=self.micros), self.id


BELOW_ALL_IDS: Final = ById(0)
ABOVE_ALL_IDS: Final = ById(2**63 - 1)
OLDER_THAN_ALL: Final = ByTime(0, 0)
NEWER_THAN_ALL: Final = ByTime.of(datetime(9999, 1, 1, tzinfo=UTC), 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class PageTokens:
    """Issues and reads tokens. The first key signs, all of them verify, so keys can be rotated."""

    keys: Sequence[bytes]

    @cached_property
    def _signers(self) -> Sequence[hmac.HMAC]:
        """What signs with each key, to be copied.

        OpenSSL takes several times as long to find the algorithm and to read the key as to sign.
        """
        return [hmac.new(key, digestmod="sha256") for key in self.keys]

    def issue(self, scope: "Scope", position: Sequence[int]) -> str:
        """Return the token for going on behind `position`, a key of the list's order."""
        payload = struct.pack(f">{len(position)}q", *position)
        mac = _mac(self._signers[0], scope, payload)
        return base64.urlsafe_b64encode(payload + mac).decode().rstrip("=")

    def issue_sealed(self, scope: "Scope", position: Sequence[int]) -> str:
        """Return the same, from which nobody else can tell the position."""
        [seal] = _NUMBER.unpack(os.urandom(_NUMBER.size))
        return self.issue(scope, [seal, *_masked(self._signers[0], scope, seal, position)])

    def read(self, scope: "Scope", token: str, *, start: P, field: str = "page_token") -> P:
        """Return the position in a token, which is of the kind of `start`; that for the empty one.

        Fields with defaults are those of `start` where a token of an earlier version lacks them.

        Raises ValidationError naming the field when the token is damaged, made up, or was issued
        for other arguments.
        """
        if not token:
            return start
        signer, integers = self._opened(scope, token, field=field)
        if len(integers) == len(start) + 1:
            seal, *masked = integers
            integers = _masked(signer, scope, seal, masked)
        if not 0 <= len(start) - len(integers) <= len(start._field_defaults):
            raise _invalid_token(field)
        return start._make([*integers, *start[len(integers) :]])

    def read_integers(self, scope: "Scope", token: str, *, field: str) -> tuple[int, ...]:
        """Return what is in a token whose positions differ in length; nothing for the empty one.

        Raises what `read` raises.
        """
        return self._opened(scope, token, field=field)[1] if token else ()

    def _opened(
        self, scope: "Scope", token: str, *, field: str
    ) -> tuple[hmac.HMAC, tuple[int, ...]]:
        """Return what signed a token, and the integers in it."""
        if len(token) > _MAX_TOKEN_LENGTH:
            raise _invalid_token(field)
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _invalid_token(field) from None
        payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        signers = [
            signer
            for signer in self._signers
            if hmac.compare_digest(mac, _mac(signer, scope, payload))
        ]
        if len(payload) % _NUMBER.size or not signers:
            raise _invalid_token(field)
        # base64 has several spellings of the same bytes; only the one we issue is accepted.
        if base64.urlsafe_b64encode(raw).decode().rstrip("=") != token:
            raise _invalid_token(field)
        return signers[0], tuple(number for (number,) in _NUMBER.iter_unpack(payload))

    def cut(
        self,
        scope: "Scope",
        rows: Sequence[T],
        *,
        size: int,
        position: Callable[[T], Sequence[int]],
        is_shown: Callable[[T], bool] | None = None,
    ) -> "Page[T]":
        """Make a page of rows that were read with one more than fit, which tells the end.

        `position` returns a row's position, of the kind that `read` is to return. What is not shown
        is dropped, and the token does not tell of it.
        """
        items = list(rows[:size])
        token = ""
        if len(rows) > size:
            is_last_shown = is_shown is None or is_shown(items[-1])
            issue = self.issue if is_last_shown else self.issue_sealed
            token = issue(scope, position(items[-1]))
        if is_shown is not None:
            items = [row for row in items if is_shown(row)]
        return Page(items=items, next_page_token=token)


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list, and the token of the next part; empty at the end of the list."""

    items: list[T]
    next_page_token: str


@dataclass(frozen=True)
class Scope:
    """What a token is bound to: the method and every argument but page size and token."""

    digest: bytes

    @classmethod
    def of(cls, method: str, *arguments: object) -> "Scope":
        """Digest a method's name and its arguments."""
        return cls(hashlib.sha256(repr((method, *arguments)).encode()).digest())


def _mac(signer: hmac.HMAC, scope: Scope, payload: bytes) -> bytes:
    copy = signer.copy()
    copy.update(scope.digest + payload)
    return copy.digest()[:_MAC_BYTES]


def _masked(signer: hmac.HMAC, scope: Scope, seal: int, position: Sequence[int]) -> tuple[int, ...]:
    """Mask a position of up to four integers, or take the mask off again."""
    copy = signer.copy()
    # Longer than a digest and some whole integers, so that it is never what a token is signed for.
    copy.update(b"sealed" + scope.digest + _NUMBER.pack(seal))
    masks = _MASKS.unpack(copy.digest())
    return tuple(
        number ^ mask for number, mask in zip(position, masks[: len(position)], strict=True)
    )


def _invalid_token(field: str) -> ValidationError:
    return ValidationError.of(
        field,
        "was not issued for this call; send the last token received, unchanged, with the same "
        "other arguments, or start again with an empty token",
        reason=errors_pb2.ERROR_REASON_INVALID_PAGE_TOKEN,
    )
