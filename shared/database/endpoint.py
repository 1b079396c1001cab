"""What all connections to one database are made with."""

from dataclasses import dataclass, field, replace
from typing import Self

from prometheus_client import Histogram

from shared.database.guard import StatementGuard
from shared.database.settings import DatabaseSettings


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One database: where it is, and what its connections share.

    `guard` ends statements that outlive their calls, and `latency` measures every statement.
    """

    settings: DatabaseSettings
    url: str = field(repr=False)
    latency: Histogram
    guard: StatementGuard

    @classmethod
    def of(cls, settings: DatabaseSettings, url: str, latency: Histogram) -> Self:
        """Return the endpoint of a database, with a guard of its own; close the guard last."""
        guard = StatementGuard(settings.statement_timeout)
        return cls(settings=settings, url=url, latency=latency, guard=guard)

    def limited(self, connections: int) -> Self:
        """Return the same endpoint for a pool of at most so many connections, one kept open."""
        settings = replace(self.settings, pool_size=1, max_overflow=connections - 1)
        return replace(self, settings=settings)
