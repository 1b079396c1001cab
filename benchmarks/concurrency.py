"""GetFeed by several callers at once, and by more than can be served.

The callers are threads of this process on the same machine and take a part of its cores, in the
same way for Kith and for the floor.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from random import Random
from statistics import median
from typing import Final

import grpc
import numpy as np

from benchmarks.baselines import CALL, viewer_message
from benchmarks.end_to_end import GET_FEED, start_floor
from benchmarks.processes import Calls, RunningPair, calls_of
from benchmarks.rounds import Contender, Effort, ratio
from benchmarks.row import Row
from benchmarks.stage import Stage
from kith.feed.v1 import feed_pb2

CALLERS: Final = (1, 4, 8)
# Enough that the services always have work, and that a call may wait while others are sent.
_WAITING_CALLERS: Final = 64
_CONNECTIONS: Final = 8
_DEADLINE_SECONDS: Final = 1.0
# Of the peak.
_LOADS: Final = (0.5, 0.9, 1.5)
_BURSTS_OF_A_LOAD: Final = 3
# Of nine kinds in each round; all rounds together have the hundreds of calls that a p99 needs.
_LONGEST_BURST_SECONDS: Final = 1.0

Send = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What became of calls: how long each took that was answered, and the errors of the others."""

    seconds: float
    durations: Sequence[float]
    errors: Counter[str]
    cores_of_callers: float = 0
    """How many cores this process used, whose threads the callers are."""
    cpu: float = 0
    """The CPU time of a call by the clocks of the contender."""

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return len(self.durations) / self.seconds

    def milliseconds(self, percent: float) -> float:
        """Return a percentile of the durations."""
        return float(np.percentile(self.durations, percent)) * 1000 if self.durations else 0.0


def by_callers(stage: Stage) -> list[Row]:
    """The rate and the times of GetFeed when so many call at once, without and with fences."""
    viewers = stage.dataset.viewer_ids(stage.dataset.usual)
    with ExitStack() as stack:
        measured = bursts_in_turns(
            stage.effort,
            {
                "kith": Contender(calls=feed_senders(stage.pair, viewers, stack)),
                "fenced": Contender(calls=feed_senders(stage.fenced, viewers, stack)),
                "floor": Contender(calls=_floor(stage, stack)),
            },
        )
    return [
        row
        for callers in CALLERS
        for row in (
            *_against_floor(callers, measured["kith", callers], measured["floor", callers]),
            *_with_fences(callers, measured["fenced", callers], measured["kith", callers]),
        )
    ]


def bursts_in_turns(
    effort: Effort, contenders: Mapping[str, Contender]
) -> dict[tuple[str, int], list[Burst]]:
    """Return a burst of each contender for each round, by each number of its calls at once."""
    bursts: dict[tuple[str, int], list[Burst]] = {}
    seconds = min(_LONGEST_BURST_SECONDS, effort.segment_seconds)
    for number in range(effort.rounds + 1):  # the first of them warms up
        turns = [(name, callers) for name in contenders for callers in CALLERS]
        for name, callers in Random(number).sample(turns, len(turns)):
            contender = contenders[name]
            burst = _burst(contender.calls[:callers], seconds, contender.clocks.values())
            bursts.setdefault((name, callers), []).append(burst)
    return {turn: some[1:] for turn, some in bursts.items()}


