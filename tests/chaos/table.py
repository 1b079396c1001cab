"""Every fault with its promise, in the order in which they are broken and printed."""

from collections.abc import Sequence
from typing import Final

from tests.chaos import (
    heavy,
    hostile,
    keepers,
    neighbours,
    overload,
    postgres,
    replication,
    rotations,
    soak,
    storms,
    workers,
)
from tests.chaos.fault import Fault

FAULTS: Final[Sequence[Fault]] = (
    Fault(
        name="worker-killed",
        what="kill -9 of one of two workers of both services, 10 times each",
        promise="no call of a shipped client fails, no acknowledged write is lost",
        run=workers.worker_killed,
    ),
    Fault(
        name="workers-replaced",
        what="SIGHUP to both services, which replaces all workers, 10 times each",
        promise="no call fails, of clients who never retry either",
        run=workers.workers_replaced,
    ),
    Fault(
        name="rolling-restart",
        what="SIGTERM to one of two instances after the other, of both services, 10 times each",
        promise="no call fails, of clients who never retry either",
        run=workers.rolling_restart,
    ),
    Fault(
        name="postgres-killed",
        what="kill -9 of the postmaster, 10 times, and of one backend, 3 times",
        promise="no acknowledged write is lost or made twice; serving 2 s after PostgreSQL accepts",
        run=postgres.postgres_killed,
    ),
    Fault(
        name="sessions-ended",
        what="all sessions of PostgreSQL terminated, 20 times",
        promise="reads are made once more inside: none fails, of clients who never retry either",
        run=postgres.sessions_ended,
    ),
    Fault(
        name="postgres-silent",
        what="PostgreSQL cut off behind its open connections, then stopped by SIGSTOP, 10 s each",
        promise="every call is answered within its deadline and 50 ms; threads are free again",
        run=postgres.postgres_silent,
    ),
    Fault(
        name="cancelled",
        what="clients cancel half of their calls while a statement runs",
        promise="100 ms later no statement runs for a call that was cancelled",
        run=postgres.cancelled,
    ),
    Fault(
        name="graph-down",
        what="graph_service down for 5 s, slow for 8 s, and failing every other second for 20 s",
        promise="feeds are refused in time, own posts stay, retries add a tenth, back in 1 s",
        run=neighbours.graph_down,
    ),
    Fault(
        name="keeper-away",
        what="the keeper of fences away, silent and slow for 5 s each, then 20 times for 0.3 s",
        promise="no wrong row; changes are UNAVAILABLE with RetryInfo, back in 2 s; reads go on",
        run=keepers.keeper_away,
    ),
    Fault(
        name="store-down",
        what="object store down for 5 s, and hanging for 5 s",
        promise="no wrong answer, and no error but of posts with new photos",
        run=neighbours.store_down,
    ),
    Fault(
        name="redis-down",
        what="Redis down for 5 s, hanging for 5 s, and full of garbage",
        promise="no wrong answer, and no error",
        run=neighbours.redis_down,
    ),
    Fault(
        name="overload",
        what="ten times the calls that can be served, for 30 s",
        promise="nine tenths of the peak are served; health answers in 50 ms; back within 1 s",
        run=overload.overload,
    ),
    Fault(
        name="heavy",
        what="16 clients of one person with many connections ask for suggestions, for 20 s",
        promise="feeds keep nine tenths of their rate, and none fails",
        run=heavy.heavy_calls,
    ),
    Fault(
        name="rotation",
        what="certificates, their authority and the keys of tokens exchanged, 3 times",
        promise="no call fails",
        run=rotations.rotation,
    ),
    Fault(
        name="health-storm",
        what="1,000 watchers of health that come and go, while readiness flips",
        promise="the service goes on answering, no watch fails",
        run=storms.health_storm,
    ),
    Fault(
        name="open-streams",
        what="10,000 streams of changes, then 10,000 calls that never send their message",
        promise="beyond the limit they are refused; others are served, memory is bounded",
        run=storms.open_streams,
    ),
    Fault(
        name="hostile",
        what="100,000 malformed, hostile and oversized messages to every call; headers that expand",
        promise="no INTERNAL or UNKNOWN, no crash, memory grows by less than a twentieth, "
        "and under expanding headers to the limit of a worker",
        run=hostile.hostile,
    ),
    Fault(
        name="replicas",
        what="two standbys up to 5 s behind, by turns, while each write is looked at at once",
        promise="every write is there, and replicas answer much of it",
        run=replication.replicas,
    ),
    Fault(
        name="failover",
        what="kill -9 of the primary and promotion of a synchronous standby, 3 times",
        promise="no acknowledged write is lost; writes flow again within 3 s; nothing is INTERNAL",
        run=replication.failover,
    ),
    Fault(
        name="soak",
        what=f"{soak.CALLS:,} calls, and nothing else",
        promise="no slope in memory, descriptors, connections and metric files; no call fails",
        run=soak.soak,
    ),
)
