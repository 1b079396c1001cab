"""The ids of those a user is connected with, as SQL that other statements contain."""

from sqlalchemy import Connection, text

NEIGHBOURS = """
    SELECT user_b_id AS id FROM connections WHERE user_a_id = {user} AND status = 'accepted'
    UNION ALL
    SELECT user_a_id AS id FROM connections WHERE user_b_id = {user} AND status = 'accepted'
"""

_NEIGHBOUR_IDS = text(NEIGHBOURS.format(user=":user_id"))


def neighbour_ids(connection: Connection, *, user_id: int) -> set[int]:
    """The ids of the user's connections, as of this statement."""
    return set(connection.execute(_NEIGHBOUR_IDS, {"user_id": user_id}).scalars())
