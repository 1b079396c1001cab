"""What feed_service spends on gzip for callers who accept it."""

from contextlib import ExitStack
from functools import partial
from operator import attrgetter

from benchmarks.end_to_end import GET_FEED
from benchmarks.processes import calls_of, running_pair
from benchmarks.rounds import Contender, in_turns
from benchmarks.row import Row, comparison
from benchmarks.stage import Stage
from kith.feed.v1 import feed_pb2

_FROM_BYTES = 1024
_PAGE = 50


def compression(stage: Stage) -> list[Row]:
    """What a page costs feed_service if it is compressed, against one that is not."""
    with ExitStack() as stack:
        segments = in_turns(
            stage.effort,
            {
                name: _pages(stage, stack, name, from_bytes=least)
                for name, least in (("gzip", _FROM_BYTES), ("plain", 0))
            },
        )
    return [
        comparison(
            "CPU of feed_service: a page compressed by gzip vs plain",
            segments,
            ("gzip", "plain"),
            attrgetter("total_cpu"),
            target=2,
        )
    ]


def _pages(stage: Stage, stack: ExitStack, name: str, *, from_bytes: int) -> Contender:
    logs = stage.logs / name
    logs.mkdir(exist_ok=True)
    settings = {"COMPRESS_FROM_BYTES": str(from_bytes)}
    pair = stack.enter_context(
        running_pair(stage.dataset, logs=logs, settings=settings, start=stage.start)
    )
    call = stack.enter_context(calls_of(pair.feed_address, GET_FEED))
    return Contender(
        calls=[
            partial(
                call,
                feed_pb2.GetFeedRequest(user_id=viewer, page_size=_PAGE).SerializeToString(),
            )
            for viewer in stage.dataset.viewer_ids(stage.dataset.usual)
        ],
        clocks={"feed": pair.feed.cpu_seconds},
    )
