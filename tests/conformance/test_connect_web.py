"""A page with connect-web, in Chromium, is served through the gateway, if its origin is known.

Needs Chromium (`make browser`), node and npm, which installs connect-web below build/.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.rpc import error_details_pb2
from playwright.sync_api import Page

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.cli.envoy import descriptor_set
from tests.support.chromium import new_context, running_chromium, serving_pages
from tests.support.credentials import Issuer
from tests.support.gateway import Gateway, running_gateway
from tests.support.npm import installed
from tests.support.pair import Pair
from tests.support.people import People

pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

_SOURCE = Path(__file__).parent / "connect_web"
_GRAPH, _FEED = "kith.graph.v1.GraphService", "kith.feed.v1.FeedService"
_IS_READY = "new Promise((ready) => setInterval(() => window.isReady && ready(), 20))"

Call: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of the page, with the packages it needs and the contracts."""
    npm = installed(_SOURCE)
    modules = (graph_pb2, feed_pb2, error_details_pb2)
    contracts = descriptor_set(*(module.DESCRIPTOR for module in modules))
    folder = npm / "contracts"
    folder.mkdir(exist_ok=True)
    (folder / "contracts").write_bytes(contracts.SerializeToString())
    folders = {"page": _SOURCE, "modules": npm / "node_modules", "contracts": folder}
    with serving_pages(folders, (_SOURCE / "page.html").read_bytes()) as serving:
        yield serving


@pytest.fixture(scope="module")
def pages(port: int) -> Iterator[dict[str, Page]]:
    """The page, at an origin that the gateways know and at one that they do not."""
    with running_chromium() as chromium, new_context(chromium) as windows:
        opened = {}
        for kind, host in (("known", "127.0.0.1"), ("strange", "localhost")):
            opened[kind] = windows.new_page()
            opened[kind].goto(f"http://{host}:{port}/")
            opened[kind].evaluate(_IS_READY)
        yield opened


@pytest.fixture(scope="module")
def gateways(
    port: int, pair: Pair, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Gateway]]:
    """A gateway that lets everybody in, and one that asks for tokens."""
    origins = {"GATEWAY_ORIGINS": f"http://127.0.0.1:{port}"}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                running_gateway(
                    tmp_path_factory.mktemp("gateway"),
                    graph=pair.graph_server.address,
                    feed=pair.feed_server.address,
                    environment={**origins, **more},
                )
            )
            for name, more in {"open": {}, "guarded": issuer.environment}.items()
        }


@pytest.fixture
def call(pages: dict[str, Page], gateways: dict[str, Gateway]) -> Call:
    """A call by the page: service, method, request; and where, to whom, and with what token."""

    def make(
        service: str,
        method: str,
        request: object,
        *,
        page: str = "known",
        gateway: str = "open",
        token: str | None = None,
    ) -> Any:
        headers = {
            "baggage": "tenant=1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "x-request-id": "by-connect-web",
            **({"authorization": f"Bearer {token}"} if token else {}),
        }
        arguments = {
            "baseUrl": f"http://{gateways[gateway].address}",
            "service": service,
            "method": method,
            "request": request,
            "headers": headers,
            "timeoutMs": 20_000,
        }
        return pages[page].evaluate("(arguments) => window.call(arguments)", arguments)

    return make


def test_it_gets_an_answer_with_its_headers(call: Call, people: People) -> None:
    [user] = people.new(1)
    post = people.post(user)

    told = call(_FEED, "GetFeed", {"userId": str(user)})

    assert [each["postId"] for each in told["answers"][0]["posts"]] == [str(post)]
    assert told["headers"]["x-request-id"] == "by-connect-web"


def test_it_changes_something(call: Call, people: People) -> None:
    user, peer = people.new(2)

    call(_GRAPH, "RequestConnection", {"userId": str(user), "peerId": str(peer)})
    told = call(_GRAPH, "GetConnection", {"userId": str(peer), "peerId": str(user)})

    state = told["answers"][0]["connection"]["state"]
    assert state == "CONNECTION_STATE_REQUEST_RECEIVED"


def test_it_gets_numbers_past_those_of_javascript(call: Call) -> None:
    large = str(2**53 + 1)

    told = call(_GRAPH, "CountConnections", {"userId": large, "userIds": [large]})

    assert told["answers"][0]["counts"][0]["userId"] == "9007199254740993"


def test_it_gets_the_details_of_an_error(call: Call, people: People) -> None:
    [user] = people.new(1)
    request = {"userId": str(user), "authorId": str(user), "postId": "7"}

    told = call(_FEED, "GetPost", request)

    assert (told["code"], told["reasons"]) == ("NotFound", ["POST_NOT_FOUND"])


def test_it_reads_a_stream_to_its_end(call: Call, people: People) -> None:
    user, peer = people.connected(2)

    told = call(_GRAPH, "ExportUser", {"userId": str(user)})

    assert str(peer) in str(told["answers"])


def test_with_a_token_it_is_let_in_as_that_user(call: Call, people: People, issuer: Issuer) -> None:
    [user] = people.new(1)
    request = {"userId": str(user)}

    shown = call(_FEED, "GetFeed", request, gateway="guarded", token=issuer.token(user))
    missing = call(_FEED, "GetFeed", request, gateway="guarded")

    assert shown["answers"] == [{"refreshToken": shown["answers"][0]["refreshToken"]}]
    assert missing["code"] == "Unauthenticated"


@pytest.mark.parametrize("gateway", ["open", "guarded"])
def test_at_a_strange_origin_it_gets_no_answer(
    call: Call, people: People, issuer: Issuer, gateway: str
) -> None:
    [user] = people.new(1)

    told = call(
        _FEED,
        "GetFeed",
        {"userId": str(user)},
        page="strange",
        gateway=gateway,
        token=issuer.token(user),
    )

    assert told == {"code": "Unknown", "message": "Failed to fetch", "reasons": []}
