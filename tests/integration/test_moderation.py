"""What a service hides is seen by its author alone, and what it holds stays until the hold ends."""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, text

from feed_service import queries
from feed_service.queries.moderation import Decision, ModerationState
from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from tests.support.engines import engine_to
from tests.support.errors import fields_of, reason_of, refusal
from tests.support.locks import is_waited_for
from tests.support.pair import Pair
from tests.support.people import ALL, PRIVATE, People, all_without, tagged
from tests.support.processes import until
from tests.support.scrape import scrape

_VISIBLE = pb.MODERATION_STATE_VISIBLE
_HIDDEN = pb.MODERATION_STATE_HIDDEN
_HELD = pb.MODERATION_STATE_HELD
_State: TypeAlias = pb.ModerationState.ValueType

_HIDING = pytest.mark.parametrize("state", [_HIDDEN, _HELD], ids=["hidden", "held"])


def _in(days: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    return moment


def _decision(
    post: pb.PostName, state: _State, comment_id: int = 0, **given: Any
) -> pb.SetModerationRequest:
    defaults: dict[str, Any] = {"reason": "" if state == _VISIBLE else "rude"}
    if state == _HELD:
        defaults["expire_time"] = _in(days=7)
    return pb.SetModerationRequest(
        post=post, comment_id=comment_id, state=state, **{**defaults, **given}
    )


def _moderate(
    pair: Pair, post: pb.PostName, state: _State, comment_id: int = 0, **given: Any
) -> pb.Moderation:
    return pair.feed.SetModeration(_decision(post, state, comment_id, **given)).moderation


def _post(people: People, author_id: int, audience: pb.Audience = ALL) -> pb.PostName:
    return pb.PostName(author_id=author_id, post_id=people.post(author_id, audience))


def _comment(pair: Pair, user_id: int, post: pb.PostName, body: str = "hi", parent: int = 0) -> int:
    request = pb.CreateCommentRequest(
        user_id=user_id, post=post, body=body, parent_comment_id=parent
    )
    return pair.feed.CreateComment(request).comment.comment_id


def _comments(pair: Pair, viewer_id: int, post: pb.PostName) -> list[pb.Comment]:
    request = pb.ListCommentsRequest(user_id=viewer_id, post=post)
    return list(pair.feed.ListComments(request).comments)


def _get(pair: Pair, viewer_id: int, post: pb.PostName) -> pb.Post:
    return pair.feed.GetPost(_named(viewer_id, post)).post


def _named(viewer_id: int, post: pb.PostName) -> pb.GetPostRequest:
    return pb.GetPostRequest(user_id=viewer_id, author_id=post.author_id, post_id=post.post_id)


def _edit(pair: Pair, post: pb.PostName, **fields: Any) -> pb.Post:
    request = pb.UpdatePostRequest(
        user_id=post.author_id,
        post=pb.Post(post_id=post.post_id, **fields),
        update_mask=FieldMask(paths=list(fields)),
    )
    return pair.feed.UpdatePost(request).post


def _delete(pair: Pair, post: pb.PostName) -> None:
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=post.author_id, post_id=post.post_id))


def _delete_comment(pair: Pair, user_id: int, post: pb.PostName, comment_id: int) -> None:
    pair.feed.DeleteComment(
        pb.DeleteCommentRequest(user_id=user_id, post=post, comment_id=comment_id)
    )


def _inspect(pair: Pair, post: pb.PostName) -> pb.InspectPostResponse:
    return pair.feed.InspectPost(pb.InspectPostRequest(post=post))


def _is_stored(pair: Pair, post: pb.PostName) -> bool:
    return not refusal(pair.feed.InspectPost, pb.InspectPostRequest(post=post))


@contextmanager
def _connected(pair: Pair) -> Iterator[Connection]:
    engine = engine_to(pair.feed_url).execution_options(isolation_level="READ COMMITTED")
    with engine.begin() as connection:
        yield connection


def _execute(pair: Pair, statement: str, **parameters: object) -> Sequence[Any]:
    with _connected(pair) as connection:
        result = connection.execute(text(statement), parameters)
        return result.all() if result.returns_rows else []


