"""Imports: connections, open requests and blocks from elsewhere, chunk by chunk.

A chunk is decided in memory and stored as a whole: the blocks first, which end connections, then
the connections, then the requests. So a block holds in any order of imports.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from sqlalchemy import Connection

from graph_service.conflicts import erased_meanwhile
from graph_service.fences import Fences
from graph_service.metrics import ACTIVE_CONNECTIONS, USERS
from graph_service.models import ACCEPTED, PENDING, WITHHELD
from graph_service.queries import imported_blocks, imported_requests, imports, suspensions
from graph_service.queries.imported_requests import NewRequest
from graph_service.queries.imports import Between, ConnectedPair
from graph_service.settings import PairLimits
from shared.api.imports import import_chunks
from shared.database.database import Database

Pair = tuple[int, int]
"""The ids of two users, the lower first."""
Directed = tuple[int, int]
"""The user who asks or blocks, and the other."""


class ImportedPair(NamedTuple):
    """A pair to connect; a time that is None means now. A tuple, for there are millions."""

    first_user_id: int
    second_user_id: int
    connected_at: datetime | None = None
    requested_at: datetime | None = None


class ImportedRequest(NamedTuple):
    """An open request; a time that is None means now."""

    requester_id: int
    addressee_id: int
    created_at: datetime | None = None


class ImportedBlock(NamedTuple):
    """A block; a time that is None means now."""

    blocker_id: int
    blocked_id: int
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What one message imports."""

    pairs: Sequence[ImportedPair] = ()
    requests: Sequence[ImportedRequest] = ()
    blocks: Sequence[ImportedBlock] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything in it."""
        return bool(self.pairs or self.requests or self.blocks)


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What became of the chunks so far."""

    imported: int = 0
    imported_requests: int = 0
    imported_blocks: int = 0
    existing: int = 0
    blocked: int = 0
    over_limit: int = 0
    committed_chunks: int = 0

    def __add__(self, other: "ImportResult") -> "ImportResult":
        """Return the sum of two results."""
        return ImportResult(
            imported=self.imported + other.imported,
            imported_requests=self.imported_requests + other.imported_requests,
            imported_blocks=self.imported_blocks + other.imported_blocks,
            existing=self.existing + other.existing,
            blocked=self.blocked + other.blocked,
            over_limit=self.over_limit + other.over_limit,
            committed_chunks=self.committed_chunks + other.committed_chunks,
        )


class Imports:
    """Imports of pairs, requests and blocks."""

    def __init__(self, database: Database, limits: PairLimits, fences: Fences) -> None:
        self._database = database
        self._fences = fences
        self._limits = limits

    def import_chunks(self, chunks: Iterable[Chunk]) -> ImportResult:
        """Import each chunk as `shared.api.imports` says."""
        return import_chunks(chunks, self._import, nothing=ImportResult())

    def _import(self, chunk: Chunk) -> ImportResult:
        if not chunk:
            return ImportResult(committed_chunks=1)
        return self._database.write(lambda connection: self._import_in(connection, chunk))

    def _import_in(self, connection: Connection, chunk: Chunk) -> ImportResult:
        # As many connections as a user can get by this chunk: a request may connect two.
        amounts = Counter(chain.from_iterable(pair[:2] for pair in chunk.pairs))
        amounts.update(chain.from_iterable(each[:2] for each in chunk.requests))
        amounts.update({user_id: 0 for each in chunk.blocks for user_id in each[:2]})
        created = imports.begin_import(connection, user_ids=amounts)
        locked = imports.lock_importing(
            connection, amounts=amounts, max_connections=self._limits.max_connections
        )
        if locked.number < len(amounts):
            raise erased_meanwhile()
        decision = _Decision(
            between=imports.between(connection, asked=_named(chunk)),
            rooms=dict(locked.rooms),
            block_rooms=self._block_rooms(connection, chunk.blocks),
            request_rooms=self._request_rooms(connection, chunk.requests),
        )
        decision.decide(chunk)
        suspended = suspensions.suspended_among(connection, user_ids=amounts)
        if decision.blocks:
            imported_blocks.import_blocks(
                connection,
                blocked_at=decision.blocks,
                ended=decision.ended,
                suspended=suspended,
                revision=locked.revision,
            )
        if locked.meets_erased:
            imports.note_returns(connection, pairs=decision.connected)
        fenced_by = imports.import_pairs(
            connection,
            pairs=decision.connected,
            revision=locked.revision,
            has_requests=decision.has_rows,
            suspended=suspended,
            totals={
                ACTIVE_CONNECTIONS: len(decision.connected) - len(decision.ended),
                USERS: created,
            },
        )
        if decision.requests:
            imported_requests.import_requests(connection, requests=decision.requests)
        if changed := {
            *chain.from_iterable(decision.connected),
            *chain.from_iterable(decision.blocks),
        }:
            self._fences.before_commit(connection, fenced_by, changed)
        return decision.result

    def _block_rooms(
        self, connection: Connection, blocks: Sequence[ImportedBlock]
    ) -> dict[int, int]:
        if not blocks:
            return {}
        return imported_blocks.block_rooms(
            connection,
            user_ids={block.blocker_id for block in blocks},
            max_blocks=self._limits.max_blocks,
        )

    def _request_rooms(
        self, connection: Connection, requests: Sequence[ImportedRequest]
    ) -> dict[int, int]:
        if not requests:
            return {}
        return imported_requests.request_rooms(
            connection,
            user_ids={request.requester_id for request in requests},
            max_open_requests=self._limits.max_open_requests,
        )


