"""The clients in Python, with the real services."""

import asyncio
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import grpc
import pytest

from kith.client import aio, resumed
from kith.client.settings import TargetSettings
from kith.environment import Environment
from kith.exceptions import DeadlineError, UnavailableError, ValidationError
from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.clients import ThreadsLibrary
from tests.support.gate import Gate
from tests.support.pair import Pair
from tests.support.people import ALL, People
from tests.support.processes import Session

_GUIDE = Path(__file__).parents[2] / "docs" / "clients.md"
_NOBODY = TargetSettings.read(Environment({}))
_CEILING_SECONDS = 60


class _Lost(grpc.RpcError):
    """What a caller is told whose answer was lost on the way."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "the answer was lost"


def _client(library: Any, pair: Pair, *, graph: str = "", feed: str = "") -> Any:
    return library.KithClient(
        graph=graph or pair.graph_server.address,
        feed=feed or pair.feed_server.address,
        access=_NOBODY,
    )


@pytest.fixture
def kith(pair: Pair, library: Any) -> Iterator[Any]:
    """A client of the real services."""
    with _client(library, pair) as client:
        yield client


@pytest.fixture
def lossy(pair: Pair, library: Any) -> Iterator[tuple[Any, Callable[[str], None]]]:
    """A client with a proxy before each service, and what makes them lose the next answer."""
    to_be_lost = set[str]()

    def lose(method: str) -> None:
        if method in to_be_lost:
            to_be_lost.remove(method)
            raise _Lost

    with (
        Gate(pair.graph_server.address) as before_graph,
        Gate(pair.feed_server.address) as before_feed,
        _client(library, pair, graph=before_graph.address, feed=before_feed.address) as client,
    ):
        before_graph.after_call = before_feed.after_call = lose
        yield client, to_be_lost.add


def _draft(user_id: int) -> feed.CreatePostRequest:
    return feed.CreatePostRequest(user_id=user_id, body="hello", audience=ALL)


def test_items_are_what_all_pages_hold_each_once(kith: Any, people: People, library: Any) -> None:
    [author] = people.new(1)
    posts = [people.post(author) for _ in range(7)]
    request = feed.GetFeedRequest(user_id=author, page_size=3)

    found = [
        post.post_id for post in library.items(kith.feed.GetFeed, request, lambda page: page.posts)
    ]

    assert found == posts[::-1]
    assert [len(page.posts) for page in library.pages(kith.feed.GetFeed, request)] == [3, 3, 1]
    assert request.page_token == ""


def test_a_creation_whose_answer_was_lost_makes_one_post(
    lossy: tuple[Any, Callable[[str], None]], people: People
) -> None:
    kith, lose = lossy
    [author] = people.new(1)

    lose("CreatePost")
    created = kith.feed.CreatePost(_draft(author)).post

    assert people.feed(author) == [created.post_id]


def test_a_draft_that_is_sent_twice_makes_two_posts_and_stays_as_it_was(
    kith: Any, people: People
) -> None:
    [author] = people.new(1)
    draft = _draft(author)

    posts = [kith.feed.CreatePost(draft).post.post_id for _ in range(2)]

    assert people.feed(author) == posts[::-1]
    assert draft == _draft(author)


def test_bad_input_raises_what_the_service_says_of_each_field(kith: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        kith.feed.CreatePost(feed.CreatePostRequest(body="x" * 20_000))

    fields = [violation.field for violation in caught.value.violations]
    assert caught.value.reason_name == "INVALID_FIELD"
    assert fields == ["user_id", "body", "audience.kind"]
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_a_call_ends_with_its_own_deadline(kith: Any, pair: Pair, people: People) -> None:
    [author] = people.new(1)
    with Session(pair.feed_url) as session:
        session.rows("LOCK TABLE posts")
        with pytest.raises(DeadlineError):
            kith.feed.CreatePost(_draft(author), timeout=0.2)
        with pytest.raises(DeadlineError):
            kith.feed.CreatePost.future(_draft(author), timeout=0.2).result()


def test_a_service_that_is_not_there_is_told_as_unreachable(library: Any) -> None:
    nowhere = "127.0.0.1:1"
    with (
        library.KithClient(graph=nowhere, feed=nowhere, access=_NOBODY, waits=False) as client,
        pytest.raises(UnavailableError) as caught,
    ):
        client.feed.CreatePost(_draft(1))

    assert caught.value.reason_name == "SERVICE_UNREACHABLE"
    assert nowhere in caught.value.message


def test_a_stream_raises_what_the_service_says(kith: Any) -> None:
    stream = kith.graph.WatchConnections(graph.WatchConnectionsRequest(cursor="made up"))

    with pytest.raises(ValidationError):
        next(stream)


def test_a_stream_that_is_cancelled_ends(kith: Any) -> None:
    stream = kith.graph.WatchConnections(graph.WatchConnectionsRequest())
    next(stream)

    stream.cancel()

    assert list(stream) == []


def test_a_stream_that_breaks_off_goes_on_behind_its_last_message(
    lossy: tuple[Any, Callable[[str], None]], people: People, library: Any
) -> None:
    kith, lose = lossy
    user, *peers = people.new(4)
    changes = library.resumed(kith.graph.WatchConnections, graph.WatchConnectionsRequest())
    next(changes)

    told = list[int]()
    for peer in peers:
        lose("WatchConnections")
        people.connect(user, peer)
        while peer not in told:
            told += [event.peer_id for event in next(changes).events if event.actor_id == user]
    changes.close()

    assert told == peers


def _changes(kith: Any, *, seconds: float) -> Generator[graph.WatchConnectionsResponse, None, None]:
    """Return a stream with so much time, which goes on with one that has enough."""
    times = chain([seconds], repeat(_CEILING_SECONDS))
    return resumed(
        lambda asked: kith.graph.WatchConnections(asked, timeout=next(times)),
        graph.WatchConnectionsRequest(),
    )


def _changes_whose_time_is_over(kith: Any) -> Generator[graph.WatchConnectionsResponse, None, None]:
    """Return a stream that has brought a message before its time was over."""
    for seconds in (0.2 * 2**number for number in count()):
        changes = _changes(kith, seconds=seconds)
        # On a busy machine none comes in so short a time.
        with suppress(DeadlineError):
            next(changes)
            time.sleep(seconds)
            return changes
    raise AssertionError


def test_a_stream_whose_time_is_over_goes_on_behind_its_last_message(
    pair: Pair, people: People
) -> None:
    first, second = people.new(2)
    with _client(ThreadsLibrary, pair) as kith:
        changes = _changes_whose_time_is_over(kith)

        people.connect(first, second)
        # While others write, a stream may begin before what earlier tests have done.
        told = (event for chunk in changes for event in chunk.events if event.actor_id == first)
        event = next(told)
        changes.close()

    assert event.peer_id == second


def test_a_stream_of_posts_that_breaks_off_is_resumed_from_the_oldest_only_once(
    lossy: tuple[Any, Callable[[str], None]], people: People, library: Any
) -> None:
    kith, lose = lossy
    [user] = people.new(1)
    posts = [people.post(user)]
    request = feed.WatchPostsRequest(from_oldest=True, user_ids=[user])
    changes = library.resumed(kith.feed.WatchPosts, request)
    told = list[int]()
    while not told:
        told += [event.post_id for event in next(changes).events]

    lose("WatchPosts")
    posts.append(people.post(user))
    while len(told) < len(posts):
        told += [event.post_id for event in next(changes).events]
    changes.close()

    assert told == posts


def test_an_import_whose_answer_was_lost_is_sent_again_until_it_is_known(
    lossy: tuple[Any, Callable[[str], None]], people: People, library: Any
) -> None:
    kith, lose = lossy
    first, second = people.new(2)
    pair = graph.ConnectionPair(first_user_id=first, second_user_id=second)

    lose("ImportConnections")
    done = library.imported(
        kith.graph.ImportConnections, graph.ImportConnectionsRequest(connections=[pair])
    )

    assert (done.imported_count, done.existing_count) == (0, 1)


def test_a_closed_client_makes_no_calls(pair: Pair, library: Any) -> None:
    client = _client(library, pair)
    client.close()

    with pytest.raises((ValueError, grpc.aio.UsageError), match="closed"):
        client.feed.ListTags(feed.ListTagsRequest(user_id=1))


def test_a_task_that_reads_a_stream_can_be_cancelled(pair: Pair) -> None:
    async def cancelled() -> bool:
        graph_address, feed_address = pair.graph_server.address, pair.feed_server.address
        begun = asyncio.Event()

        async def read(kith: aio.KithClient) -> None:
            async for _ in kith.graph.WatchConnections(graph.WatchConnectionsRequest()):
                begun.set()

        async with aio.KithClient(graph=graph_address, feed=feed_address, access=_NOBODY) as kith:
            task = asyncio.create_task(read(kith))
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())


@pytest.mark.parametrize(("number", "user"), [(0, 17), (1, 18)])
def test_an_example_in_the_guide_runs_as_it_is_printed(
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    user: int,
) -> None:
    monkeypatch.setenv("GRAPH_TARGET", pair.graph_server.address)
    monkeypatch.setenv("FEED_TARGET", pair.feed_server.address)
    examples = re.findall(r"(?<=```python\n).*?(?=```)", _GUIDE.read_text(), re.DOTALL)

    exec(examples[number], {})  # noqa: S102 -- it is ours

    assert len(examples) == 2
    assert capsys.readouterr().out == (
        f"{user} Good morning\nINVALID_FIELD ['body', 'audience.kind']\n"
    )
