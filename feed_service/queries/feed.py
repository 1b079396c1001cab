"""The page of a feed, by the streams of `visibility_streams`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from feed_service.models import ALL, TAGS
from feed_service.queries.posts import POST_COLUMNS, PostRow
from feed_service.settings import HubScan
from feed_service.viewers import Viewer
from feed_service.visibility_streams import (
    CONNECTIONS,
    NOT_EXCLUDED,
    SHOWN_TO_CONNECTION,
    given,
    open_posts,
    shown_post,
    tag_bit,
    tag_entries,
    tagged_posts,
)
from shared.database.arrays import array_literal
from shared.database.reader import Reader, Statement


@dataclass(frozen=True, kw_only=True)
class FeedPart:
    """A part of a feed: the posts between two positions in its order.

    `seen_ids` are posts that are left out because the reader has them already. `guess` is a time
    down to which a page of posts is expected, if there is any expectation: it changes what the page
    costs, never what is on it.
    """

    before: tuple[datetime, int]
    after: tuple[datetime, int]
    seen_ids: Sequence[int] = ()
    guess: datetime | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """What IN_PART and the guess have to be bound to."""
        return {
            "before_time": self.before[0],
            "before_id": self.before[1],
            "after_time": self.after[0],
            "after_id": self.after[1],
            "seen_ids": array_literal(self.seen_ids),
            "guessed_time": self.guess,
        }


@dataclass(frozen=True, kw_only=True)
class FeedFilter:
    """The authors whose posts of a viewer's feed are wanted.

    `author_ids` is the literal of connections of the viewer; when there are `tag_ids`, only
    connections that the viewer has given one of these tags. Unless `with_muted`, only those that
    the viewer has not muted.
    """

    author_ids: str
    tag_ids: Sequence[int] = ()
    with_own: bool = True
    with_muted: bool = False


IN_PART: Final = """(created_at, id) < (:before_time, :before_id)
          AND (created_at, id) > (:after_time, :after_id)
          AND id <> ALL (CAST(:seen_ids AS bigint[]))"""
"""Whether an entry is in a part of a feed. To be bound to `FeedPart.parameters`."""

_ABOVE_THRESHOLD: Final = """(created_at, id) <= (head.created_at, head.id)
          AND (created_at, id) >= (threshold.created_at, threshold.id)
          AND (created_at, id) > (:after_time, :after_id)
          AND id <> ALL (CAST(:seen_ids AS bigint[]))"""

_DOWN_TO_GUESS: Final = f"{IN_PART} AND created_at >= :guessed_time"

NEWEST: Final = "ORDER BY created_at DESC, id DESC LIMIT"
"""The order of a feed, and how many of its first ones."""

_SAMPLED_PART: Final = 16
"""A hub looks at this part of the rows first, 1 / 16, and decides by it whether to go on."""

_SAMPLE_ROWS: Final = f"(:hub_scan_rows + {_SAMPLED_PART - 1}) / {_SAMPLED_PART}"

_MOST_SAMPLED: Final = f"""(
                  SELECT CASE WHEN count(*) >= :hub_degree THEN {_SAMPLE_ROWS} ELSE 0 END
                  FROM connections)"""

_MOST_FURTHER: Final = f"""(
                  SELECT CASE WHEN count(*) < :limit AND count(*) * {_SAMPLED_PART} >= :limit
                         THEN :hub_scan_rows - {_SAMPLE_ROWS} ELSE 0 END
                  FROM sample)"""

_BEHIND_SAMPLE: Final = """(created_at, id) < (
                  (SELECT created_at FROM sample ORDER BY created_at, id LIMIT 1),
                  (SELECT id FROM sample ORDER BY created_at, id LIMIT 1))"""


_MOST_ENTRIES: Final = "(12 * :limit)"
"""How many entries a guess may cost; of a good one there are about three times :limit."""

_IS_SHORT: Final = "(SELECT count(*) FROM recent) < :limit"
"""Whether what was found without the streams does not fill the page."""

_TELLS_ITS_HEAD: Final = "open_until > '-infinity' AND open_until <= :before_time"
"""Whether a bound is not far from the newest open post of its author in the part."""


def _of_everybody(part: str, *, most: str) -> str:
    """The query for what is visible among so many posts of everybody, the newest of a part."""
    return f"""
        SELECT p.author_id, p.id, p.created_at
        FROM (SELECT author_id, id, created_at, audience, deleted_at FROM posts
              WHERE deleted_at IS NULL AND {part}
              {NEWEST} {most}) AS p
        WHERE (p.author_id IN (SELECT id FROM connections)) IS TRUE AND {SHOWN_TO_CONNECTION}
        {NEWEST} :limit"""


# The steps of a page, in their order:
#
# all_given   behind the first page alone: the tags that the connections have given to the viewer.
# guessed     behind the first page alone: the entries of all streams down to the guessed time, with
#             one scan of an index for the posts for ALL. Without a guess there are none.
# sample      for hubs alone: the visible ones among the newest posts of everybody, a sixteenth
#             of :hub_scan_rows.
# recent      behind the first page: the newest visible ones of the guessed, unless these are too
#             many. For hubs: the sample and, unless it fills the page, the visible ones among the
#             rest of :hub_scan_rows; but the rest is read only if the sample says that it fills the
#             page. If the page is found here, nothing of the streams is read, nor what they start
#             from. A hub that hears from few goes on to the streams, and so does everybody after a
#             bad guess.
# bounds      how new the posts of each connection are at most, without those that have none. They
#             are never too low, and a bound that is too high costs a probe below.
# floor       the oldest of :limit visible posts, of the authors whose bounds are the highest. No
#             post of the page is older, so whose bound is lower is done with. -infinity where the
#             bounds do not tell.
# tagging     the authors from whose tags something may be on the page.
# given       the tags that these have given to the viewer, if their posts have ever named them.
# heads       the newest entry of every other stream, one probe of an index each and nothing else.
# threshold   the :limit-th newest of those that show a post to the viewer; they are asked from the
#             newest on, so that hardly more than a page of them is. There are :limit posts at it or
#             newer, so nothing older is on the page, and streams whose head is older are done with.
# above       what the other streams show down to there, no more than a page of each.
# page        the newest of all that. A post may be in several streams, hence UNION.
#
# WITH ... AS MATERIALIZED keeps the steps in this order. `IS TRUE` keeps PostgreSQL from turning
# `recent` into a join, which would read everything before it returned the newest. FULL JOIN is no
# nested loop, which PostgreSQL would choose for the few rows that it expects; OFFSET 0 keeps it a
# FULL JOIN.

_RECENT: Final = f"""
    sample AS MATERIALIZED ({_of_everybody(IN_PART, most=_MOST_SAMPLED)}),
    recent AS MATERIALIZED (
        SELECT author_id, id, created_at FROM sample
        UNION ALL
        ({_of_everybody(f"{IN_PART} AND {_BEHIND_SAMPLE}", most=_MOST_FURTHER)})
        {NEWEST} :limit
    ),"""

# NOT MATERIALIZED lets PostgreSQL leave out a step that gives nothing.
_NO_RECENT: Final = """
    recent AS NOT MATERIALIZED (
        SELECT CAST(NULL AS bigint) AS author_id, CAST(NULL AS bigint) AS id,
               CAST(NULL AS timestamptz) AS created_at
        WHERE false
    ),"""

# OFFSET 0 makes each tag a probe of its index, whatever PostgreSQL expects.
_GUESSED: Final = f"""
    all_given AS MATERIALIZED ({given(by="connections")}),
    guessed AS MATERIALIZED (
        SELECT author_id, CAST(NULL AS bigint) AS tag_id, id, created_at
        FROM posts AS p
        WHERE author_id = ANY (ARRAY(SELECT id FROM connections))
          AND audience = '{ALL}' AND deleted_at IS NULL AND {_DOWN_TO_GUESS}
        UNION ALL
        SELECT given.author_id, given.tag_id, entry.id, entry.created_at
        FROM all_given AS given CROSS JOIN LATERAL (
            {tag_entries(author="given.author_id", tag="given.tag_id", part=_DOWN_TO_GUESS)}
            OFFSET 0) AS entry
        LIMIT {_MOST_ENTRIES}
    ),
    recent AS MATERIALIZED (
        SELECT entry.author_id, entry.id, entry.created_at
        FROM (SELECT DISTINCT ON (created_at, id) author_id, tag_id, id, created_at FROM guessed
              ORDER BY created_at DESC, id DESC OFFSET 0) AS entry
        WHERE (SELECT count(*) FROM guessed) < {_MOST_ENTRIES}
          AND CASE WHEN entry.tag_id IS NULL
                   THEN (SELECT {NOT_EXCLUDED} FROM (SELECT entry.author_id, entry.id) AS p)
                   ELSE EXISTS ({shown_post("entry", audiences=(ALL, TAGS))}) END
        LIMIT :limit
    ),"""

_BOUNDS: Final = f"""
    bounds AS MATERIALIZED (
        SELECT author_id, open_until, tagged_until, named_tags FROM authors
        WHERE author_id = ANY (ARRAY(SELECT id FROM connections))
          AND greatest(open_until, tagged_until) >= :after_time
          AND {_IS_SHORT}
    ),
    floor AS MATERIALIZED (
        SELECT CASE WHEN count(*) = :limit THEN min(created_at) ELSE '-infinity' END AS created_at
        FROM (SELECT p.created_at
              FROM (SELECT author_id FROM bounds
                    WHERE {_TELLS_ITS_HEAD}
                      AND :limit <= (SELECT count(*) FROM bounds WHERE {_TELLS_ITS_HEAD})
                    ORDER BY open_until DESC OFFSET 0) AS latest
              CROSS JOIN LATERAL (
                  {open_posts(author="latest.author_id", part=IN_PART)} {NEWEST} 1) AS p
              WHERE {NOT_EXCLUDED}
              LIMIT :limit) AS found
    ),
    tagging AS MATERIALIZED (
        SELECT author_id AS id, named_tags FROM bounds, floor WHERE tagged_until >= floor.created_at
    ),
    given AS MATERIALIZED (
        SELECT author_id, tag_id
        FROM (SELECT given.author_id, given.tag_id, tagging.named_tags
              FROM tagging FULL JOIN ({given(by="tagging")}) AS given
                ON given.author_id = tagging.id
              OFFSET 0) AS given
        WHERE named_tags & ({tag_bit("tag_id")}) <> 0
    ),"""

_NO_BOUNDS: Final = f"""
    bounds AS NOT MATERIALIZED (
        SELECT id AS author_id, CAST('infinity' AS timestamptz) AS open_until,
               CAST('infinity' AS timestamptz) AS tagged_until
        FROM connections WHERE {_IS_SHORT}
    ),
    floor AS NOT MATERIALIZED (SELECT CAST('-infinity' AS timestamptz) AS created_at),
    given AS NOT MATERIALIZED (SELECT author_id, tag_id FROM all_given WHERE {_IS_SHORT}),"""


def _page(name: str, *, recent: str, bounds: str) -> Statement:
    return Statement(
        name,
        f"""
    WITH connections AS MATERIALIZED ({CONNECTIONS}),
    {recent}
    {bounds}
    heads AS MATERIALIZED (
        SELECT bounds.author_id, CAST(NULL AS bigint) AS tag_id, head.created_at, head.id
        FROM floor, bounds CROSS JOIN LATERAL (
            {open_posts(author="bounds.author_id", part=IN_PART)} {NEWEST} 1) AS head
        WHERE bounds.open_until >= floor.created_at AND bounds.open_until > '-infinity'
        UNION ALL
        SELECT given.author_id, given.tag_id, head.created_at, head.id
        FROM given CROSS JOIN LATERAL (
            {tag_entries(author="given.author_id", tag="given.tag_id", part=IN_PART)}
            {NEWEST} 1) AS head
    ),
    threshold AS MATERIALIZED (
        SELECT coalesce(max(created_at), '-infinity') AS created_at, coalesce(max(id), 0) AS id
        FROM (SELECT head.created_at, head.id
              FROM (SELECT DISTINCT ON (created_at, id) author_id, created_at, id FROM heads
                    ORDER BY created_at DESC, id DESC OFFSET 0) AS head
              WHERE EXISTS ({shown_post("head", audiences=(ALL, TAGS))})
              LIMIT 1 OFFSET :limit - 1) AS last
    ),
    above AS (
        SELECT entry.author_id, entry.id, entry.created_at
        FROM threshold, heads AS head, LATERAL (
            {open_posts(author="head.author_id", part=f"{_ABOVE_THRESHOLD} AND {NOT_EXCLUDED}")}
            {NEWEST} :limit) AS entry
        WHERE head.tag_id IS NULL
          AND (head.created_at, head.id) >= (threshold.created_at, threshold.id)
        UNION ALL
        SELECT entry.author_id, entry.id, entry.created_at
        FROM threshold, heads AS head, LATERAL (
            {tagged_posts(author="head.author_id", tag="head.tag_id", part=_ABOVE_THRESHOLD)}
            {NEWEST} :limit) AS entry
        WHERE head.tag_id IS NOT NULL
          AND (head.created_at, head.id) >= (threshold.created_at, threshold.id)
    ),
    own AS (
        SELECT author_id, id, created_at FROM posts
        WHERE author_id = :viewer_id AND :with_own AND deleted_at IS NULL AND {IN_PART}
        {NEWEST} :limit
    ),
    page AS (
        SELECT author_id, id, created_at FROM recent
        UNION SELECT author_id, id, created_at FROM above
        UNION SELECT author_id, id, created_at FROM own
        {NEWEST} :limit
    )
    SELECT {POST_COLUMNS}
    FROM page JOIN posts AS p ON p.author_id = page.author_id AND p.id = page.id
    ORDER BY p.created_at DESC, p.id DESC
