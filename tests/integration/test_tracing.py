"""A trace can be followed from the caller through both services into the databases."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from feed_service.layouts import SINGLE
from kith.feed.v1 import feed_pb2 as feed
from kith.trace_context import Metadata
from tests.support.pair import LAYOUT, Databases, Pair, another_feed, running_pair
from tests.support.people import ALL, People
from tests.support.processes import until
from tests.support.rows import last_statements

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_PARENT = f"00-{_TRACE}-00f067aa0ba902b7-01"
_TRACED = (("traceparent", _PARENT), ("tracestate", "rojo=00f067aa0ba902b7"))
_COMMENT = f"/*traceparent='{_PARENT}'*/"


def _feed(pair: Pair, user: int, metadata: Metadata) -> None:
    pair.feed.GetFeed(feed.GetFeedRequest(user_id=user), metadata=metadata)


def _lines(errors: str) -> dict[str, dict[str, Any]]:
    """Return the lines of calls by the methods they are about."""
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    return {line["grpc_method"]: line for line in lines if line["message"] == "call"}


@pytest.fixture
def _call_lines() -> Iterator[None]:
    """Calls are logged, as they are when a service is started as a program."""
    log = logging.getLogger("kith.calls")
    log.setLevel(logging.INFO)
    yield
    log.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_call_lines")
def test_a_call_is_found_in_the_logs_of_both_services_by_its_trace(
    pair: Pair, people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    _feed(pair, people.new(1)[0], _TRACED)

    lines: dict[str, dict[str, Any]] = {}

    def are_there() -> bool:
        lines.update(_lines(capsys.readouterr().err))
        return lines.keys() >= {"GetFeed", "GetConnectedUserIds"}

    # A line is written after the answer has gone.
    until(are_there)
    assert lines["GetFeed"]["trace_id"] == _TRACE
    assert lines["GetConnectedUserIds"]["trace_id"] == _TRACE


@pytest.mark.usefixtures("_call_lines")
def test_a_call_without_a_trace_is_logged_without_one(
    pair: Pair, people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    _feed(pair, people.new(1)[0], ())

    lines: dict[str, dict[str, Any]] = {}

    def is_there() -> bool:
        lines.update(_lines(capsys.readouterr().err))
        return "GetFeed" in lines

    until(is_there)
    assert "trace_id" not in lines["GetFeed"]


def test_the_operators_of_both_databases_see_what_a_read_is_for(pair: Pair, people: People) -> None:
    user = people.new(1)[0]
    # Of a trace of its own, for a session shows what it did last, however long ago that was.
    parent = f"00-{'b' * 32}-00f067aa0ba902b7-01"

    def shown(url: str) -> list[str]:
        """Read once more, for readiness may have asked something over the same session since."""
        _feed(pair, user, (("traceparent", parent),))
        return [text for text in last_statements(url) if parent in text]

    # What goes to a Citus is planned by its values each time, trace or not.
    for url in (pair.feed_url, pair.graph_url) if LAYOUT is SINGLE else (pair.graph_url,):
        # It is still the prepared one, or it would be planned for every trace.
        until(lambda url=url: any(_is_prepared(text) for text in shown(url)))  # type: ignore[misc]  # mypy knows no default of a lambda


def _is_prepared(statement: str) -> bool:
    return "EXECUTE " in statement and "SELECT" not in statement


def test_each_statement_of_a_write_tells_what_it_is_for(pair: Pair, people: People) -> None:
    pair.feed_tap.reset()

    pair.feed.CreatePost(
        feed.CreatePostRequest(user_id=people.new(1)[0], body="hello", audience=ALL),
        metadata=_TRACED,
    )

    statements = [text for text in pair.feed_tap.statements if _COMMENT in text]
    assert len(statements) == (2 if LAYOUT is SINGLE else 4)
    assert statements[-1].startswith(_COMMENT)
    assert statements[-1].endswith("; COMMIT")


def test_a_statement_of_a_call_without_a_trace_has_no_comment(pair: Pair, people: People) -> None:
    pair.feed_tap.reset()

    people.post(people.new(1)[0])

    assert not [text for text in pair.feed_tap.statements if "traceparent" in text]


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "*/; DROP TABLE posts; --",
        f"00-{_TRACE}-00f067aa0ba902b7-01*/ --",
        f"00-{_TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{_TRACE}-{'0' * 16}-01",
        f"ff-{_TRACE}-00f067aa0ba902b7-01",
    ],
)
def test_a_malformed_trace_is_none(pair: Pair, people: People, parent: str) -> None:
    pair.feed_tap.reset()

    pair.feed.CreatePost(
        feed.CreatePostRequest(user_id=people.new(1)[0], body="hello", audience=ALL),
        metadata=(("traceparent", parent),),
    )

    assert not [text for text in pair.feed_tap.statements if "traceparent" in text]


class _Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent, by the names of the services they are of."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}

    def Export(  # noqa: N802 -- so it is called in the contract
        self, request: trace_service_pb2.ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for of_service in request.resource_spans:
            [name] = [
                attribute.value.string_value
                for attribute in of_service.resource.attributes
                if attribute.key == "service.name"
            ]
            for of_scope in of_service.scope_spans:
                self.spans.setdefault(name, []).extend(of_scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def _collecting() -> Iterator[tuple[_Collector, str]]:
    """Start a collector; yields it and where it listens."""
    collector = _Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def _attributes(span: Span) -> dict[str, Any]:
    return {
        attribute.key: getattr(attribute.value, str(attribute.value.WhichOneof("value")))
        for attribute in span.attributes
    }


def test_a_collector_gets_a_span_of_each_call_below_that_of_its_caller(
    databases: Databases,
) -> None:
    with _collecting() as (collector, address):
        with running_pair(databases, {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as pair:
            _feed(pair, 1, _TRACED)
            with pytest.raises(grpc.RpcError):
                pair.feed.GetPost(feed.GetPostRequest())
        # Services that have stopped have sent all there was.
        of_feed = {span.name: span for span in collector.spans["kith.feed.v1.FeedService"]}
        [asked, *_] = [
            span
            for span in collector.spans["kith.graph.v1.GraphService"]
            if span.name.endswith("/GetConnectedUserIds")
        ]

    page = of_feed["kith.feed.v1.FeedService/GetFeed"]
    assert page.trace_id.hex() == asked.trace_id.hex() == _TRACE
    assert page.parent_span_id.hex() == "00f067aa0ba902b7"
    assert asked.parent_span_id == page.span_id
    assert _attributes(page)["kith.sql_statements"] == 1
    assert asked.trace_state == "rojo=00f067aa0ba902b7"
    refused = of_feed["kith.feed.v1.FeedService/GetPost"]
    assert _attributes(refused)["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert refused.trace_id.hex() != _TRACE


def test_a_service_without_its_collector_serves_all_the_same(pair: Pair, people: People) -> None:
    user = people.new(1)[0]
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}

    with another_feed(pair, nowhere) as (_, stub):
        assert not stub.GetFeed(feed.GetFeedRequest(user_id=user), metadata=_TRACED).posts
