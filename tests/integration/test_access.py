"""No caller makes a call that is not for them, with any credentials; tried with every call."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from feed_service.access import ACCESS as FEED_ACCESS
from graph_service.__main__ import build as build_graph
from graph_service.access import ACCESS as GRAPH_ACCESS
from graph_service.settings import GraphSettings
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.graph.v1.fence_keeper_pb2 import IdentifyRequest
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.access.rules import Admits
from shared.server.server import RunningServer
from tests.support.credentials import Issuer, put
from tests.support.errors import decoded, reason_of, refusal, succeeds
from tests.support.http2 import Header, status_over_grpc
from tests.support.pair import ENVIRONMENT, Databases
from tests.support.people import PRIVATE
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.rpcs import RPCS, Rpc
from tests.support.secured import Clients, SecuredPair, bearer, secured_pair

_USER, _OTHER = 17, 18
_SERVICES = "feed,importer"
_LIST = graph_pb2.ListConnectionsRequest(user_id=_USER)
_CALLERS = 4
_FENCES_PORT = free_port()


@pytest.fixture(scope="module")
def secured(databases: Databases, issuer: Issuer) -> Iterator[SecuredPair]:
    """Both services; callers show tokens."""
    token = _write_token_of_feed(issuer)
    graph = {**issuer.environment, "AUTH_SERVICES": _SERVICES}
    feed = {**graph, "TARGET_TOKEN_FILE": str(token), "FENCES_PORT": str(_FENCES_PORT)}
    with secured_pair(databases, graph=graph, feed=feed) as pair:
        yield pair


def _write_token_of_feed(issuer: Issuer) -> Path:
    path = issuer.jwks.parent / "feed.token"
    put(path, f"{issuer.token('feed')}\n".encode())
    return path


@pytest.fixture(scope="module")
def clients(secured: SecuredPair) -> Iterator[Clients]:
    """Clients that show nothing of themselves."""
    with secured.clients() as clients:
        yield clients


def _admits(rpc: Rpc) -> Admits:
    return (GRAPH_ACCESS if rpc.service == "graph" else FEED_ACCESS)[rpc.name].admits


def _outcome(
    clients: Clients, rpc: Rpc, metadata: tuple[tuple[str, str], ...], user_id: int = _USER
) -> str:
    """Return the reason for which a call on behalf of the user fails; empty for none."""
    request = rpc.request()
    if "user_id" in request.DESCRIPTOR.fields_by_name:
        request.user_id = user_id
    try:
        rpc.send(clients, request, metadata=metadata, messages=1)
    except grpc.RpcError as error:
        return reason_of(error)
    return ""


def _is_in(outcome: str) -> bool:
    # The graph erases the user before the feed is called.
    let_in = {"", "INVALID_FIELD"}
    return outcome in let_in or outcome.endswith("_NOT_FOUND")


def _unsigned(issuer: Issuer) -> str:
    _, claims, _ = issuer.token(_USER).split(".")
    return f"{_header('none')}.{claims}."


def _signed_with_the_public_key(issuer: Issuer) -> str:
    _, claims, _ = issuer.token(_USER).split(".")
    signed = f"{_header('HS256')}.{claims}"
    signature = hmac.digest(issuer.public_key(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_encoded(signature)}"


def _with_claims_of_another(issuer: Issuer) -> str:
    header, _, signature = issuer.token(_OTHER).split(".")
    _, claims, _ = issuer.token(_USER).split(".")
    return f"{header}.{claims}.{signature}"


def _from_an_impostor(issuer: Issuer) -> str:
    impostor = Issuer(issuer.jwks.parent / "nowhere", issuer.name)
    impostor.jwks.parent.mkdir(exist_ok=True)
    impostor.add_key("first")
    return impostor.token(_USER)


def _header(algorithm: str) -> str:
    return _encoded(json.dumps({"alg": algorithm, "kid": "first", "typ": "JWT"}).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


_BAD_TOKENS: dict[str, Callable[[Issuer], str]] = {
    "signed by somebody else": _from_an_impostor,
    "unsigned": _unsigned,
    "signed with the public key as a secret": _signed_with_the_public_key,
    "with another token's signature": _with_claims_of_another,
    "for another audience": lambda issuer: issuer.token(_USER, aud="elsewhere"),
    "for no audience": lambda issuer: issuer.token(_USER, aud=None),
    "of another issuer": lambda issuer: issuer.token(_USER, iss="https://elsewhere.test"),
    "of no issuer": lambda issuer: issuer.token(_USER, iss=None),
    "without an end": lambda issuer: issuer.token(_USER, exp=None),
    "with an end past all numbers": lambda issuer: issuer.token(_USER, exp=float("inf")),
    "not valid yet": lambda issuer: issuer.token(_USER, nbf=time.time() + 60),
    "of an unknown key": lambda issuer: issuer.token(_USER, headers={"kid": "unheard of"}),
    "of nobody": lambda issuer: issuer.token(_USER, sub=None),
    "of user 0": lambda issuer: issuer.token(0),
    "of a user past all ids": lambda issuer: issuer.token(2**63),
    "of user 17 in another script": lambda issuer: issuer.token("\u0661\u0667"),
    "of an unknown service": lambda issuer: issuer.token("scorer"),
    "that is none": lambda _issuer: "x.y.z",
    "that is empty": lambda _issuer: "",
}
_BAD_HEADERS: dict[str, Callable[[Issuer], tuple[tuple[str, str], ...]]] = {
    "nothing": lambda _issuer: (),
    "a password": lambda _issuer: (("authorization", "Basic MTc6aGlkZGVu"),),
    "a token without its kind": lambda issuer: (("authorization", issuer.token(_USER)),),
    "two tokens": lambda issuer: bearer(issuer.token(_USER)) * 2,
    "a token elsewhere": lambda issuer: (("x-user", "17"), ("x-token", issuer.token(_USER))),
}


@pytest.mark.parametrize("kind", _BAD_TOKENS)
def test_a_bad_token_opens_no_call(clients: Clients, issuer: Issuer, kind: str) -> None:
    shown = bearer(_BAD_TOKENS[kind](issuer))

    assert {_outcome(clients, rpc, shown) for rpc in RPCS} == {"UNAUTHENTICATED"}


@pytest.mark.parametrize("kind", _BAD_HEADERS)
def test_who_shows_no_token_makes_no_call(clients: Clients, issuer: Issuer, kind: str) -> None:
    shown = _BAD_HEADERS[kind](issuer)

    assert {_outcome(clients, rpc, shown) for rpc in RPCS} == {"UNAUTHENTICATED"}


# How a token may be written after `authorization:`, by RFC 9110 (11.4) and RFC 6750 (2.1).
_SPELLINGS = [
    "Bearer {}",
    "bearer {}",
    "BEARER {}",
    "bEaReR   {}",
    "Bearer {}  ",
    "  Bearer {}",
    "Bearer {}\t",
]
_MISSPELLINGS = [
    "",
    " ",
    "{}",
    "Bearer",
    "Bearer ",
    "Bearer{}",
    "Bearer\t{}",
    "Bearer \t{}",
    "Bearer:{}",
    "Bearer \u00a0{}",
    "Bearer\u00a0{}",
    "Bearer {}\u00a0",
    "Bearer {}\u00e9",
    "Bearer {}\udcff",
    "Bearer {}\0",
    "Bearer {}\r\n",
    "\nBearer {}",
    "Bearer {}=",
    "Bearer {},",
    'Bearer "{}"',
    "Bearer token={}",
    "Bearer {0} {0}",
    "Bearer {0}, Bearer {0}",
    "Bearer {}, Basic MTc6aGlkZGVu",
    "Basic {}",
    "Basic MTc6aGlkZGVu, Bearer {}",
    "Token {}",
    "Bearer {}" + "x" * 8_000,
]


def _spelled(spelling: str, token: str) -> Header:
    return "authorization", spelling.format(token).encode(errors="surrogateescape")


def _reason(port: int, *shown: Header) -> str:
    """Return the reason for which a call of the user is refused, or nothing if it is let in."""
    path, request = "/kith.graph.v1.GraphService/ListConnections", _LIST.SerializeToString()
    code, details = status_over_grpc(port, path, request, *shown)
    status = status_pb2.Status.FromString(details)
    assert code == str(status.code), (code, status)
    info = error_details_pb2.ErrorInfo()
    return info.reason if any(detail.Unpack(info) for detail in status.details) else ""


def test_a_token_is_taken_as_http_lets_clients_spell_it(
    secured: SecuredPair, issuer: Issuer
) -> None:
    port, token = secured.graph_server.port, issuer.token(_USER)

    outcomes = {each: _reason(port, _spelled(each, token)) for each in _SPELLINGS}

    assert outcomes == dict.fromkeys(_SPELLINGS, "")


def test_a_token_that_is_spelled_otherwise_is_refused(secured: SecuredPair, issuer: Issuer) -> None:
    port, token = secured.graph_server.port, issuer.token(_USER)
    two = [_spelled(each, token) for each in ("Bearer {}", "Bearer {}")]
    binary = "authorization-bin", base64.b64encode(f"Bearer {token}".encode())

    outcomes = {each: _reason(port, _spelled(each, token)) for each in _MISSPELLINGS}

    assert outcomes == dict.fromkeys(_MISSPELLINGS, "UNAUTHENTICATED")
    assert _reason(port, *two) == "UNAUTHENTICATED"
    assert _reason(port, *reversed([two[0], ("authorization", "Basic MTc6")])) == "UNAUTHENTICATED"
    assert _reason(port, binary) == "UNAUTHENTICATED"
    assert _reason(port, two[0], binary) == "UNAUTHENTICATED"


def test_no_caller_fills_the_log_with_headers_that_cannot_be_read(
    secured: SecuredPair, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    port, token = secured.graph_server.port, issuer.token(_USER)

    outcomes = [_reason(port, _spelled("Bearer {}\udcff", token)) for _ in range(3)]

    assert outcomes == ["UNAUTHENTICATED"] * 3
    logged = [record for record in caplog.records if record.name.startswith("grpc")]
    # The line of this minute may have come before.
    assert len(logged) <= 1
    assert not [record for record in logged if record.exc_info]
    assert token not in caplog.text


def test_an_expired_token_opens_no_call_and_is_told_apart(clients: Clients, issuer: Issuer) -> None:
    shown = bearer(issuer.token(_USER, exp=time.time() - 6))

    assert {_outcome(clients, rpc, shown) for rpc in RPCS} == {"TOKEN_EXPIRED"}


def test_clocks_may_differ_by_the_leeway(clients: Clients, issuer: Issuer) -> None:
    def is_let_in() -> bool:
        shown = bearer(issuer.token(_USER, exp=time.time() - 1))
        return succeeds(lambda: _list(clients, shown))

    # The leeway is 5 seconds, and a busy machine may take longer for one call.
    until(is_let_in)


def test_a_token_that_was_believed_before_is_not_once_it_has_expired(
    clients: Clients, issuer: Issuer
) -> None:
    request = graph_pb2.ListConnectionsRequest(user_id=_USER)
    shown: tuple[tuple[str, str], ...] = ()

    def is_let_in() -> bool:
        nonlocal shown
        # With the leeway of 5 seconds it has one to live.
        shown = bearer(issuer.token(_USER, exp=time.time() - 4))
        return succeeds(lambda: _list(clients, shown))

    until(is_let_in)

    def is_refused() -> bool:
        try:
            clients.graph.ListConnections(request, metadata=shown)
        except grpc.RpcError as error:
            return reason_of(error) == "TOKEN_EXPIRED"
        return False

    until(is_refused)


def test_another_users_token_opens_no_call_for_the_user(clients: Clients, issuer: Issuer) -> None:
    shown = bearer(issuer.token(_OTHER))
    outcomes = {_outcome(clients, rpc, shown) for rpc in RPCS}

    assert outcomes == {"NOT_PERMITTED"}


def test_ones_own_token_opens_what_is_for_users_and_nothing_else(
    clients: Clients, issuer: Issuer
) -> None:
    shown = bearer(issuer.token(_USER))
    outcomes = {rpc: _outcome(clients, rpc, shown) for rpc in RPCS}

    is_for_users = {rpc: _admits(rpc) is not Admits.SERVICES for rpc in RPCS}
    assert {rpc: _is_in(outcome) for rpc, outcome in outcomes.items()} == is_for_users
    assert {outcomes[rpc] for rpc in RPCS if not is_for_users[rpc]} == {"NOT_PERMITTED"}


def test_a_service_may_make_every_call_for_every_user(clients: Clients, issuer: Issuer) -> None:
    shown = bearer(issuer.token("importer"))

    # Each for somebody else: the feed learns a little later whose suspension has ended. The empty
    # chunk of an import is let in as well, and found empty.
    outcomes = {
        rpc: _outcome(clients, rpc, shown, user_id) for user_id, rpc in enumerate(RPCS, 1_000)
    }

    assert {rpc: outcome for rpc, outcome in outcomes.items() if not _is_in(outcome)} == {}


@pytest.mark.usefixtures("secured")
def test_the_port_of_fences_is_for_services_alone(issuer: Issuer) -> None:
    callers = {
        "nobody": (),
        "user": bearer(issuer.token(_USER)),
        "service": bearer(issuer.token("importer")),
    }
    with grpc.insecure_channel(f"127.0.0.1:{_FENCES_PORT}") as channel:
        keeper = FenceKeeperServiceStub(channel)
        refusals = {
            name: refusal(partial(keeper.Identify, metadata=shown), IdentifyRequest())
            for name, shown in callers.items()
        }

    assert refusals == {"nobody": "UNAUTHENTICATED", "user": "NOT_PERMITTED", "service": ""}


def test_a_refusal_does_not_tell_what_was_wrong(clients: Clients, issuer: Issuer) -> None:
    answers = set()
    for make in _BAD_TOKENS.values():
        with pytest.raises(grpc.RpcError) as caught:
            clients.graph.GetConnection(
                graph_pb2.GetConnectionRequest(), metadata=bearer(make(issuer))
            )
        answers.add((decoded(caught.value).message, *decoded(caught.value).metadata))

    assert len(answers) == 1


def test_a_call_without_a_rule_is_for_nobody(databases: Databases, issuer: Issuer) -> None:
    settings = GraphSettings.read(
        {
            **ENVIRONMENT,
            **issuer.environment,
            "AUTH_SERVICES": _SERVICES,
            "GRAPH_DATABASE_URL": databases.new("graph"),
        }
    )
    service = replace(build_graph(settings, settings.database.url), access={})
    server = RunningServer(settings.server, service)
    try:
        with (
            grpc.insecure_channel(server.address) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            GraphServiceStub(channel).CountConnections(
                graph_pb2.CountConnectionsRequest(user_ids=[1]),
                metadata=bearer(issuer.token("importer")),
            )
    finally:
        server.stop()

    assert reason_of(caught.value) == "NOT_PERMITTED"


def test_health_answers_everybody_and_the_contracts_are_not_told(clients: Clients) -> None:
    for channel in (clients.graph_channel, clients.feed_channel):
        health = HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(service="live")).status == 1
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            list(ServerReflectionStub(channel).ServerReflectionInfo(iter([ask])))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_feed_shows_its_token_to_the_graph(clients: Clients, issuer: Issuer) -> None:
    pair = graph_pb2.ConnectionPair(first_user_id=31, second_user_id=32)
    clients.graph.ImportConnections(
        iter([graph_pb2.ImportConnectionsRequest(connections=[pair])]),
        metadata=bearer(issuer.token("importer")),
    )
    post = feed_pb2.CreatePostRequest(
        user_id=31, body="hello", audience=feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL)
    )
    clients.feed.CreatePost(post, metadata=bearer(issuer.token(31)))

    page = clients.feed.GetFeed(
        feed_pb2.GetFeedRequest(user_id=32), metadata=bearer(issuer.token(32))
    )

    assert [post.author_id for post in page.posts] == [31]


def test_a_feed_that_the_graph_refuses_does_not_blame_its_callers(
    databases: Databases, issuer: Issuer, tmp_path: Path
) -> None:
    token = tmp_path / "feed.token"
    token.write_text(issuer.token("feed", aud="elsewhere"))
    graph = {**issuer.environment, "AUTH_SERVICES": _SERVICES}
    feed = {**graph, "TARGET_TOKEN_FILE": str(token)}
    request = feed_pb2.GetFeedRequest(user_id=_USER)
    shown = bearer(issuer.token(_USER))

    with secured_pair(databases, graph=graph, feed=feed) as pair, pair.clients() as clients:
        with pytest.raises(grpc.RpcError) as caught:
            clients.feed.GetFeed(request, metadata=shown)
        assert reason_of(caught.value) == "GRAPH_UNAVAILABLE"
        # A token that replaces it is shown from then on.
        token.write_text(issuer.token("feed"))
        until(lambda: succeeds(lambda: clients.feed.GetFeed(request, metadata=shown)))


def test_no_call_fails_while_keys_are_exchanged_and_tokens_of_the_former_end(
    clients: Clients, issuer: Issuer
) -> None:
    request = graph_pb2.ListConnectionsRequest(user_id=_USER)
    shown = [bearer(issuer.token(_USER))]
    former = shown[0]
    last_used = [former] * _CALLERS
    is_over = threading.Event()

    def call_on(caller: int) -> None:
        while not is_over.is_set():
            token = shown[0]
            clients.graph.ListConnections(request, metadata=token)
            last_used[caller] = token

    with ThreadPoolExecutor(_CALLERS) as threads:
        callers = [threads.submit(call_on, caller) for caller in range(_CALLERS)]
        try:
            for name in ("second", "third"):
                issuer.add_key(name)
                # At once, as an issuer may that does not wait for anybody to hear of the key.
                shown[0] = bearer(issuer.token(_USER))
                until(lambda: last_used == shown * _CALLERS or any(map(Future.done, callers)))
            _write_token_of_feed(issuer)
            issuer.withdraw_key("first")
            until(lambda: not succeeds(lambda: _list(clients, former)))
        finally:
            is_over.set()
    for caller in callers:
        caller.result()

    with pytest.raises(grpc.RpcError) as caught:
        _list(clients, former)
    assert reason_of(caught.value) == "UNAUTHENTICATED"


def _list(clients: Clients, shown: tuple[tuple[str, str], ...]) -> None:
    clients.graph.ListConnections(graph_pb2.ListConnectionsRequest(user_id=_USER), metadata=shown)


class _Site(ThreadingHTTPServer):
    """Publishes an issuer's keys, unless it is out of order."""

    def __init__(self, issuer: Issuer) -> None:
        self.asked = 0
        self.is_down = True
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked += 1
                if site.is_down and site.asked % 2:
                    self.wfile.write(b"nothing that a browser would understand\r\n\r\n")
                    return
                self.send_response(503 if site.is_down else 200)
                self.end_headers()
                self.wfile.write(issuer.jwks.read_bytes())

            def log_message(self, *_arguments: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/jwks.json"


@contextmanager
def _published(issuer: Issuer) -> Iterator[_Site]:
    site = _Site(issuer)
    serving = threading.Thread(target=site.serve_forever, args=[0.05])
    serving.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        serving.join()


def test_keys_are_fetched_when_they_are_needed_but_not_for_everybody_who_makes_up_a_key(
    databases: Databases, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.access.keys._SHORTEST_INTERVAL_SECONDS", 0.5)
    made_up = bearer(issuer.token(_USER, headers={"kid": "made up"}))
    with _published(issuer) as site:
        graph = {**issuer.environment, "AUTH_JWKS": site.url, "AUTH_SERVICES": _SERVICES}
        with (
            secured_pair(databases, graph=graph, feed={}) as pair,
            pair.clients() as clients,
        ):
            with pytest.raises(grpc.RpcError) as caught:
                _list(clients, bearer(issuer.token(_USER)))
            assert reason_of(caught.value) == "SIGNING_KEYS_UNAVAILABLE"
            assert decoded(caught.value).retry_after is not None
            health = HealthStub(clients.graph_channel)
            assert health.Check(health_pb2.HealthCheckRequest(service="ready")).status != 1

            site.is_down = False
            until(lambda: succeeds(lambda: _list(clients, bearer(issuer.token(_USER)))))
            issuer.add_key("fetched")
            until(lambda: succeeds(lambda: _list(clients, bearer(issuer.token(_USER)))))

            asked, started = site.asked, time.monotonic()
            for _ in range(100):
                assert not succeeds(lambda: _list(clients, made_up))
            assert site.asked - asked <= 2 + (time.monotonic() - started) / 0.5

            site.is_down = True
            _list(clients, bearer(issuer.token(_USER)))


def _audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    names = ("action", "caller", "user_id", "targets", "outcome")
    return [
        {name: getattr(record, name) for name in names}
        for record in caplog.records
        if record.name == "kith.audit"
    ]


def test_what_is_done_to_others_is_audited_with_who_did_it_and_what_came_of_it(
    clients: Clients, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    block = graph_pb2.BlockUserRequest(user_id=41, peer_id=42)
    clients.graph.BlockUser(block, metadata=bearer(issuer.token(41)))
    clients.graph.BlockUser(block, metadata=bearer(issuer.token("importer")))
    for shown in ((), bearer(issuer.token(42))):
        with pytest.raises(grpc.RpcError):
            clients.graph.BlockUser(block, metadata=shown)
    # A line is written when a call has ended, which its caller may learn a little earlier.
    until(lambda: len(_audited(caplog)) == 4)

    line = {"action": "BlockUser", "user_id": 41, "targets": {"peer_id": 42}}
    assert _audited(caplog) == [
        {**line, "caller": "user:41", "outcome": "OK"},
        {**line, "caller": "service:importer", "outcome": "OK"},
        {**line, "caller": None, "outcome": "UNAUTHENTICATED"},
        {**line, "caller": "user:42", "outcome": "PERMISSION_DENIED"},
    ]


def test_the_audit_holds_the_ids_of_lists_and_no_texts(
    clients: Clients, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    shown = bearer(issuer.token(51))
    tag = clients.feed.CreateTag(
        feed_pb2.CreateTagRequest(user_id=51, name="secret name"), metadata=shown
    ).tag
    post = clients.feed.CreatePost(
        feed_pb2.CreatePostRequest(user_id=51, body="secret body", audience=PRIVATE),
        metadata=shown,
    ).post
    post.body = "another secret body"
    post.audience.CopyFrom(
        feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_TAGS, tag_ids=[tag.tag_id])
    )
    update = feed_pb2.UpdatePostRequest(user_id=51, post=post)
    update.update_mask.paths.append("*")
    clients.feed.UpdatePost(update, metadata=shown)
    with pytest.raises(grpc.RpcError):
        clients.feed.AddTagMembers(
            feed_pb2.AddTagMembersRequest(user_id=51, tag_id=tag.tag_id, target_user_ids=[52, 53]),
            metadata=shown,
        )
    export = feed_pb2.ExportUserRequest(user_id=51)
    list(clients.feed.ExportUser(export, metadata=bearer(issuer.token("importer"))))
    until(lambda: len(_audited(caplog)) == 3)

    lines = _audited(caplog)
    assert [(line["action"], line["outcome"]) for line in lines] == [
        ("UpdatePost", "OK"),
        ("AddTagMembers", "FAILED_PRECONDITION"),
        ("ExportUser", "OK"),
    ]
    assert lines[0]["targets"] == {
        "post.post_id": post.post_id,
        "post.audience.kind": "AUDIENCE_KIND_TAGS",
        "post.audience.tag_ids": [tag.tag_id],
        "post.audience.excluded_tag_ids": [],
    }
    assert lines[1]["targets"] == {"tag_id": tag.tag_id, "target_user_ids": [52, 53]}
    assert "secret" not in json.dumps(lines)
