"""How a command ended, where it may have met a database as well as the services."""

from collections.abc import Callable

from sqlalchemy.exc import DBAPIError, OperationalError

from kith.cli.outcome import outcome as client_outcome
from kith.cli.terminal import Status
from shared.database.embedded_postgres import EmbeddedPostgresError


def outcome(work: Callable[[], object]) -> Status:
    """Run a command to its end; says on standard error what went wrong, and returns the status."""
    return client_outcome(work, explain=_explanation)


def _explanation(error: BaseException) -> str | None:
    match error:
        case EmbeddedPostgresError():
            return str(error)
        case DBAPIError():
            is_operational = isinstance(error, OperationalError)
            what = "does not answer" if is_operational else "refuses a statement"
            return " ".join(f"the database {what}: {error.orig}".split())
        case _:
            return None
