"""Mixes of calls, made by several callers at once; each caller waits for its answers.

- `tao`: reads of the graph in the shares of N. Bronson et al., "TAO: Facebook's Distributed Data
  Store for the Social Graph", USENIX ATC 2013, figure 3.
- `linkbench`: reads and writes of the graph in the shares of T. Armstrong et al., "LinkBench: a
  Database Benchmark Based on the Facebook Social Graph", SIGMOD 2013, table 5.
- `feed`: nine first pages of feeds in ten calls, some deeper ones, digests and posts.

Kith keeps no objects besides people, so that reading an object is asking for a user's revision,
and writing one is a write that changes the user's row. The callers are threads of this process on
the same machine and take a part of its cores; a mix runs on a copy of the data, which is removed.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import dataset as datasets
from benchmarks.dataset import Dataset
from benchmarks.processes import PostgresClock, RunningPair, cpu_seconds, running_pair
from benchmarks.world import Size
from kith.exceptions import AppException
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.database.embedded_postgres import EmbeddedPostgres

_REMEMBERED: Final = 1_000
_PEERS: Final = 20
_PAGE: Final = 50


@dataclass(frozen=True, kw_only=True)
class Load:
    """How many callers call for how long."""

    seconds: float
    callers: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one call; the error is empty when there was none."""

    operation: str
    seconds: float
    error: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a mix: every call, and the CPU time of each process in the meantime."""

    mix: str
    seconds: float
    outcomes: Sequence[Outcome]
    cpu: Mapping[str, float]


@dataclass(kw_only=True)
class Caller:
    """A person who calls, and what they remember of earlier calls for later ones."""

    pair: RunningPair
    dataset: Dataset
    random: Random
    new_ids: Iterator[int]
    requested: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    connected: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    created: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    blocked: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    pages: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def person(self) -> int:
        """Return an ordinary person."""
        return self.random.choice(self.dataset.ordinary_ids)

    def two(self) -> tuple[int, int]:
        """Return two different people."""
        first, second = self.random.sample(self.dataset.ordinary_ids, 2)
        return first, second


Operation = Callable[[Caller], object]


def _check(caller: Caller, *, peers: int) -> None:
    user_id, *peer_ids = caller.random.sample(caller.dataset.ordinary_ids, peers + 1)
    caller.pair.kith.graph.CheckConnections(
        graph_pb2.CheckConnectionsRequest(user_id=user_id, peer_ids=peer_ids)
    )


def _list(caller: Caller) -> graph_pb2.ListConnectionsResponse:
    request = graph_pb2.ListConnectionsRequest(user_id=caller.person(), page_size=_PAGE)
    response = caller.pair.kith.graph.ListConnections(request)
    if response.next_page_token:
        caller.pages.append((request.user_id, response.next_page_token))
    return response


def _list_further(caller: Caller) -> None:
    if not caller.pages:
        _list(caller)
        return
    user_id, token = caller.pages.popleft()
    request = graph_pb2.ListConnectionsRequest(user_id=user_id, page_size=_PAGE, page_token=token)
    caller.pair.kith.graph.ListConnections(request)


def _count(caller: Caller) -> None:
    caller.pair.kith.graph.CountConnections(
        graph_pb2.CountConnectionsRequest(user_ids=[caller.person()])
    )


def _read_user(caller: Caller) -> None:
    query = graph_pb2.GetConnectedUserIdsRequest.UserQuery(
        user_id=caller.person(), known_revision=datasets.REVISION
    )
    caller.pair.kith.graph.GetConnectedUserIds(graph_pb2.GetConnectedUserIdsRequest(users=[query]))


def _request(caller: Caller) -> None:
    _ask(caller, *caller.two())


def _ask(caller: Caller, user_id: int, peer_id: int) -> None:
    response = caller.pair.kith.graph.RequestConnection(
        graph_pb2.RequestConnectionRequest(user_id=user_id, peer_id=peer_id)
    )
    if response.connection.state == graph_pb2.CONNECTION_STATE_REQUEST_SENT:
        caller.requested.append((user_id, peer_id))


def _accept(caller: Caller) -> None:
    if not caller.requested:
        _request(caller)
        return
    user_id, peer_id = caller.requested.popleft()
    caller.pair.kith.graph.AcceptConnection(
        graph_pb2.AcceptConnectionRequest(user_id=peer_id, peer_id=user_id)
    )
    caller.connected.append((user_id, peer_id))


def _remove(caller: Caller) -> None:
    user_id, peer_id = caller.connected.popleft() if caller.connected else caller.two()
    caller.pair.kith.graph.RemoveConnection(
        graph_pb2.RemoveConnectionRequest(user_id=user_id, peer_id=peer_id)
    )


def _add_user(caller: Caller) -> None:
    user_id = next(caller.new_ids)
    caller.pair.kith.graph.RequestConnection(
        graph_pb2.RequestConnectionRequest(user_id=user_id, peer_id=caller.person())
    )
    caller.created.append(user_id)


def _change_user(caller: Caller) -> None:
    graph = caller.pair.kith.graph
    if caller.blocked:
        user_id, peer_id = caller.blocked.popleft()
        unblock = graph_pb2.UnblockUserRequest(user_id=user_id, peer_id=peer_id)
        graph.UnblockUser(unblock)
        return
    user_id, peer_id = caller.person(), next(caller.new_ids)
    block = graph_pb2.BlockUserRequest(user_id=user_id, peer_id=peer_id)
    graph.BlockUser(block)
    caller.blocked.append((user_id, peer_id))


def _delete_user(caller: Caller) -> None:
    if not caller.created:
        _add_user(caller)
    caller.pair.kith.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=caller.created.popleft()))


def _first_page(caller: Caller) -> None:
    request = feed_pb2.GetFeedRequest(user_id=caller.person())
    response = caller.pair.kith.feed.GetFeed(request)
    if response.next_page_token:
        caller.pages.append((request.user_id, response.next_page_token))


def _deeper_page(caller: Caller) -> None:
    if not caller.pages:
        _first_page(caller)
        return
    user_id, token = caller.pages.popleft()
    request = feed_pb2.GetFeedRequest(user_id=user_id, page_token=token)
    response = caller.pair.kith.feed.GetFeed(request)
    if response.next_page_token:
        caller.pages.append((user_id, response.next_page_token))


def _digest(caller: Caller) -> None:
    request = feed_pb2.GetDigestRequest(user_id=caller.person())
    request.week_of.FromSeconds(caller.random.choice(_WEEKS))
    caller.pair.kith.feed.GetDigest(request)


def _post(caller: Caller) -> None:
    caller.pair.kith.feed.CreatePost(
        feed_pb2.CreatePostRequest(
            user_id=caller.person(),
            body="Good morning from a benchmark.",
            audience=feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL),
        )
    )


_WEEK_SECONDS: Final = 7 * 24 * 3600
_FIRST_SECOND: Final = int(datasets.YEAR.astype("datetime64[s]").astype(np.int64))
_WEEKS: Final = [_FIRST_SECOND + week * _WEEK_SECONDS for week in range(1, 51)]

MIXES: Final[Mapping[str, Mapping[str, tuple[float, Operation]]]] = {
    "tao": {
        "assoc_get: CheckConnections": (15.7, partial(_check, peers=1)),
        "assoc_range: ListConnections": (40.9, _list),
        "assoc_time_range: ListConnections, further": (2.8, _list_further),
        "assoc_count: CountConnections": (11.7, _count),
        "obj_get: GetConnectedUserIds, unchanged": (28.9, _read_user),
    },
    "linkbench": {
        "add link: RequestConnection": (9.0, _request),
        "delete link: RemoveConnection": (3.0, _remove),
        "update link: AcceptConnection": (8.0, _accept),
        "count links: CountConnections": (4.9, _count),
        "multiget link: CheckConnections": (0.5, partial(_check, peers=_PEERS)),
        "get link list: ListConnections": (50.7, _list),
        "get node: GetConnectedUserIds, unchanged": (12.9, _read_user),
        "add node: RequestConnection by somebody new": (2.6, _add_user),
        "update node: BlockUser, UnblockUser": (7.4, _change_user),
        "delete node: DeleteUser": (1.0, _delete_user),
    },
    "feed": {
        "GetFeed, first page": (90, _first_page),
        "GetFeed, deeper": (6, _deeper_page),
        "GetDigest": (2, _digest),
        "CreatePost": (2, _post),
    },
}


def run_loads(
    mixes: Sequence[str], *, size: Size, load: Load, directory: Path, console: Console
) -> None:
    """Run the mixes one after another, and print what became of each."""
    logs = directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with EmbeddedPostgres(directory) as cluster:
        data = datasets.prepared(cluster, directory, size, console)
        with running_pair(data, logs=logs):
            pass  # what is done once is done now, and not again in every copy
        for mix in mixes:
            copy = datasets.copied(cluster, data, "load")
            with running_pair(copy, logs=logs) as pair:
                print_result(run_mix(mix, pair, copy, load), console)
        datasets.drop(cluster, "load")


def run_mix(mix: str, pair: RunningPair, dataset: Dataset, load: Load) -> Result:
    """Let the callers call; the first tenth of the time warms up and does not count."""
    new_ids = count(dataset.people + 1_000_000)
    callers = [
        Caller(pair=pair, dataset=dataset, random=Random(number), new_ids=new_ids)
        for number in range(load.callers)
    ]
    counts, ends = threading.Event(), threading.Event()
    with (
        closing(PostgresClock(dataset.feed_url)) as postgres,
        ThreadPoolExecutor(load.callers) as pool,
    ):
        working = [pool.submit(_call_on, mix, caller, counts, ends) for caller in callers]
        clocks: dict[str, Callable[[], float]] = {
            **{name: partial(cpu_seconds, pid) for name, pid in pair.pids.items()},
            "postgres": postgres.seconds,
        }
        time.sleep(load.seconds / 10)
        counts.set()
        started, before = time.perf_counter(), {name: clock() for name, clock in clocks.items()}
        time.sleep(load.seconds)
        cpu = {name: clock() - before[name] for name, clock in clocks.items()}
        seconds = time.perf_counter() - started
        ends.set()
        outcomes = [outcome for work in working for outcome in work.result()]
    return Result(mix=mix, seconds=seconds, outcomes=outcomes, cpu=cpu)


def _call_on(
    mix: str, caller: Caller, counts: threading.Event, ends: threading.Event
) -> list[Outcome]:
    shares, outcomes = MIXES[mix], list[Outcome]()
    weights = [share for share, _ in shares.values()]
    while not ends.is_set():
        [name] = caller.random.choices(list(shares), weights)
        outcome = _outcome(name, shares[name][1], caller)
        if counts.is_set():
            outcomes.append(outcome)
    return outcomes


def print_result(result: Result, console: Console) -> None:
    """Print the rate, how long calls took, what they cost, and what failed."""
    calls = len(result.outcomes)
    table = Table(title=f"{result.mix}: {calls / result.seconds:,.0f} calls/s")
    for column in ("operation", "share", "p50 ms", "p95 ms", "p99 ms", "longest", "errors"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for name in (*MIXES[result.mix], ""):
        outcomes = [each for each in result.outcomes if each.operation == name or not name]
        table.add_row(name or "all", *_columns(outcomes, calls))
    console.print(table)
    costs = ", ".join(
        f"{name} {seconds / max(1, calls) * 1000:.2f} ms" for name, seconds in result.cpu.items()
    )
    console.print(f"CPU per call: {costs}", highlight=False)
    errors = Counter(each.error for each in result.outcomes if each.error)
    for error, number in errors.most_common():
        console.print(f"{number} × {error}", highlight=False)


def _outcome(name: str, operation: Operation, caller: Caller) -> Outcome:
    started, error = time.perf_counter(), ""
    try:
        operation(caller)
    except AppException as failure:
        error = f"{name}: {failure.reason_name}"
    return Outcome(operation=name, seconds=time.perf_counter() - started, error=error)


def _columns(outcomes: Sequence[Outcome], calls: int) -> list[str]:
    if not outcomes:
        return ["0 %"] + [""] * 5
    milliseconds = np.array([outcome.seconds for outcome in outcomes]) * 1000
    errors = sum(bool(outcome.error) for outcome in outcomes)
    return [
        f"{len(outcomes) / calls:.1%}",
        *(f"{np.percentile(milliseconds, percent):.1f}" for percent in (50, 95, 99, 100)),
        str(errors),
    ]
