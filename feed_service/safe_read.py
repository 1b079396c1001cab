"""Reading what others posted, so that no one sees a post written after they were removed.

Reading connections first and posts second can show Bob the post that Alice wrote after removing
him: Zanzibar calls it the new-enemy problem (Pang et al., USENIX ATC 2019, section 2.2). Here the
read is optimistic. The posts are read with the ids at hand, and only afterwards the graph is asked
whether these are still the ids. If so, every post read was written before that moment, and the ids
held at that moment, so the answer is right as of then. If not, the answer brings the ids of now and
the read is repeated with them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from feed_service.graph_client import ConnectedIds, GraphClient

T = TypeVar("T")

_MAX_REREADS = 2


@dataclass(frozen=True, kw_only=True)
class Validated(Generic[T]):
    """What was read, and whom to drop from it.

    `still_connected` is None when the ids held still. A viewer whose connections change faster than
    they can be read gets the last read, to be limited to the authors who are still connected.
    """

    value: T
    still_connected: frozenset[int] | None = None

    def allows(self, *, author_id: int, viewer_id: int) -> bool:
        """Whether an author's posts may stay in what was read."""
        return (
            self.still_connected is None
            or author_id == viewer_id
            or author_id in self.still_connected
        )


def safe_read(
    graph: GraphClient, viewer_id: int, read: Callable[[ConnectedIds], T]
) -> Validated[T]:
    """Run `read` with the viewer's connected ids until they held still, at most three times.

    Raises UnavailableError when graph_service cannot be reached: without it nothing is shown.
    """
    held = graph.held_ids(viewer_id)
    for _ in range(_MAX_REREADS + 1):
        value = read(held)
        current = graph.current(viewer_id, known=held)
        if current is held:
            return Validated(value=value)
        held = current
    return Validated(value=value, still_connected=held.ids)
