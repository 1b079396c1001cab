"""Posts from elsewhere come with their times and audiences, once, however often they are sent."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from kith.feed.v1 import feed_pb2 as pb
from tests.support import photos
from tests.support.browser import get, post_form
from tests.support.engines import engine_to
from tests.support.errors import decoded, fields_of, reason_of, refusal
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, PRIVATE, People, all_without, tagged
from tests.support.s3 import S3Server

ImportedPost = pb.ImportPostsRequest.ImportedPost

_NEVER = Timestamp(seconds=2**62)
_LONG_AGO = datetime(2019, 2, 28, 23, 59, 59, 123456, tzinfo=UTC)


def _post(
    author_id: int,
    external_id: str = "one",
    audience: pb.Audience = ALL,
    body: str = "from elsewhere",
    moment: datetime = _LONG_AGO,
    importance: float | None = None,
) -> ImportedPost:
    time = Timestamp()
    time.FromDatetime(moment)
    return ImportedPost(
        author_id=author_id,
        external_id=external_id,
        body=body,
        create_time=time,
        audience=audience,
        importance=importance,
    )


def _with_attributes(post: ImportedPost, attributes: Mapping[str, str]) -> ImportedPost:
    post.attributes.update(attributes)
    return post


def _changed(post: ImportedPost, moment: datetime) -> ImportedPost:
    post.edit_time.FromDatetime(moment)
    return post


def _import(pair: Pair, *chunks: Sequence[ImportedPost]) -> pb.ImportPostsResponse:
    return pair.feed.ImportPosts(pb.ImportPostsRequest(posts=chunk) for chunk in chunks)


def _counts(response: pb.ImportPostsResponse) -> tuple[int, int, int]:
    return response.imported_count, response.existing_count, response.committed_chunks


def _posts(pair: Pair, viewer_id: int, author_id: int) -> list[pb.Post]:
    request = pb.ListPostsRequest(user_id=viewer_id, author_id=author_id, page_size=100)
    return list(pair.feed.ListPosts(request).posts)


def _stored(pair: Pair, statement: str) -> list[object]:
    with engine_to(pair.feed_url).connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def test_a_post_comes_as_it_was_with_its_own_time(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)

    _import(pair, [_post(author, body="écrit\nailleurs")])

    [seen] = _posts(pair, friend, author)
    assert (seen.body, seen.create_time.ToDatetime(UTC)) == ("écrit\nailleurs", _LONG_AGO)
    assert not seen.HasField("edit_time")


def test_posts_are_sorted_among_the_others_by_time(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    present = people.post(author)

    _import(
        pair,
        [
            _post(author, "younger", moment=_LONG_AGO + timedelta(days=1), body="younger"),
            _post(author, "older", body="older"),
            _post(friend, "oldest", moment=_LONG_AGO - timedelta(days=1), body="oldest"),
        ],
    )

    feed = pair.feed.GetFeed(pb.GetFeedRequest(user_id=friend)).posts
    assert [post.body for post in feed] == ["hello", "younger", "older", "oldest"]
    assert feed[0].post_id == present


def test_each_audience_holds(pair: Pair, people: People) -> None:
    author, alice, bob = people.connected(3)
    tag = people.tag(author, "family", alice)

    _import(
        pair,
        [
            _post(author, "all", ALL, body="all"),
            _post(author, "private", PRIVATE, body="private"),
            _post(author, "tags", tagged(tag), body="tags"),
            _post(author, "without", all_without(tag), body="without"),
        ],
    )

    def seen_by(viewer_id: int) -> set[str]:
        return {post.body for post in _posts(pair, viewer_id, author)}

    assert seen_by(author) == {"all", "private", "tags", "without"}
    assert seen_by(alice) == {"all", "tags"}
    assert seen_by(bob) == {"all", "without"}
    assert {post.body: list(post.audience.tag_ids) for post in _posts(pair, author, author)} == {
        "all": [],
        "private": [],
        "tags": [tag],
        "without": [],
    }


def test_what_is_sent_again_is_counted_and_not_repeated(pair: Pair, people: People) -> None:
    author, other = people.connected(2)
    tag = people.tag(author, "family", other)
    first = [_post(author, "1", tagged(tag)), _post(author, "2")]
    second = [_post(author, "2", PRIVATE, body="changed"), _post(other, "2")]

    assert _counts(_import(pair, first)) == (2, 0, 1)
    assert _counts(_import(pair, first, second, [])) == (1, 3, 3)
    assert len(_posts(pair, author, author)) == 2
    assert {post.body for post in _posts(pair, author, author)} == {"from elsewhere"}


def test_a_deleted_post_is_not_brought_back(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    _import(pair, [_post(author)])
    [post] = _posts(pair, author, author)
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author, post_id=post.post_id))

    assert _counts(_import(pair, [_post(author)])) == (0, 1, 1)
    assert _posts(pair, author, author) == []


def test_concurrent_imports_of_the_same_posts_import_each_once(pair: Pair, people: People) -> None:
    authors = people.new(4)
    posts = [_post(author, str(number)) for author in authors for number in range(50)]

    def send(turn: int) -> pb.ImportPostsResponse:
        while True:
            try:
                return _import(pair, posts if turn % 2 else posts[::-1])
            except grpc.RpcError as error:
                # Imports have only some of the slots.
                if reason_of(error) != "OVERLOADED":
                    raise
                time.sleep(0.01)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(16)))

    assert sum(answer.imported_count for answer in answers) == 200
    assert [len(_posts(pair, author, author)) for author in authors] == [50] * 4


def test_a_chunk_that_is_refused_leaves_nothing_and_says_how_many_took_effect(
    pair: Pair, people: People
) -> None:
    author, other = people.new(2)
    foreign = people.tag(other, "family")
    own = people.tag(author, "family")
    bad = [
        _post(author, "2"),
        _post(author, "3", tagged(own, foreign, without=(foreign + 1_000_000,))),
        _post(other, "3", all_without(own)),
    ]

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [_post(author, "1")], bad, [_post(author, "4")])

    assert fields_of(caught) == [
        "posts[1].audience.tag_ids[1]",
        "posts[1].audience.excluded_tag_ids[0]",
        "posts[2].audience.excluded_tag_ids[0]",
    ]
    assert decoded(caught.value).metadata["committed_chunks"] == "1"
    assert len(_posts(pair, author, author)) == 1
    assert _counts(_import(pair, [_post(author, "1")])) == (0, 1, 1)


def _without(field: str) -> ImportedPost:
    post = _post(1)
    post.ClearField(field)  # type: ignore[arg-type]  # the name of a field
    return post


_REFUSED = {
    "no author": (_without("author_id"), "author_id"),
    "a negative author": (_post(-1), "author_id"),
    "no external id": (_without("external_id"), "external_id"),
    "a long external id": (_post(1, "x" * 101), "external_id"),
    "an external id with a null": (_post(1, "a\x00b"), "external_id"),
    "no body": (_without("body"), "body"),
    "a blank body": (_post(1, body=" \n "), "body"),
    "a long body": (_post(1, body="x" * 10_001), "body"),
    "no time": (_without("create_time"), "create_time"),
    "the future": (_post(1, moment=datetime.now(UTC) + timedelta(hours=1)), "create_time"),
    "before 1970": (_post(1, moment=datetime(1969, 12, 31, tzinfo=UTC)), "create_time"),
    "no time there is": (
        ImportedPost(author_id=1, external_id="1", body="1", audience=ALL, create_time=_NEVER),
        "create_time",
    ),
    "too many attributes": (
        _with_attributes(_post(1), {"a": "x" * 4_096}),
        "attributes",
    ),
    "no audience": (_without("audience"), "audience.kind"),
    "a change before it was written": (
        _changed(_post(1), _LONG_AGO - timedelta(seconds=1)),
        "edit_time",
    ),
    "a tag by name and by id": (
        ImportedPost(
            author_id=1,
            external_id="1",
            body="1",
            create_time=Timestamp(seconds=1),
            audience=tagged(5),
            tag_external_ids=["x"],
        ),
        "tag_external_ids",
    ),
    "a tag twice": (_post(1, audience=tagged(5, 5)), "audience.tag_ids[1]"),
    "too important": (_post(1, importance=10.5), "importance"),
    "negative importance": (_post(1, importance=-0.1), "importance"),
    "importance that is no number": (_post(1, importance=float("nan")), "importance"),
}


def test_attributes_are_imported_with_their_post(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    attributes = {"place": "Zürich"}

    _import(pair, [_with_attributes(_post(author), attributes), _post(author, "two")])

    posts = pair.feed.ListPosts(pb.ListPostsRequest(user_id=author, author_id=author)).posts
    assert sorted(dict(post.attributes) == attributes for post in posts) == [False, True]


@pytest.mark.parametrize("fault", list(_REFUSED))
def test_a_post_that_breaks_a_limit_is_refused_by_name(
    pair: Pair, people: People, fault: str
) -> None:
    [author] = people.new(1)
    post, field = _REFUSED[fault]

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [_post(author), post])

    assert fields_of(caught) == [f"posts[1].{field}"]
    assert _posts(pair, author, author) == []


def test_all_faults_of_a_chunk_are_named_at_once(pair: Pair) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [_post(0, body=""), _post(1, "same"), _post(1, "same"), _post(2, "same")])

    assert fields_of(caught) == ["posts[0].author_id", "posts[0].body", "posts[2].external_id"]


def test_a_chunk_with_more_faults_than_an_error_can_carry_names_the_first(pair: Pair) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [ImportedPost()] * 1_000)

    named = fields_of(caught)
    assert named[:2] == ["posts[0].author_id", "posts[0].external_id"]
    assert decoded(caught.value).metadata["committed_chunks"] == "0"


def test_a_chunk_can_hold_1000_posts_and_no_more(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    posts = [_post(author, str(number)) for number in range(1_001)]

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, posts)

    assert fields_of(caught) == ["posts"]
    assert _counts(_import(pair, posts[:1_000])) == (1_000, 0, 1)


def test_a_post_keeps_the_time_of_its_last_change(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post = _post(author)
    post.edit_time.FromDatetime(_LONG_AGO + timedelta(days=1))

    _import(pair, [post])

    [seen] = _posts(pair, author, author)
    assert seen.edit_time == post.edit_time


def test_a_post_whose_tags_are_gone_is_seen_by_its_author_alone(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)

    _import(pair, [_post(author, audience=tagged())])

    assert len(_posts(pair, author, author)) == 1
    assert _posts(pair, friend, author) == []


def test_a_comment_policy_and_a_lock_are_imported(pair: Pair, people: People) -> None:
    author, friend, other = people.connected(3)
    tag = people.tag(author, "may comment", friend)
    by_tag, locked = _post(author, "tag"), _post(author, "locked")
    by_tag.comment_policy.CopyFrom(
        pb.CommentPolicy(kind=pb.COMMENT_POLICY_KIND_TAGS, tag_ids=[tag])
    )
    locked.comments_locked = True

    _import(pair, [by_tag, locked])

    def comments(user_id: int) -> list[str]:
        return [
            refusal(
                pair.feed.CreateComment,
                pb.CreateCommentRequest(
                    user_id=user_id,
                    post=pb.PostName(author_id=author, post_id=post.post_id),
                    body="x",
                ),
            )
            for post in sorted(_posts(pair, author, author), key=lambda post: post.comments_locked)
        ]

    assert comments(friend) == ["", "COMMENTS_CLOSED"]
    assert comments(other) == ["COMMENTS_CLOSED", "COMMENTS_CLOSED"]


def test_a_post_that_was_hidden_elsewhere_stays_hidden(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = _post(author)
    post.moderated = True

    _import(pair, [post])

    [seen] = _posts(pair, author, author)
    assert seen.moderated
    assert seen.audience == ALL
    assert _posts(pair, friend, author) == people.feed(friend) == []
    name = pb.PostName(author_id=author, post_id=seen.post_id)
    pair.feed.SetModeration(pb.SetModerationRequest(post=name, state=pb.MODERATION_STATE_VISIBLE))
    assert len(_posts(pair, friend, author)) == 1


@pytest.fixture
def with_photos(databases: Databases) -> Iterator[Pair]:
    """A pair with an object store."""
    with S3Server() as store, running_pair(databases, store.environment) as running:
        yield running


def _upload(pair: Pair, user_id: int, content: bytes) -> str:
    draft = pb.CreatePhotoUploadsRequest.PhotoUploadDraft(content_type=pb.PHOTO_CONTENT_TYPE_PNG)
    request = pb.CreatePhotoUploadsRequest(user_id=user_id, photos=[draft])
    [upload] = pair.feed.CreatePhotoUploads(request).uploads
    post_form(upload.url, upload.fields, content)
    return upload.key


def _with_photos(post: ImportedPost, *keys: str) -> ImportedPost:
    post.photos.extend(pb.Photo(key=key, alt_text=f"photo {key[-8:]}") for key in keys)
    return post


def test_photos_are_made_of_uploads_once_and_in_their_order(with_photos: Pair) -> None:
    [author] = People(with_photos).new(1)
    pictures = [photos.plain("image/png", number=number) for number in range(3)]
    keys = [_upload(with_photos, author, picture) for picture in pictures]
    chunk = [
        _with_photos(_post(author, "two", body=""), *keys[:2]),
        _post(author, "none"),
        _with_photos(_post(author, "one", moment=_LONG_AGO + timedelta(days=1)), keys[2]),
    ]

    first, again = _import(with_photos, chunk), _import(with_photos, chunk)

    assert (_counts(first), _counts(again)) == ((3, 0, 1), (0, 3, 1))
    one, *others = _posts(with_photos, author, author)
    [two] = [post for post in others if post.photos]
    shown = [*two.photos, *one.photos]
    assert [photo.alt_text for photo in shown] == [f"photo {key[-8:]}" for key in keys]
    for photo, picture in zip(shown, pictures, strict=True):
        assert photos.pixels(get(photo.url).body) == photos.pixels(picture)


def test_photos_that_no_post_can_show_are_refused_by_name(with_photos: Pair) -> None:
    author, other = People(with_photos).new(2)
    fine = _upload(with_photos, author, photos.plain("image/png"))
    broken = _upload(with_photos, author, b"no photo")
    foreign = _upload(with_photos, other, photos.plain("image/png"))

    faults = []
    for chunk in (
        [_post(author, "1"), _with_photos(_post(author, "2"), fine, broken)],
        [_with_photos(_post(author, "1"), fine, foreign)],
        [_with_photos(_post(author, "1"), fine), _with_photos(_post(author, "2"), fine)],
        [_with_photos(_post(author, "1"), fine), _with_photos(_post(other, "2"), foreign)],
    ):
        with pytest.raises(grpc.RpcError) as caught:
            _import(with_photos, chunk)
        faults.append(fields_of(caught))

    assert faults == [
        ["posts[1].photos[1].key"],
        ["posts[0].photos[1].key"],
        ["posts[1].photos[0].key"],
        ["posts"],
    ]
    assert _posts(with_photos, author, author) == []
    assert _counts(_import(with_photos, [_with_photos(_post(author), fine)])) == (1, 0, 1)


def test_without_an_object_store_photos_are_refused(pair: Pair, people: People) -> None:
    [author] = people.new(1)

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [_with_photos(_post(author), "uploads/1/x.png")])

    assert reason_of(caught.value) == "PHOTOS_NOT_CONFIGURED"


@pytest.fixture
def own_pair(databases: Databases) -> Iterator[Pair]:
    """A pair whose tables hold nothing else."""
    with running_pair(databases) as running:
        yield running


def test_a_given_importance_is_kept_and_another_is_scored_as_that_of_a_new_post(
    own_pair: Pair,
) -> None:
    people = People(own_pair)
    [author] = people.new(1)
    people.post(author, body="the same text")

    _import(
        own_pair,
        [
            _post(author, "given", importance=0.0, body="given"),
            _post(author, "scored", body="the same text"),
        ],
    )

    rows = _stored(
        own_pair, "SELECT body, importance, importance_given FROM posts ORDER BY body, id"
    )
    [given, created, scored] = rows
    assert given == ("given", 0.0, True)
    assert created == scored
    assert _stored(own_pair, "SELECT CAST(sum(value) AS int) FROM totals") == [(3,)]


def test_a_tag_that_is_deleted_meanwhile_does_not_show_the_post_to_anybody(
    own_pair: Pair,
) -> None:
    people = People(own_pair)
    author, friend = people.connected(2)
    tag = people.tag(author, "family", friend)
    deleting: list[object] = []

    with ThreadPoolExecutor(1) as threads:

        def delete(statement: str) -> None:
            if "INSERT INTO posts" in statement and not deleting:
                request = pb.DeleteTagRequest(user_id=author, tag_id=tag)
                deleting.append(threads.submit(own_pair.feed.DeleteTag, request))

        own_pair.feed_tap.before_statement = delete
        response = _import(own_pair, [_post(author, audience=tagged(tag))])

    assert response.imported_count == 1
    assert people.feed(friend) == []
