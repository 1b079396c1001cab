"""The graph's connections as reference tables of a Citus, against the same tables of one node.

A reference table is copied to every node, and joins with everything there. What that costs the
graph is measured by the statements alone, on two databases of the same coordinator: the hot read,
and what changes when two people connect. Spreading pairs over nodes instead is not tried: a pair
is one row, and a user may be on either side of it, so that every read would ask every shard.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from io import StringIO
from itertools import count
from operator import attrgetter
from typing import Any, Final

import prometheus_client

from benchmarks.dataset import connect
from benchmarks.rounds import Contender, Effort, in_turns
from benchmarks.row import Row, comparison
from graph_service.models import metadata
from graph_service.queries import connected_ids
from kith.environment import Environment
from shared.database.endpoint import Endpoint
from shared.database.reader import Reader
from shared.database.settings import DatabaseSettings
from tests.support.citus import Citus

_PEOPLE: Final = 3_000
_PAIRS: Final = 225_000
_ASKED: Final = 100
# What it may cost at most to be worth it: replicas answer at the price of one node.
_TARGETS: Final = {"read of 1": 1.5, f"read of {_ASKED}": 1.5, "write": 2.0}
_SEED: Final = 20_261_126

# What is left behind when two people connect.
_CONNECT: Final = """
    INSERT INTO connections (user_a_id, user_b_id, status, requested_by, created_at, updated_at)
    VALUES (%(a)s, %(b)s, 'accepted', %(a)s, now(), now());
    UPDATE users SET revision = revision + 1, connection_count = connection_count + 1
    WHERE user_id IN (%(a)s, %(b)s);
    INSERT INTO connection_events (kind, actor_id, peer_id, occurred_at)
    VALUES ('connected', %(a)s, %(b)s, now());
    COMMIT
"""


def compare(effort: Effort, citus: Citus) -> Iterator[Row]:
    """Measure both in turns."""
    with ExitStack() as stack:
        contenders = dict[str, Contender]()
        for layout in ("one node", "reference"):
            url = citus.undistributed("graph")
            if layout == "reference":
                _copy_to_all_nodes(url)
            _fill(url)
            contenders |= _contenders(layout, url, stack)
        segments = in_turns(effort, contenders)
    for what, target in _TARGETS.items():
        yield comparison(
            f"connections, {what}: reference tables vs one node",
            segments,
            (f"reference, {what}", f"one node, {what}"),
            attrgetter("p50"),
            target=target,
        )


def _copy_to_all_nodes(url: str) -> None:
    with closing(connect(url)) as session, session.cursor() as cursor:
        for table in metadata.sorted_tables:
            cursor.execute("SELECT create_reference_table(%s)", (table.name,))


def _fill(url: str) -> None:
    shuffled = random.Random(_SEED)
    pairs = set[tuple[int, int]]()
    while len(pairs) < _PAIRS:
        first, second = sorted(shuffled.sample(range(1, _PEOPLE + 1), 2))
        pairs.add((first, second))
    with closing(connect(url)) as session, session.cursor() as cursor:
        cursor.copy_expert(
            "COPY users (user_id, revision) FROM STDIN",
            _lines((user_id, 1) for user_id in range(1, 2 * _PEOPLE)),
        )
        cursor.copy_expert(
            "COPY connections (user_a_id, user_b_id, status, requested_by) FROM STDIN",
            _lines((first, second, "accepted", first) for first, second in sorted(pairs)),
        )
        cursor.execute("VACUUM ANALYZE users, connections")


def _lines(rows: Iterator[Sequence[object]]) -> StringIO:
    return StringIO("".join("\t".join(map(str, row)) + "\n" for row in rows))


def _contenders(layout: str, url: str, stack: ExitStack) -> dict[str, Contender]:
    settings = DatabaseSettings.read(Environment({}), "GRAPH")
    latency = prometheus_client.Histogram("latency", "Of statements.", registry=None)
    endpoint = Endpoint.of(settings, url, latency)
    stack.enter_context(closing(endpoint.guard))
    reader = stack.enter_context(closing(Reader(endpoint)))
    writer = stack.enter_context(closing(connect(url)))

    def reads(asked: Sequence[int]) -> Callable[[], object]:
        known = dict.fromkeys(asked, 0)
        return partial(connected_ids.connected_user_ids, reader, known_revisions=known)

    return {
        f"{layout}, read of 1": Contender(calls=[reads([id_]) for id_ in range(1, 50)]),
        f"{layout}, read of {_ASKED}": Contender(calls=[reads(range(1, _ASKED + 1))]),
        f"{layout}, write": Contender(calls=[partial(_connect_next, writer, count(1))]),
    }


def _connect_next(session: Any, numbers: Iterator[int]) -> None:
    """Connect two who are not: each of the first half with each of the second."""
    number = next(numbers)
    pair = {"a": 1 + number // _PEOPLE, "b": _PEOPLE + 1 + number % (_PEOPLE - 1)}
    with session.cursor() as cursor:
        cursor.execute(f"BEGIN; {_CONNECT}", pair)
