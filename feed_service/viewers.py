"""Viewers: a user who reads and their connections, in the form that the visibility rule takes."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from shared.database.arrays import array_literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Viewer:
    """A user and their connections, in the form that the rule takes.

    `reconnected_ids` are those of the connected ids that had an earlier connection with the user
    which ended; `own_revisions` and `peer_revisions` are the revisions of the user and of the peer
    right after it ended. `blocked_ids` are the users who block the user or are blocked by the user,
    None where the graph was not asked. A viewer who `is_suspended` has no connections; a connection
    who is suspended is not among the ids. `known_at` is the time of `time.monotonic` at which this
    process learnt of the connections.
    """

    user_id: int
    connected_ids: str = "{}"
    reconnected_ids: str = "{}"
    own_revisions: str = "{}"
    peer_revisions: str = "{}"
    blocked_ids: str | None = None
    is_suspended: bool = False
    known_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def since(self) -> float:
        """The moment of which a snapshot must be, or of a later one, to be read by this viewer.

        An older one would put new connections and old audiences together: who hides a post and
        then connects with the viewer would find it shown. To who has none, only their own is shown.
        """
        return self.known_at if self.connected_ids != "{}" else float("-inf")

    @property
    def parameters(self) -> dict[str, int | str]:
        """What VISIBLE, CLAUSE and HAS_TAG_OF_VIEWER have to be bound to."""
        return {
            "viewer_id": self.user_id,
            "connected_ids": self.connected_ids,
            "reconnected_ids": self.reconnected_ids,
            "own_revisions": self.own_revisions,
            "peer_revisions": self.peer_revisions,
        }

    @property
    def connected_to(self) -> frozenset[int]:
        """The ids of the viewer's connections, parsed anew each time."""
        return frozenset(_ids(self.connected_ids))

    @property
    def own_endings(self) -> dict[int, int]:
        """The user's revision after the last ending of a connection with each reconnected peer."""
        return _by_peer(self, self.own_revisions)

    @property
    def peer_endings(self) -> dict[int, int]:
        """The peer's revision after the last ending of a connection with each reconnected peer."""
        return _by_peer(self, self.peer_revisions)

    def connected_among(self, user_ids: Collection[int]) -> str:
        """Return those of the users that are connected with the viewer, in the same form."""
        return array_literal(set(user_ids).intersection(_ids(self.connected_ids)))

    def without_comments_of(self, user_ids: Collection[int]) -> "Viewer":
        """Return the viewer as one who has a block with these users too: see NOT_BLOCKED."""
        if self.blocked_ids is None or not user_ids:
            return self
        return replace(self, blocked_ids=array_literal({*_ids(self.blocked_ids), *user_ids}))

    def without_connections(self, user_ids: Collection[int]) -> "Viewer":
        """Return the viewer as one who is not connected with these users."""
        left = self.connected_to.difference(user_ids)
        return replace(self, connected_ids=array_literal(left))

    def unchanged_since(self, earlier: "Viewer") -> frozenset[int]:
        """Return the users that are connected with the viewer by the same connection as earlier."""
        ended, ended_earlier = self.own_endings, earlier.own_endings
        return frozenset(
            peer_id
            for peer_id in _ids(self.connected_ids)
            if ended.get(peer_id) == ended_earlier.get(peer_id)
        )


def _by_peer(viewer: Viewer, revisions: str) -> dict[int, int]:
    return dict(zip(_ids(viewer.reconnected_ids), _ids(revisions), strict=True))


def _ids(literal: str) -> list[int]:
    """Parse an array literal, anew each time, for hot paths need the text alone."""
    return [int(part) for part in literal[1:-1].split(",") if part]