def _end_holds(pair: Pair, post: pb.PostName) -> None:
    """Let the time pass at which the holds on a post and its comments end."""
    for statement in (
        """UPDATE posts SET held_until = now()
           WHERE held_until IS NOT NULL AND author_id = :author_id AND id = :post_id""",
        "UPDATE posts SET kept_until = now() WHERE author_id = :author_id AND id = :post_id",
        """UPDATE comments SET held_until = now(), kept_until = now()
           WHERE held_until IS NOT NULL
             AND post_author_id = :author_id AND post_id = :post_id""",
        """UPDATE object_removals SET due_at = now()
           WHERE owner_user_id = :author_id AND due_at > now()""",
    ):
        _execute(pair, statement, author_id=post.author_id, post_id=post.post_id)


def _purge(pair: Pair) -> None:
    """Purge what was deleted at any time, and what was kept by holds that have ended."""
    for step in (queries.upkeep.purge_posts, queries.upkeep.purge_comments):
        with _connected(pair) as connection:
            step(connection, age=timedelta(0), limit=10_000)
    _purge_kept(pair)


def _purge_kept(pair: Pair) -> None:
    """Purge what was kept by holds that have ended, unless the pair's own upkeep was quicker."""
    for kept in (queries.upkeep.purge_kept_posts, queries.upkeep.purge_kept_comments):
        with _connected(pair) as connection:
            kept(connection, limit=10_000)


def _rows(pair: Pair, post: pb.PostName) -> tuple[int, int]:
    """Return how many rows there are of a post, and of comments on it."""
    [[posts, comments]] = _execute(
        pair,
        """SELECT (SELECT count(*) FROM posts WHERE author_id = :author_id AND id = :post_id),
                  (SELECT count(*) FROM comments
                   WHERE post_author_id = :author_id AND post_id = :post_id)""",
        author_id=post.author_id,
        post_id=post.post_id,
    )
    return posts, comments


def _checks(
    pair: Pair, viewer_ids: Sequence[int], post: pb.PostName, comment: int = 0
) -> list[bool]:
    checks = [
        pb.CheckVisibilityRequest.VisibilityCheck(
            viewer_id=viewer_id, post=post, comment_id=comment
        )
        for viewer_id in viewer_ids
    ]
    return list(pair.feed.CheckVisibility(pb.CheckVisibilityRequest(checks=checks)).visible)


@_HIDING
@pytest.mark.parametrize("kind", ["all", "all but some", "a tag"])
def test_no_read_shows_a_hidden_post_to_anybody_but_its_author(
    pair: Pair, people: People, state: _State, kind: str
) -> None:
    author, friend, enemy = people.connected(3)
    family, work = people.tag(author, "family", friend), people.tag(author, "work", enemy)
    audience = {"all": ALL, "all but some": all_without(work), "a tag": tagged(family)}[kind]
    post = _post(people, author, audience)
    comment = _comment(pair, friend, post)
    assert people.feed(friend) == [post.post_id]

    _moderate(pair, post, state)

    assert people.feed(friend) == []
    for call, request in (
        (pair.feed.GetPost, _named(friend, post)),
        (pair.feed.ListComments, pb.ListCommentsRequest(user_id=friend, post=post)),
        (pair.feed.CreateComment, pb.CreateCommentRequest(user_id=friend, post=post, body="hi")),
        (pair.feed.MarkFeedRead, pb.MarkFeedReadRequest(user_id=friend, post=post)),
    ):
        assert refusal(call, request) == "POST_NOT_FOUND"
    batch = pair.feed.BatchGetPosts(pb.BatchGetPostsRequest(user_id=friend, posts=[post]))
    assert (list(batch.posts), list(batch.not_found)) == ([], [post])
    listed = pair.feed.ListPosts(pb.ListPostsRequest(user_id=friend, author_id=author))
    assert list(listed.posts) == []
    digest = pair.feed.GetDigest(pb.GetDigestRequest(user_id=friend))
    assert (list(digest.items), digest.left_out_count) == ([], 0)
    unread = pair.feed.CountUnreadPosts(pb.CountUnreadPostsRequest(user_id=friend))
    assert unread.unread_count == 0
    assert _checks(pair, [author, friend], post) == [True, False]
    assert _checks(pair, [author, friend], post, comment) == [True, False]
    viewers = pair.feed.ListViewers(pb.ListViewersRequest(post=post))
    assert (list(viewers.viewer_ids), viewers.total_count) == ([author], 1)
    for viewer, clause in (
        (author, pb.VISIBILITY_CLAUSE_AUTHOR),
        (friend, pb.VISIBILITY_CLAUSE_MODERATED),
    ):
        explanation = pair.feed.ExplainVisibility(
            pb.ExplainVisibilityRequest(user_id=author, post_id=post.post_id, viewer_id=viewer)
        )
        assert (explanation.clause, explanation.visible) == (clause, viewer == author)


