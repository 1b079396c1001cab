"""Checks: which viewers see which posts and comments, many pairs at once.

A connection and a block are the same from both sides, so the connections of one user of each pair
say it all. The authors' are taken: to fan out a post is to ask about one author and a thousand
viewers. Where the viewers are fewer, as in a search, theirs are taken. So they are where a comment
is among the checks: a viewer must have no block with its author, who is not known before it is
read.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain

from feed_service.queries.checks import NO_COMMENT, Check, Commenters, Relation
from feed_service.resources import Resources
from feed_service.safe_read import steady_read_of_many
from feed_service.viewers import Viewer

_WITH_ONESELF = Relation(is_connected=False, author_ending=0)


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What the graph says that decides some checks: relations, and the blocks of some viewers."""

    relations: Mapping[Check, Relation]
    blocks: Mapping[int, str]


class Checks:
    """Answers services that want to know who sees what."""

    def __init__(self, resources: Resources) -> None:
        self._reads = resources.reads
        self._graph = resources.graph
        self._layout = resources.layout
        self._suspended = resources.suspended

    def visible(self, checks: Collection[Check]) -> set[Check]:
        """Return those of the checks whose viewer sees the post or comment.

        The graph is not asked about people's own posts, which they can read when it is unreachable.
        A suspended viewer sees nothing.

        Raises AbortedError when the connections between these people keep changing.
        """
        asked = {
            check for check in checks if not (_is_own(check) and check.viewer_id in self._suspended)
        }
        with_comments = any(check.comment_id for check in asked)
        to_decide = [check for check in asked if check.comment_id or not _is_own(check)]
        viewer_ids = {check.viewer_id for check in to_decide}
        author_ids = {check.author_id for check in to_decide}
        by_viewers = with_comments or len(viewer_ids) < len(author_ids)

        def facts(users: Mapping[int, Viewer]) -> _Facts:
            blocks = _blocks(users) if with_comments else {}
            suspended_viewers = {id_ for id_, user in users.items() if user.is_suspended}
            # Where no blocks are known, no comment is visible.
            decidable = [
                check
                for check in asked
                if (not check.comment_id or check.viewer_id in blocks)
                and not (by_viewers and check.viewer_id in suspended_viewers)
            ]
            return _Facts(
                relations=_relations(decidable, users, by_viewers=by_viewers), blocks=blocks
            )

        def read(known: _Facts, since: float) -> Mapping[Check, Commenters]:
            if not known.relations:
                return {}
            return self._reads.prepared(
                lambda reader: self._layout.visible_checks(
                    reader, asked=known.relations, blocks=known.blocks
                ),
                since=since,
            )

        visible, suspended = steady_read_of_many(
            self._graph,
            viewer_ids if by_viewers else author_ids,
            facts,
            read,
            commenters=lambda found: {*chain.from_iterable(found.values())} - {NO_COMMENT},
            with_blocked=with_comments,
        )
        return {check for check, authors in visible.items() if suspended.isdisjoint(authors)}


def _relations(
    checks: Collection[Check], users: Mapping[int, Viewer], *, by_viewers: bool
) -> dict[Check, Relation]:
    """Return the relation of each check's viewer and author, by the connections of one of them."""
    connected = {user_id: user.connected_to for user_id, user in users.items()}
    author_endings = {
        user_id: user.peer_endings if by_viewers else user.own_endings
        for user_id, user in users.items()
    }

    def relation(check: Check) -> Relation:
        if _is_own(check):
            return _WITH_ONESELF
        author_id, viewer_id = check.author_id, check.viewer_id
        user_id, peer_id = (viewer_id, author_id) if by_viewers else (author_id, viewer_id)
        return Relation(
            is_connected=peer_id in connected[user_id],
            author_ending=author_endings[user_id].get(peer_id, 0),
        )

    return {check: relation(check) for check in checks}


def _blocks(users: Mapping[int, Viewer]) -> dict[int, str]:
    """Return the blocks of those users whose blocks are known."""
    return {
        user_id: user.blocked_ids for user_id, user in users.items() if user.blocked_ids is not None
    }


def _is_own(check: Check) -> bool:
    return check.viewer_id == check.author_id
