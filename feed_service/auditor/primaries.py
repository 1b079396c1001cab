"""The auditor's own reads of both primary databases.

The facts of each database are of one snapshot. The statements are plain on purpose: they return
rows as they are stored, and no condition in them decides who sees what. No text is among the
columns, so the role that reads them needs no right to read texts: see deploy/postgres/auditor.sql.
"""

import random
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ

from feed_service.auditor.facts import AudienceTag, Comment, Facts, Mute, Post, Relation
from feed_service.auditor.items import Item
from kith.exceptions import UnavailableError
from shared.database import positions
from shared.database.arrays import array_literal
from shared.database.database import address, connect_arguments
from shared.database.settings import DatabaseSettings
from shared.database.statement import GENERIC_PLANS, Statement

Rows: TypeAlias = Sequence[tuple[Any, ...]]

_NAME: Final = "kith auditor"

_RELATIONS: Final = Statement(
    "audit_relations",
    """
    SELECT person.id, c.id, coalesce(c.status = 'accepted', false),
           coalesce(CASE WHEN person.id > :viewer THEN e.user_a_revision
                         ELSE e.user_b_revision END, 0),
           coalesce(CASE WHEN person.id > :viewer THEN e.user_b_revision
                         ELSE e.user_a_revision END, 0),
           b.blocker_id IS NOT NULL OR r.blocker_id IS NOT NULL,
           s.user_id IS NOT NULL, coalesce(er.revision, 0), coalesce(u.revision, 0),
           coalesce((SELECT max(revision) FROM suspension_changes), 0)
    FROM unnest(CAST(:people AS bigint[])) AS person (id)
    LEFT JOIN connections AS c ON c.user_a_id = least(person.id, :viewer)
                              AND c.user_b_id = greatest(person.id, :viewer)
    LEFT JOIN endings AS e ON e.user_a_id = least(person.id, :viewer)
                          AND e.user_b_id = greatest(person.id, :viewer)
    LEFT JOIN blocks AS b ON b.blocker_id = :viewer AND b.blocked_id = person.id
    LEFT JOIN blocks AS r ON r.blocker_id = person.id AND r.blocked_id = :viewer
    LEFT JOIN suspensions AS s ON s.user_id = person.id
    LEFT JOIN erasures AS er ON er.user_id = person.id
    LEFT JOIN users AS u ON u.user_id = person.id""",
)
_ASKED: Final = """
    unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]))
        AS asked (author_id, post_id)"""

_POSTS: Final = Statement(
    "audit_posts",
    f"""
    SELECT p.author_id, p.id, p.created_at, coalesce(p.chosen_audience, p.audience),
           p.moderated_at IS NOT NULL, p.deleted_at IS NOT NULL, CAST(p.xmin AS text)
    FROM {_ASKED}
    JOIN posts AS p ON p.author_id = asked.author_id AND p.id = asked.post_id""",
)
_AUDIENCES: Final = Statement(
    "audit_audiences",
    f"""
    SELECT a.author_id, a.post_id, a.tag_id, a.excluded, tag.deleted_at IS NOT NULL,
           given.owner_revision,
           concat_ws(' ', a.xmin, tag.xmin, tag.xmax, given.xmin)
    FROM {_ASKED}
    JOIN post_audience_tags AS a ON a.author_id = asked.author_id AND a.post_id = asked.post_id
    JOIN tags AS tag ON tag.owner_user_id = a.author_id AND tag.id = a.tag_id
    LEFT JOIN user_tags AS given ON given.owner_user_id = a.author_id AND given.tag_id = a.tag_id
                                AND given.target_user_id = :viewer
    ORDER BY a.author_id, a.post_id, a.tag_id""",
)
_COMMENT: Final = """{0}.id, {0}.author_id, {0}.deleted_at IS NOT NULL,
           {0}.moderated_at IS NOT NULL, {0}.hidden, CAST({0}.xmin AS text)"""