@_HIDING
def test_the_author_sees_a_hidden_post_as_it_was_with_a_mark(
    pair: Pair, people: People, state: _State
) -> None:
    author, friend = people.connected(2)
    family = people.tag(author, "family", friend)
    post = _post(people, author, tagged(family))
    _comment(pair, friend, post)
    before, commented = _get(pair, author, post), _comments(pair, author, post)

    _moderate(pair, post, state)

    after = _get(pair, author, post)
    assert after.moderated
    assert after.etag != before.etag
    after.etag = before.etag
    after.moderated = False
    assert after == before
    assert _comments(pair, author, post) == commented
    assert people.feed(author) == [post.post_id]
    digest = pb.GetDigestRequest(user_id=author, include_own_posts=True)
    [item] = pair.feed.GetDigest(digest).items
    assert item.post.moderated


@_HIDING
@pytest.mark.parametrize("audience", ["all", "tag", "private"])
def test_a_post_that_is_shown_again_is_what_it_was(
    pair: Pair, people: People, state: _State, audience: str
) -> None:
    author, friend = people.connected(2)
    family = people.tag(author, "family", friend)
    post = _post(people, author, {"all": ALL, "tag": tagged(family), "private": PRIVATE}[audience])
    before, seen = _get(pair, author, post), people.feed(friend)
    _moderate(pair, post, state)

    assert _moderate(pair, post, _VISIBLE) == pb.Moderation(state=_VISIBLE)

    after = _get(pair, author, post)
    after.etag = before.etag
    assert after == before
    assert people.feed(friend) == seen


@_HIDING
def test_no_reader_can_tell_that_a_comment_was_hidden_for_a_while(
    pair: Pair, people: People, state: _State
) -> None:
    author, commenter, reader = people.connected(3)
    post = _post(people, author)
    comment_id = _comment(pair, commenter, post)
    before = [_comments(pair, user, post) for user in (author, commenter, reader)]

    _moderate(pair, post, state, comment_id=comment_id)
    _moderate(pair, post, _VISIBLE, comment_id=comment_id)

    assert [_comments(pair, user, post) for user in (author, commenter, reader)] == before


def test_a_hidden_post_can_be_changed_and_stays_hidden(pair: Pair, people: People) -> None:
    author, friend, other = people.connected(3)
    family = people.tag(author, "family", friend)
    post = _post(people, author)
    _moderate(pair, post, _HIDDEN)

    changed = _edit(pair, post, body="kinder", audience=tagged(family))

    assert (changed.body, changed.audience, changed.moderated) == ("kinder", tagged(family), True)
    assert people.feed(friend) == []
    _moderate(pair, post, _VISIBLE)
    assert (people.feed(friend), people.feed(other)) == ([post.post_id], [])


