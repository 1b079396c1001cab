"""A feed as the rule says it word by word: every post is looked at, and nothing is clever."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from feed_service.queries.feed import FeedFilter, FeedPart
from feed_service.queries.posts import POST_COLUMNS, PostRow
from feed_service.viewers import Viewer
from feed_service.visibility import VISIBLE, tag_holds
from shared.database.arrays import array_literal

_AUTHORS = f"""
    SELECT author_id
    FROM unnest(CAST(:author_ids AS bigint[])) AS author_id
    WHERE (NOT :by_tags OR author_id = :viewer_id OR EXISTS (
        SELECT FROM user_tags AS chosen
        WHERE chosen.owner_user_id = :viewer_id
          AND chosen.target_user_id = author_id
          AND chosen.tag_id = ANY (CAST(:tag_ids AS bigint[]))
          AND EXISTS (SELECT FROM tags AS tag
                      WHERE tag.owner_user_id = :viewer_id AND tag.id = chosen.tag_id
                        AND tag.deleted_at IS NULL)
          AND {tag_holds("chosen", peer="author_id", revisions=":own_revisions")}))
      AND (:with_muted OR NOT EXISTS (
        SELECT FROM user_tags AS muted
        WHERE muted.owner_user_id = :viewer_id
          AND muted.target_user_id = author_id
          AND EXISTS (SELECT FROM tags AS tag
                      WHERE tag.owner_user_id = :viewer_id AND tag.id = muted.tag_id
                        AND tag.deleted_at IS NULL
                        AND tag.muted_until IS NOT NULL AND tag.muted_until > clock_timestamp())
          AND {tag_holds("muted", peer="author_id", revisions=":own_revisions")}))
"""
"""All :author_ids; when :by_tags, only those with one of the viewer's :tag_ids; unless :with_muted,
only those without a tag that the viewer has muted."""

# OFFSET 0 keeps the rule from being mixed with whose posts are asked for.
_FEED = text(f"""
    SELECT {POST_COLUMNS}
    FROM (SELECT p.* FROM posts AS p WHERE {VISIBLE} OFFSET 0) AS p
    WHERE p.author_id IN ({_AUTHORS})
    ORDER BY p.created_at DESC, p.id DESC
""")


@dataclass(frozen=True, kw_only=True)
class PlainFeed:
    """All of a viewer's feed under a filter, newest first."""

    rows: list[PostRow]

    def page(self, part: FeedPart, limit: int) -> list[PostRow]:
        """The page that `queries.feed.feed_page` has to return."""
        return [
            row
            for row in self.rows
            if part.after < (row.created_at, row.id) < part.before and row.id not in part.seen_ids
        ][:limit]


def plain_feed(connection: Connection, *, viewer: Viewer, among: FeedFilter) -> PlainFeed:
    """Read all of a feed."""
    own = [viewer.user_id] if among.with_own else []
    asked = [int(author) for author in among.author_ids[1:-1].split(",") if author.strip()]
    rows = connection.execute(
        _FEED,
        {
            **viewer.parameters,
            "author_ids": array_literal([*asked, *own]),
            "by_tags": bool(among.tag_ids),
            "tag_ids": array_literal(among.tag_ids),
            "with_muted": among.with_muted,
        },
    )
    return PlainFeed(rows=[PostRow._make(row) for row in rows])
