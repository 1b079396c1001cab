"""What services hide and hold: posts and comments as they are moderated, and what holds keep.

A transaction locks a post before its comments, and these before the count of comments, as
elsewhere. Until when a row is kept is in the row itself, so that a statement that deletes it at the
same time looks again once it has the lock.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, TextClause, text

from feed_service.models import MODERATED
from feed_service.queries.comments import COMMENT_COLUMNS, CommentRow
from feed_service.queries.posts import POST_COLUMNS_OF_AUTHOR, PostName, PostRow


class ModerationState(StrEnum):
    """What a service has decided about a post or a comment."""

    VISIBLE = "visible"
    HIDDEN = "hidden"
    HELD = "held"


class ContentName(NamedTuple):
    """A post, or if `comment_id` is not 0, a comment on it."""

    author_id: int
    post_id: int
    comment_id: int = 0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a post or a comment is to be moderated; `held_until` is None unless it is HELD."""

    state: ModerationState
    reason: str = ""
    held_until: datetime | None = None

    @property
    def hides(self) -> bool:
        """Whether the author alone sees it from now on."""
        return self.state is not ModerationState.VISIBLE

    @property
    def parameters(self) -> dict[str, object]:
        """What it is in a statement."""
        return {
            "is_hidden": self.hides,
            "reason": self.reason if self.hides else None,
            "held_until": self.held_until,
        }


class ModerationRow(NamedTuple):
    """How a post or a comment is moderated, which a service hides from all but `written_by`.

    `held_until` is None unless it is held.
    """

    author_id: int
    post_id: int
    comment_id: int
    written_by: int
    reason: str
    moderated_at: datetime
    held_until: datetime | None


class LockedContent(NamedTuple):
    """What a post or a comment is that is locked until the transaction ends.

    `now` is the time of the transaction.
    """

    written_by: int
    is_deleted: bool
    is_moderated: bool
    now: datetime


class KeptRow(NamedTuple):
    """A post or a comment of an erased user, and until when a hold keeps it."""

    author_id: int
    post_id: int
    comment_id: int
    kept_until: datetime


@dataclass(frozen=True, kw_only=True)
class InspectedPost:
    """All of a post that is not purged, as its author would see it.

    `kept_until` is when the last hold on it and its comments ends, None if there is none.
    """

    post: PostRow
    deleted_at: datetime | None
    purge_at: datetime | None
    kept_until: datetime | None
    moderation: ModerationRow | None


@dataclass(frozen=True, kw_only=True)
class InspectedComment:
    """A comment that is not purged."""

    comment: CommentRow
    deleted_at: datetime | None
    moderation: ModerationRow | None


# In what is changed no CASE may have a function of the time: a distributed database refuses that.
_NOW: Final = "CAST(:now AS timestamptz)"


def _moderation(
    row: str, *, author_id: str, post_id: str, comment_id: str, now: str = "now()"
) -> str:
    """The fields of ModerationRow in their order, of a row of posts or comments."""
    return f"""
        {author_id} AS author_id, {post_id} AS post_id, {comment_id} AS comment_id,
        {row}.author_id AS written_by, {row}.moderation_reason AS reason, {row}.moderated_at,
        CASE WHEN {row}.held_until > {now} THEN {row}.held_until END AS held_until"""


_of_post = partial(
    _moderation, "p", author_id="p.author_id", post_id="p.id", comment_id="CAST(0 AS bigint)"
)
_of_comment = partial(
    _moderation, "c", author_id="c.post_author_id", post_id="c.post_id", comment_id="c.id"
)
_OF_POST: Final = _of_post()
_OF_COMMENT: Final = _of_comment()
_POST: Final = "p.author_id = :author_id AND p.id = :post_id"
_COMMENT: Final = "c.post_author_id = :author_id AND c.post_id = :post_id AND c.id = :comment_id"

# What the purge has not come to yet counts as gone. The posts of a user who is being erased have no
# `purge_at`.
_RETAINED_POST: Final = "(p.deleted_at IS NULL OR p.purge_at > now() OR p.kept_until > now())"
_RETAINED_COMMENT: Final = """
    (c.deleted_at IS NULL OR c.deleted_at > now() - CAST(:age AS interval)
     OR c.kept_until > now())"""

