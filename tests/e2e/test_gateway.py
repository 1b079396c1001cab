"""What clients over HTTP, gRPC-web and gRPC get through the gateway, which is a real Envoy."""

import base64
import functools
import json
import re
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from kith.cli.commands import main
from kith.cli.conformance import gateway as through_gateway
from kith.cli.conformance import reflection
from kith.cli.conformance.deployments import opened
from kith.cli.conformance.promises import Result, tried
from kith.client import KithClient
from kith.client.channel_options import client_options
from kith.environment import SettingsError
from kith.exceptions import ResourceNotFoundError
from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.cli.envoy import configuration
from shared.cli.gateway_settings import GatewaySettings
from tests.support.buf import Ended, buf_curl
from tests.support.buf import reason_of as reason_told
from tests.support.collector import Received, collecting
from tests.support.credentials import Authority, Issuer, put
from tests.support.errors import reason_of
from tests.support.exposed_calls import CALLS, World, new_world
from tests.support.gateway import Answer, Gateway, running_gateway
from tests.support.over_http import breaches, exposed, is_exposed, over_http
from tests.support.pair import Databases, Pair, another_feed, running_pair
from tests.support.people import People
from tests.support.ports import free_ports
from tests.support.processes import Session, run, until
from tests.support.rows import last_statements
from tests.support.rpcs import RPCS, Metadata, Rpc
from tests.support.secured import SecuredPair, bearer, secured_pair

pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

