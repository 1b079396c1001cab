"""What the gateway refuses so that nothing is dropped and the path is what a call is about.

Calls and fields are taken from the contracts, so a new one is tested without a new line here.
"""

import base64
import json
import random
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.support.errors import reason_of
from tests.support.gateway import Answer, Gateway, running_gateway
from tests.support.http2 import body_over_http2
from tests.support.over_http import Request, body_of, exposed, in_json, over_http, path_fields
from tests.support.pair import Pair
from tests.support.people import People
from tests.support.rpcs import Rpc

pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

Way: TypeAlias = tuple[FieldDescriptor, ...]

_ROOT = Path(__file__).parents[2]
_WITH_BODY = [rpc for rpc in exposed() if body_of(rpc)]
_WITHOUT_BODY = [rpc for rpc in exposed() if not body_of(rpc)]
# The same number for a client that reads ids as floats.
_ID, _OTHER_ID = 2**53 + 1, 2**53
_UNKNOWN = "excludedTagsIds"
_MUTATIONS = 300
_SPELLINGS = 30
# Of one, two, three and four bytes in UTF-8; some that JSON must escape or may escape by a letter.
_CHARACTERS = 'aB.0 "\\/[]%\n\täß\u0800€\uffee\U00010000\U0001f642\U0010fffd'


@pytest.fixture(scope="module")
def gateway(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    graph, feed = pair.graph_server.address, pair.feed_server.address
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(folder, graph=graph, feed=feed) as running:
        yield running


def _request(rpc: Rpc) -> Request:
    """Return a call with ids in its path and nothing else."""
    fields: dict[str, Any] = {}
    for path in path_fields(rpc):
        *outer, last = path.split(".")
        inside = fields
        for name in outer:
            inside = inside.setdefault(name, {})
        inside[last] = _ID
    return over_http(rpc, json_format.ParseDict(fields, rpc.request()))


def _spellings(path: str) -> set[str]:
    return {path, in_json(path)}


def _refused(answer: Answer) -> list[str]:
    """Return the fields that an INVALID_FIELD names."""
    assert (answer.status, answer.json["code"], answer.reason) == (400, 3, "INVALID_FIELD"), answer
    return [
        violation["field"]
        for detail in answer.json["details"]
        if detail["@type"].endswith(".BadRequest")
        for violation in detail["fieldViolations"]
    ]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _ways(message: Descriptor) -> Iterator[Way]:
    """Yield the ways to a message itself and to all that are inside it."""
    yield ()
    for field in message.fields:
        inner = field.message_type
        # A map has names of any kind.
        if inner and not _is_map(field) and inner.file.package != "google.protobuf":
            yield from ((field, *way) for way in _ways(inner))


def _inside(way: Way, value: object) -> Any:
    for field in reversed(way):
        value = {field.json_name: [value] if field.is_repeated else value}
    return value


def _named(way: Way, name: str) -> str:
    steps = [f"{field.json_name}[0]" if field.is_repeated else field.json_name for field in way]
    return ".".join([*steps, name])


@pytest.mark.parametrize("rpc", [rpc for rpc in exposed() if path_fields(rpc)], ids=str)
def test_no_parameter_says_what_the_path_says(gateway: Gateway, rpc: Rpc) -> None:
    sent = _request(rpc)

    for path in path_fields(rpc):
        for name in _spellings(path):
            answer = gateway.call(sent.verb, f"{sent.path}?{name}={_ID}", sent.body)
            assert _refused(answer) == [name]


@pytest.mark.parametrize("rpc", _WITH_BODY, ids=str)
def test_a_body_holds_no_field_that_the_call_does_not_know_at_any_depth(
    gateway: Gateway, rpc: Rpc
) -> None:
    sent, body = _request(rpc), body_of(rpc)
    assert body

    for way in _ways(body):
        answer = gateway.call(sent.verb, sent.path, _inside(way, {_UNKNOWN: ["1"]}))
        assert _refused(answer) == [_named(way, _UNKNOWN)]


@pytest.mark.parametrize("rpc", [rpc for rpc in _WITH_BODY if path_fields(rpc)], ids=str)
def test_a_body_does_not_contradict_the_path(gateway: Gateway, rpc: Rpc) -> None:
    sent, is_part = _request(rpc), body_of(rpc) is not rpc.method.input_type

    for path in path_fields(rpc):
        within = path.split(".")[is_part:] or [path]
        for name in _spellings(".".join(within)):
            *outer, last = name.split(".")
            for value in (_OTHER_ID, str(_OTHER_ID), float(_ID), f"0{_ID}", [_ID], None):
                body: Any = {last: value}
                for step in reversed(outer):
                    body = {step: body}
                assert _refused(gateway.call(sent.verb, sent.path, body)) == [name]


@pytest.mark.parametrize("rpc", _WITH_BODY, ids=str)
def test_what_belongs_in_the_body_is_no_parameter(gateway: Gateway, rpc: Rpc) -> None:
    sent, body = _request(rpc), body_of(rpc)
    assert body
    prefix = "" if body is rpc.method.input_type else f"{body.name.lower()}."

    for field in body.fields:
        for spelling in _spellings(field.name):
            name = prefix + spelling
            assert _refused(gateway.call(sent.verb, f"{sent.path}?{name}=1", {})) == [name]


@pytest.mark.parametrize("rpc", _WITHOUT_BODY, ids=str)
def test_a_call_without_a_body_takes_none(gateway: Gateway, rpc: Rpc) -> None:
    sent = _request(rpc)

    assert _refused(gateway.call(sent.verb, sent.path, {})) == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("user%5Fid=8", "user_id"),
        ("user%49d=8", "userId"),
        ("pageSize=1&user_id=8", "user_id"),
        ("userId", "userId"),
        ("page_size", "page_size"),
        ("page_size=1&page_size=2", "page_size"),
        ("page_size=1&pageSize=1", "pageSize"),
        ("user_id.x=1", "user_id.x"),
        ("=1", ""),
        ("%ff=1", "?"),
        ("x" * 4_000 + "=1", "x" * 100),
    ],
)
def test_a_parameter_that_is_hidden_or_given_twice_is_refused(
    gateway: Gateway, query: str, named: str
) -> None:
    assert _refused(gateway.call("GET", f"/v1/users/7/feed?{query}")) == [named]


