"""The recorded changes of posts and comments: writing, reading, erasing and purging them.

A change is recorded with the COMMIT of its transaction. That costs no round trip, and few other
transactions begin between its number and its commit, for which readers have to wait.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, TextClause, text

from feed_service.models import EventKind
from feed_service.queries.comments import CommentName
from feed_service.queries.posts import PostName
from shared.database.arrays import array_literal
from shared.database.database import send_with_commit
from shared.database.event_log import EventLog, Writers
from shared.database.reader import Reader, Statement

MOST_ROWS: Final = 2_000
"""How many rows a page is made of; more than one event has, which is one for each imported post."""
_MOST_POSTS: Final = 10_000


class EventRow(NamedTuple):
    """One recorded change; the ids are 0 where it has none, and `posts` are those of an import."""

    seq: int
    kind: str
    author_id: int
    post_id: int
    comment_id: int
    comment_author_id: int
    posts: Sequence[PostName]
    occurred_at: datetime


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Which events a consumer wants: of these kinds and about these users, or all if empty."""

    kinds: Collection[EventKind] = ()
    user_ids: Collection[int] = ()


_RECORD: Final = Statement(
    "record_event",
    """
    INSERT INTO content_events (kind, author_id, post_id, comment_id, comment_author_id)
    VALUES (:kind, :author_id, :post_id, :comment_id, :comment_author_id)
""",
)


def record_post(connection: Connection, *kinds: EventKind, name: PostName) -> None:
    """Store what happens to a locked post in this transaction."""
    for kind in kinds:
        _record(connection, kind, author_id=name[0], post_id=name[1])


def record_comment(
    connection: Connection, kind: EventKind, *, name: CommentName, author_id: int
) -> None:
    """Store what happens in this transaction to a locked comment by this author."""
    _record(
        connection,
        kind,
        author_id=name[0],
        post_id=name[1],
        comment_id=name[2],
        comment_author_id=author_id,
    )


_RECORD_DELETED: Final = Statement(
    "record_deleted_comments",
    """
    INSERT INTO content_events (kind, author_id, post_id, comment_id, comment_author_id)
    SELECT CAST(:kind AS text), author_id, post_id, comment_id, comment_author_id
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:comment_ids AS bigint[]), CAST(:comment_author_ids AS bigint[]))
         AS deleted (author_id, post_id, comment_id, comment_author_id)
""",
)


def record_deleted_comments(connection: Connection, *, authors: Mapping[CommentName, int]) -> None:
    """Store that comments by these authors are deleted in this transaction, an event for each."""
    if authors:
        author_ids, post_ids, comment_ids = zip(*authors, strict=True)
        send_with_commit(
            connection,
            _RECORD_DELETED,
            {
                "kind": EventKind.COMMENT_DELETED.value,
                "author_ids": array_literal(author_ids),
                "post_ids": array_literal(post_ids),
                "comment_ids": array_literal(comment_ids),
                "comment_author_ids": array_literal(authors.values()),
            },
        )


def record_erasure(connection: Connection, *, user_id: int) -> None:
    """Store that a user is erased to the end."""
    _record(connection, EventKind.USER_ERASED, author_id=user_id)


def _record(
    connection: Connection,
    kind: EventKind,
    *,
    author_id: int,
    post_id: int | None = None,
    comment_id: int | None = None,
    comment_author_id: int | None = None,
) -> None:
    send_with_commit(
        connection,
        _RECORD,
        {
            "kind": kind.value,
            "author_id": author_id,
            "post_id": post_id,
            "comment_id": comment_id,
            "comment_author_id": comment_author_id,
        },
    )


# The number is drawn once for all rows.
_RECORD_IMPORT: Final = Statement(
    "record_import",
    """
    INSERT INTO content_events (seq, kind, author_id, post_ids)
    WITH drawn AS MATERIALIZED (SELECT nextval('content_events_seq_seq') AS seq)
    SELECT drawn.seq, CAST(:kind AS text), imported.author_id, CAST(imported.post_ids AS bigint[])
    FROM drawn
    CROSS JOIN unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS text[]))
         AS imported (author_id, post_ids)
""",
)


