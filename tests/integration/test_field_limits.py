"""The contracts state every limit of a field that is enforced, and no other; tried with each."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.options.v1 import options_pb2
from tests.support.errors import decoded
from tests.support.pair import Pair
from tests.support.rpcs import RPCS, Rpc

_USER: Final = 4_200_000
# All ids of a request are different, and no test has people with these.
_ids = count(4_300_000)
# Other calls of their user may be refused for a while.
_ENDS_CALLS: Final = {"SuspendUser", "DeleteUser"}
_Way = tuple[FieldDescriptor, ...]
_WELL_KNOWN: Final = "google.protobuf."
_LONG: Final = 20_000
# Only of these kinds are lists of tags.
_CHOSEN: Final[dict[str, int]] = {
    "AudienceKind": feed_pb2.AUDIENCE_KIND_TAGS,
    "CommentPolicyKind": feed_pb2.COMMENT_POLICY_KIND_TAGS,
}
# What only a look at other fields, or at what is stored, can tell. The contracts' comments have it.
_RELATIONS: Final = {
    "must not be the user",
    "must be the user, or be left out",
    "must not be given twice",
    "must not also be in tag_ids",
    "must be empty or have one item for each of photo_keys",
    "must have at least 1 item if kind is TAGS",
    "must be empty unless kind is TAGS and tag_ids are empty",
    "must be empty if kind is PRIVATE or there are excluded_tag_ids",
    "must not also be in tag_external_ids",
    "must be one of the user's own tags",
    "must be empty if state is VISIBLE",
}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A limit of a field, with values up to it and values beyond it."""

    limit: str
    way: _Way
    path: str
    within: Sequence[Any]
    beyond: Sequence[Any]


def _limits(field: FieldDescriptor) -> options_pb2.Limits:
    return field.GetOptions().Extensions[options_pb2.limits]


def _is_message(field: FieldDescriptor) -> bool:
    """Whether a field holds messages of Kith, which have fields with limits of their own."""
    message = field.message_type
    return (
        message is not None
        and not message.full_name.startswith(_WELL_KNOWN)
        and not message.GetOptions().map_entry
    )


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_list(field: FieldDescriptor) -> bool:
    return field.is_repeated and not _is_map(field)


def _ways(message: Descriptor, *outer: FieldDescriptor) -> Iterator[_Way]:
    for field in message.fields:
        yield (*outer, field)
        if _is_message(field) and field.message_type is not None:
            yield from _ways(field.message_type, *outer, field)


def _path(way: _Way, *, of_item: bool) -> str:
    """Return a field's name in an error; of lists it is about the first item."""
    *outer, last = [f"{field.name}[0]" if _is_list(field) else field.name for field in way]
    return ".".join([*outer, last if of_item else way[-1].name])


def _fill(message: Any) -> None:
    """Give every field that has a limit a value within it."""
    contract: Descriptor = message.DESCRIPTOR
    for name, is_repeated, new_value in _filled(contract):
        if is_repeated:
            getattr(message, name).append(new_value())
        else:
            setattr(message, name, new_value())
    for name, is_repeated in _messages(contract):
        item = getattr(message, name)
        _fill(item.add() if is_repeated else item)
    if "update_mask" in contract.fields_by_name:
        message.update_mask.paths.append("*")


# Hundreds of thousands of items are filled, and options are slow to read.
@cache
def _filled(contract: Descriptor) -> Sequence[tuple[str, bool, Callable[[], Any]]]:
    """Return the fields with values of their own: name, whether it is a list, and a maker."""
    return [
        (field.name, field.is_repeated, _maker(field))
        for field in contract.fields
        if field.enum_type is not None
        or (
            field.GetOptions().HasExtension(options_pb2.limits)
            and not (_is_message(field) or _is_map(field) or field.name == "update_mask")
        )
    ]


@cache
def _messages(contract: Descriptor) -> Sequence[tuple[str, bool]]:
    """Return the fields that are messages of Kith: name, and whether it is a list."""
    return [(field.name, field.is_repeated) for field in contract.fields if _is_message(field)]


