"""Reads that replicas answer, if they prove that they have come far enough; see `positions`.

Threads beside the calls look ten times a second at the positions of the primary (`primary_log`) and
of each replica. So the process knows which replicas are reachable and how late they are, and the
position of a moment ago, which a read of that moment must have reached (`since`). This only chooses
the replica to ask and the position that it must have reached: that it has, the replica proves with
each answer.

The histories of two servers differ after a promotion, and their positions mean nothing to each
other. So a replica is asked only as long as it follows the very timeline that the primary is on.
"""

import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final, TypeVar

import sqlalchemy
from sqlalchemy import Connection

from kith.exceptions import UnavailableError
from shared import deadlines
from shared.database import positions
from shared.database.database import BACKGROUND, Database
from shared.database.endpoint import Endpoint
from shared.database.metrics import ReplicaMetrics
from shared.database.positions import BehindError, Position
from shared.database.primary_log import ANSWER_SECONDS, LOOK_SECONDS, PrimaryLog
from shared.database.reader import Reader, Statement
from shared.periodic import Periodic

T = TypeVar("T")

ANY_TIME: Final = float("-inf")
"""The moment that no snapshot is older than."""

# What is said of a gauge that has nothing to say.
_NOTHING: Final = float("nan")
# By then one that keeps up has been seen to, though looks take turns and may be late.
_KEEPS_UP_SECONDS: Final = 4 * LOOK_SECONDS
# Which timeline a replica follows is told at once by what it receives, to those who may read all
# statistics, and to everybody by its control file, which is written at every restart point.
_REPLICA: Final = Statement(
    "replica_position",
    """
    SELECT pg_is_in_recovery(), system_identifier, pg_last_wal_replay_lsn(),
           greatest(timeline_id, min_recovery_end_timeline,
                    (SELECT received_tli FROM pg_stat_wal_receiver))
    FROM pg_control_system(), pg_control_checkpoint(), pg_control_recovery()
""",
)
_log = logging.getLogger("kith.replicas")


class Reads:
    """The reads of a database that a replica may answer, where there are replicas.

    What is read with knowledge from elsewhere names the moment from which that was known, as
    `since`: an older snapshot would not fit it.
    """

    def __init__(self, database: Database, reader: Reader, replicas: "Replicas | None") -> None:
        self._database = database
        self._reader = reader
        self._replicas = replicas

    def read(self, work: Callable[[Connection], T], *, since: float = ANY_TIME) -> T:
        """Do what `Database.read` does."""
        if self._replicas is None:
            return self._database.read(work)
        return self._replicas.answer(
            lambda replica: replica.database.read(work),
            since=since,
            otherwise=lambda: self._database.read(work),
        )

    def prepared(
        self,
        work: Callable[[Reader], T],
        *,
        since: float = ANY_TIME,
        suffices: Callable[[T], bool] | None = None,
    ) -> T:
        """Run prepared statements; what a replica answers has to suffice as well."""
        if self._replicas is None:
            return work(self._reader)

        def ask(replica: _Replica) -> T:
            answer = work(replica.reader)
            if suffices is not None and not suffices(answer):
                raise BehindError("the replica is too far behind")
            return answer

        return self._replicas.answer(ask, since=since, otherwise=lambda: work(self._reader))


