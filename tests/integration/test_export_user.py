"""An export holds everything of one user, once, however often it breaks off."""

from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from feed_service import exports
from graph_service import exports as graph_exports
from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2
from tests.support import photos
from tests.support.browser import get, post_form
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, PRIVATE, People, all_without, tagged
from tests.support.s3 import S3Server


def _export(pair: Pair, user_id: int, cursor: str = "") -> list[pb.ExportUserResponse]:
    return list(pair.feed.ExportUser(pb.ExportUserRequest(user_id=user_id, cursor=cursor)))


def _joined(messages: list[pb.ExportUserResponse]) -> pb.ExportUserResponse:
    joined = pb.ExportUserResponse()
    for message in messages:
        joined.MergeFrom(message)
    joined.ClearField("cursor")
    return joined


def _comment(pair: Pair, user_id: int, author_id: int, post_id: int, body: str) -> pb.Comment:
    name = pb.PostName(author_id=author_id, post_id=post_id)
    request = pb.CreateCommentRequest(user_id=user_id, post=name, body=body)
    return pair.feed.CreateComment(request).comment


def _import(pair: Pair, author_id: int, bodies: list[str]) -> None:
    posts = [
        pb.ImportPostsRequest.ImportedPost(
            author_id=author_id,
            external_id=str(number),
            body=body,
            create_time=Timestamp(seconds=1_600_000_000 + number),
            audience=ALL,
        )
        for number, body in enumerate(bodies)
    ]
    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=posts)]))


@pytest.fixture
def life(pair: Pair, people: People) -> int:
    """A user with two of everything, beside others who have things of their own."""
    user, alice, bob = people.connected(3)
    people.connect(alice, bob)
    family, work = people.tag(user, "family", alice, bob), people.tag(user, "work", alice)
    for_some = people.post(user, tagged(family, without=(work,)), body="for some")
    shown = people.post(user, PRIVATE, body="for nobody")
    theirs = people.post(alice)
    people.tag(alice, "not the user's", user)
    _comment(pair, user, user, shown, "mine on mine")
    _comment(pair, user, alice, theirs, "mine on theirs")
    _comment(pair, alice, alice, theirs, "theirs")
    _comment(pair, bob, user, for_some, "theirs on mine")
    return user


def test_an_export_holds_what_the_user_made_and_nothing_of_others(pair: Pair, life: int) -> None:
    found = _joined(_export(pair, life))

    tags = list(pair.feed.ListTags(pb.ListTagsRequest(user_id=life)).tags)
    family, work = [tag.tag_id for tag in tags]
    posts = list(pair.feed.ListPosts(pb.ListPostsRequest(user_id=life, author_id=life)).posts)
    assert list(found.tags) == tags
    assert [given.tag_id for given in found.tagged_users] == [family, family, work]
    assert [
        list(
            pair.feed.ListTagMembers(pb.ListTagMembersRequest(user_id=life, tag_id=tag_id)).members
        )
        for tag_id in (family, work)
    ] == [
        [given.member for given in found.tagged_users if given.tag_id == tag_id]
        for tag_id in (family, work)
    ]
    assert list(found.posts) == posts[::-1]
    assert list(found.posts[0].audience.excluded_tag_ids) == [work]
    assert found.posts[1].comment_count == 1
    assert [comment.body for comment in found.comments] == ["mine on mine", "mine on theirs"]
    assert {comment.author_id for comment in found.comments} == {life}


def test_a_deleted_tag_is_exported_while_a_post_that_can_be_restored_excludes_by_it(
    pair: Pair, people: People
) -> None:
    user, friend = people.connected(2)
    hidden = people.tag(user, "hidden", friend)
    gone = people.post(user, all_without(hidden))
    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=user, tag_id=hidden))
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=user, post_id=gone))

    found = _joined(_export(pair, user))

    assert [tag.tag_id for tag in found.tags] == [hidden]
    assert [(given.tag_id, given.member.former) for given in found.tagged_users] == [(hidden, True)]
    assert not found.posts


