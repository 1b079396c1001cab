"""A row of the table, and how figures of segments become one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.others import Others
from benchmarks.rounds import Segment, ratio

Segments = Mapping[str, Sequence[Segment]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: what was measured, and what it has to reach; `stretch` may be None."""

    name: str
    measured: float
    target: float
    stretch: float | None = None
    unit: str = "×"
    at_least: bool = False
    note: str = ""
    others: Others | None = None
    """What was taken from the measurement; None where nobody has looked."""

    @property
    def is_disturbed(self) -> bool:
        """Whether too much was taken for the figure to be quoted."""
        return self.others is not None and self.others.is_disturbing

    @property
    def verdict(self) -> str:
        """What became of the target."""
        if self.stretch is not None and self._reaches(self.stretch):
            return "stretch"
        return "met" if self._reaches(self.target) else "missed"

    def _reaches(self, bound: float) -> bool:
        return self.measured >= bound if self.at_least else self.measured <= bound


def comparison(
    name: str,
    segments: Segments,
    contenders: tuple[str, str],
    figure: Callable[[Segment], float],
    *,
    target: float,
    stretch: float | None = None,
    at_least: bool = False,
) -> Row:
    """Return how a figure of one contender relates to that of another, round by round."""
    these, those = ([figure(segment) for segment in segments[which]] for which in contenders)
    return Row(
        name=name,
        measured=ratio(these, those),
        target=target,
        stretch=stretch,
        at_least=at_least,
        note=f"{median(these) * 1e6:,.0f} / {median(those) * 1e6:,.0f} µs",
    )
