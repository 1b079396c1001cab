"""What somebody does and sees on the pages of the gateway: the console, and the reference."""

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import json_format
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from tests.support.buf import buf_curl
from tests.support.chromium import new_context, running_chromium
from tests.support.credentials import Issuer
from tests.support.gateway import Gateway, running_gateway
from tests.support.over_http import exposed
from tests.support.pair import Pair
from tests.support.people import PRIVATE, People, tagged

pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

_MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script><b>bold</b>"
_PAGES = {"GATEWAY_PAGES": "on"}
_PHONE: ViewportSize = {"width": 360, "height": 780}
# Of the paper, 0 to 255.
_LIGHTNESS = """async () => {
  // A page is told of another scheme with its next frame.
  for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
  const [html, body] = [document.documentElement, document.body].map(
    (element) => getComputedStyle(element).backgroundColor.match(/[\\d.]+/g).map(Number));
  const [red, green, blue] = body[3] === 0 ? html : body;
  return html[3] === 0 && body[3] === 0 ? 255 : (red + green + blue) / 3;
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def gateway(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("gateway"),
        graph=pair.graph_server.address,
        feed=pair.feed_server.address,
        environment=_PAGES,
    ) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Window:
    """A browser's window, and what has gone wrong in it."""

    page: Page
    problems: list[str]
    address: str

    def see_as(self, user_id: int) -> Page:
        """Show the feed of a person in the console, which is loaded for the first of them."""
        self.page.goto(f"http://{self.address}/console#{user_id}")
        expect(self.page.locator("#status")).to_contain_text(f"Person {user_id}:")
        feed = self.page.get_by_role("tab", name="Feed")
        # The console keeps to the tab that was opened for the person before.
        if feed.get_attribute("aria-selected") != "true":
            feed.click()
        return self.page


@contextmanager
def _window(chromium: Browser, gateway: Gateway) -> Iterator[Window]:
    problems: list[str] = []
    with new_context(chromium) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"a dialog says {dialog.message}"))
        page.on("console", lambda line: problems.extend([line.text] * (line.type == "error")))
        yield Window(page=page, problems=problems, address=gateway.address)


@pytest.fixture(scope="module")
def shared_window(chromium: Browser, gateway: Gateway) -> Iterator[Window]:
    """A window for all tests, which takes a second to open and half of one for each person."""
    with _window(chromium, gateway) as opened:
        yield opened


@pytest.fixture
def window(shared_window: Window) -> Iterator[Window]:
    shared_window.problems.clear()
    yield shared_window
    assert shared_window.problems == []


@pytest.fixture
def phone(window: Window) -> Iterator[Window]:
    before = window.page.viewport_size
    assert before
    window.page.set_viewport_size(_PHONE)
    yield window
    window.page.set_viewport_size(before)
    window.page.emulate_media(color_scheme="null")


@dataclass(frozen=True, kw_only=True)
class World:
    """Somebody with three connections, two of whom know each other, and two tags."""

    me: int
    family: int
    work: int
    plain: int
    stranger: int
    family_tag: int
    work_tag: int


@pytest.fixture
def world(people: People) -> World:
    return _new_world(people)


def _new_world(people: People) -> World:
    me, family, work, plain = people.connected(4)
    people.connect(family, work)
    [stranger] = people.new(1)
    return World(
        me=me,
        family=family,
        work=work,
        plain=plain,
        stranger=stranger,
        family_tag=people.tag(me, "family", family),
        work_tag=people.tag(me, "work", work, family),
    )


def _node(user_id: int) -> str:
    return f"#picture [data-id='{user_id}']"


def _state(pair: Pair, user_id: int, peer_id: int) -> str:
    request = graph_pb2.GetConnectionRequest(user_id=user_id, peer_id=peer_id)
    state = pair.graph.GetConnection(request).connection.state
    return graph_pb2.ConnectionState.Name(state).removeprefix("CONNECTION_STATE_")


