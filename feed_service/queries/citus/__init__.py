"""The statements that Citus runs in another form, in the modules and by the names of the others.

Each is called as the one that it stands for; see `layouts`.
"""

from feed_service.queries.citus import (
    authors,
    digests,
    erasure,
    feed,
    posts,
    read_positions,
    transfers,
)

__all__ = ["authors", "digests", "erasure", "feed", "posts", "read_positions", "transfers"]
