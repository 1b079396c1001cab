"""Who may make which call of graph_service, how often, at what cost, and what is written down.

A user acts for themselves alone. What the contract calls internal is for services: the feed,
importers, followers of the changes. So is erasure: the service that keeps the account asks its
owner first, so that a stolen token is not enough.
"""

from typing import Final

from shared.access.rules import HEAVY, Access, Admits, Limit, Rule, Weight

_REQUESTS: Final = Limit(name="REQUESTS", usual="30/minute")
# Each makes what is cached of the other's connections out of date.
_BLOCKS: Final = Limit(name="BLOCKS", usual="60/minute")

ACCESS: Final[Access] = {
    # Every safe read asks it.
    "GetConnectedUserIds": Rule(admits=Admits.SERVICES, weight=Weight.VITAL, audit=None),
    "CheckConnections": Rule(admits=Admits.THE_USER, audit=None),
    "GetConnection": Rule(admits=Admits.THE_USER, audit=None),
    "ListConnections": Rule(admits=Admits.THE_USER, audit=None),
    "ListConnectionRequests": Rule(admits=Admits.THE_USER, audit=None),
    "ListBlockedUsers": Rule(admits=Admits.THE_USER, audit=None),
    "ListMutualConnections": Rule(
        admits=Admits.THE_USER, limit=HEAVY, weight=Weight.HEAVY, audit=None
    ),
    # Two counts that change together tell an edge, so a user gets no stranger's.
    "CountConnections": Rule(admits=Admits.THE_USER, audit=None),
    "SuggestConnections": Rule(
        admits=Admits.THE_USER, limit=HEAVY, weight=Weight.HEAVY, audit=None
    ),
    "RequestConnection": Rule(admits=Admits.THE_USER, limit=_REQUESTS, audit=None),
    "AcceptConnection": Rule(admits=Admits.THE_USER, audit=None),
    "DeclineConnection": Rule(admits=Admits.THE_USER, audit=None),
    "CancelConnectionRequest": Rule(admits=Admits.THE_USER, audit=None),
    "RemoveConnection": Rule(admits=Admits.THE_USER, audit=("peer_id",)),
    "BlockUser": Rule(admits=Admits.THE_USER, limit=_BLOCKS, audit=("peer_id",)),
    "UnblockUser": Rule(admits=Admits.THE_USER, limit=_BLOCKS, audit=("peer_id",)),
    "ImportConnections": Rule(admits=Admits.SERVICES, weight=Weight.HEAVY, audit=()),
    "ExportConnections": Rule(admits=Admits.SERVICES, weight=Weight.HEAVY, audit=()),
    # Their data is theirs, and it tells nothing that a suspension hides.
    "ExportUser": Rule(
        admits=Admits.THE_USER,
        limit=HEAVY,
        weight=Weight.HEAVY,
        audit=(),
        also_suspended=True,
    ),
    "WatchConnections": Rule(admits=Admits.SERVICES, audit=None),
    "DeleteUser": Rule(admits=Admits.SERVICES, audit=()),
    "SuspendUser": Rule(admits=Admits.SERVICES, audit=()),
    "RestoreUser": Rule(admits=Admits.SERVICES, audit=()),
    "ListSuspendedUsers": Rule(admits=Admits.SERVICES, audit=()),
    # Not audited: each process of feed_service asks it once a second.
    "GetSuspendedUserIds": Rule(admits=Admits.SERVICES, weight=Weight.VITAL, audit=None),
}