def test_a_repeated_parameter_may_be_given_several_times(gateway: Gateway) -> None:
    answer = gateway.call("GET", "/v1/users/7/feed?author_ids=8&authorIds=9&&page_size=3")

    assert answer.status == 200


_COMMAND = re.compile(
    r"^    curl '?127\.0\.0\.1:(\d+)(/[^' ]*)'?(?: --json '(.*?)')?", re.MULTILINE
)


@pytest.mark.parametrize("page", ["README.md", "docs/gateway.md"])
def test_the_calls_of_a_guide_are_answered(gateway: Gateway, page: str) -> None:
    text = (_ROOT / page).read_text()
    commands = _COMMAND.findall(text)

    assert len(commands) == text.count("    curl ")
    for port, path, body in commands:
        sent = body.encode() if body else None
        answer = gateway.call("POST" if sent else "GET", path, sent)
        assert (port, answer.status) == ("8080", 200)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ('{"name": "a", "name": "b"}', "name"),
        ('{"userId": "7", "user_id": "7"}', "user_id"),
        (r'{"nam\u0065": "a"}', r"nam\u0065"),
        ('{"@type": "x"}', "@type"),
        ('{"": 1}', ""),
        ('{"name": 5}', "name"),
        ('{"name": {"name": "a"}}', "name"),
        ('{"name": ["a"]}', "name"),
        ('{"n\N{LATIN SMALL LETTER A WITH DIAERESIS}me": "a"}', "n??me"),
    ],
)
def test_a_field_that_is_hidden_given_twice_or_of_another_type_is_refused(
    gateway: Gateway, body: str, named: str
) -> None:
    assert _refused(gateway.call("POST", "/v1/users/7/tags", body.encode())) == [named]


