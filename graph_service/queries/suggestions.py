"""Suggestions: connections of a user's connections."""

from typing import Final

from sqlalchemy import Connection, text

from graph_service.queries.neighbours import NEIGHBOURS, NEIGHBOURS_IN_SIGHT

SUGGESTION_ROWS: Final = 50_000
"""How many connections of the user's connections suggestions are made from."""

# A user with 5,000 connections of 5,000 each has 25 million to count. So the user's connections are
# read one after the other until the bound is reached. Their order is that of a hash, so that the
# sample favours nobody and is the same at every call. Reading those with the fewest connections
# would need the number of connections of each, which took 15,000 pages for 5,000 of them.
#
# One row more than the bound is read. If there is one, it is of the last connection, of which some
# rows are missing, so all rows of that connection are left out. A connection with more than the
# bound is read up to it.
#
# A few connections are read completely, not a part of each of many: a part would have to be the
# same range of ids for all, or few would be found twice, and only users in that range would be
# suggested.
#
# Candidates with a request, a block or a suspension are looked for in the order of the result,
# until the limit is reached; as a join, PostgreSQL would look for all candidates (OFFSET 0 prevents
# it).
_SUGGESTIONS = text(f"""
    WITH mine AS MATERIALIZED ({NEIGHBOURS_IN_SIGHT.format(user=":user_id")}),
    examined AS MATERIALIZED (
        SELECT ordered.id AS peer_id, theirs.id
        FROM (SELECT id, hashint8extended(id, :user_id) AS position
              FROM mine ORDER BY position, id) AS ordered
        CROSS JOIN LATERAL (SELECT id FROM ({NEIGHBOURS.format(user="ordered.id")}) AS all_of_them
                            LIMIT :most_rows) AS theirs
        ORDER BY ordered.position, ordered.id LIMIT :most_rows + 1
    ),
    candidates AS (
        SELECT id, count(*) AS mutual_count
        FROM examined
        WHERE peer_id IS DISTINCT FROM (SELECT peer_id FROM examined OFFSET :most_rows)
          AND id <> :user_id AND NOT EXISTS (SELECT FROM mine WHERE mine.id = examined.id)
        GROUP BY id
    )
    SELECT id, mutual_count
    FROM (SELECT id, mutual_count FROM candidates
          ORDER BY mutual_count DESC, id OFFSET 0) AS ranked
    WHERE NOT EXISTS (SELECT FROM connections AS c
                      WHERE c.user_a_id = least(ranked.id, :user_id)
                        AND c.user_b_id = greatest(ranked.id, :user_id) OFFSET 0)
      AND NOT EXISTS (SELECT FROM blocks AS b
                      WHERE b.blocker_id = :user_id AND b.blocked_id = ranked.id OFFSET 0)
      AND NOT EXISTS (SELECT FROM blocks AS b
                      WHERE b.blocker_id = ranked.id AND b.blocked_id = :user_id OFFSET 0)
      AND NOT EXISTS (SELECT FROM suspensions AS s WHERE s.user_id = ranked.id OFFSET 0)
    ORDER BY mutual_count DESC, id LIMIT :limit
""")


def suggestions(
    connection: Connection, *, user_id: int, limit: int, most_rows: int = SUGGESTION_ROWS
) -> list[tuple[int, int]]:
    """Up to `limit` friends of friends and how many connections they share with the user.

    Exact where the user's connections have no more than `most_rows` connections together.
    Otherwise the count is of those connections that are examined, and never too high.
    """
    rows = connection.execute(
        _SUGGESTIONS, {"user_id": user_id, "limit": limit, "most_rows": most_rows}
    )
    return [(suggested_id, mutual_count) for suggested_id, mutual_count in rows]
