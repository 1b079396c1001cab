"""Every SQL statement of feed_service, one function each; its first line says what comes back.

A module for each thing that is stored or asked for. Functions that change something run in the
caller's transaction. The author's or owner's id is part of every join. What a distributed database
does in another way is in `citus`, in modules of the same names.
"""

from feed_service.queries import (
    audiences,
    checks,
    citus,
    comments,
    digest_subscriptions,
    digests,
    erasure,
    events,
    exports,
    feed,
    fences,
    following,
    imported_comments,
    imported_tags,
    imports,
    moderation,
    photos,
    posts,
    read_positions,
    shards,
    tags,
    upkeep,
)

__all__ = [
    "audiences",
    "checks",
    "citus",
    "comments",
    "digest_subscriptions",
    "digests",
    "erasure",
    "events",
    "exports",
    "feed",
    "fences",
    "following",
    "imported_comments",
    "imported_tags",
    "imports",
    "moderation",
    "photos",
    "posts",
    "read_positions",
    "shards",
    "tags",
    "upkeep",
]
