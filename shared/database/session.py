"""Sessions of a pool, beneath SQLAlchemy: the block that one is in, and what is prepared there.

SQLAlchemy takes three times as long around a statement as psycopg2 in it, and PostgreSQL often
longer to plan a statement than to run it. So the statements of the frequent writes are prepared,
once for each session, and go past SQLAlchemy, several of them in one message.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Final

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from kith.trace_context import asking, commented
from shared.database import beside, positions
from shared.database.endpoint import Endpoint
from shared.database.guard import statement_timeout
from shared.database.statement import SPAN, Rows, Statement

Bound = tuple[Statement, Mapping[str, object]]
"""A statement and its parameters."""

statements_in_call: ContextVar[list[int] | None] = ContextVar("statements_in_call", default=None)


class Session:
    """One connection of psycopg2 in a pool; `is_broken` says that it has to be closed.

    `with_begin` and `with_commit` are to travel with the block's BEGIN and with its COMMIT, which
    `around_commit` surrounds.
    """

    def __init__(self, driver: Any, endpoint: Endpoint) -> None:
        settings = endpoint.settings
        self.driver: Final = driver
        self.is_broken = False
        self.is_in_block = False
        self.with_begin: list[Bound] = []
        self.with_commit: list[Bound] = []
        self.around_commit: AbstractContextManager[None] = nullcontext()
        self._prepares = settings.prepare
        self._prepared = frozenset[str]()
        self._usual_timeout = settings.statement_timeout.total_seconds()
        self._guard = endpoint.guard
        self._latency = endpoint.latency

    @property
    def is_idle(self) -> bool:
        """No transaction is open, not even one that has failed."""
        return bool(self.driver.get_transaction_status() == TRANSACTION_STATUS_IDLE)

    def leave_block(self) -> None:
        """Forget what was to be sent in a block."""
        self.is_in_block = False
        self.with_begin = []
        self.with_commit = []
        self.around_commit = nullcontext()

    def before(self, cursor: Any) -> str:
        """Return what goes before a statement of SQLAlchemy in its message."""
        return self._before(self._texts(cursor, self._begun(), prepared=self._prepared))

    def rows(self, sent: Sequence[Bound]) -> Rows:
        """Return the rows of the last of these statements, which are sent in one message.

        Raises what psycopg2 raises.
        """
        begun = self._begun()
        with self.driver.cursor() as cursor:
            preparations, prepared = self._preparations([*begun, *sent])
            before = self._before(self._texts(cursor, begun, prepared=prepared))
            texts = self._texts(cursor, sent, prepared=prepared)
            message = f"{preparations}{before}{'; '.join(texts)}"
            return self._sent(cursor, message, prepared, name=sent[-1][0].name)

    def commit(self, ending: str) -> Rows:
        """Return the rows of a statement that commits, which is sent after `with_commit`."""
        with self.driver.cursor() as cursor:
            preparations, prepared = self._preparations(self.with_commit)
            # What is to be ended is ended in any case, unless there is something to be done first.
            before = self._before(()) if self.with_commit else ""
            texts = [*self._texts(cursor, self.with_commit, prepared=prepared), ending]
            message = f"{preparations}{before}{'; '.join(texts)}"
            return self._sent(cursor, message, prepared, name="COMMIT")

    def _begun(self) -> Sequence[Bound]:
        return self.with_begin if self.is_in_block and self.is_idle else ()

    def _before(self, begun: Iterable[str]) -> str:
        # A statement that fails before the server knows of the transaction leaves the session idle,
        # and then the next one begins it. Only the driver knows which of the two has happened.
        begin = "BEGIN; " if self.is_in_block and self.is_idle else ""
        timeout = statement_timeout(self._usual_timeout)
        return f"{begin}{timeout}{positions.proof.get()}{''.join(f'{text}; ' for text in begun)}"

    def _preparations(self, sent: Iterable[Bound]) -> tuple[str, frozenset[str]]:
        """Return what prepares these statements, and the names of what is prepared then.

        It is empty but in the first calls of a session. It travels with the statements, before
        BEGIN: what fails behind that has been prepared.
        """
        if not self._prepares:
            return "", self._prepared
        new = {each.name: each for each, _ in sent if each.name not in self._prepared}
        texts = (f"{statement.preparation}; " for statement in new.values())
        return "".join(texts), self._prepared.union(new)

    def _texts(
        self, cursor: Any, bound: Iterable[Bound], *, prepared: AbstractSet[str]
    ) -> list[str]:
        def text(statement: Statement, parameters: Mapping[str, object]) -> str:
            is_prepared = statement.name in prepared
            if is_prepared and (execution := statement.execution(parameters)) is not None:
                return execution
            whole = statement.execute if is_prepared else statement.plain
            return str(cursor.mogrify(whole, parameters).decode())

        return [text(statement, parameters) for statement, parameters in bound]

    def _sent(self, cursor: Any, message: str, prepared: frozenset[str], *, name: str) -> Rows:
        started = time.perf_counter()
        begins = self.is_in_block and self.is_idle
        if (told := beside.asked.get()) is not None:
            told.forget()
        self._guard.watch(self.driver)
        try:
            with asking(name, SPAN):
                cursor.execute(commented(message))
            rows: Rows = cursor.fetchall() if cursor.description is not None else []
        except BaseException:
            is_left_alone = self._guard.release(self.driver)
            if begins and not self.is_idle:
                self._prepared = prepared
            self.is_broken = not is_left_alone or self._prepared != prepared
            raise
        if not self._guard.release(self.driver):
            self.is_broken = True
            raise psycopg2.OperationalError("the call of this session is over")
        self._prepared = prepared
        self._latency.observe(time.perf_counter() - started)
        if (count := statements_in_call.get()) is not None:
            count[0] += 1
        return rows
