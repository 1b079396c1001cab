"""Moving graphs in and out, and erasing a user."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from graph_service import queries
from graph_service.connections import ensure_users, ordered
from graph_service.metrics import ACTIVE_CONNECTIONS, USERS
from graph_service.models import ACCEPTED, EventKind
from graph_service.queries import PairRow
from shared.database import Database
from shared.errors import AbortedError, AppException
from shared.paging import PageTokens, Scope
from shared.totals import add_to_totals

EXPORT_CHUNK = 5_000
_EXPORT_SCOPE = Scope.of("export")


@dataclass(frozen=True, kw_only=True)
class ImportedPair:
    """A pair to connect; `connected_at` None means now."""

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

    def import_chunks(self, chunks: Iterable[list[ImportedPair]]) -> ImportResult:
        """Import each chunk in a transaction of its own.

        An error that ends the import says in its metadata `committed_chunks` how many took effect.
        """
        result = ImportResult()
        try:
            for chunk in chunks:
                result += self._import(chunk)
        except AppException as error:
            error.metadata["committed_chunks"] = str(result.committed_chunks)
            raise
        return result

    def export(self, cursor: str) -> Iterator[ExportChunk]:
        """Yield every connected pair once, in the order of pairs, from a cursor on.

        Raises ValidationError naming `cursor` when it is not one of ours.
        """
        position = self._tokens.read(_EXPORT_SCOPE, cursor, length=2, field="cursor") or (0, 0)
        after = (position[0], position[1])
        while pairs := self._export_page(after):
            after = (pairs[-1].user_a_id, pairs[-1].user_b_id)
            yield ExportChunk(pairs=pairs, cursor=self._tokens.issue(_EXPORT_SCOPE, after))

    def delete_user(self, user_id: int) -> int:
        """Erase a user; returns how many connections ended. Repeating it erases nothing more."""

        def work(connection: Connection) -> int:
            # Whoever has a connection, request, block or event has a row in users.
            # Neighbours can be locked only once they are known, and one may come or go in
            # between: whoever came has no lock yet, so all are taken again, in order.
            neighbours = queries.neighbour_ids(connection, user_id=user_id)
            users = queries.lock_users(connection, user_ids={user_id, *neighbours})
            if user_id not in users:
                return 0
            current = queries.neighbour_ids(connection, user_id=user_id)
            if current - neighbours:
                raise AbortedError("the user's connections changed; repeat the call")
            _erase(connection, user_id, current)
            return len(current)

        return self._database.write(work)

    def _export_page(self, after: tuple[int, int]) -> list[PairRow]:
        return self._database.read(
            lambda connection: queries.export_page(connection, after=after, limit=EXPORT_CHUNK)
        )

    def _import(self, chunk: list[ImportedPair]) -> ImportResult:
        if not chunk:
            return ImportResult(committed_chunks=1)
        return self._database.write(lambda connection: self._import_in(connection, chunk))

    def _import_in(self, connection: Connection, chunk: list[ImportedPair]) -> ImportResult:
        wanted = {
            ordered(pair.first_user_id, pair.second_user_id): pair.connected_at for pair in chunk
        }
        ids = {user_id for pair in wanted for user_id in pair}
        users, created = ensure_users(connection, ids)
        counts = {user_id: user.connection_count for user_id, user in users.items()}
        existing = queries.pairs(connection, asked=wanted)
        blocked = {ordered(*block) for block in queries.blocks(connection, asked=wanted)}
        accepted, outcome = self._decide(wanted, existing, blocked, counts)
        if accepted:
            _connect(connection, accepted)
        add_to_totals(connection, amounts={ACTIVE_CONNECTIONS: len(accepted), USERS: created})
        repeated = len(chunk) - len(wanted)
        return ImportResult(
            imported=len(accepted),
            existing=outcome["existing"] + repeated,
            blocked=outcome["blocked"],
            over_limit=outcome["over_limit"],
            committed_chunks=1,
        )

    def _decide(
        self,
        wanted: Mapping[tuple[int, int], datetime | None],
        existing: Mapping[tuple[int, int], PairRow],
        blocked: set[tuple[int, int]],
        counts: dict[int, int],
    ) -> tuple[dict[tuple[int, int], datetime | None], Counter[str]]:
        """Choose the pairs to connect, first come first served where the limit is near."""
        accepted: dict[tuple[int, int], datetime | None] = {}
        outcome = Counter[str]()
        for pair, connected_at in wanted.items():
            if pair in existing and existing[pair].status == ACCEPTED:
                outcome["existing"] += 1
            elif pair in blocked:
                outcome["blocked"] += 1
            elif max(counts[pair[0]], counts[pair[1]]) >= self._max_connections:
                outcome["over_limit"] += 1
            else:
                accepted[pair] = connected_at
                for user_id in pair:
                    counts[user_id] += 1
        return accepted, outcome


def _connect(connection: Connection, pairs: Mapping[tuple[int, int], datetime | None]) -> None:
    amounts = Counter(user_id for pair in pairs for user_id in pair)
    queries.import_pairs(connection, connected_at=pairs)
    queries.change_counts(connection, amounts=amounts)
    queries.insert_events(connection, kind=EventKind.IMPORTED, about=list(pairs))


def _erase(connection: Connection, user_id: int, neighbours: set[int]) -> None:
    queries.erase_user(connection, user_id=user_id)
    if neighbours:
        queries.change_counts(connection, amounts=dict.fromkeys(neighbours, -1))
    queries.insert_events(connection, kind=EventKind.USER_DELETED, about=[(user_id, None)])
    add_to_totals(connection, amounts={ACTIVE_CONNECTIONS: -len(neighbours), USERS: -1})
