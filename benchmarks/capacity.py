"""How many cores, machines, replicas, shards and bytes so many people take: costs times habits.

Costs are those that `python -m benchmarks costs` has measured last. Habits and machines are
assumptions; each is an option of the command.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import ceil, log2
from pathlib import Path
from typing import Any, Final

from benchmarks.costs import CallCost, Costs, RowCost

PEOPLE: Final = (1_000_000, 10_000_000, 100_000_000)

PAGE: Final = Path(__file__).parents[1] / "deploy" / "CAPACITY.md"
_BEGIN: Final = "\n    python -m benchmarks capacity\n\n"
_END: Final = "\n\n## "

_DAY_SECONDS: Final = 86_400
_DAYS_A_YEAR: Final = 365
_ITEMS_A_DIGEST: Final = 12
_KIB: Final = 1_024
_CONNECTING: Final = "RequestConnection and AcceptConnection"
_GRAPH_READS: Final = ("GetConnectedUserIds", "ListConnections", "CheckConnections")
_SCATTERED: Final = ("GetFeed", "GetDigest, first reading")
_FEED_WRITES: Final = ("CreatePost", "CreateComment", "AddTagMembers")


def _assumed(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What people do in a day, on average over all of them, and what machines are like."""

    pages: float = _assumed(10, "pages of feeds a person and day")
    digests: float = _assumed(0.03, "digests a person and day, each a first reading")
    posts: float = _assumed(0.2, "posts a person and day")
    comments: float = _assumed(0.5, "comments a person and day")
    comment_lists: float = _assumed(1, "lists of comments a person and day")
    graph_reads: float = _assumed(1, "lists and checks of connections a person and day")
    connects: float = _assumed(0.05, "connections made or ended a person and day")
    gifts: float = _assumed(0.03, "tags given a person and day")
    cached: float = _assumed(0.8, "share of pages whose connections the process or Redis holds")
    peak: float = _assumed(3, "calls in the busiest hour against those in an average one")
    busy: float = _assumed(0.5, "share of a core that is used at the peak")
    cores: float = _assumed(16, "cores of a machine for services")
    database_cores: float = _assumed(128, "cores of a machine for a database")
    database_tib: float = _assumed(16, "TiB that a machine for a database holds")
    degree: float = _assumed(150, "connections of a person")
    tags: float = _assumed(3, "tags of a person")
    tagged: float = _assumed(45, "people a person has given a tag")
    photos: float = _assumed(0.5, "photos of a post")
    post_tags: float = _assumed(0.3, "tags in the audience of a post")
    years: float = _assumed(3, "years of posts, comments and digests")
    bloat: float = _assumed(1.3, "bytes of a table in use against those of a fresh one")
    node_shards: float = _assumed(1, "shards of a node of Citus, at least")
    shard_ms: float = _assumed(1, "CPU of a page on Citus, on each shard that it asks, ms")
    coordinator_ms: float = _assumed(0.25, "CPU of its coordinator for each of them, ms")


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """What so many people take. Rates are of a second at the peak, cores so that they are busy."""

    people: int
    pages: float
    calls: float
    graph_writes: float
    feed_writes: float
    graph_cores: float
    feed_cores: float
    service_machines: int
    graph_bytes: float
    graph_primary_cores: float
    """Of writes, and of the questions that validate reads, which no replica may answer."""
    graph_replica_cores: float
    """Of all other reads, which replicas may answer."""
    graph_primary_cpu: float
    """The share of one machine's cores; past 1 there is none that is large enough."""
    graph_primary_room: float
    """The share of one machine's room for bytes."""
    graph_replicas: int
    feed_bytes: float
    feed_nodes: int
    feed_shards: int
    feed_postgres_cores: float
    feed_coordinator_cpu: float
    """The share of one machine's cores; past 1 there is none that is large enough."""
    feed_replicas: int
    """Of a single node; a Citus gets more nodes instead."""

    @property
    def database_machines(self) -> int:
        """How many machines hold a database, without standbys that do nothing else."""
        return 1 + self.graph_replicas + self.feed_nodes + self.feed_replicas


