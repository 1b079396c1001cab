"""The ids of those a user is connected with, as SQL that other statements contain."""

from sqlalchemy import Connection, text

NEIGHBOURS = """
    SELECT user_b_id AS id FROM connections WHERE user_a_id = {user} AND status = 'accepted'
    UNION ALL
    SELECT user_a_id AS id FROM connections WHERE user_b_id = {user} AND status = 'accepted'
"""

IN_SIGHT = """(
    (SELECT suspended_connection_count FROM users WHERE user_id = {user}) = 0
    OR NOT EXISTS (SELECT FROM suspensions WHERE user_id = {peer} OFFSET 0))"""
"""Whether a peer that is connected with a user is not suspended.

The count comes first, so that users without suspended connections take no lookup. OFFSET 0 keeps
PostgreSQL from reading all suspensions into a hash table.
"""

NEIGHBOURS_IN_SIGHT = f"""
    SELECT user_b_id AS id FROM connections WHERE user_a_id = {{user}} AND status = 'accepted'
       AND {IN_SIGHT.replace("{peer}", "user_b_id")}
    UNION ALL
    SELECT user_a_id AS id FROM connections WHERE user_b_id = {{user}} AND status = 'accepted'
       AND {IN_SIGHT.replace("{peer}", "user_a_id")}
"""
"""NEIGHBOURS without those who are suspended."""

_NEIGHBOUR_IDS = text(NEIGHBOURS.format(user=":user_id"))


def neighbour_ids(connection: Connection, *, user_id: int) -> set[int]:
    """The ids of the user's connections, suspended or not, as of this statement."""
    return set(connection.execute(_NEIGHBOUR_IDS, {"user_id": user_id}).scalars())
