"""The client of Kith for programs with asyncio: the habits of `kith.client`, on grpc.aio.

    from kith.client.aio import KithClient, pages
    from kith.feed.v1 import feed_pb2

    async with KithClient.from_environment() as kith:
        session = kith.session()
        async for page in pages(session.feed.GetFeed, feed_pb2.GetFeedRequest(user_id=17)):
            ...

A client belongs to the event loop in which it is made. Deadlines, request ids, positions, traces
and exceptions are those of `kith.client`, and so is the code for them. A call is sent when it is
made, as with grpc.aio, and its position is remembered when it is awaited.
"""

from kith.client.aio.paging import items, pages
from kith.client.aio.sessions import KithClient, Session
from kith.client.aio.streams import imported, resumed

__all__ = ["KithClient", "Session", "imported", "items", "pages", "resumed"]
