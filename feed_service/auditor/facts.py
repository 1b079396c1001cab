"""What both databases say that decides what one viewer sees, as of one moment in each.

Each class is one row or one pair of people. Besides what the rule reads, it has what tells two
states apart that look the same: revisions, ids of rows, and the transactions (`xmin`) that wrote
them. So facts that are equal before and after a call were the same all the time in between.

A tag that is given and taken away again leaves no row. But to give it, its row in `tags` is locked
or referred to, and the transaction that did so stays in `xmax`.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from feed_service.auditor.items import Item


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A viewer and another user, or the viewer themselves, in the graph.

    An ending is the revision of a user after the last end of a connection between the two, 0 if
    none has ended. The erasure is the revision at which the other user was last erased.
    """

    connection_id: int | None
    is_accepted: bool
    viewer_ending: int
    peer_ending: int
    is_blocked: bool
    is_suspended: bool
    erasure: int
    revision: int

    @property
    def lasting(self) -> Hashable:
        """All but the revision, which also grows with what others do."""
        return (
            self.connection_id,
            self.is_accepted,
            self.viewer_ending,
            self.peer_ending,
            self.is_suspended,
            self.erasure,
        )


NO_RELATION: Final = Relation(
    connection_id=None,
    is_accepted=False,
    viewer_ending=0,
    peer_ending=0,
    is_blocked=False,
    is_suspended=False,
    erasure=0,
    revision=0,
)


@dataclass(frozen=True, kw_only=True)
class AudienceTag:
    """A tag that a post includes or excludes; `given_at` is None if the viewer never had it."""

    tag_id: int
    is_excluded: bool
    is_deleted: bool
    given_at: int | None
    written_by: str


@dataclass(frozen=True, kw_only=True)
class Post:
    """A post, and the tags of its audience with what the viewer has of them."""

    created_at: datetime
    audience: str
    is_moderated: bool
    is_deleted: bool
    written_by: str
    tags: tuple[AudienceTag, ...]


@dataclass(frozen=True, kw_only=True)
class Comment:
    """A comment, or what it replies to; `parent` is None for a comment that is no reply."""

    author_id: int
    is_deleted: bool
    is_moderated: bool
    is_hidden: bool
    written_by: str
    parent: "Comment | None" = None


@dataclass(frozen=True, kw_only=True)
class Mute:
    """A tag of the viewer that is muted now, and that a person has or had."""

    tag_id: int
    given_at: int
    written_by: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts of one viewer and some items.

    `taken_at` is the time of `time.monotonic` before the older of the two snapshots was taken, and
    `position` a position in the log of the feed's database that is not behind its snapshot.
    `suspensions` is the revision of everybody's suspensions, and `are_suspensions_known` says
    whether every process has heard of it. `erased` has the revisions up to which the feed has
    erased users, `own_tags` which transactions wrote and locked the viewer's tags.
    """

    viewer_id: int
    taken_at: float
    position: str
    suspensions: int
    are_suspensions_known: bool
    relations: Mapping[int, Relation]
    erased: Mapping[int, int]
    posts: Mapping[Item, Post]
    comments: Mapping[Item, Comment]
    mutes: Mapping[int, tuple[Mute, ...]]
    own_tags: str

    def relation(self, user_id: int) -> Relation:
        """Return what is between the viewer and another user; of oneself, the user alone."""
        return self.relations.get(user_id, NO_RELATION)

    def basis(self, item: Item, *, with_mutes: bool) -> Hashable:
        """Return all that decides about an item; equal bases are the same state."""
        people = [self.viewer_id, item.author_id]
        basis: list[Hashable] = [self.suspensions, self.posts.get(item.post)]
        if item.comment_id:
            comment = self.comments.get(item)
            for each in (comment, comment and comment.parent):
                if each is not None:
                    people.append(each.author_id)
                    basis.append(self.relation(each.author_id))
            # A block leaves no row behind when it ends, but it raises the revisions of both.
            basis += [comment, self.relation(self.viewer_id).revision]
        if with_mutes:
            basis += [self.own_tags, self.mutes.get(item.author_id, ())]
        basis += [
            (self.relation(user_id).lasting, self.erased.get(user_id, 0)) for user_id in people
        ]
        return tuple(basis)
