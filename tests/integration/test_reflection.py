"""A client that knows nothing of Kith finds out by reflection what there is, and calls it."""

import json
import shlex
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2

from kith.client.settings import FEED
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from tests.support.buf import buf_curl, reason_of
from tests.support.pair import Pair, another_feed
from tests.support.people import People

_ROOT = Path(__file__).parents[2]
_FEED = "kith.feed.v1.FeedService"
_NOT_FOUND = 5


def _shown_commands() -> list[str]:
    """Return the commands with grpcurl in the README and the pages of docs/."""
    pages = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]
    return [
        line.strip()
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("    grpcurl ")
    ]


_Ask: TypeAlias = "grpc.StreamStreamMultiCallable[Any, Any]"


def _versions(channel: grpc.Channel) -> dict[str, _Ask]:
    """Return how reflection is asked in each of its versions, which are the same on the wire."""
    return {
        version: channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        for version in ("v1", "v1alpha")
    }


def _files(channel: grpc.Channel, symbol: str, version: str = "v1") -> list[bytes]:
    """Return the files that describe a symbol; none if there is no such symbol."""
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    [told] = _versions(channel)[version](iter([asked]), timeout=30)
    return list(told.file_descriptor_response.file_descriptor_proto)


@pytest.mark.parametrize("contract", [graph_pb2.DESCRIPTOR, feed_pb2.DESCRIPTOR])
def test_a_foreign_client_lists_the_services_and_their_calls(
    pair: Pair, contract: FileDescriptor
) -> None:
    [service] = contract.services_by_name.values()
    server = pair.graph_server if service.name == "GraphService" else pair.feed_server

    services = buf_curl(server.address, "", "--list-services")
    methods = buf_curl(server.address, "", "--list-methods")

    assert {service.full_name, "grpc.health.v1.Health"} <= set(services.stdout.split())
    calls = {f"{service.full_name}/{call.name}" for call in service.methods}
    assert calls <= set(methods.stdout.split())


def test_a_foreign_client_calls_what_it_has_found(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post_id = people.post(author)

    told = buf_curl(
        pair.feed_server.address, f"/{_FEED}/GetFeed", "-d", json.dumps({"userId": author})
    )

    assert [post["postId"] for post in json.loads(told.stdout)["posts"]] == [str(post_id)]


@pytest.mark.parametrize("line", _shown_commands())
def test_a_command_with_grpcurl_that_is_shown_is_answered(pair: Pair, line: str) -> None:
    *options, message, address, method = shlex.split(line)

    told = buf_curl(pair.feed_server.address, f"/{method}", "-d", message)

    # buf makes the same call with the same message, by reflection as well.
    assert (options, address) == (["grpcurl", "-plaintext", "-d"], FEED)
    assert (told.returncode, told.stderr) == (0, "")


def test_a_foreign_client_is_told_the_details_of_an_error(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    asked = json.dumps({"userId": user, "authorId": user, "postId": "1"})

    told = buf_curl(pair.feed_server.address, f"/{_FEED}/GetPost", "-d", asked)

    assert (told.returncode, reason_of(told)) == (8 * _NOT_FOUND, "POST_NOT_FOUND")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize(
    "symbol",
    [
        _FEED,
        f"{_FEED}.GetFeed",
        "kith.feed.v1.Post",
        "kith.feed.v1.Post.body",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ],
)
def test_every_kind_of_symbol_is_described(pair: Pair, symbol: str, version: str) -> None:
    assert _files(pair.feed_channel, symbol, version)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_itself_in_both_versions(pair: Pair, version: str) -> None:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")

    [told] = _versions(pair.feed_channel)[version](iter([asked]), timeout=30)

    assert {service.name for service in told.list_services_response.service} == {
        _FEED,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_a_symbol_that_is_not_there_is_not_described(pair: Pair) -> None:
    assert _files(pair.feed_channel, f"{_FEED}.GetNothing") == []


def test_nothing_is_described_where_reflection_is_off(pair: Pair) -> None:
    with (
        another_feed(pair, {"REFLECTION": "off"}) as (server, _),
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"),
    ):
        _files(channel, _FEED)
