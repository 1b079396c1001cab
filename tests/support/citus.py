"""Feed databases on a running Citus, where KITH_TEST_CITUS_URL names its coordinator.

The URL is a superuser's, of a database in which the cluster's nodes are known; without any the
coordinator is the only one. Superuser and new roles must be let in without a password, from here
and from node to node.

Citus knows nothing of copies of databases. But a copy holds all that it knows of the original, so
that copies under one name on every node make a distributed database, in a second.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Final

import sqlalchemy

from migrations.shards.distribution import distribute
from shared.database import schema
from tests.support.roles import make_roles, owner

URL: Final = os.environ.get("KITH_TEST_CITUS_URL", "")
SINGLE_NODE: Final = "KITH_TEST_CITUS_URL is set, and this is about one PostgreSQL"
NO_CITUS: Final = "KITH_TEST_CITUS_URL names no coordinator of a Citus"
_SHARDS: Final = 4
_PREFIX: Final = "kith_test_"

Node = tuple[str, int]


class Citus:
    """Makes distributed databases with the newest schema. All of them are dropped at the end."""

    def __init__(self, url: str, *, shard_count: int = _SHARDS) -> None:
        self._shard_count = shard_count
        self._url = sqlalchemy.make_url(url).set(drivername="postgresql+psycopg2")
        self._prefix = f"{_PREFIX}{secrets.token_hex(4)}"
        self._numbers = count(1)
        self.coordinator: Node = (self._url.host or "127.0.0.1", self._url.port or 5432)
        with _session(self._url) as session:
            nodes = session.execute(
                sqlalchemy.text("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0")
            )
            self.workers: list[Node] = [(name, port) for name, port in nodes]

    def make_template(self) -> None:
        """Make what the databases are copied from."""
        with self._in_turn():
            url = self._make(self._template)
            distribute(owner("feed", url), shard_count=self._shard_count)
        for node in self._nodes:
            # It must have no sessions while it is copied, not even those of Citus itself.
            self._run(node, f"ALTER DATABASE {self._template} ALLOW_CONNECTIONS false")
            self._run(
                node,
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                f" WHERE datname = '{self._template}'",
            )

    def undistributed(self, service: str = "feed") -> str:
        """Return the URL of a new database with Citus of which nothing is distributed."""
        with self._in_turn():
            return self._make(f"{self._prefix}_{next(self._numbers)}", service)

    def new(self) -> str:
        """Return the URL of a new empty feed database."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self._on_all(lambda node: self._create(node, name, f"TEMPLATE {self._template}"))
        return self.url(name)

    def url(self, database: str, node: Node | None = None) -> str:
        """Return the URL of a database on a node, by default on the coordinator."""
        at = self._at(node or self.coordinator, database)
        return at.render_as_string(hide_password=False)

    def drop_all(self) -> None:
        """Drop every database that was made here."""
        self._on_all(self._drop_all)

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Keep other processes of tests waiting: nodes that get the same roles at once may fail."""
        with _session(self._url) as session:
            session.exec_driver_sql("SELECT pg_advisory_lock(hashtextextended('kith tests', 0))")
            yield

    def _make(self, name: str, service: str = "feed") -> str:
        for node in self._nodes:
            self._create(node, name)
            with _session(self._at(node, name)) as session:
                session.exec_driver_sql("CREATE EXTENSION citus")
            make_roles(service, self.url(name, node))
        with _session(self._at(self.coordinator, name)) as session:
            session.exec_driver_sql("SELECT citus_set_coordinator_host(%s, %s)", self.coordinator)
            for worker in self.workers:
                session.exec_driver_sql("SELECT citus_add_node(%s, %s)", worker)
        schema.upgrade(service, owner(service, self.url(name)))
        return self.url(name)

    @property
    def _template(self) -> str:
        return f"{self._prefix}_template"

    @property
    def _nodes(self) -> list[Node]:
        """All nodes, the coordinator last: the others have to be ready for what it tells them."""
        return [*self.workers, self.coordinator]

    def _at(self, node: Node, database: str | None) -> sqlalchemy.URL:
        return self._url.set(host=node[0], port=node[1], database=database)

    def _on_all(self, work: Callable[[Node], None]) -> None:
        with ThreadPoolExecutor() as threads:
            list(threads.map(work, self._nodes))

    def _drop_all(self, node: Node) -> None:
        mine = (f"{self._prefix}%",)
        with _session(self._at(node, self._url.database)) as session:
            # What was under way when a worker was killed keeps a database from being dropped.
            prepared = session.exec_driver_sql(
                "SELECT gid, database FROM pg_prepared_xacts WHERE database LIKE %s", mine
            )
            for gid, database in prepared.all():
                with _session(self._at(node, database)) as inside:
                    inside.exec_driver_sql(f"ROLLBACK PREPARED '{gid}'")
            names = session.exec_driver_sql(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", mine
            )
            for name in names.scalars().all():
                session.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _create(self, node: Node, name: str, options: str = "") -> None:
        self._run(node, f"CREATE DATABASE {name} {options}")

    def _run(self, node: Node, statement: str) -> None:
        with _session(self._at(node, self._url.database)) as session:
            session.exec_driver_sql(statement)


def layout_of(url: str) -> str:
    """Return the layout of a feed database by its name, which is the same behind a proxy."""
    return "distributed" if _PREFIX in url else "single"


@contextmanager
def running_citus(*, shard_count: int = _SHARDS) -> Iterator[Citus | None]:
    """Yield the Citus that is named, ready to make databases; None when none is."""
    if not URL:
        yield None
        return
    citus = Citus(URL, shard_count=shard_count)
    try:
        citus.make_template()
        yield citus
    finally:
        citus.drop_all()


@contextmanager
def _session(url: sqlalchemy.URL) -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield connection
