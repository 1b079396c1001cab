"""The statements that the services send, run by psycopg2 with nothing around them."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from operator import attrgetter
from statistics import median

import prometheus_client

from benchmarks.capture import Sent, Sessions
from benchmarks.dataset import Dataset, Session
from benchmarks.processes import (
    backend_cpu_seconds,
)
from benchmarks.rounds import Contender, in_turns, ratio
from benchmarks.row import Row, comparison
from benchmarks.stage import Captured, Stage
from benchmarks.world import Kind
from kith.environment import Environment
from shared.database.endpoint import Endpoint
from shared.database.reader import Reader, Statement
from shared.database.settings import DatabaseSettings

# As between the calls of a service that is not at its limit.
_PAUSE_SECONDS = 0.001


def statements(stage: Stage) -> list[Row]:
    """The most statements, each a round trip, that one call sends to one database."""
    captured = stage.captured
    calls = {
        "GetFeed": captured.feed_page.values(),
        "GetDigest": captured.digest.values(),
        "GetConnectedUserIds": [*captured.connected_ids.values(), captured.batch],
    }
    most = {
        name: max(max(len(sent.graph), len(sent.feed)) for sent in some)
        for name, some in calls.items()
    }
    return [
        Row(
            name="statements and round trips per service and call",
            measured=max(most.values()),
            target=1,
            unit="",
            note=", ".join(f"{name} {count}" for name, count in most.items()),
        )
    ]


def hot_read(stage: Stage) -> list[Row]:
    """What the Reader costs this process around a page's statement, against bare psycopg2."""
    sessions, url = stage.captured.feed_sessions, stage.dataset.feed_url
    [sent, *_] = stage.captured.feed_page[stage.dataset.viewer_ids(stage.dataset.usual)[0]].feed
    read = sessions.unprepared(sent)
    statement = Statement("hot_read", read.sql)
    settings = DatabaseSettings.read(Environment({}), "FEED")
    latency = prometheus_client.Histogram("latency", "Of statements.", registry=None)
    endpoint = Endpoint.of(settings, url, latency)
    with (
        closing(sessions.open()) as session,
        closing(endpoint.guard),
        closing(Reader(endpoint)) as reader,
        session.cursor() as cursor,
    ):
        cursor.execute(statement.prepare.replace("%%", "%"))

        def bare() -> None:
            cursor.execute(statement.execute, read.parameters)
            cursor.fetchall()

        ways = {
            "reader": _Rested(lambda: reader.rows(statement, read.parameters)),
            "bare": _Rested(bare),
        }
        results = in_turns(
            stage.effort,
            {
                name: Contender(calls=[way], clocks={"client": way.cpu_seconds})
                for name, way in ways.items()
            },
        )
    return [
        comparison(
            "hot reads through the Reader vs bare psycopg2",
            results,
            ("reader", "bare"),
            attrgetter("total_cpu"),
            target=1.1,
        )
    ]