_LOCK_POST = text(f"""
    SELECT p.author_id, p.deleted_at IS NOT NULL, p.moderated_at IS NOT NULL, now()
    FROM posts AS p
    WHERE {_POST} AND {_RETAINED_POST} FOR NO KEY UPDATE
""")


def lock_retained_post(connection: Connection, *, name: PostName) -> LockedContent | None:
    """The post, locked until the transaction ends; None if there is none that is retained."""
    found = connection.execute(_LOCK_POST, {"author_id": name[0], "post_id": name[1]}).one_or_none()
    return None if found is None else LockedContent._make(found)


_MODERATE_POST = text(f"""
    UPDATE posts AS p
    SET moderated_at = CASE WHEN :is_hidden THEN {_NOW} END,
        moderation_reason = :reason,
        held_until = CAST(:held_until AS timestamptz),
        chosen_audience = CASE WHEN :is_hidden THEN coalesce(p.chosen_audience, p.audience) END,
        audience = CASE WHEN :is_hidden THEN '{MODERATED}'
                   ELSE coalesce(p.chosen_audience, p.audience) END,
        version = p.version
                  + CASE WHEN (p.moderated_at IS NOT NULL) = :is_hidden THEN 0 ELSE 1 END
    WHERE {_POST}
    RETURNING {_of_post(now=_NOW)}
""")


def moderate_post(
    connection: Connection, *, name: PostName, current: LockedContent, decision: Decision
) -> ModerationRow | None:
    """How the locked post is moderated from now on; None when it is visible."""
    row = connection.execute(
        _MODERATE_POST,
        {
            "author_id": name[0],
            "post_id": name[1],
            "now": current.now,
            **decision.parameters,
        },
    )
    return _moderated(row.one())


# First, because a call that deletes a comment locks it before the replies to it.
_LOCK_PARENT = text("""
    SELECT FROM comments AS c
    WHERE c.post_author_id = :author_id AND c.post_id = :post_id
      AND c.id = (SELECT named.parent_id FROM comments AS named
                  WHERE named.post_author_id = :author_id AND named.post_id = :post_id
                    AND named.id = :comment_id)
    FOR NO KEY UPDATE
""")

_LOCK_COMMENT = text(f"""
    SELECT c.author_id, c.deleted_at IS NOT NULL, c.moderated_at IS NOT NULL, now()
    FROM comments AS c
    WHERE {_COMMENT} AND {_RETAINED_COMMENT} FOR NO KEY UPDATE
""")


def lock_retained_comment(
    connection: Connection, *, name: ContentName, retained_for: timedelta
) -> LockedContent | None:
    """A comment on a locked post, locked as well; None if there is none that is retained.

    So is the comment that it replies to, which stays as long as a hold keeps the reply.
    """
    connection.execute(_LOCK_PARENT, name._asdict())
    found = connection.execute(_LOCK_COMMENT, {**name._asdict(), "age": retained_for}).one_or_none()
    return None if found is None else LockedContent._make(found)


# In a time that has passed once no hold keeps it: `purge_kept_comments` finds it by that.
# The version stays: all readers get it, and could tell by another that the comment was hidden.
_MODERATE_COMMENT = text(f"""
    UPDATE comments AS c
    SET moderated_at = CASE WHEN :is_hidden THEN {_NOW} END,
        moderation_reason = :reason,
        held_until = CAST(:held_until AS timestamptz),
        kept_until = coalesce(CAST(:held_until AS timestamptz),
                              CASE WHEN c.kept_until IS NOT NULL
                              THEN least(c.kept_until, {_NOW}) END)
    WHERE {_COMMENT}
    RETURNING {_of_comment(now=_NOW)}
""")

# A purge of what a reply replies to would take the reply along.
_KEEP_PARENT = text(f"""
    UPDATE comments AS c
    SET kept_until = coalesce(
        greatest(c.held_until,
                 (SELECT max(reply.kept_until) FROM comments AS reply
                  WHERE reply.post_author_id = :author_id AND reply.post_id = :post_id
                    AND reply.parent_id = c.id AND reply.kept_until > {_NOW})),
        CASE WHEN c.kept_until IS NOT NULL THEN least(c.kept_until, {_NOW}) END)
    WHERE c.post_author_id = :author_id AND c.post_id = :post_id
      AND c.id = (SELECT coalesce(named.parent_id, named.id) FROM comments AS named
                  WHERE named.post_author_id = :author_id AND named.post_id = :post_id
                    AND named.id = :comment_id)
""")

