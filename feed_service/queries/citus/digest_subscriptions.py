"""The subscriptions to digests that are due, in a distributed database.

Rows of several shards cannot be locked by one statement. So two claims may read the same ones, and
`lease` decides for each which of the two gets it.
"""

from sqlalchemy import Connection, text

from feed_service.queries.digest_subscriptions import DUE, SubscriptionRow

_DUE = text(DUE)


def due_digests(connection: Connection, *, limit: int) -> list[SubscriptionRow]:
    """Up to `limit` subscriptions that could be claimed when they were read."""
    rows = connection.execute(_DUE, {"limit": limit}).mappings()
    return [SubscriptionRow(**row) for row in rows]
