"""The users whose calls are refused because they are suspended.

graph_service knows who is suspended. To ask its database in every call would cost each a statement,
so every process has all their ids, and asks once a second whether these have changed. Where its own
database can tell, it does so beside what a check of readiness reads each second.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from kith.errors.v1 import errors_pb2
from kith.exceptions import UnauthorizedError

REFRESH_SECONDS: Final = 1
"""How often to ask whether users were suspended or restored."""

TOLD_REFRESH_SECONDS: Final = 30
"""How often to ask where a check of readiness has it asked as soon as something has changed."""


@dataclass(frozen=True, kw_only=True)
class Suspended:
    """Who is suspended: all ids, ascending, as of a revision; None if it is the known one.

    As long as the service's database tells this `stamp`, that is the truth; without one it can be
    out of date.
    """

    revision: int
    ids: Sequence[int] | None
    stamp: str | None = None


class SuspendedUsers:
    """The suspended users as of the last refresh; none before the first. Thread-safe."""

    def __init__(self, read: Callable[[int, str | None], Suspended]) -> None:
        """Call `read` with the revision that is known, and the stamp of the last answer."""
        self._read = read
        # Eight bytes each, where a set would take sixty. They are exchanged at once, never changed.
        self._known: tuple[int, array[int], str | None] = (0, array("q"), None)

    def refresh(self) -> None:
        """Read who is suspended now."""
        revision, ids, stamp = self._known
        newest = self._read(revision, stamp)
        if newest.ids is not None:
            revision, ids = newest.revision, array("q", newest.ids)
        self._known = (revision, ids, newest.stamp)

    def is_as_of(self, stamp: str | None) -> bool:
        """Whether what is known is the truth at the moment of a stamp."""
        return stamp is not None and stamp == self._known[2]

    def among(self, user_ids: Collection[int], *, stamp: str) -> frozenset[int] | None:
        """Return those who are suspended at the moment of a stamp, or None if it is not known."""
        _, ids, known = self._known
        if known != stamp:
            return None
        return frozenset(user_id for user_id in user_ids if _contains(ids, user_id))

    def __contains__(self, user_id: object) -> bool:
        """Tell whether a user is suspended."""
        return isinstance(user_id, int) and _contains(self._known[1], user_id)


def _contains(ids: Sequence[int], user_id: int) -> bool:
    position = bisect_left(ids, user_id)
    return position < len(ids) and ids[position] == user_id


def user_suspended() -> UnauthorizedError:
    """Return the refusal of a suspended user's call, which says no more than that."""
    return UnauthorizedError("the user is suspended", reason=errors_pb2.ERROR_REASON_USER_SUSPENDED)