_COUNT_COMMENT = text("""
    UPDATE post_stats AS stats SET comment_count = stats.comment_count + :number
    WHERE stats.author_id = :author_id AND stats.post_id = :post_id
""")


def moderate_comment(
    connection: Connection, *, name: ContentName, current: LockedContent, decision: Decision
) -> ModerationRow | None:
    """How the locked comment is moderated from now on; None when it is visible.

    It is counted while it is neither deleted nor moderated. What it replies to stays as long.
    """
    named = {**name._asdict(), "now": current.now}
    row = connection.execute(_MODERATE_COMMENT, {**named, **decision.parameters}).one()
    connection.execute(_KEEP_PARENT, named)
    more = int(current.is_moderated) - int(decision.hides)
    if more and not current.is_deleted:
        connection.execute(
            _COUNT_COMMENT,
            {"author_id": name.author_id, "post_id": name.post_id, "number": more},
        )
    return _moderated(row)


def _moderated(fields: Sequence[Any]) -> ModerationRow | None:
    row = ModerationRow._make(fields)
    return None if row.moderated_at is None else row


# In a time that has passed once no hold keeps it: `purge_kept_posts` finds it by that.
_KEEP_POST = text(f"""
    UPDATE posts AS p
    SET kept_until = coalesce(
        greatest(p.held_until,
                 (SELECT max(c.kept_until) FROM comments AS c
                  WHERE c.post_author_id = :author_id AND c.post_id = :post_id
                    AND c.kept_until > {_NOW})),
        CASE WHEN p.kept_until IS NOT NULL THEN least(p.kept_until, {_NOW}) END)
    WHERE p.author_id = :author_id AND p.id = :post_id
""")

_PHOTOS_TO_KEEP = text("""
    SELECT count(*) FROM post_photos AS photo
    WHERE photo.author_id = :author_id AND photo.post_id = :post_id
""")

_KEEP_PHOTOS = text("""
    UPDATE object_removals AS removal SET due_at = kept.due_at
    FROM (SELECT photo.object_key, greatest(p.purge_at, p.kept_until, now()) AS due_at
          FROM post_photos AS photo
          JOIN posts AS p ON p.author_id = photo.author_id AND p.id = photo.post_id
          WHERE photo.author_id = :author_id AND p.author_id = :author_id AND p.id = :post_id)
         AS kept
    WHERE removal.owner_user_id = :author_id AND removal.object_key = kept.object_key
      AND removal.attempts = 0
""")


def keep_post(connection: Connection, *, name: PostName, current: LockedContent) -> bool:
    """Whether the locked post and its photos stay until the last hold on it and its comments ends.

    They do not if the photos of a deleted post are being removed already.
    """
    parameters = {"author_id": name[0], "post_id": name[1]}
    connection.execute(_KEEP_POST, {**parameters, "now": current.now})
    if not current.is_deleted:
        return True
    kept = connection.execute(_KEEP_PHOTOS, parameters).rowcount
    return bool(kept == connection.execute(_PHOTOS_TO_KEEP, parameters).scalar_one())


# Each part in the order of its own index, so that it ends after a page.
def _page(state: str) -> TextClause:
    return text(f"""
    SELECT moderated.* FROM (
        (SELECT {_OF_POST} FROM posts AS p
         WHERE p.moderated_at IS NOT NULL AND {state.format(row="p")}
           AND (p.moderated_at, p.id, 0) < (:before_time, :before_post_id, :before_comment_id)
         ORDER BY p.moderated_at DESC, p.id DESC LIMIT :limit)
        UNION ALL
        (SELECT {_OF_COMMENT} FROM comments AS c
         WHERE c.moderated_at IS NOT NULL AND {state.format(row="c")}
           AND (c.moderated_at, c.post_id, c.id)
               < (:before_time, :before_post_id, :before_comment_id)
         ORDER BY c.moderated_at DESC, c.post_id DESC, c.id DESC LIMIT :limit)
    ) AS moderated
    ORDER BY moderated_at DESC, post_id DESC, comment_id DESC LIMIT :limit
""")