def test_what_is_held_cannot_be_changed_until_the_hold_ends(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    comment = pb.Comment(post=post, comment_id=_comment(pair, friend, post), body="kinder")
    edit = pb.UpdateCommentRequest(
        user_id=friend, comment=comment, update_mask=FieldMask(paths=["body"])
    )
    _moderate(pair, post, _HELD, comment.comment_id)

    assert refusal(pair.feed.UpdateComment, edit) == "CONTENT_HELD"
    assert _edit(pair, post, body="the post is free").body == "the post is free"

    _moderate(pair, post, _HELD)
    for change in ({"body": "kinder"}, {"audience": PRIVATE}, {"attributes": {"a": "b"}}):
        with pytest.raises(grpc.RpcError) as caught:
            _edit(pair, post, **change)
        assert reason_of(caught.value) == "CONTENT_HELD"

    _end_holds(pair, post)
    assert _edit(pair, post, body="kinder").moderated
    assert people.feed(friend) == []


@_HIDING
def test_a_hidden_comment_is_seen_by_who_wrote_it_and_not_counted(
    pair: Pair, people: People, state: _State
) -> None:
    author, friend, other = people.connected(3)
    post = _post(people, author)
    rude, kind = (_comment(pair, friend, post, body) for body in ("rude", "kind"))

    _moderate(pair, post, state, rude)

    shown = {
        viewer: [(each.comment_id, each.moderated) for each in _comments(pair, viewer, post)]
        for viewer in (author, friend, other)
    }
    assert shown == {
        author: [(kind, False)],
        friend: [(rude, True), (kind, False)],
        other: [(kind, False)],
    }
    assert _checks(pair, [author, friend, other], post, rude) == [False, True, False]
    assert _get(pair, author, post).comment_count == 1
    request = pb.DeleteCommentRequest(user_id=author, post=post, comment_id=rude)
    assert refusal(pair.feed.DeleteComment, request) == "COMMENT_NOT_FOUND"
    _moderate(pair, post, _VISIBLE, rude)
    assert [comment.comment_id for comment in _comments(pair, other, post)] == [rude, kind]
    assert _get(pair, other, post).comment_count == 2


def test_a_comment_is_counted_while_it_is_neither_deleted_nor_hidden(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    first, second, _ = (_comment(pair, friend, post) for _ in range(3))

    def count() -> int:
        return _get(pair, author, post).comment_count

    for state in (_HIDDEN, _HIDDEN, _HELD, _HIDDEN):
        _moderate(pair, post, state, first)
        assert count() == 2
    _delete_comment(pair, friend, post, first)
    assert count() == 2
    _moderate(pair, post, _VISIBLE, first)
    assert count() == 2
    _delete_comment(pair, friend, post, second)
    assert count() == 1
    _moderate(pair, post, _HIDDEN, second)
    assert count() == 1
    pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=friend))
    assert count() == 0


def test_a_frozen_digest_loses_a_hidden_post_and_gets_it_back(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    past = Timestamp(seconds=int(datetime(2024, 3, 4, tzinfo=UTC).timestamp()))
    imported = pb.ImportPostsRequest.ImportedPost(
        author_id=author,
        external_id="past",
        body="past",
        create_time=past,
        audience=ALL,
        importance=6,
    )
    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=[imported])]))
    request = pb.GetDigestRequest(user_id=friend, week_of=past)
    [item] = pair.feed.GetDigest(request).items
    post = pb.PostName(author_id=author, post_id=item.post.post_id)

    _moderate(pair, post, _HIDDEN)
    hidden = pair.feed.GetDigest(request)
    _moderate(pair, post, _VISIBLE)

    assert (hidden.frozen, list(hidden.items)) == (True, [])
    assert [item.post.post_id for item in pair.feed.GetDigest(request).items] == [post.post_id]


