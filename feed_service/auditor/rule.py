"""The rule of who sees what, a second time: word by word, one post and one viewer at a time.

It is written from the contract in protos/ and from docs/, in plain Python on plain rows, so that a
mistake in the SQL of feed_service is not repeated here.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from feed_service.auditor.facts import Comment, Facts
from feed_service.auditor.items import Item


class Clause(StrEnum):
    """What decided; the first nine are those of ExplainVisibility."""

    AUTHOR = "AUTHOR"
    AUDIENCE_ALL = "AUDIENCE_ALL"
    HAS_TAG = "HAS_TAG"
    NOT_CONNECTED = "NOT_CONNECTED"
    PRIVATE = "PRIVATE"
    EXCLUDED = "EXCLUDED"
    NO_TAG = "NO_TAG"
    DELETED = "DELETED"
    MODERATED = "MODERATED"
    NO_SUCH_POST = "NO_SUCH_POST"
    NO_SUCH_COMMENT = "NO_SUCH_COMMENT"
    COMMENT_DELETED = "COMMENT_DELETED"
    COMMENT_MODERATED = "COMMENT_MODERATED"
    COMMENT_HIDDEN = "COMMENT_HIDDEN"
    COMMENTER_BLOCKED = "COMMENTER_BLOCKED"
    COMMENTER_SUSPENDED = "COMMENTER_SUSPENDED"
    MUTED = "MUTED"
    VIEWER_SUSPENDED = "VIEWER_SUSPENDED"


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """Whether the viewer sees an item, and by which clause."""

    is_visible: bool
    clause: Clause


_SHOWS: Final = frozenset({Clause.AUTHOR, Clause.AUDIENCE_ALL, Clause.HAS_TAG})


def ruling(facts: Facts, item: Item) -> Ruling | None:
    """Return whether the viewer sees an item; None where the contract allows either answer.

    It does for what is the viewer's own while somebody was suspended or restored a moment ago:
    processes ask once a second whose calls to refuse. And for comments of users whose data is being
    erased.
    """
    clause = post_clause(facts, item)
    if item.author_id == facts.viewer_id:
        if not facts.are_suspensions_known:
            return None
        if facts.relation(facts.viewer_id).is_suspended:
            return Ruling(is_visible=False, clause=Clause.VIEWER_SUSPENDED)
    if not item.comment_id or clause not in _SHOWS:
        return Ruling(is_visible=clause in _SHOWS, clause=clause)
    comment = facts.comments.get(item)
    if comment is None:
        return Ruling(is_visible=False, clause=Clause.NO_SUCH_COMMENT)
    together = [comment] if comment.parent is None else [comment, comment.parent]
    people = {facts.viewer_id, *(each.author_id for each in together)}
    if any(_is_being_erased(facts, user_id) for user_id in people):
        return None
    hiding = [found for each in together if (found := _comment_clause(facts, item, each))]
    return Ruling(is_visible=not hiding, clause=hiding[0] if hiding else clause)


def post_clause(facts: Facts, item: Item) -> Clause:  # noqa: PLR0911 -- one for each clause
    """Return the clause of the rule that decides whether the viewer sees the post of an item."""
    post = facts.posts.get(item.post)
    if post is None:
        return Clause.NO_SUCH_POST
    if post.is_deleted:
        return Clause.DELETED
    if item.author_id == facts.viewer_id:
        return Clause.AUTHOR
    if post.is_moderated:
        return Clause.MODERATED
    if not is_connected(facts, item.author_id):
        return Clause.NOT_CONNECTED
    if post.audience == "private":
        return Clause.PRIVATE
    # Whether the tag was given in this connection or in an earlier one, and deleted or not.
    if any(tag.is_excluded and tag.given_at is not None for tag in post.tags):
        return Clause.EXCLUDED
    if post.audience == "all":
        return Clause.AUDIENCE_ALL
    ended_at = facts.relation(item.author_id).peer_ending
    if post.audience == "tags" and any(
        tag.given_at is not None
        and tag.given_at > ended_at
        and not tag.is_excluded
        and not tag.is_deleted
        for tag in post.tags
    ):
        return Clause.HAS_TAG
    return Clause.NO_TAG


def is_connected(facts: Facts, user_id: int) -> bool:
    """Return whether the viewer and another user are connected and in sight of each other.

    A user is in nobody's sight while suspended, and while the feed has data of an earlier user with
    the same id.
    """
    both = (facts.viewer_id, user_id)
    return facts.relation(user_id).is_accepted and not any(
        facts.relation(each).is_suspended or _is_being_erased(facts, each) for each in both
    )


def is_muted(facts: Facts, author_id: int) -> bool:
    """Return whether the viewer has muted a person by a tag that the person has now."""
    ended_at = facts.relation(author_id).viewer_ending
    return any(mute.given_at > ended_at for mute in facts.mutes.get(author_id, ()))


def _comment_clause(facts: Facts, item: Item, comment: Comment) -> Clause | None:
    """Return why the viewer, who sees the post, does not see a comment on it."""
    viewer_id = facts.viewer_id
    is_own = comment.author_id == viewer_id
    commenter = facts.relation(comment.author_id)
    if comment.is_deleted:
        return Clause.COMMENT_DELETED
    if comment.is_moderated and not is_own:
        return Clause.COMMENT_MODERATED
    if comment.is_hidden and not is_own and item.author_id != viewer_id:
        return Clause.COMMENT_HIDDEN
    if commenter.is_blocked:
        return Clause.COMMENTER_BLOCKED
    return Clause.COMMENTER_SUSPENDED if commenter.is_suspended else None


def _is_being_erased(facts: Facts, user_id: int) -> bool:
    return facts.relation(user_id).erasure > facts.erased.get(user_id, 0)
