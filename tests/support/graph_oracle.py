"""The questions to a graph, answered from its edges and blocks with sets."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable


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

    def suggestions(
        self, user: int, limit: int, *, examined: Collection[int] | None = None
    ) -> list[tuple[int, int]]:
        """Who has most connections in common with the user, and how many; then by id.

        Of the connections that are examined: by default all.
        """
        friends = self.neighbours[user] if examined is None else examined
        counts = Counter(
            candidate
            for friend in friends
            for candidate in self.neighbours[friend]
            if candidate != user
            and candidate not in self.neighbours[user]
            and frozenset((user, candidate)) not in self.blocks
        )
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