def test_the_feed_is_shown_as_the_person_sees_it_with_the_number_of_unread_posts(
    window: Window, world: World, people: People
) -> None:
    people.post(world.plain, body="for everybody")
    people.post(world.plain, PRIVATE, body="for nobody else")

    page = window.see_as(world.me)

    expect(page.locator(".post .body")).to_have_text(["for everybody"])
    expect(page.get_by_role("tab", name="Feed")).to_have_text("Feed1 unread")


def test_reading_up_to_a_post_leaves_nothing_unread(
    window: Window, world: World, people: People
) -> None:
    people.post(world.plain)
    page = window.see_as(world.me)

    page.get_by_role("button", name="Read up to here").click()

    expect(page.get_by_role("tab", name="Feed")).to_have_text("Feed")


def test_the_digest_and_the_own_posts_have_tabs(
    window: Window, world: World, people: People
) -> None:
    people.post(world.me, tagged(world.work_tag, without=(world.family_tag,)), body="mine")
    page = window.see_as(world.me)

    page.get_by_role("tab", name="This week").click()
    expect(page.locator(".summary")).to_contain_text("post")
    page.get_by_role("tab", name="This week").press("ArrowRight")

    expect(page.get_by_role("tab", name="Own posts")).to_be_focused()
    expect(page.locator(".post .about")).to_contain_text("for work, but not family")


def test_the_picture_has_the_connections_who_knows_whom_and_a_colour_for_each_tag(
    window: Window, world: World
) -> None:
    page = window.see_as(world.me)

    expect(page.locator("#picture line.connected")).to_have_count(3)
    expect(page.locator("#picture line.knows")).to_have_count(1)
    expect(page.locator(_node(world.family))).to_have_attribute(
        "aria-label", f"Person {world.family}, family, work"
    )
    expect(page.locator(f"{_node(world.family)} .ring")).to_have_count(2)
    expect(page.locator("#legend li")).to_have_text(["family (1)", "work (2)"])


def test_why_somebody_sees_a_post_is_a_sentence_and_a_line_in_the_picture(
    window: Window, world: World, people: People
) -> None:
    people.post(world.plain)
    page = window.see_as(world.me)

    page.get_by_role("button", name="Why do they see it?").click()

    expect(page.locator(".verdict")).to_have_text(
        f"Person {world.me} sees this post. The two are connected, "
        f"and the post is for all connections of person {world.plain}."
    )
    expect(page.locator("#picture line.why.visible")).to_have_count(1)


def test_why_somebody_does_not_see_a_post_names_the_tag_that_decided(
    window: Window, world: World, people: People
) -> None:
    people.post(world.me, tagged(world.work_tag, without=(world.family_tag,)))
    page = window.see_as(world.me)

    page.get_by_role("button", name="Why, or why not?").click()
    page.locator(_node(world.family)).click()

    expect(page.locator(".verdict")).to_have_text(
        f"Person {world.family} does not see this post. Person {world.me} has given person "
        f"{world.family} the tag “family”, whose people do not see the post."
    )
    expect(page.locator("#picture line.why.hidden")).to_have_count(1)
    expect(page.locator("#legend .decided")).to_have_text("family (1)")


def test_why_a_stranger_does_not_see_a_post_is_asked_by_their_number(
    window: Window, world: World, people: People
) -> None:
    people.post(world.me)
    page = window.see_as(world.me)

    page.get_by_role("button", name="Why, or why not?").click()
    page.get_by_label("Viewer").fill(str(world.stranger))
    page.get_by_label("Viewer").press("Enter")

    expect(page.locator(".verdict")).to_contain_text("are not connected.")
    expect(page.locator("#picture .stranger")).to_have_count(1)


def test_who_would_see_a_draft_follows_its_audience_and_is_who_sees_it_when_it_is_published(
    window: Window, world: World, people: People
) -> None:
    page = window.see_as(world.me)

    page.get_by_label("Text").fill("a draft")
    expect(page.locator("#preview")).to_contain_text("3 people would see it")
    page.get_by_label("People with tags").check()
    expect(page.locator("#preview")).to_contain_text("Choose a tag")
    page.get_by_role("group", name="Shown to", exact=True).get_by_label("work").check()
    page.get_by_role("group", name="Never shown to").get_by_label("family").check()
    expect(page.locator("#preview")).to_have_text(f"1 person would see it: {world.work}")
    expect(page.locator("#picture .node.lit")).to_have_text([str(world.work)])
    page.get_by_role("button", name="Publish").click()

    expect(page.locator(".post .body")).to_have_text(["a draft"])
    assert len(people.feed(world.work)) == 1
    assert people.feed(world.family) == people.feed(world.plain) == []