def _named(chunk: Chunk) -> set[Pair]:
    """Return the pairs that a chunk says something of."""
    return {
        *(_pair(first_id, second_id) for first_id, second_id, *_ in chunk.pairs),
        *(_pair(requester_id, addressee_id) for requester_id, addressee_id, _ in chunk.requests),
        *(_pair(blocker_id, blocked_id) for blocker_id, blocked_id, _ in chunk.blocks),
    }


def _pair(first_id: int, second_id: int) -> Pair:
    return (first_id, second_id) if first_id < second_id else (second_id, first_id)


@dataclass(kw_only=True)
class _Decision:
    """What becomes of a chunk; first come, first served where a limit is near."""

    between: Between
    rooms: dict[int, int]
    """How many connections the users near the limit may still get."""
    block_rooms: dict[int, int]
    request_rooms: dict[int, int]
    blocks: dict[Directed, datetime | None] = field(default_factory=dict)
    ended: set[Pair] = field(default_factory=set)
    connected: dict[Pair, ConnectedPair] = field(default_factory=dict)
    requests: dict[Directed, NewRequest] = field(default_factory=dict)
    has_rows: bool = False
    """Whether a pair to connect may have a row already."""
    result: ImportResult = field(default_factory=ImportResult)

    def decide(self, chunk: Chunk) -> None:
        """Decide about everything in a chunk."""
        outcomes = [
            *(self._block(block) for block in chunk.blocks),
            *(self._connection(pair) for pair in chunk.pairs),
            *(self._request(request) for request in chunk.requests),
        ]
        counts = Counter(outcomes)
        self.has_rows = not self.connected.keys().isdisjoint(self.between.states)
        self.result = ImportResult(**counts, committed_chunks=1)

    def _block(self, block: ImportedBlock) -> str:
        directed, pair = block[:2], _pair(*block[:2])
        if self._blocks(directed):
            return "existing"
        if not _take(self.block_rooms, directed[:1]):
            return "over_limit"
        self.blocks[directed] = block.created_at
        if self._status(pair) == ACCEPTED:
            self.ended.add(pair)
        return "imported_blocks"

    def _connection(self, imported: ImportedPair) -> str:
        pair = _pair(*imported[:2])
        if self._blocks(pair) or self._blocks(pair[::-1]):
            return "blocked"
        if self._is_connected(pair):
            return "existing"
        if not _take(self.rooms, pair):
            return "over_limit"
        self.connected[pair] = ConnectedPair(imported.connected_at, imported.requested_at)
        return "imported"

    def _request(self, request: ImportedRequest) -> str:
        directed, reverse = request[:2], request[1::-1]
        pair = _pair(*directed)
        if self._blocks(directed):
            return "blocked"
        if self._is_connected(pair) or self._has_asked(directed):
            return "existing"
        is_withheld = self._blocks(reverse)
        if self._has_asked(reverse) and not is_withheld:
            return self._accept(pair, request)
        if not _take(self.request_rooms, directed[:1]):
            return "over_limit"
        self.requests[directed] = NewRequest(request.created_at, is_withheld)
        return "imported_requests"

    def _accept(self, pair: Pair, request: ImportedRequest) -> str:
        """Connect two who have asked each other, as RequestConnection does."""
        if not _take(self.rooms, pair):
            return "over_limit"
        self.requests.pop(request[1::-1], None)
        self.connected[pair] = ConnectedPair(request.created_at, None)
        return "imported_requests"

    def _blocks(self, directed: Directed) -> bool:
        return directed in self.blocks or directed in self.between.blocks

    def _status(self, pair: Pair) -> str | None:
        state = self.between.states.get(pair)
        return None if state is None else state.status

    def _is_connected(self, pair: Pair) -> bool:
        is_over = pair in self.ended
        return pair in self.connected or (self._status(pair) == ACCEPTED and not is_over)

    def _has_asked(self, directed: Directed) -> bool:
        """Whether the first has an open request to the second, as far as the first can see."""
        if directed in self.requests:
            return True
        state = self.between.states.get(_pair(*directed))
        if state is None or state.status not in {PENDING, WITHHELD}:
            return False
        # A block ends the blocker's own request.
        return state.requested_by == directed[0] and not self._blocks(directed)


def _take(rooms: dict[int, int], user_ids: Sequence[int]) -> bool:
    """Take from each of the users the room for one more, if all have it; others have enough."""
    near_limit = [user_id for user_id in user_ids if user_id in rooms]
    if any(rooms[user_id] <= 0 for user_id in near_limit):
        return False
    for user_id in near_limit:
        rooms[user_id] -= 1
    return True