_ORIGIN = "https://app.example"
# The scope that docs/conformance.md says suffices.
[_PROBER] = re.findall(
    r"^ +(prober=\S+)$",
    (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# An upload is permitted by a signature, which takes no call to the store.
_PHOTOS = {
    "S3_BUCKET": "photos",
    "S3_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
}


@dataclass(frozen=True, kw_only=True)
class Behind:
    """A gateway, and what is behind it."""

    gateway: Gateway
    pair: Pair
    people: People


@pytest.fixture(scope="module")
def behind(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("gateway")
    settings = {"GATEWAY_ORIGINS": _ORIGIN, "GATEWAY_PAGES": "on"}
    with (
        running_pair(databases, _PHOTOS) as pair,
        running_gateway(
            folder,
            graph=pair.graph_server.address,
            feed=pair.feed_server.address,
            environment=settings,
        ) as gateway,
    ):
        yield Behind(gateway=gateway, pair=pair, people=People(pair))


@pytest.fixture
def world(behind: Behind) -> World:
    return new_world(behind.pair, behind.people)


def _called(gateway: Gateway, rpc: Rpc, request: Message, **headers: str) -> Answer:
    sent = over_http(rpc, request)
    return gateway.call(sent.verb, sent.path, sent.body, headers=headers)


def _named(name: str) -> Rpc:
    [rpc] = [rpc for rpc in RPCS if rpc.name == name]
    return rpc


@pytest.mark.parametrize("rpc", exposed(), ids=str)
def test_every_exposed_call_is_answered_over_http(behind: Behind, world: World, rpc: Rpc) -> None:
    request = CALLS[rpc.name](world)

    answer = _called(behind.gateway, rpc, request)

    assert answer.status == 200, answer
    assert breaches(rpc, answer.json) == []
    told = json_format.Parse(answer.body, GetMessageClass(rpc.method.output_type)())
    if over_http(rpc, request).verb == "GET":
        stub = behind.pair.graph if rpc.service == "graph" else behind.pair.feed
        assert told == getattr(stub, rpc.name)(request)


def test_a_gateway_without_tokens_keeps_its_promises(behind: Behind) -> None:
    """All promises of a deployment are tried below, of one with tokens."""
    with opened(
        graph=behind.pair.graph_server.address,
        feed=behind.pair.feed_server.address,
        gateway=f"http://{behind.gateway.address}",
    ) as deployment:
        found = [
            tried(check, deployment) for check in (*reflection.CHECKS, *through_gateway.CHECKS)
        ]
        problems = deployment.world.erase()

    assert [each for each in found if each.result is not Result.KEPT] == []
    assert problems == {}


_EXPORTS = [rpc for rpc in RPCS if rpc.name == "ExportUser"]


@pytest.mark.parametrize("rpc", _EXPORTS, ids=str)
def test_an_export_of_ones_own_comes_over_grpc_alone(
    behind: Behind, world: World, rpc: Rpc
) -> None:
    request = rpc.request()
    request.user_id = world.me
    with grpc.insecure_channel(behind.gateway.address) as channel:
        stubs = _Stubs(graph=GraphServiceStub(channel), feed=FeedServiceStub(channel))
        through = list(getattr(getattr(stubs, rpc.service), rpc.name)(request))

    directly = list(getattr(getattr(behind.pair, rpc.service), rpc.name)(request))
    path = f"/{rpc.method.containing_service.full_name}/{rpc.name}"
    assert through == directly != []
    assert behind.gateway.call("POST", path, {}).status == 404


def test_the_command_line_writes_no_line_of_grpc_beside_its_answer(behind: Behind) -> None:
    [user] = behind.people.new(1)
    gateway = f"127.0.0.1:{behind.gateway.port}"

    # A process of its own: gRPC decides what it writes when it is imported.
    answer = subprocess.run(
        [sys.executable, "-m", "kith.cli", "feed", str(user), "--feed", gateway],
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.endswith("This is the end of the feed.\n")
    assert answer.stderr == ""


@pytest.mark.parametrize(
    "rpc",
    [rpc for rpc in RPCS if not is_exposed(rpc.method) and rpc not in _EXPORTS],
    ids=str,
)
def test_a_call_without_a_path_cannot_be_reached_in_any_way(behind: Behind, rpc: Rpc) -> None:
    path = f"/{rpc.method.containing_service.full_name}/{rpc.name}"
    with grpc.insecure_channel(behind.gateway.address) as channel:
        stubs = _Stubs(graph=GraphServiceStub(channel), feed=FeedServiceStub(channel))
        with pytest.raises(grpc.RpcError) as caught:
            rpc.send(stubs, rpc.request())

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert reason_of(caught.value) == "NO_SUCH_PATH"
    assert behind.gateway.call("POST", path, {}).status == 404


@dataclass(frozen=True, kw_only=True)
class _Stubs:
    graph: GraphServiceStub
    feed: FeedServiceStub


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What is asked over HTTP, with the ids of a world in it, and how it is refused."""

    call: str
    body: object = None
    status: int
    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.call} {self.reason}"


_REFUSALS = [
    Refusal(call="GET /v1/users/0/feed", status=400, code=3, reason="INVALID_FIELD"),
    Refusal(call="GET /v1/users/me/feed", status=400, code=3, reason="INVALID_FIELD"),
    Refusal(call="GET /v1/users/{me}/feed?page_sise=3", status=400, code=3, reason="INVALID_FIELD"),
    Refusal(call="GET /v1/users/{me}%2F7/feed", status=400, code=3, reason="INVALID_FIELD"),
    Refusal(
        call="GET /v1/users/{me}/feed?page_token=x", status=400, code=3, reason="INVALID_PAGE_TOKEN"
    ),
    Refusal(
        call="POST /v1/users/{me}/posts",
        body=b'{"body": ',
        status=400,
        code=3,
        reason="INVALID_FIELD",
    ),
    Refusal(
        call="POST /v1/users/{me}/posts",
        body=b"x" * (10 * 1024 * 1024 + 1),
        status=413,
        code=3,
        reason="REQUEST_TOO_LARGE",
    ),
    Refusal(
        call="GET /v1/users/{me}/authors/{me}/posts/999999999",
        status=404,
        code=5,
        reason="POST_NOT_FOUND",
    ),
    Refusal(call="GET /v1/nothing", status=404, code=5, reason="NO_SUCH_PATH"),
    Refusal(call="PUT /v1/users/{me}/feed", status=405, code=5, reason="NO_SUCH_PATH"),
    Refusal(
        call="POST /v1/users/{me}/tags",
        body={"name": "TAG"},
        status=409,
        code=6,
        reason="TAG_NAME_TAKEN",
    ),
    Refusal(
        call="POST /v1/users/{me}/tags/{tag}/members:add",
        body={"targetUserIds": ["1"]},
        status=400,
        code=9,
        reason="NOT_CONNECTED",
    ),
    Refusal(
        call="PATCH /v1/users/{me}/posts/{post}?updateMask=body",
        body={"body": "b", "etag": "an old one"},
        status=409,
        code=10,
        reason="ETAG_MISMATCH",
    ),
]


@pytest.mark.parametrize("refusal", _REFUSALS, ids=str)
def test_every_error_over_http_is_json_with_its_reason(
    behind: Behind, world: World, refusal: Refusal
) -> None:
    verb, path = refusal.call.split()
    ids = {"me": world.me, "tag": world.tag, "post": world.post.post_id}

    answer = behind.gateway.call(verb, path.format(**ids), refusal.body)

    told = (answer.status, answer.json["code"], answer.reason)
    assert told == (refusal.status, refusal.code, refusal.reason)


def test_ids_past_what_javascript_can_count_to_come_as_text(behind: Behind) -> None:
    user_id = 2**53 + 1

    path = f"/v1/users/{user_id}/connections:count"
    answer = behind.gateway.call("POST", path, {"userIds": [str(user_id)]})

    assert answer.json == {"counts": [{"userId": "9007199254740993", "connectionCount": 0}]}


def test_a_page_that_is_larger_than_the_buffers_of_envoy_arrives_whole(behind: Behind) -> None:
    [author] = behind.people.new(1)
    for _ in range(50):
        behind.people.post(author, body="\N{SLIGHTLY SMILING FACE}" * 10_000)

    path = f"/v1/users/{author}/feed?page_size=50"
    answer, head = (behind.gateway.call(method, path) for method in ("GET", "HEAD"))

    assert len(answer.body) > 2_000_000
    assert (head.status, head.body) == (200, b"")
    assert [len(post["body"]) for post in answer.json["posts"]] == [10_000] * 50


def test_a_native_client_gets_answers_and_the_details_of_errors(
    behind: Behind, world: World
) -> None:
    address = behind.gateway.address
    with KithClient.from_environment(graph=address, feed=address) as kith:
        page = kith.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=world.friend))
        with pytest.raises(ResourceNotFoundError) as caught:
            kith.feed.GetPost(feed_pb2.GetPostRequest(user_id=world.me, author_id=7, post_id=7))

    assert [post.post_id for post in page.posts] == [world.post.post_id]
    assert caught.value.reason_name == "POST_NOT_FOUND"


@pytest.mark.parametrize("encoding", ["application/grpc-web+proto", "application/grpc-web-text"])
def test_a_browser_with_grpc_web_gets_answers_and_errors(
    behind: Behind, world: World, encoding: str
) -> None:
    is_text = encoding.endswith("text")

    def call(method: str, request: Message) -> Answer:
        sent = request.SerializeToString()
        framed = struct.pack(">BI", 0, len(sent)) + sent
        return behind.gateway.call(
            "POST",
            f"/kith.feed.v1.FeedService/{method}",
            base64.b64encode(framed) if is_text else framed,
            headers={"content-type": encoding, "accept": encoding, "x-grpc-web": "1"},
        )

    page = call("GetFeed", feed_pb2.GetFeedRequest(user_id=world.friend))
    error = call("GetPost", feed_pb2.GetPostRequest(user_id=world.me, author_id=7, post_id=7))

    body = _from_text(page.body) if is_text else page.body
    _, size = struct.unpack(">BI", body[:5])
    message, trailers = body[5 : 5 + size], body[5 + size :]
    assert feed_pb2.GetFeedResponse.FromString(message).posts[0].post_id == world.post.post_id
    assert trailers[0] == 0x80
    assert b"grpc-status:0" in trailers
    assert (error.status, error.headers["grpc-status"]) == (200, "5")


def _from_text(body: bytes) -> bytes:
    """Decode parts, each of which is padded by itself."""
    return b"".join(base64.b64decode(part) for part in re.findall(rb"[^=]+=*", body))


@pytest.mark.parametrize("protocol", ["grpc", "grpcweb"])
def test_a_foreign_client_calls_by_the_contracts_that_the_gateway_serves(
    behind: Behind, world: World, protocol: str, tmp_path: Path
) -> None:
    contracts = tmp_path / "kith.binpb"
    contracts.write_bytes(behind.gateway.call("GET", "/docs/kith.binpb").body)

    def call(path: str, request: str) -> Ended:
        schema = f"--schema={contracts}"
        return buf_curl(behind.gateway.address, path, schema, "-d", request, protocol=protocol)

    asked = json.dumps({"user_id": world.me, "page_size": 2})
    answer = call("/kith.feed.v1.FeedService/GetFeed", asked)
    refusal = call("/kith.graph.v1.GraphService/CountConnections", '{"user_id": -1}')

    assert (answer.returncode, answer.stderr) == (0, "")
    assert json_format.Parse(answer.stdout, feed_pb2.GetFeedResponse()) == (
        behind.pair.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=world.me, page_size=2))
    )
    assert reason_told(refusal) == "INVALID_FIELD"


@pytest.mark.parametrize("protocol", ["grpc", "grpcweb"])
def test_a_foreign_client_is_told_at_once_that_the_gateway_has_no_reflection(
    behind: Behind, protocol: str
) -> None:
    ended = buf_curl(behind.gateway.address, "", "--list-services", protocol=protocol)

    assert ended.returncode == 1
    assert ended.stderr.startswith("Failure: unimplemented: ")


def test_a_page_of_a_known_origin_may_call_and_another_may_not(behind: Behind) -> None:
    def asked_by(origin: str) -> Answer:
        headers = {"origin": origin, "access-control-request-method": "GET"}
        return behind.gateway.call("OPTIONS", "/v1/users/7/feed", headers=headers)

    allowed = asked_by(_ORIGIN)
    refused = asked_by("https://other.example")

    assert allowed.headers["access-control-allow-origin"] == _ORIGIN
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in refused.headers


def test_a_call_that_takes_too_long_ends_with_its_deadline_whoever_has_set_it(
    behind: Behind, tmp_path: Path
) -> None:
    pair, path = behind.pair, f"/v1/users/{behind.people.new(1)[0]}/feed"
    with (
        # One of its own: on a busy machine other calls take as long as this.
        running_gateway(
            tmp_path,
            graph=pair.graph_server.address,
            feed=pair.feed_server.address,
            environment={"GATEWAY_TIMEOUT_SECONDS": "0.5"},
        ) as gateway,
        Session(pair.feed_url) as session,
    ):
        session.rows("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
        answers = [
            gateway.call("GET", path, headers=headers) for headers in ({}, {"grpc-timeout": "300m"})
        ]

    # Whether the service or gRPC itself says so first, and with which details, is not certain.
    code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert [(answer.status, answer.json["code"]) for answer in answers] == [(504, code)] * 2


def test_a_call_keeps_its_request_id_and_its_trace_on_the_way(behind: Behind) -> None:
    headers = {"x-request-id": "from-outside-1", "traceparent": _TRACE}

    answer = behind.gateway.call("GET", "/v1/users/0/feed?page_token=secret", headers=headers)

    line = behind.gateway.logged("from-outside-1")
    assert answer.headers["x-request-id"] == "from-outside-1"
    assert line["traceparent"] == _TRACE
    assert (line["http_path"], line["http_status"]) == ("/v1/users/0/feed", 400)
    assert line["grpc_path"] == "/kith.feed.v1.FeedService/GetFeed"


def test_a_trace_leads_from_the_gateway_into_both_databases(behind: Behind, world: World) -> None:
    path = f"/v1/users/{world.me}/feed"

    def is_traced() -> bool:
        answer = behind.gateway.call("GET", path, headers={"traceparent": _TRACE})
        assert answer.status == 200
        # The next call, such as a readiness check, uses the same session.
        urls = (behind.pair.feed_url, behind.pair.graph_url)
        return all(any(_TRACE in text for text in last_statements(url)) for url in urls)

    until(is_traced)


def test_spans_of_the_gateway_and_both_services_make_one_tree(
    databases: Databases, tmp_path: Path
) -> None:
    with collecting() as (collector, address):
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": address}
        with running_pair(databases, traced) as pair:
            targets = {"graph": pair.graph_server.address, "feed": pair.feed_server.address}
            with running_gateway(tmp_path, **targets, environment=traced) as gateway:
                answer = gateway.call("GET", "/v1/users/1/feed", headers={"traceparent": _TRACE})
                until(lambda: len(collector.of_service("gateway")) >= 2)
        spans = collector.of_trace(_TRACE.split("-")[1])

    def below(above: Received, service: str) -> list[Received]:
        return [each for each in collector.below(above) if each.service == service]

    assert answer.status == 200
    [arrived] = [each for each in spans if each.span.parent_span_id.hex() == _TRACE.split("-")[2]]
    assert arrived.service == "gateway"
    [attempt] = below(arrived, "gateway")
    [page] = below(attempt, "feed_service")
    assert page.span.name == "kith.feed.v1.FeedService/GetFeed"
    asked, *_ = [each for each in below(page, "feed_service") if "rpc.service" in each.attributes]
    [answered] = below(asked, "graph_service")
    assert "db.system.name" in below(answered, "graph_service")[0].attributes


def test_metrics_are_served_and_nothing_else_of_the_page_that_could_stop_it(
    behind: Behind,
) -> None:
    port = behind.gateway.metrics_port
    assert behind.gateway.call("GET", "/v1/users/1/connections").status == 200

    page = behind.gateway.call("GET", "/metrics", port=port).body.decode()

    assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="graph_service"}' in page
    assert behind.gateway.call("POST", "/quitquitquit", port=port).status == 404


def test_a_host_that_stops_is_left_out_and_taken_in_again_without_a_failed_call(
    behind: Behind, tmp_path: Path
) -> None:
    pair, path = behind.pair, f"/v1/users/{behind.people.new(1)[0]}/feed"
    with ExitStack() as gateways:
        # Such a service tells its clients to go, and stops when they have gone.
        with another_feed(pair, {"MAX_CONNECTION_AGE_SECONDS": "1"}) as (second, _):
            gateway = gateways.enter_context(
                running_gateway(
                    tmp_path,
                    graph=pair.graph_server.address,
                    feed=f"{pair.feed_server.address},{second.address}",
                )
            )
            until(lambda: gateway.healthy("feed_service") == 2)
            calls = gateways.enter_context(_calling(gateway, path))
        until(lambda: gateway.healthy("feed_service") == 1)
        with another_feed(pair, {"FEED_PORT": str(second.port)}):
            until(lambda: gateway.healthy("feed_service") == 2)
            until(lambda: len(calls) > 20)
            assert set(calls) == {200}


def test_calls_are_told_that_a_service_cannot_be_reached_until_it_can(
    behind: Behind, tmp_path: Path
) -> None:
    pair, path = behind.pair, f"/v1/users/{behind.people.new(1)[0]}/feed"
    with ExitStack() as gateways:
        with another_feed(pair) as (only, _):
            gateway = gateways.enter_context(
                running_gateway(tmp_path, graph=pair.graph_server.address, feed=only.address)
            )
        answer = gateway.call("GET", path)
        with (
            grpc.insecure_channel(gateway.address) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            FeedServiceStub(channel).GetFeed(feed_pb2.GetFeedRequest(user_id=1))
        with another_feed(pair, {"FEED_PORT": str(only.port)}):
            until(lambda: gateway.call("GET", path).status == 200)

    assert (answer.status, answer.json["code"], answer.reason) == (503, 14, "SERVICE_UNREACHABLE")
    assert answer.headers["retry-after"] == "1"
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(refused.value) == "SERVICE_UNREACHABLE"


@pytest.mark.parametrize("path", ["/v1/users/17/feed", "/console", "/nothing"])
def test_a_request_has_one_host(behind: Behind, path: str) -> None:
    for second in ("Host: a", "HOST: b.localhost"):
        answer = behind.gateway.answer(f"GET {path} HTTP/1.1\r\nHost: a\r\n{second}".encode())

        assert (answer.status, answer.reason) == (400, "INVALID_FIELD")
        assert answer.json["message"] == "a request has one host"


def test_natively_too_a_request_has_one_host(behind: Behind) -> None:
    options = [("grpc.default_authority", "a,b")]
    with grpc.insecure_channel(behind.gateway.address, options) as channel:
        call = FeedServiceStub(channel).ListTags.future(feed_pb2.ListTagsRequest(user_id=17))

        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert call.details() == "a request has one host"


@pytest.mark.parametrize("variable", ["GATEWAY_PORT", "GATEWAY_METRICS_PORT", "GATEWAY_ADMIN_PORT"])
def test_a_gateway_shares_no_port_with_another_but_says_which_one_is_taken(
    behind: Behind, tmp_path: Path, variable: str
) -> None:
    own = ("GATEWAY_PORT", "GATEWAY_METRICS_PORT", "GATEWAY_ADMIN_PORT")
    ports = dict(zip(own, free_ports(3), strict=True))
    ports[variable] = behind.gateway.port

    answer = run(
        "shared.cli",
        {"KITH_DATA_DIR": str(tmp_path), **{name: str(port) for name, port in ports.items()}},
        "gateway",
    )

    assert answer.returncode == 1
    assert answer.stdout == (
        f"kith: cannot listen on 127.0.0.1:{behind.gateway.port} (Address already in use): stop "
        f"the process that uses it, or choose another port with {variable}\n"
    )


def test_a_gateway_that_is_told_to_stop_answers_what_it_has_been_asked(
    behind: Behind, tmp_path: Path
) -> None:
    pair, [user] = behind.pair, behind.people.new(1)
    graph, feed = pair.graph_server.address, pair.feed_server.address
    with (
        running_gateway(tmp_path, graph=graph, feed=feed) as gateway,
        Session(pair.feed_url) as session,
        ThreadPoolExecutor() as threads,
    ):
        session.rows("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
        answer = threads.submit(gateway.call, "GET", f"/v1/users/{user}/feed")
        until(lambda: bool(session.waiting()))
        gateway.process.terminate()
        until(lambda: gateway.call("GET", "/healthz").status == 503)
        session.commit()

        assert answer.result().status == 200
        assert gateway.process.wait(30) == 0


@contextmanager
def _calling(gateway: Gateway, path: str) -> Iterator[list[int]]:
    """Make calls one after the other meanwhile; yields the statuses of their answers."""
    statuses: list[int] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            statuses.append(gateway.call("GET", path).status)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A gateway and services that know their callers, and issuers they believe and do not."""

    gateway: Gateway
    pair: SecuredPair
    issuer: Issuer
    stranger: Issuer
    authority: Authority
    folder: Path

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client believes that calls the gateway."""
        return ssl.create_default_context(cadata=self.authority.certificate.decode())


@pytest.fixture(scope="module")
def guarded(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Everything encrypted: from callers to the gateway, and from there to the services."""
    folder, elsewhere = tmp_path_factory.mktemp("guarded"), tmp_path_factory.mktemp("elsewhere")
    issuer, stranger, authority = Issuer(folder), Issuer(elsewhere), Authority("kith")
    issuer.add_key("first")
    stranger.add_key("first")
    (folder / "ca.crt").write_bytes(authority.certificate)
    served = _certificates(authority, folder, "services", "TLS")
    shown = _certificates(authority, folder, "gateway", "TARGET")
    facing = _certificates(authority, folder, "facing", "TLS")
    target = {"TARGET_CA_FILE": str(folder / "ca.crt")}
    service = {**issuer.environment, **served, "TLS_CLIENT_CA_FILE": str(folder / "ca.crt")}
    feed = {**service, **target, **_certificates(authority, folder, "feed", "TARGET")}
    feed["AUTH_SERVICES"] = service["AUTH_SERVICES"] = f"feed; {_PROBER}"
    with (
        secured_pair(databases, graph=service, feed=feed) as pair,
        running_gateway(
            folder,
            graph=pair.graph_server.address,
            feed=pair.feed_server.address,
            environment={**issuer.environment, **target, **shown, **facing},
        ) as gateway,
    ):
        yield Guarded(
            gateway=gateway,
            pair=pair,
            issuer=issuer,
            stranger=stranger,
            authority=authority,
            folder=folder,
        )


def _certificates(authority: Authority, folder: Path, name: str, prefix: str) -> dict[str, str]:
    chain, key = authority.issue(name).write(folder, name)
    return {f"{prefix}_CERT_FILE": str(chain), f"{prefix}_KEY_FILE": str(key)}


def _tokens(guarded: Guarded, user_id: int) -> Mapping[str, str]:
    """Return what is not believed, by what is wrong with it."""
    issuer, hour = guarded.issuer, 3600
    return {
        "expired": issuer.token(user_id, exp=time.time() - hour),
        "never ending": issuer.token(user_id, exp=None),
        "not yet good": issuer.token(user_id, nbf=time.time() + hour),
        "for another audience": issuer.token(user_id, aud="another"),
        "by another issuer": issuer.token(user_id, iss="https://other.test"),
        "wrongly signed": guarded.stranger.token(user_id),
        "changed": issuer.token(7).rpartition(".")[0] + "." + issuer.token(user_id).split(".")[2],
        "no token": "made-up",
    }


_WRONG = (
    "expired",
    "never ending",
    "not yet good",
    "for another audience",
    "by another issuer",
    "wrongly signed",
    "changed",
    "no token",
)


def _native(guarded: Guarded, user_id: int, metadata: Metadata) -> tuple[grpc.StatusCode, str]:
    """Return the code of a call over gRPC, and the reason of its error."""
    request = feed_pb2.ListPostsRequest(user_id=user_id, author_id=user_id)
    credentials = guarded.authority.credentials()
    with grpc.secure_channel(guarded.gateway.address, credentials) as channel:
        call = FeedServiceStub(channel).ListPosts.future(request, metadata=metadata)
        error = call.exception()
        return call.code(), reason_of(error) if error else ""


def _over_tls(guarded: Guarded, path: str, token: str | None = None) -> Answer:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return guarded.gateway.call("GET", path, headers=headers, trust=guarded.trust)


def test_who_shows_a_good_token_gets_in_as_that_user_and_as_nobody_else(guarded: Guarded) -> None:
    token = guarded.issuer.token(17)

    own = _over_tls(guarded, "/v1/users/17/authors/17/posts", token)
    other = _over_tls(guarded, "/v1/users/18/authors/18/posts", token)

    assert own.status == 200
    assert (other.status, other.reason) == (403, "NOT_PERMITTED")
    assert _native(guarded, 17, bearer(token)) == (grpc.StatusCode.OK, "")
    assert _native(guarded, 18, bearer(token)) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "NOT_PERMITTED",
    )


def test_a_client_that_asks_for_health_first_gets_in(guarded: Guarded) -> None:
    """The service config of each contract lets every client do so, without a token."""
    request = feed_pb2.ListPostsRequest(user_id=17, author_id=17)
    target, credentials = guarded.gateway.address, guarded.authority.credentials()
    with grpc.secure_channel(target, credentials, client_options("feed", waits=False)) as channel:
        call = FeedServiceStub(channel).ListPosts.future(
            request, metadata=bearer(guarded.issuer.token(17))
        )

        assert (call.code(), call.details()) == (grpc.StatusCode.OK, "")


@pytest.mark.parametrize("what", _WRONG)
def test_a_token_that_is_not_good_gets_in_nowhere(guarded: Guarded, what: str) -> None:
    token = _tokens(guarded, 17)[what]

    answer = _over_tls(guarded, "/v1/users/17/authors/17/posts", token)

    expected = "TOKEN_EXPIRED" if what == "expired" else "UNAUTHENTICATED"
    assert (answer.status, answer.json["code"], answer.reason) == (401, 16, expected)
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert _native(guarded, 17, bearer(token)) == (grpc.StatusCode.UNAUTHENTICATED, expected)


def test_without_a_token_only_health_is_told(guarded: Guarded) -> None:
    token = guarded.issuer.token(17)

    answers = [
        _over_tls(guarded, "/v1/users/17/authors/17/posts"),
        _over_tls(guarded, f"/v1/users/17/authors/17/posts?access_token={token}"),
        _over_tls(guarded, "/v1/users/17/connections:count"),
        _over_tls(guarded, "/nothing"),
    ]

    assert {(answer.status, answer.reason) for answer in answers} == {(401, "UNAUTHENTICATED")}
    assert _native(guarded, 17, ()) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert _over_tls(guarded, "/healthz").status == 200


# What the gateway answers to a request with these headers.
_SPELLINGS = {
    "Authorization: Bearer {}": 200,
    "authorization: bearer {}": 200,
    "AUTHORIZATION:BEARER   {} \t": 200,
    "Authorization: Bearer\t{}": 401,
    "Authorization: Bearer{}": 401,
    "Authorization: {}": 401,
    "Authorization: Bearer": 401,
    "Authorization:": 401,
    "Authorization: Basic {}": 401,
    "Authorization: Bearer {0}, Bearer {0}": 401,
    "Authorization: Bearer {0}\r\nAuthorization: Bearer {0}": 401,
    "Authorization: Basic MTc6\r\nAuthorization: Bearer {0}": 401,
    "Authorization: Bearer \xa0{}": 401,
    "Authorization: Bearer {}\xff": 401,
    "Proxy-Authorization: Bearer {}": 401,
}


def test_a_token_is_taken_as_http_lets_clients_spell_it_and_not_otherwise(guarded: Guarded) -> None:
    token, head = (
        guarded.issuer.token(17),
        "GET /v1/users/17/authors/17/posts HTTP/1.1\r\nHost: a\r\n",
    )
    answers = {
        spelling: guarded.gateway.answer(
            f"{head}{spelling.format(token)}".encode("latin-1"), trust=guarded.trust
        )
        for spelling in _SPELLINGS
    }

    assert {spelling: answer.status for spelling, answer in answers.items()} == _SPELLINGS
    refused = [answer for answer in answers.values() if answer.status == 401]
    assert {(answer.json["code"], answer.reason) for answer in refused} == {(16, "UNAUTHENTICATED")}
    assert {answer.headers.get("www-authenticate", "")[:7] for answer in refused} == {"Bearer "}


def test_natively_a_token_is_spelled_as_over_http(guarded: Guarded) -> None:
    token = guarded.issuer.token(17)
    spellings: dict[Metadata, str] = {
        (("authorization", f"BEARER   {token}"),): "",
        (("authorization", f"Basic {token}"),): "UNAUTHENTICATED",
        (("authorization-bin", token.encode()),): "UNAUTHENTICATED",
        (("authorization-bin", token.encode()), *bearer(token)): "UNAUTHENTICATED",
        (*bearer(token), *bearer(token)): "UNAUTHENTICATED",
    }

    assert {shown: _native(guarded, 17, shown)[1] for shown in spellings} == spellings


def test_the_log_names_the_user_and_holds_no_token(guarded: Guarded) -> None:
    token = guarded.issuer.token(4711)

    answer = _over_tls(guarded, "/v1/users/4711/authors/4711/posts", token)

    assert guarded.gateway.logged(answer.headers["x-request-id"])["caller"] == "4711"
    assert token.split(".")[2] not in guarded.gateway.output.read_text()


def test_keys_and_certificates_are_exchanged_while_it_runs(guarded: Guarded) -> None:
    other, path = Authority("other"), "/v1/users/17/authors/17/posts"
    guarded.issuer.add_key("second")
    _certificates(other, guarded.folder, "facing", "TLS")
    headers = {"authorization": f"Bearer {guarded.issuer.token(17)}"}

    def status(authority: Authority) -> int:
        trust = ssl.create_default_context(cadata=authority.certificate.decode())
        with suppress(ssl.SSLError):
            return guarded.gateway.call("GET", path, headers=headers, trust=trust).status
        return 0

    until(lambda: status(other) != 0)
    until(lambda: status(other) == 200)
    # As other tests expect it.
    _certificates(guarded.authority, guarded.folder, "facing", "TLS")
    until(lambda: status(guarded.authority) == 200)


def test_a_deployment_with_tls_and_tokens_keeps_all_promises(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reflection of such a deployment is off."""
    token = guarded.folder / "prober"
    put(token, guarded.issuer.token("prober").encode())
    shown = {
        "TARGET_CA_FILE": str(guarded.folder / "ca.crt"),
        "TARGET_TOKEN_FILE": str(token),
        **_certificates(guarded.authority, guarded.folder, "prober", "TARGET"),
    }
    for name, value in shown.items():
        monkeypatch.setenv(name, value)

    status = main(
        [
            *("conformance", "--json", f"--gateway=https://{guarded.gateway.address}"),
            f"--graph={guarded.pair.graph_server.address}",
            f"--feed={guarded.pair.feed_server.address}",
        ]
    )

    findings = json.loads(capsys.readouterr().out)["findings"]
    others = [found for found in findings if found["result"] != "kept"]
    assert [found for found in others if found["area"] != "reflection"] == []
    assert {found["result"] for found in others} == {"not tried"}
    assert status == 0


def test_nothing_but_public_keys_is_published(guarded: Guarded) -> None:
    file = guarded.issuer.jwks
    former: list[dict[str, str]] = json.loads(file.read_bytes())["keys"]
    noted = {**former[0], "kid": "noted", "note": "hidden"}
    leaked = {**former[0], "kid": "leaked", "d": "hidden"}
    # Envoy reads its keys every few seconds, so nobody's tokens are signed by a new one.
    after = {**former[0], "kid": "after the leak"}
    published: list[bytes] = []

    def has_published(key_id: str) -> bool:
        url = f"http://127.0.0.1:{guarded.gateway.metrics_port}/signing-keys"
        with urllib.request.urlopen(url) as response:
            published.append(response.read())
        return key_id in {key["kid"] for key in json.loads(published[-1])["keys"]}

    put(file, json.dumps({"keys": [*former, noted]}).encode())
    until(lambda: has_published("noted"))
    put(file, json.dumps({"keys": [*former, leaked]}).encode())
    # With the reason, of which key is at fault and why.
    until(lambda: "is secret (d)" in guarded.gateway.output.read_text())
    assert has_published("noted")
    put(file, json.dumps({"keys": [*former, after]}).encode())
    until(lambda: has_published("after the leak"))

    assert not [document for document in published if b"hidden" in document]


def test_keys_are_fetched_from_whoever_shows_the_certificate_for_it(
    behind: Behind, tmp_path: Path
) -> None:
    issuer, authority = Issuer(tmp_path), Authority("web")
    issuer.add_key("first")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    port = behind.pair.graph_server.port
    with (
        _serving(tmp_path, authority.issue("localhost").write(tmp_path, "web")) as url,
        running_gateway(
            tmp_path,
            graph=f"localhost:{port}",
            feed=behind.pair.feed_server.address,
            environment={
                **issuer.environment,
                "AUTH_JWKS": f"{url}/{issuer.jwks.name}",
                "SSL_CERT_FILE": str(tmp_path / "ca.crt"),
            },
        ) as gateway,
    ):

        def status(token: str) -> int:
            headers = {"authorization": f"Bearer {token}"}
            return gateway.call("GET", "/v1/users/17/connections", headers=headers).status

        until(lambda: status(issuer.token(17)) == 200)
        assert status("made-up") == 401


@contextmanager
def _serving(folder: Path, certificate: tuple[Path, Path]) -> Iterator[str]:
    """Serve the files in a folder by HTTPS; yields the URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_address[1]}"
        server.shutdown()


_REFUSED = [
    ({"TARGET_CERT_FILE": "c", "TARGET_KEY_FILE": "k", "TARGET_CA_FILE": "ca"}, "AUTH_JWKS"),
    ({"GATEWAY_HOST": "0.0.0.0"}, "ALLOW_UNAUTHENTICATED"),  # noqa: S104 -- it must not get so far
    ({"GRAPH_TARGET": "graph_service"}, "GRAPH_TARGET"),
    ({"GATEWAY_HOST": "localhost"}, "GATEWAY_HOST"),
]


@pytest.mark.parametrize(("variables", "named"), _REFUSED)
def test_settings_that_cannot_be_or_would_let_strangers_in_are_refused(
    tmp_path: Path, variables: Mapping[str, str], named: str
) -> None:
    authority = Authority("kith")
    shown = authority.issue("gateway")
    for name, content in {"c": shown.chain, "k": shown.key, "ca": authority.certificate}.items():
        (tmp_path / name).write_bytes(content)
    files = {name: str(tmp_path / value) for name, value in variables.items() if "FILE" in name}

    with pytest.raises(SettingsError, match=named):
        GatewaySettings.read({**variables, **files})


def test_the_admin_page_is_on_the_loopback_address_whatever_the_gateway_listens_on() -> None:
    settings = GatewaySettings.read(
        {"GATEWAY_HOST": "0.0.0.0", "ALLOW_UNAUTHENTICATED": "on"}  # noqa: S104 -- not listened on
    )

    start, *_ = configuration(settings)

    assert start["static_resources"]["listeners"][0]["address"]["socket_address"] == {
        "address": "0.0.0.0",  # noqa: S104 -- as set
        "port_value": 8080,
    }
    assert start["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
