"""Services are told who sees what: many pairs at once, and all viewers of one post.

The answers are those of GetPost and ListComments, after any events between the people.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from feed_service.connections_cache import CachedViewer
from feed_service.graph_client import GraphClient
from feed_service.layouts import DISTRIBUTED
from kith.client import pages
from kith.client.channel_options import client_options
from kith.feed.v1 import feed_pb2 as pb
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1 import graph_pb2
from tests.support.errors import fields_of, reason_of, refusal
from tests.support.examples import seeds
from tests.support.pair import LAYOUT, Pair, another_feed
from tests.support.pauses import CASES, Pause, nothing_told
from tests.support.people import ALL, PRIVATE, People, all_without, tagged
from tests.support.processes import Session

Check = pb.CheckVisibilityRequest.VisibilityCheck
_PEOPLE = 7
_POSTS = 12
_COMMENTS = 25


def _check(viewer_id: int, post: pb.PostName, comment_id: int = 0) -> Check:
    return Check(viewer_id=viewer_id, post=post, comment_id=comment_id)


def _checked(pair: Pair, checks: Iterable[Check]) -> list[bool]:
    return list(pair.feed.CheckVisibility(pb.CheckVisibilityRequest(checks=checks)).visible)


def _viewers(pair: Pair, post: pb.PostName, page_size: int = 100) -> list[int]:
    request = pb.ListViewersRequest(post=post, page_size=page_size)
    *full, last = pages(pair.feed.ListViewers, request)
    found = [viewer for page in (*full, last) for viewer in page.viewer_ids]
    assert all(len(page.viewer_ids) == page_size for page in full)
    assert all(page.total_count == len(found) for page in (*full, last))
    return found


def _gets(pair: Pair, viewer_id: int, post: pb.PostName) -> bool:
    request = pb.GetPostRequest(user_id=viewer_id, author_id=post.author_id, post_id=post.post_id)
    refused = refusal(pair.feed.GetPost, request)
    assert refused in {"", "POST_NOT_FOUND"}
    return not refused


def _listed(pair: Pair, viewer_id: int, post: pb.PostName) -> list[int]:
    """Return the comments that a viewer is shown on a post, none if the post is hidden."""
    request = pb.ListCommentsRequest(user_id=viewer_id, post=post, page_size=200)
    found = list[int]()
    try:
        for comment in pair.feed.ListComments(request).comments:
            request.parent_comment_id = comment.comment_id
            replies = pair.feed.ListComments(request).comments
            found += [one.comment_id for one in (comment, *replies)]
    except grpc.RpcError as error:
        if reason_of(error) != "POST_NOT_FOUND":
            raise
    return found


@dataclass
class _World:
    """People with every event that decides who sees what, in a random order."""

    pair: Pair
    people: People
    pick: random.Random
    ids: list[int] = field(default_factory=list)
    posts: list[pb.PostName] = field(default_factory=list)
    comments: list[tuple[pb.PostName, int]] = field(default_factory=list)

    def live(self) -> None:
        """Let everything happen, and end with posts and comments that were never there."""
        self.ids = self.people.new(_PEOPLE)
        self._set_revisions_apart()
        for user_id in self.ids:
            others = [other for other in self.ids if other > user_id and self.pick.random() < 0.8]
            if others:
                self.people.connect(user_id, *others)
        tags = {
            user_id: [self.people.tag(user_id, name) for name in ("one", "two")]
            for user_id in self.ids
        }
        self._give(tags)
        for _ in range(_POSTS):
            author_id = self.pick.choice(self.ids)
            audience = self._audience(tags[author_id])
            post_id = self.people.post(author_id, audience)
            self.posts.append(pb.PostName(author_id=author_id, post_id=post_id))
        for _ in range(_COMMENTS):
            self._comment()
        self._part()
        self._give(tags)
        self._hide_comments()
        for happens in (self._part, self._block, self._take, self._hide, self._unsay):
            happens()
        deleted = self.pick.choice(self.ids)
        self.pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=deleted, tag_id=tags[deleted][0]))
        self.posts.append(pb.PostName(author_id=self.ids[0], post_id=2**40))
        self.comments.append((self.posts[0], 2**40))

    def _set_revisions_apart(self) -> None:
        """Raise some people's revisions, so that no one's can be taken for another's."""
        raised = ", ".join(f"({user_id}, {2**60})" for user_id in self.ids[::2])
        with Session(self.pair.graph_url) as session:
            session.rows(f"INSERT INTO users (user_id, revision) VALUES {raised}")
            session.commit()

    def _give(self, tags: Mapping[int, Sequence[int]]) -> None:
        """Give some people's tags to some of their connections."""
        for owner_id, tag_ids in tags.items():
            connected = self.pair.graph.ListConnections(
                graph_pb2.ListConnectionsRequest(user_id=owner_id)
            ).connections
            for tag_id in tag_ids:
                given = [peer.peer_id for peer in connected if self.pick.random() < 0.4]
                if given:
                    self.people.give(owner_id, tag_id, *given)

    def _audience(self, tags: Sequence[int]) -> pb.Audience:
        one, other = tags
        return self.pick.choice(
            [ALL, PRIVATE, tagged(one), tagged(one, other), tagged(other), all_without(one)]
        )

    def _comment(self) -> None:
        post = self.pick.choice(self.posts)
        request = pb.CreateCommentRequest(user_id=self.pick.choice(self.ids), post=post, body="hi")
        if _gets(self.pair, request.user_id, post):
            request.parent_comment_id = self._parent(request.user_id, post)
            comment = self.pair.feed.CreateComment(request).comment
            self.comments.append((post, comment.comment_id))

    def _parent(self, user_id: int, post: pb.PostName) -> int:
        """Return a comment to which somebody can reply, or 0 for none."""
        request = pb.ListCommentsRequest(user_id=user_id, post=post)
        listed = self.pair.feed.ListComments(request).comments
        return self.pick.choice([0, *(comment.comment_id for comment in listed)])

    def _hide_comments(self) -> None:
        """Hide comments, of which some are shown again."""
        for post, comment_id in self.comments[1::5]:
            hide = pb.HideCommentRequest(
                user_id=post.author_id, post_id=post.post_id, comment_id=comment_id
            )
            self.pair.feed.HideComment(hide)
        post, comment_id = self.comments[1]
        self.pair.feed.UnhideComment(
            pb.UnhideCommentRequest(
                user_id=post.author_id, post_id=post.post_id, comment_id=comment_id
            )
        )

    def _part(self) -> None:
        """End connections, of which some are made again."""
        for _ in range(8):
            one, other = self.pick.sample(self.ids, 2)
            self.people.remove(one, other)
            if self.pick.random() < 0.8:
                self.people.connect(one, other)

    def _block(self) -> None:
        """Block people, some of them for a while."""
        for _ in range(4):
            one, other = self.pick.sample(self.ids, 2)
            self.people.block(one, other)
            if self.pick.random() < 0.4:
                self.people.unblock(one, other)
                self.people.connect(one, other)

    def _take(self) -> None:
        """Take a tag from everybody."""
        owner_id = self.pick.choice(self.ids)
        tags = self.pair.feed.ListTags(pb.ListTagsRequest(user_id=owner_id)).tags
        others = [user_id for user_id in self.ids if user_id != owner_id]
        self.people.take(owner_id, tags[0].tag_id, *others)

    def _hide(self) -> None:
        """Delete a post."""
        post = self.pick.choice(self.posts)
        self.pair.feed.DeletePost(
            pb.DeletePostRequest(user_id=post.author_id, post_id=post.post_id)
        )

    def _unsay(self) -> None:
        """Delete comments."""
        for post, comment_id in self.comments[::6]:
            self.pair.feed.DeleteComment(
                pb.DeleteCommentRequest(user_id=post.author_id, post=post, comment_id=comment_id)
            )


