"""Both ends of a storm on the health protocol, each to be run as a process of its own.

python -m tests.support.health_stress serve
    Serve health on a port that is printed, and flip the status thousands of times a second until
    standard input ends; then drain, stop, and print the number of flips.
python -m tests.support.health_stress watch TARGET WATCHERS SECONDS SEED
    Keep so many watches open over several channels, each cancelled after a random time and opened
    again. In the end every watcher watches once more, until the first status comes. Then print how
    many watchers got that status, and how many watches failed.
"""

import asyncio
import math
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.server.health import READY, HealthServicer, add_to_server

_CHANNELS = 20
_LONGEST_WATCH_SECONDS = 2.0
_LEAST_CANCELLED_WATCHES = 2
_LAST_STATUS_SECONDS = 60
_BACK_OFF_SECONDS = 0.1
_PAUSE_SECONDS = 0.0001
_STOP_SECONDS = 10
_REQUEST = health_pb2.HealthCheckRequest(service=READY)


def serve() -> None:
    servicer = HealthServicer(service_names=[])
    server = grpc.server(ThreadPoolExecutor(8))
    add_to_server(servicer, server)
    _print(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    is_over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    flips = 0
    while not is_over.is_set():
        servicer.set_ready(flips % 2 == 0)
        flips += 1
        # A loop that never pauses would leave the interpreter to no other thread.
        time.sleep(_PAUSE_SECONDS)
    servicer.drain()
    server.stop(_STOP_SECONDS).wait()
    servicer.close()
    _print(flips)


async def watch(target: str, watchers: int, seconds: float, seed: int) -> None:
    counts = Counter[str]()
    end = time.monotonic() + seconds
    # Channels with equal options share one TCP connection.
    channels = [
        grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(_CHANNELS)
    ]
    await asyncio.gather(
        *(
            _watch_again_and_again(channels[number % _CHANNELS], f"{seed}/{number}", end, counts)
            for number in range(watchers)
        )
    )
    for channel in channels:
        await channel.close()
    _print(counts["answered"], counts["failed"])


async def _watch_again_and_again(
    channel: grpc.aio.Channel, seed: str, end: float, counts: Counter[str]
) -> None:
    chosen = random.Random(seed)
    stub = health_pb2_grpc.HealthStub(channel)
    cancelled = 0
    # However slow the machine is, some watches of every watcher are cancelled.
    while cancelled < _LEAST_CANCELLED_WATCHES or time.monotonic() < end:
        call = stub.Watch(_REQUEST)
        asyncio.get_running_loop().call_later(
            chosen.uniform(0, _LONGEST_WATCH_SECONDS), call.cancel
        )
        cancelled += 1
        await _statuses(call, counts)
    # The server may still be cancelling calls whose messages came late in the storm.
    while time.monotonic() < end + _LAST_STATUS_SECONDS:
        last = stub.Watch(_REQUEST, timeout=_LAST_STATUS_SECONDS)
        if await _statuses(last, counts, most=1):
            counts["answered"] += 1
            return
        await asyncio.sleep(_BACK_OFF_SECONDS)


async def _statuses(
    call: "grpc.aio.UnaryStreamCall[object, object]",
    counts: Counter[str],
    most: float = math.inf,
) -> int:
    """Read statuses until the call ends, but no more than `most`; how many came."""
    number = 0
    try:
        async for _ in call:
            number += 1
            if number >= most:
                break
    except asyncio.CancelledError:
        pass
    except grpc.aio.AioRpcError as error:
        # So says a call that is cancelled before it is sent, and one that the server cancels.
        counts["failed"] += error.code() is not grpc.StatusCode.CANCELLED
        await asyncio.sleep(_BACK_OFF_SECONDS)
    call.cancel()
    return number


def _print(*values: object) -> None:
    sys.stdout.write(" ".join(map(str, values)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["watch", target, watchers, seconds, seed]:
            asyncio.run(watch(target, int(watchers), float(seconds), int(seed)))
        case _:
            sys.exit(__doc__)
