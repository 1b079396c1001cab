"""What the benchmarks start as processes, started in this one: in a tenth of the time."""

import os
from collections.abc import Callable, Mapping
from typing import Final, Self

from benchmarks import baselines, fan_out, writes
from benchmarks.processes import MeasuredProcess, cpu_seconds
from feed_service.__main__ import build as build_feed
from feed_service.settings import FeedSettings
from graph_service.__main__ import build as build_graph
from graph_service.settings import GraphSettings
from shared.server.server import RunningServer

# A stop waits for nobody.
_ENVIRONMENT: Final = {
    "DRAIN_SECONDS": "0",
    "GRACE_SECONDS": "5",
    "MAX_CONNECTION_AGE_SECONDS": "0",
}

Started = tuple[str, Callable[[], object]]


class InProcess(MeasuredProcess):
    """The same as a process, as far as the benchmarks can see, but its CPU time is that of all."""

    def __enter__(self) -> Self:
        """Start what the module's `main` would serve."""
        self._address, self._stop = _STARTS[self.module](self._arguments, self._environment)
        return self

    def __exit__(self, *_exc_info: object) -> None:
        """Stop it."""
        self._stop()

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def require_alive(self) -> None:
        """Do nothing: what does not start raises at once."""

    def address(self) -> str:
        """Return where it serves."""
        return self._address

    def cpu_seconds(self) -> float:
        """Return the CPU time of this process."""
        return cpu_seconds(os.getpid())


def _graph(_arguments: tuple[str, ...], environment: Mapping[str, str]) -> Started:
    settings = GraphSettings.read({**environment, **_ENVIRONMENT})
    server = RunningServer(settings.server, build_graph(settings, settings.database.url))
    return server.address, server.stop


def _feed(_arguments: tuple[str, ...], environment: Mapping[str, str]) -> Started:
    settings = FeedSettings.read({**environment, **_ENVIRONMENT})
    server = RunningServer(settings.server, build_feed(settings, settings.database.url))
    return server.address, server.stop


def _baseline(arguments: tuple[str, ...], _environment: Mapping[str, str]) -> Started:
    return _served(baselines.baseline(*arguments))


def _floor_of_writes(arguments: tuple[str, ...], _environment: Mapping[str, str]) -> Started:
    return _served(writes.floor(*arguments))


def _fan_out(arguments: tuple[str, ...], _environment: Mapping[str, str]) -> Started:
    return _served(fan_out.way(*arguments))


def _served(answer: baselines.Handler) -> Started:
    server, address = baselines.started(answer)
    return address, lambda: server.stop(grace=None).wait()


_STARTS: Final[Mapping[str, Callable[[tuple[str, ...], Mapping[str, str]], Started]]] = {
    "graph_service": _graph,
    "feed_service": _feed,
    "benchmarks.baselines": _baseline,
    "benchmarks.writes": _floor_of_writes,
    "benchmarks.fan_out": _fan_out,
}
