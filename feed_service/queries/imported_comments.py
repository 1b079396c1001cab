"""Comments that come from elsewhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from feed_service.queries.imports import IMPORTED, ExternalName
from feed_service.queries.posts import PostName
from shared.database.arrays import array_literal


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

    @property
    def post(self) -> ExternalName:
        """What its post goes by."""
        return self.post_author_id, self.post_external_id


_INSERT_COMMENTS = text(f"""
    INSERT INTO comments
        (post_author_id, post_id, author_id, external_id, body, created_at, edited_at,
         moderated_at, moderation_reason)
    SELECT post_author_id, post_id, author_id, external_id, body, created_at, edited_at,
           CASE WHEN is_moderated THEN now() END,
           CASE WHEN is_moderated THEN '{IMPORTED}' END
    FROM unnest(CAST(:post_author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:author_ids AS bigint[]), CAST(:external_ids AS text[]),
                CAST(:bodies AS text[]), CAST(:created_at AS timestamptz[]),
                CAST(:edited_at AS timestamptz[]), CAST(:are_moderated AS boolean[]))
         AS imported
             (post_author_id, post_id, author_id, external_id, body, created_at, edited_at,
              is_moderated)
    ORDER BY post_author_id, post_id, author_id, external_id
    ON CONFLICT (post_author_id, post_id, author_id, external_id) WHERE external_id IS NOT NULL
    DO NOTHING
    RETURNING post_author_id, post_id, moderated_at IS NULL
""")

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
    connection: Connection, *, comments: Sequence[tuple[PostName, ImportedComment]]
) -> Counter[PostName]:
    """How many of the comments of each post had not been imported before.

    They are counted at their posts, unless they are moderated.
    """
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
