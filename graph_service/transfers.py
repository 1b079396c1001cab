"""Moving graphs in and out, and erasing a user."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final, NamedTuple

from sqlalchemy import Connection

from graph_service.connections import erased_meanwhile
from graph_service.metrics import ACTIVE_CONNECTIONS, USERS
from graph_service.models import ACCEPTED, PENDING
from graph_service.queries import erasure, exports, imports, neighbours, users
from graph_service.queries.exports import PairRow
from graph_service.queries.imports import BLOCKED
from kith.exceptions import AbortedError
from shared import idempotency_keys
from shared.database import Database
from shared.idempotency import Call, M, once
from shared.paging import PageTokens, Scope
from shared.totals import add_to_totals
from shared.transfers import import_chunks

EXPORT_CHUNK = 5_000
_EXPORT_SCOPE = Scope.of("export")
_OVER_LIMIT = "over limit"


class _PairPosition(NamedTuple):
    """The position of a pair in an export; both are ids of users."""

    user_a_id: int
    user_b_id: int


_BEFORE_ALL_PAIRS: Final = _PairPosition(0, 0)


class ImportedPair(NamedTuple):
    """A pair to connect; `connected_at` None means now. A tuple, for there are millions."""

    first_user_id: int
    second_user_id: int
    connected_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What became of the pairs so far."""

    imported: int = 0
    existing: int = 0
    blocked: int = 0
    over_limit: int = 0
    committed_chunks: int = 0

    def __add__(self, other: "ImportResult") -> "ImportResult":
        """Return the sum of two results."""
        return ImportResult(
            imported=self.imported + other.imported,
            existing=self.existing + other.existing,
            blocked=self.blocked + other.blocked,
            over_limit=self.over_limit + other.over_limit,
            committed_chunks=self.committed_chunks + other.committed_chunks,
        )


@dataclass(frozen=True, kw_only=True)
class ExportChunk:
    """Some connected pairs, and the cursor behind them."""

    pairs: list[PairRow]
    cursor: str


class Transfers:
    """Imports, exports and erasure."""

    def __init__(self, database: Database, tokens: PageTokens, *, max_connections: int) -> None:
        self._database = database
        self._tokens = tokens
        self._max_connections = max_connections

    def import_chunks(self, chunks: Iterable[Sequence[ImportedPair]]) -> ImportResult:
        """Import each chunk as `shared.transfers` says."""
        return import_chunks(chunks, self._import, nothing=ImportResult())

    def export(self, cursor: str) -> Iterator[ExportChunk]:
        """Yield every connected pair once, in the order of pairs, from a cursor on.

        Raises ValidationError naming `cursor` when it is not one of ours.
        """
        after = self._tokens.read(_EXPORT_SCOPE, cursor, start=_BEFORE_ALL_PAIRS, field="cursor")
        while pairs := self._export_page(after):
            after = _PairPosition(pairs[-1].user_a_id, pairs[-1].user_b_id)
            yield ExportChunk(pairs=pairs, cursor=self._tokens.issue(_EXPORT_SCOPE, after))

    def delete_user(self, call: Call[int, M], user_id: int) -> M:
        """Erase whoever has the id now, and say how many connections ended."""

        def work(connection: Connection) -> int:
            # Somebody without connections may have posts, and the id may be about to get a
            # connection: with a row for all cases, everything that concerns it waits for the lock.
            created = users.create_user(connection, user_id=user_id)
            # Neighbours can be locked only once they are known, and one may come or go in
            # between: whoever came has no lock yet, so all are taken again, in order.
            before = _related(connection, user_id)
            locked = users.lock_users(connection, user_ids={user_id, *before})
            idempotency_keys.forget_of(connection, user_id=user_id)
            idempotency_keys.forget_about(connection, user_id=user_id)
            if user_id not in locked:
                raise erased_meanwhile()
            amounts = _related(connection, user_id)
            if amounts.keys() - before:
                raise AbortedError("the user's connections changed; repeat the call")
            _erase(connection, user_id, amounts, created=created)
            return -sum(amounts.values())

        response, _ = once(self._database, call, work)
        return response

    def _export_page(self, after: tuple[int, int]) -> list[PairRow]:
        return self._database.read(
            lambda connection: exports.export_page(connection, after=after, limit=EXPORT_CHUNK)
        )

    def _import(self, chunk: Sequence[ImportedPair]) -> ImportResult:
        if not chunk:
            return ImportResult(committed_chunks=1)
        return self._database.write(lambda connection: self._import_in(connection, chunk))

    def _import_in(self, connection: Connection, chunk: Sequence[ImportedPair]) -> ImportResult:
        wanted = {
            (first, second) if first < second else (second, first): connected_at
            for first, second, connected_at in chunk
        }
        amounts = Counter(chain.from_iterable(wanted))
        created = imports.begin_import(connection, user_ids=amounts)
        held = imports.hold_users(
            connection, amounts=amounts, max_connections=self._max_connections
        )
        if held.number < len(amounts):
            raise erased_meanwhile()
        between = imports.between(connection, asked=wanted)
        accepted, refused = _decide(wanted, between, dict(held.rooms))
        if held.meets_erased:
            imports.note_returns(connection, pairs=accepted)
        imports.import_pairs(
            connection,
            connected_at=accepted,
            revision=held.revision,
            has_requests=PENDING in between.values(),
            totals={ACTIVE_CONNECTIONS: len(accepted), USERS: created},
        )
        return ImportResult(
            imported=len(accepted),
            existing=refused[ACCEPTED] + len(chunk) - len(wanted),
            blocked=refused[BLOCKED],
            over_limit=refused[_OVER_LIMIT],
            committed_chunks=1,
        )


def _decide(
    wanted: Mapping[tuple[int, int], datetime | None],
    between: Mapping[tuple[int, int], str],
    rooms: dict[int, int],
) -> tuple[dict[tuple[int, int], datetime | None], Counter[str]]:
    """Choose the pairs to connect, first come first served where the limit is near."""
    accepted: dict[tuple[int, int], datetime | None] = {}
    refused = Counter[str]()
    for pair, connected_at in wanted.items():
        if (state := between.get(pair, PENDING)) != PENDING:
            refused[state] += 1
        elif rooms and not _take_room(rooms, pair):
            refused[_OVER_LIMIT] += 1
        else:
            accepted[pair] = connected_at
    return accepted, refused


def _take_room(rooms: dict[int, int], pair: tuple[int, int]) -> bool:
    """Take from both users the room for a connection, if they have it."""
    near_limit = [user_id for user_id in pair if user_id in rooms]
    if any(rooms[user_id] <= 0 for user_id in near_limit):
        return False
    for user_id in near_limit:
        rooms[user_id] -= 1
    return True


def _related(connection: Connection, user_id: int) -> dict[int, int]:
    """Return what an erasure adds to the number of connections of everybody whom it changes."""
    return {
        **dict.fromkeys(erasure.opponent_ids(connection, user_id=user_id), 0),
        **dict.fromkeys(neighbours.neighbour_ids(connection, user_id=user_id), -1),
    }


def _erase(
    connection: Connection, user_id: int, amounts: Mapping[int, int], *, created: int
) -> None:
    erasure.erase_user(connection, user_id=user_id)
    if amounts:
        users.change_counts(connection, amounts=amounts)
    add_to_totals(
        connection,
        amounts={ACTIVE_CONNECTIONS: sum(amounts.values()), USERS: created - 1},
    )
