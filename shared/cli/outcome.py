"""How a command ended, where it may have met a database as well as the services."""

from collections.abc import Callable

from sqlalchemy.exc import DBAPIError, OperationalError

from kith.cli.outcome import outcome as client_outcome
from kith.cli.terminal import Status
from shared.database.embedded_postgres import EmbeddedPostgresError


def outcome(work: Callable[[], object]) -> Status:
    """Run a command to its end; says on standard error what went wrong, and returns the status."""
    return client_outcome(work, explain=explanation)


def explanation(error: BaseException) -> str | None:
    """Return what to say of an error that a database or its driver has raised; None for others."""
    match error:
        case EmbeddedPostgresError():
            return str(error)
        case DBAPIError():
            is_operational = isinstance(error, OperationalError)
            what = "does not answer" if is_operational else "refuses a statement"
            return " ".join(f"the database {what}: {error.orig}".split())
        case _:
            return None