@pytest.fixture(scope="module")
def feeds(pair: Pair) -> Iterator[Sequence[FeedServiceStub]]:
    """Services with the statements for one PostgreSQL and with those for a Citus."""
    if LAYOUT is DISTRIBUTED:
        yield [pair.feed]
        return
    with another_feed(pair, {"FEED_LAYOUT": DISTRIBUTED.name}) as (_, other):
        yield [pair.feed, other]


@pytest.mark.parametrize("seed", seeds(0, 1))
def test_the_answers_about_a_random_world_are_those_of_single_reads(
    pair: Pair, people: People, feeds: Sequence[FeedServiceStub], seed: int
) -> None:
    world = _World(pair=pair, people=people, pick=random.Random(seed))
    # The rule alone has to tell which tags have ended.
    with nothing_told(pair):
        world.live()
        _compare(world, feeds)


def _single_reads(
    pair: Pair, world: _World
) -> tuple[dict[tuple[int, int], bool], dict[tuple[int, int], bool]]:
    """Return which viewers are shown which posts, and which comments, one read after the other."""
    gets = {
        (viewer_id, post.post_id): _gets(pair, viewer_id, post)
        for viewer_id in world.ids
        for post in world.posts
    }
    commented = {post.post_id: post for post, _ in world.comments}
    listed = {
        (viewer_id, post_id): _listed(pair, viewer_id, post)
        for viewer_id in world.ids
        for post_id, post in commented.items()
    }
    lists = {
        (viewer_id, comment_id): comment_id in listed[viewer_id, post.post_id]
        for viewer_id in world.ids
        for post, comment_id in world.comments
    }
    return gets, lists


