"""Both services with fences, as they are deployed, on databases of their own.

Which keepers have to be told of changes is written in the databases, so that services without
fences cannot use the same ones.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.dataset import Dataset
from benchmarks.processes import MeasuredProcess, RunningPair, running_pair
from kith.graph.v1 import graph_pb2
from shared.processes.ports import reserved

_HOST: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.05


@contextmanager
def running_fenced_pair(
    dataset: Dataset, *, logs: Path, start: type[MeasuredProcess] = MeasuredProcess
) -> Iterator[RunningPair]:
    """Run both services with fences until they are ready and the graph has its keeper."""
    with reserved(_HOST, 0) as free:
        port = free.getsockname()[1]
    settings = {"FENCES_PORT": str(port), "FENCE_KEEPERS": f"{_HOST}:{port}"}
    logs.mkdir(parents=True, exist_ok=True)
    with running_pair(dataset, logs=logs, settings=settings, start=start) as pair:
        users = [graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=1)]
        asked = graph_pb2.GetConnectedUserIdsRequest(users=users)
        while not pair.kith.graph.GetConnectedUserIds(asked).fence_keepers:
            time.sleep(_POLL_SECONDS)
        yield pair
