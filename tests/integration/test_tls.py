"""Certificates on both ends: who is let in by theirs, and what happens when they are renewed."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from kith.client.channels import open_channel
from kith.client.settings import TargetSettings
from kith.environment import Environment
from kith.exceptions import UnauthenticatedError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.graph.v1.fence_keeper_pb2 import CloseFencesRequest
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.server.server import RunningServer
from tests.support.credentials import Authority, Certificate, Issuer, Shown, put
from tests.support.errors import reason_of, refusal, succeeds
from tests.support.fence_keeper import open_fence
from tests.support.pair import Databases
from tests.support.people import ALL
from tests.support.ports import free_port
from tests.support.processes import Session, run, until
from tests.support.rpcs import RPCS, Metadata, Rpc
from tests.support.scrape import scrape
from tests.support.secured import Clients, SecuredPair, bearer, secured_pair

_GRAPH = "graph.kith.test"
_FEED = "spiffe://kith.test/feed"
_IMPORTER = "importer.kith.test"
_GATEWAY = "gateway.kith.test"
# Callers who never pause would take seconds of a processor, and fail no more than these.
_PAUSE_SECONDS = 0.1
_FENCES_PORT = free_port()


def _files(folder: Path) -> Shown:
    return Shown(
        folder=folder,
        names={"graph": [_GRAPH], "feed": [_FEED, "feed.kith.test"]},
        services=[_GRAPH, _FEED, _IMPORTER],
    )


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Whose certificates are believed at first."""
    return Authority("first authority")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Shown:
    """Where the certificates are."""
    files = _files(tmp_path_factory.mktemp("certificates"))
    files.renew(authority, believed=authority.certificate)
    return files


@pytest.fixture(scope="module")
def secured(databases: Databases, files: Shown, issuer: Issuer) -> Iterator[SecuredPair]:
    """Both services with fences; everybody shows a certificate, and users a token besides."""
    graph = {**files.server("graph"), **issuer.environment, **files.client("graph")}
    graph["FENCE_KEEPERS"] = f"127.0.0.1:{_FENCES_PORT}"
    feed = {**files.server("feed"), **issuer.environment, **files.client("feed")}
    feed["FENCES_PORT"] = str(_FENCES_PORT)
    with secured_pair(databases, graph=graph, feed=feed) as pair:
        yield pair


def _code(clients: Clients, rpc: Rpc) -> tuple[str, str]:
    try:
        rpc.send(clients, rpc.request(), messages=1)
    except grpc.RpcError as error:
        return error.code().name, reason_of(error)
    return "OK", ""


def _shown(authority: Authority) -> dict[str, grpc.ChannelCredentials | None]:
    stranger = Authority("first authority")
    return {
        "no certificate": authority.credentials(),
        "another authority's": authority.credentials(stranger.issue(_FEED)),
        "its own": authority.credentials(_self_signed()),
        "no encryption": None,
    }


def _self_signed() -> Certificate:
    return Authority(_FEED).issue(_FEED)


@pytest.mark.parametrize("kind", _shown(Authority("nobody")))
def test_whose_certificate_is_not_believed_makes_no_call(
    secured: SecuredPair, authority: Authority, kind: str
) -> None:
    with secured.clients(_shown(authority)[kind]) as clients:
        assert {_code(clients, rpc) for rpc in RPCS} == {("UNAVAILABLE", "")}


@pytest.mark.parametrize("name", [_GATEWAY, "spiffe://kith.test/feed/", "feed", "17"])
def test_a_certificate_of_no_known_service_opens_no_call(
    secured: SecuredPair, authority: Authority, name: str
) -> None:
    with secured.clients(authority.credentials(authority.issue(name))) as clients:
        outcomes = {_code(clients, rpc) for rpc in RPCS}

    assert outcomes == {("UNAUTHENTICATED", "UNAUTHENTICATED")}


