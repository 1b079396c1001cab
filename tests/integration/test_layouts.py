"""A service whose setting and database disagree about the layout gets no calls."""

from contextlib import closing

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feed_service.layouts import LayoutCheck
from tests.support import citus
from tests.support.pair import LAYOUT, Pair, another_feed, tapped
from tests.support.processes import until
from tests.support.reading import new_reader

_OTHER = "single" if citus.URL else "distributed"


def _is_ready(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service="ready")
        response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def test_a_service_that_was_told_another_layout_than_its_database_has_is_not_ready(
    pair: Pair,
) -> None:
    with another_feed(pair, {"FEED_LAYOUT": _OTHER}) as (misled, _):
        with another_feed(pair) as (other, _):
            until(lambda: _is_ready(other.address))
            until(lambda: _is_ready(pair.feed_server.address))

        assert not _is_ready(misled.address)


def test_a_layout_that_was_right_is_not_asked_for_again_at_once(pair: Pair) -> None:
    with tapped(pair.feed_url) as (tap, url), closing(new_reader(url)) as reader:
        check = LayoutCheck(reader, LAYOUT)
        check()
        tap.reset()

        check()

        assert tap.statements == []
