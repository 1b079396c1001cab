"""Weekly digests: the choice of posts by the rules, and choices that were frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, RowMapping, text

from feed_service.importance import IMPORTANCE
from feed_service.queries.posts import FEED_AUTHORS, POST_COLUMNS, PostRow, name_literals
from feed_service.settings import DigestRules
from feed_service.visibility import VISIBLE, Viewer
from feed_service.weeks import Week
from shared.database import array_literal

# A week that has a post of HIGH importance is told without those of LOW importance and below.
_HIGH: Final = 7.0
_LOW: Final = 4.0


class Reason(StrEnum):
    """Why a post is in a digest."""

    IMPORTANT = "important"
    FILLED_PLACE = "filled_place"


@dataclass(frozen=True, kw_only=True)
class ChosenPost(PostRow):
    """A post of a digest; `day` counts the days of its week from 0."""

    importance: float
    reason: Reason
    day: int


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The posts of a digest, oldest first, and how many others there were to choose from."""

    posts: Sequence[ChosenPost]
    left_out_count: int
    is_frozen: bool


@dataclass(frozen=True, kw_only=True)
class FrozenName:
    """What a frozen digest goes by: the week of a viewer, asked for in one of several ways."""

    viewer_id: int
    week: Week
    fingerprint: bytes

    @property
    def parameters(self) -> dict[str, object]:
        """What names it in a statement."""
        return {
            "viewer_id": self.viewer_id,
            "start": self.week.start,
            "fingerprint": self.fingerprint,
        }


_DAY = "width_bucket(p.created_at, CAST(:instants AS timestamptz[])) - 1 AS day"

# The rules in the order of their numbers in GetDigestResponse. Each author's week is read from
# idx_post_author; OFFSET 0 keeps PostgreSQL from reading everybody's posts instead, to join them.
_CHOICE = text(f"""
    WITH authors AS ({FEED_AUTHORS}),
    candidates AS (
        SELECT p.author_id, p.id, p.created_at, {_DAY}, {IMPORTANCE} AS importance
        FROM authors CROSS JOIN LATERAL (
            SELECT * FROM posts AS p
            WHERE p.author_id = authors.author_id
              AND p.created_at >= :start AND p.created_at < :end AND {VISIBLE}
            OFFSET 0) AS p
    ),
    day_by_day AS (
        SELECT *,
               max(importance) OVER () AS highest,
               row_number() OVER (PARTITION BY author_id, day ORDER BY importance DESC, id)
                   AS place_in_day
        FROM candidates WHERE importance > :min_importance
    ),
    author_by_author AS (
        SELECT *,
               row_number() OVER (PARTITION BY author_id
                                  ORDER BY importance DESC, created_at DESC, id DESC)
                   > :posts_per_author AS is_beyond_share
        FROM day_by_day
        WHERE place_in_day <= :posts_per_author_per_day
          AND NOT (highest >= {_HIGH} AND importance <= {_LOW})
    ),
    chosen AS (
        SELECT author_id, id, importance, day,
               CASE WHEN is_beyond_share THEN '{Reason.FILLED_PLACE}'
                    ELSE '{Reason.IMPORTANT}' END AS reason
        FROM author_by_author
        ORDER BY is_beyond_share, importance DESC, created_at DESC, id DESC
        LIMIT :max_posts
    )
    SELECT (SELECT count(*) FROM candidates) - (SELECT count(*) FROM chosen) AS left_out_count,
           shown.*
    FROM (SELECT) AS always
    LEFT JOIN (
        SELECT {POST_COLUMNS}, chosen.importance, chosen.reason, chosen.day
        FROM chosen JOIN posts AS p ON p.author_id = chosen.author_id AND p.id = chosen.id
    ) AS shown ON true
    ORDER BY shown.created_at, shown.id
""")


