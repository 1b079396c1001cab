"""Messages that no client should send, made from a seed: noise, and requests with something wrong.

python -m tests.chaos.messages GRAPH FEED NUMBER SEED
    Send so many to the calls of both services, and print how often each code came back, and the
    first of those that should not have.
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.support.rpcs import RPCS, Rpc

BAD_CODES: Final = frozenset({"INTERNAL", "UNKNOWN"})

_THREADS: Final = 3
_TIMEOUT_SECONDS: Final = 10
_WATCH_SECONDS: Final = 0.02
_MOST_ANSWERS: Final = 3
_MOST_OFFENDERS: Final = 5
_PEOPLE: Final = 50
_NUMBERS: Final = (0, 1, -1, 2**31, 2**63 - 1, -(2**63))
_TEXTS: Final = (
    "",
    "hello",
    "a\x00b",
    "\u202e\u0301\ufeff",
    "\U0001f468\u200d\U0001f469" * 50,
    "x" * 20_000,
    "'; DROP TABLE posts; --",
    "%s {0} \\",
    "2026-11-25",
    "Europe/Lisbon",
    "0190c8a8-7c1e-4f5e-9d55-9a6f2f1c2b3d",
    "body",
    "*",
)
_METADATA: Final = (
    (),
    (("x-request-id", "x" * 2_000),),
    (("traceparent", "00-zz-zz-zz"),),
    (("authorization", "Bearer ..."),),
    (("grpc-previous-rpc-attempts", "-1"),),
)
_MAKERS: Final[dict[int, Callable[[random.Random], Any]]] = {
    FieldDescriptor.CPPTYPE_INT32: lambda chosen: chosen.choice(
        [chosen.randint(1, 100), 0, -1, 2**31 - 1]
    ),
    FieldDescriptor.CPPTYPE_INT64: lambda chosen: chosen.choice(
        [*[chosen.randint(1, _PEOPLE)] * 6, *_NUMBERS]
    ),
    FieldDescriptor.CPPTYPE_UINT32: lambda chosen: chosen.randint(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: lambda chosen: chosen.randint(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: lambda chosen: chosen.choice(
        [5.0, -1.0, float("nan"), float("inf")]
    ),
    FieldDescriptor.CPPTYPE_FLOAT: lambda chosen: chosen.choice([5.0, -1.0, float("nan")]),
    FieldDescriptor.CPPTYPE_BOOL: lambda chosen: chosen.random() < 0.5,
    FieldDescriptor.CPPTYPE_ENUM: lambda chosen: chosen.choice([0, 1, 2, 3, 99]),
}


def request(rpc: Rpc, chosen: random.Random) -> bytes:
    """Return a request that may well be right, or may be wrong in what it says."""
    message = rpc.request()
    _fill(message, chosen, depth=3)
    return bytes(message.SerializeToString())


def mutated(message: bytes, chosen: random.Random) -> bytes:
    """Return a message with some of its bytes changed, missing, doubled or new."""
    data = bytearray(message)
    for _ in range(chosen.randint(1, 8)):
        index = chosen.randint(0, len(data))
        match chosen.randint(0, 3):
            case 0:
                data[index : index + 1] = chosen.randbytes(1)
            case 1:
                del data[index : index + chosen.randint(1, 8)]
            case 2:
                data[index:index] = data[index : index + chosen.randint(1, 64)]
            case _:
                data[index:index] = chosen.randbytes(chosen.randint(1, 16))
    return bytes(data)


def hostile(rpc: Rpc, chosen: random.Random) -> bytes:
    """Return what to send to a call."""
    draw = chosen.random()
    if draw < 0.2:
        return chosen.randbytes(chosen.randint(0, 200))
    if draw < 0.25:
        # Messages in messages, deeper than any parser goes.
        return b"".join(b"\x0a" + bytes([min(127, 2 * depth)]) for depth in range(200, 0, -1))
    message = request(rpc, chosen)
    return mutated(message, chosen) if draw < 0.7 else message


def _fill(message: Message, chosen: random.Random, *, depth: int) -> None:
    for each in message.DESCRIPTOR.fields:
        if chosen.random() < 0.2:
            continue
        if each.is_repeated:
            for _ in range(chosen.choice([0, 1, 2, 3])):
                _add(message, each, chosen, depth)
        elif each.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if depth:
                inner = getattr(message, each.name)
                inner.SetInParent()
                _fill(inner, chosen, depth=depth - 1)
        else:
            setattr(message, each.name, _value(each, chosen))


def _add(message: Message, each: Any, chosen: random.Random, depth: int) -> None:
    inner = getattr(message, each.name)
    if each.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        inner.append(_value(each, chosen))
    elif depth and not each.message_type.GetOptions().map_entry:
        _fill(inner.add(), chosen, depth=depth - 1)


def _value(each: Any, chosen: random.Random) -> Any:
    if each.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = chosen.choice(_TEXTS)
        return text.encode() if each.type == FieldDescriptor.TYPE_BYTES else text
    return _MAKERS[each.cpp_type](chosen)


@dataclass(kw_only=True)
class _Sent:
    """What came back."""

    codes: Counter[str] = field(default_factory=Counter)
    offenders: list[str] = field(default_factory=list)


class _Sender:
    """Sends bytes as they are."""

    def __init__(self, addresses: dict[str, str], sent: _Sent) -> None:
        self._channels = {
            service: grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
            for service, address in addresses.items()
        }
        self._sent = sent

    def send(self, rpc: Rpc, message: bytes, chosen: random.Random) -> None:
        try:
            self._call(rpc, message, chosen)
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
            if code in BAD_CODES and len(self._sent.offenders) < _MOST_OFFENDERS:
                said = f"{rpc} {code} {error.details()} {message.hex()[:400]}"
                self._sent.offenders.append(said)
        self._sent.codes[code] += 1

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def _call(self, rpc: Rpc, message: bytes, chosen: random.Random) -> None:
        channel: Any = self._channels[rpc.service]
        path = f"/{rpc.method.containing_service.full_name}/{rpc.name}"
        is_watch = rpc.name in {"WatchConnections", "WatchPosts"}
        given: dict[str, Any] = {
            "timeout": _WATCH_SECONDS if is_watch else _TIMEOUT_SECONDS,
            "metadata": chosen.choice(_METADATA),
        }
        if rpc.method.client_streaming:
            channel.stream_unary(path)(iter([message] * chosen.randint(0, 3)), **given)
        elif rpc.method.server_streaming:
            answers = channel.unary_stream(path)(message, **given)
            for number, _ in enumerate(answers, 1):
                if number == _MOST_ANSWERS:
                    answers.cancel()
                    return
        else:
            channel.unary_unary(path)(message, **given)


def _numbers(number: int) -> Iterator[range]:
    share = number // _THREADS
    yield from (range(share) for _ in range(_THREADS))


def _send_all(addresses: dict[str, str], number: int, seed: str) -> _Sent:
    sent = _Sent()

    def send(thread: int, numbers: Sequence[int]) -> None:
        chosen = random.Random(f"{seed}/{thread}")
        sender = _Sender(addresses, sent)
        for _ in numbers:
            rpc = chosen.choice(RPCS)
            sender.send(rpc, hostile(rpc, chosen), chosen)
        sender.close()

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(send, range(_THREADS), _numbers(number)))
    return sent


if __name__ == "__main__":
    graph, feed, number, seed = sys.argv[1:]
    sent = _send_all({"graph": graph, "feed": feed}, int(number), seed)
    sys.stdout.write(json.dumps([sent.codes, sent.offenders]))
