"""Calls that keep coming at a rate, also when they fail, from a process of their own.

python -m tests.chaos.flood TARGET RATE SECONDS
    Read one's own posts so often, and print how many calls were answered, how many were refused and
    told when to come again, how many ended otherwise, and the rate that was really reached.
"""

import asyncio
import sys
import time
from collections import Counter
from typing import Any, Final

import grpc
from google.rpc import error_details_pb2, status_pb2

from kith.feed.v1 import feed_pb2

_CALL: Final = "/kith.feed.v1.FeedService/ListPosts"
_REQUEST: Final = feed_pb2.ListPostsRequest(user_id=1, author_id=1).SerializeToString()
_CHANNELS: Final = 32
_TICK_SECONDS: Final = 0.01
_TIMEOUT_SECONDS: Final = 5
_ANSWERED: Final = "answered"
_REFUSED: Final = "refused"


async def flood(target: str, rate: float, seconds: float) -> None:
    counts = Counter[str]()
    channels = [
        grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(_CHANNELS)
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    calls: list[Any] = [channel.unary_unary(_CALL) for channel in channels]
    tasks = set[asyncio.Task[None]]()
    started = time.monotonic()
    made = 0
    while (passed := time.monotonic() - started) < seconds:
        for _ in range(int(passed * rate) - made):
            task = asyncio.ensure_future(_call(calls[made % _CHANNELS], counts))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            made += 1
        await asyncio.sleep(_TICK_SECONDS)
    reached = made / (time.monotonic() - started)
    # What is answered after the end of the flood is no part of its goodput.
    answered, refused = counts.pop(_ANSWERED, 0), counts.pop(_REFUSED, 0)
    await asyncio.gather(*tasks)
    for name in (_ANSWERED, _REFUSED):
        counts.pop(name, None)
    sys.stdout.write(f"{answered} {refused} {reached:.0f} {dict(counts)}\n")
    for channel in channels:
        await channel.close()


async def _call(call: Any, counts: Counter[str]) -> None:
    try:
        await call(_REQUEST, timeout=_TIMEOUT_SECONDS)
    except grpc.aio.AioRpcError as error:
        is_refused = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _is_told_when(error)
        counts[_REFUSED if is_refused else error.code().name] += 1
    else:
        counts[_ANSWERED] += 1


def _is_told_when(error: grpc.aio.AioRpcError) -> bool:
    """Whether the caller is told when to come again."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(details)
    return any(detail.Unpack(error_details_pb2.RetryInfo()) for detail in status.details)


if __name__ == "__main__":
    target, rate, seconds = sys.argv[1:]
    asyncio.run(flood(target, float(rate), float(seconds)))