def test_a_deleted_post_is_hidden_also_once_it_is_restored(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    _delete(pair, post)
    _moderate(pair, post, _HIDDEN)

    restored = pair.feed.UndeletePost(
        pb.UndeletePostRequest(user_id=author, post_id=post.post_id)
    ).post

    assert restored.moderated
    assert people.feed(friend) == []
    _moderate(pair, post, _VISIBLE)
    assert people.feed(friend) == [post.post_id]


def _with_photo(pair: Pair, post: pb.PostName) -> str:
    key = f"photos/{post.author_id}/{uuid.uuid4().hex}.png"
    _execute(
        pair,
        """INSERT INTO post_photos (author_id, post_id, place, object_key)
           VALUES (:author_id, :post_id, 1, :key)""",
        author_id=post.author_id,
        post_id=post.post_id,
        key=key,
    )
    return key


def _removed_in(pair: Pair, key: str) -> float | None:
    """Return in how many days a photo is removed from the object store, if it is to be."""
    rows = _execute(
        pair, "SELECT due_at - now() FROM object_removals WHERE object_key = :key", key=key
    )
    return round(rows[0][0] / timedelta(days=1), 2) if rows else None


def test_a_hold_keeps_a_deleted_post_and_its_photos_from_the_purge(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    key = _with_photo(pair, post)
    _comment(pair, friend, post)
    _moderate(pair, post, _HELD, expire_time=_in(days=90))

    _delete(pair, post)
    _purge(pair)

    assert _removed_in(pair, key) == 90
    found = _inspect(pair, post)
    assert (found.post.body, found.moderation.state) == ("hello", _HELD)
    assert [photo.key for photo in found.post.photos] == [key]
    assert found.post.HasField("delete_time")
    _end_holds(pair, post)
    _purge(pair)
    assert _rows(pair, post) == (0, 0)


@pytest.mark.parametrize(("then", "days"), [(_VISIBLE, 30), (_HIDDEN, 30), (_HELD, 60)])
def test_a_hold_that_is_set_after_the_deletion_moves_the_end_of_the_photos(
    pair: Pair, people: People, then: _State, days: int
) -> None:
    [author] = people.new(1)
    post = _post(people, author)
    key = _with_photo(pair, post)
    _delete(pair, post)

    _moderate(pair, post, _HELD, expire_time=_in(days=90))
    held = _removed_in(pair, key)
    given: dict[str, Any] = {"expire_time": _in(days=60)} if then == _HELD else {}
    _moderate(pair, post, then, **given)

    assert held == 90
    assert _removed_in(pair, key) == days


def test_a_post_whose_photos_are_being_removed_cannot_be_held(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post = _post(people, author)
    key = _with_photo(pair, post)
    _delete(pair, post)
    _execute(pair, "UPDATE object_removals SET attempts = 1 WHERE object_key = :key", key=key)

    assert refusal(pair.feed.SetModeration, _decision(post, _HELD)) == "POST_NOT_FOUND"
    assert _inspect(pair, post).moderation.state == _VISIBLE


def test_a_hold_on_a_comment_keeps_it_and_its_post(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    comment, other = _comment(pair, friend, post), _comment(pair, friend, post)
    _moderate(pair, post, _HELD, comment)
    for comment_id in (comment, other):
        _delete_comment(pair, friend, post, comment_id)
    _delete(pair, post)

    _purge(pair)

    found = _inspect(pair, post)
    assert [each.comment.comment_id for each in found.comments] == [comment]
    assert found.comments[0].HasField("delete_time")
    assert found.comments[0].moderation.state == _HELD
    assert found.moderation.state == _VISIBLE
    _moderate(pair, post, _HIDDEN, comment)
    _purge(pair)
    assert _rows(pair, post) == (0, 0)


@pytest.mark.parametrize("going", ["deleted", "erased"])
def test_a_hold_on_a_reply_keeps_it_and_the_comment_to_which_it_replies(
    pair: Pair, people: People, going: str
) -> None:
    author, friend, other = people.connected(3)
    post = _post(people, author)
    comment = _comment(pair, friend, post)
    reply, gone = (_comment(pair, other, post, parent=comment) for _ in range(2))
    _moderate(pair, post, _HELD, reply)

    kept = list[int]()
    if going == "deleted":
        _delete_comment(pair, friend, post, comment)
    else:
        erased = pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=friend))
        kept = [item.comment_id for item in erased.kept]
    _purge(pair)

    found = _inspect(pair, post).comments
    assert [each.comment.comment_id for each in found] == [comment, reply]
    assert kept == ([comment] if going == "erased" else [])
    assert gone not in {each.comment.comment_id for each in found}
    assert _get(pair, author, post).comment_count == 0
    _moderate(pair, post, _HIDDEN, reply)
    _purge(pair)
    assert _rows(pair, post) == (1, 0)


def test_the_replies_to_a_hidden_comment_are_out_of_sight_with_it(
    pair: Pair, people: People
) -> None:
    author, friend, other = people.connected(3)
    post = _post(people, author)
    comment = _comment(pair, friend, post)
    reply = _comment(pair, other, post, parent=comment)
    _moderate(pair, post, _HIDDEN, comment)

    for viewer in (author, other):
        assert not any(_checks(pair, [viewer], post, reply))
        request = pb.GetCommentRequest(user_id=viewer, post=post, comment_id=reply)
        assert refusal(pair.feed.GetComment, request) == "COMMENT_NOT_FOUND"
    assert _checks(pair, [friend], post, reply) == [True]
    hide = pb.HideCommentRequest(user_id=author, post_id=post.post_id, comment_id=comment)
    assert refusal(pair.feed.HideComment, hide) == "COMMENT_NOT_FOUND"
    assert _get(pair, author, post).comment_count == 1
    _delete_comment(pair, friend, post, comment)
    assert _get(pair, author, post).comment_count == 0


def test_the_hold_on_a_post_ends_with_the_last_hold_on_it_and_its_comments(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    comment = _comment(pair, friend, post)

    def ends() -> int:
        found = _inspect(pair, post)
        if not found.HasField("hold_expire_time"):
            return 0
        left = found.hold_expire_time.ToDatetime(UTC) - datetime.now(UTC)
        return round(left / timedelta(days=1))

    for about, state, days, expected in (
        (0, _HELD, 10, 10),
        (comment, _HELD, 20, 20),
        (0, _HELD, 30, 30),
        (0, _VISIBLE, 0, 20),
        (comment, _HELD, 5, 5),
        (comment, _VISIBLE, 0, 0),
    ):
        given = {"expire_time": _in(days=days)} if days else {}
        _moderate(pair, post, state, about, **given)
        assert ends() == expected


@pytest.mark.parametrize("by", ["purge", "erasure", "erasure of a deleted post"])
def test_what_would_delete_a_post_waits_for_a_hold_and_then_leaves_it(
    pair: Pair, people: People, by: str
) -> None:
    [author] = people.new(1)
    post = _post(people, author)
    key = _with_photo(pair, post)
    name = (post.author_id, post.post_id)
    is_deleted = by != "erasure"
    if is_deleted:
        _delete(pair, post)
    decision = Decision(
        state=ModerationState.HELD, reason="rude", held_until=datetime.now(UTC) + timedelta(days=50)
    )

    def delete() -> None:
        if by == "purge":
            _purge(pair)
        else:
            pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=author))

    with ThreadPoolExecutor(1) as executor:
        with _connected(pair) as holding:
            current = queries.moderation.lock_retained_post(holding, name=name)
            assert current is not None
            queries.moderation.moderate_post(holding, name=name, current=current, decision=decision)
            queries.moderation.keep_post(holding, name=name, current=current)
            deletion = executor.submit(delete)
            until(lambda: is_waited_for(pair.feed_url))
        deletion.result()

    assert _inspect(pair, post).moderation.state == _HELD
    assert [photo.key for photo in _inspect(pair, post).post.photos] == [key]
    assert _removed_in(pair, key) == 50


def test_a_reply_is_moderated_while_what_it_replies_to_is_deleted(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    parent = _comment(pair, friend, post)
    reply = _comment(pair, author, post, parent=parent)
    name = (author, post.post_id, parent)

    with ThreadPoolExecutor(1) as executor:
        with _connected(pair) as deleting:
            assert queries.comments.lock_deletable(deleting, name=name, user_id=friend)
            moderation = executor.submit(_moderate, pair, post, _HELD, reply)
            until(lambda: is_waited_for(pair.feed_url))
            deleted = queries.comments.delete_comment(deleting, name=name)
        moderation.result()

    assert set(deleted) == {name, (*name[:2], reply)}
    found = {each.comment.comment_id: each for each in _inspect(pair, post).comments}
    assert found[reply].moderation.state == _HELD
    assert _get(pair, author, post).comment_count == 0
    _purge(pair)
    assert {each.comment.comment_id for each in _inspect(pair, post).comments} == {parent, reply}


def _owned(pair: Pair, user_id: int) -> int:
    [[tags]] = _execute(
        pair, "SELECT count(*) FROM tags WHERE owner_user_id = :user_id", user_id=user_id
    )
    return int(tags)


@pytest.mark.parametrize("is_deleted", [False, True], ids=["shown", "deleted before"])
def test_an_erasure_keeps_what_is_held_tells_of_it_and_ends_with_the_hold(
    pair: Pair, people: People, *, is_deleted: bool
) -> None:
    author, friend = people.connected(2)
    family, work = people.tag(author, "family", friend), people.tag(author, "work", friend)
    held = _post(people, author, tagged(family, without=(work,)))
    other = _post(people, author)
    key = _with_photo(pair, held)
    _moderate(pair, held, _HELD, expire_time=_in(days=3))
    if is_deleted:
        _delete(pair, held)

    response = pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=author))

    [kept] = response.kept
    assert (kept.post, kept.comment_id) == (held, 0)
    assert abs(kept.hold_expire_time.ToDatetime(UTC) - _in(days=3).ToDatetime(UTC)) < timedelta(
        minutes=5
    )
    assert (_rows(pair, held), _rows(pair, other)) == ((1, 0), (0, 0))
    assert _owned(pair, author) == 0
    assert _removed_in(pair, key) == 3
    found = _inspect(pair, held)
    assert (found.post.body, [photo.key for photo in found.post.photos]) == ("hello", [key])
    for viewer in (author, friend):
        assert refusal(pair.feed.GetPost, _named(viewer, held)) == "POST_NOT_FOUND"
    undelete = pb.UndeletePostRequest(user_id=author, post_id=held.post_id)
    assert refusal(pair.feed.UndeletePost, undelete) == "POST_NOT_FOUND"
    assert not pair.feed.ListDeletedPosts(pb.ListDeletedPostsRequest(user_id=author)).posts
    _end_holds(pair, held)
    _purge_kept(pair)
    assert _rows(pair, held) == (0, 0)


