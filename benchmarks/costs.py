"""What one call costs in each process, and how many bytes one row takes: what capacity is made of.

Calls are made one at a time against a copy of the data, by or about people with 150 connections:
what a process spends because it has to wait is in them. Of PostgreSQL the sessions of the services
are counted; its log, its files and their cleaning are the work of processes beside them.
"""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console

from benchmarks import dataset as datasets
from benchmarks.cost_calls import CostCalls
from benchmarks.dataset import Dataset, connect
from benchmarks.processes import PostgresClock, RunningPair, cpu_seconds, running_pair
from benchmarks.report import RESULTS, machine, today
from benchmarks.rounds import Contender, Effort, in_turns
from benchmarks.world import Size
from shared.database.embedded_postgres import EmbeddedPostgres

RESULT: Final = RESULTS / "costs.json"

_EFFORT: Final = Effort(
    rounds=7, calls=40, segment_seconds=0.5, mixed_calls=0, imported_pairs=0, imported_posts=0
)
_CALLERS: Final = 8
_WRITING_SECONDS: Final = 8.0
# Of what the world has none of; and a table of fewer is mostly pages that are next to empty.
_FILLED: Final = 2_000
_FEWEST_ROWS: Final = 100
_TABLES: Final = """
    SELECT c.relname, pg_total_relation_size(c.oid), pg_indexes_size(c.oid)
    FROM pg_class AS c
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
      AND c.relname <> 'alembic_version'
    ORDER BY 1
"""


@dataclass(frozen=True, kw_only=True)
class CallCost:
    """The CPU time of a call, in milliseconds: of both services, and of their databases."""

    name: str
    graph: float
    feed: float
    graph_postgres: float
    feed_postgres: float


@dataclass(frozen=True, kw_only=True)
class RowCost:
    """How much a table takes, together with its indexes, and these alone."""

    service: str
    table: str
    rows: int
    bytes: int
    index_bytes: int

    @property
    def bytes_a_row(self) -> float:
        """The bytes of a row and its share of the indexes."""
        return self.bytes / self.rows


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured, and where and when."""

    size: str
    machine: str
    date: str
    calls: Sequence[CallCost]
    rows: Sequence[RowCost]
    graph_writes_a_second: float
    """Changes of the graph by several callers at once, who are on this machine too."""

    def call(self, name: str) -> CallCost:
        """Return what a call costs."""
        [cost] = [cost for cost in self.calls if cost.name == name]
        return cost

    def bytes_a_row(self, table: str) -> float:
        """Return how many bytes a row of a table takes with its indexes, in both services."""
        costs = [cost for cost in self.rows if cost.table == table]
        return sum(cost.bytes for cost in costs) / sum(cost.rows for cost in costs)


def measure_costs(size: Size, directory: Path, console: Console) -> Costs:
    """Measure on a copy of a data set, and write what was found beside the other results."""
    logs = directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with EmbeddedPostgres(directory) as cluster:
        data = datasets.prepared(cluster, directory, size, console)
        copy = datasets.copied(cluster, data, "costs")
        console.print("Measuring ...")
        with running_pair(copy, logs=logs) as pair:
            calls = CostCalls(pair.kith, copy)
            call_costs = _call_costs(calls, pair, copy)
            writes = _graph_writes(calls)
            with ThreadPoolExecutor(_CALLERS) as pool:
                list(pool.map(calls.post_and_read, copy.ordinary_ids[:_FILLED]))
        row_costs = [
            *_row_costs("graph", copy.graph_url),
            *_row_costs("feed", copy.feed_url),
        ]
        datasets.drop(cluster, "costs")
    costs = Costs(
        size=size.name,
        machine=machine(),
        date=today(),
        calls=call_costs,
        rows=row_costs,
        graph_writes_a_second=writes,
    )
    RESULT.write_text(json.dumps(asdict(costs), indent=2) + "\n")
    return costs


def last_costs(path: Path = RESULT) -> Costs:
    """Return what was measured last."""
    found = json.loads(path.read_text())
    calls = [CallCost(**call) for call in found.pop("calls")]
    rows = [RowCost(**row) for row in found.pop("rows")]
    return Costs(calls=calls, rows=rows, **found)


def _call_costs(calls: CostCalls, pair: RunningPair, dataset: Dataset) -> list[CallCost]:
    with ExitStack() as stack:
        clocks = _clocks(pair, dataset, stack)
        segments = in_turns(
            _EFFORT,
            {
                name: Contender(calls=[call] * _EFFORT.calls, clocks=clocks)
                for name, call in calls.by_name.items()
            },
        )
    return [
        CallCost(
            name=name,
            **{clock: 1_000 * median(segment.cpu[clock] for segment in found) for clock in clocks},
        )
        for name, found in segments.items()
    ]


def _clocks(
    pair: RunningPair, dataset: Dataset, stack: ExitStack
) -> dict[str, Callable[[], float]]:
    services = {name: partial(cpu_seconds, pid) for name, pid in pair.pids.items()}
    databases = {
        f"{service}_postgres": stack.enter_context(closing(PostgresClock(url))).seconds_here
        for service, url in (("graph", dataset.graph_url), ("feed", dataset.feed_url))
    }
    return {**services, **databases}


def _graph_writes(calls: CostCalls) -> float:
    """Return how many changes of the graph are made in a second."""
    ends_at = time.monotonic() + _WRITING_SECONDS

    def write(_caller: int) -> int:
        made = 0
        while time.monotonic() < ends_at:
            calls.connect()
            made += 2
        return made

    with ThreadPoolExecutor(_CALLERS) as pool:
        return sum(pool.map(write, range(_CALLERS))) / _WRITING_SECONDS


def _row_costs(service: str, url: str) -> list[RowCost]:
    with closing(connect(url)) as session, session.cursor() as cursor:
        cursor.execute(_TABLES)
        costs = []
        for table, size, index_size in cursor.fetchall():
            cursor.execute(f"SELECT count(*) FROM {table}")
            [(rows,)] = cursor.fetchall()
            if rows >= _FEWEST_ROWS:
                costs.append(
                    RowCost(
                        service=service,
                        table=table,
                        rows=rows,
                        bytes=size,
                        index_bytes=index_size,
                    )
                )
    return costs
