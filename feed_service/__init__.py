"""Owns posts, audience tags, comments, photos and digests, and decides what each viewer may see.

A call enters at `servicer` (decode, call, encode) and goes to the use case it is about: `feed`,
`posts`, `tags`. Reads of other people's posts go through `safe_read`, which holds the viewer's
connections still with the help of `graph_client`. All SQL is in `queries`; the one rule of who sees
what is in `visibility`; the tables are in `models`.
"""
