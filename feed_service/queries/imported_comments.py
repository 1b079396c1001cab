"""Comments that come from elsewhere."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from feed_service.queries.imports import IMPORTED, ExternalName
from feed_service.queries.posts import PostName, name_literals
from shared.database.arrays import array_literal

ExternalComment = tuple[int, str, str]
"""The importer's name of a post, and for a comment on it."""


@dataclass(frozen=True, kw_only=True)
class ImportedComment:
    """A comment from elsewhere, on an imported post."""

    author_id: int
    external_id: str
    post_author_id: int
    post_external_id: str
    body: str
    created_at: datetime
    edited_at: datetime | None
    is_moderated: bool
    parent_external_id: str
    """Empty if it is no reply."""
    is_hidden: bool

    @property
    def parent(self) -> ExternalComment:
        """What the comment goes by to which it replies."""
        return self.post_author_id, self.post_external_id, self.parent_external_id

    @property
    def post(self) -> ExternalName:
        """What its post goes by."""
        return self.post_author_id, self.post_external_id


_INSERT_COMMENTS = text(f"""
    INSERT INTO comments
        (post_author_id, post_id, author_id, external_id, body, created_at, edited_at,
         moderated_at, moderation_reason, parent_id, hidden)
    SELECT post_author_id, post_id, author_id, external_id, body, created_at, edited_at,
           CASE WHEN is_moderated THEN now() END,
           CASE WHEN is_moderated THEN '{IMPORTED}' END,
           parent_id, is_hidden
    FROM unnest(CAST(:post_author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:author_ids AS bigint[]), CAST(:external_ids AS text[]),
                CAST(:bodies AS text[]), CAST(:created_at AS timestamptz[]),
                CAST(:edited_at AS timestamptz[]), CAST(:are_moderated AS boolean[]),
                CAST(:parent_ids AS bigint[]), CAST(:are_hidden AS boolean[]))
         AS imported
             (post_author_id, post_id, author_id, external_id, body, created_at, edited_at,
              is_moderated, parent_id, is_hidden)
    ORDER BY post_author_id, post_id, author_id, external_id
    ON CONFLICT (post_author_id, post_id, author_id, external_id) WHERE external_id IS NOT NULL
    DO NOTHING
    RETURNING post_author_id, post_id, moderated_at IS NULL
""")

# Locked by an update, as a distributed database can on several shards: a comment that is deleted at
# this moment would leave its new reply behind.
_PARENTS = text("""
    UPDATE comments AS c SET version = c.version
    FROM (SELECT p.author_id, p.id, p.external_id AS post_external_id, named.external_id
          FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                      CAST(:external_ids AS text[])) AS named (author_id, post_id, external_id)
          JOIN posts AS p ON p.author_id = named.author_id AND p.id = named.post_id) AS named
    WHERE c.post_author_id = named.author_id AND c.post_id = named.id
      AND c.external_id = named.external_id
      AND c.parent_id IS NULL AND c.deleted_at IS NULL
    RETURNING named.author_id, named.post_external_id, c.external_id, c.id
""")


def imported_parents(
    connection: Connection, *, comments: Sequence[tuple[PostName, ImportedComment]]
) -> dict[ExternalComment, int]:
    """The ids of those comments to which these reply, if they were imported and take replies.

    They are locked until the transaction ends. Of several authors' comments of the same name under
    a post, none.
    """
    named = {(*post, each.parent_external_id) for post, each in comments if each.parent_external_id}
    if not named:
        return {}
    found = defaultdict[ExternalComment, list[int]](list)
    rows = connection.execute(
        _PARENTS,
        {
            "author_ids": array_literal(author_id for author_id, _, _ in named),
            "post_ids": array_literal(post_id for _, post_id, _ in named),
            "external_ids": [external_id for _, _, external_id in named],
        },
    )
    for author_id, post_external_id, external_id, comment_id in rows:
        found[author_id, post_external_id, external_id].append(comment_id)
    return {name: ids[0] for name, ids in found.items() if len(ids) == 1}


_IMPORTED = text("""
    SELECT c.post_author_id, c.post_id, c.author_id, c.external_id
    FROM unnest(CAST(:post_author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:author_ids AS bigint[]), CAST(:external_ids AS text[]))
         AS named (post_author_id, post_id, author_id, external_id)
    JOIN comments AS c
      ON c.post_author_id = named.post_author_id AND c.post_id = named.post_id
     AND c.author_id = named.author_id AND c.external_id = named.external_id
     AND c.external_id IS NOT NULL
""")


def imported_before(
    connection: Connection, *, comments: Sequence[tuple[PostName, ImportedComment]]
) -> set[tuple[int, int, int, str]]:
    """Those of the comments that were imported, also deleted ones, by post, author and name."""
    rows = connection.execute(_IMPORTED, _names(comments))
    return {(post_author, post_id, author, name) for post_author, post_id, author, name in rows}


_COUNT_COMMENTS = text("""
    INSERT INTO post_stats (author_id, post_id, comment_count)
    SELECT author_id, post_id, amount
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:amounts AS bigint[])) AS counted (author_id, post_id, amount)
    ORDER BY author_id, post_id
    ON CONFLICT (author_id, post_id)
    DO UPDATE SET comment_count = post_stats.comment_count + excluded.comment_count
""")


def insert_comments(
    connection: Connection,
    *,
    comments: Sequence[tuple[PostName, ImportedComment]],
    parent_ids: Mapping[ExternalComment, int],
) -> list[tuple[PostName, bool]]:
    """The posts of those comments that had not been imported before, and whether they count there.

    Moderated ones do not. Those that are named in `parent_ids` as what they reply to are replies.
    """
    if not comments:
        return []
    rows = connection.execute(
        _INSERT_COMMENTS,
        {
            **_names(comments),
            "bodies": [comment.body for _, comment in comments],
            "created_at": [comment.created_at.isoformat() for _, comment in comments],
            "edited_at": [
                comment.edited_at and comment.edited_at.isoformat() for _, comment in comments
            ],
            "are_moderated": [comment.is_moderated for _, comment in comments],
            "parent_ids": [parent_ids.get(comment.parent) for _, comment in comments],
            "are_hidden": [comment.is_hidden for _, comment in comments],
        },
    ).all()
    return [((author_id, post_id), is_shown) for author_id, post_id, is_shown in rows]


def count_comments(connection: Connection, *, inserted: Sequence[tuple[PostName, bool]]) -> None:
    """Count new comments at their posts.

    Also of a post where none counts, so that one that a service shows later can be counted.
    """
    amounts = Counter[PostName]()
    for post, is_shown in inserted:
        amounts[post] += int(is_shown)
    if amounts:
        connection.execute(
            _COUNT_COMMENTS,
            {**name_literals(amounts), "amounts": array_literal(amounts.values())},
        )


def _names(comments: Sequence[tuple[PostName, ImportedComment]]) -> dict[str, object]:
    return {
        "post_author_ids": array_literal(post[0] for post, _ in comments),
        "post_ids": array_literal(post[1] for post, _ in comments),
        "author_ids": array_literal(comment.author_id for _, comment in comments),
        "external_ids": [comment.external_id for _, comment in comments],
    }
