"""A replica that has another history than its primary is not read from, however far it has come.

Of two standbys the lesser one is promoted. The other one then has what no primary has any more, and
cannot follow.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, text

from kith.environment import Environment
from shared.database import positions
from shared.database.database import Database
from shared.database.endpoint import Endpoint
from shared.database.metrics import ReplicaMetrics, database_latency
from shared.database.positions import ANY, Position
from shared.database.reader import Reader
from shared.database.replicas import Reads, Replicas
from shared.database.settings import DatabaseSettings
from tests.support.pair import anywhere
from tests.support.processes import until
from tests.support.replication import ReplicatedCluster, Server, replicated_cluster


@dataclass(frozen=True, kw_only=True)
class Notes:
    """A table, as a service has its own, and every server of its cluster to read it from."""

    database: Database
    reads: Reads
    registry: CollectorRegistry

    def write(self, note: str) -> Position:
        """Write one, and return the position at which it is there."""
        told = positions.commits.set([])
        try:
            self.database.write(
                lambda connection: connection.execute(
                    text("INSERT INTO notes VALUES (:note)"), {"note": note}
                )
            )
            return (positions.commits.get() or [ANY])[-1]
        finally:
            positions.commits.reset(told)

    def read(self, wanted: Position) -> set[str]:
        """Return those that a read sees that wants to be so far."""
        brought = positions.wanted.set(wanted)
        try:
            return self.reads.read(_notes)
        finally:
            positions.wanted.reset(brought)

    def asked(self) -> int:
        """How many replicas are in rotation."""
        return sum(value == 1 for value in self._rotation().values())

    def is_primary(self, server: Server) -> bool:
        """Whether a server is known to be the primary."""
        return math.isnan(self._rotation()[f"127.0.0.1:{server.port}"])

    def _rotation(self) -> dict[str, float]:
        [gauge] = [each for each in self.registry.collect() if each.name == "replica_in_rotation"]
        return {sample.labels["replica"]: sample.value for sample in gauge.samples}


def _notes(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT note FROM notes")).scalars())


@pytest.fixture
def cluster() -> Iterator[ReplicatedCluster]:
    """A primary and two standbys."""
    with replicated_cluster(standbys=2) as cluster:
        yield cluster


@pytest.fixture
def notes(cluster: ReplicatedCluster) -> Iterator[Notes]:
    """An empty table."""
    urls = [server.at(cluster.url("postgres")) for server in cluster.servers]
    cluster.primary.rows("CREATE TABLE notes (note text)")
    variables = {
        "GRAPH_DATABASE_URL": anywhere(urls),
        "GRAPH_REPLICA_URLS": ",".join(urls),
        # So that no replica leaves for having fallen behind.
        "REPLICA_MAX_LAG_SECONDS": "600",
    }
    settings = DatabaseSettings.read(Environment(variables), "GRAPH")
    registry = CollectorRegistry()
    endpoint = Endpoint.of(settings, settings.url, database_latency(registry))
    database, reader = Database(endpoint), Reader(endpoint)
    replicas = Replicas(endpoint, ReplicaMetrics(registry))
    replicas.start()
    yield Notes(database=database, reads=Reads(database, reader, replicas), registry=registry)
    replicas.stop()
    replicas.close()
    reader.close()
    database.close()
    endpoint.guard.close()


def test_a_standby_that_is_ahead_of_the_one_that_was_promoted_is_not_asked_any_more(
    cluster: ReplicatedCluster, notes: Notes
) -> None:
    ahead, lesser = cluster.standbys
    until(lambda: notes.asked() == len(cluster.standbys))
    for standby in cluster.standbys:
        standby.catch_up(cluster.primary)
    lesser.kill()
    notes.write("is lost")
    ahead.catch_up(cluster.primary)
    assert notes.read(ANY) == {"is lost"}

    cluster.primary.kill()
    lesser.start().promote()
    # Far beyond where the other one is.
    lesser.rows("SELECT pg_switch_wal()")
    # A busy machine may be late with an answer, and a server that is late is not asked either: only
    # a service that knows the new primary does not come back to the one that has another history.
    until(lambda: notes.is_primary(lesser) and notes.asked() == 0)
    wrote = notes.write("is new")

    assert ahead.rows("SELECT pg_is_in_recovery()") == [(True,)]
    assert notes.read(wrote) == notes.read(ANY) == notes.read(Position(1, 0)) == {"is new"}
