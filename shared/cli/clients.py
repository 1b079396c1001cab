"""Clients for both services as a person at a terminal wants them: patient, and clear in failure.

gRPC itself repeats what a service refuses for a moment, by the service config of each.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import grpc
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_status import rpc_status

from shared.channels import Options, open_channel
from shared.client_options import client_options
from shared.errors import from_rpc_error
from shared.gen.kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from shared.gen.kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.settings import Environment, TargetSettings

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT_SECONDS = 30
_THREADS = 8
_WINDOW = 1_000
# A person would try again, and everything that this package does may be repeated.
_ALSO_RETRIED = ("ABORTED", "RESOURCE_EXHAUSTED")


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Stubs of both services."""

    graph: GraphServiceStub
    feed: FeedServiceStub
    graph_health: HealthStub
    feed_health: HealthStub


@contextmanager
def connected(*, graph: str, feed: str) -> Iterator[Clients]:
    """Open a channel to each service; nothing is sent before the first call.

    What is shown to them is read from the environment, TARGET_CA_FILE and its companions; raises
    SettingsError.
    """
    environment = Environment(os.environ)
    access = TargetSettings.read(environment, graph, feed)
    environment.check()
    with (
        open_channel(graph, access, _options("graph")) as graph_channel,
        open_channel(feed, access, _options("feed")) as feed_channel,
    ):
        yield Clients(
            graph=GraphServiceStub(graph_channel),
            feed=FeedServiceStub(feed_channel),
            graph_health=HealthStub(graph_channel),
            feed_health=HealthStub(feed_channel),
        )


def _options(service: str) -> Options:
    # Whoever has not started the services is to be told so.
    return client_options(service, waits=False, also_retried=_ALSO_RETRIED)


def sentence(error: grpc.RpcError) -> str:
    """Return what went wrong in one line: the reason and the message."""
    if isinstance(error, grpc.Call) and rpc_status.from_call(error) is None:
        hint = ""
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            hint = " -- is Kith running? Start it with `kith run`"
        return " ".join(f"{error.code().name}: {error.details()}{hint}".split())
    known = from_rpc_error(error)
    return " ".join(f"{known.reason_name}: {known.message}".split())


def in_parallel(call: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield what `call` returns for each item, in order, with several calls under way at a time."""
    remaining = iter(items)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="client") as pool:
        try:
            while window := list(islice(remaining, _WINDOW)):
                yield from pool.map(call, window)
        finally:
            pool.shutdown(cancel_futures=True)
