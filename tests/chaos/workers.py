"""Workers that die, and services that are replaced."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, Self

from benchmarks.row import Row
from tests.chaos.fault import Effort, kept, no_failure
from tests.chaos.load import Load, connect
from tests.chaos.stage import WORKERS, Scene, Stage
from tests.support.processes import ServiceProcess, until

# So that a worker that leaves has not to wait for its clients for the ten seconds that are usual.
_SOON: Final = {"MAX_CONNECTION_AGE_SECONDS": "1"}
_REPLACED_SECONDS: Final = 60
_SETTLING_SECONDS: Final = 1.0
_INSTANCES: Final = 2
# Clients try an address without a server once a second; hence minReadySeconds in Kubernetes.
_FOUND_SECONDS: Final = 2.0


def worker_killed(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Kill the older worker of both services, and wait for the new ones."""
    with stage.scene() as scene:
        with Load(scene.traffic()) as load:
            time.sleep(_SETTLING_SECONDS)
            for _ in range(effort.of(10)):
                _kill_one_of_each(scene.graph, scene.feed)
        yield from no_failure(load.history)
        yield from kept(load.history, scene.compared(load.history))


def workers_replaced(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Replace all workers of both services again and again."""
    with stage.scene(_SOON) as scene:
        with Load(replace(scene.traffic(), config="unretried")) as load:
            time.sleep(_SETTLING_SECONDS)
            for _ in range(effort.of(10)):
                _replace_all(scene.graph, scene.feed)
        yield from no_failure(load.history)
        yield from kept(load.history, scene.compared(load.history))


def rolling_restart(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Restart instances that clients know by all their addresses, as a deployment does."""
    with stage.scene() as scene, ExitStack() as stack:
        graph = stack.enter_context(_Instances(scene, "graph", {}))
        feed = stack.enter_context(_Instances(scene, "feed", {"GRAPH_TARGET": graph.target}))
        traffic = replace(scene.traffic(), graph=graph.target, feed=feed.target, config="unretried")
        connect(traffic)
        with Load(traffic) as load:
            time.sleep(_SETTLING_SECONDS)
            for _ in range(effort.of(5)):
                for number in range(_INSTANCES):
                    _restart(number, graph, feed)
        yield from no_failure(load.history)
        yield from kept(load.history, scene.compared(load.history))


class _Instances:
    """The instances of a service behind one gRPC target."""

    def __init__(self, scene: Scene, service: str, settings: Mapping[str, str]) -> None:
        self._scene = scene
        self._service = service
        self._settings = {**_SOON, f"{service.upper()}_WORKERS": "1", **settings}
        self._running = [self._start(number, port="0") for number in range(_INSTANCES)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        for instance in self._running:
            instance.__exit__()

    @property
    def target(self) -> str:
        """All their addresses."""
        return "ipv4:" + ",".join(instance.address for instance in self._running)

    def terminate(self, number: int) -> None:
        """Let one of them finish what it is doing, and end."""
        self._running[number].terminate(signal.SIGTERM)

    def restart(self, number: int) -> None:
        """Start one again, at the address that it had, once it has ended."""
        instance = self._running[number]
        instance.wait()
        instance.channel.close()
        self._running[number] = self._start(number, port=instance.address.rpartition(":")[2])

    def _start(self, number: int, *, port: str) -> ServiceProcess:
        settings = {**self._settings, f"{self._service.upper()}_PORT": port}
        name = f"{self._service}-{number}"
        started = self._scene.another(f"{self._service}_service", name, settings)
        until(lambda: started.is_serving("ready"))
        return started


def _restart(number: int, *services: _Instances) -> None:
    """Restart an instance of each service at the same time."""
    for service in services:
        service.terminate(number)
    for service in services:
        service.restart(number)
    time.sleep(_FOUND_SECONDS)


def _kill_one_of_each(*services: ServiceProcess) -> None:
    listened = [len(service.logged("listening")) for service in services]
    for service in services:
        os.kill(service.workers()[0], signal.SIGKILL)
    for service, number in zip(services, listened, strict=True):
        until(
            lambda service=service, number=number: len(service.logged("listening")) > number,  # type: ignore[misc]  # mypy knows no default of a lambda
            within_seconds=_REPLACED_SECONDS,
        )


def _replace_all(*services: ServiceProcess) -> None:
    before = [set(service.workers()) for service in services]
    for service in services:
        service.terminate(signal.SIGHUP)
    for service, old in zip(services, before, strict=True):
        until(
            lambda service=service, old=old: not old & set(service.workers()),  # type: ignore[misc]  # mypy knows no default of a lambda
            within_seconds=_REPLACED_SECONDS,
        )
        until(lambda service=service: len(service.workers()) == WORKERS)  # type: ignore[misc]  # as above
