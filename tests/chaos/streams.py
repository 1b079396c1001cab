"""Very many calls at once that their client does not end, from a process of their own.

python -m tests.chaos.streams watch|silent TARGET NUMBER
    Open so many streams of changes, or calls of which no message is ever sent; print `open`, and
    when standard input ends how many had been refused by then and how, and how many were open.
"""

import asyncio
import sys
from collections import Counter
from typing import Any, Final

import grpc

from kith.graph.v1 import graph_pb2

_CHANNELS: Final = 100
_WATCH: Final = "/kith.graph.v1.GraphService/WatchConnections"
_SILENT: Final = "/kith.feed.v1.FeedService/ListPosts"
_SETTLING_SECONDS: Final = 5
_OPEN: Final = "OPEN"


async def keep_open(kind: str, target: str, number: int) -> None:
    channels = [
        grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(_CHANNELS)
    ]
    calls = [_opened(kind, channels[each % _CHANNELS]) for each in range(number)]
    await asyncio.sleep(_SETTLING_SECONDS)
    _say("open")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    states = Counter[str]()
    for call in calls:
        states[(await call.code()).name if call.done() else _OPEN] += 1
        call.cancel()
    for channel in channels:
        await channel.close()
    _say(" ".join(f"{state}={count}" for state, count in states.items()))


def _opened(kind: str, channel: grpc.aio.Channel) -> Any:
    if kind == "silent":
        return channel.stream_unary(_SILENT)()
    watch: Any = channel.unary_stream(_WATCH)
    call = watch(graph_pb2.WatchConnectionsRequest().SerializeToString())
    reading = asyncio.ensure_future(_read(call))
    call.add_done_callback(lambda _call: reading.cancel())
    return call


async def _read(call: Any) -> None:
    async for _ in call:
        pass


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    kind, target, number = sys.argv[1:]
    asyncio.run(keep_open(kind, target, int(number)))
