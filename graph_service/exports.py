"""Exports: every connected pair, in the order of pairs, and everything about single users."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from graph_service.queries import exports
from graph_service.queries.exports import PairRow
from graph_service.queries.lookups import PeerRow
from shared.api.paging import BELOW_ALL_IDS, ById, PageTokens, Scope
from shared.database.database import Database

_CHUNK: Final = 5_000
_PEERS_CHUNK: Final = 1_000
_SCOPE: Final = Scope.of("export")


class _PairPosition(NamedTuple):
    """The position of a pair in an export; both are ids of users."""

    user_a_id: int
    user_b_id: int


_BEFORE_ALL_PAIRS: Final = _PairPosition(0, 0)


@dataclass(frozen=True, kw_only=True)
class ExportChunk:
    """Some connected pairs, and the cursor behind them."""

    pairs: list[PairRow]
    cursor: str


@dataclass(frozen=True, kw_only=True)
class PeersChunk:
    """Some peers of a user, each as the user sees them, and the cursor behind them."""

    peers: list[PeerRow]
    cursor: str


class Exports:
    """Exports of the whole graph, and of single users."""

    def __init__(self, database: Database, tokens: PageTokens) -> None:
        self._database = database
        self._tokens = tokens

    def export(self, cursor: str) -> Iterator[ExportChunk]:
        """Yield every connected pair once, in the order of pairs, from a cursor on.

        Raises ValidationError naming `cursor` when it is not one of ours.
        """
        after = self._tokens.read(_SCOPE, cursor, start=_BEFORE_ALL_PAIRS, field="cursor")
        while pairs := self._page(after):
            after = _PairPosition(pairs[-1].user_a_id, pairs[-1].user_b_id)
            yield ExportChunk(pairs=pairs, cursor=self._tokens.issue(_SCOPE, after))

    def export_user(self, user_id: int, cursor: str) -> Iterator[PeersChunk]:
        """Yield each connected, asked, asking or blocked peer once, by id, from a cursor on.

        Raises ValidationError naming `cursor` when it is not one of ours for this user.
        """
        scope = Scope.of("export user", user_id)
        after = self._tokens.read(scope, cursor, start=BELOW_ALL_IDS, field="cursor")
        while peers := self._peers(user_id, after.id):
            after = ById(peers[-1].peer_id)
            yield PeersChunk(peers=peers, cursor=self._tokens.issue(scope, after))

    def _peers(self, user_id: int, after_id: int) -> list[PeerRow]:
        return self._database.read(
            lambda connection: exports.peers_of_user(
                connection, user_id=user_id, after_id=after_id, limit=_PEERS_CHUNK
            )
        )

    def _page(self, after: tuple[int, int]) -> list[PairRow]:
        return self._database.read(
            lambda connection: exports.export_page(connection, after=after, limit=_CHUNK)
        )