def sizing(people: int, costs: Costs, assumed: Assumptions) -> Sizing:
    """Return what so many people take."""
    daily = _daily(assumed)
    rates = {name: people * times * assumed.peak / _DAY_SECONDS for name, times in daily.items()}

    def cores(process: str, names: Iterable[str] = daily) -> float:
        used: float = sum(
            rates[name] * getattr(costs.call(name), process) / 1_000 for name in names
        )
        return used / assumed.busy

    graph_bytes = people * assumed.bloat * _bytes(costs, _graph_rows(assumed))
    feed_bytes = people * assumed.bloat * _bytes(costs, _feed_rows(assumed))
    primary = cores("graph_postgres", daily.keys() - _GRAPH_READS)
    readable = cores("graph_postgres", _GRAPH_READS)
    room = assumed.database_tib * _KIB**4
    scattered = sum(rates[name] for name in _SCATTERED)

    def asked_cores(nodes: int, milliseconds: float) -> float:
        asked = min(_shards(nodes, assumed), assumed.degree)
        return scattered * asked * milliseconds / 1_000 / assumed.busy

    def feed_cores_on(nodes: int) -> float:
        return cores("feed_postgres") + asked_cores(nodes, assumed.shard_ms)

    nodes = ceil(feed_bytes / room)
    while 1 < nodes < feed_cores_on(nodes) / assumed.database_cores:
        nodes += 1
    feed_machines = ceil(feed_cores_on(nodes) / assumed.database_cores)
    services = cores("graph") + cores("feed")
    return Sizing(
        people=people,
        pages=rates["GetFeed"],
        calls=sum(rates.values()) + rates[_CONNECTING],
        graph_writes=2 * rates[_CONNECTING],
        feed_writes=sum(rates[name] for name in _FEED_WRITES),
        graph_cores=cores("graph"),
        feed_cores=cores("feed"),
        service_machines=ceil(services / assumed.cores),
        graph_bytes=graph_bytes,
        graph_primary_cores=primary,
        graph_replica_cores=readable,
        graph_primary_cpu=primary / assumed.database_cores,
        graph_primary_room=graph_bytes / room,
        graph_replicas=_replicas(primary, readable, assumed),
        feed_bytes=feed_bytes,
        feed_nodes=nodes,
        feed_shards=_shards(nodes, assumed),
        feed_postgres_cores=feed_cores_on(nodes),
        feed_coordinator_cpu=asked_cores(nodes, assumed.coordinator_ms) / assumed.database_cores,
        feed_replicas=feed_machines - 1 if nodes == 1 else 0,
    )


def markdown(costs: Costs, assumed: Assumptions, people: Sequence[int]) -> str:
    """Return the costs, the assumptions and the sizings as tables."""
    sizings = [sizing(number, costs, assumed) for number in people]
    measured = f"Measured on {costs.machine}, {costs.date}, the {costs.size} data set."
    return "\n\n".join(
        [
            measured,
            _table(_CALL_COLUMNS, map(_call_line, costs.calls)),
            _table(_ROW_COLUMNS, map(_row_line, costs.rows)),
            f"Changes of the graph by eight callers at once: {costs.graph_writes_a_second:,.0f}/s.",
            _table(("assumption", "option", "value"), _assumption_lines(assumed)),
            _table(("people", *(f"{each.people:,}" for each in sizings)), _sizing_lines(sizings)),
        ]
    )


def write_page(costs: Costs) -> None:
    """Quote the tables in the page about capacity, instead of those that are there."""
    before, begin, rest = PAGE.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    PAGE.write_text(before + begin + markdown(costs, Assumptions(), PEOPLE) + end + after)


def _daily(assumed: Assumptions) -> dict[str, float]:
    """Return how often a person makes each call in a day."""
    return {
        "GetFeed": assumed.pages,
        "GetDigest, first reading": assumed.digests,
        "ListComments": assumed.comment_lists,
        "CreatePost": assumed.posts,
        "CreateComment": assumed.comments,
        "AddTagMembers": assumed.gifts,
        _CONNECTING: assumed.connects,
        "GetConnectedUserIds": assumed.pages * (1 - assumed.cached),
        "ListConnections": assumed.graph_reads / 2,
        "CheckConnections": assumed.graph_reads / 2,
    }


def _graph_rows(assumed: Assumptions) -> dict[str, float]:
    """Return how many rows of each table a person takes: a pair is one row for two people."""
    pairs = assumed.degree / 2
    return {
        "connections": pairs,
        "connection_events": 2 * pairs,
        "users": 1,
        # A connection takes two calls, whose answers are kept for a day.
        "idempotency_keys": 2 * assumed.connects,
    }


