"""Exports: every connected pair, in the order of pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from graph_service.queries import exports
from graph_service.queries.exports import PairRow
from shared.api.paging import PageTokens, Scope
from shared.database.database import Database

_CHUNK: Final = 5_000
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


class Exports:
    """Exports of the whole graph."""

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

    def _page(self, after: tuple[int, int]) -> list[PairRow]:
        return self._database.read(
            lambda connection: exports.export_page(connection, after=after, limit=_CHUNK)
        )
