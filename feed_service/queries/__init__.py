"""Every SQL statement of feed_service, one function each; its first line says what comes back.

A module for each thing that is stored or asked for. Functions that change something run in the
caller's transaction. The author's or owner's id is part of every join.
"""

from feed_service.queries import (
    audiences,
    comments,
    digests,
    distributed_digests,
    distributed_feed,
    distributed_unread,
    distributed_writes,
    erasure,
    feed,
    following,
    photos,
    posts,
    read_positions,
    shards,
    tags,
    transfers,
    upkeep,
)

__all__ = [
    "audiences",
    "comments",
    "digests",
    "distributed_digests",
    "distributed_feed",
    "distributed_unread",
    "distributed_writes",
    "erasure",
    "feed",
    "following",
    "photos",
    "posts",
    "read_positions",
    "shards",
    "tags",
    "transfers",
    "upkeep",
]
