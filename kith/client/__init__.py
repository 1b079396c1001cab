"""The client of Kith for programs in Python: both services, as a careful caller calls them.

    from kith.client import KithClient, pages
    from kith.feed.v1 import feed_pb2

    with KithClient.from_environment() as kith:
        session = kith.session()
        for page in pages(session.feed.GetFeed, feed_pb2.GetFeedRequest(user_id=17)):
            ...

The calls are those of the stubs that are generated from the contracts, so each has its types and
its documentation there, and nothing is defined here a second time. `calls` gives each of them what
a caller would otherwise write around it: a deadline, a `request_id` for what changes something, the
trace, and exceptions of `kith.exceptions` instead of `grpc.RpcError`. That calls go round all
addresses and are made again is the service config's (`kith/client/channel_options.py`).

**Positions.** Every write is answered with `kith-position` in its initial metadata: an opaque token
of how far the service's database was then. A read that sends it may be answered by a replica that
has come as far, and one that sends `any` by any replica; a read that sends neither is answered by
the primary, and so sees everything. The key may be sent several times, and then the latest position
counts: only the service can tell which of several concurrent writes was the latest. A write that
began after the response to another is later than that one, so its token stands for both. A
`Session` does this for one person.

**Tokens of users.** A service that acts on behalf of users shows the token of each beside its own
credentials: `kith.session(user_token=...)`. A single call takes it as metadata, under
`kith.user_tokens.KEY`.
"""

from kith.client.paging import items, pages
from kith.client.sessions import KithClient, Session
from kith.client.streams import imported, resumed

__all__ = ["KithClient", "Session", "imported", "items", "pages", "resumed"]
