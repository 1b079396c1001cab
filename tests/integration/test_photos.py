"""Photos from the browser into a post and back, against an object store that verifies."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import sqlalchemy

from shared.gen.kith.feed.v1 import feed_pb2 as pb
from tests.support.browser import get, post_form
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, PRIVATE, People
from tests.support.processes import until
from tests.support.s3 import RefusedError, S3Server

_JPEG = pb.PHOTO_CONTENT_TYPE_JPEG
_LIMIT = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture(scope="module")
def pair(databases: Databases, store: S3Server) -> Iterator[Pair]:
    """A pair with an object store."""
    with running_pair(databases, store.environment) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Album:
    """What a user does with photos."""

    pair: Pair
    user_id: int

    def permit(
        self, *kinds: pb.PhotoContentType.ValueType
    ) -> list[pb.CreatePhotoUploadsResponse.PhotoUpload]:
        """Ask for permissions to upload."""
        draft = pb.CreatePhotoUploadsRequest.PhotoUploadDraft
        request = pb.CreatePhotoUploadsRequest(
            user_id=self.user_id, photos=[draft(content_type=kind) for kind in kinds or [_JPEG]]
        )
        return list(self.pair.feed.CreatePhotoUploads(request).uploads)

    def upload(self, content: bytes = b"a photo") -> str:
        """Upload a photo and return its key."""
        [permission] = self.permit()
        assert post_form(permission.url, permission.fields, content).status == 204
        return permission.key

    def post(self, *keys: str, request_id: str = "") -> pb.Post:
        """Publish photos."""
        request = pb.CreatePostRequest(
            user_id=self.user_id, body="look", audience=ALL, photo_keys=keys, request_id=request_id
        )
        return self.pair.feed.CreatePost(request).post

    def feed(self) -> list[pb.Post]:
        """Return the first page of the user's feed."""
        return list(self.pair.feed.GetFeed(pb.GetFeedRequest(user_id=self.user_id)).posts)


@pytest.fixture
def album(pair: Pair, people: People) -> Album:
    return Album(pair=pair, user_id=people.new(1)[0])