class _Rested:
    """Calls something after a pause, and knows what CPU time the calls alone have taken.

    Called again at once, PostgreSQL is met awake, and waking it is a third of what a read costs its
    caller. So the one who does nothing else than call would be compared with something that no
    service ever sees.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._cpu_seconds = 0.0

    def __call__(self) -> None:
        time.sleep(_PAUSE_SECONDS)
        started = time.thread_time()
        self._call()
        self._cpu_seconds += time.thread_time() - started

    def cpu_seconds(self) -> float:
        """Return the CPU time until now."""
        return self._cpu_seconds


def scale(stage: Stage) -> list[Row]:
    """What the feed's SQL costs on much data against little, at the same degree.

    By as many viewers here as there: each of them finds what the others have left in the caches of
    the processor, which hold all of the small world and a few viewers' part of the large one.
    """
    much, little = stage.captured, stage.captured_small
    ratios = {}
    for degree in stage.small.degrees:
        these = _feed_sql(much, stage.dataset, degree)
        those = _feed_sql(little, stage.small, degree)
        count = min(len(these), len(those))
        ratios[degree] = _sql_ratio(
            stage, (much.feed_sessions, these[:count]), (little.feed_sessions, those[:count])
        )
    return [
        Row(
            name=f"feed SQL, {stage.dataset.name} data vs 100 k posts, equal degree",
            # In the small world 1,000 connections are half of everybody, and the newest posts
            # theirs.
            measured=max(list(ratios.values())[:2]),
            target=1.2,
            stretch=1.1,
            note=", ".join(f"degree {degree:,}: {value:.2f}" for degree, value in ratios.items()),
        )
    ]


def depth(stage: Stage) -> list[Row]:
    """What pages far from the first cost."""
    pages, sessions = stage.captured.deep_pages, stage.captured.feed_sessions
    return [
        Row(
            name=f"feed SQL, {name} vs page 1",
            measured=_sql_ratio(
                stage, (sessions, _feed_of(pages[name])), (sessions, _feed_of(pages["page 1"]))
            ),
            target=1.1,
            note=f"degree {stage.dataset.usual:,}",
        )
        for name in ("page 50", "300 days back")
    ]


def unlucky_viewers(stage: Stage) -> list[Row]:
    """What the feeds cost that have hardly anything in them."""
    captured, sessions = stage.captured, stage.captured.feed_sessions
    ordinary = sessions, _feed_sql(captured, stage.dataset, stage.dataset.hub)
    by_streams = sessions, _feed_of(stage.streams_alone.values())
    rows = []
    for kind, what in ((Kind.RARE, "who rarely post"), (Kind.INVISIBLE, "seen of nobody")):
        unlucky = sessions, _feed_sql(captured, stage.dataset, stage.dataset.hub, kind)
        compared = _sql_ratio(stage, unlucky, by_streams)
        rows.append(
            Row(
                name=f"feed SQL, {stage.dataset.hub:,} connections {what} vs ordinary",
                measured=_sql_ratio(stage, unlucky, ordinary),
                target=4,
                stretch=2,
                note=f"vs an ordinary page that is read from all streams as well: {compared:.1f}",
            )
        )
    return rows


def connected_ids_backend(stage: Stage) -> list[Row]:
    """What PostgreSQL does for each connected id, for one user and for many."""
    captured = stage.captured
    hubs = stage.dataset.viewer_ids(stage.dataset.hub)
    singles = chain(*(captured.connected_ids[hub].graph for hub in hubs))
    with closing(captured.graph_sessions.open()) as session:
        clocks = {"backend": partial(backend_cpu_seconds, session)}
        results = in_turns(
            stage.effort,
            {
                "single": Contender(calls=runs(session, singles), clocks=clocks),
                "batch": Contender(calls=runs(session, captured.batch.graph), clocks=clocks),
            },
        )
    single = median(segment.total_cpu for segment in results["single"]) / stage.dataset.hub
    batch = median(segment.total_cpu for segment in results["batch"]) / captured.batch_id_count
    return [
        Row(
            name=f"GetConnectedUserIds, degree {stage.dataset.hub:,}: backend time per id",
            measured=single * 1e6,
            target=0.3,
            unit="µs",
        ),
        Row(
            name="GetConnectedUserIds: per id in a batch of 100 vs single",
            measured=batch / single,
            target=1.5,
            note=f"{captured.batch_id_count:,} ids in the batch",
        ),
    ]


def digest_sql(stage: Stage) -> list[Row]:
    """How the choice of a week's posts grows with the number of connections."""
    captured = stage.captured

    def choices(degree: int) -> tuple[Sessions, list[str]]:
        viewers = stage.dataset.viewer_ids(degree)
        return captured.feed_sessions, [_choice(captured, viewer) for viewer in viewers]

    usual, hub = stage.dataset.usual, stage.dataset.hub
    return [
        Row(
            name=f"digest SQL: degree {hub:,} vs {usual:,}",
            measured=_sql_ratio(stage, choices(hub), choices(usual)),
            target=7,
            stretch=4,
        )
    ]


def _sql_ratio(
    stage: Stage, these: tuple[Sessions, Sequence[str]], those: tuple[Sessions, Sequence[str]]
) -> float:
    """Return how the median times of statements relate, by psycopg2 with nothing around it."""
    with closing(these[0].open()) as this_session, closing(those[0].open()) as that_session:
        results = in_turns(
            stage.effort,
            {
                "these": Contender(calls=runs(this_session, these[1])),
                "those": Contender(calls=runs(that_session, those[1])),
            },
        )
    these_p50, those_p50 = ([segment.p50 for segment in some] for some in results.values())
    return ratio(these_p50, those_p50)


def runs(session: Session, statements: Iterable[str]) -> list[Callable[[], object]]:
    """Return what executes each of the statements and reads what it brings."""
    return [partial(_run, session, statement) for statement in statements]


def _run(session: Session, statement: str) -> None:
    with session.cursor() as cursor:
        cursor.execute(statement)
        cursor.fetchall()


def _feed_sql(
    captured: Captured, dataset: Dataset, degree: int, kind: Kind = Kind.ORDINARY
) -> list[str]:
    return _feed_of(captured.feed_page[id_] for id_ in dataset.viewer_ids(degree, kind))


def _feed_of(sent: Iterable[Sent]) -> list[str]:
    return [statement for some in sent for statement in some.feed]


def _choice(captured: Captured, viewer_id: int) -> str:
    """The statement by which a digest is chosen: only the first reading sends it."""
    again = set(captured.digest[viewer_id].feed)
    [choice, *_] = [
        statement
        for statement in captured.first_digest[viewer_id].feed
        if statement not in again and "INSERT" not in statement
    ]
    return choice
