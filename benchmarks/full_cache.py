"""Fills a cache of connections in a process of its own, and says what that took.

    python -m benchmarks.full_cache BYTES

prints how many bytes of the process were in RAM before and after, as JSON.
"""

import json
import os
import subprocess
import sys

from prometheus_client import CollectorRegistry

from benchmarks.processes import resident_bytes
from benchmarks.row import Row
from benchmarks.stage import Stage
from feed_service.connections_cache import CachedViewer, ConnectionsCache
from feed_service.metrics import FeedMetrics
from feed_service.viewers import Viewer
from shared.database.arrays import array_literal

_MEBIBYTE = 1024 * 1024
_DEGREE = 150
# An entry has at least a byte for each of its ids.
_FEWEST_BYTES = _DEGREE


def full_cache(stage: Stage) -> list[Row]:
    """What a full cache takes in RAM, of the bytes that it is allowed."""
    allowed = stage.effort.cache_mebibytes * _MEBIBYTE
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.full_cache", str(allowed)],
        check=True,
        stdout=subprocess.PIPE,
    )
    before, after = json.loads(ended.stdout)
    return [
        Row(
            name="memory of a full cache of connections, of what it is allowed",
            measured=(after - before) / allowed,
            target=1.1,
            note=f"{(after - before) / _MEBIBYTE:.1f} of {stage.effort.cache_mebibytes} MiB",
        )
    ]


def main() -> None:
    """Fill a cache, and print the memory before and after."""
    allowed = int(sys.argv[1])
    cache = ConnectionsCache(allowed, shared=None, metrics=FeedMetrics(CollectorRegistry()))
    before = resident_bytes(os.getpid())
    for user_id in range(1, allowed // _FEWEST_BYTES):
        ids = [1_000_000 + user_id * _DEGREE + number for number in range(_DEGREE)]
        viewer = Viewer(user_id=user_id, connected_ids=array_literal(ids))
        cache.keep_here(CachedViewer(revision=1, viewer=viewer))
    sys.stdout.write(json.dumps([before, resident_bytes(os.getpid())]))


if __name__ == "__main__":
    main()
