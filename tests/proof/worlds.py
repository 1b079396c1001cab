"""Worlds: a few people, and what both databases say of them that decides who sees what.

All of a world is read at once, with plain statements, and the plain rule of the auditor is asked
about it. Posts that differ in nothing that the rule reads have the same ruling: the rule is asked
once for each viewer and each such group, and that is what makes many decisions quick.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

from feed_service.auditor.facts import AudienceTag, Comment, Facts, Mute, Post, Relation
from feed_service.auditor.items import Item
from feed_service.auditor.primaries import Primary, Rows
from feed_service.auditor.rule import Clause, Ruling, is_muted, ruling
from shared.database.arrays import array_literal
from shared.database.statement import Statement
from tests.proof.kinds import kind
from tests.support.processes import until

_CONNECTIONS: Final = Statement(
    "proof_connections",
    """
    SELECT user_a_id, user_b_id, id, status = 'accepted' FROM connections
    WHERE user_a_id = ANY (CAST(:people AS bigint[])) OR user_b_id = ANY (CAST(:people AS bigint[]))
    """,
)
_ENDINGS: Final = Statement(
    "proof_endings",
    """
    SELECT user_a_id, user_b_id, user_a_revision, user_b_revision FROM endings
    WHERE user_a_id = ANY (CAST(:people AS bigint[])) OR user_b_id = ANY (CAST(:people AS bigint[]))
    """,
)
_BLOCKS: Final = Statement(
    "proof_blocks",
    """
    SELECT blocker_id, blocked_id FROM blocks
    WHERE blocker_id = ANY (CAST(:people AS bigint[]))""",
)
_SUSPENSIONS: Final = Statement(
    "proof_suspensions",
    "SELECT user_id FROM suspensions WHERE user_id = ANY (CAST(:people AS bigint[]))",
)
_ERASURES: Final = Statement(
    "proof_erasures",
    "SELECT user_id, revision FROM erasures WHERE user_id = ANY (CAST(:people AS bigint[]))",
)
_ERASED: Final = Statement(
    "proof_erased",
    "SELECT user_id, revision FROM erased_users WHERE user_id = ANY (CAST(:people AS bigint[]))",
)
_POSTS: Final = Statement(
    "proof_posts",
    """
    SELECT author_id, id, coalesce(chosen_audience, audience), moderated_at IS NOT NULL,
           deleted_at IS NOT NULL, created_at, importance
    FROM posts WHERE author_id = ANY (CAST(:people AS bigint[]))""",
)
_AUDIENCES: Final = Statement(
    "proof_audiences",
    """
    SELECT author_id, post_id, tag_id, excluded FROM post_audience_tags
    WHERE author_id = ANY (CAST(:people AS bigint[])) ORDER BY author_id, post_id, tag_id""",
)
_TAGS: Final = Statement(
    "proof_tags",
    """
    SELECT owner_user_id, id, deleted_at IS NOT NULL, coalesce(muted_until > now(), false)
    FROM tags WHERE owner_user_id = ANY (CAST(:people AS bigint[]))""",
)
_GIVEN: Final = Statement(
    "proof_given",
    """
    SELECT owner_user_id, tag_id, target_user_id, owner_revision FROM user_tags
    WHERE owner_user_id = ANY (CAST(:people AS bigint[]))""",
)
_COMMENTS: Final = Statement(
    "proof_comments",
    """
    SELECT post_author_id, post_id, id, parent_id, author_id, deleted_at IS NOT NULL,
           moderated_at IS NOT NULL, hidden
    FROM comments WHERE post_author_id = ANY (CAST(:people AS bigint[]))
    ORDER BY post_author_id, post_id, parent_id IS NOT NULL""",
)
_READ: Final = Statement(
    "proof_read_positions",
    "SELECT user_id, read_at FROM read_positions WHERE user_id = ANY (CAST(:people AS bigint[]))",
)
# The rule does not read when something was written, and by what transaction.
_NO_MOMENT: Final = datetime.min.replace(tzinfo=UTC)
_NOT_SAID: Final = ""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """All that the rule reads of a post, without what the viewer has of its tags."""

    author_id: int
    audience: str
    is_moderated: bool
    is_deleted: bool
    tags: tuple[tuple[int, bool], ...]


@dataclass(frozen=True, kw_only=True)
class Written:
    """When a post was written, and how important it is: what digests and the order go by."""

    at: datetime
    importance: float


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Items about which the rule says the same to one viewer, in one call."""

    items: Collection[Item]
    facts: Facts
    ruled: Ruling | None
    is_muted: bool = False

    @cached_property
    def kind(self) -> str:
        """Return the kind of decision."""
        said = kind(self.facts, next(iter(self.items)), self.ruled)
        return f"{Clause.MUTED}, else {said}" if self.is_muted else said

    @property
    def is_shown(self) -> bool:
        """Whether the viewer should see them; not if the contract allows either answer."""
        return self.ruled is not None and self.ruled.is_visible and not self.is_muted