def _compare(world: _World, feeds: Sequence[FeedServiceStub]) -> None:
    options = client_options("feed")
    with grpc.insecure_channel(world.pair.feed_server.address, options) as channel:
        # Repeats calls, as clients should: the graph may not answer in time on a busy machine.
        gets, lists = _single_reads(replace(world.pair, feed=FeedServiceStub(channel)), world)
    assert set(gets.values()) == set(lists.values()) == {True, False}

    of_posts = [_check(viewer_id, post) for viewer_id in world.ids for post in world.posts]
    of_comments = [_check(viewer_id, *name) for viewer_id in world.ids for name in world.comments]
    world.pick.shuffle(of_posts)
    mixed = world.pick.sample([*of_posts, *of_comments], len(of_posts) + len(of_comments))
    by_post = [[_check(viewer_id, post) for viewer_id in world.ids] for post in world.posts]
    by_viewer = [[_check(viewer_id, post) for post in world.posts] for viewer_id in world.ids]
    for checks in (of_posts, mixed, *by_post, *by_viewer):
        expected = [
            lists[check.viewer_id, check.comment_id]
            if check.comment_id
            else gets[check.viewer_id, check.post.post_id]
            for check in checks
        ]
        request = pb.CheckVisibilityRequest(checks=checks)
        for feed in feeds:
            assert list(feed.CheckVisibility(request).visible) == expected
    for post in world.posts:
        assert _viewers(world.pair, post, page_size=2) == [
            viewer_id for viewer_id in sorted(world.ids) if gets[viewer_id, post.post_id]
        ]