def record_import(connection: Connection, kind: EventKind, *, posts: Iterable[PostName]) -> None:
    """Store as one event what is imported in this transaction: posts, or comments on them."""
    by_author = defaultdict[int, list[int]](list)
    for author_id, post_id in posts:
        by_author[author_id].append(post_id)
    if by_author:
        send_with_commit(
            connection,
            _RECORD_IMPORT,
            {
                "kind": kind.value,
                "author_ids": array_literal(by_author),
                "post_ids": [array_literal(post_ids) for post_ids in by_author.values()],
            },
        )


# No more rows than a message should name posts, and of an event all rows or none: what a window
# adds up in an order it adds up to the end of equals.
_EVENT_PAGE = Statement(
    "event_page",
    """
    SELECT seq, kind, author_id, post_id, comment_id, comment_author_id, post_ids, occurred_at,
           last
    FROM (
        SELECT found.*,
               sum(coalesce(cardinality(post_ids), 1)) OVER (ORDER BY seq) AS named,
               min(seq) OVER () AS first, max(seq) OVER () AS last, count(*) OVER () AS number
        FROM (
            SELECT seq, kind, author_id, post_id, comment_id, comment_author_id, post_ids,
                   occurred_at
            FROM content_events
            WHERE seq > :after AND seq <= :until
              AND (:of_any_kind OR kind = ANY (CAST(:kinds AS text[])))
              AND (:of_anybody OR author_id = ANY (CAST(:user_ids AS bigint[]))
                               OR comment_author_id = ANY (CAST(:user_ids AS bigint[])))
            ORDER BY seq LIMIT :most_rows) AS found) AS measured
    WHERE (named <= :most_posts OR seq = first) AND (seq < last OR number < :most_rows)
    ORDER BY seq, author_id
""",
)


def event_page(
    reader: Reader,
    *,
    wanted: EventFilter,
    after: int,
    until: int,
    most_rows: int = MOST_ROWS,
    most_posts: int = _MOST_POSTS,
) -> tuple[list[EventRow], int]:
    """Wanted events behind one number and not behind another, and up to which number these are all.

    They are in order, and as many as a message should hold.
    """
    rows = reader.rows(
        _EVENT_PAGE,
        {
            "after": after,
            "until": until,
            "of_any_kind": not wanted.kinds,
            "kinds": list(wanted.kinds),
            "of_anybody": not wanted.user_ids,
            "user_ids": array_literal(wanted.user_ids),
            "most_rows": most_rows,
            "most_posts": most_posts,
        },
    )
    found = [_event(list(group)) for _, group in groupby(rows, key=lambda row: row[0])]
    is_all = not rows or rows[-1][0] == rows[-1][-1]
    return found, until if is_all else found[-1].seq


def _event(rows: Sequence[Sequence[Any]]) -> EventRow:
    """The event that is in these rows: several of an import, or one."""
    seq, kind, *ids, post_ids, occurred_at, _ = rows[0]
    if post_ids is None:
        author_id, post_id, comment_id, comment_author_id = (id_ or 0 for id_ in ids)
        posts = []
    else:
        author_id = post_id = comment_id = comment_author_id = 0
        posts = [(row[2], post_id) for row in rows for post_id in row[6]]
    return EventRow(
        seq, kind, author_id, post_id, comment_id, comment_author_id, posts, occurred_at
    )


def event_log(reader: Reader, *, writers: Sequence[Writers] = ()) -> EventLog:
    """What must be known of the events to tell each once."""
    return EventLog(
        reader,
        events="content_events",
        erased="erased_content_events",
        purged="purged_content_events",
        writers=writers,
    )


