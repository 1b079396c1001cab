"""Publishing and deleting posts, also again and all at once."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Pair
from tests.support.people import ALL, People


def _draft(author_id: int, request_id: str, body: str = "hello") -> pb.CreatePostRequest:
    return pb.CreatePostRequest(user_id=author_id, body=body, audience=ALL, request_id=request_id)


def test_a_repeated_request_returns_the_first_post(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    draft = _draft(author, str(uuid.uuid4()))

    first, second = pair.feed.CreatePost(draft), pair.feed.CreatePost(draft)

    assert first == second
    assert people.feed(author) == [first.post.post_id]


def test_concurrent_repeats_of_a_request_create_one_post(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    draft = _draft(author, str(uuid.uuid4()))

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(pair.feed.CreatePost, [draft] * 32))

    assert people.feed(author) == [answers[0].post.post_id]
    assert all(answer == answers[0] for answer in answers)


def test_a_request_id_cannot_be_used_for_another_post(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    request_id = str(uuid.uuid4())
    pair.feed.CreatePost(_draft(author, request_id))

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreatePost(_draft(author, request_id, body="something else"))

    assert fields_of(caught) == ["request_id"]
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"


def test_two_people_may_choose_the_same_request_id(pair: Pair, people: People) -> None:
    alice, bob = people.new(2)
    request_id = str(uuid.uuid4())

    pair.feed.CreatePost(_draft(alice, request_id))
    pair.feed.CreatePost(_draft(bob, request_id))

    assert len(people.feed(alice)) == len(people.feed(bob)) == 1


def test_deleting_a_post_again_succeeds(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    request = pb.DeletePostRequest(user_id=author, post_id=people.post(author))

    pair.feed.DeletePost(request)
    pair.feed.DeletePost(request)

    assert people.feed(author) == []


def test_nobody_can_delete_the_post_of_somebody_else(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post_id = people.post(author)

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.DeletePost(pb.DeletePostRequest(user_id=friend, post_id=post_id))

    assert reason_of(caught.value) == "POST_NOT_FOUND"
    assert people.feed(author) == [post_id]


def test_any_text_comes_back_as_it_was(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    body = "مرحبا \U0001f469\u200d\U0001f4bb 'quoted' \\ %(x)s {1,2}\n\ttabbed"

    people.post(author, body=body)

    [post] = pair.feed.GetFeed(pb.GetFeedRequest(user_id=author)).posts
    assert post.body == body