# A hold that has ended leaves what it held hidden.
_PAGES: Final = {
    None: _page("true"),
    ModerationState.HELD: _page("{row}.held_until > now()"),
    ModerationState.HIDDEN: _page("({row}.held_until > now()) IS NOT TRUE"),
}


def moderated_page(
    connection: Connection,
    *,
    state: ModerationState | None,
    before: tuple[datetime, int, int],
    limit: int,
) -> list[ModerationRow]:
    """Up to `limit` posts and comments that services hide, before a position, the last one first.

    The position is a time, the id of a post, and that of a comment or 0. With a state only those
    that are HIDDEN, or only those that are HELD.
    """
    rows = connection.execute(
        _PAGES[state],
        {
            "before_time": before[0],
            "before_post_id": before[1],
            "before_comment_id": before[2],
            "limit": limit,
        },
    )
    return [ModerationRow._make(row) for row in rows]


_INSPECTED_POST = text(f"""
    SELECT {POST_COLUMNS_OF_AUTHOR}, p.deleted_at, p.purge_at,
           CASE WHEN p.kept_until > now() THEN p.kept_until END, {_OF_POST}
    FROM posts AS p WHERE {_POST} AND {_RETAINED_POST}
""")


def inspected_post(connection: Connection, *, name: PostName) -> InspectedPost | None:
    """A post, also a hidden or deleted one; None when there is none that is retained."""
    row = connection.execute(
        _INSPECTED_POST, {"author_id": name[0], "post_id": name[1], "viewer_id": name[0]}
    ).one_or_none()
    if row is None:
        return None
    post, (deleted_at, purge_at, kept_until), moderation = _split(row, len(PostRow._fields), 3)
    return InspectedPost(
        post=PostRow._make(post),
        deleted_at=deleted_at,
        purge_at=purge_at,
        kept_until=kept_until,
        moderation=_moderated(moderation),
    )


# By id, for the other orders have no index of deleted comments.
_INSPECTED_COMMENTS = text(f"""
    SELECT {COMMENT_COLUMNS}, 0 AS reply_count, NULL AS parent_author_id, c.deleted_at,
           {_OF_COMMENT}
    FROM comments AS c
    WHERE c.post_author_id = :author_id AND c.post_id = :post_id AND c.id > :after_id
      AND {_RETAINED_COMMENT}
    ORDER BY c.id LIMIT :limit
""")


def inspected_comments(
    connection: Connection,
    *,
    post: PostName,
    after_id: int,
    limit: int,
    retained_for: timedelta,
) -> list[InspectedComment]:
    """Up to `limit` comments on a post behind an id, by id, also hidden and deleted ones."""
    rows = connection.execute(
        _INSPECTED_COMMENTS,
        {
            "author_id": post[0],
            "post_id": post[1],
            "after_id": after_id,
            "limit": limit,
            "age": retained_for,
        },
    )
    return [_inspected_comment(row) for row in rows]


def _inspected_comment(row: Sequence[Any]) -> InspectedComment:
    fields = dataclasses.fields(CommentRow)
    comment, (deleted_at,), moderation = _split(row, len(fields), 1)
    values = {field.name: value for field, value in zip(fields, comment, strict=True)}
    return InspectedComment(
        comment=CommentRow(**values),
        deleted_at=deleted_at,
        moderation=_moderated(moderation),
    )


def _split(row: Sequence[Any], *sizes: int) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """Take a row apart: parts of the two sizes, and the rest."""
    first, second = sizes
    return row[:first], row[first : first + second], row[first + second :]


_KEPT_POSTS = text("""
    SELECT p.author_id, p.id, 0, p.kept_until FROM posts AS p
    WHERE p.author_id = :user_id AND p.kept_until > now()
    ORDER BY p.id LIMIT :limit
""")

_KEPT_COMMENTS = text("""
    SELECT c.post_author_id, c.post_id, c.id, c.kept_until FROM comments AS c
    WHERE c.author_id = :user_id AND c.kept_until > now()
    ORDER BY c.id LIMIT :limit
""")


def kept(connection: Connection, *, user_id: int, limit: int) -> list[KeptRow]:
    """Up to `limit` posts, and then comments, by a user that holds keep from being erased."""
    rows = [
        KeptRow._make(row)
        for statement in (_KEPT_POSTS, _KEPT_COMMENTS)
        for row in connection.execute(statement, {"user_id": user_id, "limit": limit})
    ]
    return rows[:limit]
