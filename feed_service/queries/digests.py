"""Weekly digests: the choice of posts by the rules, and choices that were frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, text

from feed_service.models import LOW_IMPORTANCE, UTC_DAY
from feed_service.mutes import not_muted
from feed_service.queries.posts import POST_COLUMNS, PostRow, name_literals
from feed_service.settings import DigestRules, HubScan
from feed_service.viewers import Viewer
from feed_service.visibility import VISIBLE
from feed_service.visibility_streams import (
    CONNECTIONS,
    NOT_EXCLUDED,
    SHOWN_TO_CONNECTION,
    given,
    open_posts,
    tagged_posts,
)
from feed_service.weeks import Week
from shared.database.arrays import array_literal
from shared.database.reader import Reader, Rows, Statement

MOST_LEFT_OUT: Final = 100
"""What is left out is counted up to this, which means so many or more: to count all that a hub does
not get to read takes several times as long as choosing, and every hundred a fifth of that."""

HIGH: Final = 7.0
"""A week with a post of this importance is told without those of LOW_IMPORTANCE and below."""


class Reason(StrEnum):
    """Why a post is in a digest."""

    IMPORTANT = "important"
    FILLED_PLACE = "filled_place"


@dataclass(frozen=True, kw_only=True)
class ChosenPost:
    """A post of a digest; `day` counts the days of its week from 0."""

    post: PostRow
    importance: float
    reason: Reason
    day: int


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The posts of a digest, oldest first, and how many others the viewer saw of the week.

    MOST_LEFT_OUT means so many or more.
    """

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


DAY: Final = "width_bucket(p.created_at, CAST(:instants AS timestamptz[])) - 1 AS day"
"""The day of its week of a row `p` of posts. To be bound to `week_parameters`."""

IN_WEEK: Final = "created_at >= :start AND created_at < :end"
"""Whether a post is of a week."""

# Of so many posts as many are left out as are counted.
_ENOUGH: Final = f"{MOST_LEFT_OUT} + :max_posts"

_FIRST: Final = "ORDER BY importance DESC, created_at DESC, id DESC"

# What is important of everybody in a week, the most important first: merged from the days of UTC
# that a week may touch, which are nine with the hour by which clocks are set back, each in the
# order of idx_post_important. Without an ORDER BY each they would be read as a whole and sorted.
_OF_EVERYBODY: Final = " UNION ALL ".join(
    f"""
              (SELECT author_id, id, created_at, audience, importance FROM posts
               WHERE {UTC_DAY} =
                     CAST(CAST(:start AS timestamptz) AT TIME ZONE 'UTC' AS date) + {day}
                 AND importance > {LOW_IMPORTANCE} AND deleted_at IS NULL AND {IN_WEEK}
               {_FIRST})"""
    for day in range(9)
)

# important   for hubs alone: of the most important posts of everybody, so many and no more, the
#             first ones that are visible.
# suffices    whether the posts of their authors are all that has to be read. That takes as many
#             authors as a digest has posts, each with one of these posts that the second rule keeps
#             in any case: then the digest has this post or a better one of each
#             of them, and no other author has a post of a higher rank. It also takes so many posts
#             to leave out, among the first few hundred, that they need not be counted.
# authors     the authors of the posts that are read: theirs, or else all connections.
# visible     all of their posts that are, from the streams' indexes alone.
# candidates, day_by_day, author_by_author, chosen
#             the rules in the order of their numbers in GetDigestResponse.
_CHOICE = Statement(
    "digest_choice",
    f"""
    WITH connections AS MATERIALIZED ({CONNECTIONS}),
    important AS MATERIALIZED (
        SELECT p.author_id, p.id, p.importance, {DAY}
        FROM (SELECT * FROM ({_OF_EVERYBODY}) AS post
              {_FIRST}
              LIMIT (SELECT CASE WHEN count(*) >= :hub_degree THEN :hub_scan_rows ELSE 0 END
                     FROM connections)) AS p
        WHERE (p.author_id IN (SELECT id FROM connections)) IS TRUE AND {SHOWN_TO_CONNECTION}
        {_FIRST} LIMIT 4 * :max_posts
    ),
    suffices AS MATERIALIZED (
        SELECT CASE WHEN :max_posts > (
                SELECT count(DISTINCT author_id) FROM important AS best
                WHERE importance > :min_importance AND :posts_per_author_per_day > (
                    SELECT count(*) FROM posts AS p
                    WHERE p.author_id = best.author_id AND p.deleted_at IS NULL
                      AND p.created_at >= (CAST(:instants AS timestamptz[]))[best.day + 1]
                      AND p.created_at < (CAST(:instants AS timestamptz[]))[best.day + 2]
                      AND (p.importance > best.importance
                           OR p.importance = best.importance AND p.id < best.id)))
            THEN false
            ELSE {_ENOUGH} = (
                SELECT count(*)
                FROM (SELECT
                      FROM (SELECT post.*
                            FROM connections CROSS JOIN LATERAL (
                                SELECT author_id, id, audience FROM posts
                                WHERE author_id = connections.id AND deleted_at IS NULL
                                  AND {IN_WEEK} OFFSET 0) AS post
                            LIMIT 4 * ({_ENOUGH})) AS p
                      WHERE {SHOWN_TO_CONNECTION} LIMIT {_ENOUGH}) AS counted)
            END AS is_true
    ),
    authors AS MATERIALIZED (
        SELECT DISTINCT author_id AS id FROM important WHERE (SELECT is_true FROM suffices)
        UNION ALL
        SELECT id FROM connections WHERE NOT (SELECT is_true FROM suffices)
    ),
    given AS MATERIALIZED ({given(by="authors")}),
    visible AS (
        SELECT post.*
        FROM authors CROSS JOIN LATERAL (
            {open_posts(author="authors.id", part=f"{IN_WEEK} AND {NOT_EXCLUDED}")} OFFSET 0)
             AS post
        UNION
        SELECT post.*
        FROM given CROSS JOIN LATERAL (
            {tagged_posts(author="given.author_id", tag="given.tag_id", part=IN_WEEK)} OFFSET 0)
             AS post
        UNION
        SELECT author_id, id, created_at, importance FROM posts
        WHERE author_id = :viewer_id AND :with_own AND deleted_at IS NULL AND {IN_WEEK}
    ),
    candidates AS MATERIALIZED (SELECT p.*, {DAY} FROM visible AS p),
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
          AND NOT (highest >= {HIGH} AND importance <= {LOW_IMPORTANCE})
    ),
    chosen AS (
        SELECT author_id, id, importance, day,
               CASE WHEN is_beyond_share THEN '{Reason.FILLED_PLACE}'
                    ELSE '{Reason.IMPORTANT}' END AS reason
        FROM author_by_author
        ORDER BY is_beyond_share, importance DESC, created_at DESC, id DESC
        LIMIT :max_posts
    )
    SELECT CASE WHEN suffices.is_true THEN {MOST_LEFT_OUT}
                ELSE least({MOST_LEFT_OUT}, (SELECT count(*) FROM candidates)
                                            - (SELECT count(*) FROM chosen))
           END AS left_out_count,
           shown.*
    FROM suffices
    LEFT JOIN (
        SELECT {POST_COLUMNS}, chosen.importance, chosen.reason, chosen.day
        FROM chosen JOIN posts AS p ON p.author_id = chosen.author_id AND p.id = chosen.id
    ) AS shown ON true
    ORDER BY shown.created_at, shown.id
""",
)


