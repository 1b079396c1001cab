"""Why one viewer sees a post, who sees it, and who would see a draft: the rule of `visibility`."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from feed_service.queries.posts import Audience, PostName
from feed_service.viewers import Viewer
from feed_service.visibility import (
    CLAUSE_OF_AUTHOR,
    Clause,
    clause,
    deciding_tags,
    ending,
    visible,
)
from shared.database.arrays import array_literal


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The clause that decided, and the tags that made it decide."""

    clause: Clause
    tag_ids: Sequence[int]


def _tags(*, excluded: bool) -> str:
    return f"ARRAY({deciding_tags(excluded=excluded, author=':author_id')} ORDER BY 1)"


_EXPLANATION = text(f"""
    SELECT p.clause,
           CASE p.clause
               WHEN '{Clause.HAS_TAG}' THEN {_tags(excluded=False)}
               WHEN '{Clause.EXCLUDED}' THEN {_tags(excluded=True)}
               ELSE '{{}}'
           END AS tag_ids
    FROM (SELECT p.author_id, p.id, {CLAUSE_OF_AUTHOR} AS clause FROM posts AS p
          WHERE p.author_id = :author_id AND p.id = :post_id OFFSET 0) AS p
""")


def explanation(connection: Connection, *, viewer: Viewer, name: PostName) -> Explanation | None:
    """Why the viewer sees the post or not; None when there is no such post."""
    row = connection.execute(
        _EXPLANATION, {**viewer.parameters, "author_id": name[0], "post_id": name[1]}
    ).one_or_none()
    return None if row is None else Explanation(clause=Clause(row[0]), tag_ids=row[1])


# The draft and its tags stand where the rule looks for a post and its tags, so that it is the same
# rule; the viewers are the author's connections, and the revisions those of the author.
_PREVIEW = text(f"""
    WITH post_audience_tags AS (
        SELECT CAST(:viewer_id AS bigint) AS author_id, CAST(0 AS bigint) AS post_id,
               tag_id, excluded
        FROM unnest(CAST(:tag_ids AS bigint[]), CAST(:excluded AS boolean[]))
             AS named (tag_id, excluded)
    ),
    draft AS (
        SELECT CAST(:viewer_id AS bigint) AS author_id, CAST(0 AS bigint) AS id,
               CAST(:audience AS text) AS audience, CAST(NULL AS timestamptz) AS deleted_at
    ),
    viewers AS MATERIALIZED (
        SELECT reader.id
        FROM draft AS p CROSS JOIN unnest(CAST(:connected_ids AS bigint[])) AS reader (id)
        WHERE {
    visible(
        clause(
            viewer="reader.id",
            is_connected="reader.id = ANY (CAST(:connected_ids AS bigint[]))",
            author_ending=ending(peer="reader.id", revisions=":own_revisions"),
        )
    )
}
    )
    SELECT counted.total_count, page.id
    FROM (SELECT count(*) AS total_count FROM viewers) AS counted
    LEFT JOIN LATERAL (
        SELECT id FROM viewers WHERE id > :after_id ORDER BY id LIMIT :limit) AS page ON true
    ORDER BY page.id
""")


def preview(
    connection: Connection, *, author: Viewer, audience: Audience, after_id: int, limit: int
) -> tuple[int, list[int]]:
    """How many people would see a draft, and up to `limit` of them behind an id, by id."""
    tag_ids = [*audience.tag_ids, *audience.excluded_tag_ids]
    rows = connection.execute(
        _PREVIEW,
        {
            **author.parameters,
            "audience": audience.kind,
            "tag_ids": array_literal(tag_ids),
            "excluded": [tag_id in audience.excluded_tag_ids for tag_id in tag_ids],
            "after_id": after_id,
            "limit": limit,
        },
    ).all()
    return rows[0][0], [viewer_id for _, viewer_id in rows if viewer_id is not None]


# Each of the author's connections is looked at whichever page is asked for: the total needs all.
_VIEWERS = text(f"""
    WITH viewers AS MATERIALIZED (
        SELECT reader.id
        FROM posts AS p
        CROSS JOIN unnest(CAST(:connected_ids AS bigint[]) || CAST(:author_id AS bigint))
             AS reader (id)
        WHERE p.author_id = :author_id AND p.id = :post_id
          AND {
    visible(
        clause(
            viewer="reader.id",
            is_connected="true",
            author_ending=ending(peer="reader.id", revisions=":own_revisions"),
            author=":author_id",
        )
    )
}
    )
    SELECT counted.total_count, page.id
    FROM (SELECT count(*) AS total_count FROM (SELECT FROM viewers LIMIT :most_counted) AS viewer)
         AS counted
    LEFT JOIN LATERAL (
        SELECT id FROM viewers WHERE id > :after_id ORDER BY id LIMIT :limit) AS page ON true
    ORDER BY page.id
""")


def viewers(
    connection: Connection,
    *,
    author: Viewer,
    post_id: int,
    after_id: int,
    limit: int,
    most_counted: int,
) -> tuple[int, list[int]]:
    """How many people see a post of the author, and up to `limit` of them behind an id, by id.

    The author is one of them. A post that does not exist has no viewers. Up to `most_counted` are
    counted.
    """
    rows = connection.execute(
        _VIEWERS,
        {
            **author.parameters,
            "author_id": author.user_id,
            "post_id": post_id,
            "after_id": after_id,
            "limit": limit,
            "most_counted": most_counted,
        },
    ).all()
    return rows[0][0], [viewer_id for _, viewer_id in rows if viewer_id is not None]