def _maps() -> Iterator[tuple[Rpc, Way, FieldDescriptor]]:
    """Yield every map in the body of a call, and the way to the message that has it."""
    for rpc in _WITH_BODY:
        body = body_of(rpc)
        assert body
        for way in _ways(body):
            message = (way[-1].message_type or body) if way else body
            yield from ((rpc, way, field) for field in message.fields if _is_map(field))


_MAPS = [
    pytest.param(rpc, way, field, id=f"{rpc} {_named(way, field.name)}")
    for rpc, way, field in _maps()
]


def _spelled(text: str, chance: random.Random) -> str:
    """Return a text as a string of JSON, of which there are many for each text."""
    parts = list[str]()
    for character in text:
        units = character.encode("utf-16-be").hex()
        digits = [units[at : at + 4] for at in range(0, len(units), 4)]
        parts.append(
            chance.choice(
                [
                    json.dumps(character, ensure_ascii=False)[1:-1],
                    "".join(f"\\u{four}" for four in digits),
                    "".join(f"\\u{four.upper()}" for four in digits),
                    "\\/" if character == "/" else json.dumps(character)[1:-1],
                ]
            )
        )
    return f'"{"".join(parts)}"'


def _text(chance: random.Random) -> str:
    return "".join(chance.choices(_CHARACTERS, k=chance.randint(1, 4)))


def _shown(name: str) -> str:
    """Return what an error says of a name: printable ASCII, a question mark for other bytes."""
    return re.sub(rb"[^ -~]", b"?", name.encode()).decode()


def _with_map(way: Way, field: FieldDescriptor, contents: str) -> bytes:
    """Return a body that has a map, and nothing else."""
    return json.dumps(_inside(way, {field.json_name: 0})).replace(": 0", f": {contents}").encode()


@pytest.mark.parametrize(("rpc", "way", "field"), _MAPS)
def test_a_name_of_a_map_is_given_once_in_all_its_spellings(
    gateway: Gateway, rpc: Rpc, way: Way, field: FieldDescriptor
) -> None:
    chance, sent = random.Random(7), _request(rpc)

    for _ in range(_SPELLINGS):
        name, other = _text(chance), _text(chance)
        first, between, again = (_spelled(text, chance) for text in (name, f"{other}-", name))
        contents = f'{{{first}: "a", {between}: "b", {again}: "a"}}'
        answer = gateway.call(sent.verb, sent.path, _with_map(way, field, contents))
        assert _refused(answer) == [_shown(_named(way, f"{field.json_name}.{again[1:-1]}"))]


@pytest.mark.parametrize(("rpc", "way", "field"), _MAPS)
def test_a_map_gives_no_name_null(
    gateway: Gateway, rpc: Rpc, way: Way, field: FieldDescriptor
) -> None:
    sent = _request(rpc)

    answer = gateway.call(sent.verb, sent.path, _with_map(way, field, '{"a": "b", "c": null}'))

    assert _refused(answer) == [_named(way, f"{field.json_name}.c")]


