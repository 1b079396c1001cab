"""Fences: services that cache connections are told of a change before it is committed.

The contract is in fence_keeper.proto. Which keepers have to be told is a table of the graph's
database, so that processes with different settings can run together. Every change locks the
registrations in shared mode (the trigger `require_fences`), and a registration locks them
exclusively, so that each change is told to a keeper, or is over before the keeper is registered.

A registration, its renewal and its end are changes of everybody: they are fenced, committed and
closed like all others. So nothing that was cached before is trusted after them.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Final, NoReturn, TypeVar

from sqlalchemy import Connection

from graph_service.fence_keepers import FenceKeepers, OpenFences, unavailable
from graph_service.metrics import FenceMetrics
from graph_service.queries import fences
from graph_service.queries.fences import FencedBy, KeeperName, KeeperRow, ToldChange
from kith.exceptions import AppException, UnavailableError
from shared import deadlines
from shared.circuit import Circuit
from shared.database.database import Database, around_commit

EVERYBODY: Final = None
"""Stands for the users of a change that may alter the cached answers of all users."""

# After so many changes in a row that could not be told, the others fail at once for so long.
_FAILURES: Final = 3
_PAUSE: Final = timedelta(seconds=0.5)
# A call that leaves keepers less time than this may fail by itself, which says nothing of them.
_FAIR_SECONDS: Final = 0.5
# How long a change waits while the share of calls that may wait for keepers is used up.
_TURN_SECONDS: Final = 0.2
# The calls of the changes are answered first, and one message closes the fences of several. Until
# then their users' reads ask the graph.
_GATHER_SECONDS: Final = 0.01
_log = logging.getLogger("kith.fences")

T = TypeVar("T")


class Fences:
    """Opens fences right before a change is committed, and closes them after. Thread-safe.

    `targets` are the keepers that the setting names; all that are registered are told. Up to
    `at_once` changes wait for keepers.
    """

    def __init__(
        self,
        keepers: FenceKeepers,
        closing: "FenceClosing",
        *,
        targets: Sequence[str],
        at_once: int,
    ) -> None:
        self._keepers = keepers
        self._closing = closing
        self.targets = tuple(targets)
        self._turns = threading.BoundedSemaphore(at_once)
        self._circuit = Circuit(failures=_FAILURES, pause=_PAUSE)
        self.applied_in = ""
        """The history of the graph's database in which the setting was applied; empty for none."""
        self.tells = bool(targets)
        """Changes of two users have to be told. Those that are not take a message less to the
        database, and fail if a keeper is registered; see `learns_from`."""
        self.mend: Callable[[], None] = lambda: None
        """Has registrations looked at now, as one was found to be out of date."""

    def before_commit(
        self, connection: Connection, fenced_by: str | None, user_ids: Collection[int] | None
    ) -> None:
        """Have the change that a transaction has made fenced before it is committed.

        `fenced_by` is what the trigger has left. `user_ids` are the users whose cached answers the
        change alters, or EVERYBODY. Raises UnavailableError unless all keepers of the setting, and
        all others that are registered, are registered in this history of the graph's database.
        """
        found = fences.read_fenced_by(fenced_by)
        self._check(connection, found)
        if found is not None:
            around_commit(connection, self._fenced(found, user_ids))

    def learns_from(self, error: UnavailableError) -> bool:
        """Whether a change failed as it was not told; then it is to be made again, and told."""
        is_refused = getattr(error.__cause__, "pgcode", None) == fences.NOT_TOLD
        if self.tells or not is_refused:
            return False
        self.tells = True
        return True

    def _check(self, connection: Connection, fenced_by: FencedBy | None) -> None:
        """Check that those who have to be told are registered in this history."""
        if fenced_by is not None and any(
            row.graph_history != fenced_by.history for row in fenced_by.keepers
        ):
            self._refuse()
        registered = {row.target for row in fenced_by.keepers} if fenced_by else set()
        if registered.issuperset(self.targets):
            return
        # If another process has ended a registration of the setting, this one goes on without. But
        # the registration may as well be lost by a failover or in a restored backup.
        history = fenced_by.history if fenced_by else fences.history(connection)
        if history != self.applied_in:
            self._refuse()

    def _refuse(self) -> NoReturn:
        self.mend()
        raise unavailable("a service that caches connections is being registered")

    @contextmanager
    def _fenced(self, fenced_by: FencedBy, user_ids: Collection[int] | None) -> Iterator[None]:
        # Each attempt at a change is another transaction, so it has another id.
        change = ToldChange(uuid.uuid4(), fenced_by.transaction, fenced_by.history)
        targets = [row.target for row in fenced_by.keepers]
        try:
            with self._turn():
                names = self._open(change, user_ids, targets)
            if names != [row.name for row in fenced_by.keepers]:
                self._refuse()
        except UnavailableError:
            # COMMIT is not sent any more, so the change is over.
            self._closing.add(targets, change.change_id)
            raise
        # Where the outcome of COMMIT is not known, upkeep closes them.
        yield
        self._closing.add(targets, change.change_id)

    def _open(
        self, change: ToldChange, user_ids: Collection[int] | None, targets: Sequence[str]
    ) -> list[KeeperName]:
        is_fair = deadlines.seconds_left() >= _FAIR_SECONDS
        # Only a try that can fail for the keepers' sake tells when they are back.
        if self._circuit.is_open and not (is_fair and self._circuit.lets_through()):
            raise unavailable()
        try:
            names = self._keepers.open(change, user_ids, targets=targets)
        except UnavailableError:
            if is_fair:
                self._circuit.failed()
            raise
        self._circuit.succeeded()
        return names

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until fewer changes wait for keepers, so that reads always find a slot."""
        seconds = max(0.0, min(_TURN_SECONDS, deadlines.seconds_left()))
        if not self._turns.acquire(timeout=seconds):
            raise unavailable("too many changes are waiting for a service that caches connections")
        try:
            yield
        finally:
            self._turns.release()


class FenceClosing:
    """Closes fences after their changes, many in one message, so that no caller waits for it.

    What cannot be closed here is left to FenceUpkeep.
    """

    def __init__(self, keepers: FenceKeepers) -> None:
        self._keepers = keepers
        self._over = deque[tuple[str, uuid.UUID]]()
        self._away = set[str]()
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="close-fences", daemon=True)

    def add(self, targets: Sequence[str], change_id: uuid.UUID) -> None:
        """Have the fences of a change closed that is over."""
        self._over.extend((target, change_id) for target in targets)
        self._woken.set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 5) -> None:
        """Close what is left, and end."""
        self._stopping = True
        self._woken.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping or self._over:
            self._woken.wait()
            if not self._stopping:
                time.sleep(_GATHER_SECONDS)
                # Cleared before the work, so that what is added meanwhile is not missed.
                self._woken.clear()
            self._close(self._taken())

    def _taken(self) -> dict[str, list[uuid.UUID]]:
        taken = dict[str, list[uuid.UUID]]()
        for _ in range(len(self._over)):
            target, change_id = self._over.popleft()
            taken.setdefault(target, []).append(change_id)
        return taken

    def _close(self, over: dict[str, list[uuid.UUID]]) -> None:
        for target, change_ids in over.items():
            try:
                self._keepers.close(target, change_ids)
            except UnavailableError:
                self._tell_once(target, len(change_ids))
            else:
                self._away.discard(target)

    def _tell_once(self, target: str, count: int) -> None:
        """Log the first failure of an outage: a keeper that is gone is tried each second."""
        if target not in self._away:
            self._away.add(target)
            _log.info("fences are left open", extra={"target": target, "count": count})


class FenceUpkeep:
    """Registers keepers, and closes the fences that were left open."""

    def __init__(
        self,
        database: Database,
        keepers: FenceKeepers,
        closing: FenceClosing,
        changes: Fences,
        metrics: FenceMetrics,
    ) -> None:
        self._database = database
        self._keepers = keepers
        self._closing = closing
        self._changes = changes
        self._metrics = metrics

    def run(self) -> None:
        """Apply the setting, renew registrations that are out of date, and close what is over.

        Raises the first error after it has done for all keepers what could be done.
        """
        failures = list[AppException]()
        history, rows = self._database.read(fences.history_and_registered)
        if self._changes.applied_in != history:
            self._apply(history, rows, failures)
            if not failures:
                self._changes.applied_in = history
            history, rows = self._database.read(fences.history_and_registered)
        self._metrics.registered.set(len(rows))
        self._changes.tells = bool(rows or self._changes.targets)
        opened = [
            seconds
            for row in rows
            for seconds in self._attempt(partial(self._look_at, row, history, failures), failures)
            or ()
        ]
        if opened or not failures:
            self._metrics.oldest_open.set(time.time() - min(opened) if opened else 0)
        if failures:
            raise failures[0]

    def register(self, target: str, *, seen: KeeperRow | None) -> None:
        """Have a keeper told of all changes from now on.

        Store nothing if the registration is not the one that was `seen` before. Raises
        UnavailableError if no keeper answers, or another one than the registered.
        """

        def work(connection: Connection) -> None:
            if (begun := self._begin(connection, target, seen)) is not None:
                fences.register(connection, row=KeeperRow(target, *begun))

        self._database.write(work)
        _log.info("a keeper of fences is registered", extra={"target": target})

    def retire(self, row: KeeperRow) -> None:
        """Have a keeper told of no change from now on.

        Raises as `register` does: while it trusts what it has cached, changes have to be told.
        """

        def work(connection: Connection) -> None:
            if self._begin(connection, row.target, row) is not None:
                fences.forget(connection, target=row.target)

        self._database.write(work)
        _log.info("a keeper of fences is no longer registered", extra={"target": row.target})

    def _apply(self, history: str, rows: Sequence[KeeperRow], failures: list[AppException]) -> None:
        """Register the keepers of the setting, and end the registrations of all others."""
        by_target = {row.target: row for row in rows}
        for target in self._changes.targets:
            seen = by_target.pop(target, None)
            if seen is None or seen.graph_history != history:
                self._attempt(partial(self.register, target, seen=seen), failures)
        for row in by_target.values():
            self._attempt(partial(self.retire, row), failures)

    def _attempt(self, work: Callable[[], T], failures: list[AppException]) -> T | None:
        try:
            return work()
        except AppException as error:
            failures.append(error)
            return None

    def _begin(
        self, connection: Connection, target: str, seen: KeeperRow | None
    ) -> tuple[KeeperName, str] | None:
        """Begin to change a registration; the keeper and the graph's history, or None for not so.

        A fence for everybody is open until after the transaction.
        """
        change = ToldChange(uuid.uuid4(), *fences.begin_registering(connection))
        rows = {row.target: row for row in fences.registered(connection)}
        if rows.get(target) != seen:
            return None
        try:
            [name] = self._keepers.open(change, EVERYBODY, targets=[target])
            if seen is not None and seen.name.keeper_id != name.keeper_id:
                _log.error("another keeper of fences answers", extra={"target": target})
                raise unavailable("another keeper of fences answers than the registered one")
        except UnavailableError:
            self._closing.add([target], change.change_id)
            raise
        around_commit(connection, self._closed_after(target, change.change_id))
        return name, change.history

    @contextmanager
    def _closed_after(self, target: str, change_id: uuid.UUID) -> Iterator[None]:
        yield
        self._closing.add([target], change_id)

    def _look_at(self, row: KeeperRow, history: str, failures: list[AppException]) -> list[int]:
        """Renew a registration that is out of date, and close the fences of changes that are over.

        Returns when the other changes were opened, in seconds since 1970.
        """
        opened = list[int]()
        for number, listed in enumerate(self._keepers.open_changes(row.target)):
            if number == 0:
                self._attempt(partial(self._renew, row, history, listed.page.keeper), failures)
            if listed.opened:
                opened += self._left_open(listed)
        return opened

    def _renew(self, row: KeeperRow, history: str, keeper: KeeperName) -> None:
        """Register a keeper again after a failover or restore of its database, or of the graph's.

        Fences of before may be lost. Or another graph has claimed the keeper, and closed some.
        """
        if row.graph_history != history or keeper != row.name:
            self.register(row.target, seen=row)

    def _left_open(self, listed: OpenFences) -> list[int]:
        """Close the fences of changes that are over; returns when the others were opened.

        One process does so at a time.
        """
        with self._database.advisory_lock("fences") as connection:
            if connection is None:
                return list(listed.opened.values())
            over = fences.over(connection, listed.page)
            self._keepers.close(listed.page.target, over)
        return [opened for change_id, opened in listed.opened.items() if change_id not in over]
