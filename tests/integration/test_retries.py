"""A change that is repeated has one effect and one answer, also when the first reply was lost."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import sqlalchemy

from kith.client.calls import identified
from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.engines import engine_to
from tests.support.errors import fields_of, reason_of
from tests.support.mutations import MUTATIONS, TAKE_NO_REQUEST_ID, WRITES, Mutation, Scene
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, People
from tests.support.rows import contents, sizes
from tests.support.rpcs import Rpc
from tests.support.s3 import S3Server


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """A pair with an object store."""
    with S3Server() as store, running_pair(databases, store.environment) as running:
        yield running


@pytest.fixture
def scene(pair: Pair, people: People) -> Scene:
    return Scene(stubs=pair, people=people)


@pytest.fixture(params=MUTATIONS, ids=str)
def mutation(request: pytest.FixtureRequest) -> Mutation:
    assert isinstance(request.param, Mutation)
    return request.param


def _with_id(message: Any, request_id: str | None = None) -> Any:
    message.request_id = request_id or str(uuid.uuid4())
    return message


def _changed(change: Callable[[Any], object], message: Any) -> Any:
    other = type(message)()
    other.CopyFrom(message)
    change(other)
    return other


def _spelled(message: Any, request_id: str) -> Any:
    other = type(message)()
    other.CopyFrom(message)
    return _with_id(other, request_id)


def _url(pair: Pair, mutation: Mutation) -> str:
    return str(getattr(pair, f"{mutation.service}_url"))


def _content(pair: Pair, mutation: Mutation) -> dict[str, str]:
    return contents(_url(pair, mutation))


def _sizes(pair: Pair, mutation: Mutation) -> dict[str, int]:
    return sizes(_url(pair, mutation))


def _effect(pair: Pair, mutation: Mutation, act: Callable[[], object]) -> dict[str, int]:
    """Return how many rows more each table has after something was done."""
    before = _sizes(pair, mutation)
    act()
    after = _sizes(pair, mutation)
    return {table: after[table] - before[table] for table in after}


def _reason(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return reason_of(caught.value)


def test_every_call_that_changes_something_takes_a_request_id_and_is_tried_here() -> None:
    taking = {
        str(rpc)
        for rpc in WRITES
        if "request_id" in rpc.method.input_type.fields_by_name and not rpc.method.client_streaming
    }

    assert taking == {str(rpc) for rpc in WRITES} == {str(mutation) for mutation in MUTATIONS}
    assert not [
        rpc for rpc in TAKE_NO_REQUEST_ID if "request_id" in rpc.method.input_type.fields_by_name
    ]


@pytest.mark.parametrize("rpc", WRITES, ids=str)
def test_the_client_for_python_gives_every_change_an_id(rpc: Rpc) -> None:
    first, second = (identified(rpc.request()).request_id for _ in range(2))

    assert uuid.UUID(first) != uuid.UUID(second)


def test_a_repeat_is_answered_as_the_first_and_changes_nothing_however_its_id_is_spelled(
    pair: Pair, scene: Scene, mutation: Mutation
) -> None:
    request_id = uuid.uuid4()
    message = _with_id(mutation.request(scene), str(request_id))
    first = mutation.send(pair, message)
    stored = _content(pair, mutation)

    spellings = [
        str(request_id),
        str(request_id).upper(),
        request_id.hex,
        request_id.urn,
        f"{{{request_id}}}",
    ]
    answers = [mutation.send(pair, _spelled(message, spelling)) for spelling in spellings]

    assert all(answer == first for answer in answers)
    assert _content(pair, mutation) == stored


def test_copies_at_the_same_time_have_the_effect_of_one_and_the_same_answer(
    pair: Pair, scene: Scene, mutation: Mutation
) -> None:
    alone = mutation.request(scene)
    effect_of_one = _effect(pair, mutation, lambda: mutation.send(pair, alone))
    message = _with_id(mutation.request(scene))
    answers = list[Any]()

    def send_eight() -> None:
        with ThreadPoolExecutor(8) as threads:
            answers.extend(threads.map(lambda _: mutation.send(pair, message), range(8)))

    assert _effect(pair, mutation, send_eight) == effect_of_one
    assert all(answer == answers[0] for answer in answers)


def test_a_repeat_after_the_commit_but_not_the_reply_is_answered_as_the_first_would_have_been(
    pair: Pair, scene: Scene, mutation: Mutation
) -> None:
    alone = mutation.request(scene)
    effect_of_one = _effect(pair, mutation, lambda: mutation.send(pair, alone))
    message = _with_id(mutation.request(scene))
    tap = getattr(pair, f"{mutation.service}_tap")
    answers = list[Any]()

    def lose_the_reply(statement: str) -> None:
        if statement.endswith("COMMIT"):
            tap.after_statement = lambda _statement: None
            tap.break_connections()

    def send() -> None:
        tap.after_statement = lose_the_reply
        assert _reason(lambda: mutation.send(pair, message)) == "DATABASE_UNAVAILABLE"
        answers.extend(mutation.send(pair, message) for _ in range(2))

    assert _effect(pair, mutation, send) == effect_of_one
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "mutation", [mutation for mutation in MUTATIONS if mutation.change], ids=str
)
def test_an_id_with_other_arguments_is_refused_and_changes_nothing(
    pair: Pair, scene: Scene, mutation: Mutation
) -> None:
    assert mutation.change
    message = _with_id(mutation.request(scene))
    first = mutation.send(pair, message)
    stored = _content(pair, mutation)

    with pytest.raises(grpc.RpcError) as caught:
        mutation.send(pair, _changed(mutation.change, message))

    assert fields_of(caught) == ["request_id"]
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"
    assert mutation.send(pair, message) == first
    assert _content(pair, mutation) == stored


def test_an_id_is_of_one_call_of_a_user_whatever_the_call(scene: Scene, pair: Pair) -> None:
    [user] = scene.people.new(1)
    request_id = str(uuid.uuid4())
    pair.feed.CreateTag(feed.CreateTagRequest(user_id=user, name="family", request_id=request_id))

    assert (
        _reason(
            lambda: pair.feed.CreatePost(
                feed.CreatePostRequest(
                    user_id=user, body="hello", audience=ALL, request_id=request_id
                )
            )
        )
        == "REQUEST_ID_REUSED"
    )


def test_two_users_may_use_the_same_id(scene: Scene, pair: Pair) -> None:
    request_id = str(uuid.uuid4())
    drafts = [
        feed.CreatePostRequest(user_id=user, body="hello", audience=ALL, request_id=request_id)
        for user in scene.people.new(2)
    ]

    posts = [pair.feed.CreatePost(draft).post for draft in drafts]

    assert [post.author_id for post in posts] == [draft.user_id for draft in drafts]


@pytest.mark.parametrize("call", ["CreatePost", "CreateComment", "CreatePhotoUploads"])
def test_an_id_is_free_again_after_a_day(pair: Pair, scene: Scene, call: str) -> None:
    [mutation] = [mutation for mutation in MUTATIONS if mutation.call == call]
    message = _with_id(mutation.request(scene))
    first = mutation.send(pair, message)
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
        )

    assert mutation.send(pair, message) != first


def test_an_error_is_not_kept(pair: Pair, scene: Scene) -> None:
    user, peer = scene.people.new(2)
    accept = _with_id(graph.AcceptConnectionRequest(user_id=user, peer_id=peer))
    refused = _reason(lambda: pair.graph.AcceptConnection(accept))
    pair.graph.RequestConnection(graph.RequestConnectionRequest(user_id=peer, peer_id=user))

    accepted = pair.graph.AcceptConnection(accept)

    assert refused == "CONNECTION_REQUEST_NOT_FOUND"
    assert accepted.connection.state == graph.CONNECTION_STATE_CONNECTED


def test_a_late_copy_of_a_request_asks_nobody_again(pair: Pair, scene: Scene) -> None:
    user, peer = scene.people.new(2)
    ask = _with_id(graph.RequestConnectionRequest(user_id=user, peer_id=peer))
    first = pair.graph.RequestConnection(ask)
    pair.graph.CancelConnectionRequest(
        graph.CancelConnectionRequestRequest(user_id=user, peer_id=peer)
    )

    late = pair.graph.RequestConnection(ask)

    assert late == first
    assert _state(pair, user, peer) == graph.CONNECTION_STATE_NONE


def test_a_late_copy_of_a_removal_ends_no_later_connection(pair: Pair, scene: Scene) -> None:
    user, peer = scene.people.connected(2)
    remove = _with_id(graph.RemoveConnectionRequest(user_id=user, peer_id=peer))
    first = pair.graph.RemoveConnection(remove)
    scene.people.connect(user, peer)

    late = pair.graph.RemoveConnection(remove)

    assert late == first
    assert _state(pair, user, peer) == graph.CONNECTION_STATE_CONNECTED


def test_a_late_copy_of_an_erasure_leaves_alone_whom_the_id_was_issued_to_anew(
    pair: Pair, scene: Scene
) -> None:
    user, friend = scene.people.connected(2)
    scene.people.post(user)
    graph_erasure = _with_id(graph.DeleteUserRequest(user_id=user))
    feed_erasure = _with_id(feed.DeleteUserRequest(user_id=user))
    first = pair.graph.DeleteUser(graph_erasure)
    pair.feed.DeleteUser(feed_erasure)
    # Another erasure in between changes nothing about it.
    pair.graph.DeleteUser(graph.DeleteUserRequest(user_id=user))
    pair.feed.DeleteUser(feed.DeleteUserRequest(user_id=user))
    scene.people.connect(user, friend)
    post = scene.people.post(user)

    late = pair.graph.DeleteUser(graph_erasure)
    pair.feed.DeleteUser(feed_erasure)

    assert late == first
    assert _state(pair, user, friend) == graph.CONNECTION_STATE_CONNECTED
    assert scene.people.feed(friend) == [post]


def test_a_late_copy_of_a_call_about_an_erased_user_has_no_effect_and_no_answer(
    pair: Pair, scene: Scene
) -> None:
    user, peer = scene.people.connected(2)
    post = feed.PostName(author_id=peer, post_id=scene.people.post(peer))
    comment = _with_id(feed.CreateCommentRequest(user_id=user, post=post, body="hello"))
    remove = _with_id(graph.RemoveConnectionRequest(user_id=user, peer_id=peer))
    ask = _with_id(graph.RequestConnectionRequest(user_id=user, peer_id=peer))
    pair.feed.CreateComment(comment)
    pair.graph.RemoveConnection(remove)
    pair.graph.RequestConnection(ask)
    pair.graph.DeleteUser(graph.DeleteUserRequest(user_id=peer))
    pair.feed.DeleteUser(feed.DeleteUserRequest(user_id=peer))

    late: list[Callable[[], object]] = [
        lambda: pair.feed.CreateComment(comment),
        lambda: pair.graph.RemoveConnection(remove),
        lambda: pair.graph.RequestConnection(ask),
    ]

    assert [_reason(call) for call in late] == ["RESULT_DELETED"] * len(late)
    assert _state(pair, user, peer) == graph.CONNECTION_STATE_NONE


@pytest.mark.parametrize("call", ["CreatePost", "UpdatePost"])
def test_a_call_whose_post_was_deleted_since_is_not_answered_as_if_it_were_there(
    pair: Pair, scene: Scene, call: str
) -> None:
    message, answer = _done(pair, scene, call)
    name = {"user_id": answer.post.author_id, "post_id": answer.post.post_id}

    pair.feed.DeletePost(feed.DeletePostRequest(**name))

    assert _reason(lambda: getattr(pair.feed, call)(message)) == "RESULT_DELETED"


@pytest.mark.parametrize("call", ["CreateTag", "UpdateTag"])
def test_a_call_whose_tag_was_deleted_since_is_not_answered_as_if_it_were_there(
    pair: Pair, scene: Scene, call: str
) -> None:
    message, answer = _done(pair, scene, call)

    pair.feed.DeleteTag(feed.DeleteTagRequest(user_id=message.user_id, tag_id=answer.tag.tag_id))

    assert _reason(lambda: getattr(pair.feed, call)(message)) == "RESULT_DELETED"


@pytest.mark.parametrize("call", ["CreateComment", "UpdateComment"])
@pytest.mark.parametrize("what", ["comment", "post"])
def test_a_call_whose_comment_or_its_post_was_deleted_since_is_not_answered_as_if_it_were_there(
    pair: Pair, scene: Scene, call: str, what: str
) -> None:
    message, answer = _done(pair, scene, call)
    comment = answer.comment

    if what == "comment":
        pair.feed.DeleteComment(
            feed.DeleteCommentRequest(
                user_id=comment.author_id, post=comment.post, comment_id=comment.comment_id
            )
        )
    else:
        pair.feed.DeletePost(
            feed.DeletePostRequest(user_id=comment.post.author_id, post_id=comment.post.post_id)
        )

    assert _reason(lambda: getattr(pair.feed, call)(message)) == "RESULT_DELETED"


@pytest.mark.parametrize(
    "request_id",
    [
        "no uuid",
        "12345678-1234-1234-1234-12345678901",
        "1-2345678-1234-1234-1234-123456789012",
        "{12345678-1234-1234-1234-123456789012",
        "urn:uuid:{12345678-1234-1234-1234-123456789012}",
        "1234_678-1234-1234-1234-123456789012",
        "\u06612345678-1234-1234-1234-123456789012",
    ],
)
def test_what_is_no_uuid_is_refused(pair: Pair, scene: Scene, request_id: str) -> None:
    [user] = scene.people.new(1)

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreateTag(
            feed.CreateTagRequest(user_id=user, name="family", request_id=request_id)
        )

    assert fields_of(caught) == ["request_id"]


def _done(pair: Pair, scene: Scene, call: str) -> tuple[Any, Any]:
    """Make a call, and return its request and its answer."""
    [mutation] = [mutation for mutation in MUTATIONS if mutation.call == call]
    message = _with_id(mutation.request(scene))
    return message, mutation.send(pair, message)


def _state(pair: Pair, user_id: int, peer_id: int) -> int:
    request = graph.GetConnectionRequest(user_id=user_id, peer_id=peer_id)
    return pair.graph.GetConnection(request).connection.state
