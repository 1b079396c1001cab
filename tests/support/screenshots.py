"""Takes the pictures in docs/images of a gateway in front of the sample."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.chromium import new_context, running_chromium

_FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"
_PERSON: Final = 17
_WIDE: Final = {"width": 1280, "height": 900}
_PHONE: Final = {"width": 390, "height": 844}


def _console(page: Page, url: str) -> None:
    page.goto(f"{url}/console#{_PERSON}")
    expect(page.locator("#picture line.knows").first).to_be_attached()


def _why(page: Page, url: str) -> None:
    _console(page, url)
    page.get_by_role("button", name="Why do they see it?").nth(1).click()
    expect(page.locator(".verdict")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")


def _draft(page: Page, url: str) -> None:
    _console(page, url)
    page.get_by_label("Text").fill("Who is coming along to the lake on Sunday?")
    page.get_by_label("People with tags").check()
    steps = (("Shown to", "friends", "6 people"), ("Never shown to", "family", "5 people"))
    for name, tag, counted in steps:
        page.get_by_role("group", name=name, exact=True).get_by_label(tag).check()
        expect(page.locator("#preview")).to_contain_text(counted)
    page.locator("#around").evaluate("(section) => section.scrollIntoView()")


def _reference(page: Page, url: str) -> None:
    page.goto(f"{url}/docs")
    call = page.locator(".opblock", has=page.get_by_text("/v1/users/{userId}/feed", exact=True))
    call.locator(".opblock-summary").click()
    call.get_by_placeholder("userId").fill(str(_PERSON))
    call.scroll_into_view_if_needed()


_PICTURES: Final[dict[str, tuple[Callable[[Page, str], None], dict[str, int], str]]] = {
    "console": (_why, _WIDE, "light"),
    "console-dark": (_draft, _WIDE, "dark"),
    "console-phone": (_console, _PHONE, "light"),
    "docs": (_reference, _WIDE, "light"),
}


def main(url: str) -> None:
    """Take all pictures."""
    _FOLDER.mkdir(exist_ok=True)
    with running_chromium() as chromium:
        for name, (arrange, size, scheme) in _PICTURES.items():
            with new_context(chromium, viewport=size, color_scheme=scheme) as windows:
                page = windows.new_page()
                arrange(page, url)
                with Image.open(io.BytesIO(page.screenshot())) as taken:
                    # A third of the bytes, and no colour is off by more than 8 of 255.
                    few = taken.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
                    few.save(_FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
