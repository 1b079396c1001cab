"""Comments that come from elsewhere."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from feed_service.queries.imports import IMPORTED, ExternalName
from feed_service.queries.posts import PostName
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

# Not locked, which a distributed database cannot do on several shards: a reply to a comment that is
# deleted at this moment is hidden with it.
_PARENTS = text("""
    SELECT p.author_id, p.external_id, c.external_id, c.id
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:external_ids AS text[])) AS named (author_id, post_id, external_id)
    JOIN posts AS p ON p.author_id = named.author_id AND p.id = named.post_id
    JOIN comments AS c ON c.post_author_id = p.author_id AND c.post_id = p.id
                      AND c.external_id = named.external_id
    WHERE c.parent_id IS NULL AND c.deleted_at IS NULL
""")


def imported_parents(
    connection: Connection, *, comments: Sequence[tuple[PostName, ImportedComment]]
) -> dict[ExternalComment, int]:
    """The ids of those comments to which these reply, if they were imported and take replies.

    Of several authors' comments of the same name under a post, none.
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
) -> Counter[PostName]:
    """How many of the comments of each post had not been imported before.

    They are counted at their posts, unless they are moderated. Those that are named in `parent_ids`
    as what they reply to are replies.
    """
    if not comments:
        return Counter()
    rows = connection.execute(
        _INSERT_COMMENTS,
        {
            "post_author_ids": array_literal(post[0] for post, _ in comments),
            "post_ids": array_literal(post[1] for post, _ in comments),
            "author_ids": array_literal(comment.author_id for _, comment in comments),
            "external_ids": [comment.external_id for _, comment in comments],
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
    shown = Counter((author_id, post_id) for author_id, post_id, is_shown in rows if is_shown)
    if shown:
        connection.execute(
            _COUNT_COMMENTS,
            {
                "author_ids": array_literal(author_id for author_id, _ in shown),
                "post_ids": array_literal(post_id for _, post_id in shown),
                "amounts": array_literal(shown.values()),
            },
        )
    return Counter((author_id, post_id) for author_id, post_id, _ in rows)
