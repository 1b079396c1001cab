"""What a decision of the auditor costs, beside a page of a feed."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from statistics import median

import grpc
from prometheus_client import CollectorRegistry

from benchmarks.processes import PostgresClock
from benchmarks.rounds import Contender, in_turns, ratio
from benchmarks.row import Row
from benchmarks.stage import Stage, feed_page
from feed_service.auditor.metrics import AuditorMetrics
from feed_service.auditor.primaries import Primaries, Primary
from feed_service.auditor.replays import Replays
from feed_service.auditor.rounds import Rounds
from kith.environment import Environment
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from shared.database.settings import DatabaseSettings


def auditor(stage: Stage) -> list[Row]:
    """The CPU time of a decision in the auditor, both services and PostgreSQL, against a page's."""
    dataset, pair = stage.dataset, stage.pair
    viewer_ids = dataset.viewer_ids(dataset.usual)
    decided = list[int]()
    with ExitStack() as stack:
        postgres = stack.enter_context(closing(PostgresClock(dataset.feed_url))).seconds
        services = {
            "graph": pair.graph.cpu_seconds,
            "feed": pair.feed.cpu_seconds,
            "postgres": postgres,
        }
        rounds = _rounds(stage, stack)

        def audit(viewer_id: int) -> Callable[[], None]:
            return lambda: decided.append(len(rounds.round_of(viewer_id)))

        segments = in_turns(
            stage.effort,
            {
                "round": Contender(
                    calls=[audit(viewer_id) for viewer_id in viewer_ids],
                    # The rounds are made in this process.
                    clocks={**services, "auditor": time.process_time},
                ),
                "page": Contender(
                    calls=[partial(feed_page, pair.kith, viewer_id) for viewer_id in viewer_ids],
                    clocks=services,
                ),
            },
        )
    a_round = sum(decided) / len(decided)
    decisions = [segment.total_cpu / a_round for segment in segments["round"]]
    pages = [segment.total_cpu for segment in segments["page"]]
    own = median(segment.cpu["auditor"] / a_round for segment in segments["round"])
    return [
        Row(
            name="a decision of the auditor vs a page of GetFeed: total CPU",
            measured=ratio(decisions, pages),
            target=1,
            stretch=0.25,
            note=f"{median(decisions) * 1e6:,.0f} / {median(pages) * 1e6:,.0f} µs, of which "
            f"{own * 1e6:,.0f} in the auditor; {a_round:,.0f} decisions a round",
        )
    ]


def _rounds(stage: Stage, stack: ExitStack) -> Rounds:
    settings, pick = DatabaseSettings.read(Environment({}), "FEED"), random.Random(1)
    graph, feed = (
        Primary(settings, url) for url in (stage.dataset.graph_url, stage.dataset.feed_url)
    )
    primaries = stack.enter_context(closing(Primaries(graph, feed, pick=pick)))
    channel = stack.enter_context(grpc.insecure_channel(stage.pair.feed_address))
    replays = Replays(FeedServiceStub(channel), pick=pick)
    return Rounds(
        primaries,
        replays.by_call,
        AuditorMetrics(CollectorRegistry(), calls=replays.by_call),
        decisions_per_second=1,
        pick=pick,
    )
