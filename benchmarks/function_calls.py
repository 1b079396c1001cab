"""How many functions a page of a feed calls, which another load of the machine does not change.

    python -m benchmarks.function_calls GRAPH_URL FEED_URL asking|fenced PAGES VIEWER [VIEWER ...]

runs both services in one process and prints how many functions of Python and of C their threads
call for a page of these viewers' feeds. Time on a busy machine says little; this says whether a
change has added to the path of the call.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

from benchmarks import dataset as datasets
from benchmarks.dataset import Dataset
from benchmarks.end_to_end import GET_FEED
from benchmarks.processes import Calls, calls_of, settings_of_services
from benchmarks.row import Row
from benchmarks.stage import Stage
from feed_service.__main__ import build as build_feed
from feed_service.settings import FeedSettings
from graph_service.__main__ import build as build_graph
from graph_service.settings import GraphSettings
from kith.client import KithClient
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared import logs
from shared.processes.ports import reserved
from shared.server.server import RunningServer

_ASKING: Final = "asking"
_FENCED: Final = "fenced"
_HOST: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.05
_WARMING_PAGES: Final = 40
# A little above what they are; see the module's first lines.
_TARGETS: Final = {_ASKING: 1_700, _FENCED: 1_100}


def function_calls(stage: Stage) -> list[Row]:
    """What is called for a page without and with fences, on copies of the small data set."""
    return [_row(stage, way) for way in (_ASKING, _FENCED)]


def _row(stage: Stage, way: str) -> Row:
    copy = stage.small_copy(f"calls_{way}")
    try:
        counted = _counted(stage, copy, way)
    finally:
        datasets.drop(stage.cluster, copy.name)
    call = "GetFeed with fences" if way == _FENCED else "GetFeed"
    return Row(
        name=f"{call}: functions called in both services",
        measured=counted["python"] + counted["c"],
        target=_TARGETS[way],
        unit="",
        note=f"{counted['python']:,.0f} of Python, {counted['c']:,.0f} of C",
    )


def _counted(stage: Stage, dataset: Dataset, way: str) -> dict[str, float]:
    viewers = map(str, dataset.viewer_ids(dataset.usual))
    # What is beside the calls, such as looking for news each second, is a small part of many pages.
    pages = str(stage.effort.profiled_pages)
    arguments = [dataset.graph_url, dataset.feed_url, way, pages, *viewers]
    with (stage.logs / f"functions-{way}.log").open("wb") as log:
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.function_calls", *arguments],
            check=True,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    counted: dict[str, float] = json.loads(ended.stdout)
    return counted


class _Counting:
    """Counts what threads call that are started after it, while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.events = Counter[str]()
        threading.setprofile(self._note)

    def _note(self, _frame: FrameType, event: str, _argument: object) -> None:
        if self.is_on:
            self.events[event] += 1


@contextmanager
def _services(graph_url: str, feed_url: str, way: str) -> Iterator[str]:
    """Serve in this process until the block ends; yields where feeds are read."""
    environment = settings_of_services(graph_url=graph_url, feed_url=feed_url)
    environment |= {"DRAIN_SECONDS": "0", "GRACE_SECONDS": "5"}
    if way == _FENCED:
        with reserved(_HOST, 0) as free:
            port = free.getsockname()[1]
        environment |= {"FENCES_PORT": str(port), "FENCE_KEEPERS": f"{_HOST}:{port}"}
    with ExitStack() as stack:
        graph = GraphSettings.read(environment)
        graph_server = RunningServer(graph.server, build_graph(graph, graph.database.url))
        stack.callback(graph_server.stop)
        feed = FeedSettings.read({**environment, "GRAPH_TARGET": graph_server.address})
        feed_server = RunningServer(feed.server, build_feed(feed, feed.database.url))
        stack.callback(feed_server.stop)
        if way == _FENCED:
            _wait_for_keeper(graph_server.address)
        yield feed_server.address


def _wait_for_keeper(address: str) -> None:
    users = [graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=1)]
    asked = graph_pb2.GetConnectedUserIdsRequest(users=users)
    with KithClient.from_environment(graph=address) as kith:
        while not kith.graph.GetConnectedUserIds(asked).fence_keepers:
            time.sleep(_POLL_SECONDS)


def _read_pages(call: Calls, viewer_ids: Sequence[int], number: int) -> None:
    for index in range(number):
        viewer_id = viewer_ids[index % len(viewer_ids)]
        call(feed_pb2.GetFeedRequest(user_id=viewer_id).SerializeToString(), wait_for_ready=True)


def main() -> None:
    """Count, and print the counts of a page as JSON."""
    graph_url, feed_url, way, number, *viewers = sys.argv[1:]
    pages = int(number)
    logs.configure(service="functions", level="INFO")
    viewer_ids = list(map(int, viewers))
    counting = _Counting()
    with (
        _services(graph_url, feed_url, way) as address,
        calls_of(address, GET_FEED) as call,
    ):
        _read_pages(call, viewer_ids, _WARMING_PAGES)
        counting.is_on = True
        _read_pages(call, viewer_ids, pages)
        counting.is_on = False
    events = counting.events
    counted = {"python": events["call"] / pages, "c": events["c_call"] / pages}
    sys.stdout.write(json.dumps(counted))


if __name__ == "__main__":
    main()
