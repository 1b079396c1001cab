"""What the pair should do, from its design and its protos alone: plain sets, no cleverness.

Every command returns the reason with which it should be refused, or nothing when it should succeed.
"""

from dataclasses import dataclass, field

ALL, TAGS, PRIVATE = "all", "tags", "private"


@dataclass
class Post:
    """A post in the order of its creation."""

    author: int
    audience: str
    tags: frozenset[str]
    excluded: frozenset[str]
    deleted: bool = False


@dataclass
class Oracle:
    """The state of the pair. Tags and posts go by names that the test gives them."""

    connected: set[frozenset[int]] = field(default_factory=set)
    requests: set[tuple[int, int]] = field(default_factory=set)
    blocks: set[tuple[int, int]] = field(default_factory=set)
    owners: dict[str, int] = field(default_factory=dict)
    deleted_tags: set[str] = field(default_factory=set)
    members: dict[str, set[int]] = field(default_factory=dict)
    posts: dict[str, Post] = field(default_factory=dict)

    # The graph.

    def request(self, user: int, peer: int) -> str:
        """Ask, or connect when asked already."""
        if (user, peer) in self.blocks:
            return "PEER_BLOCKED"
        if (peer, user) in self.blocks:
            return "CONNECTION_NOT_ALLOWED"
        if (peer, user) in self.requests:
            self._connect(user, peer)
        elif not self.are_connected(user, peer):
            self.requests.add((user, peer))
        return ""

    def accept(self, user: int, peer: int) -> str:
        """Accept what the peer asked."""
        if self.are_connected(user, peer):
            return ""
        if (peer, user) not in self.requests:
            return "CONNECTION_REQUEST_NOT_FOUND"
        self._connect(user, peer)
        return ""

    def decline(self, user: int, peer: int) -> str:
        """Refuse what the peer asked."""
        if self.are_connected(user, peer):
            return "ALREADY_CONNECTED"
        self.requests.discard((peer, user))
        return ""

    def cancel(self, user: int, peer: int) -> str:
        """Take back what the user asked."""
        if self.are_connected(user, peer):
            return "ALREADY_CONNECTED"
        self.requests.discard((user, peer))
        return ""

    def remove(self, user: int, peer: int) -> str:
        """End a connection."""
        self.connected.discard(frozenset((user, peer)))
        return ""

    def block(self, user: int, peer: int) -> str:
        """Block, which ends everything between the two unless they are blocked already."""
        self.blocks.add((user, peer))
        self.requests -= {(user, peer), (peer, user)}
        self.connected.discard(frozenset((user, peer)))
        return ""

    def unblock(self, user: int, peer: int) -> str:
        """Lift one's own block."""
        self.blocks.discard((user, peer))
        return ""

    def are_connected(self, user: int, peer: int) -> bool:
        """Whether the two are connected."""
        return frozenset((user, peer)) in self.connected

    def connections(self, user: int) -> set[int]:
        """A user's connections."""
        return {other for pair in self.connected if user in pair for other in pair - {user}}

    def incoming(self, user: int) -> set[int]:
        """Who has asked the user."""
        return {asker for asker, asked in self.requests if asked == user}

    def outgoing(self, user: int) -> set[int]:
        """Whom the user has asked."""
        return {asked for asker, asked in self.requests if asker == user}

    def blocked(self, user: int) -> set[int]:
        """Whom the user has blocked."""
        return {peer for blocker, peer in self.blocks if blocker == user}

    def _connect(self, user: int, peer: int) -> None:
        self.requests -= {(user, peer), (peer, user)}
        self.connected.add(frozenset((user, peer)))

    # Tags.

    def create_tag(self, tag: str, owner: int) -> None:
        """Create a tag that nobody has yet."""
        self.owners[tag] = owner
        self.members[tag] = set()

    def delete_tag(self, tag: str) -> None:
        """Delete a tag: it lets nobody see anything, and goes on keeping people from posts."""
        self.deleted_tags.add(tag)

    def give(self, tag: str, person: int) -> str:
        """Give a tag to a connection."""
        if tag in self.deleted_tags:
            return "TAG_NOT_FOUND"
        if not self.are_connected(self.owners[tag], person):
            return "NOT_CONNECTED"
        self.members[tag].add(person)
        return ""

    def take(self, tag: str, person: int) -> str:
        """Take a tag away."""
        if tag in self.deleted_tags:
            return "TAG_NOT_FOUND"
        self.members[tag].discard(person)
        return ""

    def tags_of(self, owner: int) -> set[str]:
        """The tags that an owner has."""
        return {tag for tag, by in self.owners.items() if by == owner} - self.deleted_tags

    # Posts.

    def delete_post(self, post: str) -> None:
        """Delete a post."""
        self.posts[post].deleted = True

    def may_see(self, viewer: int, name: str) -> bool:
        """Tell by the rule of the design whether a viewer sees a post.

        The tags that one person has given another stay stored when their connection ends, without
        any effect until the two are connected again.
        """
        post = self.posts[name]
        if post.deleted:
            return False
        if viewer == post.author:
            return True
        if not self.are_connected(viewer, post.author):
            return False
        if any(viewer in self.members[tag] for tag in post.excluded):
            return False
        if post.audience == ALL:
            return True
        given = {tag for tag in post.tags - self.deleted_tags if viewer in self.members[tag]}
        return post.audience == TAGS and bool(given)

    def feed(self, viewer: int) -> list[str]:
        """The posts that a viewer sees, newest first."""
        return [name for name in reversed(self.posts) if self.may_see(viewer, name)]
