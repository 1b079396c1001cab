"""Lists from their first page to their last."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Protocol, TypeVar


class PageRequest(Protocol):
    """A request for a page; its `page_size` is the caller's to set."""

    page_token: str


class Page(Protocol):
    """A page."""

    next_page_token: str


Asked = TypeVar("Asked", bound=PageRequest)
Answer = TypeVar("Answer", bound=Page)
Item = TypeVar("Item")


def pages(call: Callable[[Asked], Answer], request: Asked) -> Iterator[Answer]:
    """Yield the pages of a list, from the one that is asked for to the last."""
    asked = deepcopy(request)
    while True:
        page = call(asked)
        yield page
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token


def items(
    call: Callable[[Asked], Answer], request: Asked, each: Callable[[Answer], Iterable[Item]]
) -> Iterator[Item]:
    """Yield what all pages of a list hold, such as `lambda page: page.posts`, each item once."""
    for page in pages(call, request):
        yield from each(page)