def test_an_erasure_keeps_a_held_comment_with_its_post_on_either_side(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    held, other = _comment(pair, friend, post), _comment(pair, friend, post)
    _moderate(pair, post, _HELD, held)

    of_friend = pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=friend))
    left = [comment.comment_id for comment in _comments(pair, author, post)]
    of_author = pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=author))

    assert left == []
    assert [(kept.post, kept.comment_id) for kept in of_friend.kept] == [(post, held)]
    assert [(kept.post, kept.comment_id) for kept in of_author.kept] == [(post, 0)]
    found = _inspect(pair, post)
    assert [each.comment.comment_id for each in found.comments] == [held]
    assert other not in [each.comment.comment_id for each in found.comments]
    _moderate(pair, post, _HIDDEN, held)
    _purge(pair)
    assert _rows(pair, post) == (0, 0)


@pytest.mark.parametrize("going", ["deleted", "erased with who wrote it"])
def test_no_event_names_an_erased_author_whose_post_a_hold_keeps(
    pair: Pair, people: People, going: str
) -> None:
    author, friend, other = people.connected(3)
    post = _post(people, author)
    _moderate(pair, post, _HELD, _comment(pair, friend, post))
    theirs = _comment(pair, other, post)
    _comment(pair, friend, post, parent=theirs)
    pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=author))

    if going == "deleted":
        _delete_comment(pair, other, post, theirs)
    else:
        pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=other))

    events = "SELECT kind FROM content_events WHERE author_id = :user_id"
    assert _execute(pair, events, user_id=author) == [("user_erased",)]


