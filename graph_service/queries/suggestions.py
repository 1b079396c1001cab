"""Suggestions: connections of a user's connections."""

from typing import Final

from sqlalchemy import Connection, text

from graph_service.queries.neighbours import NEIGHBOURS, NEIGHBOURS_IN_SIGHT

SUGGESTION_ROWS: Final = 50_000
"""How many connections of the user's connections suggestions are made from."""

# A user with 5,000 connections of 5,000 each has 25 million to count. So only some of the user's
# connections are read, those with the fewest connections: their other connections are the likeliest
# to know the user, and the choice is the same at every call. The first of them is read up to the
# bound.
# Candidates with a request, a block or a suspension are looked for in the order of the result,
# until the limit is reached; as a join, PostgreSQL would look for all candidates (OFFSET 0 prevents
# it).
_SUGGESTIONS = text(f"""
    WITH mine AS MATERIALIZED ({NEIGHBOURS_IN_SIGHT.format(user=":user_id")}),
    sampled AS MATERIALIZED (
        SELECT id
        FROM (SELECT mine.id, row_number() OVER fewest AS number,
                     sum(u.connection_count) OVER fewest AS rows
              FROM mine JOIN users AS u ON u.user_id = mine.id
              WINDOW fewest AS (ORDER BY u.connection_count, mine.id ROWS UNBOUNDED PRECEDING)
             ) AS ordered
        WHERE rows <= :most_rows OR number = 1
    ),
    candidates AS (
        SELECT theirs.id, count(*) AS mutual_count
        FROM sampled
        CROSS JOIN LATERAL (SELECT id FROM ({NEIGHBOURS.format(user="sampled.id")}) AS all_of_them
                            ORDER BY id LIMIT :most_rows) AS theirs
        WHERE theirs.id <> :user_id AND NOT EXISTS (SELECT FROM mine WHERE mine.id = theirs.id)
        GROUP BY theirs.id
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


def suggestions(connection: Connection, *, user_id: int, limit: int) -> list[tuple[int, int]]:
    """Up to `limit` friends of friends and how many connections they share with the user.

    Exact where the user's connections have no more than SUGGESTION_ROWS connections together.
    """
    rows = connection.execute(
        _SUGGESTIONS, {"user_id": user_id, "limit": limit, "most_rows": SUGGESTION_ROWS}
    )
    return [(suggested_id, mutual_count) for suggested_id, mutual_count in rows]
