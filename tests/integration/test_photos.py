"""Photos from the browser into a post and back, against an object store that verifies."""

import struct
import threading
import uuid
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import sqlalchemy
from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as pb
from tests.support import photos
from tests.support.browser import get, post_form
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, PRIVATE, People
from tests.support.processes import until
from tests.support.s3 import RefusedError, S3Server
from tests.support.scrape import scrape

_JPEG = pb.PHOTO_CONTENT_TYPE_JPEG
_PNG = pb.PHOTO_CONTENT_TYPE_PNG
_KINDS = dict(
    zip(photos.CONTENT_TYPES, [kind for kind in pb.PhotoContentType.values() if kind], strict=True)
)
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

    def upload(
        self, content: bytes = photos.plain(), kind: pb.PhotoContentType.ValueType = _JPEG
    ) -> str:
        """Upload a photo and return its key."""
        [permission] = self.permit(kind)
        assert post_form(permission.url, permission.fields, content).status == 204
        return permission.key

    def post(
        self,
        *keys: str,
        request_id: str = "",
        body: str = "look",
        alt_texts: Sequence[str] = (),
    ) -> pb.Post:
        """Publish photos."""
        request = pb.CreatePostRequest(
            user_id=self.user_id,
            body=body,
            audience=ALL,
            photo_keys=keys,
            request_id=request_id,
            alt_texts=alt_texts,
        )
        return self.pair.feed.CreatePost(request).post

    def change(self, post: pb.Post, *paths: str) -> pb.Post:
        """Change one of the user's posts."""
        request = pb.UpdatePostRequest(
            user_id=self.user_id, post=post, update_mask=FieldMask(paths=paths)
        )
        return self.pair.feed.UpdatePost(request).post

    def delete(self, post: pb.Post) -> None:
        """Delete one of the user's posts."""
        request = pb.DeletePostRequest(user_id=self.user_id, post_id=post.post_id)
        self.pair.feed.DeletePost(request)

    def undelete(self, post: pb.Post) -> pb.Post:
        """Restore one of the user's posts."""
        request = pb.UndeletePostRequest(user_id=self.user_id, post_id=post.post_id)
        return self.pair.feed.UndeletePost(request).post

    def feed(self) -> list[pb.Post]:
        """Return the first page of the user's feed."""
        return list(self.pair.feed.GetFeed(pb.GetFeedRequest(user_id=self.user_id)).posts)


@pytest.fixture
def album(pair: Pair, people: People) -> Album:
    return Album(pair=pair, user_id=people.new(1)[0])


