"""Imports: many pairs that are connected at once, chunk by chunk."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from sqlalchemy import Connection

from graph_service.conflicts import erased_meanwhile
from graph_service.metrics import ACTIVE_CONNECTIONS, USERS
from graph_service.models import ACCEPTED, PENDING
from graph_service.queries import imports
from graph_service.queries.imports import BLOCKED
from shared.api.imports import import_chunks
from shared.database.database import Database

_OVER_LIMIT = "over limit"


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


class Imports:
    """Imports of pairs."""

    def __init__(self, database: Database, *, max_connections: int) -> None:
        self._database = database
        self._max_connections = max_connections

    def import_chunks(self, chunks: Iterable[Sequence[ImportedPair]]) -> ImportResult:
        """Import each chunk as `shared.api.imports` says."""
        return import_chunks(chunks, self._import, nothing=ImportResult())

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
        locked = imports.lock_importing(
            connection, amounts=amounts, max_connections=self._max_connections
        )
        if locked.number < len(amounts):
            raise erased_meanwhile()
        between = imports.between(connection, asked=wanted)
        accepted, refused = _decide(wanted, between, dict(locked.rooms))
        if locked.meets_erased:
            imports.note_returns(connection, pairs=accepted)
        imports.import_pairs(
            connection,
            connected_at=accepted,
            revision=locked.revision,
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
