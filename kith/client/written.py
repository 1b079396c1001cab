"""How far the databases have to be for a person to see what they have written."""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from kith.positions import ANY_WORD, KEY, MOST_TOKENS

Known: TypeAlias = frozenset[str]
Reads: TypeAlias = Literal["primary", "replicas"]

_SERVICES = ("graph", "feed")


class Positions:
    """The tokens of one service that a session has to send. Thread-safe.

    A write is noted with what was known when it began. That it stands for, and no more: what other
    writes have answered in the meantime may be later.
    """

    def __init__(self, known: Collection[str] = ()) -> None:
        self._lock = threading.Lock()
        self._known: Known = frozenset(known)

    @property
    def known(self) -> Known:
        """What has to be reached now."""
        return self._known

    def note(self, answered: Iterable[tuple[str, str | bytes]] | None, *, before: Known) -> None:
        """Remember the position in the metadata of an answer; reads have none."""
        position = {str(value) for key, value in answered or () if key == KEY}
        if position:
            with self._lock:
                self._known = (self._known - before) | position


def metadata(known: Known) -> tuple[tuple[str, str], ...]:
    """Return what a read sends that has to see what is known.

    Nothing, which is answered by the primary, when so much was written at once that the services
    would not take it.
    """
    return tuple((KEY, token) for token in known) if len(known) <= MOST_TOKENS else ()


def first_positions(
    reads: Reads, former: Mapping[str, Sequence[str]] | None
) -> dict[str, Positions]:
    """Return what a session begins with by its service: `former`, or else as `reads` says."""
    first = [ANY_WORD] if reads == "replicas" else []
    return {service: Positions((former or {}).get(service) or first) for service in _SERVICES}


def tokens(positions: Mapping[str, Positions]) -> dict[str, list[str]]:
    """Return what has to be reached now, in the form of `former` above."""
    return {service: sorted(known.known) for service, known in positions.items()}
