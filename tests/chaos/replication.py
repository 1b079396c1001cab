"""Replicas that are behind, and a primary that is gone for good."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from typing import Final

from benchmarks.row import Row
from tests.chaos.fault import Effort, at_least, kept, none, within
from tests.chaos.history import Comparison, History, compared
from tests.chaos.load import GRAPH_CALLS, WRITES, Load, Traffic, connect
from tests.chaos.look_back import LookBack
from tests.chaos.stage import WORKERS, Stage
from tests.support.pair import Databases, anywhere
from tests.support.processes import ProcessPair, ServiceProcess, running_processes
from tests.support.replication import ReplicatedCluster, Server, replicated_cluster

WRITES_LOOKED_AT: Final = 100_000
_CLIENTS: Final = 12
# For most of the time at least one standby is too late for a read right after its write.
_LEAST_SHARE: Final = 10
# Of one standby and the other.
_DELAYS: Final = (("0", "0"), ("50ms", "0"), ("0", "300ms"), ("1s", "1s"), ("20ms", "5s"))
_DELAY_SECONDS: Final = 4.0
_SETTLING_SECONDS: Final = 3.0
_LOADED_SECONDS: Final = 15.0
_SERVING_SECONDS: Final = 3.0
# More writes than elsewhere, for it is these that could be lost.
_MIX: Final = {
    "GetFeed": 10,
    "GetPost": 10,
    "ListPosts": 10,
    "CheckConnections": 5,
    "CreatePost": 40,
    "CreateComment": 15,
    "RequestConnection": 10,
}
_RATE: Final = 500
_NEVER: Final = frozenset({"INTERNAL", "UNKNOWN"})
_OUTCOME: Final = re.compile(r'^replica_reads_total\{outcome="(\w+)"\} (\S+)$', re.MULTILINE)
_SYNCHRONOUS: Final = {
    "synchronous_commit": "remote_apply",
    "synchronous_standby_names": "ANY 1 (server_0, server_1, server_2)",
}


def replicas(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Write and look at once, while two standbys are delayed by this much and that."""
    with replicated_cluster(standbys=2) as cluster, _services(stage, cluster) as services:
        clients = LookBack(
            graph=services.graph_process.address,
            feed=services.feed_process.address,
            clients=_CLIENTS,
            writes=effort.of(WRITES_LOOKED_AT),
        )
        with clients:
            for delays in cycle(_DELAYS):
                for standby, delay in zip(cluster.standbys, delays, strict=True):
                    standby.set("recovery_min_apply_delay", delay)
                if clients.is_over(_DELAY_SECONDS):
                    break
        seen = clients.seen
        wanted = effort.of(WRITES_LOOKED_AT)
        looked = ", ".join(f"{number:,} {turn}" for turn, number in seen.looked.most_common())
        yield none("stale answers", len(seen.stale), note=", ".join(sorted({*seen.stale})))
        yield none("failed calls", len(seen.failed), note=" | ".join(seen.failed[:2]))
        yield at_least("writes looked at", seen.number, wanted, "", note=looked)
        for process in (services.graph_process, services.feed_process):
            yield _share(process)


def failover(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Kill the primary under load, and promote the standby that has come farthest."""
    for _ in range(effort.of(3)):
        with (
            replicated_cluster(standbys=2, options=_SYNCHRONOUS) as cluster,
            _services(stage, cluster) as services,
        ):
            yield from _failed_over(cluster, services)


def _failed_over(cluster: ReplicatedCluster, services: ProcessPair) -> Iterator[Row]:
    traffic = replace(
        Traffic(graph=services.graph_process.address, feed=services.feed_process.address),
        mix=_MIX,
        rate=_RATE,
        brings_positions=True,
    )
    connect(traffic)
    with Load(traffic) as load:
        time.sleep(_LOADED_SECONDS)
        cluster.primary.kill()
        promoted = max(cluster.standbys, key=_received)
        promoted.promote()
        when = time.monotonic()
        time.sleep(_LOADED_SECONDS)
    history = load.history
    kinds = [WRITES - GRAPH_CALLS, WRITES & GRAPH_CALLS]
    slowest = max(history.first_answer_after(when, kind) for kind in kinds)
    note = f"{len(history.failed):,} calls failed meanwhile: {history.codes()}"
    yield within("writes again after", slowest, _SERVING_SECONDS, "s", note=note)
    yield from kept(history, _found(history, promoted, services))
    faults = [outcome for outcome in history.failed if outcome.code in _NEVER]
    yield none("INTERNAL and UNKNOWN answers", len(faults), note=history.codes() if faults else "")
    yield _share(services.feed_process)


@contextmanager
def _services(stage: Stage, cluster: ReplicatedCluster) -> Iterator[ProcessPair]:
    """Start both services on new databases, which the standbys have as well."""
    databases = Databases(cluster)
    urls = {service: databases.new(service) for service in ("graph", "feed")}
    for standby in cluster.standbys:
        standby.catch_up(cluster.primary)
    environment = {
        "GRAPH_WORKERS": str(WORKERS),
        "FEED_WORKERS": str(WORKERS),
        "FEED_LAYOUT": "single",
        **{
            f"{service.upper()}_REPLICA_URLS": ",".join(
                server.at(url) for server in cluster.servers
            )
            for service, url in urls.items()
        },
    }
    everywhere = {
        service: anywhere([server.at(url) for server in cluster.servers])
        for service, url in urls.items()
    }
    with running_processes(
        graph_url=everywhere["graph"],
        feed_url=everywhere["feed"],
        logs=stage.folder(),
        environment=environment,
    ) as services:
        time.sleep(_SETTLING_SECONDS)
        yield replace(services, graph_url=urls["graph"], feed_url=urls["feed"])


def _share(process: ServiceProcess) -> Row:
    """How many of the reads that a replica might have answered one did."""
    reads = {outcome: float(number) for outcome, number in _OUTCOME.findall(process.metrics())}
    note = ", ".join(f"{number:,.0f} {outcome}" for outcome, number in reads.items())
    share = 100 * reads.get("replica", 0) / max(1, sum(reads.values()))
    return at_least(f"reads by replicas of {process.service}", share, _LEAST_SHARE, "%", note=note)


def _received(server: Server) -> int:
    [(received,)] = server.rows("SELECT pg_last_wal_receive_lsn() - '0/0'")
    return int(received)


def _found(history: History, server: Server, services: ProcessPair) -> Comparison:
    return compared(
        history, graph_url=server.at(services.graph_url), feed_url=server.at(services.feed_url)
    )
