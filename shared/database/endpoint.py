"""What all connections to one database are made with."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from prometheus_client import Histogram

from shared.database.guard import StatementGuard
from shared.database.settings import DatabaseSettings


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One database: where it is, and what its connections share.

    `guard` ends statements that outlive their calls, and `latency` measures every statement. Each
    `Database` begins its sessions, which are connections of psycopg2, with `begin_session`.
    """

    settings: DatabaseSettings
    url: str = field(repr=False)
    latency: Histogram
    guard: StatementGuard
    begin_session: Callable[[Any], None] | None = None

    @classmethod
    def of(
        cls,
        settings: DatabaseSettings,
        url: str,
        latency: Histogram,
        *,
        begin_session: Callable[[Any], None] | None = None,
    ) -> Self:
        """Return the endpoint of a database, with a guard of its own; close the guard last."""
        return cls(
            settings=settings,
            url=url,
            latency=latency,
            guard=StatementGuard(settings.statement_timeout),
            begin_session=begin_session,
        )

    def limited(self, connections: int) -> Self:
        """Return the same endpoint for a pool of at most so many connections, one kept open."""
        settings = replace(self.settings, pool_size=1, max_overflow=connections - 1)
        return replace(self, settings=settings)