def _maker(field: FieldDescriptor) -> Callable[[], Any]:
    """Return what makes new values within the limits of a field."""
    value: object = 1
    if field.enum_type is not None:
        value = _CHOSEN.get(field.enum_type.name, 1)
    elif field.name == "user_id":
        value = _USER
    elif field.type == FieldDescriptor.TYPE_INT64:
        return partial(next, _ids)
    elif field.type == FieldDescriptor.TYPE_STRING:
        if _limits(field).min_length:
            return lambda: str(next(_ids))
        value = ""
    return lambda: value


def _set(message: Any, field: FieldDescriptor, value: Any) -> None:
    if _is_map(field):
        getattr(message, field.name).update(value)
    elif field.is_repeated:
        message.ClearField(field.name)
        getattr(message, field.name).extend(value)
    else:
        setattr(message, field.name, value)


def _request(rpc: Rpc, way: _Way, value: Any) -> Any:
    """Return a request that is within all limits, but for one field."""
    request = rpc.request()
    _fill(request)
    if rpc.name in _ENDS_CALLS:
        request.user_id = next(_ids)
    message: Any = request
    for field in way[:-1]:
        message = getattr(message, field.name)
        message = message[0] if field.is_repeated else message
    _set(message, way[-1], value)
    return request


_made: Final = defaultdict[FieldDescriptor, list[Any]](list)


@pytest.fixture(autouse=True)
def _forgetting() -> Iterator[None]:
    """Keeps the items of a test until its end, as it asks several times for as many of a field."""
    yield
    _made.clear()


def _items(field: FieldDescriptor, number: int) -> list[Any]:
    made = _made[field]
    made += [_item(field) for _ in range(number - len(made))]
    return made[:number]


def _item(field: FieldDescriptor) -> Any:
    if field.message_type is None:
        return _maker(field)()
    item = GetMessageClass(field.message_type)()
    _fill(item)
    return item


def _refusals(pair: Pair, rpc: Rpc, way: _Way, path: str, value: Any) -> set[str]:
    """Return what a call with this value is told of the field, without what was sent."""
    request = _request(rpc, way, value)
    try:
        rpc.send(pair, request, messages=1)
        if rpc.name == "SuspendUser":
            # The least id that is allowed is that of a user of other tests too.
            pair.graph.RestoreUser(graph_pb2.RestoreUserRequest(user_id=request.user_id))
    except grpc.RpcError as error:
        status = decoded(error)
        if status.reason_name != "INVALID_FIELD":
            return set()
        return {
            violation.description.partition(";")[0]
            for violation in status.violations
            if violation.field == path
        }
    return set()


_FORMATS: Final[dict[int, tuple[list[str], list[str]]]] = {
    options_pb2.FORMAT_TEXT: (["x\n\ty", " x "], [" \n\t\u2003", "a\x00b", "a\x7f", "a\r"]),
    options_pb2.FORMAT_NAME: (["x\n\ty"], [" \n\t\u2003", "a\x00b", "a\x7f", " x", "x\u2003"]),
    options_pb2.FORMAT_UUID: (
        ["", "{1b4e28ba-2fa1-11d2-883f-0016d3cca427}", "1B4E28BA2FA111D2883F0016D3CCA427"],
        ["again", "1b4e28ba-2fa1-11d2-883f-0016d3cca42"],
    ),
    options_pb2.FORMAT_TIME_ZONE: (["", "Europe/Lisbon"], ["Mars/Olympus", "../etc/passwd"]),
}


