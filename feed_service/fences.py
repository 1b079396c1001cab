"""Reading without asking the graph: fences tell that what is cached of it is still the truth.

Before graph_service commits a change of somebody's connections, it has `fence_keeper` commit a
fence here: a new generation for each user of whom the graph will say something else, and the change
among the open ones. A statement that reads posts also reads the viewer's fence, in the same
snapshot. That is the stamp of a moment: the generations, if nothing is open. The graph's answer to
a question that was asked after the statement gets this stamp. When a later statement tells the same
stamp, no change has been committed in between, and the answer is the truth of that moment too.

    question sent after stamp A        the answer is true from A on, until a fence is opened
    statement tells A again            none was, by the snapshot of the posts
    statement tells B, or nothing      one was: ask

What may not be done, though it looks as good: to read the fence before the posts, or on a replica,
or to take it for closed after some time, or to compare generations alone, without what is open.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from feed_service.queries import fences
from feed_service.queries.fences import EVERYBODY, STAMP, STAMPS
from kith.exceptions import UnavailableError
from shared.database.beside import Beside, asking
from shared.database.reader import Reader

T = TypeVar("T")


class Fences:
    """Reads fences, beside other things where that can be. Thread-safe."""

    def __init__(self, reader: Reader) -> None:
        """Look up alone, over the primary's connections, what statements have not told."""
        self._reader = reader

    def beside(self, user_id: int, read: Callable[[], T]) -> tuple[T, str | None]:
        """Return what `read` returns, and the user's stamp as of its last statement, or later."""
        with asking(Beside(query=STAMP, parameters={"fenced_user_id": user_id})) as told:
            value = read()
        if told.is_told:
            return value, told.value
        return value, self.stamp(user_id)

    def beside_of_everybody(self, read: Callable[[], None]) -> str | None:
        """Do the same with the stamp of what does not depend on one user's connections."""
        return self.beside(EVERYBODY, read)[1]

    def beside_all(
        self, user_ids: Collection[int], read: Callable[[], T]
    ) -> tuple[T, Mapping[int, str]]:
        """Do the same with the stamps of many users; those who have none are left out."""
        parameters = fences.stamps_parameters(user_ids)
        with asking(Beside(query=STAMPS, parameters=parameters)) as told:
            value = read()
        if told.is_told:
            return value, fences.stamps_of(user_ids, told.value)
        return value, self.stamps(user_ids)

    def stamp(self, user_id: int) -> str | None:
        """Return a user's stamp as of now; None while something is open, or cannot be known."""
        try:
            return fences.stamp(self._reader, user_id=user_id)
        except UnavailableError:
            # A replica may have been read, which does not need the primary. Nor does the graph.
            return None

    def stamps(self, user_ids: Collection[int]) -> Mapping[int, str]:
        """Return the stamps of many users as of now, without those that `stamp` has none of."""
        if not user_ids:
            return {}
        try:
            return fences.stamps(self._reader, user_ids=user_ids)
        except UnavailableError:
            # As in `stamp`.
            return {}

    def stamp_of_everybody(self) -> str | None:
        """Return the stamp of what does not depend on one user's connections."""
        return self.stamp(EVERYBODY)


def of_everybody(stamp: str) -> str:
    """Return the part of a user's stamp that is the same for everybody."""
    history, everybody, *_ = stamp.split(" ")
    return f"{history} {everybody}"


def history_of(stamp: str) -> str:
    """Return the history of the keeper that has made a stamp; each keeper has others."""
    return stamp.partition(" ")[0]
