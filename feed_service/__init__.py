"""Owns posts, audience tags, comments, photos and digests, and decides what each viewer may see.

A call enters at `servicer` (decode, call, encode) and goes to one use case: `feed`, `digest`,
`posts`, `photos`, `tags`, `comments`, `audiences`, `read_positions`, `imports`, `exports` or
`erasure`. Reads of other people's posts go through `safe_read`, which asks the graph by
`graph_client` whether the viewer's connections have changed meanwhile; changes go through
`shared.api.idempotency`. All SQL is in `queries`; the one rule of who sees what is in `visibility`,
and its faster form for pages in `visibility_streams`; the tables are in `models`. Beside the calls,
`follower` follows the graph and `upkeep` cleans up.
"""