def digest_choice(
    connection: Connection,
    *,
    viewer: Viewer,
    week: Week,
    rules: DigestRules,
    tag_ids: Sequence[int],
    include_own_posts: bool,
) -> Choice:
    """The posts that the rules choose for a viewer out of a week."""
    rows = connection.execute(
        _CHOICE,
        {
            **viewer.parameters,
            **_days(week),
            "author_ids": viewer.feed_author_ids if include_own_posts else viewer.connected_ids,
            "by_tags": bool(tag_ids),
            "tag_ids": array_literal(tag_ids),
            "end": week.end,
            "min_importance": rules.min_importance,
            "posts_per_author_per_day": rules.posts_per_author_per_day,
            "posts_per_author": rules.posts_per_author,
            "max_posts": rules.max_posts,
        },
    )
    return _choice(rows.mappings().all(), is_frozen=False)


_FROZEN_CHOICE = text(f"""
    SELECT frozen.left_out_count, shown.*
    FROM frozen_digests AS frozen
    LEFT JOIN LATERAL (
        SELECT {POST_COLUMNS}, item.importance, item.reason, {_DAY}
        FROM frozen_digest_items AS item
        JOIN posts AS p ON p.author_id = item.author_id AND p.id = item.post_id AND {VISIBLE}
        WHERE item.user_id = frozen.user_id AND item.start_at = frozen.start_at
          AND item.fingerprint = frozen.fingerprint
    ) AS shown ON true
    WHERE frozen.user_id = :viewer_id AND frozen.start_at = :start
      AND frozen.fingerprint = :fingerprint
    ORDER BY shown.created_at, shown.id
""")


def frozen_choice(connection: Connection, *, viewer: Viewer, name: FrozenName) -> Choice | None:
    """What the viewer may still see of a frozen digest; None when it was never frozen."""
    rows = connection.execute(
        _FROZEN_CHOICE, {**viewer.parameters, **_days(name.week), **name.parameters}
    )
    found = rows.mappings().all()
    return _choice(found, is_frozen=True) if found else None


# One statement, so that it needs no transaction around it. Posts that are being erased at this
# moment are passed over, and the others held until the digest is stored: erasing a person's posts
# first and then what names them leaves nothing behind.
_FREEZE = text("""
    WITH frozen AS (
        INSERT INTO frozen_digests (user_id, start_at, fingerprint, left_out_count)
        VALUES (:viewer_id, :start, :fingerprint, :left_out_count)
        ON CONFLICT DO NOTHING
        RETURNING user_id, start_at, fingerprint
    ),
    items AS (
        INSERT INTO frozen_digest_items
            (user_id, start_at, fingerprint, author_id, post_id, importance, reason)
        SELECT frozen.user_id, frozen.start_at, frozen.fingerprint, p.author_id, p.id,
               item.importance, item.reason
        FROM frozen
        CROSS JOIN unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                          CAST(:importances AS double precision[]), CAST(:reasons AS text[]))
             AS item (author_id, post_id, importance, reason)
        JOIN posts AS p ON p.author_id = item.author_id AND p.id = item.post_id
        FOR KEY SHARE OF p SKIP LOCKED
    )
    SELECT count(*) FROM frozen
""")


def freeze(connection: Connection, *, name: FrozenName, choice: Choice) -> bool:
    """Whether this choice is the frozen one now; otherwise another one is already."""
    frozen_count: int = connection.execute(
        _FREEZE,
        {
            **name.parameters,
            **name_literals([(post.author_id, post.id) for post in choice.posts]),
            "left_out_count": choice.left_out_count,
            "importances": [post.importance for post in choice.posts],
            "reasons": [post.reason.value for post in choice.posts],
        },
    ).scalar_one()
    return frozen_count == 1


def _days(week: Week) -> dict[str, object]:
    return {"start": week.start, "instants": list(week.instants)}


def _choice(rows: Sequence[RowMapping], *, is_frozen: bool) -> Choice:
    return Choice(
        posts=[_chosen_post(row) for row in rows if row["id"] is not None],
        left_out_count=rows[0]["left_out_count"],
        is_frozen=is_frozen,
    )


def _chosen_post(row: RowMapping) -> ChosenPost:
    columns = {name: value for name, value in row.items() if name != "left_out_count"}
    return ChosenPost(**{**columns, "reason": Reason(columns["reason"])})