@dataclass(frozen=True)
class Expected:
    """What one call should show to one viewer."""

    groups: Sequence[Alike]

    @cached_property
    def shown(self) -> frozenset[Item]:
        """What should be shown."""
        return frozenset(item for group in self.groups if group.is_shown for item in group.items)

    @cached_property
    def unknown(self) -> frozenset[Item]:
        """What may be shown and may be left out."""
        return frozenset(
            item
            for group in self.groups
            if group.ruled is None and not group.is_muted
            for item in group.items
        )

    @cached_property
    def by_item(self) -> Mapping[Item, Alike]:
        """What is decided about each item."""
        return {item: group for group in self.groups for item in group.items}

    @cached_property
    def counts(self) -> Counter[str]:
        """How many decisions there are of each kind, without those that cannot be wrong."""
        counts = Counter[str]()
        for group in self.groups:
            if group.ruled is not None or group.is_muted:
                counts[group.kind] += len(group.items)
        return counts


@dataclass(frozen=True, kw_only=True)
class World:
    """What both databases say of some people, while nothing changes."""

    people: Sequence[int]
    connections: Mapping[frozenset[int], tuple[int, bool]]
    endings: Mapping[tuple[int, int], int]
    blocks: frozenset[frozenset[int]]
    suspended: frozenset[int]
    refused_or_not: frozenset[int]
    erasures: Mapping[int, int]
    erased: Mapping[int, int]
    alike: Mapping[Stored, Sequence[Item]]
    written: Mapping[Item, Written]
    comments: Mapping[Item, Comment]
    deleted_tags: frozenset[tuple[int, int]]
    muted_tags: frozenset[tuple[int, int]]
    given: Mapping[tuple[int, int, int], int]
    read: Mapping[int, datetime]
    _facts: dict[int, Facts] = field(default_factory=dict, repr=False)
    _expected: dict[int, tuple[Expected, Expected]] = field(default_factory=dict, repr=False)

    @cached_property
    def posts(self) -> Sequence[Item]:
        """Return all posts, deleted ones among them, oldest first in the order of feeds."""
        return sorted(self.written, key=self.position)

    def posts_between(self, start: datetime, end: datetime) -> Sequence[Item]:
        """Return the posts from a moment on and before another one."""
        first, last = (
            bisect_left(self.posts, (moment, 0), key=self.position) for moment in (start, end)
        )
        return self.posts[first:last]

    def position(self, item: Item) -> tuple[datetime, int]:
        """Return where a post is in the order of feeds."""
        return self.written[item].at, item.post_id

    @property
    def are_settled(self) -> bool:
        """Whether the feed has erased everybody whom the graph has erased."""
        return all(self.erased.get(user, 0) >= at for user, at in self.erasures.items())

    def facts(self, viewer_id: int) -> Facts:
        """Return what the plain rule reads about one viewer and everything in this world.

        Of posts that are alike it has one, and those with comments.
        """
        if viewer_id not in self._facts:
            self._facts[viewer_id] = self._facts_of(viewer_id, self._examples)
        return self._facts[viewer_id]

    def reasons(self, viewer_id: int, item: Item) -> str:
        """Return the ruling about an item, and all that it depends on, for people."""
        facts = self._facts_of(viewer_id, self.alike.items())
        return (
            f"The rule says {ruling(facts, item)} of {facts.posts.get(item.post)}, "
            f"{facts.comments.get(item)}, viewer {facts.relation(viewer_id)}, "
            f"author {facts.relation(item.author_id)}, mutes {facts.mutes.get(item.author_id)}"
        )

    def seen_by(self, viewer_id: int) -> Expected:
        """Return which posts a viewer should see."""
        return self._of(viewer_id)[0]

    def feed_of(self, viewer_id: int) -> Expected:
        """Return which posts should be in a viewer's feed."""
        return self._of(viewer_id)[1]

    def comments_for(self, viewer_id: int) -> Expected:
        """Return which comments a viewer should see."""
        facts = self.facts(viewer_id)
        return Expected(
            [Alike(items=(item,), facts=facts, ruled=ruling(facts, item)) for item in self.comments]
        )

    def posts_of(self, viewer_id: int, author_id: int) -> Expected:
        """Return which posts of one author a viewer should see."""
        seen = zip(self.alike, self.seen_by(viewer_id).groups, strict=True)
        return Expected([group for stored, group in seen if stored.author_id == author_id])

    def feed_by(
        self, viewer_id: int, *, tag_ids: Collection[int], author_ids: Collection[int]
    ) -> Expected:
        """Return which posts should be in a viewer's feed with filters, of which one is not empty.

        Other posts should not be, of which nothing more is said.
        """
        wanted = set(author_ids or self.people)
        if tag_ids:
            wanted &= {viewer_id} | self.members(viewer_id, tag_ids)
        seen = zip(self.alike, self.seen_by(viewer_id).groups, strict=True)
        return Expected([group for stored, group in seen if stored.author_id in wanted])

    def members(self, owner_id: int, tag_ids: Collection[int]) -> set[int]:
        """Return the people who have one of a user's tags."""
        return {
            person_id
            for tag_id, person_id, given_at in self._given_by[owner_id]
            if tag_id in tag_ids
            and (owner_id, tag_id) not in self.deleted_tags
            and given_at > self.endings.get((owner_id, person_id), 0)
        }

    def tags_of(self, owner_id: int) -> list[int]:
        """Return all tags that a user has given to somebody, also in the past."""
        return sorted({tag_id for tag_id, _, _ in self._given_by[owner_id]})

    @cached_property
    def _given_by(self) -> Mapping[int, list[tuple[int, int, int]]]:
        """What people have given: tags, to whom, and at which revisions of their own."""
        given = defaultdict[int, list[tuple[int, int, int]]](list)
        for (owner_id, tag_id, person_id), given_at in self.given.items():
            given[owner_id].append((tag_id, person_id, given_at))
        return given

    @cached_property
    def _examples(self) -> Collection[tuple[Stored, Sequence[Item]]]:
        commented = {comment.post for comment in self.comments}
        return [
            (stored, [items[0], *commented.intersection(items)])
            for stored, items in self.alike.items()
        ]

    def _facts_of(self, viewer_id: int, alike: Collection[tuple[Stored, Sequence[Item]]]) -> Facts:
        posts = dict[Item, Post]()
        for stored, items in alike:
            posts.update(dict.fromkeys(items, self._post(viewer_id, stored)))
        mutes = defaultdict[int, tuple[Mute, ...]](tuple)
        for tag_id, person_id, given_at in self._given_by[viewer_id]:
            if (viewer_id, tag_id) in self.muted_tags:
                mute = Mute(tag_id=tag_id, given_at=given_at, written_by=_NOT_SAID)
                mutes[person_id] += (mute,)
        return Facts(
            viewer_id=viewer_id,
            taken_at=0,
            position=_NOT_SAID,
            suspensions=0,
            are_suspensions_known=viewer_id not in self.refused_or_not,
            relations={each: self._relation(viewer_id, each) for each in self.people},
            erased=self.erased,
            posts=posts,
            comments=self.comments,
            mutes=mutes,
            own_tags=_NOT_SAID,
        )

    def _of(self, viewer_id: int) -> tuple[Expected, Expected]:
        if viewer_id not in self._expected:
            facts = self.facts(viewer_id)
            muted = {
                user_id
                for user_id in self.people
                if user_id != viewer_id and is_muted(facts, user_id)
            }
            seen, in_feed = list[Alike](), list[Alike]()
            for stored, items in self.alike.items():
                group = Alike(items=items, facts=facts, ruled=ruling(facts, items[0]))
                seen.append(group)
                in_feed.append(
                    Alike(items=items, facts=facts, ruled=group.ruled, is_muted=True)
                    if stored.author_id in muted
                    else group
                )
            self._expected[viewer_id] = (Expected(seen), Expected(in_feed))
        return self._expected[viewer_id]

    def _post(self, viewer_id: int, stored: Stored) -> Post:
        author_id = stored.author_id
        return Post(
            created_at=_NO_MOMENT,
            audience=stored.audience,
            is_moderated=stored.is_moderated,
            is_deleted=stored.is_deleted,
            written_by=_NOT_SAID,
            tags=tuple(
                AudienceTag(
                    tag_id=tag_id,
                    is_excluded=is_excluded,
                    is_deleted=(author_id, tag_id) in self.deleted_tags,
                    given_at=self.given.get((author_id, tag_id, viewer_id)),
                    written_by=_NOT_SAID,
                )
                for tag_id, is_excluded in stored.tags
            ),
        )

    def _relation(self, viewer_id: int, user_id: int) -> Relation:
        both = frozenset((viewer_id, user_id))
        connection_id, is_accepted = self.connections.get(both, (None, False))
        return Relation(
            connection_id=connection_id,
            is_accepted=is_accepted,
            viewer_ending=self.endings.get((viewer_id, user_id), 0),
            peer_ending=self.endings.get((user_id, viewer_id), 0),
            is_blocked=both in self.blocks,
            is_suspended=user_id in self.suspended,
            erasure=self.erasures.get(user_id, 0),
            revision=0,
        )


