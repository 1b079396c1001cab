"""What is measured, in the order of the table: each name is one that `--rows` takes.

To add rows, write a function that takes the stage and returns them, and name it here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from benchmarks import (
    auditor,
    compression,
    concurrency,
    end_to_end,
    fan_out,
    fences,
    full_cache,
    function_calls,
    gateway,
    interceptors,
    neighbours,
    services,
    sql,
    writes,
)
from benchmarks.others import Moment
from benchmarks.row import Row
from benchmarks.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Rows that are measured together."""

    name: str
    run: Callable[[Stage], Sequence[Row]]
    prepare: Callable[[Stage], object] = attrgetter("dataset")
    """Makes what the stage has to have before the clock starts."""


_CAPTURED: Final = attrgetter("captured")
# The one with fences first, for copying the data set ends the other.
_BOTH_PAIRS: Final = attrgetter("captured", "fenced", "pair")

MEASUREMENTS: Final[Sequence[Measurement]] = (
    # First, for these end the pairs that the others use.
    Measurement(name="writes", run=writes.writes),
    Measurement(name="changes", run=fences.changes, prepare=attrgetter("small")),
    Measurement(name="functions", run=function_calls.function_calls, prepare=attrgetter("small")),
    Measurement(name="fences", run=fences.pages, prepare=_BOTH_PAIRS),
    Measurement(name="feed", run=end_to_end.feed, prepare=attrgetter("captured", "pair")),
    Measurement(name="callers", run=concurrency.by_callers, prepare=_BOTH_PAIRS),
    Measurement(name="fan_out", run=fan_out.fan_out, prepare=attrgetter("fenced")),
    Measurement(name="saturation", run=concurrency.saturation, prepare=attrgetter("fenced")),
    Measurement(name="statements", run=sql.statements, prepare=_CAPTURED),
    Measurement(name="reader", run=sql.hot_read, prepare=_CAPTURED),
    Measurement(name="interceptors", run=interceptors.interceptors),
    Measurement(name="compression", run=compression.compression),
    Measurement(name="gateway", run=gateway.gateway, prepare=attrgetter("pair")),
    Measurement(name="scale", run=sql.scale, prepare=attrgetter("captured", "captured_small")),
    Measurement(name="depth", run=sql.depth, prepare=_CAPTURED),
    Measurement(
        name="hubs", run=sql.unlucky_viewers, prepare=attrgetter("captured", "streams_alone")
    ),
    Measurement(name="ids", run=sql.connected_ids_backend, prepare=_CAPTURED),
    Measurement(name="digest", run=sql.digest_sql, prepare=_CAPTURED),
    Measurement(name="neighbours", run=neighbours.neighbours, prepare=_CAPTURED),
    Measurement(name="photos", run=services.photo_urls),
    Measurement(name="workers", run=services.two_workers),
    Measurement(name="memory", run=services.memory, prepare=attrgetter("pair")),
    Measurement(name="cache", run=full_cache.full_cache),
    Measurement(name="idle", run=services.idle, prepare=attrgetter("small")),
    Measurement(name="auditor", run=auditor.auditor, prepare=attrgetter("pair")),
    Measurement(name="imports", run=services.imports),
)

BY_NAME: Final = {measurement.name: measurement for measurement in MEASUREMENTS}


def measured(measurement: Measurement, stage: Stage) -> list[Row]:
    """Return the rows of a measurement, with what others took of the machine meanwhile."""
    measurement.prepare(stage)
    roots = stage.roots
    before = Moment.now(roots)
    rows = measurement.run(stage)
    others = Moment.now(roots).since(before)
    return [replace(row, others=others) for row in rows]
