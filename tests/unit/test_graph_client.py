"""The feed's client of the graph."""

from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from feed_service.connections_cache import ConnectionsCache
from feed_service.graph_client import GraphClient
from feed_service.metrics import FeedMetrics
from feed_service.queries.erasure import ErasedUpTo
from kith.client.settings import TargetSettings
from kith.environment import Environment
from shared.metrics import ClientMetrics


def test_a_thread_that_goes_on_after_the_close_asks_nothing_and_harms_nobody() -> None:
    registry = CollectorRegistry()
    metrics = FeedMetrics(registry)
    client = GraphClient(
        "127.0.0.1:1",
        access=TargetSettings.read(Environment({})),
        timeout=timedelta(seconds=1),
        cache=ConnectionsCache(0, shared=None, metrics=metrics),
        metrics=metrics,
        client_metrics=ClientMetrics(registry),
        erased_up_to=lambda _user_ids: ErasedUpTo({}, ""),
    )
    client.close()

    # The second channel too. A stub that is only made now would crash the process.
    for _ in range(2):
        with pytest.raises(ValueError, match="closed"):
            client.watch("")
