"""The kinds of decisions: the clause that decided, and what else made the case a rare one."""

from collections.abc import Iterator

from feed_service.auditor.facts import Facts, Post, Relation
from feed_service.auditor.items import Item
from feed_service.auditor.rule import Clause, Ruling, post_clause

_OF_TAGS = frozenset({Clause.EXCLUDED, Clause.AUDIENCE_ALL, Clause.HAS_TAG, Clause.NO_TAG})


def kind(facts: Facts, item: Item, ruled: Ruling | None) -> str:
    """Name a decision for the table of what has been decided."""
    if ruled is None:
        return "either answer is right"
    about = list(_about(facts, item, ruled.clause))
    return f"{ruled.clause}: {', '.join(about)}" if about else str(ruled.clause)


def _about(facts: Facts, item: Item, clause: Clause) -> Iterator[str]:
    relation, post = facts.relation(item.author_id), facts.posts.get(item.post)
    if clause is Clause.NOT_CONNECTED:
        yield _between(facts, relation)
    elif clause in _OF_TAGS and post is not None and item.author_id != facts.viewer_id:
        yield from _about_tags(clause, post, relation)
    if item.comment_id and (comment := facts.comments.get(item)) is not None:
        yield "on a post" if comment.parent is None else "in reply"
        if clause not in {Clause.AUTHOR, *_OF_TAGS} and clause is not post_clause(facts, item):
            yield "which the viewer sees"


def _between(facts: Facts, relation: Relation) -> str:
    """Say why two people are not connected, or not in sight of each other."""
    if facts.relation(facts.viewer_id).is_suspended:
        return "viewer suspended"
    if relation.is_accepted:
        return "author suspended" if relation.is_suspended else "being erased"
    if relation.is_blocked:
        return "blocked"
    if relation.connection_id is not None:
        return "requested"
    return "formerly connected" if relation.peer_ending else "strangers"


def _about_tags(clause: Clause, post: Post, relation: Relation) -> Iterator[str]:
    ended_at = relation.peer_ending
    had = [tag for tag in post.tags if tag.given_at is not None]
    is_of_earlier = any(tag.given_at <= ended_at for tag in had if tag.given_at is not None)
    if ended_at:
        yield "reconnected"
    if is_of_earlier:
        yield "tag of an earlier connection"
    if any(tag.is_deleted for tag in had):
        yield "deleted tag"
    if clause is Clause.EXCLUDED and any(not tag.is_excluded for tag in had):
        yield "also included"
    if clause is not Clause.EXCLUDED and any(tag.is_excluded for tag in post.tags):
        yield "others excluded"