def test_a_check_that_is_given_twice_is_answered_twice(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    [stranger] = people.new(1)
    post = pb.PostName(author_id=author, post_id=people.post(author))
    asked = [_check(friend, post), _check(stranger, post), _check(friend, post)]

    assert _checked(pair, asked) == [True, False, True]


def test_a_post_under_the_name_of_another_author_is_not_there(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post_id = people.post(author)
    misnamed = pb.PostName(author_id=friend, post_id=post_id)

    assert _checked(pair, [_check(friend, misnamed), _check(author, misnamed)]) == [False, False]
    assert _viewers(pair, misnamed) == []


def test_a_comment_is_visible_on_its_own_post_alone(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    posts = [pb.PostName(author_id=author, post_id=people.post(author)) for _ in range(2)]
    comment = pb.CreateCommentRequest(user_id=friend, post=posts[0], body="hello")
    comment_id = pair.feed.CreateComment(comment).comment.comment_id

    assert _checked(pair, [_check(friend, post, comment_id) for post in posts]) == [True, False]


def test_viewers_of_more_people_than_the_graph_tells_of_at_once_are_checked(
    pair: Pair, people: People
) -> None:
    authors, viewers = people.new(120), people.new(130)
    for number, author in enumerate(authors):
        people.connect(author, viewers[number], viewers[number + 1])
    posts = [pb.PostName(author_id=author, post_id=people.post(author)) for author in authors]
    checks = [
        _check(viewers[number + offset], post)
        for number, post in enumerate(posts)
        for offset in range(3)
    ]

    assert _checked(pair, checks) == [True, True, False] * len(posts)


_POST = pb.PostName(author_id=1, post_id=1)
_BAD_CHECKS = {
    "none": ([], ["checks"]),
    "too many": ([_check(1, _POST)] * 1_001, ["checks"]),
    "no viewer": ([_check(1, _POST), _check(0, _POST)], ["checks[1].viewer_id"]),
    "no post": (
        [Check(viewer_id=1)],
        ["checks[0].post.author_id", "checks[0].post.post_id"],
    ),
    "a negative comment": ([_check(1, _POST, -1)], ["checks[0].comment_id"]),
}


@pytest.mark.parametrize("case", _BAD_CHECKS)
def test_a_bad_check_is_named(pair: Pair, case: str) -> None:
    checks, fields = _BAD_CHECKS[case]

    with pytest.raises(grpc.RpcError) as caught:
        _checked(pair, checks)

    assert fields_of(caught) == fields


def test_a_bad_list_of_viewers_is_named(pair: Pair) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.ListViewers(pb.ListViewersRequest(page_size=-1))

    assert fields_of(caught) == ["post.author_id", "post.post_id", "page_size"]


# What is asked while another user acts between any two steps of the read.

Ask = Callable[[Pair, int, pb.PostName, int], bool]
"""Whether a viewer is said to see a post, or a comment on it, by one of the calls."""


def _asked_of_author(pair: Pair, viewer_id: int, post: pb.PostName, _comment_id: int) -> bool:
    return _checked(pair, [_check(viewer_id, post)])[0]


def _asked_of_viewer(pair: Pair, viewer_id: int, post: pb.PostName, _comment_id: int) -> bool:
    another = pb.PostName(author_id=post.author_id + 1_000_000_000, post_id=1)
    return _checked(pair, [_check(viewer_id, post), _check(viewer_id, another)])[0]


def _asked_of_comment(pair: Pair, viewer_id: int, post: pb.PostName, comment_id: int) -> bool:
    return _checked(pair, [_check(viewer_id, post, comment_id)])[0]


def _listed_viewers(pair: Pair, viewer_id: int, post: pb.PostName, _comment_id: int) -> bool:
    return viewer_id in _viewers(pair, post)


_ASKS = pytest.mark.parametrize(
    "ask", [_asked_of_author, _asked_of_viewer, _asked_of_comment, _listed_viewers]
)
_STEPS = pytest.mark.parametrize(("start", "step"), CASES)


@pytest.fixture
def pause(pair: Pair) -> Iterator[Pause]:
    """A pause that is gone after the test."""
    pause = Pause(pair)
    yield pause
    pause.off()


@dataclass(frozen=True, kw_only=True)
class _Hidden:
    """A post by Alice, with a comment by Carol, that no third person sees; Bob is a connection."""

    pair: Pair
    people: People
    alice: int
    bob: int
    carol: int
    post: pb.PostName
    comment_id: int

    def show(self, audience: pb.Audience = ALL) -> None:
        """Let others see it."""
        self.pair.feed.UpdatePost(
            pb.UpdatePostRequest(
                user_id=self.alice,
                post=pb.Post(post_id=self.post.post_id, audience=audience),
                update_mask=FieldMask(paths=["audience"]),
            )
        )

    def answer(self, ask: Ask) -> bool:
        """Ask whether Bob sees it."""
        return ask(self.pair, self.bob, self.post, self.comment_id)


@pytest.fixture
def hidden(pair: Pair, people: People) -> _Hidden:
    """The post, which all connections could see until Carol had written."""
    alice, bob, carol = people.connected(3)
    post = pb.PostName(author_id=alice, post_id=people.post(alice))
    comment = pb.CreateCommentRequest(user_id=carol, post=post, body="about bob")
    comment_id = pair.feed.CreateComment(comment).comment.comment_id
    hidden = _Hidden(
        pair=pair,
        people=people,
        alice=alice,
        bob=bob,
        carol=carol,
        post=post,
        comment_id=comment_id,
    )
    hidden.show(PRIVATE)
    return hidden


@_ASKS
@_STEPS
def test_nobody_is_said_to_see_what_was_shown_after_their_connection_ended(
    hidden: _Hidden, pause: Pause, ask: Ask, start: str, step: str
) -> None:
    if start == "warm":
        hidden.answer(ask)
    acted: list[int] = []

    def end_and_show() -> None:
        hidden.people.remove(hidden.alice, hidden.bob)
        hidden.show()
        acted.append(hidden.bob)

    pause.at(step, end_and_show)
    answer = hidden.answer(ask)
    pause.off()

    assert acted
    assert not answer


@_ASKS
@pytest.mark.parametrize("step", [step for start, step in CASES if start == "warm"])
def test_nobody_is_said_to_see_what_was_shown_to_a_tag_that_ended_with_a_connection(
    hidden: _Hidden, pause: Pause, ask: Ask, step: str
) -> None:
    family = hidden.people.tag(hidden.alice, "family", hidden.bob)
    hidden.answer(ask)
    acted: list[int] = []

    def return_and_show() -> None:
        hidden.people.remove(hidden.alice, hidden.bob)
        hidden.people.connect(hidden.alice, hidden.bob)
        hidden.show(tagged(family))
        acted.append(family)

    pause.at(step, return_and_show)
    answer = hidden.answer(ask)
    pause.off()

    assert acted
    assert not answer


@_STEPS
def test_nobody_is_said_to_see_a_comment_that_was_shown_after_a_block(
    hidden: _Hidden, pause: Pause, start: str, step: str
) -> None:
    if start == "warm":
        hidden.answer(_asked_of_comment)
    acted: list[int] = []

    def block_and_show() -> None:
        hidden.people.block(hidden.carol, hidden.bob)
        hidden.show()
        acted.append(hidden.carol)

    pause.at(step, block_and_show)
    answer = hidden.answer(_asked_of_comment)
    pause.off()

    assert acted
    assert not answer
    assert hidden.answer(_asked_of_author)


@pytest.mark.parametrize("ask", [_asked_of_author, _asked_of_viewer, _asked_of_comment])
def test_without_the_question_afterwards_a_removed_person_would_be_said_to_see_it(
    hidden: _Hidden, pause: Pause, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trust(
        _self: GraphClient, known: dict[int, CachedViewer], **_options: object
    ) -> tuple[dict[int, CachedViewer], frozenset[int]]:
        return known, frozenset()

    def end_and_show() -> None:
        hidden.people.remove(hidden.alice, hidden.bob)
        hidden.show()

    monkeypatch.setattr(GraphClient, "current_all", trust)
    pause.at("before the posts are read", end_and_show)

    assert hidden.answer(ask)


@pytest.mark.usefixtures("pause")
def test_pairs_whose_connection_never_holds_still_are_asked_for_again(hidden: _Hidden) -> None:
    alice, bob = hidden.alice, hidden.bob

    def flip(statement: str) -> None:
        if "posts AS p" in statement:
            hidden.people.remove(alice, bob)
            hidden.people.connect(alice, bob)

    hidden.pair.feed_tap.before_statement = flip
    with pytest.raises(grpc.RpcError) as caught:
        hidden.answer(_asked_of_author)

    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.ABORTED


@pytest.mark.usefixtures("pause")
def test_a_change_between_other_people_costs_no_second_read(hidden: _Hidden) -> None:
    hidden.show()
    reads: list[str] = []

    def remove_carol(statement: str) -> None:
        if "posts AS p" in statement:
            reads.append(statement)
            hidden.people.remove(hidden.alice, hidden.carol)

    hidden.pair.feed_tap.before_statement = remove_carol

    assert hidden.answer(_asked_of_author)
    assert len(reads) == 1