_NOTE_ERASED = text("""
    INSERT INTO erased_content_events (seq, occurred_at)
    SELECT seq, occurred_at
    FROM unnest(CAST(:numbers AS bigint[]), CAST(:times AS timestamptz[]))
         AS erased (seq, occurred_at)
    ON CONFLICT DO NOTHING
""")

# That of an erasure stays: it is how consumers learn what to erase.
_ERASE_OF_AUTHOR = text("""
    DELETE FROM content_events AS event
    USING (SELECT seq FROM content_events
           WHERE author_id = :user_id AND kind <> 'user_erased'
           ORDER BY seq LIMIT :limit FOR UPDATE) AS found
    WHERE event.author_id = :user_id AND event.seq = found.seq
    RETURNING event.seq, event.occurred_at
""")


def erase_events_of_author(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many events there were of the user's posts and of comments on these; they are gone."""
    return _erase(connection, _ERASE_OF_AUTHOR, user_id=user_id, limit=limit)


# Without an order, for which the events of all users would be read; rows of several shards could
# not be locked in one. Of two erasures that wait for each other one is repeated.
_ERASE_OF_COMMENTS = text("""
    DELETE FROM content_events AS event
    USING (SELECT author_id, seq FROM content_events
           WHERE comment_author_id = :user_id LIMIT :limit) AS found
    WHERE event.author_id = found.author_id AND event.seq = found.seq
    RETURNING event.seq, event.occurred_at
""")


def erase_events_of_comments(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many events there were of comments by the user; they are gone."""
    return _erase(connection, _ERASE_OF_COMMENTS, user_id=user_id, limit=limit)


def _erase(connection: Connection, statement: TextClause, *, user_id: int, limit: int) -> int:
    """Erase events in one of these ways; their numbers and times are noted."""
    erased = connection.execute(statement, {"user_id": user_id, "limit": limit}).all()
    if erased:
        connection.execute(
            _NOTE_ERASED,
            {
                "numbers": array_literal(seq for seq, _ in erased),
                "times": [occurred_at for _, occurred_at in erased],
            },
        )
    return len(erased)


# By their numbers, which grow with time, so that no index on time is needed.
_NEWEST_OLD = text("""
    SELECT seq, occurred_at
    FROM (SELECT seq, occurred_at FROM content_events ORDER BY seq LIMIT :limit) AS lowest
    WHERE occurred_at < now() - CAST(:age AS interval)
    ORDER BY seq DESC LIMIT 1
""")
_NOTE_PURGE = text("""
    INSERT INTO purged_content_events AS p (until_seq, occurred_at) VALUES (:until, :occurred_at)
    ON CONFLICT (is_single) DO UPDATE
    SET until_seq = excluded.until_seq, occurred_at = excluded.occurred_at
    WHERE excluded.until_seq > p.until_seq
""")


def note_purge(connection: Connection, *, age: timedelta, limit: int) -> bool:
    """Whether events were found that are older than that; they are noted, up to `limit` rows.

    A transaction of its own: on several nodes a reader could miss an event before it can see that
    it was purged.
    """
    for until, occurred_at in connection.execute(_NEWEST_OLD, {"age": age, "limit": limit}):
        noted = connection.execute(_NOTE_PURGE, {"until": until, "occurred_at": occurred_at})
        return noted.rowcount > 0
    return False


_PURGED_UNTIL = text("SELECT coalesce(max(until_seq), 0) FROM purged_content_events")
_PURGE = text("DELETE FROM content_events WHERE seq <= :until")
_FORGET_ERASED = text("DELETE FROM erased_content_events WHERE seq < :until")


def purge_events(connection: Connection) -> None:
    """Delete the events that were noted."""
    until = connection.execute(_PURGED_UNTIL).scalar_one()
    if until:
        for statement in (_PURGE, _FORGET_ERASED):
            connection.execute(statement, {"until": until})
