"""The console keeps the rules of axe-core, those of WCAG 2.1 AA among them.

Needs Chromium (`make browser`), node and npm, which installs axe-core below build/.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.chromium import new_context, running_chromium
from tests.support.gateway import Gateway, running_gateway
from tests.support.npm import installed
from tests.support.pair import Pair
from tests.support.people import People

pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

_SOURCE = Path(__file__).parent / "axe"
_VIOLATIONS = """async () => (await axe.run()).violations.map(
  ({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`)"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    script = installed(_SOURCE) / "node_modules" / "axe-core" / "axe.min.js"
    return script.read_text(encoding="utf-8")


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
        environment={"GATEWAY_PAGES": "on"},
    ) as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_console_breaks_no_rule(
    axe: str, chromium: Browser, gateway: Gateway, people: People, scheme: str
) -> None:
    user, peer = people.connected(2)
    people.tag(user, "friends", peer)
    people.post(peer)
    # The policy of the console would let no script of a test in.
    with new_context(chromium, bypass_csp=True, color_scheme=scheme) as windows:
        page = windows.new_page()
        page.goto(f"http://{gateway.address}/console#{user}")
        page.locator(f"#picture [data-id='{peer}']").click()
        page.get_by_role("button", name="Why do they see it?").click()
        page.locator("#calls summary").first.click()
        expect(page.locator(".verdict")).to_be_visible()
        expect(page.locator("#peer h3")).to_be_visible()
        page.evaluate(axe)

        assert page.evaluate(_VIOLATIONS) == []
