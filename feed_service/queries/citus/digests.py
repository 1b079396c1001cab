"""Weekly digests in a distributed database: the same posts as `digests`, in more statements.

A choice takes three: to the viewer's shard, for the people with the tags that are asked for, or
else for those that the viewer has muted; and to the shards of the authors, for what is there, and,
now that it is known whether the week has a post of HIGH importance, for the first by the rules. A
frozen one takes two, for its names are with the viewer and its posts with their authors. Freezing
is a transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from feed_service.models import LOW_IMPORTANCE
from feed_service.mutes import not_muted
from feed_service.queries.citus.authors import FEW, MANY, asked, tagged_authors, unmuted
from feed_service.queries.digests import (
    DAY,
    HIGH,
    IN_WEEK,
    MOST_LEFT_OUT,
    Choice,
    ChosenPost,
    FrozenName,
    Reason,
    unread_start,
    week_parameters,
)
from feed_service.queries.posts import POST_COLUMNS, PostName, PostRow, name_literals
from feed_service.settings import DigestRules, HubScan
from feed_service.viewers import Viewer
from feed_service.visibility import VISIBLE, VISIBLE_OF_CONNECTION
from feed_service.weeks import Week
from shared.database.arrays import array_literal
from shared.database.database import in_transaction
from shared.database.reader import Reader, Rows, Statement


def _candidates(of_asked: str) -> str:
    return f"p.author_id {of_asked} AND {IN_WEEK} AND {VISIBLE_OF_CONNECTION}"


def _facts(name: str, of_asked: str) -> Statement:
    return Statement(
        name,
        f"""
    SELECT count(*), coalesce(max(p.importance), 0) FROM posts AS p WHERE {_candidates(of_asked)}
""",
    )


# Posts that are left out for those of HIGH importance are less important than all that stay, so
# that they do not change the ranks of these in their day and among their author's posts.
def _first(name: str, of_asked: str) -> Statement:
    return Statement(
        name,
        f"""
    SELECT {POST_COLUMNS}, p.importance,
           CASE WHEN p.is_beyond_share THEN '{Reason.FILLED_PLACE}'
                ELSE '{Reason.IMPORTANT}' END AS reason,
           p.day
    FROM (
        SELECT p.*,
               row_number() OVER (PARTITION BY p.author_id
                                  ORDER BY p.importance DESC, p.created_at DESC, p.id DESC)
                   > :posts_per_author AS is_beyond_share
        FROM (
            SELECT p.*,
                   row_number() OVER (PARTITION BY p.author_id, p.day
                                      ORDER BY p.importance DESC, p.id) AS place_in_day
            FROM (SELECT p.*, {DAY} FROM posts AS p
                  WHERE {_candidates(of_asked)} AND p.importance > :above) AS p
        ) AS p
        WHERE p.place_in_day <= :posts_per_author_per_day
    ) AS p
    ORDER BY p.is_beyond_share, p.importance DESC, p.created_at DESC, p.id DESC
    LIMIT :max_posts
""",
    )


_FACTS: Final = {
    False: _facts("digest_facts", FEW),
    True: _facts("digest_facts_of_many", MANY),
}
_FIRST: Final = {
    False: _first("digest_first", FEW),
    True: _first("digest_first_of_many", MANY),
}


def digest_choice(
    reader: Reader,
    *,
    viewer: Viewer,
    week: Week,
    read_at: datetime | None,
    rules: DigestRules,
    tag_ids: Sequence[int],
    include_own_posts: bool,
    hub_scan: HubScan,  # noqa: ARG001 -- so `digests` takes it; here the statements are what costs
) -> Choice:
    """The posts that the rules choose for a viewer out of a week, or of what follows `read_at`."""
    authors = asked(viewer.connected_ids)
    if tag_ids:
        tags = array_literal(tag_ids)
        authors = tagged_authors(reader, viewer=viewer, literal=viewer.connected_ids, tag_ids=tags)
    else:
        authors = unmuted(reader, viewer=viewer, authors=authors)
    if include_own_posts:
        authors = authors.and_also(viewer.user_id)
    parameters = {
        **viewer.parameters,
        **week_parameters(week),
        "start": unread_start(week, read_at),
        "end": week.end,
        "author_ids": authors.literal,
        "posts_per_author_per_day": rules.posts_per_author_per_day,
        "posts_per_author": rules.posts_per_author,
        "max_posts": rules.max_posts,
    }
    [(count, highest)] = reader.rows(_FACTS[authors.are_many], parameters)
    above = max(rules.min_importance, LOW_IMPORTANCE) if highest >= HIGH else rules.min_importance
    rows = reader.rows(_FIRST[authors.are_many], {**parameters, "above": above}) if count else []
    return Choice(
        posts=_chosen(rows),
        left_out_count=max(0, min(MOST_LEFT_OUT, count - len(rows))),
        is_frozen=False,
    )


_FROZEN_NAMES = Statement(
    "frozen_names",
    f"""
    SELECT frozen.left_out_count, item.author_id, item.post_id, item.importance, item.reason
    FROM frozen_digests AS frozen
    LEFT JOIN frozen_digest_items AS item
      ON item.user_id = frozen.user_id AND item.start_at = frozen.start_at
     AND item.fingerprint = frozen.fingerprint
     AND (:with_muted OR {not_muted("item.author_id")})
    WHERE frozen.user_id = :viewer_id AND frozen.start_at = :start
      AND frozen.fingerprint = :fingerprint
