"""Authors decide who comments on their posts: everybody, nobody or people with a tag."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import decoded, fields_of, reason_of, refusal
from tests.support.pair import Pair
from tests.support.people import ALL, PRIVATE, People, tagged

NOBODY = pb.CommentPolicy(kind=pb.COMMENT_POLICY_KIND_NOBODY)
EVERYBODY = pb.CommentPolicy(kind=pb.COMMENT_POLICY_KIND_ALL)


def _with_tags(*tag_ids: int) -> pb.CommentPolicy:
    return pb.CommentPolicy(kind=pb.COMMENT_POLICY_KIND_TAGS, tag_ids=tag_ids)


class Posts:
    """Posts with policies, and comments on them."""

    def __init__(self, pair: Pair) -> None:
        self._feed = pair.feed

    def new(
        self,
        author_id: int,
        policy: pb.CommentPolicy | None = None,
        audience: pb.Audience = ALL,
    ) -> pb.PostName:
        request = pb.CreatePostRequest(
            user_id=author_id, body="hello", audience=audience, comment_policy=policy
        )
        return pb.PostName(author_id=author_id, post_id=self._feed.CreatePost(request).post.post_id)

    def get(self, viewer_id: int, post: pb.PostName) -> pb.Post:
        request = pb.GetPostRequest(
            user_id=viewer_id, author_id=post.author_id, post_id=post.post_id
        )
        return self._feed.GetPost(request).post

    def update(self, post: pb.PostName, *paths: str, **changes: object) -> pb.Post:
        changed = pb.Post(post_id=post.post_id, **changes)  # type: ignore[arg-type]  # each test names its own
        request = pb.UpdatePostRequest(
            user_id=post.author_id, post=changed, update_mask=FieldMask(paths=paths)
        )
        return self._feed.UpdatePost(request).post

    def admit(self, post: pb.PostName, policy: pb.CommentPolicy) -> pb.Post:
        return self.update(post, "comment_policy", comment_policy=policy)

    def lock(self, post: pb.PostName, *, locked: bool = True) -> pb.Post:
        return self.update(post, "comments_locked", comments_locked=locked)

    def comment(self, user_id: int, post: pb.PostName) -> str:
        """Write a comment; returns the reason for which it was refused, if it was."""
        request = pb.CreateCommentRequest(user_id=user_id, post=post, body="hello")
        return refusal(self._feed.CreateComment, request)


@pytest.fixture
def posts(pair: Pair) -> Posts:
    """Calls about posts with policies."""
    return Posts(pair)


def test_everybody_who_sees_a_post_may_comment_unless_its_author_says_otherwise(
    people: People, posts: Posts
) -> None:
    author, friend = people.connected(2)

    post = posts.new(author)

    assert posts.get(author, post).comment_policy == EVERYBODY
    assert posts.comment(friend, post) == ""


def test_exactly_those_comment_whom_the_policy_admits(people: People, posts: Posts) -> None:
    author, close, other = people.connected(3)
    family, work = people.tag(author, "family", close), people.tag(author, "work")
    policies = [EVERYBODY, NOBODY, _with_tags(family), _with_tags(work), _with_tags(family, work)]
    named = [posts.new(author, policy) for policy in policies]

    refused = [[posts.comment(user, post) for user in (author, close, other)] for post in named]

    closed = "COMMENTS_CLOSED"
    assert refused == [
        ["", "", ""],
        ["", closed, closed],
        ["", "", closed],
        ["", closed, closed],
        ["", "", closed],
    ]
    assert [posts.get(author, post).comment_policy for post in named] == policies


def test_a_policy_is_changed_and_applies_at_once(people: People, posts: Posts) -> None:
    author, friend = people.connected(2)
    post = posts.new(author)
    refused = []

    for policy in (NOBODY, _with_tags(people.tag(author, "close", friend)), NOBODY, EVERYBODY):
        assert posts.admit(post, policy).comment_policy == policy
        refused.append(posts.comment(friend, post))

    assert refused == ["COMMENTS_CLOSED", "", "COMMENTS_CLOSED", ""]


def test_a_policy_that_is_left_out_of_a_change_is_everybody(people: People, posts: Posts) -> None:
    [author] = people.new(1)
    post = posts.new(author, NOBODY)

    assert posts.update(post, "comment_policy").comment_policy == EVERYBODY


def test_other_changes_of_a_post_leave_policy_and_lock_alone(people: People, posts: Posts) -> None:
    [author] = people.new(1)
    post = posts.new(author, NOBODY)
    posts.lock(post)

    changed = posts.update(post, "body", "audience", body="changed", audience=PRIVATE)

    assert (changed.comment_policy, changed.comments_locked) == (NOBODY, True)


def test_the_policy_is_shown_to_the_author_alone_and_the_lock_to_everybody(
    people: People, posts: Posts
) -> None:
    author, friend = people.connected(2)
    post = posts.new(author, _with_tags(people.tag(author, "close")))
    posts.lock(post)

    shown = posts.get(friend, post)

    assert not shown.HasField("comment_policy")
    assert shown.comments_locked


@pytest.mark.parametrize("ending", ["connection", "tag", "gift"])
def test_who_was_admitted_by_a_tag_is_not_when_it_ends(
    pair: Pair, people: People, posts: Posts, ending: str
) -> None:
    author, friend = people.connected(2)
    tag = people.tag(author, "close", friend)
    post = posts.new(author, _with_tags(tag))
    assert posts.comment(friend, post) == ""

    if ending == "connection":
        people.remove(author, friend)
        people.connect(author, friend)
    elif ending == "tag":
        pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=author, tag_id=tag))
    else:
        people.take(author, tag, friend)

    assert posts.comment(friend, post) == "COMMENTS_CLOSED"


def test_a_deleted_tag_admits_nobody_although_it_excludes_from_another_post(
    pair: Pair, people: People, posts: Posts
) -> None:
    author, friend = people.connected(2)
    tag = people.tag(author, "close", friend)
    post = posts.new(author, _with_tags(tag))
    excluding = pb.Audience(kind=pb.AUDIENCE_KIND_ALL, excluded_tag_ids=[tag])
    people.post(author, excluding)

    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=author, tag_id=tag))

    assert posts.comment(friend, post) == "COMMENTS_CLOSED"


def test_a_policy_whose_tags_are_deleted_is_read_without_them_and_written_back(
    pair: Pair, people: People, posts: Posts
) -> None:
    author, friend = people.connected(2)
    tag = people.tag(author, "close", friend)
    post = posts.new(author, _with_tags(tag))
    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=author, tag_id=tag))

    read = posts.get(author, post).comment_policy
    written = posts.admit(post, read).comment_policy

    assert read == written == _with_tags()
    assert posts.comment(friend, post) == "COMMENTS_CLOSED"


def test_a_lock_stops_new_comments_and_leaves_the_old_ones(
    pair: Pair, people: People, posts: Posts
) -> None:
    author, friend = people.connected(2)
    post = posts.new(author)
    request = pb.CreateCommentRequest(user_id=friend, post=post, body="before")
    comment = pair.feed.CreateComment(request).comment

    posts.lock(post)

    assert [posts.comment(user, post) for user in (author, friend)] == ["COMMENTS_CLOSED"] * 2
    listing = pb.ListCommentsRequest(user_id=friend, post=post)
    assert list(pair.feed.ListComments(listing).comments) == [comment]
    changed = pb.UpdateCommentRequest(
        user_id=friend, comment=comment, update_mask=FieldMask(paths=["body"])
    )
    assert refusal(pair.feed.UpdateComment, changed) == ""


def test_a_policy_applies_again_when_the_lock_is_taken_off(people: People, posts: Posts) -> None:
    author, close, other = people.connected(3)
    post = posts.new(author, _with_tags(people.tag(author, "close", close)))
    posts.lock(post)

    posts.lock(post, locked=False)

    assert [posts.comment(user, post) for user in (close, other)] == ["", "COMMENTS_CLOSED"]


def test_who_does_not_see_a_post_does_not_learn_that_it_is_closed(
    people: People, posts: Posts
) -> None:
    author, friend = people.connected(2)
    hidden = tagged(people.tag(author, "nobody"))
    named = [posts.new(author, policy, hidden) for policy in (None, NOBODY)]
    locked = posts.new(author, None, hidden)
    posts.lock(locked)

    assert [posts.comment(friend, post) for post in (*named, locked)] == ["POST_NOT_FOUND"] * 3


def test_the_refusal_does_not_tell_a_lock_from_a_policy(
    pair: Pair, people: People, posts: Posts
) -> None:
    author, friend = people.connected(2)
    closed = [posts.new(author, NOBODY), posts.new(author, _with_tags(people.tag(author, "few")))]
    closed.append(posts.new(author))
    posts.lock(closed[-1])
    told = set[tuple[str, str, str]]()

    for post in closed:
        with pytest.raises(grpc.RpcError) as caught:
            pair.feed.CreateComment(pb.CreateCommentRequest(user_id=friend, post=post, body="hi"))
        refused = decoded(caught.value)
        told.add((reason_of(caught.value), refused.message, str(dict(refused.metadata))))

    assert told == {
        ("COMMENTS_CLOSED", "the author of the post does not let the user comment on it", "{}")
    }


@pytest.fixture
def before_the_post_is_locked(pair: Pair) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Chooses what happens once, when a comment's post was confirmed and is not locked yet."""

    def choose(action: Callable[[], object]) -> None:
        def act(statement: str) -> None:
            if "posts AS p" in statement and "FOR SHARE" in statement:
                pair.feed_tap.before_statement = lambda _statement: None
                action()

        pair.feed_tap.before_statement = act

    yield choose
    pair.feed_tap.before_statement = lambda _statement: None


