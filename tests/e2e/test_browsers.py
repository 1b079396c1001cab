"""What web pages may ask of the gateway, and what they can read of its answers, in Chromium."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from kith.feed.v1 import feed_pb2
from tests.support.chromium import new_context, running_chromium, serving_pages
from tests.support.credentials import Issuer
from tests.support.gateway import Gateway, running_gateway
from tests.support.pair import Pair
from tests.support.people import People

pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# All that docs/gateway.md and docs/clients.md have callers send.
_SENT = {
    "baggage": "tenant=1",
    "grpc-timeout": "60S",
    "kith-position": "any",
    "traceparent": _TRACE,
    "tracestate": "vendor=1",
    "x-request-id": "of-a-page",
}
_GRPC_WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "x-user-agent": "a"}

_FETCH = """async ([url, method, headers, body]) => {
  try {
    const answer = await fetch(url, {
      method, headers, body: typeof body === "string" ? body : body && new Uint8Array(body),
    });
    return {
      status: answer.status,
      headers: Object.fromEntries(answer.headers),
      body: [...new Uint8Array(await answer.arrayBuffer())],
    };
  } catch (error) {
    return {error: String(error)};
  }
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@dataclass(frozen=True, kw_only=True)
class Site:
    """A gateway, and two web pages of which it knows one."""

    gateway: Gateway
    known: Page
    strange: Page
    issuer: Issuer | None

    def shown(self, user_id: int) -> dict[str, str]:
        """Return the header by which a user is believed, where tokens are asked for."""
        return {"authorization": f"Bearer {self.issuer.token(user_id)}"} if self.issuer else {}

    def fetch(
        self,
        page: Page,
        path: str,
        headers: Mapping[str, str],
        body: str | list[int] | None = None,
    ) -> Any:
        """Make a call by fetch, as the script of a page does."""
        method = "GET" if body is None else "POST"
        url = f"http://{self.gateway.address}{path}"
        return page.evaluate(_FETCH, [url, method, dict(headers), body])


@pytest.fixture(scope="module", params=["without tokens", "with tokens"])
def site(
    request: pytest.FixtureRequest,
    pair: Pair,
    issuer: Issuer,
    chromium: Browser,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    has_tokens = request.param == "with tokens"
    with (
        serving_pages({}) as port,
        running_gateway(
            tmp_path_factory.mktemp("gateway"),
            graph=pair.graph_server.address,
            feed=pair.feed_server.address,
            environment={
                "GATEWAY_ORIGINS": f"http://127.0.0.1:{port}",
                **(issuer.environment if has_tokens else {}),
            },
        ) as gateway,
        new_context(chromium) as windows,
    ):
        known, strange = windows.new_page(), windows.new_page()
        known.goto(f"http://127.0.0.1:{port}/")
        strange.goto(f"http://localhost:{port}/")
        yield Site(
            gateway=gateway, known=known, strange=strange, issuer=issuer if has_tokens else None
        )


def _framed(message: bytes) -> list[int]:
    return [0, *len(message).to_bytes(4, "big"), *message]


def test_a_page_of_a_known_origin_calls_by_fetch_and_reads_the_answer(
    site: Site, people: People
) -> None:
    [user] = people.new(1)
    post = people.post(user)
    headers = {**_SENT, **site.shown(user)}

    answer = site.fetch(site.known, f"/v1/users/{user}/feed", headers)

    assert answer["status"] == 200, answer
    assert [each["postId"] for each in json.loads(bytes(answer["body"]))["posts"]] == [str(post)]
    assert answer["headers"]["x-request-id"] == "of-a-page"


def test_a_page_of_a_known_origin_calls_by_grpc_web_and_reads_the_answer(
    site: Site, people: People
) -> None:
    [user] = people.new(1)
    post = people.post(user)
    headers = {**_GRPC_WEB, **_SENT, **site.shown(user)}
    body = _framed(feed_pb2.GetFeedRequest(user_id=user).SerializeToString())

    answer = site.fetch(site.known, "/kith.feed.v1.FeedService/GetFeed", headers, body)

    assert "error" not in answer, answer
    received = bytes(answer["body"])
    size = int.from_bytes(received[1:5], "big")
    page = feed_pb2.GetFeedResponse.FromString(received[5 : 5 + size])
    assert [each.post_id for each in page.posts] == [post]
    assert b"grpc-status:0" in received[5 + size :]


def test_a_page_of_a_known_origin_reads_the_details_of_an_error_by_grpc_web(
    site: Site, people: People
) -> None:
    [user] = people.new(1)
    headers = {**_GRPC_WEB, **site.shown(user)}
    body = _framed(
        feed_pb2.GetPostRequest(user_id=user, author_id=user, post_id=1 << 40).SerializeToString()
    )

    answer = site.fetch(site.known, "/kith.feed.v1.FeedService/GetPost", headers, body)

    assert answer["headers"]["grpc-status"] == "5"
    assert {"grpc-message", "grpc-status-details-bin"} <= answer["headers"].keys()


def test_a_page_of_a_known_origin_reads_why_a_call_is_refused(site: Site, people: People) -> None:
    [user] = people.new(1)
    headers = {} if site.issuer else {"content-type": "application/json"}

    answer = site.fetch(site.known, f"/v1/users/{user}/feed?pageSise=1", headers)

    reason = json.loads(bytes(answer["body"]))["details"][0]["reason"]
    expected = (401, "UNAUTHENTICATED") if site.issuer else (400, "INVALID_FIELD")
    assert (answer["status"], reason) == expected


def test_a_page_of_a_strange_origin_reads_no_answer(site: Site, people: People) -> None:
    [user] = people.new(1)
    request = _framed(feed_pb2.GetFeedRequest(user_id=user).SerializeToString())

    answers = [
        site.fetch(site.strange, f"/v1/users/{user}/feed", {}),
        site.fetch(site.strange, f"/v1/users/{user}/feed", site.shown(user)),
        site.fetch(
            site.strange,
            "/kith.feed.v1.FeedService/GetFeed",
            {**_GRPC_WEB, **site.shown(user)},
            request,
        ),
    ]

    assert answers == [{"error": "TypeError: Failed to fetch"}] * 3


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_page_of_a_strange_origin_changes_nothing(site: Site, people: People, kind: str) -> None:
    [user] = people.new(1)
    body = json.dumps({"body": "by a strange page", "audience": {"kind": "AUDIENCE_KIND_ALL"}})
    headers = {"content-type": kind, **site.shown(user)}

    answer = site.fetch(site.strange, f"/v1/users/{user}/posts", headers, body)

    assert answer == {"error": "TypeError: Failed to fetch"}
    assert people.feed(user) == []


@pytest.mark.parametrize("path", ["/console", "/console/console.js", "/docs"])
def test_the_pages_of_the_gateway_are_off_unless_they_are_switched_on(
    site: Site, path: str
) -> None:
    assert site.gateway.call("GET", path).status == (401 if site.issuer else 404)
