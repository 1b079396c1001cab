"""A service makes the calls of its scope and no others, and some act for users who let them."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from kith.client.settings import TargetSettings
from kith.environment import Environment
from kith.exceptions import UnauthorizedError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import fence_keeper_pb2, graph_pb2
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from tests.support.credentials import Issuer, put
from tests.support.errors import decoded, reason_of, refusal
from tests.support.pair import Databases
from tests.support.people import ALL
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.rpcs import RPCS, Rpc
from tests.support.scrape import scrape
from tests.support.secured import Clients, SecuredPair, bearer, secured_pair

_USER, _OTHER = 17, 18
# A service may call for everybody. It suspends and erases nobody that other tests need: the feed
# learns a little later that a suspension has ended.
_ANYBODY = 19
_FENCES_PORT = free_port()
_CALLS_OF_THE_GRAPH = ("OpenFences", "CloseFences", "ListOpenFences")
_FENCES_CALLS = ("Identify", *_CALLS_OF_THE_GRAPH)
_DEPLOYED = Path(__file__).parents[2] / "deploy" / "kubernetes" / "settings.yaml"
_SERVICES = """
    importer;
    notifier=WatchConnections, GetPost, BlockUser; eraser=FeedService.DeleteUser;
    keeper=DeleteUser; web=GetFeed,CreateTag,CountConnections,ExportUser,ImportConnections
