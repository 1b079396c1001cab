"""The metrics of graph_service."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

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
