"""Every call of both services refuses what no call may take, by its name, and writes nothing.

The calls are those of the contracts, so one that is added is tried here without being named.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tests.support.errors import fields_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.rpcs import RPCS, Rpc

# They ask about everybody, so there is nothing they need to be given.
_ASK_FOR_EVERYTHING = {
    "ClaimDigests",
    "ExportConnections",
    "GetSuspendedUserIds",
    "ListModerated",
    "ListSuspendedUsers",
    "WatchConnections",
    "WatchPosts",
}
# An empty chunk imports nothing, as when a stream ends with the size of a chunk.
_MAY_BE_EMPTY = {"ImportConnections", "ImportTags", "ImportPosts", "ImportComments"}
# An id of a comment as it is read; no call changes it.
_ONLY_READ = {"comment.parent_comment_id"}
_MESSAGE = FieldDescriptor.TYPE_MESSAGE


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """A pair with few rows, because all are counted before and after each test."""
    with running_pair(databases) as running:
        yield running


def _fields(descriptor: Descriptor, *path: FieldDescriptor) -> Iterator[list[FieldDescriptor]]:
    """Yield the way to every field of a request, through the messages in it."""
    for field in descriptor.fields:
        yield [*path, field]
        message = field.message_type
        # What is in a map is limited as a whole.
        if message is not None and message.full_name.startswith("kith.") and not _is_map(field):
            yield from _fields(message, *path, field)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _ways_to(rpc: Rpc, kind: int) -> list[list[FieldDescriptor]]:
    return [way for way in _fields(rpc.method.input_type) if way[-1].type == kind]


def _put(message: Any, way: list[FieldDescriptor], value: object) -> None:
    *outer, last = way
    for field in outer:
        inner = getattr(message, field.name)
        message = inner.add() if field.is_repeated else inner
    if last.is_repeated:
        getattr(message, last.name).append(value)
    else:
        setattr(message, last.name, value)


def _everything_changed(rpc: Rpc) -> Any:
    """Return a request that, where it has a mask, changes all that it can."""
    request = rpc.request()
    if "update_mask" in rpc.method.input_type.fields_by_name:
        request.update_mask.paths.append("*")
    return request


def _named(way: list[FieldDescriptor]) -> str:
    return ".".join(field.name + ("[0]" if field.is_repeated else "") for field in way)


def _refused(pair: Pair, rpc: Rpc, request: Message) -> list[str]:
    with pytest.raises(grpc.RpcError) as caught:
        rpc.send(pair, request)
    return fields_of(caught)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "rpc",
    [rpc for rpc in RPCS if rpc.name not in _ASK_FOR_EVERYTHING | _MAY_BE_EMPTY],
    ids=str,
)
def test_a_request_without_anything_is_refused(pair: Pair, rpc: Rpc) -> None:
    assert _refused(pair, rpc, rpc.request())


_IDS = [
    pytest.param(rpc, way, id=f"{rpc} {_named(way)}")
    for rpc in RPCS
    for way in _ways_to(rpc, FieldDescriptor.TYPE_INT64)
    if way[-1].name.endswith(("_id", "_ids")) and _named(way) not in _ONLY_READ
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("rpc", "way"), _IDS)
def test_a_negative_id_is_refused_by_the_name_of_its_field(
    pair: Pair, rpc: Rpc, way: list[FieldDescriptor]
) -> None:
    request = _everything_changed(rpc)
    _put(request, way, -7)

    refused = _refused(pair, rpc, request)

    # In a list of users the one is named that carries the id.
    assert any(_named(way).startswith(field) for field in refused)


_TEXTS = [
    pytest.param(rpc, way, text, id=f"{rpc} {_named(way)} {kind}")
    for rpc in RPCS
    for way in _ways_to(rpc, FieldDescriptor.TYPE_STRING)
    for kind, text in (
        ("too long", "x" * 100_000),
        ("with a control character", "a\x00b"),
        ("of white space", " \n\t\u2003"),
    )
    # What has to be the current one is compared and not stored; it may hold anything.
    if way[-1].name not in {"etag", "url", "key"}
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("rpc", "way", "text"), _TEXTS)
def test_a_text_that_cannot_be_is_refused(
    pair: Pair, rpc: Rpc, way: list[FieldDescriptor], text: str
) -> None:
    request = _everything_changed(rpc)
    for field in rpc.method.input_type.fields:
        # So that nothing but the text is wrong where a token is read after everything else.
        if field.name in {"user_id", "author_id", "peer_id", "target_user_id", "tag_id"}:
            setattr(request, field.name, 7 if field.name == "user_id" else 8)
    _put(request, way, text)

    assert _refused(pair, rpc, request)


_LISTS = [
    pytest.param(rpc, way, id=f"{rpc} {_named(way)}")
    for rpc in RPCS
    for way in _fields(rpc.method.input_type)
    if way[-1].is_repeated and len(way) == 1
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("rpc", "way"), _LISTS)
def test_a_list_past_every_limit_is_refused_by_its_name(
    pair: Pair, rpc: Rpc, way: list[FieldDescriptor]
) -> None:
    request = rpc.request()
    [field] = way
    items = getattr(request, field.name)
    for number in range(10_001):
        if _is_map(field):
            items[f"text {number}"] = ""
        elif field.type == _MESSAGE:
            items.add()
        else:
            items.append(f"text {number}" if field.type == FieldDescriptor.TYPE_STRING else number)

    assert field.name in _refused(pair, rpc, request)
