"""What other processes take of the machine while something is measured. Linux only."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.processes import TICKS, stat

# Of a core. What the kernel, a shell and a clock take on a quiet machine is below it.
_DISTURBING: Final = 0.05
_MICRO: Final = 1e-6
_NANO: Final = 1e-9
# How long the kernel has kept the processes of a control group waiting for its limit of CPU:
# version 2 and version 1.
_THROTTLED: Final = (
    (Path("/sys/fs/cgroup/cpu.stat"), "throttled_usec", _MICRO),
    (Path("/sys/fs/cgroup/cpu/cpu.stat"), "throttled_time", _NANO),
)


@dataclass(frozen=True, kw_only=True)
class Others:
    """What was taken from a measurement, in cores on average.

    `cores` is what processes took that the benchmark has not started, and the hypervisor for other
    machines; `throttled` is what the limit of the control group has kept back.
    """

    cores: float
    throttled: float

    @property
    def is_disturbing(self) -> bool:
        """Whether figures of that time are not to be relied on."""
        return max(self.cores, self.throttled) > _DISTURBING


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Clocks of the machine, in seconds: since when does not matter, differences do.

    `busy` is the time of all cores in which they were not idle, `own` the CPU time of the
    benchmark's processes.
    """

    at: float
    busy: float
    own: float
    throttled: float

    @classmethod
    def now(cls, roots: Sequence[int]) -> Self:
        """Read the clocks. The processes of the benchmark are those roots and what they started."""
        return cls(
            at=time.monotonic(),
            busy=_busy_seconds(),
            own=_seconds_below(roots),
            throttled=_limited(),
        )

    def since(self, before: Self) -> Others:
        """Return what others have taken since an earlier moment."""
        seconds = self.at - before.at
        taken = (self.busy - before.busy) - (self.own - before.own)
        return Others(
            # The two clocks are not read at the same moment.
            cores=max(0.0, taken / seconds),
            throttled=(self.throttled - before.throttled) / seconds,
        )


def _busy_seconds() -> float:
    """The time in which cores worked or were taken by the hypervisor.

    By what is left of the time that has passed: unlike the time that is spent in user and system
    mode, that of idling is measured and not sampled.
    """
    idle, waiting_for_disks = map(int, Path("/proc/stat").read_text().split()[4:6])
    return time.clock_gettime(time.CLOCK_BOOTTIME) * (os.cpu_count() or 1) - (
        (idle + waiting_for_disks) / TICKS
    )


def _seconds_below(roots: Sequence[int]) -> float:
    """The CPU time of processes and their descendants, with that of children that have ended."""
    parents, seconds = dict[int, int](), dict[int, float]()
    for pid in _pids():
        # It may have ended meanwhile; its parent has its time then.
        with suppress(OSError):
            fields = stat(pid)
            parents[pid], seconds[pid] = int(fields[1]), sum(map(int, fields[11:15])) / TICKS
    return sum(
        spent for pid, spent in seconds.items() if not set(roots).isdisjoint(_line(pid, parents))
    )


def _pids() -> Iterable[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _line(pid: int, parents: dict[int, int]) -> Iterator[int]:
    """Yield a process, its parent, and so on."""
    while pid:
        yield pid
        pid = parents.get(pid, 0)


def _limited() -> float:
    for path, name, unit in _THROTTLED:
        with suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith(f"{name} "):
                    return int(line.split()[1]) * unit
    return 0.0
