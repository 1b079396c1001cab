"""What a composition root builds: one of the services, put together and not yet started."""

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from prometheus_client import CollectorRegistry

from shared.access.rules import Access
from shared.metrics import Usage
from shared.server.handlers import Step
from shared.server.rate_limits import RateLimits


class Background(Protocol):
    """Work beside the calls, on threads of its own."""

    def start(self) -> None:
        """Begin, once."""

    def stop(self) -> None:
        """End, and wait some seconds for what is under way."""


@dataclass(frozen=True, kw_only=True)
class InternalCalls:
    """What a service serves at a port of its own to another service of Kith.

    `threads` is how many of these calls run at once in a process.
    """

    name: str
    add_to: Callable[[grpc.Server], None]
    access: Access
    port: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Service:
    """What distinguishes one of Kith's services from the other.

    `add_to` registers the servicer on a server, `access` says who may make its calls, `suspended`
    has the users whose calls are refused and `rate_limits` counts how often they call. `internal`
    is served at another port. `checks`
    must all pass for the service to be ready, `check_grace` gives a check that was good the seconds
    for which it may fail. `stream_threads` names the methods whose streams last for as long as
    their clients like, and how many of each there may be: they get threads of their own, and
    `drain` ends them. `positions` is the step that takes and tells positions, where there are
    replicas. `connections` are the pools whose use is a metric. `background` is started by `start`,
    in this order. `resources` are closed by `close`, in reverse order, once no call is left.
    """

    name: str
    add_to: Callable[[grpc.Server], None]
    access: Access
    registry: CollectorRegistry
    checks: Mapping[str, Callable[[], None]]
    internal: InternalCalls | None = None
    suspended: Container[int] = frozenset()
    rate_limits: RateLimits | None = None
    positions: Step | None = None
    check_grace: Mapping[str, float] = field(default_factory=dict)
    stream_threads: Mapping[str, int] = field(default_factory=dict)
    drain: Callable[[], None] = lambda: None
    connections: Mapping[str, Callable[[], Usage]] = field(default_factory=dict)
    background: Sequence[Background] = ()
    resources: ExitStack = field(default_factory=ExitStack)

    @property
    def process_name(self) -> str:
        """The name in logs and traces: `feed_service` of `kith.feed.v1.FeedService`."""
        return f"{self.name.split('.')[1]}_service"

    def start(self) -> None:
        """Start the work in the background; if that fails, `close` stops what has started."""
        for work in self.background:
            work.start()
            self.resources.callback(work.stop)

    def close(self) -> None:
        """Stop what was started, then close what was built, each in reverse order."""
        self.resources.close()