def test_a_photo_comes_back_to_everybody_who_sees_the_post(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    album = Album(pair=pair, user_id=author)
    first, second = (photos.plain(number=number) for number in (1, 2))
    keys = [album.upload(first), album.upload(second)]

    album.post(*keys[::-1])

    [seen] = Album(pair=pair, user_id=friend).feed()
    shown = [get(photo.url) for photo in seen.photos]
    assert [photos.pixels(each.body) for each in shown] == [*map(photos.pixels, (second, first))]
    assert {each.content_type for each in shown} == {"image/jpeg"}
    assert {(photo.width, photo.height) for photo in seen.photos} == {photos.SIZE}
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
    assert all(permission.key.startswith(f"uploads/{album.user_id}/") for permission in permissions)
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
    largest = photos.plain() + bytes(_LIMIT - len(photos.plain()))

    post = album.post(album.upload(largest))

    assert photos.pixels(get(post.photos[0].url).body) == photos.pixels(largest)


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


def test_a_post_may_have_photos_and_no_text(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    album = Album(pair=pair, user_id=author)

    post = album.post(album.upload(), body="")

    [seen] = Album(pair=pair, user_id=friend).feed()
    assert (seen.post_id, seen.body, len(seen.photos)) == (post.post_id, "", 1)


def test_white_space_is_no_text_of_a_post_with_photos_either(album: Album) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        album.post(album.upload(), body=" \n")

    assert fields_of(caught) == ["body"]


def test_a_text_is_taken_only_from_a_post_that_has_photos(album: Album, people: People) -> None:
    with_photo = album.post(album.upload())
    without = pb.Post(post_id=people.post(album.user_id))

    assert album.change(pb.Post(post_id=with_photo.post_id), "body").body == ""
    with pytest.raises(grpc.RpcError) as caught:
        album.change(without, "body")
    assert fields_of(caught) == ["post.body"]


def test_photos_are_described_to_everybody_who_sees_the_post(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    album = Album(pair=pair, user_id=author)

    post = album.post(album.upload(), album.upload(), alt_texts=["a cat", ""])

    [seen] = Album(pair=pair, user_id=friend).feed()
    assert [photo.alt_text for photo in seen.photos] == ["a cat", ""]
    assert list(seen.photos) == list(post.photos)


@pytest.mark.parametrize(
    ("alt_texts", "field"),
    [(["a", "b"], "alt_texts"), (["x" * 1_001], "alt_texts[0]"), (["\0"], "alt_texts[0]")],
    ids=["one too many", "too long", "a control character"],
)
def test_a_description_that_breaks_a_rule_is_refused(
    album: Album, alt_texts: list[str], field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        album.post(album.upload(), alt_texts=alt_texts)

    assert fields_of(caught) == [field]


def test_photos_are_added_removed_described_and_reordered(album: Album, store: S3Server) -> None:
    post = album.post(*(album.upload(photos.plain(number=number)) for number in (1, 2)))
    first, second = post.photos
    added = album.upload(photos.plain(number=3))
    changed = pb.Post(
        post_id=post.post_id,
        photos=[pb.Photo(key=added, alt_text="new"), pb.Photo(key=second.key, alt_text="kept")],
    )

    shown = album.change(changed, "photos")

    assert [photo.alt_text for photo in shown.photos] == ["new", "kept"]
    assert [photos.pixels(get(photo.url).body) for photo in shown.photos] == [
        photos.pixels(photos.plain(number=number)) for number in (3, 2)
    ]
    assert (shown.photos[1].key, shown.photos[1].width) == (second.key, second.width)
    assert [list(seen.photos) for seen in album.feed()] == [list(shown.photos)]
    assert shown.body == "look"
    until(lambda: first.key not in store.objects and added not in store.objects)
    assert {photo.key for photo in shown.photos} <= set(store.objects)


def test_a_star_changes_photos_and_attributes_as_well(album: Album) -> None:
    post = album.post(album.upload())
    post.body, post.photos[0].alt_text = "changed", "a cat"
    post.attributes["place"] = "Porto"

    changed = album.change(post, "*")

    assert (changed.body, changed.photos[0].alt_text) == ("changed", "a cat")
    assert dict(changed.attributes) == {"place": "Porto"}
    assert changed.photos[0].key == post.photos[0].key


def test_photos_that_are_written_back_are_no_edit_and_described_ones_are(album: Album) -> None:
    post = album.post(album.upload(), album.upload())

    same = album.change(post, "photos")
    was_edited = same.HasField("edit_time")
    same.photos[1].alt_text = "a cat"
    described = album.change(same, "photos")

    assert not was_edited
    assert described.HasField("edit_time")


def test_a_post_takes_no_photos_but_its_own_and_those_of_uploads(
    pair: Pair, people: People, album: Album
) -> None:
    other = Album(pair=pair, user_id=people.new(1)[0])
    post, second = album.post(album.upload()), album.post(album.upload())
    own, upload = post.photos[0].key, album.upload()
    unusable = [second.photos[0].key, other.upload(), other.post(other.upload()).photos[0].key]
    changed = pb.Post(
        post_id=post.post_id, photos=[pb.Photo(key=key) for key in (own, upload, *unusable)]
    )

    with pytest.raises(grpc.RpcError) as caught:
        album.change(changed, "photos")

    assert fields_of(caught) == [f"post.photos[{index}].key" for index in (2, 3, 4)]
    assert [list(seen.photos) for seen in album.feed()] == [list(second.photos), list(post.photos)]
    del changed.photos[2:]
    assert len(album.change(changed, "photos").photos) == 2


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ([pb.Photo(key="a"), pb.Photo(key="a")], "post.photos[1].key"),
        ([pb.Photo()], "post.photos[0].key"),
        ([pb.Photo(key="a", alt_text="x" * 1_001)], "post.photos[0].alt_text"),
        ([pb.Photo(key=str(number)) for number in range(11)], "post.photos"),
    ],
    ids=["a key twice", "no key", "a long description", "too many"],
)
def test_photos_that_break_a_rule_are_refused_by_field(
    album: Album, people: People, changed: list[pb.Photo], field: str
) -> None:
    post_id = people.post(album.user_id)

    with pytest.raises(grpc.RpcError) as caught:
        album.change(pb.Post(post_id=post_id, photos=changed), "photos")

    assert fields_of(caught) == [field]


def test_the_last_photo_stays_with_a_post_that_has_no_text(album: Album) -> None:
    post = album.post(album.upload(), body="")

    with pytest.raises(grpc.RpcError) as caught:
        album.change(pb.Post(post_id=post.post_id), "photos")

    assert fields_of(caught) == ["post.photos"]
    changed = album.change(pb.Post(post_id=post.post_id, body="words"), "photos", "body")
    assert (changed.body, len(changed.photos)) == ("words", 0)


def test_a_change_by_an_old_etag_makes_no_photo(album: Album, store: S3Server) -> None:
    post, upload = album.post(album.upload()), album.upload()
    album.change(pb.Post(post_id=post.post_id, body="changed"), "body")
    post.photos.add(key=upload)
    before = set(store.objects)

    with pytest.raises(grpc.RpcError) as caught:
        album.change(post, "photos")

    assert reason_of(caught.value) == "ETAG_MISMATCH"
    assert set(store.objects) - before == set()


def test_of_two_changes_at_once_one_gets_the_upload_and_nothing_is_left_over(
    album: Album, store: S3Server
) -> None:
    post, upload = album.post(album.upload()), album.upload()
    changed = pb.Post(post_id=post.post_id, photos=[pb.Photo(key=upload)])

    def change(_: int) -> bool:
        try:
            album.change(changed, "photos")
        except grpc.RpcError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        succeeded = list(threads.map(change, range(4)))

    assert succeeded.count(True) == 1
    _hurry_removals(album.pair)
    [seen] = album.feed()
    own = f"/{album.user_id}/"
    until(lambda: {key for key in list(store.objects) if own in key} == {seen.photos[0].key})


def test_a_repeated_change_of_photos_returns_the_first_answer(album: Album) -> None:
    post = album.post(album.upload())
    post.photos.add(key=album.upload())
    request = pb.UpdatePostRequest(
        user_id=album.user_id,
        post=post,
        update_mask=FieldMask(paths=["photos"]),
        request_id=str(uuid.uuid4()),
    )

    first, second = (album.pair.feed.UpdatePost(request) for _ in range(2))

    assert first == second
    assert len(first.post.photos) == 2


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


@pytest.mark.parametrize("content_type", photos.CONTENT_TYPES)
def test_a_photo_shows_its_picture_and_tells_nothing_else(
    album: Album, store: S3Server, content_type: str
) -> None:
    uploaded = photos.telling(content_type)
    key = album.upload(uploaded, _KINDS[content_type])

    [photo] = album.post(key).photos

    shown = get(photo.url)
    assert shown.content_type == content_type
    assert photos.pixels(shown.body) == photos.pixels(uploaded)
    assert (photo.width, photo.height) == photos.SIZE[::-1]
    assert (photos.told(uploaded) != [], photos.told(shown.body)) == (True, [])
    until(lambda: key not in store.objects)
    assert photos.told(store.objects[photo.key].body) == []


def _png_of(width: int, height: int) -> bytes:
    """Return a PNG of so many pixels, all in one byte."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html><script>alert(1)</script></html>", "is not a PNG"),
        (photos.plain("image/jpeg"), "is not a PNG"),
        (photos.plain("image/png")[:-20], "is cut off or damaged"),
        (_png_of(16_385, 1), "16,384 pixels a side"),
        (_png_of(10_001, 10_000), "100,000,000 in all"),
    ],
    ids=["HTML", "a JPEG", "cut off", "too wide", "too large"],
)
def test_what_is_no_photo_of_its_type_is_refused_by_name(
    album: Album, content: bytes, said: str
) -> None:
    fitting, unfit = album.upload(), album.upload(content, _PNG)

    with pytest.raises(grpc.RpcError) as caught:
        album.post(fitting, unfit)

    assert fields_of(caught) == ["photo_keys[1]"]
    assert said in str(caught.value)
    assert album.feed() == []
    assert album.post(fitting).photos


def test_a_photo_cannot_be_exchanged_by_its_form_and_what_comes_later_is_removed(
    album: Album, store: S3Server
) -> None:
    [permission] = album.permit()
    post_form(permission.url, permission.fields, photos.plain(number=1))
    [photo] = album.post(permission.key).photos
    until(lambda: permission.key not in store.objects)

    assert post_form(permission.url, permission.fields, photos.plain(number=2)).status == 204

    assert photos.pixels(get(photo.url).body) == photos.pixels(photos.plain(number=1))
    # That it is removed once more, when no form can be valid, is stored after the first removal.
    until(
        lambda: timedelta(minutes=50) < _removed_in(album.pair, permission.key) < timedelta(hours=1)
    )
    _hurry_removals(album.pair)
    until(lambda: permission.key not in store.objects)
    until(lambda: _count(album.pair, "object_removals", permission.key) == 0)
    assert photo.key in store.objects


def test_a_post_that_fails_after_its_photos_were_stored_leaves_nothing(
    album: Album, store: S3Server
) -> None:
    key, before = album.upload(), set(store.objects)
    request = pb.CreatePostRequest(
        user_id=album.user_id,
        body="look",
        audience=pb.Audience(kind=pb.AUDIENCE_KIND_TAGS, tag_ids=[1 << 60]),
        photo_keys=[key],
    )

    with pytest.raises(grpc.RpcError) as caught:
        album.pair.feed.CreatePost(request)

    assert fields_of(caught) == ["audience.tag_ids[0]"]
    assert len(set(store.objects) - before) == 1
    _hurry_removals(album.pair)
    until(lambda: set(store.objects) <= before)
    assert album.post(key).photos


def test_a_store_that_fails_half_way_leaves_nothing_and_the_retry_succeeds(
    album: Album, store: S3Server
) -> None:
    keys = [album.upload(photos.plain(number=number)) for number in (1, 2)]
    before = set(store.objects)
    stored = list[str]()

    def fail_from_the_second_on(method: str, key: str) -> None:
        if method == "PUT":
            stored.append(key)
            if key != stored[0]:
                raise RefusedError(503, "ServiceUnavailable", "Out of order.")

    store.before_answer = fail_from_the_second_on
    try:
        with pytest.raises(grpc.RpcError) as caught:
            album.post(*keys)
    finally:
        store.before_answer = lambda _method, _key: None

    assert reason_of(caught.value) == "OBJECT_STORE_UNAVAILABLE"
    assert album.feed() == []
    assert set(store.objects) - before == {stored[0]}
    _hurry_removals(album.pair)
    until(lambda: stored[0] not in store.objects)
    assert len(album.post(*keys).photos) == 2


def test_a_call_that_runs_out_of_time_makes_no_post_and_leaves_nothing(
    album: Album, store: S3Server
) -> None:
    key, before = album.upload(), set(store.objects)
    end_of_call = threading.Event()
    store.before_answer = lambda method, _key: method == "PUT" and end_of_call.wait()
    request = pb.CreatePostRequest(
        user_id=album.user_id, body="look", audience=ALL, photo_keys=[key]
    )

    def ended() -> float:
        calls = scrape(album.pair.feed_server)
        return calls.value("grpc_server_handled_total", grpc_method="CreatePost")

    ended_before = ended()
    try:
        with pytest.raises(grpc.RpcError) as caught:
            album.pair.feed.CreatePost(request, timeout=0.5)
        # The client's clock may be a little ahead of the service's, which then has time left.
        until(lambda: ended() > ended_before)
    finally:
        store.before_answer = lambda _method, _key: None
        end_of_call.set()

    # Either the client or the service notices first.
    ends = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    assert caught.value.code() in ends
    assert album.feed() == []
    until(lambda: set(store.objects) - before)
    _hurry_removals(album.pair)
    until(lambda: set(store.objects) <= before)


def test_a_post_does_not_take_photos_that_are_being_removed(album: Album, store: S3Server) -> None:
    key = album.upload()

    def be_late(method: str, _key: str) -> None:
        if method == "PUT":
            _change_removals(album.pair, "attempts = 1")

    store.before_answer = be_late
    try:
        with pytest.raises(grpc.RpcError) as caught:
            album.post(key)
    finally:
        store.before_answer = lambda _method, _key: None

    assert reason_of(caught.value) == "OBJECT_STORE_UNAVAILABLE"
    assert album.feed() == []
    assert album.post(key).photos


def test_no_transaction_is_open_while_the_object_store_is_asked(
    album: Album, store: S3Server
) -> None:
    key = album.upload()
    database = sqlalchemy.make_url(album.pair.feed_url).database

    def is_any_open() -> bool:
        statement = """SELECT FROM pg_stat_activity
                       WHERE datname = :database AND state LIKE 'idle in transaction%'
                         AND query NOT LIKE '%pg_stat_activity%'"""
        return bool(_execute(album.pair, statement, database=database))

    # Those of the work beside the calls end by themselves. One that waits for the store does not,
    # as the store does not answer before it has ended.
    store.before_answer = lambda _method, _key: until(lambda: not is_any_open())
    try:
        assert album.post(key).photos
    finally:
        store.before_answer = lambda _method, _key: None


def test_photos_that_were_posted_before_they_had_a_size_have_none(album: Album) -> None:
    post = album.post(album.upload())
    _execute(
        album.pair,
        "UPDATE post_photos SET width = NULL, height = NULL WHERE author_id = :author_id",
        author_id=album.user_id,
    )

    [seen] = album.feed()

    assert (seen.photos[0].width, seen.photos[0].height) == (0, 0)
    assert seen.photos[0].url == post.photos[0].url


def test_a_repeated_request_returns_the_first_permissions(album: Album) -> None:
    request = pb.CreatePhotoUploadsRequest(
        user_id=album.user_id,
        photos=[pb.CreatePhotoUploadsRequest.PhotoUploadDraft(content_type=_JPEG)],
        request_id=str(uuid.uuid4()),
    )

    first, second = (album.pair.feed.CreatePhotoUploads(request) for _ in range(2))

    assert first == second


def test_the_photos_of_a_deleted_post_leave_the_object_store_when_it_is_purged(
    album: Album, store: S3Server
) -> None:
    post = album.post(album.upload())
    key = post.photos[0].key

    album.delete(post)

    assert timedelta(days=29) < _removed_in(album.pair, key) <= timedelta(days=30)
    assert get(post.photos[0].url).status == 200
    _hurry_removals(album.pair)
    until(lambda: key not in store.objects)
    until(lambda: _count(album.pair, "object_removals", key) == 0)
    assert get(post.photos[0].url).status == 404


def test_a_restored_post_keeps_its_photos(album: Album, store: S3Server) -> None:
    post = album.post(album.upload(), album.upload(), alt_texts=["a cat", "a dog"])
    album.delete(post)
    [listed] = album.pair.feed.ListDeletedPosts(
        pb.ListDeletedPostsRequest(user_id=album.user_id)
    ).posts

    restored = album.undelete(post)

    assert list(listed.photos) == list(restored.photos) == list(post.photos)
    other = album.post(album.upload())
    album.delete(other)
    _hurry_removals(album.pair)
    until(lambda: other.photos[0].key not in store.objects)
    assert [_count(album.pair, "object_removals", photo.key) for photo in post.photos] == [0, 0]
    assert {photo.key for photo in post.photos} <= set(store.objects)


def test_a_post_whose_photos_are_being_removed_cannot_be_restored(album: Album) -> None:
    post = album.post(album.upload())
    album.delete(post)
    _execute(
        album.pair,
        "UPDATE object_removals SET attempts = 1 WHERE object_key = :key",
        key=post.photos[0].key,
    )

    with pytest.raises(grpc.RpcError) as caught:
        album.undelete(post)

    assert reason_of(caught.value) == "POST_NOT_FOUND"
    assert album.feed() == []


def test_erasure_removes_the_photos_of_deleted_posts_at_once(album: Album, store: S3Server) -> None:
    post = album.post(album.upload())
    album.delete(post)

    album.pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=album.user_id))

    until(lambda: post.photos[0].key not in store.objects)


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
        album.change(pb.Post(post_id=shown.post_id), "photos")
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
    """Let a round of upkeep begin: any change of photos does."""
    album.change(pb.Post(post_id=album.post().post_id), "photos")


def _hurry_removals(pair: Pair) -> None:
    """Make what failed due again, and let a round begin."""
    _change_removals(pair, "due_at = now()")
    _run_upkeep(Album(pair=pair, user_id=1))


def _change_removals(pair: Pair, change: str) -> None:
    """Change all removals, with the table locked: a round of upkeep locks rows in its own order."""
    lock = "LOCK TABLE object_removals IN EXCLUSIVE MODE"
    _execute(pair, f"{lock}; UPDATE object_removals SET {change}")


def _count(pair: Pair, table: str, key: str) -> int:
    return len(_execute(pair, f"SELECT FROM {table} WHERE object_key = :key", key=key))


def _removed_in(pair: Pair, key: str) -> timedelta:
    """Return after which time an object is to be removed from the store."""
    rows: list[tuple[timedelta]] = _execute(
        pair, "SELECT due_at - now() FROM object_removals WHERE object_key = :key", key=key
    )
    return rows[0][0]


def _execute(pair: Pair, statement: str, **parameters: object) -> list[Any]:
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement), parameters)
        return list(result) if result.returns_rows else []
