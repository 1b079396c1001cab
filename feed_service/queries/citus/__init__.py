"""The statements that Citus runs in another form, in the modules and by the names of the others.

Each is called as the one that it stands for; see `layouts`.
"""

from feed_service.queries.citus import (
    authors,
    checks,
    digest_subscriptions,
    digests,
    erasure,
    events,
    feed,
    imports,
    posts,
    read_positions,
)

__all__ = [
    "authors",
    "checks",
    "digest_subscriptions",
    "digests",
    "erasure",
    "events",
    "feed",
    "imports",
    "posts",
    "read_positions",
]
