"""Lists from their first page to their last."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from copy import deepcopy

from kith.client.paging import Answer, Asked, Item


async def pages(
    call: Callable[[Asked], Awaitable[Answer]], request: Asked
) -> AsyncIterator[Answer]:
    """Yield the pages of a list, from the one that is asked for to the last."""
    asked = deepcopy(request)
    while True:
        page = await call(asked)
        yield page
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token


async def items(
    call: Callable[[Asked], Awaitable[Answer]],
    request: Asked,
    each: Callable[[Answer], Iterable[Item]],
) -> AsyncIterator[Item]:
    """Yield what all pages of a list hold, such as `lambda page: page.posts`, each item once."""
    async for page in pages(call, request):
        for item in each(page):
            yield item
