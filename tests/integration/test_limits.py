"""How large a message may be, and what else answers on the services' ports."""

from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.errors import fields_of
from tests.support.pair import Pair
from tests.support.people import ALL, People

_LIMIT = 10 * 1024 * 1024
_HEALTH = "grpc.health.v1.Health"
_REFLECTION = {
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


@pytest.fixture(params=["graph", "feed"])
def port(pair: Pair, request: pytest.FixtureRequest) -> tuple[grpc.Channel, str]:
    """The channel to a service and its name."""
    if request.param == "graph":
        return pair.graph_channel, "kith.graph.v1.GraphService"
    return pair.feed_channel, "kith.feed.v1.FeedService"


def _post_of_size(size: int) -> feed.CreatePostRequest:
    request = feed.CreatePostRequest(user_id=1, audience=ALL, body="x" * (size - 100))
    request.body += "x" * (size - request.ByteSize())
    assert len(request.SerializeToString()) == size
    return request


def _import_of_size(size: int) -> graph.ImportConnectionsRequest:
    # A field that is not known is parsed and passed over: here, a text of the length that is left.
    request = graph.ImportConnectionsRequest()
    field_and_length_bytes = 6
    filler = size - field_and_length_bytes
    request.MergeFromString(b"\xf2\x3f" + _varint(filler) + b"x" * filler)
    assert len(request.SerializeToString()) == size
    return request


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def test_a_post_of_10_mib_is_read_and_refused_for_its_body(pair: Pair) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreatePost(_post_of_size(_LIMIT))
    assert fields_of(caught) == ["body"]


def test_a_post_of_10_mib_and_a_byte_is_refused_unread(pair: Pair) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreatePost(_post_of_size(_LIMIT + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_import_of_10_mib_is_read(pair: Pair) -> None:
    response = pair.graph.ImportConnections(iter([_import_of_size(_LIMIT)]))
    assert response.committed_chunks == 1


def test_an_import_of_10_mib_and_a_byte_is_refused_unread(pair: Pair) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        pair.graph.ImportConnections(iter([_import_of_size(_LIMIT + 1)]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_refused_message_harms_no_other_call(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    with pytest.raises(grpc.RpcError):
        pair.feed.CreatePost(_post_of_size(_LIMIT + 1))
    post_id = people.post(author)
    assert people.feed(author) == [post_id]


def test_reflection_lists_every_service_of_the_port(port: tuple[grpc.Channel, str]) -> None:
    channel, name = port

    [answer] = _reflected(channel, reflection_pb2.ServerReflectionRequest(list_services=""))

    listed = {service.name for service in answer.list_services_response.service}
    assert listed == {name, _HEALTH} | _REFLECTION


def test_reflection_describes_the_service(port: tuple[grpc.Channel, str]) -> None:
    channel, name = port

    [answer] = _reflected(
        channel, reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
    )

    [first, *_] = answer.file_descriptor_response.file_descriptor_proto
    assert name.rpartition(".")[2].encode() in first


def test_health_answers_on_the_port_under_the_services_name(
    port: tuple[grpc.Channel, str],
) -> None:
    channel, name = port

    statuses = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service=name), timeout=30
    )

    assert health_pb2.HealthCheckResponse.SERVING in (answer.status for answer in statuses)
    statuses.cancel()


def _reflected(
    channel: grpc.Channel, request: reflection_pb2.ServerReflectionRequest
) -> Iterator[reflection_pb2.ServerReflectionResponse]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    answers: Iterator[reflection_pb2.ServerReflectionResponse]
    answers = stub.ServerReflectionInfo(iter([request]), timeout=30)
    return answers