def _feed_rows(assumed: Assumptions) -> dict[str, float]:
    days = assumed.years * _DAYS_A_YEAR
    posts = assumed.posts * days
    digests = assumed.digests * days
    return {
        "posts": posts,
        "post_photos": posts * assumed.photos,
        "post_audience_tags": posts * assumed.post_tags,
        "post_stats": min(posts, assumed.comments * days),
        "comments": assumed.comments * days,
        "tags": assumed.tags,
        "user_tags": assumed.tagged,
        "read_positions": 1,
        "frozen_digests": digests,
        "frozen_digest_items": digests * _ITEMS_A_DIGEST,
        # They are kept for a day.
        "idempotency_keys": assumed.posts + assumed.comments + assumed.gifts,
    }


def _bytes(costs: Costs, rows: Mapping[str, float]) -> float:
    return sum(costs.bytes_a_row(table) * number for table, number in rows.items())


def _replicas(primary: float, readable: float, assumed: Assumptions) -> int:
    """Return how many it takes; none as long as one machine does everything."""
    if primary + readable <= assumed.database_cores:
        return 0
    return ceil(readable / assumed.database_cores)


def _shards(nodes: int, assumed: Assumptions) -> int:
    """Return a power of two, so that nodes can be doubled; none of a single node."""
    return 0 if nodes == 1 else 1 << ceil(log2(nodes * assumed.node_shards))


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, rule, *lines))


_CALL_COLUMNS: Final = (
    "CPU of a call, ms",
    "graph_service",
    "feed_service",
    "PostgreSQL, graph",
    "PostgreSQL, feed",
)
_ROW_COLUMNS: Final = ("bytes of a row", "with its indexes", "these alone", "rows measured")


def _call_line(cost: CallCost) -> list[str]:
    parts = (cost.graph, cost.feed, cost.graph_postgres, cost.feed_postgres)
    return [cost.name, *(f"{milliseconds:.2f}" for milliseconds in parts)]


def _row_line(cost: RowCost) -> list[str]:
    in_indexes = cost.index_bytes / cost.rows
    return [
        f"{cost.service}: {cost.table}",
        f"{cost.bytes_a_row:,.0f}",
        f"{in_indexes:,.0f}",
        f"{cost.rows:,}",
    ]


def _assumption_lines(assumed: Assumptions) -> Iterator[list[str]]:
    for each in fields(assumed):
        value = getattr(assumed, each.name)
        yield [each.metadata["meaning"], f"`{option(each.name)}`", f"{value:g}"]


def option(name: str) -> str:
    """Return the option of the command for an assumption."""
    return "--" + name.replace("_", "-")


def _sizing_lines(sizings: Sequence[Sizing]) -> Iterator[list[str]]:
    shown: Mapping[str, Callable[[Sizing], str]] = {
        "pages of feeds a second": lambda each: f"{each.pages:,.0f}",
        "calls a second": lambda each: f"{each.calls:,.0f}",
        "writes a second, graph / feed": lambda each: (
            f"{each.graph_writes:,.0f} / {each.feed_writes:,.0f}"
        ),
        "cores of graph_service / feed_service": lambda each: (
            f"{each.graph_cores:,.1f} / {each.feed_cores:,.1f}"
        ),
        "machines for services": lambda each: f"{each.service_machines:,}",
        "graph: bytes": lambda each: _size(each.graph_bytes),
        "graph: cores of the primary / of reads that replicas answer": lambda each: (
            f"{each.graph_primary_cores:,.1f} / {each.graph_replica_cores:,.1f}"
        ),
        "graph: share of one machine's cores / room that the primary takes": lambda each: (
            f"{each.graph_primary_cpu:.0%} / {each.graph_primary_room:.0%}"
        ),
        "graph: replicas for reads": lambda each: f"{each.graph_replicas:,}",
        "feed: bytes": lambda each: _size(each.feed_bytes),
        "feed: cores": lambda each: f"{each.feed_postgres_cores:,.1f}",
        "feed: nodes": lambda each: f"{each.feed_nodes:,}",
        "feed: shards of Citus": lambda each: f"{each.feed_shards or 'none'}",
        "feed: share of one machine's cores that the coordinator takes": lambda each: (
            f"{each.feed_coordinator_cpu:.0%}" if each.feed_shards else "none"
        ),
        "feed: replicas for reads": lambda each: f"{each.feed_replicas:,}",
        "machines for databases": lambda each: f"{each.database_machines:,}",
    }
    for name, figure in shown.items():
        yield [name, *map(figure, sizings)]


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < _KIB:
            return f"{number:,.0f} {unit}"
        number /= _KIB
    return f"{number:,.1f} TiB"