"""


@pytest.fixture(scope="module")
def secured(databases: Databases, issuer: Issuer) -> Iterator[SecuredPair]:
    """Both services, whose callers have scopes."""
    tokens = {}
    for service in ("graph", "feed"):
        tokens[service] = issuer.jwks.parent / f"{service}.token"
        put(tokens[service], issuer.token(service).encode())
    services = f"{_SERVICES}; {_deployed()}"
    both = {**issuer.environment, "AUTH_SERVICES": services, "AUTH_ON_BEHALF": "web"}
    keeper = f"127.0.0.1:{_FENCES_PORT}"
    graph = {**both, "TARGET_TOKEN_FILE": str(tokens["graph"]), "FENCE_KEEPERS": keeper}
    feed = {**both, "TARGET_TOKEN_FILE": str(tokens["feed"]), "FENCES_PORT": str(_FENCES_PORT)}
    with secured_pair(databases, graph=graph, feed=feed) as pair:
        yield pair


@pytest.fixture(scope="module")
def clients(secured: SecuredPair) -> Iterator[Clients]:
    """Clients of both services, which show nothing of themselves."""
    with secured.clients() as clients:
        yield clients


def _deployed() -> str:
    [settings] = yaml.safe_load_all(_DEPLOYED.read_text())
    services = settings["data"]["AUTH_SERVICES"]
    assert isinstance(services, str)
    return services


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


def _permitted(clients: Clients, issuer: Issuer, service: str) -> set[str]:
    """Return the calls that a service may make; every other one is refused for its scope."""
    shown = bearer(issuer.token(service))
    outcomes = {str(rpc): _outcome(clients, rpc, shown, _ANYBODY) for rpc in RPCS}
    return {call for call, outcome in outcomes.items() if outcome != "OUT_OF_SCOPE"}


def test_a_service_makes_the_calls_of_its_scope_and_no_others(
    clients: Clients, issuer: Issuer
) -> None:
    permitted = _permitted(clients, issuer, "notifier")

    assert permitted == {"graph WatchConnections", "feed GetPost", "graph BlockUser"}


def test_a_call_that_both_services_have_is_of_both_unless_the_scope_names_one(
    clients: Clients, issuer: Issuer
) -> None:
    assert _permitted(clients, issuer, "keeper") == {"graph DeleteUser", "feed DeleteUser"}
    assert _permitted(clients, issuer, "eraser") == {"feed DeleteUser"}


def test_a_service_without_a_scope_makes_every_call(clients: Clients, issuer: Issuer) -> None:
    assert _permitted(clients, issuer, "importer") == {str(rpc) for rpc in RPCS}


def test_a_call_outside_the_scope_is_denied_and_does_nothing(
    clients: Clients, issuer: Issuer
) -> None:
    shown = bearer(issuer.token("notifier"))

    with pytest.raises(grpc.RpcError) as caught:
        clients.feed.CreateTag(
            feed_pb2.CreateTagRequest(user_id=_USER, name="family"), metadata=shown
        )

    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(caught.value) == "OUT_OF_SCOPE"
    assert decoded(caught.value).metadata == {"call": "kith.feed.v1.FeedService.CreateTag"}
    tags = clients.feed.ListTags(
        feed_pb2.ListTagsRequest(user_id=_USER), metadata=bearer(issuer.token(_USER))
    )
    assert not tags.tags


def test_a_call_outside_the_scope_is_audited_with_the_service(
    clients: Clients, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    request = graph_pb2.RemoveConnectionRequest(user_id=_USER, peer_id=_OTHER)
    with pytest.raises(grpc.RpcError):
        clients.graph.RemoveConnection(request, metadata=bearer(issuer.token("notifier")))

    def audited() -> list[tuple[object, ...]]:
        return [
            tuple(getattr(record, name) for name in ("action", "caller", "user_id", "outcome"))
            for record in caplog.records
            if record.name == "kith.audit"
        ]

    # A line is written when a call has ended, which its caller may learn a little earlier.
    until(lambda: bool(audited()))
    assert audited() == [("RemoveConnection", "service:notifier", _USER, "PERMISSION_DENIED")]


def test_the_feed_needs_no_more_of_the_graph_than_its_scope_in_the_deployment(
    clients: Clients, issuer: Issuer
) -> None:
    pair = graph_pb2.ConnectionPair(first_user_id=31, second_user_id=32)
    clients.graph.ImportConnections(
        iter([graph_pb2.ImportConnectionsRequest(connections=[pair])]),
        metadata=bearer(issuer.token("importer")),
    )
    draft = feed_pb2.CreatePostRequest(user_id=31, body="hello", audience=ALL)
    clients.feed.CreatePost(draft, metadata=bearer(issuer.token(31)))
    request = feed_pb2.GetFeedRequest(user_id=32)

    page = clients.feed.GetFeed(request, metadata=bearer(issuer.token(32)))
    assert [post.author_id for post in page.posts] == [31]

    erasure = graph_pb2.DeleteUserRequest(user_id=31)
    clients.graph.DeleteUser(erasure, metadata=bearer(issuer.token("importer")))

    def has_heard_of_it() -> bool:
        listing = feed_pb2.ListPostsRequest(user_id=31, author_id=31)
        return not clients.feed.ListPosts(listing, metadata=bearer(issuer.token(31))).posts

    until(has_heard_of_it)


def test_the_graph_needs_no_more_of_the_keeper_of_fences_than_its_scope_in_the_deployment(
    secured: SecuredPair, clients: Clients, issuer: Issuer
) -> None:
    pair = graph_pb2.ConnectionPair(first_user_id=33, second_user_id=34)
    clients.graph.ImportConnections(
        iter([graph_pb2.ImportConnectionsRequest(connections=[pair])]),
        metadata=bearer(issuer.token("importer")),
    )

    def handled(method: str, **labels: str) -> float:
        named = {"grpc_service": "kith.graph.v1.FenceKeeperService", "grpc_method": method}
        return scrape(secured.feed_server).value("grpc_server_handled_total", **named, **labels)

    until(lambda: all(handled(method, grpc_code="OK") for method in _CALLS_OF_THE_GRAPH))


@pytest.mark.usefixtures("secured")
def test_a_service_without_fences_in_its_scope_is_refused_by_their_keeper(issuer: Issuer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{_FENCES_PORT}") as channel:
        keeper = FenceKeeperServiceStub(channel)
        shown = bearer(issuer.token("notifier"))
        refusals = {
            refusal(
                partial(getattr(keeper, method), metadata=shown),
                getattr(fence_keeper_pb2, f"{method}Request")(),
            )
            for method in _FENCES_CALLS
        }

    assert refusals == {"OUT_OF_SCOPE"}


def _on_behalf(token: str) -> tuple[tuple[str, str], ...]:
    return (("kith-user-token", token),)


def test_a_service_that_acts_on_behalf_of_users_calls_for_those_whose_token_it_brings(
    clients: Clients, issuer: Issuer
) -> None:
    web = bearer(issuer.token("web"))
    request = feed_pb2.GetFeedRequest(user_id=_USER)

    clients.feed.GetFeed(request, metadata=(*web, *_on_behalf(issuer.token(_USER))))
    with pytest.raises(grpc.RpcError) as caught:
        clients.feed.GetFeed(request, metadata=web)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(caught.value) == "USER_TOKEN_REQUIRED"
    with pytest.raises(grpc.RpcError) as caught:
        clients.feed.GetFeed(request, metadata=(*web, *_on_behalf(issuer.token(_OTHER))))
    assert reason_of(caught.value) == "USER_TOKEN_REQUIRED"


def test_the_client_in_python_calls_on_behalf_of_the_user_of_its_session(
    secured: SecuredPair, issuer: Issuer, library: Any, tmp_path: Path
) -> None:
    token = tmp_path / "web.token"
    put(token, issuer.token("web").encode())
    targets = {"graph": secured.graph_server.address, "feed": secured.feed_server.address}
    environment = Environment({"TARGET_TOKEN_FILE": str(token)})
    access = TargetSettings.read(environment, *targets.values())
    request = feed_pb2.GetFeedRequest(user_id=_USER)

    with library.KithClient(**targets, access=access) as kith:
        kith.session(user_token=issuer.token(_USER)).feed.GetFeed(request)
        for session in (kith.session(), kith.session(user_token=issuer.token(_OTHER))):
            with pytest.raises(UnauthorizedError) as caught:
                session.feed.GetFeed(request)
            assert caught.value.reason_name == "USER_TOKEN_REQUIRED"


def test_a_users_token_opens_no_call_outside_the_scope(clients: Clients, issuer: Issuer) -> None:
    shown = (*bearer(issuer.token("web")), *_on_behalf(issuer.token(_USER)))

    permitted = {str(rpc) for rpc in RPCS if _outcome(clients, rpc, shown) != "OUT_OF_SCOPE"}

    assert permitted == {
        *("feed GetFeed", "feed CreateTag", "graph CountConnections"),
        *("feed ExportUser", "graph ExportUser", "graph ImportConnections"),
    }


def test_a_call_that_is_for_services_alone_needs_no_users_token(
    clients: Clients, issuer: Issuer
) -> None:
    nothing = graph_pb2.ImportConnectionsRequest()

    clients.graph.ImportConnections(iter([nothing]), metadata=bearer(issuer.token("web")))


def test_a_service_that_acts_on_behalf_of_users_counts_for_no_user_but_them(
    clients: Clients, issuer: Issuer
) -> None:
    web = bearer(issuer.token("web"))
    everybody = graph_pb2.CountConnectionsRequest(user_ids=[_USER])

    for shown in (web, (*web, *_on_behalf(issuer.token(_USER)))):
        with pytest.raises(grpc.RpcError) as caught:
            clients.graph.CountConnections(everybody, metadata=shown)
        assert reason_of(caught.value) == "USER_TOKEN_REQUIRED"


def test_a_users_token_that_any_service_brings_must_be_good_and_of_the_user(
    clients: Clients, issuer: Issuer
) -> None:
    importer = bearer(issuer.token("importer"))
    request = feed_pb2.GetFeedRequest(user_id=_USER)
    good = issuer.token(_USER)
    refused = {
        "of another user": (_on_behalf(issuer.token(_OTHER)), "USER_TOKEN_REQUIRED"),
        "of a service": (_on_behalf(issuer.token("web")), "UNAUTHENTICATED"),
        "expired": (_on_behalf(issuer.token(_USER, exp=time.time() - 6)), "TOKEN_EXPIRED"),
        "no token": (_on_behalf("x.y.z"), "UNAUTHENTICATED"),
        "twice": (_on_behalf(good) * 2, "UNAUTHENTICATED"),
    }

    clients.feed.GetFeed(request, metadata=importer)
    clients.feed.GetFeed(request, metadata=(*importer, *_on_behalf(good)))
    reasons = {}
    for kind, (shown, _) in refused.items():
        with pytest.raises(grpc.RpcError) as caught:
            clients.feed.GetFeed(request, metadata=(*importer, *shown))
        reasons[kind] = reason_of(caught.value)

    assert reasons == {kind: reason for kind, (_, reason) in refused.items()}


def test_a_users_token_beside_a_users_own_opens_nothing(clients: Clients, issuer: Issuer) -> None:
    shown = (*bearer(issuer.token(_OTHER)), *_on_behalf(issuer.token(_USER)))

    assert {_outcome(clients, rpc, shown) for rpc in RPCS} == {"NOT_PERMITTED"}