@pytest.mark.parametrize("closing", ["lock", "policy", "tag"])
def test_a_comment_is_refused_when_its_post_is_closed_while_it_is_on_its_way(
    people: People,
    posts: Posts,
    before_the_post_is_locked: Callable[[Callable[[], object]], None],
    closing: str,
) -> None:
    author, friend = people.connected(2)
    tag = people.tag(author, "close", friend)
    post = posts.new(author, _with_tags(tag))
    close: dict[str, Callable[[], object]] = {
        "lock": lambda: posts.lock(post),
        "policy": lambda: posts.admit(post, NOBODY),
        "tag": lambda: people.take(author, tag, friend),
    }

    before_the_post_is_locked(close[closing])

    assert posts.comment(friend, post) == "COMMENTS_CLOSED"
    assert posts.get(author, post).comment_count == 0


def test_a_policy_names_only_tags_of_the_author(people: People, posts: Posts) -> None:
    author, other = people.connected(2)
    foreign = _with_tags(people.tag(author, "mine"), people.tag(other, "theirs"))

    with pytest.raises(grpc.RpcError) as created:
        posts.new(author, foreign)
    post = posts.new(author)
    with pytest.raises(grpc.RpcError) as changed:
        posts.admit(post, foreign)

    assert fields_of(created) == ["comment_policy.tag_ids[1]"]
    assert fields_of(changed) == ["post.comment_policy.tag_ids[1]"]


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (pb.CommentPolicy(), "kind"),
        (pb.CommentPolicy(kind=9), "kind"),  # type: ignore[arg-type]  # no such kind
        (_with_tags(), "tag_ids"),
        (_with_tags(7, 7), "tag_ids[1]"),
        (pb.CommentPolicy(kind=pb.COMMENT_POLICY_KIND_NOBODY, tag_ids=[7]), "tag_ids"),
    ],
    ids=["no kind", "an unknown kind", "no tags", "a tag twice", "nobody with a tag"],
)
def test_a_policy_that_says_nothing_certain_is_refused(
    people: People, posts: Posts, policy: pb.CommentPolicy, field: str
) -> None:
    [author] = people.new(1)
    post = posts.new(author)

    with pytest.raises(grpc.RpcError) as created:
        posts.new(author, policy)
    with pytest.raises(grpc.RpcError) as changed:
        posts.admit(post, policy)

    assert fields_of(created) == [f"comment_policy.{field}"]
    assert fields_of(changed) == [f"post.comment_policy.{field}"]


def test_an_export_tells_the_policies_of_ones_posts(
    pair: Pair, people: People, posts: Posts
) -> None:
    [author] = people.new(1)
    policy = _with_tags(people.tag(author, "close"))
    post = posts.new(author, policy)
    posts.lock(post)

    exported = [
        post
        for message in pair.feed.ExportUser(pb.ExportUserRequest(user_id=author))
        for post in message.posts
    ]

    assert [(post.comment_policy, post.comments_locked) for post in exported] == [(policy, True)]