def _of_one(field: FieldDescriptor) -> Iterator[tuple[str, Sequence[Any], Sequence[Any]]]:
    """Yield the limits of a value, or of an item, with values within and beyond."""
    limits = _limits(field)
    if limits.HasField("min_length"):
        yield "min_length", ["x" * limits.min_length], ["x" * (limits.min_length - 1)]
    if limits.HasField("max_length"):
        # Each is four bytes in UTF-8.
        letter = "\U0001f600"
        yield "max_length", [letter * limits.max_length], [letter * (limits.max_length + 1)]
    is_number = field.type == FieldDescriptor.TYPE_DOUBLE
    number: Callable[[float], float] = float if is_number else round
    if limits.HasField("minimum"):
        least = number(limits.minimum)
        below = math.nextafter(least, -math.inf) if is_number else least - 1
        yield "minimum", [least], [below]
    if limits.HasField("maximum"):
        most = number(limits.maximum)
        above = math.nextafter(most, math.inf) if is_number else most + 1
        yield "maximum", [most], [above]
    if limits.HasField("max_bytes"):
        # Each letter has two bytes in UTF-8.
        within, beyond = "é" * (limits.max_bytes // 2 - 1), "é" * (limits.max_bytes // 2)
        nameless, forbidden = {"": "x"}, {"x": "a\x00"}
        yield "max_bytes", [{"é": within}], [{"é": beyond}, nameless, forbidden]
    if limits.format:
        yield "format", *_FORMATS[limits.format]


def _cases(rpc: Rpc) -> Iterator[_Case]:
    for way in _ways(rpc.method.input_type):
        field = way[-1]
        limits = _limits(field)
        path = _path(way, of_item=True)
        for limit, *values in _of_one(field):
            within, beyond = (
                [[one] for one in some] if _is_list(field) else some for some in values
            )
            yield _Case(limit=limit, way=way, path=path, within=within, beyond=beyond)
        path = _path(way, of_item=False)
        for limit, step in (("min_items", -1), ("max_items", 1)):
            bound: int = getattr(limits, limit)
            if bound:
                yield _Case(
                    limit=limit,
                    way=way,
                    path=path,
                    within=[_items(field, bound)],
                    beyond=[_items(field, bound + step)],
                )


def _with_limits() -> list[Rpc]:
    return [
        rpc
        for rpc in RPCS
        if any(_limits(way[-1]).ListFields() for way in _ways(rpc.method.input_type))
    ]


@pytest.mark.parametrize("rpc", _with_limits(), ids=str)
def test_a_value_beyond_a_limit_is_refused_and_one_at_the_limit_is_not(
    pair: Pair, rpc: Rpc
) -> None:
    wrong = []
    for case in _cases(rpc):
        told = [_refusals(pair, rpc, case.way, case.path, value) for value in case.beyond]
        wrong += [
            f"{case.path}: {case.limit} is not enforced for {value!r:.80}"
            for value, refusals in zip(case.beyond, told, strict=True)
            if not refusals - _RELATIONS
        ]
        wrong += [
            f"{case.path}: {case.limit} is narrower, {value!r:.80} is refused"
            for value in case.within
            if _refusals(pair, rpc, case.way, case.path, value) & set().union(*told) - _RELATIONS
        ]

    assert wrong == []


def _wild(field: FieldDescriptor) -> Iterator[Any]:
    """Yield values that few limits would let through."""
    if _is_map(field):
        yield from ({}, {"": ""}, {"x": "x" * _LONG}, {"\x07": " "})
        return
    if field.is_repeated:
        yield from ([], _items(field, _LONG))
    if _is_message(field):
        return
    for one in _wild_ones(field):
        yield [one] if field.is_repeated else one


def _wild_ones(field: FieldDescriptor) -> Sequence[Any]:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return ["", "x" * _LONG, " ", "\x07", " x "]
        case FieldDescriptor.TYPE_INT64:
            return [-(2**63), -1, 0, 2**63 - 1]
        case FieldDescriptor.TYPE_INT32:
            return [-(2**31), -1, 0, 2**31 - 1]
        case FieldDescriptor.TYPE_DOUBLE:
            return [-math.inf, -1, 0, math.inf, math.nan]
        case _:
            return []


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_what_is_refused_of_a_field_by_itself_is_stated(pair: Pair, rpc: Rpc) -> None:
    stated: dict[str, set[str]] = {}
    for case in _cases(rpc):
        for value in case.beyond:
            told = _refusals(pair, rpc, case.way, case.path, value)
            stated.setdefault(case.path, set()).update(told)

    wrong = set()
    for way in _ways(rpc.method.input_type):
        for of_item in (False, True) if _is_list(way[-1]) else (True,):
            path = _path(way, of_item=of_item)
            for value in _wild(way[-1]):
                refusals = _refusals(pair, rpc, way, path, value)
                wrong |= {(path, why) for why in refusals - stated.get(path, set()) - _RELATIONS}

    assert wrong == set()
