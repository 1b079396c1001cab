"""Answers over gRPC are compressed for callers who accept that, if they are long enough."""

import gzip
import socket
from collections.abc import Iterator

import pytest

from kith.feed.v1 import feed_pb2 as pb
from tests.support.http2 import EMPTY_SETTINGS, messages_over_grpc
from tests.support.pair import Databases, Pair, another_feed, running_pair
from tests.support.people import People

_LONG = "hello " * 200


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """Services that compress long answers."""
    with running_pair(databases, {"COMPRESS_FROM_BYTES": "1024"}) as running:
        yield running


def _messages(
    pair: Pair, call: str, request: bytes, accepted: str | None
) -> list[tuple[bool, bytes]]:
    """Return the messages of an answer, and whether each is compressed."""
    accepts = [] if accepted is None else [("grpc-accept-encoding", accepted)]
    path = f"/kith.feed.v1.FeedService/{call}"
    return messages_over_grpc(pair.feed_server.port, path, request, *accepts)


def _feed_of(pair: Pair, user_id: int, accepted: str | None) -> tuple[bool, bytes]:
    request = pb.GetFeedRequest(user_id=user_id).SerializeToString()
    [message] = _messages(pair, "GetFeed", request, accepted)
    return message


@pytest.mark.parametrize("accepted", ["gzip", "identity,deflate,gzip"])
def test_a_long_answer_is_compressed_for_who_accepts_that(
    pair: Pair, people: People, accepted: str
) -> None:
    [author] = people.new(1)
    people.post(author, body=_LONG)

    is_compressed, message = _feed_of(pair, author, accepted)

    expected = pair.feed.GetFeed(pb.GetFeedRequest(user_id=author)).posts
    assert (is_compressed, len(message) < len(_LONG)) == (True, True)
    assert pb.GetFeedResponse.FromString(gzip.decompress(message)).posts == expected


@pytest.mark.parametrize("accepted", [None, "identity", "br"])
def test_no_answer_is_compressed_for_others(
    pair: Pair, people: People, accepted: str | None
) -> None:
    [author] = people.new(1)
    people.post(author, body=_LONG)

    is_compressed, message = _feed_of(pair, author, accepted)

    assert (is_compressed, pb.GetFeedResponse.FromString(message).posts[0].body) == (False, _LONG)


def test_a_short_answer_is_not_compressed(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    people.post(author, body="a" * 900)

    is_compressed, message = _feed_of(pair, author, "gzip")

    assert (is_compressed, len(pb.GetFeedResponse.FromString(message).posts)) == (False, 1)


def test_of_a_stream_each_message_is_compressed_by_its_own_length(
    pair: Pair, people: People
) -> None:
    [author] = people.new(1)
    for _ in range(3):
        people.post(author, body=_LONG)
    people.tag(author, "family")
    request = pb.ExportUserRequest(user_id=author).SerializeToString()

    messages = _messages(pair, "ExportUser", request, "gzip")

    lengths = [
        (is_compressed, len(gzip.decompress(message) if is_compressed else message))
        for is_compressed, message in messages
    ]
    assert {is_compressed for is_compressed, _ in lengths} == {False, True}
    assert all(is_compressed == (length >= 1024) for is_compressed, length in lengths)


def test_nothing_is_compressed_without_the_setting(databases: Databases) -> None:
    with running_pair(databases) as plain:
        people = People(plain)
        [author] = people.new(1)
        people.post(author, body=_LONG)

        is_compressed, _ = _feed_of(plain, author, "gzip")

    assert not is_compressed


def test_the_feed_asks_the_graph_for_uncompressed_answers(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as graph:
        graph.settimeout(20)
        target = f"127.0.0.1:{graph.getsockname()[1]}"
        with another_feed(pair, {"GRAPH_TARGET": target}) as (_, feed):
            asked = feed.GetFeed.future(pb.GetFeedRequest(user_id=1))
            peer, _ = graph.accept()
            with peer:
                peer.settimeout(20)
                peer.sendall(EMPTY_SETTINGS)
                sent = b""
                # The first call, which is of health, with all its headers.
                while b"kith.graph.v1.GraphService" not in sent:
                    sent += peer.recv(65_536)
            asked.cancel()

    assert b"user-agent" in sent
    assert b"gzip" not in sent
