"""Messages and headers that no client should send."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import grpc

from benchmarks.row import Row
from shared.server.call_slots import STREAMS_OF_A_CONNECTION
from tests.chaos.fault import Effort, kept, none, within
from tests.chaos.load import Load
from tests.chaos.messages import BAD_CODES
from tests.chaos.stage import Scene, Stage, resident_bytes
from tests.support.expansion import expand_headers
from tests.support.rpcs import RPCS, Rpc

_ROOT: Final = Path(__file__).parents[2]
_MESSAGES: Final = 100_000
_SEED: Final = 20_261_125
_LARGE_BYTES: Final = 10 * 1024 * 1024
_GROWTH_PERCENT: Final = 5
_BURSTS: Final = 15
# A worker needs half a second for what it copies of one burst.
_BURST_SECONDS: Final = 2.0
# For calls that are slow only where other work is under way.
_LONG_SECONDS: Final = 120
_HEALTH: Final = "/grpc.health.v1.Health/Check"
_TIMES: Final = 4_000
# WORKER_MAX_MEMORY_BYTES, and what one connection may add.
_MOST_BYTES: Final = (512 + 64) * 1024**2
_LIMIT: Final = {"WORKER_MAX_MEMORY_BYTES": str(512 * 1024**2)}


def hostile(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Send noise, mutations, absurd values, messages beyond the limit, and headers that expand."""
    number = effort.of(_MESSAGES)
    with stage.scene({**_LIMIT, **effort.settings}) as scene:
        workers = scene.processes
        traffic = replace(scene.traffic(), rate=effort.rate)
        if not effort.is_timed:
            traffic = replace(traffic, timeout=_LONG_SECONDS)
        with Load(traffic) as load:
            codes, offenders = _sent(scene, number // 5, effort.senders, seed=_SEED)
            large = _oversized(scene, RPCS[:: len(RPCS) // effort.of(len(RPCS))])
            before = resident_bytes(workers)
            more, others = _sent(scene, number - number // 5, effort.senders, seed=_SEED + 1)
            grown = resident_bytes(workers) / before - 1
            largest = _expanded(scene, effort.of(_BURSTS))
        crashed = len(set(workers) - set(scene.processes))
        note = " | ".join([*offenders, *others])
        codes += more
        bad = sum(count for code, count in codes.items() if code in BAD_CODES)
        yield none("answers of INTERNAL or UNKNOWN", bad, note=note or _listed(codes))
        odd = sum(count for code, count in large.items() if code != "RESOURCE_EXHAUSTED")
        yield none("oversized messages not refused as such", odd, note=_listed(large))
        yield none("workers that died", crashed)
        yield within("memory of four workers grew by", max(0.0, grown * 100), _GROWTH_PERCENT, "%")
        above = int(largest > _MOST_BYTES)
        yield none("workers above the limit and one connection", above, note=_mebibytes(largest))
        yield none("failed calls of others", len(load.history.failed), note=load.history.codes())
        yield from kept(load.history, scene.compared(load.history))


def _expanded(scene: Scene, bursts: int) -> int:
    """Send headers that expand to both services; returns the most memory that a worker had."""
    largest = 0
    with ExitStack() as stack:
        for _ in range(bursts):
            for process in (scene.graph, scene.feed):
                port = int(process.address.rpartition(":")[2])
                stack.enter_context(
                    expand_headers(port, _HEALTH, calls=STREAMS_OF_A_CONNECTION, times=_TIMES)
                )
            time.sleep(_BURST_SECONDS)
            largest = max(largest, *(resident_bytes([pid]) for pid in scene.processes))
    return largest


def _mebibytes(number: int) -> str:
    return f"{number // 1024**2:,} MiB in the largest"


def _sent(
    scene: Scene, number: int, processes: int, *, seed: int
) -> tuple[Counter[str], list[str]]:
    """Send messages from processes; returns what came back, and what should not have."""
    addresses = [scene.graph.address, scene.feed.address]
    senders = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.chaos.messages",
                *addresses,
                str(number // processes),
                each,
            ],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in (f"{seed}/{sender + 1}" for sender in range(processes))
    ]
    codes, offenders = Counter[str](), []
    for sender in senders:
        said, _ = sender.communicate()
        some, others = json.loads(said)
        codes += Counter(some)
        offenders += others
    return codes, offenders


def _oversized(scene: Scene, rpcs: Sequence[Rpc]) -> Counter[str]:
    """Send a message beyond the limit to some calls, as it is and made small by compression."""
    codes = Counter[str]()
    for rpc in rpcs:
        process = scene.graph if rpc.service == "graph" else scene.feed
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            codes[_code(process.address, rpc, compression)] += 1
    return codes


def _code(address: str, rpc: Rpc, compression: grpc.Compression) -> str:
    path = f"/{rpc.method.containing_service.full_name}/{rpc.name}"
    message = b"\x00" * (_LARGE_BYTES + 1)
    # A connection of its own, which is not told to go for its age while the message is on its way.
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call: Any = channel.stream_stream(path)
        try:
            for _ in call(iter([message]), timeout=_LONG_SECONDS, compression=compression):
                pass
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def _listed(codes: Counter[str]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in codes.most_common())