_COMMENTS: Final = Statement(
    "audit_comments",
    f"""
    SELECT c.post_author_id, c.post_id, {_COMMENT.format("c")}, {_COMMENT.format("parent")}
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:comment_ids AS bigint[])) AS asked (author_id, post_id, comment_id)
    JOIN comments AS c ON c.post_author_id = asked.author_id AND c.post_id = asked.post_id
                      AND c.id = asked.comment_id
    LEFT JOIN comments AS parent ON parent.post_author_id = c.post_author_id
                                AND parent.post_id = c.post_id AND parent.id = c.parent_id""",
)
_MUTES: Final = Statement(
    "audit_mutes",
    """
    SELECT given.target_user_id, tag.id, given.owner_revision, CAST(given.xmin AS text)
    FROM tags AS tag
    JOIN user_tags AS given ON given.owner_user_id = tag.owner_user_id AND given.tag_id = tag.id
    WHERE tag.owner_user_id = :viewer AND tag.deleted_at IS NULL AND tag.muted_until > now()
      AND given.target_user_id = ANY (CAST(:people AS bigint[]))
    ORDER BY given.target_user_id, tag.id""",
)
_OWN_TAGS: Final = Statement(
    "audit_own_tags",
    """
    SELECT coalesce(string_agg(concat_ws(' ', id, xmin, xmax), ',' ORDER BY id), '')
    FROM tags WHERE owner_user_id = :viewer""",
)
_ERASED: Final = Statement(
    "audit_erased",
    """
    SELECT user_id, revision FROM erased_users
    WHERE user_id = ANY (CAST(:people AS bigint[]))""",
)
_SOME_USER: Final = Statement(
    "audit_some_user",
    """
    SELECT user_id FROM users
    WHERE user_id >= (SELECT least + CAST(CAST(:share AS float) * (most - least) AS bigint)
                      FROM (SELECT min(user_id), max(user_id) FROM users) AS ends (least, most))
    ORDER BY user_id LIMIT 1""",
)
_IS_REPLICA: Final = Statement("audit_is_replica", "SELECT pg_is_in_recovery()")

# Without Citus there is no such catalog, and a statement that names it cannot even be planned.
_HAS_CITUS: Final = Statement(
    "audit_has_citus", "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
)
_IS_DISTRIBUTED: Final = Statement(
    "audit_is_distributed",
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE partmethod = 'h')",
)

_HERE: Final = Statement("audit_here", positions.HERE)