class Replicas:
    """The replicas of a database, and which of them are asked. Thread-safe."""

    def __init__(self, primary: Endpoint, metrics: ReplicaMetrics) -> None:
        settings = primary.settings
        self._metrics = metrics
        self._primary = Reader(primary, name=BACKGROUND)
        self._primary_log = PrimaryLog(self._primary, settings.replica_max_lag.total_seconds())
        self._replicas = [
            _Replica(
                Endpoint.of(settings, url, primary.latency), log=self._primary_log, metrics=metrics
            )
            for url in settings.replica_urls
        ]
        self._turns = count()
        self._looks = [
            Periodic(f"look-{name}", look, interval_seconds=LOOK_SECONDS)
            for name, look in (
                ("primary", self._primary_log.look),
                *((replica.name, replica.look) for replica in self._replicas),
            )
        ]

    def start(self) -> None:
        """Begin to look; the primary comes first, or replicas would be ahead of nothing."""
        self._primary_log.look()
        for looks in self._looks:
            looks.start()

    def stop(self) -> None:
        """Look no more."""
        for looks in self._looks:
            looks.stop()

    def answer(
        self, ask: Callable[["_Replica"], T], *, since: float, otherwise: Callable[[], T]
    ) -> T:
        """Return what a replica answers, or what `otherwise` does, where none can.

        A replica's failure is no failure of the call. So each is given little time, for one that
        hangs, or waits for a lock that it replays.
        """
        required = self._required(since)
        if required is None or not (ready := [each for each in self._replicas if each.is_ready]):
            self._metrics.primary.inc()
            return otherwise()
        replica = self._chosen(ready, required)
        if replica is None:
            self._metrics.behind.inc()
            return otherwise()
        try:
            with deadlines.within(ANSWER_SECONDS), positions.proving(required):
                answer = ask(replica)
        except Exception as error:  # after any error the primary answers
            if deadlines.is_over():
                raise
            self._note(replica, error)
            return otherwise()
        self._metrics.answered.inc()
        return answer

    def close(self) -> None:
        """Close all connections; no call or look may be under way."""
        for replica in self._replicas:
            replica.close()
        self._primary.close()

    def _required(self, since: float) -> Position | None:
        """Return how far a replica has to be for a read of this call; None if none can be."""
        wanted = positions.wanted.get()
        _, timeline = self._primary_log.history
        if wanted is None or wanted.timeline > timeline:
            return None
        if since == ANY_TIME:
            return wanted
        known = self._primary_log.at(since)
        return None if known is None else max(wanted, known)

    def _chosen(self, ready: Sequence["_Replica"], required: Position) -> "_Replica | None":
        """Return one that has come so far, or if none is known to have, one that keeps up."""
        turn = next(self._turns)
        able = [replica for replica in ready if replica.position >= required] or [
            replica for replica in ready if replica.lag <= _KEEPS_UP_SECONDS
        ]
        return able[turn % len(able)] if able else None

    def _note(self, replica: "_Replica", error: Exception) -> None:
        if isinstance(error, BehindError):
            self._metrics.behind.inc()
            return
        self._metrics.failed.inc()
        if isinstance(error, UnavailableError):
            replica.leave("does not answer a read")


class _Replica:
    """A server, and what was last seen of it."""

    def __init__(self, endpoint: Endpoint, *, log: PrimaryLog, metrics: ReplicaMetrics) -> None:
        parsed = sqlalchemy.make_url(endpoint.url)
        self.name = f"{parsed.host}:{parsed.port or 5432}"
        self._guard = endpoint.guard
        self.database = Database(endpoint, repeats=False)
        self.reader = Reader(endpoint, repeats=False)
        self._looker = Reader(endpoint, name=BACKGROUND)
        self._max_lag = endpoint.settings.replica_max_lag.total_seconds()
        self._primary_log = log
        self._lag_gauge = metrics.lag.labels(self.name)
        self._rotation_gauge = metrics.in_rotation.labels(self.name)
        self._state: str | None = None
        self.is_ready = False
        self.lag = float("inf")
        self.position = positions.ANY

    def look(self) -> None:
        """See where it is, and whether it can be asked."""
        try:
            with deadlines.within(ANSWER_SECONDS):
                [(is_replica, system, lsn, timeline)] = self._looker.rows(_REPLICA, {})
        except Exception as error:  # noqa: BLE001 -- it may be anything, also the database that is missing
            self.leave("does not answer", str(error))
            return
        follows = (system, timeline) == self._primary_log.history
        if is_replica and follows:
            self._see(Position(timeline, positions.offset(lsn)))
        elif follows:
            # All servers of a cluster may be named, whichever of them is the primary.
            self.leave("is the primary", is_missing=False)
        else:
            self.leave("does not follow the primary")

    def leave(self, why: str, reason: str = "", *, is_missing: bool = True) -> None:
        """Be asked no more, until a look says otherwise."""
        self.is_ready = False
        self._lag_gauge.set(_NOTHING)
        self._rotation_gauge.set(0 if is_missing else _NOTHING)
        self._tell(why, reason)

    def close(self) -> None:
        """Close all connections."""
        for part in (self._looker, self.reader, self.database, self._guard):
            part.close()

    def _see(self, position: Position) -> None:
        lag = self._primary_log.lag(position)
        self.position = position
        self.lag = float("inf") if lag is None else lag
        self.is_ready = self.lag <= self._max_lag
        self._lag_gauge.set(self.lag)
        self._rotation_gauge.set(self.is_ready)
        self._tell("is asked" if self.is_ready else "is too far behind")

    def _tell(self, state: str, reason: str = "") -> None:
        """Log what has become of it when that has changed."""
        if state == self._state:
            return
        self._state = state
        level = logging.INFO if self.is_ready else logging.WARNING
        _log.log(level, "replica %s", state, extra={"replica": self.name, "reason": reason})