@dataclass(frozen=True, kw_only=True)
class Worlds:
    """Reads worlds from both primary databases. For one thread."""

    graph: Primary
    feed: Primary

    def read(self, people: Sequence[int], *, refused_or_not: Collection[int] = ()) -> World:
        """Read what both databases say of some people, once all erasures have ended.

        Nobody else may change anything of these people meanwhile. The calls of some users are
        perhaps refused and perhaps not, because they were suspended or restored a moment ago.
        """
        world = self._read(people, refused_or_not)
        if not world.are_settled:
            until(lambda: self._read(people, refused_or_not).are_settled)
            world = self._read(people, refused_or_not)
        return world

    def close(self) -> None:
        """End both sessions."""
        self.graph.close()
        self.feed.close()

    def _read(self, people: Sequence[int], refused_or_not: Collection[int]) -> World:
        among = {"people": array_literal(people)}
        with self.graph.snapshot() as graph:
            connections = graph.rows(_CONNECTIONS, among)
            endings = graph.rows(_ENDINGS, among)
            blocks = graph.rows(_BLOCKS, among)
            suspensions = graph.rows(_SUSPENSIONS, among)
            erasures = graph.rows(_ERASURES, among)
        with self.feed.snapshot() as feed:
            erased = feed.rows(_ERASED, among)
            posts = feed.rows(_POSTS, among)
            audiences = feed.rows(_AUDIENCES, among)
            tags = feed.rows(_TAGS, among)
            given = feed.rows(_GIVEN, among)
            comments = feed.rows(_COMMENTS, among)
            read = feed.rows(_READ, among)
        return World(
            people=people,
            connections={frozenset(row[:2]): (row[2], row[3]) for row in connections},
            endings={
                pair: revision
                for a, b, of_a, of_b in endings
                for pair, revision in (((a, b), of_a), ((b, a), of_b))
            },
            blocks=frozenset(frozenset(row) for row in blocks),
            suspended=frozenset(user_id for (user_id,) in suspensions),
            refused_or_not=frozenset(refused_or_not),
            erasures=dict(erasures),
            erased=dict(erased),
            alike=_alike(posts, audiences),
            written={
                Item(author_id, post_id): Written(at=at, importance=importance)
                for author_id, post_id, *_, at, importance in posts
            },
            comments=_comments(comments),
            deleted_tags=frozenset((row[0], row[1]) for row in tags if row[2]),
            muted_tags=frozenset((row[0], row[1]) for row in tags if row[3] and not row[2]),
            given={(row[0], row[1], row[2]): row[3] for row in given},
            read=dict(read),
        )


