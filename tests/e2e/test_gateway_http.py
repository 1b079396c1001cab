"""What HTTP has of its own: conditions, media types, compression, caches, origins, retries."""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

import grpc
import pytest

from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.support.errors import fields_of, reason_of
from tests.support.gateway import Answer, Gateway, running_gateway
from tests.support.http2 import messages_over_grpc
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People

pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

_ORIGIN = "https://app.example"
_DRAFT = {"body": "text", "audience": {"kind": "AUDIENCE_KIND_ALL"}}


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """Services with limits, so that a call can be refused for a while; and with compression."""
    settings = {"RATE_LIMITS": "on", "COMPRESS_FROM_BYTES": "1024"}
    with running_pair(databases, settings) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    graph, feed = pair.graph_server.address, pair.feed_server.address
    folder, settings = tmp_path_factory.mktemp("gateway"), {"GATEWAY_ORIGINS": _ORIGIN}
    with running_gateway(folder, graph=graph, feed=feed, environment=settings) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What a user has that has an etag: where it is read, if it can be, and where it is changed."""

    kind: str
    read: str
    change: str
    field: str


@pytest.fixture
def author(people: People) -> int:
    [user] = people.new(1)
    return user


@pytest.fixture(params=["post", "comment", "tag"])
def resource(request: pytest.FixtureRequest, pair: Pair, people: People, author: int) -> Resource:
    """A new post, comment or tag of the author."""
    post = people.post(author)
    own, shown = f"/v1/users/{author}", f"/v1/users/{author}/authors/{author}/posts/{post}"
    if request.param == "post":
        return Resource(kind="post", read=shown, change=f"{own}/posts/{post}", field="body")
    if request.param == "tag":
        tag = people.tag(author, "climbing")
        return Resource(kind="tag", read="", change=f"{own}/tags/{tag}", field="name")
    comment = f"{shown}/comments/{_commented(pair, author, post)}"
    return Resource(kind="comment", read=comment, change=comment, field="body")


def _commented(pair: Pair, author: int, post_id: int) -> int:
    post = feed_pb2.PostName(author_id=author, post_id=post_id)
    asked = feed_pb2.CreateCommentRequest(user_id=author, post=post, body="mine")
    return pair.feed.CreateComment(asked).comment.comment_id


def _changed(
    gateway: Gateway, resource: Resource, value: str, headers: Mapping[str, str] | None = None
) -> Answer:
    return gateway.call("PATCH", resource.change, {resource.field: value}, headers=headers)


def _violations(answer: Answer) -> list[str]:
    """Return the fields that an INVALID_FIELD names."""
    assert (answer.status, answer.reason) == (400, "INVALID_FIELD"), answer
    [named] = [
        detail["fieldViolations"]
        for detail in answer.json["details"]
        if detail["@type"].endswith(".BadRequest")
    ]
    for violation in named:
        assert f"{violation['field']}: {violation['description']}" in answer.json["message"]
    return [violation["field"] for violation in named]


def test_a_change_is_made_while_the_resource_has_the_etag(
    gateway: Gateway, resource: Resource
) -> None:
    first = _changed(gateway, resource, "first")

    second = _changed(gateway, resource, "second", {"if-match": first.headers["etag"]})
    lost = _changed(gateway, resource, "lost", {"if-match": first.headers["etag"]})

    assert second.json[resource.kind][resource.field] == "second"
    assert second.headers["etag"].startswith(second.json[resource.kind]["etag"][:-1] + ".")
    assert (lost.status, lost.json["code"], lost.reason) == (412, 10, "ETAG_MISMATCH")


def test_a_resource_is_deleted_while_it_has_the_etag(gateway: Gateway, resource: Resource) -> None:
    first = _changed(gateway, resource, "first").headers["etag"]
    second = _changed(gateway, resource, "second").headers["etag"]

    lost = gateway.call("DELETE", resource.change, headers={"if-match": first})
    kept = _changed(gateway, resource, "third", {"if-match": second})
    deleted = gateway.call("DELETE", resource.change, headers={"if-match": kept.headers["etag"]})

    assert (lost.status, lost.json["code"], lost.reason) == (412, 10, "ETAG_MISMATCH")
    assert (kept.status, deleted.status, deleted.json) == (200, 200, {})


def test_a_deletion_takes_an_etag_in_the_header_or_as_a_parameter(
    gateway: Gateway, author: int, people: People
) -> None:
    path = f"/v1/users/{author}/tags/{people.tag(author, 'climbing')}"

    both = gateway.call("DELETE", f"{path}?etag=%221%22", headers={"if-match": '"1"'})
    other = gateway.call("DELETE", f"{path}?etag=%222%22")
    same = gateway.call("DELETE", f"{path}?etag=%221%22")

    assert _violations(both) == ["If-Match"]
    assert (other.status, other.reason, same.status) == (409, "ETAG_MISMATCH", 200)


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', ' "{}.any" ', "*"])
def test_an_etag_may_be_that_of_a_body_or_of_any_answer(
    gateway: Gateway, author: int, people: People, form: str
) -> None:
    path = f"/v1/users/{author}/posts/{people.post(author)}"

    answer = gateway.call("PATCH", path, {"body": "new"}, headers={"if-match": form.format(1)})

    assert answer.status == 200


@pytest.mark.parametrize("header", ['"1", "2"', "1", '"1', ""])
def test_an_etag_that_is_none_is_refused(gateway: Gateway, author: int, header: str) -> None:
    answer = gateway.call(
        "PATCH", f"/v1/users/{author}/posts/1", {"body": "new"}, headers={"if-match": header}
    )

    assert _violations(answer) == ["If-Match"]


def test_a_body_may_have_the_same_etag_and_no_other(
    gateway: Gateway, author: int, people: People
) -> None:
    path, headers = f"/v1/users/{author}/posts/{people.post(author)}", {"if-match": '"1"'}

    other = gateway.call("PATCH", path, {"body": "b", "etag": '"2"'}, headers=headers)
    same = gateway.call("PATCH", path, {"body": "b", "etag": '"1"'}, headers=headers)
    old = gateway.call("PATCH", path, {"body": "b", "etag": '"1"'})

    assert _violations(other) == ["If-Match"]
    assert (same.status, old.status, old.reason) == (200, 409, "ETAG_MISMATCH")


@pytest.mark.parametrize(
    ("call", "header"),
    [
        ("GET /v1/users/7/feed", "If-Match"),
        ("POST /v1/users/7/connections/8:request", "If-Match"),
        ("PUT /v1/users/7/blocks/8", "If-Match"),
        ("PUT /v1/users/7/blocks/8", "If-None-Match"),
        ("PATCH /v1/users/7/tags/8", "If-None-Match"),
    ],
)
def test_a_condition_that_a_call_does_not_know_is_refused(
    gateway: Gateway, call: str, header: str
) -> None:
    verb, path = call.split()

    assert _violations(gateway.call(verb, path, headers={header: '"1"'})) == [header]


@pytest.mark.parametrize("resource", ["post", "comment"], indirect=True)
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_an_answer_that_the_caller_has_is_left_out(
    gateway: Gateway, resource: Resource, verb: str
) -> None:
    etag = gateway.call("GET", resource.read).headers["etag"]

    answers = [
        gateway.call(verb, resource.read, headers={"if-none-match": known})
        for known in (etag, f"W/{etag}", f'"1.other", {etag}', "*")
    ]
    another = gateway.call(verb, resource.read, headers={"if-none-match": '"1", "2"'})

    assert [(answer.status, answer.body) for answer in answers] == [(304, b"")] * 4
    assert (another.status, another.body == b"") == (200, verb == "HEAD")
    assert {answer.headers["etag"] for answer in (*answers, another)} == {etag}


def test_a_new_comment_changes_the_etag_of_an_answer_and_not_of_the_post(
    gateway: Gateway, pair: Pair, author: int, people: People
) -> None:
    post = people.post(author)
    path, change = f"/v1/users/{author}/authors/{author}/posts/{post}", {"body": "new"}
    etag = gateway.call("GET", path).headers["etag"]
    _commented(pair, author, post)

    again = gateway.call("GET", path, headers={"if-none-match": etag})
    changed = gateway.call(
        "PATCH", f"/v1/users/{author}/posts/{post}", change, headers={"if-match": etag}
    )

    assert (again.status, again.json["post"]["commentCount"]) == (200, 1)
    assert changed.status == 200


def test_nothing_that_an_author_writes_is_taken_for_the_etag(gateway: Gateway, author: int) -> None:
    spoof = '"etag":"\\"9\\""'
    draft = {**_DRAFT, "body": spoof, "attributes": {"etag": '"9"', '"etag"': spoof}}

    answer = gateway.call("POST", f"/v1/users/{author}/posts", draft)

    assert answer.json["post"]["attributes"]["etag"] == '"9"'
    assert answer.headers["etag"].startswith('"1.')


def test_who_may_not_change_a_post_gets_no_etag(gateway: Gateway, people: People) -> None:
    author, friend = people.connected(2)
    path = f"/v1/users/{friend}/authors/{author}/posts/{people.post(author)}"

    answer = gateway.call("GET", path, headers={"if-none-match": '"1"'})

    assert (answer.status, answer.headers.get("etag")) == (200, None)


def test_a_change_without_a_mask_is_of_the_fields_in_the_body(
    gateway: Gateway, author: int
) -> None:
    path = f"/v1/users/{author}/posts"
    post = gateway.call("POST", path, {**_DRAFT, "attributes": {"a": "b"}}).json["post"]
    own = f"{path}/{post['postId']}"

    locked = gateway.call("PATCH", own, {"commentsLocked": True}).json["post"]
    opened = gateway.call("PATCH", own, {"comments_locked": False, "attributes": {}}).json["post"]
    whole = gateway.call("PATCH", own, {**opened, "body": "new"}).json["post"]

    assert (locked["commentsLocked"], locked["body"]) == (True, "text")
    assert (opened["commentsLocked"], opened["attributes"]) == (False, {})
    assert (whole["body"], whole["audience"]) == ("new", post["audience"])


@pytest.mark.parametrize("body", [{}, {"createTime": "2026-01-01T00:00:00Z"}, {"etag": '"1"'}])
def test_a_change_of_nothing_is_refused(
    gateway: Gateway, author: int, people: People, body: object
) -> None:
    path = f"/v1/users/{author}/posts/{people.post(author)}"

    assert _violations(gateway.call("PATCH", path, body)) == ["updateMask"]


def test_over_grpc_a_change_without_a_mask_is_of_the_fields_that_are_not_empty(
    pair: Pair, people: People, author: int
) -> None:
    post = feed_pb2.Post(post_id=people.post(author, body="old"), comments_locked=True)
    asked = feed_pb2.UpdatePostRequest(user_id=author, post=post)

    changed = pair.feed.UpdatePost(asked).post
    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.UpdatePost(
            feed_pb2.UpdatePostRequest(user_id=author, post=feed_pb2.Post(post_id=post.post_id))
        )

    assert (changed.comments_locked, changed.body) == (True, "old")
    assert fields_of(caught) == ["update_mask"]


@pytest.mark.parametrize(
    ("call", "body", "named"),
    [
        ("GET /v1/users/{me}/feed?pageSize=-1", None, ["pageSize"]),
        ("GET /v1/users/{me}/feed?page_size=-1", None, ["page_size"]),
        ("GET /v1/users/{me}/feed?author_ids=0&tagIds=0", None, ["tagIds[0]", "author_ids[0]"]),
        ("GET /v1/users/0/feed", None, ["userId"]),
        ("GET /v1/users/{me}/authors/0/posts/0/comments", None, ["authorId", "postId"]),
        ("POST /v1/users/{me}/posts", {**_DRAFT, "photoKeys": [""]}, ["photoKeys[0]"]),
        ("POST /v1/users/{me}/posts", {**_DRAFT, "photo_keys": [""]}, ["photo_keys[0]"]),
        ("POST /v1/users/{me}/posts:batchGet", {"posts": [{}]}, 2 * ["posts[0]."]),
        ("PATCH /v1/users/{me}/tags/0", {"name": " x"}, ["tagId", "name"]),
        ("PATCH /v1/users/{me}/posts/1", {"photos": [{"altText": "\1"}]}, 2 * ["photos[0]."]),
        ("PATCH /v1/users/{me}/posts/1", {"authorId": "1"}, ["authorId", "updateMask"]),
    ],
)
def test_an_error_names_fields_as_the_caller_wrote_them(
    gateway: Gateway, author: int, call: str, body: object, named: list[str]
) -> None:
    verb, path = call.format(me=author).split()

    told = _violations(gateway.call(verb, path, body))

    assert len(told) == len(named)
    assert all(field.startswith(start) for field, start in zip(told, named, strict=True)), told
    assert all("_" not in field for field in told if field not in named)


@pytest.mark.parametrize(
    ("call", "body", "named"),
    [
        ("GET /v1/users/me/feed", None, "userId"),
        ("GET /v1/users/7/authors/x/posts/1/comments", None, "authorId"),
        ("GET /v1/users/9223372036854775808/feed", None, "userId"),
        ("GET /v1/users/7/feed?pageSize=many", None, "pageSize"),
        ("GET /v1/users/7/feed?page_size=2147483648", None, "page_size"),
        ("GET /v1/users/7/feed?pageSize=", None, "pageSize"),
        ("GET /v1/users/7/feed?tagIds=1&tagIds=1.5", None, "tagIds"),
        ("GET /v1/users/7/tags?showDeleted=yes", None, "showDeleted"),
        ("GET /v1/users/7/digest?weekOf=yesterday", None, "weekOf"),
        ("GET /v1/users/7/digest?weekOf=2026-02-30T00:00:00Z", None, "weekOf"),
        ("GET /v1/users/1e1/feed", None, "userId"),
        ("GET /v1/users/7/feed?pageSize=2.0", None, "pageSize"),
        ("GET /v1/users/7/connectionRequests?direction=UP", None, "direction"),
        ("GET /v1/users/7/connectionRequests?direction=99", None, "direction"),
        ("GET /v1/users/7/connectionRequests?direction=-1", None, "direction"),
        ("POST /v1/users/7/connections:check", {"peerIds": ["1", "x"]}, "peerIds[1]"),
        ("POST /v1/users/7/connections:check", {"peerIds": [1.5]}, "peerIds[0]"),
        ("POST /v1/users/7/connections:check", {"peerIds": ["1e0"]}, "peerIds[0]"),
        ("POST /v1/users/7/posts", {"audience": {"kind": "SOME"}}, "audience.kind"),
        ("POST /v1/users/7/posts", {"audience": {"kind": "99"}}, "audience.kind"),
        ("POST /v1/users/7/posts", {"body": "\ud800"}, "body"),
        ("POST /v1/users/7/posts", {"attributes": {"a": "\ude00\ud83d"}}, "attributes.a"),
        ("POST /v1/users/7/tags", {"name": "a", "muteUntil": "soon"}, "muteUntil"),
        ("POST /v1/users/7/tags", {"name": "a", "muted": "yes"}, "muted"),
        ("PUT /v1/users/7/digestSubscription", {"weekStartDay": 2**31}, "weekStartDay"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(
    gateway: Gateway, call: str, body: object, named: str
) -> None:
    verb, path = call.split()

    assert _violations(gateway.call(verb, path, body)) == [named]


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("GET /v1/users/007/feed?pageSize=%31", None),
        ("GET /v1/users/9223372036854775807/feed", None),
        ("GET /v1/users/7/digest?weekOf=2024-02-29T23:59:59.5%2B02:00", None),
        ("GET /v1/users/7/connectionRequests?direction=request_direction_incoming", None),
        ("GET /v1/users/7/connectionRequests?direction=1", None),
        ("POST /v1/users/7/connections:check", {"peerIds": ["1", 2, 3e0]}),
        ("POST /v1/users/7/audience:preview", {"audience": {"kind": 1}}),
        ("POST /v1/users/7/audience:preview", {"audience": {"kind": 1.0}}),
        ("POST /v1/users/7/audience:preview", {"audience": {"kind": "1"}}),
        ("POST /v1/users/7/audience:preview", {"audience": {"kind": "audience_kind_all"}}),
    ],
)
def test_a_value_may_be_written_in_every_way_that_json_has(
    gateway: Gateway, call: str, body: object
) -> None:
    verb, path = call.split()

    answer = gateway.call(verb, path, body)

    assert answer.status == 200, answer


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("text/html, application/xhtml+xml, */*;q=0.8", 200),
        ("Application/*; q=0.1", 200),
        ("", 200),
        ("text/html", 406),
        ("application/json;q=0, */*", 406),
        ("*/*; q=0.0", 406),
    ],
)
def test_answers_are_json_or_refused(gateway: Gateway, accept: str, status: int) -> None:
    answer = gateway.call("GET", "/v1/users/7/feed", headers={"accept": accept})

    assert answer.status == status
    assert status == 200 or answer.reason == "NOT_ACCEPTABLE"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x!", ""),
        ("a&b", "1"),
        ("x_y", "1"),
        ("x-bin", "YQ=="),
        ("x-bin", "no base64"),
        ("grpc-encoding", "lzma"),
        ("grpc-accept-encoding", "gzip"),
        ("grpc-timeout", "1x"),
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", "123456789S"),
        ("grpc-timeout", ""),
    ],
)
def test_a_header_that_the_services_could_not_read_is_refused(
    gateway: Gateway, name: str, value: str
) -> None:
    answer = gateway.call("GET", "/v1/users/7/feed", headers={name: value})

    assert (answer.status, answer.reason) == (400, "INVALID_FIELD")


def test_a_header_may_have_every_name_that_grpc_takes_and_any_value(gateway: Gateway) -> None:
    headers = {"x.y-1": "a\tb", "x-latin": "\xe9", "x-empty": "", "grpc-timeout": "9S"}

    assert gateway.call("GET", "/v1/users/7/feed", headers=headers).status == 200


def test_a_compressed_body_is_refused(gateway: Gateway, author: int) -> None:
    body = gzip.compress(json.dumps({"name": "a"}).encode())

    answer = gateway.call(
        "POST", f"/v1/users/{author}/tags", body, headers={"content-encoding": "gzip"}
    )

    assert (answer.status, answer.reason) == (415, "UNSUPPORTED_CONTENT_TYPE")


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("GET /v1/users/7/feed", 200),
        ("HEAD /v1/users/7/feed", 200),
        ("GET /v1/users/7/authors/7/posts/1", 404),
        ("GET /v1/users/0/feed", 400),
        ("GET /v1/users/7/feed?nothing=1", 400),
        ("GET /v1/nothing", 404),
        ("PUT /v1/users/7/feed", 405),
    ],
)
def test_an_answer_over_http_has_no_headers_of_grpc(
    gateway: Gateway, call: str, status: int
) -> None:
    verb, path = call.split()

    answer = gateway.call(verb, path)

    assert answer.status == status
    assert [name for name in answer.headers if name.startswith("grpc-")] == []


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("origin", "is_taken"),
    [
        (None, True),
        (_ORIGIN, True),
        ("http://{host}", True),
        ("https://other.example", False),
        ("null", False),
    ],
)
def test_a_page_of_another_origin_changes_nothing_even_without_a_body(
    gateway: Gateway, author: int, verb: str, origin: str | None, *, is_taken: bool
) -> None:
    path = {"POST": "connections/8:request"}.get(verb, "blocks/8")
    headers = {"origin": origin.format(host=gateway.address)} if origin else {}

    answer = gateway.call(verb, f"/v1/users/{author}/{path}", headers=headers)

    assert answer.status == (200 if is_taken else 403)
    assert is_taken or answer.reason == "NOT_PERMITTED"


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost:8080", True),
        ("kith.localhost", True),
        ("gateway", True),
        ("192.0.2.7:8080", True),
        ("[::1]:8080", True),
        (_ORIGIN.removeprefix("https://"), True),
        ("pages.example", False),
        ("192.0.2.7.pages.example:8080", False),
        ("localhost.", False),
    ],
)
@pytest.mark.parametrize("media_type", ["application/json", "application/grpc-web+proto"])
def test_a_page_cannot_call_by_a_name_that_it_has_led_to_a_gateway_without_tokens(
    gateway: Gateway, media_type: str, host: str, *, is_known: bool
) -> None:
    over_http = ("GET", "/v1/users/7/tags", None)
    by_grpc_web = ("POST", "/kith.feed.v1.FeedService/ListTags", b"\0\0\0\0\2\x08\x07")
    call = over_http if media_type == "application/json" else by_grpc_web
    headers = {"host": host, "origin": f"http://{host}", "content-type": media_type}

    answer = gateway.call(*call, headers=headers)

    assert answer.status == (200 if is_known else 403)
    assert is_known or answer.reason == "NOT_PERMITTED"


def _long_page(gateway: Gateway, author: int, headers: Mapping[str, str]) -> Answer:
    path = f"/v1/users/{author}/posts"
    post = gateway.call("POST", path, {**_DRAFT, "body": "long " * 1_000}).json["post"]
    return gateway.call(
        "GET", f"/v1/users/{author}/authors/{author}/posts/{post['postId']}", headers=headers
    )


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("br", "br"), ("gzip", "gzip"), ("gzip, br", "br"), ("gzip;q=1, br;q=0.1", "gzip")],
)
def test_an_answer_is_compressed_as_the_caller_likes_it(
    gateway: Gateway, author: int, accepted: str, encoding: str
) -> None:
    answer = _long_page(gateway, author, {"accept-encoding": accepted})

    assert answer.headers["content-encoding"] == encoding
    assert len(answer.body) < 1_000
    assert "accept-encoding" in answer.headers["vary"].lower()
    if encoding == "gzip":
        assert json.loads(gzip.decompress(answer.body))["post"]["body"] == "long " * 1_000


def test_an_answer_over_grpc_is_compressed_as_the_service_does(
    gateway: Gateway, pair: Pair, people: People, author: int
) -> None:
    people.post(author, body="long " * 1_000)
    asked = feed_pb2.GetFeedRequest(user_id=author)

    [(is_compressed, message)] = messages_over_grpc(
        gateway.port,
        "/kith.feed.v1.FeedService/GetFeed",
        asked.SerializeToString(),
        ("grpc-accept-encoding", "gzip"),
    )

    assert is_compressed
    expected = pair.feed.GetFeed(asked).posts
    assert feed_pb2.GetFeedResponse.FromString(gzip.decompress(message)).posts == expected


@pytest.mark.parametrize("headers", [{}, {"accept-encoding": "identity"}])
def test_an_answer_is_compressed_only_when_the_caller_asks(
    gateway: Gateway, author: int, headers: Mapping[str, str]
) -> None:
    answer = _long_page(gateway, author, headers)

    assert "content-encoding" not in answer.headers
    assert answer.json["post"]["body"] == "long " * 1_000


def test_the_etag_of_a_compressed_answer_is_as_good_as_another(
    gateway: Gateway, author: int
) -> None:
    answer = _long_page(gateway, author, {"accept-encoding": "gzip"})
    etag, post = answer.headers["etag"], json.loads(gzip.decompress(answer.body))["post"]
    shown = f"/v1/users/{author}/authors/{author}/posts/{post['postId']}"

    known = gateway.call("GET", shown, headers={"if-none-match": etag})
    changed = gateway.call(
        "PATCH",
        f"/v1/users/{author}/posts/{post['postId']}",
        {"body": "new"},
        headers={"if-match": etag},
    )

    assert etag.startswith('W/"1.')
    assert (known.status, changed.status) == (304, 200)


@pytest.mark.parametrize(
    "call",
    ["GET /v1/users/7/feed", "GET /v1/users/0/feed", "GET /v1/nothing", "POST /v1/users/7/posts"],
)
def test_no_cache_stores_an_answer(gateway: Gateway, call: str) -> None:
    verb, path = call.split()

    assert gateway.call(verb, path).headers["cache-control"] == "private, no-store"


def test_who_calls_too_often_is_told_in_how_many_seconds_to_retry(
    gateway: Gateway, author: int
) -> None:
    path = f"/v1/users/{author}/posts"
    answers = [gateway.call("POST", path, _DRAFT) for _ in range(11)]

    refused = answers[-1]
    [delay] = [each["retryDelay"] for each in refused.json["details"] if "retryDelay" in each]
    assert (refused.status, refused.reason) == (429, "RATE_LIMITED")
    assert 0 <= int(refused.headers["retry-after"]) - float(delay.removesuffix("s")) < 1
    assert "retry-after" not in answers[0].headers


@pytest.mark.parametrize(
    "path",
    [
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/kith.feed.v1.FeedService/ImportPosts",
        "/kith.feed.v1.FeedService/WatchPosts",
    ],
)
def test_a_stream_that_is_not_served_is_refused_before_its_end(gateway: Gateway, path: str) -> None:
    def endless() -> Iterator[bytes]:
        yield b""
        refused.wait()

    refused = Event()
    with grpc.insecure_channel(gateway.address) as channel:
        call: Any = channel.stream_stream(path)
        code = call(endless(), timeout=60).code()
        refused.set()

    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_over_grpc_that_is_too_large_has_the_reason_that_it_has_over_http(
    gateway: Gateway, author: int
) -> None:
    request = feed_pb2.CreatePostRequest(user_id=author, body="x" * (10 * 1024 * 1024 + 1))
    with grpc.insecure_channel(gateway.address) as channel, pytest.raises(grpc.RpcError) as caught:
        FeedServiceStub(channel).CreatePost(request)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "REQUEST_TOO_LARGE"