""",
    )


_FIRST_PAGE: Final = _page("feed_page", recent=_NO_RECENT, bounds=_BOUNDS)

_FURTHER_PAGE: Final = _page("further_feed_page", recent=_GUESSED, bounds=_NO_BOUNDS)
"""Behind the first page most bounds are above :before_time and leave out few authors; but the page
before tells how far this one is likely to reach."""

_PAGE_OF_HUB: Final = _page("feed_page_of_hub", recent=_RECENT, bounds=_BOUNDS)


def _statement(among: FeedFilter, part: FeedPart, hub_scan: HubScan) -> Statement:
    """Return the form of the page that costs least; all of them give the same rows.

    One form for all would cost ordinary pages a sixth more, for steps that they do not take.
    """
    if among.author_ids.count(",") >= hub_scan.degree - 1:
        return _PAGE_OF_HUB
    return _FIRST_PAGE if part.before[0] > datetime.now(UTC) else _FURTHER_PAGE


def feed_page(
    reader: Reader,
    *,
    viewer: Viewer,
    among: FeedFilter,
    part: FeedPart,
    limit: int,
    hub_scan: HubScan,
) -> list[PostRow]:
    """Up to `limit` posts of a part of the viewer's feed, newest first."""
    rows = reader.rows(
        _statement(among, part, hub_scan),
        {
            **viewer.parameters,
            "author_ids": among.author_ids,
            "by_tags": bool(among.tag_ids),
            "tag_ids": array_literal(among.tag_ids),
            "with_own": among.with_own,
            "with_muted": among.with_muted,
            **part.parameters,
            "limit": limit,
            "hub_degree": hub_scan.degree,
            "hub_scan_rows": hub_scan.rows,
        },
    )
    return [PostRow._make(row) for row in rows]