def digest_choice(
    reader: Reader,
    *,
    viewer: Viewer,
    week: Week,
    read_at: datetime | None,
    rules: DigestRules,
    tag_ids: Sequence[int],
    include_own_posts: bool,
    hub_scan: HubScan,
) -> Choice:
    """The posts that the rules choose for a viewer out of a week, or of what follows `read_at`."""
    rows = reader.rows(
        _CHOICE,
        {
            **viewer.parameters,
            **week_parameters(week),
            "start": unread_start(week, read_at),
            "author_ids": viewer.connected_ids,
            "with_own": include_own_posts,
            "by_tags": bool(tag_ids),
            "tag_ids": array_literal(tag_ids),
            "with_muted": bool(tag_ids),
            "end": week.end,
            "min_importance": rules.min_importance,
            "posts_per_author_per_day": rules.posts_per_author_per_day,
            "posts_per_author": rules.posts_per_author,
            "max_posts": rules.max_posts,
            "hub_degree": hub_scan.degree,
            "hub_scan_rows": hub_scan.rows,
        },
    )
    return _choice(rows, is_frozen=False)


_FROZEN_CHOICE = Statement(
    "frozen_choice",
    f"""
    SELECT frozen.left_out_count, shown.*
    FROM frozen_digests AS frozen
    LEFT JOIN LATERAL (
        SELECT {POST_COLUMNS}, item.importance, item.reason, {DAY}
        FROM frozen_digest_items AS item
        JOIN posts AS p ON p.author_id = item.author_id AND p.id = item.post_id AND {VISIBLE}
        WHERE item.user_id = frozen.user_id AND item.start_at = frozen.start_at
          AND item.fingerprint = frozen.fingerprint
          AND (:with_muted OR {not_muted("item.author_id")})
    ) AS shown ON true
    WHERE frozen.user_id = :viewer_id AND frozen.start_at = :start
      AND frozen.fingerprint = :fingerprint
    ORDER BY shown.created_at, shown.id
""",
)


def frozen_choice(
    reader: Reader, *, viewer: Viewer, name: FrozenName, with_muted: bool
) -> Choice | None:
    """What is still shown of a frozen digest; None when it was never frozen.

    Shown are posts that the viewer may still see, by people who are not muted unless `with_muted`.
    """
    rows = reader.rows(
        _FROZEN_CHOICE,
        {
            **viewer.parameters,
            **week_parameters(name.week),
            **name.parameters,
            "with_muted": with_muted,
        },
    )
    return _choice(rows, is_frozen=True) if rows else None


# One statement, so that it needs no transaction around it. It skips posts that are being erased at
# this moment, or that a hold keeps, and locks the others until the digest is stored: erasing a
# person's posts first and then what names them leaves nothing behind.
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
                       AND p.deleted_at IS NULL
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
            **name_literals([(chosen.post.author_id, chosen.post.id) for chosen in choice.posts]),
            "left_out_count": choice.left_out_count,
            "importances": [chosen.importance for chosen in choice.posts],
            "reasons": [chosen.reason.value for chosen in choice.posts],
        },
    ).scalar_one()
    return frozen_count == 1


def week_parameters(week: Week) -> dict[str, object]:
    """What DAY has to be bound to."""
    return {"start": week.start, "instants": list(week.instants)}


def unread_start(week: Week, read_at: datetime | None) -> datetime:
    """The first moment of a week of which not all posts are read; its end may be before that.

    The moments of posts, and of read positions, are whole microseconds.
    """
    if read_at is None:
        return week.start
    return max(week.start, read_at + timedelta(microseconds=1))


def _choice(rows: Rows, *, is_frozen: bool) -> Choice:
    return Choice(
        posts=[
            ChosenPost(
                post=PostRow._make(post), importance=importance, reason=Reason(reason), day=day
            )
            for _, *post, importance, reason, day in rows
            if reason is not None
        ],
        left_out_count=rows[0][0],
        is_frozen=is_frozen,
    )
