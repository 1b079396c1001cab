"""Spreads the feed's tables over the nodes of Citus, and tells how they lie.

Every table is spread by the column that leads its key, and all of them alike, so that what belongs
to one author is in one place. The tables whose key begins with no id stay where they are, in the
database that the services are connected with.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from feed_service.models import DISTRIBUTED_BY
from shared.database import schema


class ShardsError(Exception):
    """The database cannot be distributed, or is not; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What has the same place in all tables: bytes, and rows as far as PostgreSQL knows them."""

    node: str
    rows: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Skew:
    """How many times the mean the fullest has."""

    rows: float
    size: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """How the tables lie: the shards in the order of their hashes, and the tables left out."""

    shards: Sequence[Shard]
    not_distributed: Sequence[str]

    @property
    def nodes(self) -> dict[str, Shard]:
        """What each node has in all its shards."""
        return {
            node: Shard(
                node=node,
                rows=sum(shard.rows for shard in self.shards if shard.node == node),
                size=sum(shard.size for shard in self.shards if shard.node == node),
            )
            for node in sorted({shard.node for shard in self.shards})
        }


def skew(shards: Sequence[Shard]) -> Skew:
    """Return the skew of shards, or of nodes."""
    return Skew(
        rows=_most_by_mean([shard.rows for shard in shards]),
        size=_most_by_mean([shard.size for shard in shards]),
    )


_TAKE_TURNS = text("SELECT pg_advisory_lock(:key)")
_HAS_CITUS = text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")
_DISTRIBUTED = text("""
    SELECT CAST(CAST(logicalrelid AS regclass) AS text) FROM pg_dist_partition
    WHERE partmethod = 'h'
""")
_SET_SHARD_COUNT = text("SELECT set_config('citus.shard_count', CAST(:count AS text), false)")
_DISTRIBUTE = text("""
    SELECT create_distributed_table(:table, :column, colocate_with => :colocate_with)
""")
# What was copied to the shards is still in the table itself, where no query reads it.
_LEFT_BEHIND = text("""
    SELECT name FROM unnest(CAST(:tables AS text[])) WITH ORDINALITY AS listed (name, place)
    WHERE pg_relation_size(CAST(name AS regclass)) > 0 ORDER BY place
""")
# A single database does without it. Filled first, for with the last table that is distributed the
# services take the database for complete.
_FILL_AUTHORS = text("""
    INSERT INTO authors (author_id) SELECT DISTINCT author_id FROM posts ON CONFLICT DO NOTHING
""")
# Citus distributes no table with triggers, and needs neither bounds nor named tags: see migrations
# feed_0022 and feed_0024. They leave nothing out then, because nothing maintains them any more.
_DROP_TRIGGERS = text("""
    DO $$ BEGIN
        DROP TRIGGER IF EXISTS raise_author_bounds_of_new ON posts;
        DROP TRIGGER IF EXISTS raise_author_bounds_of_changed ON posts;
        DROP TRIGGER IF EXISTS note_named_tag ON post_audience_tags;
        UPDATE authors SET open_until = 'infinity', tagged_until = 'infinity', named_tags = -1;
    END $$
""")
_EMPTY = text("SELECT truncate_local_data_after_distributing_table(CAST(:table AS regclass))")


def distribute(
    url: str, *, shard_count: int, progress: Callable[[int, int], None] = lambda _, __: None
) -> int:
    """Distribute those tables that are not, and return how many there were.

    A run that broke off is finished by the next one. `progress` is told how many tables are
    distributed, and how many will be. No service should be running: it would fail on what is
    distributed in part.
    """
    distributed = 0
    with _session(url) as connection:
        connection.execute(_TAKE_TURNS, {"key": schema.LOCK})
        _require_ready(connection)
        connection.execute(_FILL_AUTHORS)
        there = set(connection.execute(_DISTRIBUTED).scalars())
        if "posts" not in there:
            connection.execute(_DROP_TRIGGERS)
        connection.execute(_SET_SHARD_COUNT, {"count": shard_count})
        for done, (table, column) in enumerate(DISTRIBUTED_BY.items(), 1):
            if table not in there:
                first = next(iter(there), "none")
                connection.execute(
                    _DISTRIBUTE, {"table": table, "column": column, "colocate_with": first}
                )
                there.add(table)
                distributed += 1
            progress(done, len(DISTRIBUTED_BY))
        _empty_originals(connection)
    return distributed


_SHARDS = text("""
    SELECT placed.nodename || ':' || placed.nodeport AS node,
           CAST(min(stored.shardminvalue) AS integer) AS place,
           array_agg(placed.shard_name) AS tables,
           CAST(sum(placed.shard_size) AS bigint) AS size
    FROM citus_shards AS placed JOIN pg_dist_shard AS stored ON stored.shardid = placed.shardid
    WHERE placed.table_name = ANY (CAST(:tables AS regclass[]))
    GROUP BY placed.nodename, placed.nodeport, stored.shardminvalue
    ORDER BY place
""")
_ROWS = text("""
    SELECT result FROM run_command_on_all_nodes($$
        SELECT json_object_agg(relname, greatest(reltuples, 0)) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    $$)
""")


def report(url: str) -> Report:
    """Return how the tables lie. Raises ShardsError when they are not distributed."""
    with _session(url) as connection:
        _require_citus(connection)
        there = set(connection.execute(_DISTRIBUTED).scalars())
        if not there:
            raise ShardsError("the feed database is not distributed: see `kith shards create`")
        rows = dict[str, float]()
        for (result,) in connection.execute(_ROWS):
            rows |= json.loads(result or "{}")
        return Report(
            shards=[
                Shard(node=node, rows=round(sum(rows.get(name, 0) for name in names)), size=size)
                for node, _, names, size in connection.execute(_SHARDS, {"tables": sorted(there)})
            ],
            not_distributed=[table for table in DISTRIBUTED_BY if table not in there],
        )


@contextmanager
def _session(url: str) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg2://", 1),
        isolation_level="AUTOCOMMIT",
        poolclass=sqlalchemy.NullPool,
        connect_args={"client_encoding": "utf8", "options": "-c client_min_messages=warning"},
    )
    with engine.connect() as connection:
        yield connection


def _require_citus(connection: Connection) -> None:
    if not connection.execute(_HAS_CITUS).scalar_one():
        raise ShardsError("the feed database has no Citus: see deploy/CITUS.md")


def _require_ready(connection: Connection) -> None:
    _require_citus(connection)
    found = MigrationContext.configure(connection).get_current_revision()
    head = schema.head("feed")
    if found != head:
        raise ShardsError(f"the feed database is at {found} and not at {head}: run `kith migrate`")


def _empty_originals(connection: Connection) -> None:
    tables = {"tables": list(DISTRIBUTED_BY)}
    while left := connection.execute(_LEFT_BEHIND, tables).scalars().first():
        # What refers to a table is emptied with it.
        connection.execute(_EMPTY, {"table": left})


def _most_by_mean(amounts: Sequence[int]) -> float:
    total = sum(amounts)
    return max(amounts) * len(amounts) / total if total else 1.0