def saturation(stage: Stage) -> list[Row]:
    """What becomes of GetFeed at half of the peak, near it and above it.

    Calls start at moments that are fixed before, whether or not earlier ones are answered, and
    their times count from these moments. Each round measures a peak of its own: against an older
    one, calls would queue as soon as the machine becomes slower.
    """
    seconds = min(_LONGEST_BURST_SECONDS, stage.effort.segment_seconds)
    with ExitStack() as stack:
        viewers = stage.dataset.viewer_ids(stage.dataset.usual)
        senders = feed_senders(stage.fenced, viewers, stack)
        rounds = [_saturated(senders, seconds) for _ in range(stage.effort.rounds + 1)][1:]
    return [
        *(
            Row(
                name=f"GetFeed at {share} of the peak: p99 vs the median of one caller",
                measured=median(
                    each.loads[share].milliseconds(99) / each.alone.milliseconds(50)
                    for each in rounds
                ),
                target=target,
                note=_note([each.loads[share] for each in rounds]),
            )
            for share, target in ((0.5, 8), (0.9, 25))
        ),
        Row(
            name="GetFeed at 1.5 of the peak: answered, of the peak",
            measured=median(each.loads[1.5].rate / each.peak for each in rounds),
            target=0.9,
            at_least=True,
            note=f"{_note([each.loads[1.5] for each in rounds])};"
            f" peak {median(each.peak for each in rounds):,.0f}/s",
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class _Saturated:
    """A round: one caller alone, the most answers in a second, and loads by their share of that."""

    alone: Burst
    peak: float
    loads: Mapping[float, Burst]


def _saturated(senders: Sequence[Send], seconds: float) -> _Saturated:
    alone, peak = _burst(senders[:1], seconds), _burst(senders, seconds).rate
    return _Saturated(
        alone=alone,
        peak=peak,
        loads={
            share: _load(senders, share * peak, seconds * _BURSTS_OF_A_LOAD) for share in _LOADS
        },
    )


def _against_floor(callers: int, kith: Sequence[Burst], floor: Sequence[Burst]) -> list[Row]:
    times = ((50, 1.15, None), (99, 1.5, None))
    name = f"GetFeed by {counted(callers)}: {{}} vs floor"
    return compared(name, kith, floor, rate=(0.9, 1), times=times)


def _with_fences(callers: int, fenced: Sequence[Burst], asking: Sequence[Burst]) -> list[Row]:
    times = ((50, 1 / 1.5, 1 / 1.8), (99, 1, None))
    name = f"GetFeed with fences by {counted(callers)}: {{}} vs without"
    return compared(name, fenced, asking, rate=(1.5, 1.8), times=times)


def counted(callers: int) -> str:
    """Return what so many callers are called in a row's name."""
    return f"{callers} caller{'s' if callers > 1 else ''} at once"


def compared(
    name: str,
    these: Sequence[Burst],
    those: Sequence[Burst],
    *,
    rate: tuple[float, float | None],
    times: Sequence[tuple[int, float, float | None]],
) -> list[Row]:
    """Return how rates and percentiles of times relate, each with its target and stretch."""
    target, stretch = rate
    return [
        Row(
            name=name.format("rate"),
            measured=ratio((burst.rate for burst in these), (burst.rate for burst in those)),
            target=target,
            stretch=stretch,
            at_least=True,
            note=f"{_median_rate(these):,.0f} / {_median_rate(those):,.0f} calls/s",
        ),
        *(
            Row(
                name=name.format(f"p{percent}"),
                measured=_together(these, percent) / _together(those, percent),
                target=most,
                stretch=stretched,
                note=f"{_together(these, percent):.1f} / {_together(those, percent):.1f} ms",
            )
            for percent, most, stretched in times
        ),
    ]


def _median_rate(bursts: Sequence[Burst]) -> float:
    return median(burst.rate for burst in bursts)


def _together(bursts: Sequence[Burst], percent: float) -> float:
    durations = [duration for burst in bursts for duration in burst.durations]
    return float(np.percentile(durations, percent)) * 1000


def _note(bursts: Sequence[Burst]) -> str:
    errors = sum((burst.errors for burst in bursts), Counter[str]())
    told = ", ".join(f"{number} {code}" for code, number in errors.items()) or "no errors"
    return f"p50 {_together(bursts, 50):.1f} ms, p99 {_together(bursts, 99):.1f} ms, {told}"


def _burst(
    senders: Sequence[Send], seconds: float, clocks: Collection[Callable[[], float]] = ()
) -> Burst:
    """Let each sender call again and again for a time, at least once."""

    def call_on(send: Send) -> list[tuple[float, str]]:
        outcomes = [_outcome(send, time.perf_counter())]
        while time.perf_counter() < ends_at:
            outcomes.append(_outcome(send, time.perf_counter()))
        return outcomes

    callers_before, before = time.process_time(), sum(clock() for clock in clocks)
    started = time.perf_counter()
    ends_at = started + seconds
    with ThreadPoolExecutor(len(senders)) as pool:
        outcomes = [outcome for some in pool.map(call_on, senders) for outcome in some]
    took = time.perf_counter() - started
    return replace(
        _as_burst(outcomes, took),
        cores_of_callers=(time.process_time() - callers_before) / took,
        cpu=(sum(clock() for clock in clocks) - before) / len(outcomes),
    )


def _load(senders: Sequence[Send], rate: float, seconds: float) -> Burst:
    """Let calls start at random moments, on average so many in a second, for a time."""
    random, number = Random(0), max(1, round(rate * seconds))
    moments = np.cumsum([random.expovariate(rate) for _ in range(number)])
    numbers, lock = count(), threading.Lock()
    started = time.perf_counter()

    def call_on(send: Send) -> list[tuple[float, str]]:
        outcomes: list[tuple[float, str]] = []
        while True:
            with lock:
                index = next(numbers)
            if index >= number:
                return outcomes
            due = started + float(moments[index])
            time.sleep(max(0.0, due - time.perf_counter()))
            outcomes.append(_outcome(send, due))

    with ThreadPoolExecutor(len(senders)) as pool:
        outcomes = [outcome for some in pool.map(call_on, senders) for outcome in some]
    return _as_burst(outcomes, time.perf_counter() - started)


def _outcome(send: Send, started: float) -> tuple[float, str]:
    """How long a call took, and its error if it had one."""
    error = ""
    try:
        send()
    except grpc.RpcError as failure:
        error = failure.code().name if isinstance(failure, grpc.Call) else "UNKNOWN"
    return time.perf_counter() - started, error


def _as_burst(outcomes: Sequence[tuple[float, str]], seconds: float) -> Burst:
    return Burst(
        seconds=seconds,
        durations=[duration for duration, error in outcomes if not error],
        errors=Counter(error for _, error in outcomes if error),
    )


def feed_senders(pair: RunningPair, viewers: Sequence[int], stack: ExitStack) -> list[Send]:
    """Return callers of GetFeed, each of which asks for one viewer after the other."""
    requests = [feed_pb2.GetFeedRequest(user_id=viewer).SerializeToString() for viewer in viewers]
    return _senders(pair.feed_address, GET_FEED, requests, stack)


def _floor(stage: Stage, stack: ExitStack) -> list[Send]:
    viewers = stage.dataset.viewer_ids(stage.dataset.usual)
    return _senders(start_floor(stage, stack), CALL, list(map(viewer_message, viewers)), stack)


def _senders(address: str, method: str, requests: Sequence[bytes], stack: ExitStack) -> list[Send]:
    """Return callers who share some connections, as those of a few clients do."""
    calls = [stack.enter_context(calls_of(address, method)) for _ in range(_CONNECTIONS)]
    return [
        partial(_send, calls[caller % _CONNECTIONS], requests, count(caller))
        for caller in range(_WAITING_CALLERS)
    ]


def _send(call: Calls, requests: Sequence[bytes], numbers: Iterator[int]) -> None:
    call(requests[next(numbers) % len(requests)], timeout=_DEADLINE_SECONDS)