def test_what_was_deleted_is_not_exported(pair: Pair, people: People) -> None:
    user, friend = people.connected(2)
    hidden = people.tag(user, "hidden", friend)
    people.post(user, body="stays")
    gone = people.post(user, tagged(hidden), body="goes")
    theirs = people.post(friend)
    comment = _comment(pair, user, friend, theirs, "goes")
    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=user, tag_id=hidden))
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=user, post_id=gone))
    pair.feed.DeleteComment(
        pb.DeleteCommentRequest(user_id=user, post=comment.post, comment_id=comment.comment_id)
    )

    found = _joined(_export(pair, user))

    assert [post.body for post in found.posts] == ["stays"]
    assert not found.tags
    assert not found.tagged_users
    assert not found.comments


def test_an_export_goes_on_from_any_of_its_cursors(
    pair: Pair, life: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_CHUNK", 1)
    messages = _export(pair, life)

    rests = [_export(pair, life, message.cursor) for message in messages]

    assert len(messages) == 2 + 3 + 2 + 2
    assert [_joined(rest) for rest in rests] == [
        _joined(messages[number + 1 :]) for number in range(len(messages))
    ]


def test_what_is_there_all_the_time_is_exported_once_while_others_come_and_go(
    pair: Pair, people: People
) -> None:
    [user] = people.new(1)
    _import(pair, user, [f"post {number}" for number in range(999)])
    fleeting = people.post(user, body="fleeting")
    stream = pair.feed.ExportUser(pb.ExportUserRequest(user_id=user))

    messages = [next(stream)]
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=user, post_id=fleeting))
    people.post(user, body="late")
    messages += list(stream)

    found = [post.body for post in _joined(messages).posts]
    assert max(len(message.posts) for message in messages) <= 500
    assert len(found) == len(set(found))
    assert {f"post {number}" for number in range(999)} <= set(found)