def test_people_connect_block_and_end_a_connection(
    window: Window, world: World, pair: Pair
) -> None:
    pair.graph.RequestConnection(
        graph_pb2.RequestConnectionRequest(user_id=world.me, peer_id=world.stranger)
    )
    page = window.see_as(world.stranger)
    page.get_by_role("tab", name="People").click()

    page.get_by_role("button", name=f"Person {world.me}").click()
    page.get_by_role("button", name="Accept").click()
    expect(page.locator("#peer")).to_contain_text("connected")
    expect(page.locator("#events")).to_contain_text(f"Person {world.me} is connected now.")
    assert _state(pair, world.me, world.stranger) == "CONNECTED"

    page.get_by_role("button", name="Block", exact=True).click()
    expect(page.get_by_role("button", name="Lift the block")).to_be_visible()
    assert _state(pair, world.stranger, world.me) == "BLOCKED"

    page.get_by_role("button", name="Lift the block").click()
    page.get_by_role("button", name="Ask to connect").click()
    expect(page.get_by_role("button", name="Withdraw the request")).to_be_visible()
    assert _state(pair, world.me, world.stranger) == "REQUEST_RECEIVED"


def test_a_tag_is_made_given_and_taken(window: Window, world: World) -> None:
    page = window.see_as(world.me)
    page.locator(_node(world.plain)).click()

    page.get_by_label("New tag").fill("chess")
    page.get_by_role("button", name="Create and give").click()
    expect(page.locator("#legend")).to_contain_text("chess (1)")
    expect(page.locator(f"{_node(world.plain)} .ring")).to_have_count(1)
    page.get_by_role("button", name="chess", exact=True).click()

    expect(page.locator("#legend")).to_contain_text("chess (0)")
    expect(page.locator("#events")).to_contain_text("has the tag “chess” no more.")


def test_what_others_do_meanwhile_appears_by_itself(
    window: Window, world: World, people: People
) -> None:
    page = window.see_as(world.me)

    people.post(world.plain, body="in the meantime")
    people.remove(world.work, world.me)

    expect(page.locator("#events")).to_contain_text(f"A post of person {world.plain} came into")
    expect(page.locator("#events")).to_contain_text(
        f"Person {world.work} is not connected any more."
    )
    expect(page.locator(".post .body")).to_have_text(["in the meantime"])
    expect(page.locator("#picture line.connected")).to_have_count(2)


def test_a_comment_on_an_own_post_that_is_old_appears_by_itself(
    window: Window, world: World, people: People, pair: Pair
) -> None:
    post = feed_pb2.PostName(author_id=world.me, post_id=people.post(world.me))
    # With these it is not among the posts of the feed that the console reads.
    for _ in range(20):
        people.post(world.plain)
    page = window.see_as(world.me)
    page.get_by_role("tab", name="Own posts").click()
    expect(page.locator(".post .about")).to_have_text("for all connections")

    pair.feed.CreateComment(
        feed_pb2.CreateCommentRequest(user_id=world.plain, post=post, body="still true")
    )

    expect(page.locator(".post .about")).to_contain_text("1 comment")


def test_a_call_is_shown_with_curl_and_grpcurl_so_that_it_can_be_made_again(
    window: Window, world: World, gateway: Gateway, tmp_path: Path
) -> None:
    page = window.see_as(world.me)
    page.get_by_label("Text").fill("it's a draft")
    page.get_by_label("Only me").check()
    page.get_by_role("button", name="Publish").click()
    mine = f"/users/{world.me}/posts"
    call = page.locator("#calls [data-method=CreatePost]", has_text=mine)

    call.locator("summary").click()
    curl, grpcurl = (call.locator(f"pre.{name}").inner_text() for name in ("curl", "grpcurl"))

    done = subprocess.run(shlex.split(curl), capture_output=True, check=True, timeout=30)
    first = json_format.Parse(done.stdout, feed_pb2.CreatePostResponse())
    # The id of the call is that of the page's own, so that both get the same answer.
    assert _made(grpcurl, gateway, tmp_path) == first
    assert first.post.body == "it's a draft"