def test_behind_a_gateways_certificate_a_user_is_known_by_their_token(
    secured: SecuredPair, authority: Authority, issuer: Issuer
) -> None:
    request = graph_pb2.ListConnectionsRequest(user_id=17)
    with secured.clients(authority.credentials(authority.issue(_GATEWAY))) as clients:
        clients.graph.ListConnections(request, metadata=bearer(issuer.token(17)))
        with pytest.raises(grpc.RpcError) as caught:
            clients.graph.ListConnections(request, metadata=bearer(issuer.token(18)))

    assert reason_of(caught.value) == "NOT_PERMITTED"


def test_a_services_certificate_does_not_help_a_bad_token(
    secured: SecuredPair, authority: Authority, issuer: Issuer
) -> None:
    request = graph_pb2.ListConnectionsRequest(user_id=17)
    bad: list[Metadata] = [
        bearer(issuer.token(18, aud="other")),
        (("authorization", ""),),
        (("authorization", issuer.token(17)),),
        (("authorization", "Basic MTc6aGlkZGVu"),),
        (("authorization-bin", f"Bearer {issuer.token(18)}".encode()),),
        (("kith-user-token", ""),),
        (("kith-user-token-bin", issuer.token(18).encode()),),
    ]
    with secured.clients(authority.credentials(authority.issue(_IMPORTER))) as clients:
        list_connections = clients.graph.ListConnections
        refusals = [refusal(partial(list_connections, metadata=shown), request) for shown in bad]

    assert refusals == ["UNAUTHENTICATED"] * len(bad)


def test_feed_and_graph_know_each_other_by_their_certificates(
    secured: SecuredPair, authority: Authority
) -> None:
    with secured.clients(authority.credentials(authority.issue(_IMPORTER))) as clients:
        _connect(clients, 31, 32)
        _post(clients, 31)

        assert _authors(clients, 32) == [31]


def _fences_opened(secured: SecuredPair) -> float:
    opened = {"grpc_method": "OpenFences", "grpc_code": "OK"}
    return scrape(secured.feed_server).value("grpc_server_handled_total", **opened)


def test_the_graph_opens_fences_by_its_certificate(
    secured: SecuredPair, authority: Authority
) -> None:
    before = _fences_opened(secured)
    with secured.clients(authority.credentials(authority.issue(_IMPORTER))) as clients:
        _connect(clients, 33, 34)

    assert _fences_opened(secured) == before + 1


def test_no_stranger_opens_fences(secured: SecuredPair, authority: Authority) -> None:
    shown = _shown(authority)
    for name in (_GATEWAY, _IMPORTER):
        shown[name] = authority.credentials(authority.issue(name))

    outcomes = {kind: _opening(secured, credentials) for kind, credentials in shown.items()}

    unreachable = dict.fromkeys(_shown(authority), "UNAVAILABLE")
    assert outcomes == {**unreachable, _GATEWAY: "UNAUTHENTICATED", _IMPORTER: "OK"}


def _opening(secured: SecuredPair, credentials: grpc.ChannelCredentials | None) -> str:
    """Return how a call ends that opens the fence of a user, which is closed after it."""
    address = f"127.0.0.1:{_FENCES_PORT}"
    with (
        (
            grpc.insecure_channel(address)
            if credentials is None
            else grpc.secure_channel(address, credentials)
        ) as channel,
        Session(secured.graph_url) as session,
    ):
        keeper = FenceKeeperServiceStub(channel)
        try:
            change_id = open_fence(keeper, session, 35)
            keeper.CloseFences(CloseFencesRequest(change_ids=[change_id]))
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