def test_a_hold_that_is_ended_early_lets_the_erasure_end(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post = _post(people, author)
    key = _with_photo(pair, post)
    _moderate(pair, post, _HELD)
    pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=author))

    _moderate(pair, post, _VISIBLE)

    assert not _is_stored(pair, post)
    assert _removed_in(pair, key) == 0
    _purge_kept(pair)
    assert _rows(pair, post) == (0, 0)


def test_moderated_content_is_listed_by_state_the_last_first(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    posts = [_post(people, author) for _ in range(3)]
    comment = _comment(pair, friend, posts[0])
    ended = _post(people, author)
    _moderate(pair, ended, _HELD)
    _end_holds(pair, ended)
    _moderate(pair, posts[0], _HIDDEN, reason="spam")
    _moderate(pair, posts[0], _HELD, comment)
    _moderate(pair, posts[1], _HELD)
    _moderate(pair, posts[2], _HIDDEN)
    _moderate(pair, posts[2], _VISIBLE)
    own = {author, friend}

    def listed(state: _State = pb.MODERATION_STATE_UNSPECIFIED) -> list[tuple[int, int, _State]]:
        request = pb.ListModeratedRequest(state=state, page_size=2)
        return [
            (item.post.post_id, item.comment_id, item.moderation.state)
            for page in pages(pair.feed.ListModerated, request)
            for item in page.items
            if item.author_id in own
        ]

    expected = [
        (posts[1].post_id, 0, _HELD),
        (posts[0].post_id, comment, _HELD),
        (posts[0].post_id, 0, _HIDDEN),
        (ended.post_id, 0, _HIDDEN),
    ]
    assert listed() == expected
    assert listed(_HELD) == expected[:2]
    assert listed(_HIDDEN) == expected[2:]


def test_a_record_has_the_reason_the_time_and_the_end(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post, until_then = _post(people, author), _in(days=7)

    decided = _moderate(pair, post, _HELD, reason="case 12", expire_time=until_then)

    assert (decided.state, decided.reason) == (_HELD, "case 12")
    assert decided.expire_time.ToMicroseconds() == until_then.ToMicroseconds()
    assert abs(decided.set_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=5)
    assert _inspect(pair, post).moderation == decided


def test_comments_are_inspected_page_by_page_with_those_that_are_deleted(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    written = [_comment(pair, friend, post, str(number)) for number in range(5)]
    _delete_comment(pair, friend, post, written[1])
    _moderate(pair, post, _HIDDEN, written[2])

    found = list(pages(pair.feed.InspectPost, pb.InspectPostRequest(post=post, page_size=2)))

    comments = [each for page in found for each in page.comments]
    assert [len(page.comments) for page in found] == [2, 2, 1]
    assert [each.comment.comment_id for each in comments] == written
    assert [each.comment.body for each in comments] == ["0", "1", "2", "3", "4"]
    assert [each.HasField("delete_time") for each in comments] == [False, True, False, False, False]
    assert [each.moderation.state for each in comments] == [
        _VISIBLE, _VISIBLE, _HIDDEN, _VISIBLE, _VISIBLE,
    ]  # fmt: skip


def test_what_has_passed_its_retention_can_be_neither_inspected_nor_moderated(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post, gone = _post(people, author), _post(people, author)
    comment = _comment(pair, friend, post)
    _delete_comment(pair, friend, post, comment)
    _delete(pair, gone)
    _execute(
        pair,
        "UPDATE comments SET deleted_at = now() - interval '31 days' WHERE id = :id",
        id=comment,
    )
    _execute(pair, "UPDATE posts SET purge_at = now() WHERE id = :id", id=gone.post_id)

    refused = [
        refusal(pair.feed.SetModeration, _decision(gone, _HELD)),
        refusal(pair.feed.SetModeration, _decision(gone, _HELD, comment)),
        refusal(pair.feed.SetModeration, _decision(post, _HELD, comment)),
        refusal(pair.feed.SetModeration, _decision(post, _HELD, 2**40)),
    ]

    assert refused == [*["POST_NOT_FOUND"] * 2, *["COMMENT_NOT_FOUND"] * 2]
    assert not _is_stored(pair, gone)
    assert list(_inspect(pair, post).comments) == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"state": 0}, "state"),
        ({"state": 9}, "state"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"state": _VISIBLE, "reason": "x"}, "reason"),
        ({"state": _HIDDEN, "expire_time": Timestamp(seconds=4_000_000_000)}, "expire_time"),
        ({"state": _HELD}, "expire_time"),
        ({"state": _HELD, "expire_time": Timestamp(seconds=1)}, "expire_time"),
        ({"state": _HELD, "expire_time": Timestamp(seconds=10_000_000_000)}, "expire_time"),
        ({"comment_id": -1}, "comment_id"),
        ({"post": pb.PostName(author_id=1)}, "post.post_id"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(
    pair: Pair, given: dict[str, Any], field: str
) -> None:
    request = {"post": pb.PostName(author_id=1, post_id=1), "state": _HIDDEN, "reason": "rude"}

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.SetModeration(pb.SetModerationRequest(**{**request, **given}))

    assert field in fields_of(caught)


def test_a_decision_that_is_repeated_has_a_reason_that_is_not_stored_for_repeats(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    post = _post(people, author)
    comment = _comment(pair, friend, post)
    reason, request_id = f"what {friend} said", str(uuid.uuid4())

    decided = [
        _moderate(pair, post, _HIDDEN, comment, reason=reason, request_id=request_id)
        for _ in range(2)
    ]

    assert [each.reason for each in decided] == [reason, reason]
    [[stored]] = _execute(
        pair,
        "SELECT response FROM idempotency_keys WHERE user_id = 0 AND request_id = :request_id",
        request_id=uuid.UUID(request_id),
    )
    assert reason.encode() not in bytes(stored)


def test_decisions_are_counted_by_what_they_set(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post = _post(people, author)

    def counted(state: str) -> float:
        return scrape(pair.feed_server).value("moderation_actions_total", state=state)

    before = counted("hidden")
    request_id = str(uuid.uuid4())
    _moderate(pair, post, _HIDDEN, request_id=request_id)
    _moderate(pair, post, _HIDDEN, request_id=request_id)

    assert counted("hidden") == before + 1