def _made(grpcurl: str, gateway: Gateway, folder: Path) -> feed_pb2.CreatePostResponse:
    """Make the call of a command with grpcurl by buf, which takes the same."""
    name, *options, request, address, path = shlex.split(grpcurl)
    assert (name, options) == ("grpcurl", ["-plaintext", "-protoset", "kith.binpb", "-d"])
    contracts = folder / "kith.binpb"
    contracts.write_bytes(gateway.call("GET", "/docs/kith.binpb").body)
    told = buf_curl(address, f"/{path}", f"--schema={contracts}", "-d", request)
    return json_format.Parse(told.stdout, feed_pb2.CreatePostResponse())


def test_texts_of_people_never_become_markup(window: Window, world: World, people: People) -> None:
    people.post(world.plain, body=_MARKUP)
    people.tag(world.me, "<i>tag</i>", world.plain)
    page = window.see_as(world.me)

    page.get_by_role("button", name="Why do they see it?").click()
    page.locator(_node(world.plain)).click()

    expect(page.locator(".post .body")).to_have_text(_MARKUP)
    expect(page.locator("blockquote")).to_have_text(_MARKUP)
    expect(page.locator("#legend")).to_contain_text("<i>tag</i> (1)")
    expect(page.locator("main :is(img, script, b, i)")).to_have_count(0)


def test_a_refusal_is_told_with_its_reason(window: Window, world: World) -> None:
    page = window.see_as(world.me)
    page.locator(_node(world.plain)).click()

    page.get_by_label("New tag").fill("FAMILY")
    # The line of the browser may come after the alert of the page.
    with page.expect_console_message(lambda line: "409" in line.text):
        page.get_by_role("button", name="Create and give").click()

    expect(page.get_by_role("alert")).to_contain_text("TAG_NAME_TAKEN")
    assert [problem for problem in window.problems if "409" not in problem] == []
    window.problems.clear()