@pytest.mark.parametrize(("rpc", "way", "field"), _MAPS)
@pytest.mark.parametrize(
    "name",
    [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\u0041", r"\udc00\ud800", r"\u12", r"\x", r"\U0041"],
)
def test_a_name_of_a_map_is_made_of_characters(
    gateway: Gateway, rpc: Rpc, way: Way, field: FieldDescriptor, name: str
) -> None:
    sent, body = _request(rpc), _with_map(way, field, f'{{"{name}": "a"}}')

    answer = gateway.call(sent.verb, sent.path, body)

    assert _refused(answer) == [_named(way, f"{field.json_name}.{name}")]


def test_attributes_are_understood_as_they_are_written(gateway: Gateway) -> None:
    chance = random.Random(7)
    draft = {"body": "hello", "audience": {"kind": "AUDIENCE_KIND_ALL"}, "attributes": 0}

    for _ in range(_SPELLINGS):
        meant = {_text(chance): _text(chance) for _ in range(5)}
        written = ", ".join(
            f"{_spelled(name, chance)}: {_spelled(text, chance)}" for name, text in meant.items()
        )
        body = json.dumps(draft).replace(": 0", f": {{{written}}}").encode()
        answer = gateway.call("POST", "/v1/users/7/posts", body)
        assert answer.json["post"]["attributes"] == meant


@pytest.mark.parametrize(
    "attributes",
    [
        '{"a": "b", "a": "c"}',
        '{"a": 5}',
        '{"a": {"b": "c"}}',
        '{"a": ["b"]}',
        '[{"a": "b"}]',
        '"a"',
    ],
)
def test_attributes_that_are_no_texts_or_given_twice_are_refused(
    gateway: Gateway, attributes: str
) -> None:
    body = f'{{"body": "hello", "attributes": {attributes}}}'

    [named] = _refused(gateway.call("POST", "/v1/users/7/posts", body.encode()))

    assert named in {"attributes", "attributes.a"}


def test_attributes_are_no_parameters(gateway: Gateway) -> None:
    answer = gateway.call("POST", "/v1/users/7/posts?attributes.a=b", b"{}")

    assert _refused(answer) == ["attributes.a"]


@pytest.mark.parametrize(
    "body",
    [
        b"{'name': 'a'}",
        b'{name: "a"}',
        b'{"name": "a",}',
        b'{"name": "a"} {}',
        b'{"name": "a"}\0',
        b'\xef\xbb\xbf{"name": "a"}',
        b'{"name": "\xff"}',
        b'{"name" "a"}',
        b'{"name": nul}',
        b'{"name": nullnull}',
        b'{"name": "a" "b"}',
        b'{"name": "a\\"}',
        b'{"name":',
        b'{"name": "a"',
        b'// "\n{"name": "a"}',
        b'{"name": /* */ "a"}',
        b'[{"name": "a"}]',
        b"[" * 1_000_000,
        b'{"name":' * 1_000_000,
        b'"name"',
        b"null",
        b"7",
        b"   ",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_object_in_json_is_refused(gateway: Gateway, body: bytes) -> None:
    assert gateway.call("POST", "/v1/users/7/tags", body).reason == "INVALID_FIELD"


@pytest.mark.parametrize("number", ["01", "1.", "-", "+1", ".5", "1e", "0x7", "7n", "1,"])
def test_a_number_that_is_none_in_json_is_refused(gateway: Gateway, number: str) -> None:
    body = f'{{"userIds": [{number}]}}'.encode()

    assert _refused(gateway.call("POST", "/v1/users/7/connections:count", body)) == []


@pytest.mark.parametrize("value", ["text", 7, {"a": 1}], ids=repr)
def test_a_repeated_field_is_a_list(gateway: Gateway, value: object) -> None:
    answer = gateway.call("POST", "/v1/users/7/connections:check", {"peerIds": value})

    assert _refused(answer) == ["peerIds"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"userIds": [' + b"7," * 100_001 + b"7]}",
        b'{"userIds": ["' + b'\\"' * 1_000_000 + b'"]}',
    ],
    ids=["values", "quotes"],
)
def test_a_body_of_more_values_than_any_call_takes_is_refused(
    gateway: Gateway, body: bytes
) -> None:
    answer = gateway.call("POST", "/v1/users/7/connections:count", body)

    assert answer.json["message"] == "the body has too many values"


def test_a_body_in_pieces_is_looked_at_as_a_whole(gateway: Gateway) -> None:
    with closing(HTTPConnection(gateway.address, timeout=60)) as connection:
        pieces = iter([b'{"name": "a", ', b'"user', b'Id": "8"}'])
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/users/7/tags", pieces, headers, encode_chunked=True)
        response = connection.getresponse()

        assert (response.status, b'"field":"userId"' in response.read()) == (400, True)


def test_what_was_read_can_be_written_back_with_the_ids_of_the_path(
    gateway: Gateway, people: People
) -> None:
    [user] = people.new(1)
    path = f"/v1/users/{user}/posts"
    draft = {"userId": str(user), "body": "text", "audience": {"kind": "AUDIENCE_KIND_ALL"}}
    post = gateway.call("POST", path, draft).json["post"]

    answer = gateway.call("PATCH", f"{path}/{post['postId']}?updateMask=body,audience", post)

    assert answer.status == 200
    assert answer.json["post"]["body"] == "text"


def test_a_body_may_repeat_the_path_as_text_or_as_a_number_whatever_its_size(
    gateway: Gateway,
) -> None:
    for number, value in enumerate((_ID, str(_ID))):
        body = {"userId": value, "name": f"tag {number}"}
        answer = gateway.call("POST", f"/v1/users/{_ID}/tags", body)
        assert answer.status == 200, answer


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_a_body_that_is_not_said_to_be_json_is_refused(gateway: Gateway, content_type: str) -> None:
    headers = {"content-type": content_type}

    answer = gateway.call("POST", "/v1/users/7/tags", {"name": "a"}, headers=headers)

    assert (answer.status, answer.reason) == (415, "UNSUPPORTED_CONTENT_TYPE")


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json ; charset=utf-8"])
def test_json_may_be_named_in_any_way_that_http_knows(gateway: Gateway, content_type: str) -> None:
    headers, body = {"content-type": content_type}, {"userIds": ["7"]}

    answer = gateway.call("POST", "/v1/users/7/connections:count", body, headers=headers)

    assert answer.status == 200


def test_a_path_that_knows_other_methods_names_them(gateway: Gateway) -> None:
    answer = gateway.call("PUT", "/v1/users/7/tags/8")

    assert (answer.status, answer.reason) == (405, "NO_SUCH_PATH")
    assert answer.headers["allow"] == "DELETE, PATCH"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /v1/users/7/feed HTTP/1.1\r\nConnection: close", 400),
        ("GET /v1/users/7/feed HTTP/1.1\r\nHost: a\r\nx_y: 1\r\nConnection: close", 400),
        ("GET /v1/users/7%2F8/feed HTTP/1.1\r\nHost: a\r\nConnection: close", 400),
        ("GET /v1/users/7/feed HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: b", 403),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close", 404),
        (f"GET / HTTP/1.1\r\nHost: a\r\nx: {'a' * 70_000}\r\nConnection: close", 431),
        ("what is this", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nConnection: close", 501),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_hardly_http_is_answered_with_an_error_like_any_other(
    gateway: Gateway, head: str, status: int
) -> None:
    answer = gateway.answer(head.encode())

    assert answer.status == status
    assert answer.json["message"]
    assert answer.reason not in {None, "INTERNAL"}


_OVER_HTTP2 = ((":scheme", "http"), (":authority", "a"), (":path", "/v1/users/7/feed"))


@pytest.mark.parametrize(
    ("headers", "ends"),
    [
        (((":method", "GET"), *_OVER_HTTP2, ("x_y", "1")), True),
        (((":method", "CONNECT"), (":authority", "a:443")), False),
        (((":method", "PUT"), *_OVER_HTTP2), True),
    ],
    ids=["an underscore", "a tunnel", "another method"],
)
def test_what_is_refused_over_http_2_is_answered_with_an_error_like_any_other(
    gateway: Gateway, headers: tuple[tuple[str, str], ...], *, ends: bool
) -> None:
    error = json.loads(body_over_http2(gateway.port, *headers, ends=ends))

    assert error["message"]
    assert [detail["domain"] for detail in error["details"]] == ["kith"]


def test_a_tunnel_is_refused_at_once(gateway: Gateway) -> None:
    answer = gateway.answer(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443")

    assert (answer.status, answer.reason) == (403, "INVALID_FIELD")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/7/feed",
        "/v1/users/0/feed",
        "/v1/users/7/authors/7/posts/8",
        "/v1/users/7/feed?userId=8",
        "/v1/nothing",
    ],
)
def test_head_is_answered_as_get_is_but_for_the_body(gateway: Gateway, path: str) -> None:
    by_get, by_head = gateway.call("GET", path), gateway.call("HEAD", path)

    assert by_get.body
    assert by_head.body == b""
    assert by_head.status == by_get.status
    assert by_head.headers.keys() >= {"content-type", "x-request-id"}
    assert by_head.headers["content-type"] == by_get.headers["content-type"]
    assert (
        body_over_http2(gateway.port, (":method", "HEAD"), *_OVER_HTTP2[:2], (":path", path)) == b""
    )


def test_head_has_no_other_calls_than_get(gateway: Gateway) -> None:
    answers = [
        gateway.call("HEAD", "/v1/users/7/connections:count"),
        gateway.call("PUT", "/v1/users/7/feed"),
    ]

    assert [(answer.status, answer.headers["allow"]) for answer in answers] == [
        (405, "POST"),
        (405, "GET, HEAD"),
    ]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [(("x_y", "1"), "INVALID_FIELD"), (("x", "x" * 9_000), "REQUEST_TOO_LARGE")],
    ids=["an underscore", "large headers"],
)
def test_headers_that_are_refused_natively_have_a_reason_too(
    gateway: Gateway, metadata: tuple[str, str], reason: str
) -> None:
    with grpc.insecure_channel(gateway.address) as channel, pytest.raises(grpc.RpcError) as caught:
        FeedServiceStub(channel).ListTags(feed_pb2.ListTagsRequest(user_id=7), metadata=(metadata,))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == reason


_GET_FEED = "/kith.feed.v1.FeedService/GetFeed"
_GRPC_WEB, _GRPC_WEB_TEXT = "application/grpc-web+proto", "application/grpc-web-text"
_FRAMED = b"\0\0\0\0\2\x08\7"  # a GetFeedRequest of user 7


@pytest.mark.parametrize(
    ("content_type", "body", "status", "message"),
    [
        (_GRPC_WEB, _FRAMED, "", ""),
        (_GRPC_WEB_TEXT, base64.b64encode(_FRAMED), "", ""),
        (_GRPC_WEB_TEXT, b"not base64", "13", "Bad gRPC-web request, invalid base64 data."),
        (_GRPC_WEB_TEXT, b"AAAAAAIIB", "13", "Bad gRPC-web request, invalid base64 data."),
        (_GRPC_WEB, b"", "3", "the request has no message"),
        (_GRPC_WEB, _FRAMED[:-1], "3", "the request has no message"),
        (_GRPC_WEB, b"\0\0\0\0\2\xff\xff", "3", "the request is not a valid message of this call"),
        (_GRPC_WEB, b"\1" + _FRAMED[1:], "13", "Compression bit set"),
        (_GRPC_WEB, b"\0\xff\xff\xff\xff\0", "8", "SERVER: Received message larger than max"),
        (_GRPC_WEB, bytes(10 * 1024 * 1024 + 1), "2", "the request is too large"),
        ("application/grpc", _FRAMED, "3", "a call over gRPC is a POST with the header te"),
    ],
)
def test_what_is_no_grpc_web_is_refused_in_the_trailers(
    gateway: Gateway, content_type: str, body: bytes, status: str, message: str
) -> None:
    answer = gateway.call("POST", _GET_FEED, body, headers={"content-type": content_type})

    assert answer.headers.get("grpc-status", "") == status
    assert answer.headers.get("grpc-message", "").startswith(message)
    assert answer.headers["content-type"].startswith("application/grpc")


def test_a_call_over_grpc_web_is_a_post(gateway: Gateway) -> None:
    answer = gateway.call("GET", _GET_FEED, headers={"content-type": _GRPC_WEB})

    assert (answer.status, answer.headers["grpc-status"]) == (200, "3")


@pytest.mark.parametrize(
    "content_type", ["application/grpc-web+json", "application/grpc-webx", "Application/GRPC-web"]
)
def test_what_is_only_named_like_grpc_is_no_call(gateway: Gateway, content_type: str) -> None:
    answer = gateway.call("POST", _GET_FEED, _FRAMED, headers={"content-type": content_type})

    assert (answer.status, answer.reason) == (404, "NO_SUCH_PATH")


def test_whoever_speaks_http_1_0_is_answered(gateway: Gateway) -> None:
    assert gateway.answer(b"GET /v1/users/7/feed HTTP/1.0").status == 200


@pytest.mark.parametrize(("size", "is_taken"), [(7_500, True), (9_000, False), (20_000, False)])
def test_headers_have_one_limit_over_http_and_natively(
    gateway: Gateway, size: int, *, is_taken: bool
) -> None:
    path, text = "/v1/users/7/tags", "x" * size
    request = feed_pb2.ListTagsRequest(user_id=7)
    with grpc.insecure_channel(gateway.address) as channel:
        list_tags = FeedServiceStub(channel).ListTags
        natively = {list_tags.future(request, metadata=(("x", text),)).code() for _ in range(20)}
    over_http = {gateway.call("GET", path, headers={"x": text}).status for _ in range(20)}

    assert natively == {grpc.StatusCode.OK if is_taken else grpc.StatusCode.INVALID_ARGUMENT}
    assert over_http == {200 if is_taken else 431}


def test_a_service_takes_twice_the_metadata_and_never_refuses_less(pair: Pair) -> None:
    request, metadata = feed_pb2.ListTagsRequest(user_id=7), (("x", "x" * 15_000),)

    told = {pair.feed.ListTags.future(request, metadata=metadata).code() for _ in range(20)}

    assert told == {grpc.StatusCode.OK}


def test_a_refusal_is_logged_with_its_id_and_no_service_hears_of_it(gateway: Gateway) -> None:
    headers = {"x-request-id": "refused-1"}

    answer = gateway.call("GET", "/v1/users/7/feed?userId=8", headers=headers)

    line = gateway.logged("refused-1")
    assert answer.headers["x-request-id"] == "refused-1"
    assert (line["http_path"], line["http_status"]) == ("/v1/users/7/feed", 400)
    assert "upstream" not in line


def test_whatever_is_let_through_is_json_of_known_fields_and_is_understood_alike(
    gateway: Gateway,
) -> None:
    chance = random.Random(7)
    names = [{"authorId": "1", "post_id": 2}, {"author_id": 3, "postId": "4"}]
    whole = json.dumps({"posts": names, "userId": "7"}, indent=1).encode()
    let_through = 0
    with closing(HTTPConnection(gateway.address, timeout=60)) as connection:
        for _ in range(_MUTATIONS):
            body = _mutated(whole, chance)
            headers = {"content-type": "application/json"}
            connection.request("POST", "/v1/users/7/posts:batchGet", body, headers)
            response = connection.getresponse()
            told = response.read()
            if response.status == 200:
                let_through += 1
                asked = json_format.Parse(body, feed_pb2.BatchGetPostsRequest())
                answer = json_format.Parse(told, feed_pb2.BatchGetPostsResponse())
                assert {*map(str, asked.posts)} == {*map(str, answer.not_found)}, body
                assert asked.user_id in {0, 7}, body
    assert let_through > 0


def _mutated(whole: bytes, chance: random.Random) -> bytes:
    """Return a text with some of its bytes, or pieces of it, changed."""
    changed = bytearray(whole)
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(len(changed))
        match chance.randrange(3):
            case 0:
                changed[at] = chance.choice(b"\"'\\{}[],:01 \nnte.-+/*\x00\xff")
            case 1:
                del changed[at : at + chance.randint(1, 4)]
            case _:
                other = chance.randrange(len(whole))
                changed[at:at] = whole[other : other + chance.randint(1, 20)]
    return bytes(changed)