@pytest.mark.parametrize("kind", ["another authority", "another name"])
def test_a_service_that_shows_the_wrong_certificate_is_told_nothing(
    secured: SecuredPair, authority: Authority, files: Shown, tmp_path: Path, kind: str
) -> None:
    believed = tmp_path / "believed.crt"
    is_stranger = kind == "another authority"
    put(believed, Authority("stranger").certificate if is_stranger else authority.certificate)
    environment = Environment({**files.client("feed"), "TARGET_CA_FILE": str(believed)})
    host = "127.0.0.1" if is_stranger else "localhost"
    target = f"{host}:{secured.graph_server.port}"

    with open_channel(target, TargetSettings.read(environment, target), ()) as channel:
        request = graph_pb2.ListConnectionsRequest(user_id=17)
        with pytest.raises(grpc.RpcError) as caught:
            GraphServiceStub(channel).ListConnections(request, timeout=30)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_command_line_shows_a_certificate(
    secured: SecuredPair, authority: Authority, files: Shown, tmp_path: Path
) -> None:
    chain, key = authority.issue(_IMPORTER).write(tmp_path, "person")
    believed = {"TARGET_CA_FILE": str(files.folder / "ca.crt")}
    shown = {"TARGET_CERT_FILE": str(chain), "TARGET_KEY_FILE": str(key)}
    addresses = ("--graph", secured.graph_server.address, "--feed", secured.feed_server.address)

    assert run("shared.cli", {**believed, **shown}, "connections", "17", *addresses).returncode == 0
    assert run("shared.cli", believed, "connections", "17", *addresses).returncode == 1


def test_a_half_renewed_certificate_is_not_shown(
    secured: SecuredPair, authority: Authority, files: Shown
) -> None:
    before = _certificate_of(secured.graph_server)
    fresh = authority.issue("graph.kith.test")

    put(files.folder / "graph.crt", fresh.chain)
    _outlast_a_look()
    assert _certificate_of(secured.graph_server) == before

    put(files.folder / "graph.key", fresh.key)
    until(lambda: _certificate_of(secured.graph_server) == _der(fresh))


def test_the_feed_shows_the_graph_the_certificate_that_it_is_given_meanwhile(
    databases: Databases, authority: Authority, tmp_path: Path
) -> None:
    files = _files(tmp_path)
    files.renew(authority, believed=authority.certificate)
    authority.issue("unknown.kith.test").write(tmp_path, "feed")
    graph = files.server("graph")
    feed = {**files.server("feed"), **files.client("feed")}
    importer = authority.credentials(authority.issue(_IMPORTER))

    with secured_pair(databases, graph=graph, feed=feed) as pair, pair.clients(importer) as clients:
        with pytest.raises(grpc.RpcError) as caught:
            _authors(clients, 17)
        assert reason_of(caught.value) == "GRAPH_UNAVAILABLE"

        authority.issue(_FEED).write(tmp_path, "feed")

        until(lambda: succeeds(lambda: _authors(clients, 17)))