def test_the_picture_is_one_stop_of_the_tab_key_and_obeys_the_arrows(
    window: Window, world: World
) -> None:
    page = window.see_as(world.me)
    expect(page.locator("#picture line.knows")).to_have_count(1)
    assert page.locator("#picture [tabindex='0']").count() == 1

    page.locator("#picture [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    peer = page.locator("#picture :focus").get_attribute("data-id")
    page.keyboard.press("Enter")

    expect(page.locator("#peer h3")).to_contain_text(f"Person {peer}")
    expect(page.locator("#picture :focus")).to_have_attribute("aria-pressed", "true")


def _lightness(page: Page) -> dict[str, float]:
    """Return that of the paper in each scheme, 0 to 255."""
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found[scheme] = page.evaluate(_LIGHTNESS)
    return found


def test_the_console_fits_a_phone_in_dark_and_light(phone: Window, world: World) -> None:
    page = phone.see_as(world.me)

    lightness = _lightness(page)

    assert page.evaluate("document.documentElement.scrollWidth") == _PHONE["width"]
    assert lightness["light"] > 200
    assert lightness["dark"] < 60


@pytest.fixture(scope="module")
def guarded(
    pair: Pair, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that asks for tokens."""
    with running_gateway(
        tmp_path_factory.mktemp("guarded"),
        graph=pair.graph_server.address,
        feed=pair.feed_server.address,
        environment={**_PAGES, **issuer.environment},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def signed_in(
    chromium: Browser, guarded: Gateway, issuer: Issuer, pair: Pair
) -> Iterator[tuple[Page, int]]:
    """The console after somebody has given it their token, and who that is.

    They have a connection who has written a post.
    """
    people = People(pair)
    world = _new_world(people)
    people.post(world.plain, body="by a connection")
    with _window(chromium, guarded) as window:
        page = window.page
        page.goto(f"http://{guarded.address}/console")
        page.get_by_label("Token", exact=True).fill(issuer.token(world.me))
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#status")).to_contain_text(f"Person {world.me}:")
        yield page, world.me


def test_with_tokens_the_console_asks_for_one_and_shows_and_stores_it_nowhere(
    signed_in: tuple[Page, int],
) -> None:
    page, me = signed_in
    call = page.locator("#calls [data-method=GetFeed]", has=page.get_by_text("200"))

    call.locator("summary").first.click()

    expect(call.locator("pre.curl")).to_contain_text(f"/v1/users/{me}/feed")
    expect(call.locator("pre.curl")).to_contain_text('-H "authorization: Bearer $TOKEN"')
    assert "eyJ" not in page.content()
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert page.context.cookies() == []


def test_with_the_token_of_a_user_it_asks_why_about_posts_of_that_user_alone(
    signed_in: tuple[Page, int],
) -> None:
    page, _ = signed_in

    expect(page.locator(".post .body")).to_have_text(["by a connection"])
    expect(page.get_by_role("button", name="Why do they see it?")).to_have_count(0)


def test_the_back_button_leads_back_to_the_person_before(window: Window, world: World) -> None:
    page = window.see_as(world.me)
    page.locator(_node(world.plain)).click()
    page.get_by_role("button", name="See as them").click()
    expect(page.locator("#status")).to_contain_text(f"Person {world.plain}:")

    page.go_back()

    expect(page.locator("#status")).to_contain_text(f"Person {world.me}:")


def test_a_refresh_that_begins_meanwhile_keeps_nobody_from_another_person(
    window: Window, world: World
) -> None:
    page = window.see_as(world.me)
    other = f"**/users/{world.plain}/**"
    waiting: list[Route] = []

    def wait(route: Route) -> None:
        waiting.append(route)

    page.route(other, wait, times=1)

    with page.expect_request(other):
        page.goto(f"http://{window.address}/console#{world.plain}")
    with page.expect_request(f"**/users/{world.me}/**"):
        pass
    waiting[0].continue_()

    expect(page.locator("#status")).to_contain_text(f"Person {world.plain}:")


@pytest.fixture(scope="module")
def reference(chromium: Browser, gateway: Gateway) -> Iterator[Page]:
    """The reference, which takes seconds to draw."""
    with _window(chromium, gateway) as window:
        window.page.goto(f"http://{gateway.address}/docs")
        expect(window.page.locator(".opblock").first).to_be_visible()
        yield window.page
        assert window.problems == []


def test_a_call_can_be_made_in_the_reference(reference: Page, world: World, people: People) -> None:
    people.post(world.plain, body="seen in the reference")
    path = reference.get_by_text("/v1/users/{userId}/feed", exact=True)
    call = reference.locator(".opblock", has=path)

    call.locator(".opblock-summary").click()
    call.get_by_placeholder("userId").fill(str(world.me))
    call.get_by_role("button", name="Execute").click()

    expect(call.locator(".live-responses-table")).to_contain_text("seen in the reference")


def test_the_reference_has_every_call_and_fits_a_phone_in_dark_and_light(reference: Page) -> None:
    reference.set_viewport_size(_PHONE)

    lightness = _lightness(reference)

    assert reference.locator(".opblock").count() == len(exposed())
    assert reference.evaluate("document.documentElement.scrollWidth") == _PHONE["width"]
    assert lightness["light"] > 200
    assert lightness["dark"] < 60


@pytest.mark.parametrize("path", ["/console", "/console/console.js", "/docs", "/docs/docs.js"])
def test_a_page_runs_no_script_but_those_of_the_gateway(gateway: Gateway, path: str) -> None:
    answer = gateway.call("GET", path)

    policy = answer.headers["content-security-policy"].split("; ")
    assert answer.status == 200
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= {*policy}
    assert answer.headers["x-content-type-options"] == "nosniff"
