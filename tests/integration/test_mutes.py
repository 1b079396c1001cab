"""Muted people stay out of a feed, its count and its digests, and nothing else changes."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import sqlalchemy
from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as pb
from kith.timestamps import timestamp
from tests.support.engines import engine_to
from tests.support.errors import decoded, reason_of, refusal
from tests.support.pair import Pair
from tests.support.people import People

_LONG_AGO = datetime(2024, 3, 3, tzinfo=UTC)


def _soon(*, seconds: float = 3600) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _update(
    pair: Pair, owner_id: int, tag_id: int, *paths: str, **values: object
) -> pb.UpdateTagResponse:
    tag = pb.Tag(tag_id=tag_id, **values)  # type: ignore[arg-type]  # each test sets its own
    return pair.feed.UpdateTag(
        pb.UpdateTagRequest(user_id=owner_id, tag=tag, update_mask=FieldMask(paths=paths))
    )


def _mute(pair: Pair, owner_id: int, tag_id: int) -> pb.Tag:
    return _update(pair, owner_id, tag_id, "muted", muted=True).tag


def _unmute(pair: Pair, owner_id: int, tag_id: int) -> pb.Tag:
    return _update(pair, owner_id, tag_id, "muted", muted=False).tag


def _feed(pair: Pair, user_id: int, **arguments: object) -> list[int]:
    request = pb.GetFeedRequest(user_id=user_id, **arguments)  # type: ignore[arg-type]  # as above
    return [post.post_id for post in pair.feed.GetFeed(request).posts]


def _unread(pair: Pair, user_id: int) -> int:
    return pair.feed.CountUnreadPosts(pb.CountUnreadPostsRequest(user_id=user_id)).unread_count


def _digest(pair: Pair, user_id: int, **arguments: object) -> list[int]:
    request = pb.GetDigestRequest(user_id=user_id, **arguments)  # type: ignore[arg-type]  # as above
    return [item.post.post_id for item in pair.feed.GetDigest(request).items]


def _move(pair: Pair, post_id: int, moment: datetime) -> None:
    _run(pair, "UPDATE posts SET created_at = :moment WHERE id = :id", moment=moment, id=post_id)


def _run(pair: Pair, statement: str, **values: object) -> None:
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(sqlalchemy.text(statement), values)


def test_the_people_of_a_muted_tag_are_in_no_feed_count_or_digest(
    pair: Pair, people: People
) -> None:
    viewer, loud, quiet = people.connected(3)
    people.post(loud)
    heard = people.post(quiet)

    _mute(pair, viewer, people.tag(viewer, "loud", loud))

    assert _feed(pair, viewer) == [heard]
    assert _unread(pair, viewer) == 1
    assert _digest(pair, viewer) == [heard]


def test_everything_that_names_a_muted_person_a_post_or_a_tag_still_shows_it(
    pair: Pair, people: People
) -> None:
    viewer, loud = people.connected(2)
    post = people.post(loud)
    tag = people.tag(viewer, "loud", loud)
    _mute(pair, viewer, tag)
    name = pb.PostName(author_id=loud, post_id=post)

    assert _feed(pair, viewer, tag_ids=[tag]) == [post]
    assert _feed(pair, viewer, author_ids=[loud]) == [post]
    assert _digest(pair, viewer, tag_ids=[tag]) == [post]
    request = pb.GetPostRequest(user_id=viewer, author_id=loud, post_id=post)
    assert pair.feed.GetPost(request).post.post_id == post
    listed = pair.feed.ListPosts(pb.ListPostsRequest(user_id=viewer, author_id=loud))
    assert [each.post_id for each in listed.posts] == [post]
    comment = pb.CreateCommentRequest(user_id=viewer, post=name, body="hello")
    assert pair.feed.CreateComment(comment).comment.author_id == viewer
    pair.feed.MarkFeedRead(pb.MarkFeedReadRequest(user_id=viewer, post=name))
    check = pb.CheckVisibilityRequest.VisibilityCheck(viewer_id=viewer, post=name)
    checked = pair.feed.CheckVisibility(pb.CheckVisibilityRequest(checks=[check]))
    assert list(checked.visible) == [True]


def test_a_muted_person_is_told_nothing(pair: Pair, people: People) -> None:
    viewer, loud = people.connected(2)
    post, own = people.post(loud), people.post(viewer)
    name = pb.PostName(author_id=loud, post_id=post)
    questions: list[Callable[[], object]] = [
        lambda: pair.feed.ExplainVisibility(
            pb.ExplainVisibilityRequest(user_id=loud, post_id=post, viewer_id=viewer)
        ),
        lambda: pair.feed.ListViewers(pb.ListViewersRequest(post=name)),
        lambda: _feed(pair, loud),
    ]
    before = [ask() for ask in questions]

    _mute(pair, viewer, people.tag(viewer, "loud", loud))

    assert [ask() for ask in questions] == before
    assert _feed(pair, loud) == [own, post]


def test_unmuting_shows_everything_again(pair: Pair, people: People) -> None:
    viewer, loud = people.connected(2)
    tag = people.tag(viewer, "loud", loud)
    _mute(pair, viewer, tag)
    post = people.post(loud)

    shown = _unmute(pair, viewer, tag)

    assert not shown.muted
    assert _feed(pair, viewer) == [post]
    assert _unread(pair, viewer) == 1
    assert _digest(pair, viewer) == [post]


def test_a_mute_ends_by_the_clock_without_anybodys_doing(pair: Pair, people: People) -> None:
    viewer, loud = people.connected(2)
    post = people.post(loud)
    tag = people.tag(viewer, "loud", loud)
    muted = _update(
        pair, viewer, tag, "muted", "mute_until", muted=True, mute_until=timestamp(_soon())
    ).tag
    hidden = _feed(pair, viewer)

    # As if an hour had passed.
    _run(pair, "UPDATE tags SET muted_until = now() WHERE id = :id", id=tag)

    assert muted.muted
    assert muted.HasField("mute_until")
    assert hidden == []
    assert _feed(pair, viewer) == [post]
    assert _unread(pair, viewer) == 1
    [ended] = pair.feed.ListTags(pb.ListTagsRequest(user_id=viewer)).tags
    assert not ended.muted
    assert not ended.HasField("mute_until")


def test_a_mute_that_has_ended_and_is_set_again_has_no_end(pair: Pair, people: People) -> None:
    [viewer] = people.new(1)
    tag = people.tag(viewer, "loud")
    _update(pair, viewer, tag, "muted", "mute_until", muted=True, mute_until=timestamp(_soon()))
    _run(pair, "UPDATE tags SET muted_until = now() WHERE id = :id", id=tag)

    again = _mute(pair, viewer, tag)

    assert again.muted
    assert not again.HasField("mute_until")


def test_muting_a_muted_tag_keeps_its_end_and_the_end_alone_can_be_changed(
    pair: Pair, people: People
) -> None:
    [viewer] = people.new(1)
    tag = people.tag(viewer, "loud")
    first, second = timestamp(_soon()), timestamp(_soon(seconds=7200))
    _update(pair, viewer, tag, "muted", "mute_until", muted=True, mute_until=first)

    muted_again = _mute(pair, viewer, tag)
    moved = _update(pair, viewer, tag, "mute_until", mute_until=second).tag
    renamed = _update(pair, viewer, tag, "name", name="quiet").tag
    endless = _update(pair, viewer, tag, "mute_until").tag
    everything = _update(pair, viewer, tag, "*", name="loud").tag

    assert muted_again.mute_until.ToMicroseconds() == first.ToMicroseconds()
    assert moved.mute_until.ToMicroseconds() == second.ToMicroseconds()
    assert renamed.mute_until == moved.mute_until
    assert endless.muted
    assert not endless.HasField("mute_until")
    assert (everything.name, everything.muted) == ("loud", False)


def test_a_tag_can_be_created_muted(pair: Pair, people: People) -> None:
    viewer, loud = people.connected(2)
    people.post(loud)
    until = timestamp(_soon())
    request = pb.CreateTagRequest(user_id=viewer, name="loud", muted=True, mute_until=until)

    created = pair.feed.CreateTag(request).tag
    people.give(viewer, created.tag_id, loud)

    assert created.muted
    assert created.mute_until.ToMicroseconds() == until.ToMicroseconds()
    assert _feed(pair, viewer) == []


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"muted": True, "mute_until": timestamp(_LONG_AGO)}, "must be in the future"),
        ({"mute_until": timestamp(_soon())}, "must be unset unless the tag is muted"),
        ({"muted": True, "mute_until": {"seconds": 1 << 60}}, "must be a valid time"),
    ],
)
def test_an_end_that_makes_no_sense_is_refused_and_nothing_is_stored(
    pair: Pair, people: People, values: dict[str, object], why: str
) -> None:
    [viewer] = people.new(1)
    tag = people.tag(viewer, "loud")

    with pytest.raises(grpc.RpcError) as created:
        pair.feed.CreateTag(pb.CreateTagRequest(user_id=viewer, name="other", **values))  # type: ignore[arg-type]  # as above
    with pytest.raises(grpc.RpcError) as updated:
        _update(pair, viewer, tag, "muted", "mute_until", **values)

    for error, field in ((created.value, "mute_until"), (updated.value, "tag.mute_until")):
        assert reason_of(error) == "INVALID_FIELD"
        violations = decoded(error).violations
        assert [(each.field, each.description) for each in violations] == [(field, why)]
    [stored] = pair.feed.ListTags(pb.ListTagsRequest(user_id=viewer)).tags
    assert (stored.tag_id, stored.muted) == (tag, False)


def test_a_creation_is_repeated_after_its_mute_has_ended(pair: Pair, people: People) -> None:
    [viewer] = people.new(1)
    # A busy machine may take longer to create the tag than its mute is to last.
    for seconds in (1, 10, 60):
        request = pb.CreateTagRequest(
            user_id=viewer,
            name="loud",
            muted=True,
            mute_until=timestamp(_soon(seconds=seconds)),
            request_id=str(uuid.uuid4()),
        )
        with suppress(grpc.RpcError):
            first = pair.feed.CreateTag(request)
            break
    _run(pair, "SELECT pg_sleep(:seconds)", seconds=seconds)

    assert pair.feed.CreateTag(request) == first


def test_a_person_with_a_muted_tag_and_another_is_muted(pair: Pair, people: People) -> None:
    viewer, loud = people.connected(2)
    post = people.post(loud)
    friends = people.tag(viewer, "friends", loud)
    _mute(pair, viewer, people.tag(viewer, "loud", loud))

    assert _feed(pair, viewer) == []
    assert _feed(pair, viewer, tag_ids=[friends]) == [post]


def test_a_mute_ends_for_who_loses_the_tag_and_with_the_tag(pair: Pair, people: People) -> None:
    viewer, one, two = people.connected(3)
    tag = people.tag(viewer, "loud", one, two)
    _mute(pair, viewer, tag)
    posts = [people.post(one), people.post(two)]

    people.take(viewer, tag, one)
    without_one = _feed(pair, viewer)
    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=viewer, tag_id=tag))

    assert without_one == posts[:1]
    assert _feed(pair, viewer) == posts[::-1]


def test_a_mute_ends_with_the_connection_in_which_the_tag_was_given(
    pair: Pair, people: People
) -> None:
    viewer, loud = people.connected(2)
    _mute(pair, viewer, people.tag(viewer, "loud", loud))
    post = people.post(loud)

    people.remove(viewer, loud)
    people.connect(viewer, loud)

    assert _feed(pair, viewer) == [post]


def test_a_deleted_tag_that_still_excludes_is_not_muted(pair: Pair, people: People) -> None:
    viewer, loud = people.connected(2)
    tag = people.tag(viewer, "loud", loud)
    _mute(pair, viewer, tag)
    excluding = pb.Audience(kind=pb.AUDIENCE_KIND_ALL, excluded_tag_ids=[tag])
    people.post(viewer, excluding)
    post = people.post(loud)

    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=viewer, tag_id=tag))

    assert _feed(pair, viewer, author_ids=[loud]) == _feed(pair, viewer)[:1] == [post]
    request = pb.ListTagsRequest(user_id=viewer, show_deleted=True)
    [deleted] = pair.feed.ListTags(request).tags
    assert not deleted.muted


def test_tokens_stay_valid_when_an_author_is_muted(pair: Pair, people: People) -> None:
    viewer, loud, quiet = people.connected(3)
    older = [people.post(quiet) for _ in range(2)]
    people.post(loud)
    page = pair.feed.GetFeed(pb.GetFeedRequest(user_id=viewer, page_size=1))

    _mute(pair, viewer, people.tag(viewer, "loud", loud))
    people.post(loud)
    newer = people.post(quiet)

    assert _feed(pair, viewer, page_token=page.next_page_token) == older[::-1]
    assert _feed(pair, viewer, newer_than=page.refresh_token) == [newer]


def test_pages_are_full_although_an_author_is_muted(pair: Pair, people: People) -> None:
    viewer, loud, quiet = people.connected(3)
    _mute(pair, viewer, people.tag(viewer, "loud", loud))
    heard = list[int]()
    for _ in range(5):
        people.post(loud)
        heard.append(people.post(quiet))

    assert _feed(pair, viewer, page_size=4) == heard[:0:-1]


def test_a_frozen_digest_leaves_out_who_is_muted_as_long_as_that_lasts(
    pair: Pair, people: People
) -> None:
    viewer, loud, quiet = people.connected(3)
    posts = [people.post(loud), people.post(quiet)]
    for hour, post in enumerate(posts):
        _move(pair, post, _LONG_AGO + timedelta(hours=hour))
    week = {"week_of": timestamp(_LONG_AGO)}
    frozen = _digest(pair, viewer, **week)
    tag = people.tag(viewer, "loud", loud)

    _mute(pair, viewer, tag)
    during = _digest(pair, viewer, **week)
    _unmute(pair, viewer, tag)

    assert frozen == posts
    assert during == posts[1:]
    assert _digest(pair, viewer, **week) == posts


def test_a_digest_that_is_frozen_during_a_mute_never_has_the_muted(
    pair: Pair, people: People
) -> None:
    viewer, loud = people.connected(2)
    _move(pair, people.post(loud), _LONG_AGO)
    tag = people.tag(viewer, "loud", loud)
    _mute(pair, viewer, tag)
    week = {"week_of": timestamp(_LONG_AGO)}
    during = _digest(pair, viewer, **week)

    _unmute(pair, viewer, tag)

    assert during == _digest(pair, viewer, **week) == []


def test_a_mute_is_exported_with_its_tag(pair: Pair, people: People) -> None:
    [viewer] = people.new(1)
    muted = _mute(pair, viewer, people.tag(viewer, "loud"))

    [part] = pair.feed.ExportUser(pb.ExportUserRequest(user_id=viewer))

    assert list(part.tags) == [muted]


def test_the_tag_of_another_user_cannot_be_muted(pair: Pair, people: People) -> None:
    owner, other = people.connected(2)
    tag = people.tag(owner, "loud", other)
    request = pb.UpdateTagRequest(
        user_id=other, tag=pb.Tag(tag_id=tag, muted=True), update_mask=FieldMask(paths=["muted"])
    )

    assert refusal(pair.feed.UpdateTag, request) == "TAG_NOT_FOUND"