_CHANGED_PAIRS: Final = Statement(
    "audit_changed_pairs",
    """
    SELECT actor_id, peer_id FROM connection_events ORDER BY seq DESC LIMIT 50""",
)
_CHANGED_AUTHORS: Final = Statement(
    "audit_changed_authors",
    "SELECT author_id FROM content_events ORDER BY seq DESC LIMIT 50",
)
_PEERS: Final = Statement(
    "audit_peers",
    """
    (SELECT id FROM (
         SELECT user_b_id FROM connections WHERE user_a_id = :viewer AND status = 'accepted'
         UNION ALL
         SELECT user_a_id FROM connections WHERE user_b_id = :viewer AND status = 'accepted'
     ) AS connected (id) ORDER BY random() LIMIT :connections)
    UNION
    (SELECT id FROM (
         SELECT user_b_id FROM endings WHERE user_a_id = :viewer
         UNION ALL
         SELECT user_a_id FROM endings WHERE user_b_id = :viewer
     ) AS former (id) ORDER BY random() LIMIT :others)
    UNION
    (SELECT id FROM (
         SELECT blocked_id FROM blocks WHERE blocker_id = :viewer
         UNION ALL
         SELECT blocker_id FROM blocks WHERE blocked_id = :viewer
     ) AS blocked (id) ORDER BY random() LIMIT :others)""",
)
_GIVERS: Final = Statement(
    "audit_givers",
    """
    SELECT owner_user_id FROM user_tags WHERE target_user_id = :viewer
    ORDER BY random() LIMIT :others""",
)
_CANDIDATES: Final = Statement(
    "audit_candidates",
    """
    SELECT author.id, post.id
    FROM unnest(CAST(:people AS bigint[])) AS author (id)
    CROSS JOIN LATERAL (
        (SELECT id FROM posts WHERE author_id = author.id ORDER BY id DESC LIMIT 8)
        UNION
        (SELECT post_id FROM post_audience_tags WHERE author_id = author.id
         ORDER BY post_id DESC LIMIT 8)
        UNION
        (SELECT id FROM posts
         WHERE author_id = author.id
           AND id <= (SELECT CAST(CAST(:share AS float) * max(id) AS bigint) FROM posts
                      WHERE author_id = author.id)
         ORDER BY id DESC LIMIT 3)) AS post (id)""",
)
_COMMENT_CANDIDATES: Final = Statement(
    "audit_comment_candidates",
    f"""
    SELECT asked.author_id, asked.post_id, c.id
    FROM {_ASKED}
    CROSS JOIN LATERAL (
        SELECT id FROM comments
        WHERE post_author_id = asked.author_id AND post_id = asked.post_id
        ORDER BY id DESC LIMIT 8) AS c""",
)
SUSPENSION_SECONDS: Final = 10.0
"""How long after a suspension the calls of the suspended person may still be answered."""
_MOST_CONNECTIONS: Final = 12
_MOST_OTHERS: Final = 6
_STRANGERS: Final = 2