def test_long_posts_come_in_messages_that_any_client_takes(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    _import(pair, user, ["\N{GRINNING FACE}" * 10_000] * 200)

    messages = _export(pair, user)

    assert sum(len(message.posts) for message in messages) == 200
    assert max(message.ByteSize() for message in messages) < 4 * 1024 * 1024


def test_nothing_is_sent_of_somebody_of_whom_there_is_nothing(pair: Pair, people: People) -> None:
    [nobody] = people.new(1)

    assert _export(pair, nobody) == []


def test_a_cursor_of_somebody_else_is_refused(pair: Pair, people: People, life: int) -> None:
    [other] = people.new(1)
    cursor = _export(pair, life)[0].cursor

    with pytest.raises(grpc.RpcError) as caught:
        _export(pair, other, cursor)

    assert fields_of(caught) == ["cursor"]
    assert reason_of(caught.value) == "INVALID_PAGE_TOKEN"


_PAST_WEEK = Timestamp(seconds=1_600_000_000)


def test_the_read_position_and_the_digests_of_past_weeks_are_exported(
    pair: Pair, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_CHUNK", 1)
    user, friend = people.connected(2)
    _import(pair, friend, ["from a past week"])
    requests = [
        pb.GetDigestRequest(user_id=user, week_of=_PAST_WEEK, time_zone=zone)
        for zone in ("", "Europe/Lisbon")
    ]
    [item] = pair.feed.GetDigest(requests[0]).items
    digests = [pair.feed.GetDigest(request) for request in requests]
    name = pb.PostName(author_id=friend, post_id=item.post.post_id)
    read = pair.feed.MarkFeedRead(pb.MarkFeedReadRequest(user_id=user, post=name))

    messages = _export(pair, user)

    found = _joined(messages)
    assert found.read_time == read.read_time
    assert sorted(digest.start_time.seconds for digest in found.frozen_digests) == sorted(
        digest.start_time.seconds for digest in digests
    )
    assert {
        (digest.items[0].post.post_id, digest.items[0].reason) for digest in (found.frozen_digests)
    } == {(item.post.post_id, item.reason)}
    rests = [_joined(_export(pair, user, message.cursor)) for message in messages]
    assert rests == [_joined(messages[number + 1 :]) for number in range(len(messages))]


def _export_of_graph(
    pair: Pair, user_id: int, cursor: str = ""
) -> list[graph_pb2.ExportUserResponse]:
    request = graph_pb2.ExportUserRequest(user_id=user_id, cursor=cursor)
    return list(pair.graph.ExportUser(request))


def _peers(messages: list[graph_pb2.ExportUserResponse]) -> list[graph_pb2.Connection]:
    return [peer for message in messages for peer in message.connections]


@pytest.fixture
def acquainted(pair: Pair, people: People) -> tuple[int, list[int]]:
    """Somebody with each kind of peer, in the order of their ids, and the ids of these."""
    user, *peers = people.new(7)
    friend, asked, asking, blocked, blocker, unblocked = peers
    people.connect(user, friend)
    people.block(blocker, user)
    for requester, addressee in ((user, asked), (asking, user), (user, blocker)):
        pair.graph.RequestConnection(
            graph_pb2.RequestConnectionRequest(user_id=requester, peer_id=addressee)
        )
    people.block(user, blocked)
    pair.graph.RequestConnection(graph_pb2.RequestConnectionRequest(user_id=blocked, peer_id=user))
    people.block(unblocked, user)
    return user, peers


def test_the_graphs_export_holds_each_pair_as_the_user_sees_it_and_no_block_by_others(
    pair: Pair, acquainted: tuple[int, list[int]]
) -> None:
    user, peers = acquainted

    found = _peers(_export_of_graph(pair, user))

    shown = [
        pair.graph.GetConnection(
            graph_pb2.GetConnectionRequest(user_id=user, peer_id=peer)
        ).connection
        for peer in peers
    ]
    assert found == shown[:-1]
    assert [peer.state for peer in found] == [
        graph_pb2.CONNECTION_STATE_CONNECTED,
        graph_pb2.CONNECTION_STATE_REQUEST_SENT,
        graph_pb2.CONNECTION_STATE_REQUEST_RECEIVED,
        graph_pb2.CONNECTION_STATE_BLOCKED,
        graph_pb2.CONNECTION_STATE_REQUEST_SENT,
    ]


def test_the_graphs_export_goes_on_from_any_of_its_cursors(
    pair: Pair, acquainted: tuple[int, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    user, peers = acquainted
    monkeypatch.setattr(graph_exports, "_PEERS_CHUNK", 1)
    messages = _export_of_graph(pair, user)

    rests = [_export_of_graph(pair, user, message.cursor) for message in messages]

    assert len(messages) == len(peers) - 1
    assert rests == [messages[number + 1 :] for number in range(len(messages))]


def test_a_cursor_of_somebody_elses_graph_is_refused(
    pair: Pair, people: People, acquainted: tuple[int, list[int]]
) -> None:
    [other] = people.new(1)
    cursor = _export_of_graph(pair, acquainted[0])[-1].cursor

    with pytest.raises(grpc.RpcError) as caught:
        _export_of_graph(pair, other, cursor)

    assert fields_of(caught) == ["cursor"]
    assert _export_of_graph(pair, other) == []


@pytest.fixture
def with_photos(databases: Databases) -> Iterator[Pair]:
    """A pair with an object store."""
    with S3Server() as store, running_pair(databases, store.environment) as running:
        yield running


def test_photos_are_exported_with_where_to_get_them(with_photos: Pair) -> None:
    people = People(with_photos)
    [user] = people.new(1)
    draft = pb.CreatePhotoUploadsRequest.PhotoUploadDraft(content_type=pb.PHOTO_CONTENT_TYPE_PNG)
    [upload] = with_photos.feed.CreatePhotoUploads(
        pb.CreatePhotoUploadsRequest(user_id=user, photos=[draft])
    ).uploads
    post_form(upload.url, upload.fields, photos.plain("image/png"))
    with_photos.feed.CreatePost(
        pb.CreatePostRequest(user_id=user, body="see", audience=ALL, photo_keys=[upload.key])
    )

    [message] = _export(with_photos, user)

    [photo] = message.posts[0].photos
    assert photos.pixels(get(photo.url).body) == photos.pixels(photos.plain("image/png"))
    assert (photo.width, photo.height) == photos.SIZE
    assert photo.expire_time.ToDatetime(UTC) > datetime.now(UTC)