def _alike(posts: Rows, audiences: Rows) -> dict[Stored, list[Item]]:
    tags = defaultdict[Item, list[tuple[int, bool]]](list)
    for author_id, post_id, tag_id, is_excluded in audiences:
        tags[Item(author_id, post_id)].append((tag_id, is_excluded))
    alike = defaultdict[Stored, list[Item]](list)
    for author_id, post_id, audience, is_moderated, is_deleted, *_ in posts:
        item = Item(author_id, post_id)
        stored = Stored(
            author_id=author_id,
            audience=audience,
            is_moderated=is_moderated,
            is_deleted=is_deleted,
            tags=tuple(tags[item]),
        )
        alike[stored].append(item)
    return dict(alike)


def _comments(rows: Rows) -> dict[Item, Comment]:
    """Return comments by what they are; those that are no replies come first of each post."""
    found = dict[Item, Comment]()
    for author_id, post_id, comment_id, parent_id, *said in rows:
        commenter_id, is_deleted, is_moderated, is_hidden = said
        found[Item(author_id, post_id, comment_id)] = Comment(
            author_id=commenter_id,
            is_deleted=is_deleted,
            is_moderated=is_moderated,
            is_hidden=is_hidden,
            written_by=_NOT_SAID,
            parent=None if parent_id is None else found[Item(author_id, post_id, parent_id)],
        )
    return found
