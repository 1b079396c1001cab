"""What the pair should do, from its design and its protos alone: plain sets, no cleverness.

Every command returns the reason with which it should be refused, or nothing when it should succeed.
"""

from dataclasses import dataclass, field

ALL, TAGS, PRIVATE, NOBODY = "all", "tags", "private", "nobody"
VISIBLE, HIDDEN, HELD = "VISIBLE", "HIDDEN", "HELD"


@dataclass
class Post:
    """A post in the order of its creation."""

    author: int
    audience: str
    tags: frozenset[str]
    excluded: frozenset[str]
    body: str = ""
    deleted: bool = False
    moderation: str = VISIBLE
    policy: str = ALL
    commenting: frozenset[str] = frozenset()
    locked: bool = False


@dataclass
class Comment:
    """A comment in the order of its creation."""

    post: str
    author: int
    body: str
    parent: str = ""
    deleted: bool = False
    moderation: str = VISIBLE
    hidden: bool = False


@dataclass
class Oracle:
    """The state of the pair. Tags and posts go by names that the test gives them."""

    connected: set[frozenset[int]] = field(default_factory=set)
    requests: set[tuple[int, int]] = field(default_factory=set)
    blocks: set[tuple[int, int]] = field(default_factory=set)
    declined: set[tuple[int, int]] = field(default_factory=set)
    suspended: set[int] = field(default_factory=set)
    owners: dict[str, int] = field(default_factory=dict)
    deleted_tags: set[str] = field(default_factory=set)
    muted_tags: set[str] = field(default_factory=set)
    members: dict[str, set[int]] = field(default_factory=dict)
    given_ever: dict[str, set[int]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    posts: dict[str, Post] = field(default_factory=dict)
    comments: dict[str, Comment] = field(default_factory=dict)
    read: dict[int, str] = field(default_factory=dict)

    # The graph.

    def request(self, user: int, peer: int) -> str:
        """Ask, or connect when asked already."""
        if (user, peer) in self.blocks:
            return "PEER_BLOCKED"
        if peer in self.suspended:
            return "CONNECTION_NOT_ALLOWED"
        if (peer, user) in self.requests:
            self._connect(user, peer)
        elif not self.are_connected(user, peer) and (user, peer) not in self.requests:
            # A life is shorter than the pause.
            if (user, peer) in self.declined:
                return "REQUEST_PAUSED"
            self.requests.add((user, peer))
        return ""

    def accept(self, user: int, peer: int) -> str:
        """Accept what the peer asked."""
        if peer in self.connections(user):
            return ""
        if peer not in self.incoming(user):
            return "CONNECTION_REQUEST_NOT_FOUND"
        self._connect(user, peer)
        return ""

    def decline(self, user: int, peer: int) -> str:
        """Refuse what the peer asked."""
        if peer in self.connections(user):
            return "ALREADY_CONNECTED"
        if (user, peer) not in self.blocks:
            self._lose(peer, user)
        return ""

    def cancel(self, user: int, peer: int) -> str:
        """Take back what the user asked."""
        if peer in self.connections(user):
            return "ALREADY_CONNECTED"
        self.requests.discard((user, peer))
        return ""

    def remove(self, user: int, peer: int) -> str:
        """End a connection."""
        self._disconnect(user, peer)
        return ""

    def block(self, user: int, peer: int) -> str:
        """Block, which ends everything between the two unless they are blocked already."""
        if (user, peer) in self.blocks:
            return ""
        self.blocks.add((user, peer))
        self._lose(peer, user)
        self.requests.discard((user, peer))
        self._disconnect(user, peer)
        return ""

    def unblock(self, user: int, peer: int) -> str:
        """Lift one's own block, and lose what the other has asked meanwhile."""
        if (user, peer) in self.blocks:
            self.blocks.discard((user, peer))
            self._lose(peer, user)
        return ""

    def _lose(self, asker: int, asked: int) -> None:
        """Remove a request between the two, if there is one."""
        if (asker, asked) in self.requests:
            self.requests.discard((asker, asked))
            self.declined.add((asker, asked))

    def suspend(self, user: int) -> None:
        """Take a user out of everybody's sight."""
        self.suspended.add(user)

    def restore(self, user: int) -> None:
        """Bring a user back."""
        self.suspended.discard(user)

    def are_connected(self, user: int, peer: int) -> bool:
        """Whether the two are connected, in sight of each other or not."""
        return frozenset((user, peer)) in self.connected

    def connections(self, user: int) -> set[int]:
        """A user's connections, as far as they are in sight."""
        if user in self.suspended:
            return set()
        connected = {other for pair in self.connected if user in pair for other in pair - {user}}
        return connected - self.suspended

    def incoming(self, user: int) -> set[int]:
        """Who has asked the user, is in sight and is not blocked by the user."""
        asking = {asker for asker, asked in self.requests if asked == user}
        return asking - self.blocked(user) - self.suspended

    def outgoing(self, user: int) -> set[int]:
        """The people in sight that the user has asked."""
        return {asked for asker, asked in self.requests if asker == user} - self.suspended

    def blocked(self, user: int) -> set[int]:
        """The people that the user has blocked."""
        return {peer for blocker, peer in self.blocks if blocker == user}

    def is_block_between(self, user: int, peer: int) -> bool:
        """Whether one of the two blocks the other."""
        return bool({(user, peer), (peer, user)} & self.blocks)

    def state(self, user: int, peer: int) -> str:
        """What the user sees of the pair."""
        if peer in self.blocked(user):
            return "BLOCKED"
        if peer in self.connections(user):
            return "CONNECTED"
        if peer in self.outgoing(user):
            return "REQUEST_SENT"
        return "REQUEST_RECEIVED" if peer in self.incoming(user) else "NONE"

    def mutual(self, user: int, peer: int) -> set[int]:
        """Who is connected with both, if there is no block between the two."""
        if self.is_block_between(user, peer):
            return set()
        return self.connections(user) & self.connections(peer)

    def _connect(self, user: int, peer: int) -> None:
        self.requests -= {(user, peer), (peer, user)}
        self.connected.add(frozenset((user, peer)))

    def _disconnect(self, user: int, peer: int) -> None:
        """The tags that the two have given each other end with it, and go on keeping them out."""
        self.connected.discard(frozenset((user, peer)))
        for tag, owner in self.owners.items():
            if owner in (user, peer):
                self.members[tag] -= {user, peer}

    # Tags.

    def create_tag(self, tag: str, owner: int) -> None:
        """Create a tag without members, under a label that its owner has for no other."""
        self.owners[tag] = owner
        self.labels[tag] = tag
        self.members[tag] = set()
        self.given_ever[tag] = set()

    def rename_tag(self, tag: str, label: str) -> str:
        """Give a tag another label."""
        if tag in self.deleted_tags:
            return "TAG_NOT_FOUND"
        taken = {self.labels[other].lower() for other in self.tags_of(self.owners[tag]) - {tag}}
        if label.lower() in taken:
            return "TAG_NAME_TAKEN"
        self.labels[tag] = label
        return ""

    def delete_tag(self, tag: str) -> None:
        """Delete a tag: it shows no post any more, and still excludes people from posts."""
        self.deleted_tags.add(tag)

    def set_muted(self, tag: str, *, muted: bool) -> str:
        """Mute a tag, or end its mute."""
        if tag in self.deleted_tags:
            return "TAG_NOT_FOUND"
        (self.muted_tags.add if muted else self.muted_tags.discard)(tag)
        return ""

    def muted_by(self, owner: int) -> set[int]:
        """The people that an owner has muted: those who have one of the muted tags now."""
        muted = self.tags_of(owner) & self.muted_tags
        return {person for tag in muted for person in self.members[tag]}

    def give(self, tag: str, person: int) -> str:
        """Give a tag to a connection."""
        if tag in self.deleted_tags:
            return "TAG_NOT_FOUND"
        if person not in self.connections(self.owners[tag]):
            return "NOT_CONNECTED"
        self.members[tag].add(person)
        self.given_ever[tag].add(person)
        return ""

    def take(self, tag: str, person: int) -> str:
        """Take a tag away, or what is left of one."""
        if not self.is_there(tag):
            return "TAG_NOT_FOUND"
        self.members[tag].discard(person)
        self.given_ever[tag].discard(person)
        return ""

    def is_there(self, tag: str) -> bool:
        """Tell whether a tag is not deleted, or still keeps people from a post."""
        return tag not in self.deleted_tags or any(
            tag in post.excluded for post in self.posts.values()
        )

    def former(self, tag: str) -> dict[int, bool]:
        """Return the people that a tag includes or excludes; True if it only excludes them."""
        return {
            person: tag in self.deleted_tags or person not in self.members_in_sight(tag)
            for person in self.given_ever[tag]
        }

    def members_in_sight(self, tag: str) -> set[int]:
        """The people who have a tag, as its owner sees them."""
        return self.members[tag] - self.suspended

    def tags_of(self, owner: int) -> set[str]:
        """The tags that an owner has."""
        return {tag for tag, by in self.owners.items() if by == owner} - self.deleted_tags

    # Posts.

    def delete_post(self, post: str) -> None:
        """Delete a post."""
        self.posts[post].deleted = True

    def undelete_post(self, post: str) -> None:
        """Restore a post, if it is deleted."""
        self.posts[post].deleted = False

    def edit_post(self, name: str, body: str) -> str:
        """Change a text."""
        if self.posts[name].deleted:
            return "POST_NOT_FOUND"
        if self.posts[name].moderation == HELD:
            return "CONTENT_HELD"
        self.posts[name].body = body
        return ""

    def change_audience(
        self, name: str, audience: str, tags: frozenset[str], excluded: frozenset[str]
    ) -> str:
        """Change an audience."""
        post = self.posts[name]
        if post.deleted:
            return "POST_NOT_FOUND"
        if post.moderation == HELD:
            return "CONTENT_HELD"
        post.audience, post.tags, post.excluded = audience, tags, excluded
        return ""

    def clause(self, viewer: int, name: str) -> tuple[str, set[str]]:  # noqa: PLR0911 -- one for each clause
        """Tell by the rule of the design what decides, and by which tags."""
        post = self.posts[name]
        excluding = {tag for tag in post.excluded if viewer in self.given_ever[tag]}
        including = {tag for tag in post.tags - self.deleted_tags if viewer in self.members[tag]}
        if post.deleted:
            return "DELETED", set()
        if viewer == post.author:
            return "AUTHOR", set()
        if post.moderation != VISIBLE:
            return "MODERATED", set()
        if post.author not in self.connections(viewer):
            return "NOT_CONNECTED", set()
        if post.audience == PRIVATE:
            return "PRIVATE", set()
        if excluding:
            return "EXCLUDED", excluding
        if post.audience == ALL:
            return "AUDIENCE_ALL", set()
        return ("HAS_TAG", including) if including else ("NO_TAG", set())

    def may_see(self, viewer: int, name: str) -> bool:
        """Tell whether a viewer sees a post."""
        return viewer not in self.suspended and self.clause(viewer, name)[0] in {
            "AUTHOR",
            "AUDIENCE_ALL",
            "HAS_TAG",
        }

    def visible(self, viewer: int) -> list[str]:
        """The posts that a viewer sees, newest first."""
        return [name for name in reversed(self.posts) if self.may_see(viewer, name)]

    def feed(self, viewer: int) -> list[str]:
        """Those of them that are not by people that the viewer has muted."""
        muted = self.muted_by(viewer)
        return [name for name in self.visible(viewer) if self.posts[name].author not in muted]

    def mark_read(self, viewer: int, name: str) -> str:
        """Move a read position forward."""
        if not self.may_see(viewer, name):
            return "POST_NOT_FOUND"
        order = list(self.posts)
        if viewer not in self.read or order.index(name) > order.index(self.read[viewer]):
            self.read[viewer] = name
        return ""

    def unread(self, viewer: int) -> int:
        """How many posts by others are newer than the read position."""
        order, shown = list(self.posts), set(self.feed(viewer))
        after = order.index(self.read[viewer]) + 1 if viewer in self.read else 0
        return sum(self.posts[name].author != viewer and name in shown for name in order[after:])

    # Comments.

    def admit(self, name: str, policy: str, tags: frozenset[str], *, locked: bool) -> str:
        """Say who may comment on a post."""
        post = self.posts[name]
        if post.deleted:
            return "POST_NOT_FOUND"
        if post.moderation == HELD:
            return "CONTENT_HELD"
        post.policy, post.commenting, post.locked = policy, tags, locked
        return ""

    def may_comment(self, user: int, name: str) -> bool:
        """Tell whether somebody who sees a post may comment on it."""
        post = self.posts[name]
        if post.locked or user == post.author or post.policy == ALL:
            return not post.locked
        admitting = post.commenting - self.deleted_tags if post.policy == TAGS else set()
        return any(user in self.members[tag] for tag in admitting)

    def comment(self, comment: str, post: str, author: int, body: str, parent: str = "") -> str:
        """Write a comment, or a reply to its parent."""
        if not self.may_see(author, post):
            return "POST_NOT_FOUND"
        if not self.may_comment(author, post):
            return "COMMENTS_CLOSED"
        if parent and parent not in self.comments_for(author, post):
            return "COMMENT_NOT_FOUND"
        self.comments[comment] = Comment(post=post, author=author, body=body, parent=parent)
        return ""

    def edit_comment(self, name: str, user: int, body: str) -> str:
        """Change a comment of one's own, under a post that one sees."""
        comment = self.comments[name]
        if comment.deleted or comment.author != user or not self.may_see(user, comment.post):
            return "COMMENT_NOT_FOUND"
        if comment.moderation == HELD:
            return "CONTENT_HELD"
        comment.body = body
        return ""

    def delete_comment(self, name: str, user: int) -> str:
        """Delete a comment of one's own or under a post of one's own, with the replies to it."""
        comment = self.comments[name]
        is_shown = comment.moderation == VISIBLE
        if user != comment.author and (user != self.posts[comment.post].author or not is_shown):
            return "COMMENT_NOT_FOUND"
        for reply in (comment, *(one for one in self.comments.values() if one.parent == name)):
            reply.deleted = True
        return ""

    def hide_comment(self, name: str, user: int, *, hidden: bool) -> str:
        """Hide a comment under a post of one's own from others, or show it again."""
        comment = self.comments[name]
        is_there = not comment.deleted and comment.moderation == VISIBLE
        if not is_there or user != self.posts[comment.post].author:
            return "COMMENT_NOT_FOUND"
        comment.hidden = hidden
        return ""

    def moderate(self, name: str, state: str) -> None:
        """Hide a post or a comment from all but its author, hold it, or show it again."""
        (self.posts.get(name) or self.comments[name]).moderation = state

    def comment_count(self, post: str) -> int:
        """How many comments a post is said to have."""
        return sum(self.comments[name].moderation == VISIBLE for name in self.comments_on(post))

    def comments_on(self, post: str) -> list[str]:
        """The comments on a post, replies among them, oldest first."""
        return [
            name
            for name, comment in self.comments.items()
            if comment.post == post and not comment.deleted
        ]

    def comments_for(self, viewer: int, post: str, parent: str = "") -> list[str]:
        """The comments on a post that a viewer of the post sees, or the replies to one of them."""
        return [
            name
            for name in self.comments_on(post)
            if self.comments[name].parent == parent and self._is_for(viewer, name)
        ]

    def most_replies(self, viewer: int, comment: str) -> int:
        """How many replies a comment has for a viewer if nobody is suspended."""
        suspended, self.suspended = self.suspended, set()
        count = len(self.comments_for(viewer, self.comments[comment].post, comment))
        self.suspended = suspended
        return count

    def may_see_comment(self, viewer: int, name: str) -> bool:
        """Tell whether a viewer sees a comment: with its post, and with what it replies to."""
        comment = self.comments[name]
        seen = [name, comment.parent] if comment.parent else [name]
        return self.may_see(viewer, comment.post) and all(
            not self.comments[one].deleted and self._is_for(viewer, one) for one in seen
        )

    def comments_by(self, user: int) -> list[str]:
        """The comments that a user has written, on any post, newest first."""
        return [
            name
            for name in reversed(self.comments)
            if self.comments[name].author == user and not self.comments[name].deleted
        ]

    def _is_for(self, viewer: int, name: str) -> bool:
        """A block hides both sides' comments; a hidden one is for its author and the post's.

        One that is moderated is for its author alone, and a suspension hides all of a person's.
        """
        comment = self.comments[name]
        authors = (comment.author, self.posts[comment.post].author)
        return (
            not self.is_block_between(viewer, comment.author)
            and (not comment.hidden or viewer in authors)
            and (comment.moderation == VISIBLE or viewer == comment.author)
            and comment.author not in self.suspended
        )
