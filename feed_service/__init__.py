"""Owns posts, audience tags, comments, photos and digests, and decides what each viewer may see.

A call enters at `servicer` (decode, call, encode) and goes to the use case it is about: `feed`,
`digest`, `posts`, `photos`, `tags`, `comments`, `audiences`, `read_positions`, `transfers`,
`erasure`. Reads of other people's posts go through `safe_read`, which holds the viewer's
connections still with the help of `graph_client`; what changes something goes through
`shared.api.idempotency`. All SQL is in `queries`; the one rule of who sees what is in `visibility`,
and its faster form for pages in `visibility_streams`; the tables are in `models`. Beside the calls,
`follower` follows the graph and `upkeep` cleans up.
"""