class Primary:
    """One session with a primary database, which may only read. For one thread.

    It is opened when it is needed, and anew after an error.
    """

    def __init__(self, settings: DatabaseSettings, url: str) -> None:
        self._arguments = {
            **address(url),
            **connect_arguments(settings, name=_NAME, options=GENERIC_PLANS),
        }
        self._prepares = settings.prepare
        self._session: Any = None
        self._prepared = set[str]()

    @contextmanager
    def snapshot(self) -> Iterator["Snapshot"]:
        """Read one state of the database in the block.

        Raises UnavailableError when the database cannot be reached, or is distributed.
        """
        try:
            session = self._opened()
            with session, session.cursor() as cursor:
                yield Snapshot(cursor, prepared=self._prepared if self._prepares else None)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.close()
            raise UnavailableError("the auditor cannot read a database") from error

    def check(self) -> None:
        """Raise UnavailableError unless the database can be read, on one PostgreSQL, a primary."""
        with self.snapshot() as snapshot:
            [(is_replica,)] = snapshot.rows(_IS_REPLICA)
        if is_replica:
            raise UnavailableError("the auditor must read a primary, and this is a replica")

    def close(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _opened(self) -> Any:
        if self._session is None:
            self._prepared.clear()
            self._session = psycopg2.connect(**self._arguments)
            self._session.set_session(ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
            # The layout is changed while no service runs, so each session is asked once.
            if self._is_distributed(self._session):
                self.close()
                raise UnavailableError("the auditor cannot read a database that is distributed")
        return self._session

    @staticmethod
    def _is_distributed(session: Any) -> bool:
        with session, session.cursor() as cursor:
            snapshot = Snapshot(cursor, prepared=None)
            [(has_citus,)] = snapshot.rows(_HAS_CITUS)
            return bool(has_citus and snapshot.rows(_IS_DISTRIBUTED)[0][0])


class Snapshot:
    """The statements of one snapshot, `prepared` once for each session; None if they must not be.

    To plan these statements takes several times as long as to run them.
    """

    def __init__(self, cursor: Any, *, prepared: set[str] | None) -> None:
        self._cursor = cursor
        self._prepared = prepared

    def rows(self, statement: Statement, parameters: Mapping[str, object] | None = None) -> Rows:
        """Return the rows of a statement."""
        if self._prepared is None:
            self._cursor.execute(statement.plain, parameters or {})
        else:
            if statement.name not in self._prepared:
                self._cursor.execute(statement.preparation)
                self._prepared.add(statement.name)
            self._cursor.execute(statement.execute, parameters or {})
        rows: Rows = self._cursor.fetchall()
        return rows


class Primaries:
    """Both primary databases. For one thread."""

    def __init__(
        self,
        graph: Primary,
        feed: Primary,
        *,
        pick: random.Random,
        suspension_seconds: float = SUSPENSION_SECONDS,
    ) -> None:
        """Take it that processes know whose calls to refuse after so many seconds."""
        self.graph = graph
        self.feed = feed
        self._pick = pick
        self._suspension_seconds = suspension_seconds
        self._suspensions = 0
        self._suspended_at = 0.0

    def facts(self, viewer_id: int, items: Collection[Item]) -> Facts:
        """Return what decides whether a viewer sees some items, as of now."""
        taken_at = time.monotonic()
        posts = sorted({item.post for item in items})
        comments = sorted(item for item in items if item.comment_id)
        with self.feed.snapshot() as snapshot:
            asked = {"viewer": viewer_id, **_arrays(posts)}
            found = _comments(snapshot.rows(_COMMENTS, _arrays(comments)))
            people = {viewer_id, *(post.author_id for post in posts)}
            for comment in found.values():
                people.add(comment.author_id)
                if comment.parent is not None:
                    people.add(comment.parent.author_id)
            among = {"viewer": viewer_id, "people": array_literal(people)}
            stored = _posts(snapshot.rows(_POSTS, asked), snapshot.rows(_AUDIENCES, asked))
            mutes = _mutes(snapshot.rows(_MUTES, among))
            [(own_tags,)] = snapshot.rows(_OWN_TAGS, among)
            erased = {row[0]: row[1] for row in snapshot.rows(_ERASED, among)}
        with self.feed.snapshot() as snapshot:
            [here] = snapshot.rows(_HERE)
        with self.graph.snapshot() as snapshot:
            relations = snapshot.rows(_RELATIONS, among)
        return Facts(
            viewer_id=viewer_id,
            taken_at=taken_at,
            position=positions.issue("feed", positions.Position.of(*here)),
            suspensions=relations[0][-1],
            are_suspensions_known=self._are_known(relations[0][-1]),
            relations={row[0]: _relation(row) for row in relations},
            erased=erased,
            posts=stored,
            comments=found,
            mutes=mutes,
            own_tags=own_tags,
        )

    def some_viewer(self) -> int | None:
        """Return a user: any, or one whom a late change concerns; None if there is no user."""
        share = {"share": self._pick.random()}
        with self.graph.snapshot() as snapshot:
            changed = [user_id for row in snapshot.rows(_CHANGED_PAIRS) for user_id in row]
            anybody = [user_id for (user_id,) in snapshot.rows(_SOME_USER, share)]
        with self.feed.snapshot() as snapshot:
            authors = [author_id for (author_id,) in snapshot.rows(_CHANGED_AUTHORS)]
        kinds = [[each for each in kind if each] for kind in (changed, authors, anybody)]
        viewers: list[int] = [self._pick.choice(kind) for kind in kinds if kind]
        if not viewers:
            return None
        chosen = self._pick.choice(viewers)
        # Who sees what an author has just changed are others.
        peers = self._peers(chosen) if self._pick.random() < 1 / 2 else []
        return self._pick.choice([chosen, *peers])

    def candidates(self, viewer_id: int, *, most_posts: int, most_comments: int) -> set[Item]:
        """Return posts and comments of people who have, or had, to do with a viewer."""
        people = {viewer_id, *self._peers(viewer_id)}
        with self.graph.snapshot() as snapshot:
            for _ in range(_STRANGERS):
                found = snapshot.rows(_SOME_USER, {"share": self._pick.random()})
                people.update(user_id for (user_id,) in found)
        with self.feed.snapshot() as snapshot:
            givers = snapshot.rows(_GIVERS, {"viewer": viewer_id, "others": _MOST_OTHERS})
            people.update(user_id for (user_id,) in givers)
            posts = [
                Item(*row)
                for row in snapshot.rows(
                    _CANDIDATES,
                    {"people": array_literal(people), "share": self._pick.random()},
                )
            ]
            posts = self._pick.sample(posts, min(len(posts), most_posts))
            comments = [Item(*row) for row in snapshot.rows(_COMMENT_CANDIDATES, _arrays(posts))]
        return {*posts, *self._pick.sample(comments, min(len(comments), most_comments))}

    def close(self) -> None:
        """End both sessions."""
        self.graph.close()
        self.feed.close()

    def _are_known(self, suspensions: int) -> bool:
        now = time.monotonic()
        if suspensions != self._suspensions:
            self._suspensions, self._suspended_at = suspensions, now
        return now >= self._suspended_at + self._suspension_seconds

    def _peers(self, user_id: int) -> list[int]:
        with self.graph.snapshot() as snapshot:
            parameters = {
                "viewer": user_id,
                "connections": _MOST_CONNECTIONS,
                "others": _MOST_OTHERS,
            }
            return [peer_id for (peer_id,) in snapshot.rows(_PEERS, parameters)]


def _arrays(items: Sequence[Item]) -> dict[str, str]:
    return {
        "author_ids": array_literal(item.author_id for item in items),
        "post_ids": array_literal(item.post_id for item in items),
        "comment_ids": array_literal(item.comment_id for item in items),
    }


def _relation(row: tuple[Any, ...]) -> Relation:
    _, connection_id, is_accepted, own, theirs, is_blocked, is_suspended, erasure, revision, _ = row
    return Relation(
        connection_id=connection_id,
        is_accepted=is_accepted,
        viewer_ending=own,
        peer_ending=theirs,
        is_blocked=is_blocked,
        is_suspended=is_suspended,
        erasure=erasure,
        revision=revision,
    )


def _posts(rows: Rows, audiences: Rows) -> dict[Item, Post]:
    tags = defaultdict[Item, list[AudienceTag]](list)
    for author_id, post_id, tag_id, is_excluded, is_deleted, given_at, written_by in audiences:
        tags[Item(author_id, post_id)].append(
            AudienceTag(
                tag_id=tag_id,
                is_excluded=is_excluded,
                is_deleted=is_deleted,
                given_at=given_at,
                written_by=written_by,
            )
        )
    return {
        (item := Item(author_id, post_id)): Post(
            created_at=created_at,
            audience=audience,
            is_moderated=is_moderated,
            is_deleted=is_deleted,
            written_by=written_by,
            tags=tuple(tags[item]),
        )
        for author_id, post_id, created_at, audience, is_moderated, is_deleted, written_by in rows
    }


def _comments(rows: Rows) -> dict[Item, Comment]:
    def comment(row: Sequence[Any], parent: Comment | None = None) -> Comment:
        _, author_id, is_deleted, is_moderated, is_hidden, written_by = row
        return Comment(
            author_id=author_id,
            is_deleted=is_deleted,
            is_moderated=is_moderated,
            is_hidden=is_hidden,
            written_by=written_by,
            parent=parent,
        )

    found = {}
    for author_id, post_id, *both in rows:
        own, parents = both[:6], both[6:]
        parent = None if parents[0] is None else comment(parents)
        found[Item(author_id, post_id, own[0])] = comment(own, parent)
    return found


def _mutes(rows: Rows) -> dict[int, tuple[Mute, ...]]:
    mutes = defaultdict[int, tuple[Mute, ...]](tuple)
    for user_id, tag_id, given_at, written_by in rows:
        mutes[user_id] += (Mute(tag_id=tag_id, given_at=given_at, written_by=written_by),)
    return mutes