def test_a_client_shows_the_certificate_that_it_is_given_meanwhile(
    secured: SecuredPair,
    authority: Authority,
    library: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain, key = authority.issue("unknown.kith.test").write(tmp_path, "caller")
    put(tmp_path / "ca.crt", authority.certificate)
    monkeypatch.setenv("TARGET_CA_FILE", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("TARGET_CERT_FILE", str(chain))
    monkeypatch.setenv("TARGET_KEY_FILE", str(key))
    addresses = {"graph": secured.graph_server.address, "feed": secured.feed_server.address}

    with library.KithClient.from_environment(**addresses) as kith:

        def is_let_in() -> bool:
            try:
                kith.graph.ListConnections(graph_pb2.ListConnectionsRequest(user_id=17))
            except UnauthenticatedError:
                return False
            return True

        assert not is_let_in()
        authority.issue(_IMPORTER).write(tmp_path, "caller")
        until(is_let_in)


def test_a_closed_channel_refuses_calls_of_methods_that_have_not_seen_its_last_certificate(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kith.tls.watched_files._LOOK_SECONDS", 0)
    files = _files(tmp_path)
    files.renew(authority, believed=authority.certificate)
    target = f"127.0.0.1:{free_port()}"
    settings = TargetSettings.read(Environment(files.client("feed")), target)

    with open_channel(target, settings, ()) as channel:
        stub = GraphServiceStub(channel)
        files.renew(authority, believed=authority.certificate)
        with pytest.raises(grpc.RpcError):
            stub.ListConnections(graph_pb2.ListConnectionsRequest(user_id=17), timeout=30)

    with pytest.raises(ValueError, match="closed channel"):
        stub.CountConnections(graph_pb2.CountConnectionsRequest(user_id=17), timeout=30)


def test_no_call_fails_while_all_certificates_and_their_authority_are_renewed(
    databases: Databases, authority: Authority, tmp_path: Path
) -> None:
    files = _files(tmp_path)
    files.renew(authority, believed=authority.certificate)
    later = Authority("second authority")
    both = authority.certificate + later.certificate
    shown = [_credentials(both, authority)]
    is_over = threading.Event()
    # As it has to be done: believed before it is shown, shown by all before the former is believed
    # no more.
    steps: list[Callable[[], object]] = [
        lambda: put(files.folder / "ca.crt", both),
        lambda: files.renew(later, believed=both),
        lambda: shown.append(_credentials(both, later)),
        lambda: put(files.folder / "ca.crt", later.certificate),
    ]

    with ExitStack() as stack:
        secured = stack.enter_context(
            secured_pair(
                databases,
                graph=files.server("graph"),
                feed={**files.server("feed"), **files.client("feed")},
            )
        )
        lasting = stack.enter_context(secured.clients(shown[0]))
        _connect(lasting, 41, 42)
        _post(lasting, 41)

        def call_on() -> int:
            calls = 0
            while not is_over.wait(_PAUSE_SECONDS):
                assert _authors(lasting, 42) == [41]
                with secured.clients(shown[-1]) as fresh:
                    assert _authors(fresh, 42) == [41]
                calls += 2
            return calls

        with ThreadPoolExecutor(3) as threads:
            callers = [threads.submit(call_on) for _ in range(3)]
            try:
                for step in steps:
                    step()
                    _outlast_a_look()
            finally:
                is_over.set()
        counts = [caller.result() for caller in callers]

        for server, name in ((secured.graph_server, "graph"), (secured.feed_server, "feed")):
            shown_now = ssl.PEM_cert_to_DER_cert((tmp_path / f"{name}.crt").read_text())
            until(lambda server=server, shown=shown_now: _certificate_of(server) == shown)  # type: ignore[misc]  # mypy knows no default of a lambda
        with secured.clients(_credentials(both, authority)) as former:
            assert _code(former, RPCS[0]) == ("UNAVAILABLE", "")
    assert all(counts)


def _credentials(believed: bytes, authority: Authority) -> grpc.ChannelCredentials:
    shown = authority.issue(_IMPORTER)
    return grpc.ssl_channel_credentials(believed, shown.key, shown.chain)


def _connect(clients: Clients, *ids: int) -> None:
    first, second = ids
    pair = graph_pb2.ConnectionPair(first_user_id=first, second_user_id=second)
    clients.graph.ImportConnections(iter([graph_pb2.ImportConnectionsRequest(connections=[pair])]))


def _post(clients: Clients, author: int) -> None:
    clients.feed.CreatePost(feed_pb2.CreatePostRequest(user_id=author, body="hello", audience=ALL))


def _authors(clients: Clients, viewer: int) -> list[int]:
    page = clients.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=viewer))
    return [post.author_id for post in page.posts]


def _outlast_a_look() -> None:
    """Files are looked at once a second; how late exactly cannot be seen from outside."""
    time.sleep(2)


def _certificate_of(server: RunningServer) -> bytes:
    """Return the certificate that a server shows, in DER."""
    host, port = server.address.split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=30) as raw,
        context.wrap_socket(raw) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def _der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.chain.decode())
