"""The questions to a graph, answered from its edges and blocks with sets."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

# Of the contract of SuggestConnections.
_MOST_ROWS: Final = 50_000


class GraphOracle:
    """A graph that does not change."""

    def __init__(self, edges: Iterable[tuple[int, int]]) -> None:
        self.neighbours: dict[int, set[int]] = defaultdict(set)
        self.blocks: set[frozenset[int]] = set()
        for first, second in edges:
            self.neighbours[first].add(second)
            self.neighbours[second].add(first)

    @property
    def users(self) -> list[int]:
        """Everybody with a connection, by id."""
        return sorted(self.neighbours)

    def mutual(self, user: int, peer: int) -> list[int]:
        """Who is connected with both, by id; no one if there is a block between the two."""
        if frozenset((user, peer)) in self.blocks:
            return []
        return sorted(self.neighbours[user] & self.neighbours[peer])

    def blocked(self, user: int) -> set[int]:
        """Who has a block with the user, in either direction."""
        return {peer for block in self.blocks if user in block for peer in block - {user}}

    def suggestions(self, user: int, limit: int) -> list[tuple[int, int]]:
        """Who has most connections in common with the user, and how many; then by id.

        Of friends with many connections together, those with the fewest are looked at.
        """
        counts = Counter(
            candidate
            for friend in self._looked_at(user)
            for candidate in self.neighbours[friend]
            if candidate != user
            and candidate not in self.neighbours[user]
            and frozenset((user, candidate)) not in self.blocks
        )
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def _looked_at(self, user: int) -> list[int]:
        """Those connections of a user that suggestions are made from."""
        friends = sorted(
            self.neighbours[user], key=lambda friend: (len(self.neighbours[friend]), friend)
        )
        rows = accumulate(len(self.neighbours[friend]) for friend in friends)
        return [
            friend for friend, so_far in zip(friends, rows, strict=True) if so_far <= _MOST_ROWS
        ]
