"""Owns connections: pairs of users that are mutually connected, requests, and blocks.

A call enters at `servicer` (decode, call, encode), follows the rules in `connections`, `lookups`,
`imports`, `exports`, `watches` or `erasure`, and reaches the database by the statements in
`queries`, whose tables are in `models`. Changes go through `shared.api.idempotency`; beside the
calls, `upkeep` cleans up.
"""