""",
)

_NAMED: Final = f"""
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]))
         AS named (author_id, post_id)
    JOIN posts AS p ON p.author_id = named.author_id AND p.id = named.post_id
    WHERE p.author_id {FEW}
"""

_FROZEN_POSTS = Statement("frozen_posts", f"SELECT {POST_COLUMNS}, {DAY} {_NAMED} AND {VISIBLE}")


def frozen_choice(
    reader: Reader, *, viewer: Viewer, name: FrozenName, with_muted: bool
) -> Choice | None:
    """What is still shown of a frozen digest; None when it was never frozen.

    Shown are posts that the viewer may still see, by people who are not muted unless `with_muted`.
    """
    frozen = reader.rows(
        _FROZEN_NAMES, {**viewer.parameters, **name.parameters, "with_muted": with_muted}
    )
    if not frozen:
        return None
    items = {
        (author_id, post_id): (importance, reason)
        for _, author_id, post_id, importance, reason in frozen
        if post_id is not None
    }
    parameters = {
        **viewer.parameters,
        **week_parameters(name.week),
        **name_literals(items),
        "connected_ids": viewer.connected_among({author_id for author_id, _ in items}),
    }
    posts = reader.rows(_FROZEN_POSTS, parameters) if items else []
    rows = [(*post, *items[post[0], post[1]], day) for *post, day in posts]
    return Choice(posts=_chosen(rows), left_out_count=frozen[0][0], is_frozen=True)


_LOCK_AUTHORS = text("""
    SELECT pg_advisory_xact_lock_shared(hashtextextended('posts', id))
    FROM unnest(CAST(:author_ids AS bigint[])) AS id
""")

# Not what a hold keeps of an erased author.
_EXISTING = text(f"SELECT p.author_id, p.id {_NAMED} AND p.deleted_at IS NULL")

_FREEZE = text("""
    INSERT INTO frozen_digests (user_id, start_at, fingerprint, left_out_count)
    VALUES (:viewer_id, :start, :fingerprint, :left_out_count)
    ON CONFLICT DO NOTHING
""")

_FREEZE_ITEMS = text("""
    INSERT INTO frozen_digest_items
        (user_id, start_at, fingerprint, author_id, post_id, importance, reason)
    SELECT :viewer_id, CAST(:start AS timestamptz), CAST(:fingerprint AS bytea),
           author_id, post_id, importance, reason
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:importances AS double precision[]), CAST(:reasons AS text[]))
         AS item (author_id, post_id, importance, reason)
""")


def freeze(connection: Connection, *, name: FrozenName, choice: Choice) -> bool:
    """Whether this choice is the frozen one now; otherwise another one is already.

    This transaction cannot lock rows of another shard, so it locks the authors by advisory locks of
    the coordinator, for which erasures of posts wait. Posts that are erased by then are skipped:
    erasing a person's posts first and then what names them leaves nothing behind.
    """
    posts = {(chosen.post.author_id, chosen.post.id): chosen for chosen in choice.posts}
    named = {**name.parameters, **name_literals(posts)}
    author_ids = array_literal(sorted({author_id for author_id, _ in posts}))
    with in_transaction(connection):
        connection.execute(_LOCK_AUTHORS, {"author_ids": author_ids})
        frozen = connection.execute(
            _FREEZE, {**name.parameters, "left_out_count": choice.left_out_count}
        ).rowcount
        found = [(author_id, id_) for author_id, id_ in connection.execute(_EXISTING, named)]
        if frozen and found:
            connection.execute(_FREEZE_ITEMS, {**name.parameters, **_items(posts, found)})
    return bool(frozen)


def _items(posts: Mapping[PostName, ChosenPost], found: Sequence[PostName]) -> dict[str, object]:
    return {
        **name_literals(found),
        "importances": [posts[name].importance for name in found],
        "reasons": [posts[name].reason.value for name in found],
    }


def _chosen(rows: Rows) -> list[ChosenPost]:
    """The posts of rows that end with importance, reason and day, oldest first."""
    chosen = [
        ChosenPost(post=PostRow._make(post), importance=importance, reason=Reason(reason), day=day)
        for *post, importance, reason, day in rows
    ]
    return sorted(chosen, key=lambda each: (each.post.created_at, each.post.id))
