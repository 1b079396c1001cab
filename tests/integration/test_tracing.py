"""A trace can be followed from the caller through both services into the databases."""

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from feed_service.layouts import SINGLE
from kith.feed.v1 import feed_pb2 as feed
from kith.trace_context import Metadata
from tests.support.collector import Received, collecting
from tests.support.pair import (
    LAYOUT,
    Databases,
    Pair,
    another_feed,
    running_fenced_pair,
    running_pair,
)
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


def _one(spans: Sequence[Received], title: str) -> Received:
    [span] = [each for each in spans if each.title == title]
    return span


_GET_FEED = "kith.feed.v1.FeedService/GetFeed"
_ASK = "kith.graph.v1.GraphService/GetConnectedUserIds"
# The statement of a page.
_PAGE = "feed_page" if LAYOUT is SINGLE else "author_posts"


def test_a_collector_gets_spans_of_calls_and_of_what_they_ask_below_each_other(
    databases: Databases,
) -> None:
    with collecting() as (collector, address):
        with running_pair(databases, {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as pair:
            _feed(pair, 1, _TRACED)
        # Services that have stopped have sent all there was.
        spans = collector.of_trace(_TRACE)

    page = _one(spans, f"feed_service {_GET_FEED}")
    assert page.span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert page.attributes["kith.sql_statements"] == 1
    first, *_ = asked = [each for each in collector.below(page) if each.span.name == _ASK]
    assert {each.title for each in collector.below(page)} == {
        f"feed_service {_ASK}",
        f"feed_service {_PAGE}",
    }
    assert {each.span.kind for each in asked} == {Span.SPAN_KIND_CLIENT}
    [answered] = collector.below(first)
    assert (answered.title, answered.span.kind) == (f"graph_service {_ASK}", Span.SPAN_KIND_SERVER)
    assert answered.span.trace_state == "rojo=00f067aa0ba902b7"
    [statement, *_] = collector.below(answered)
    assert statement.attributes == {"db.system.name": "postgresql"}


def test_a_span_tells_the_status_of_its_call_and_begins_a_trace_of_its_own(
    databases: Databases,
) -> None:
    with collecting() as (collector, address):
        with (
            running_pair(databases, {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as pair,
            pytest.raises(grpc.RpcError),
        ):
            pair.feed.GetPost(feed.GetPostRequest())
        refused = _one(collector.spans, "feed_service kith.feed.v1.FeedService/GetPost")

    assert refused.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert refused.span.parent_span_id == b""


def test_a_statement_that_goes_past_sqlalchemy_and_one_that_does_not_are_spans_of_their_call(
    databases: Databases,
) -> None:
    with collecting() as (collector, address):
        with running_pair(databases, {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as pair:
            pair.feed_tap.reset()
            people = People(pair)
            people.post(1)
            statements = pair.feed_tap.statements
            people.tag(1, "tag")
        creation = _one(collector.spans, "feed_service kith.feed.v1.FeedService/CreatePost")
        tagging = _one(collector.spans, "feed_service kith.feed.v1.FeedService/CreateTag")

    for call in (creation, tagging):
        below = [each for each in collector.below(call) if "db.system.name" in each.attributes]
        assert len(below) == call.attributes["kith.sql_statements"] > 0
    # The database's operator finds the span in the statement.
    of_creation = [each.span.span_id.hex() for each in collector.below(creation)]
    assert all(any(span_id in text for text in statements) for span_id in of_creation)


def test_a_call_that_is_not_sampled_has_no_spans_of_statements(databases: Databases) -> None:
    with collecting() as (collector, address):
        with running_pair(databases, {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as pair:
            _feed(pair, 1, (("traceparent", f"00-{_TRACE}-00f067aa0ba902b7-00"),))

        assert collector.of_trace(_TRACE) == []


def test_what_a_change_asks_of_keepers_of_fences_is_below_the_change(databases: Databases) -> None:
    with collecting() as (collector, address):
        with running_fenced_pair(databases, {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as (pair, _):
            people = People(pair)
            user, peer = people.connected(2)
            people.remove(user, peer)
        change = _one(collector.spans, "graph_service kith.graph.v1.GraphService/RemoveConnection")
        [asked] = [
            each for each in collector.below(change) if each.span.name.endswith("/OpenFences")
        ]
        [kept] = collector.below(asked)

    assert kept.title == "feed_service kith.graph.v1.FenceKeeperService/OpenFences"


def test_a_service_without_its_collector_serves_all_the_same(pair: Pair, people: People) -> None:
    user = people.new(1)[0]
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}

    with another_feed(pair, nowhere) as (_, stub):
        assert not stub.GetFeed(feed.GetFeedRequest(user_id=user), metadata=_TRACED).posts
