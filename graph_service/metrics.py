"""The metrics of graph_service."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

ACTIVE_CONNECTIONS: Final = "active_connections_total"
USERS: Final = "users_total"
SUSPENDED_USERS: Final = "suspended_users_total"

GAUGES: Final = {
    ACTIVE_CONNECTIONS: "Connections: pairs of connected users, suspended or not.",
    USERS: "Users who ever had a connection, a request, a block or a suspension.",
    SUSPENDED_USERS: "Users who are suspended.",
}


class GraphMetrics:
    """Counters of what the graph's users do."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connection_requests = Counter(
            "connection_requests_total", "Connection requests made.", registry=registry
        )
        self.connection_accepts = Counter(
            "connection_accepts_total",
            "Connections made by accepting a request or by requesting back.",
            registry=registry,
        )


class FenceMetrics:
    """What the keepers of fences are told, beside the metrics of the calls to them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registered = Gauge(
            "fence_keepers_registered",
            "Services that have to be told before connections change.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.oldest_open = Gauge(
            "fences_oldest_open_seconds",
            "Age of the oldest change whose fences were open at the last look; 0 for none.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
