"""OpenTelemetry's own instrumentation of gRPC makes spans of the calls of kith.client."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kith.client import KithClient
from kith.client.aio import KithClient as AsyncKithClient
from kith.exceptions import ResourceNotFoundError
from kith.feed.v1 import feed_pb2
from tests.support.pair import Pair
from tests.support.people import ALL, People

Spans = Callable[[str], list[ReadableSpan]]


@pytest.fixture(scope="module")
def made() -> InMemorySpanExporter:
    """Keeps all spans. Their provider is the process's, as in a program.

    The instrumentation of calls without asyncio knows no other, and a process has one for good.
    """
    provider, made = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(made))
    trace.set_tracer_provider(provider)
    return made


@pytest.fixture
def spans(made: InMemorySpanExporter) -> Spans:
    """Returns the spans of a method that the test has made."""
    made.clear()

    def named(method: str) -> list[ReadableSpan]:
        name = f"/kith.feed.v1.FeedService/{method}"
        return [span for span in made.get_finished_spans() if span.name == name]

    return named


@contextmanager
def _instrumented(instrumentor: Any) -> Iterator[None]:
    """Channels that are opened meanwhile make spans."""
    instrumentor.instrument()
    try:
        yield
    finally:
        instrumentor.uninstrument()


def _missing(people: People) -> feed_pb2.GetPostRequest:
    [author] = people.new(1)
    return feed_pb2.GetPostRequest(user_id=author, author_id=author, post_id=1)


def _draft(people: People) -> feed_pb2.CreatePostRequest:
    return feed_pb2.CreatePostRequest(user_id=people.new(1)[0], body="hello", audience=ALL)


def _is_continued(pair: Pair, span: ReadableSpan) -> bool:
    """Whether the statements of the feed belong to a span."""
    assert span.context is not None
    parent = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    return any(parent in statement for statement in pair.feed_tap.statements)


def test_a_call_is_a_span_that_the_services_continue(
    pair: Pair, people: People, spans: Spans
) -> None:
    graph, feed = pair.graph_server.address, pair.feed_server.address
    pair.feed_tap.reset()

    with (
        _instrumented(GrpcInstrumentorClient()),
        KithClient.from_environment(graph=graph, feed=feed) as kith,
    ):
        kith.session().feed.CreatePost(_draft(people))
        with pytest.raises(ResourceNotFoundError):
            kith.feed.GetPost(_missing(people))

    [created], [failed] = spans("CreatePost"), spans("GetPost")
    assert _is_continued(pair, created)
    assert failed.status.status_code is trace.StatusCode.ERROR


def test_a_call_of_asyncio_is_a_span_that_the_services_continue(
    pair: Pair, people: People, spans: Spans
) -> None:
    graph, feed = pair.graph_server.address, pair.feed_server.address
    pair.feed_tap.reset()

    async def call() -> None:
        async with AsyncKithClient.from_environment(graph=graph, feed=feed) as kith:
            await kith.session().feed.CreatePost(_draft(people))

    with _instrumented(GrpcAioInstrumentorClient()):
        asyncio.run(call())

    [created] = spans("CreatePost")
    assert _is_continued(pair, created)
