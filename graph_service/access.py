"""Who may make which call of graph_service, and which calls are written down.

A user acts for themselves alone. What concerns everybody's connections is for services: the feed,
importers, followers of the changes. So is erasure: it is final, has to be done by both services,
and belongs to whoever ends the account, so that a stolen token is not enough for it.
"""

from typing import Final

from shared.access.rules import Access, Admits, Rule

ACCESS: Final[Access] = {
    "GetConnectedUserIds": Rule(admits=Admits.SERVICES, audit=None),
    "CheckConnections": Rule(admits=Admits.THE_USER, audit=None),
    "GetConnection": Rule(admits=Admits.THE_USER, audit=None),
    "ListConnections": Rule(admits=Admits.THE_USER, audit=None),
    "ListConnectionRequests": Rule(admits=Admits.THE_USER, audit=None),
    "ListBlockedUsers": Rule(admits=Admits.THE_USER, audit=None),
    "ListMutualConnections": Rule(admits=Admits.THE_USER, audit=None),
    # How many, not who: what every profile shows.
    "CountConnections": Rule(admits=Admits.ANY_USER, audit=None),
    "SuggestConnections": Rule(admits=Admits.THE_USER, audit=None),
    "RequestConnection": Rule(admits=Admits.THE_USER, audit=None),
    "AcceptConnection": Rule(admits=Admits.THE_USER, audit=None),
    "DeclineConnection": Rule(admits=Admits.THE_USER, audit=None),
    "CancelConnectionRequest": Rule(admits=Admits.THE_USER, audit=None),
    "RemoveConnection": Rule(admits=Admits.THE_USER, audit=("peer_id",)),
    "BlockUser": Rule(admits=Admits.THE_USER, audit=("peer_id",)),
    "UnblockUser": Rule(admits=Admits.THE_USER, audit=("peer_id",)),
    "ImportConnections": Rule(admits=Admits.SERVICES, audit=()),
    "ExportConnections": Rule(admits=Admits.SERVICES, audit=()),
    "WatchConnections": Rule(admits=Admits.SERVICES, audit=None),
    "DeleteUser": Rule(admits=Admits.SERVICES, audit=()),
}
