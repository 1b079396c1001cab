"""A creation that is repeated has one effect and one answer, whatever became of the first reply."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import sqlalchemy

from shared.gen.kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, People
from tests.support.s3 import S3Server


@dataclass(frozen=True, kw_only=True)
class Creation:
    """A call that creates something, as a function of a user and a post of theirs."""

    call: str
    request: Callable[[int, int], Any]
    change: Callable[[Any], object]
    table: str

    def send(self, pair: Pair, request: object) -> Any:
        """Call."""
        return getattr(pair.feed, self.call)(request)


_CREATIONS = [
    Creation(
        call="CreatePost",
        request=lambda user, _post: pb.CreatePostRequest(user_id=user, body="hello", audience=ALL),
        change=lambda request: setattr(request, "body", "something else"),
        table="posts",
    ),
    Creation(
        call="CreateTag",
        request=lambda user, _post: pb.CreateTagRequest(user_id=user, name="family"),
        change=lambda request: setattr(request, "name", "friends"),
        table="tags",
    ),
    Creation(
        call="CreateComment",
        request=lambda user, post: pb.CreateCommentRequest(
            user_id=user, post=pb.PostName(author_id=user, post_id=post), body="hello"
        ),
        change=lambda request: setattr(request, "body", "something else"),
        table="comments",
    ),
    Creation(
        call="CreatePhotoUploads",
        request=lambda user, _post: pb.CreatePhotoUploadsRequest(
            user_id=user,
            photos=[
                pb.CreatePhotoUploadsRequest.PhotoUploadDraft(
                    content_type=pb.PHOTO_CONTENT_TYPE_PNG
                )
            ],
        ),
        change=lambda request: request.photos.add(content_type=pb.PHOTO_CONTENT_TYPE_JPEG),
        table="photo_uploads",
    ),
]


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """A pair with an object store."""
    with S3Server() as store, running_pair(databases, store.environment) as running:
        yield running


@pytest.fixture(params=_CREATIONS, ids=lambda creation: creation.call)
def creation(request: pytest.FixtureRequest) -> Creation:
    assert isinstance(request.param, Creation)
    return request.param


@pytest.fixture
def request_message(people: People, creation: Creation) -> Any:
    """A request of a new user with an id."""
    [user] = people.new(1)
    message = creation.request(user, people.post(user))
    message.request_id = str(uuid.uuid4())
    return message


def _rows(pair: Pair, table: str) -> int:
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        count = sqlalchemy.select(sqlalchemy.func.count()).select_from(sqlalchemy.table(table))
        return int(connection.execute(count).scalar_one())


def test_repeats_one_after_the_other_and_all_at_once_create_one(
    pair: Pair, creation: Creation, request_message: Any
) -> None:
    before = _rows(pair, creation.table)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: creation.send(pair, request_message), range(32)))
    answers += [creation.send(pair, request_message) for _ in range(3)]

    assert all(answer == answers[0] for answer in answers)
    assert _rows(pair, creation.table) == before + 1


def test_a_repeat_after_the_commit_but_not_the_reply_returns_what_was_created(
    pair: Pair, creation: Creation, request_message: Any
) -> None:
    before = _rows(pair, creation.table)

    def lose_the_reply(statement: str) -> None:
        if statement.endswith("COMMIT"):
            pair.feed_tap.after_statement = lambda _statement: None
            pair.feed_tap.break_connections()

    pair.feed_tap.after_statement = lose_the_reply
    with pytest.raises(grpc.RpcError) as caught:
        creation.send(pair, request_message)
    assert reason_of(caught.value) == "DATABASE_UNAVAILABLE"
    first, second = (creation.send(pair, request_message) for _ in range(2))

    assert first == second
    assert _rows(pair, creation.table) == before + 1


def test_the_same_id_with_other_arguments_is_refused_and_changes_nothing(
    pair: Pair, creation: Creation, request_message: Any
) -> None:
    first = creation.send(pair, request_message)
    before = _rows(pair, creation.table)
    other = type(request_message)()
    other.CopyFrom(request_message)
    creation.change(other)

    with pytest.raises(grpc.RpcError) as caught:
        creation.send(pair, other)

    assert fields_of(caught) == ["request_id"]
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"
    assert creation.send(pair, request_message) == first
    assert _rows(pair, creation.table) == before


@pytest.mark.parametrize(
    "creation",
    # The name of a tag is taken for longer than its request id.
    [creation for creation in _CREATIONS if creation.call != "CreateTag"],
    ids=lambda creation: creation.call,
)
def test_an_id_is_free_again_after_a_day(
    pair: Pair, creation: Creation, request_message: Any
) -> None:
    first = creation.send(pair, request_message)
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
        )

    assert creation.send(pair, request_message) != first