def test_a_photo_comes_back_to_everybody_who_sees_the_post(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    album = Album(pair=pair, user_id=author)
    keys = [album.upload(b"first"), album.upload(b"second")]

    album.post(*keys[::-1])

    [seen] = Album(pair=pair, user_id=friend).feed()
    assert [get(photo.url).body for photo in seen.photos] == [b"second", b"first"]
    assert [photo.key for photo in seen.photos] == keys[::-1]
    now = datetime.now(UTC)
    assert all(
        now + timedelta(minutes=44) < photo.expire_time.ToDatetime(UTC) < now + timedelta(hours=1)
        for photo in seen.photos
    )


def test_a_key_belongs_to_its_owner_and_tells_its_content_type(album: Album) -> None:
    kinds = [kind for kind in pb.PhotoContentType.values() if kind]

    permissions = album.permit(*kinds)

    assert [permission.key.rpartition(".")[2] for permission in permissions] == [
        "jpg",
        "png",
        "webp",
        "avif",
    ]
    assert all(permission.key.startswith(f"photos/{album.user_id}/") for permission in permissions)
    assert {permission.max_size_bytes for permission in permissions} == {_LIMIT}


@pytest.mark.parametrize(
    ("content", "field", "value"),
    [
        (b"x" * (_LIMIT + 1), "", ""),
        (b"", "", ""),
        (b"photo", "Content-Type", "text/html"),
        (b"photo", "key", "photos/1/other.jpg"),
    ],
    ids=["too large", "empty", "another content type", "another key"],
)
def test_an_upload_that_breaks_its_policy_is_refused_and_makes_no_post(
    album: Album, content: bytes, field: str, value: str
) -> None:
    [permission] = album.permit()
    fields = dict(permission.fields) | ({field: value} if field else {})

    assert post_form(permission.url, fields, content).status in {400, 403}

    with pytest.raises(grpc.RpcError) as caught:
        album.post(permission.key)
    assert fields_of(caught) == ["photo_keys[0]"]
    assert album.feed() == []


def test_a_photo_of_the_greatest_size_is_taken(album: Album) -> None:
    post = album.post(album.upload(b"x" * _LIMIT))

    assert len(get(post.photos[0].url).body) == _LIMIT


def test_every_key_that_cannot_be_shown_is_named(pair: Pair, people: People, album: Album) -> None:
    other = Album(pair=pair, user_id=people.new(1)[0])
    [never_uploaded] = album.permit()
    foreign, own = other.upload(), album.upload()

    with pytest.raises(grpc.RpcError) as caught:
        album.post(own, foreign, "photos/../etc", own)
    assert fields_of(caught) == ["photo_keys[3]"]
    with pytest.raises(grpc.RpcError) as caught:
        album.post(own, foreign, "photos/../etc")
    assert fields_of(caught) == ["photo_keys[1]", "photo_keys[2]"]
    with pytest.raises(grpc.RpcError) as caught:
        album.post(own, never_uploaded.key)
    assert fields_of(caught) == ["photo_keys[1]"]
    assert album.feed() == []
    assert album.post(own).photos
    assert other.post(foreign).photos


def test_a_photo_is_in_one_post_only(album: Album) -> None:
    key = album.upload()

    def publish(_: int) -> bool:
        try:
            album.post(key)
        except grpc.RpcError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        published = list(threads.map(publish, range(8)))

    assert published.count(True) == 1
    assert len(album.feed()) == 1


def test_a_repeated_request_with_photos_returns_the_first_post(album: Album) -> None:
    key, request_id = album.upload(), str(uuid.uuid4())

    with ThreadPoolExecutor(8) as threads:
        posts = list(threads.map(lambda _: album.post(key, request_id=request_id), range(8)))

    assert all(post == posts[0] for post in posts)
    assert [post.post_id for post in album.feed()] == [posts[0].post_id]


def test_a_repeat_that_finds_its_photos_used_up_by_the_first_returns_the_first_post(
    album: Album,
) -> None:
    key, request_id = album.upload(), str(uuid.uuid4())
    first = list[pb.Post]()

    def let_the_first_go_ahead(statement: str) -> None:
        if "FROM photo_uploads" in statement and not first:
            album.pair.feed_tap.before_statement = lambda _statement: None
            first.append(album.post(key, request_id=request_id))

    album.pair.feed_tap.before_statement = let_the_first_go_ahead
    repeated = album.post(key, request_id=request_id)

    assert [repeated] == first


def test_a_repeated_request_returns_the_first_permissions(album: Album) -> None:
    request = pb.CreatePhotoUploadsRequest(
        user_id=album.user_id,
        photos=[pb.CreatePhotoUploadsRequest.PhotoUploadDraft(content_type=_JPEG)],
        request_id=str(uuid.uuid4()),
    )

    first, second = (album.pair.feed.CreatePhotoUploads(request) for _ in range(2))

    assert first == second


def test_the_photos_of_a_deleted_post_leave_the_object_store(album: Album, store: S3Server) -> None:
    key = album.upload()
    post = album.post(key)
    assert key in store.objects

    album.pair.feed.DeletePost(pb.DeletePostRequest(user_id=album.user_id, post_id=post.post_id))

    until(lambda: key not in store.objects)
    until(lambda: _count(album.pair, "object_removals", key) == 0)
    assert get(post.photos[0].url).status == 404


def test_while_the_store_is_down_reads_work_and_only_photos_cannot_be_posted(
    pair: Pair, people: People, store: S3Server
) -> None:
    album = Album(pair=pair, user_id=people.new(1)[0])
    shown, waiting = album.post(album.upload()), album.upload()
    store.before_answer = _out_of_order
    try:
        with pytest.raises(grpc.RpcError) as caught:
            album.post(waiting)
        assert reason_of(caught.value) == "OBJECT_STORE_UNAVAILABLE"
        without = people.post(album.user_id, PRIVATE)
        assert [post.post_id for post in album.feed()] == [without, shown.post_id]
        assert album.feed()[1].photos == shown.photos
        assert album.permit()
        pair.feed.DeletePost(pb.DeletePostRequest(user_id=album.user_id, post_id=shown.post_id))
        until(lambda: ("DELETE", shown.photos[0].key) in store.requests)
    finally:
        store.before_answer = lambda _method, _key: None
    assert album.post(waiting).photos
    _hurry_removals(pair)
    until(lambda: shown.photos[0].key not in store.objects)


def test_an_upload_that_nobody_used_for_a_day_is_removed(album: Album, store: S3Server) -> None:
    key = album.upload()
    _execute(
        album.pair,
        "UPDATE photo_uploads SET created_at = now() - interval '25 hours' WHERE object_key = :key",
        key=key,
    )

    _run_upkeep(album)

    until(lambda: key not in store.objects)
    with pytest.raises(grpc.RpcError) as caught:
        album.post(key)
    assert fields_of(caught) == ["photo_keys[0]"]


def test_without_an_object_store_photos_are_refused_and_the_rest_works(
    databases: Databases,
) -> None:
    with running_pair(databases) as bare:
        people = People(bare)
        album = Album(pair=bare, user_id=people.new(1)[0])
        for call in (album.permit, lambda: album.post("photos/1/a.jpg")):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert reason_of(caught.value) == "PHOTOS_NOT_CONFIGURED"
        post_id = people.post(album.user_id)
        assert people.feed(album.user_id) == [post_id]


def _out_of_order(_method: str, _key: str) -> None:
    raise RefusedError(503, "ServiceUnavailable", "Out of order.")


def _run_upkeep(album: Album) -> None:
    """Let a round of upkeep begin: the deletion of any post does."""
    post = album.post()
    album.pair.feed.DeletePost(pb.DeletePostRequest(user_id=album.user_id, post_id=post.post_id))


def _hurry_removals(pair: Pair) -> None:
    """Make what failed due again, and let a round begin."""
    _execute(pair, "UPDATE object_removals SET due_at = now()")
    _run_upkeep(Album(pair=pair, user_id=1))


def _count(pair: Pair, table: str, key: str) -> int:
    return len(_execute(pair, f"SELECT FROM {table} WHERE object_key = :key", key=key))


def _execute(pair: Pair, statement: str, **parameters: object) -> list[object]:
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement), parameters)
        return list(result) if result.returns_rows else []
