"""What is known of where a primary's log was."""

import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from kith.environment import Environment
from shared.database.endpoint import Endpoint
from shared.database.metrics import database_latency
from shared.database.positions import Position
from shared.database.primary_log import PrimaryLog
from shared.database.reader import Reader
from shared.database.settings import DatabaseSettings

_CLUSTER = 7


@pytest.fixture
def log() -> Iterator[PrimaryLog]:
    """A log of which nothing is known, and which is not looked at."""
    settings = DatabaseSettings.read(Environment({}), "GRAPH")
    url = "postgresql+psycopg2://127.0.0.1:1/nothing"
    endpoint = Endpoint.of(settings, url, database_latency(CollectorRegistry()))
    yield PrimaryLog(Reader(endpoint), 1.0)
    endpoint.guard.close()


def _see(log: PrimaryLog, *seen: tuple[float, int]) -> None:
    for moment, position in seen:
        log.add(moment, _CLUSTER, Position(1, position))


def test_the_position_of_a_moment_is_the_first_that_was_seen_from_then_on(log: PrimaryLog) -> None:
    _see(log, (10.0, 100), (11.0, 200))

    assert [log.at(moment) for moment in (0.0, 10.0, 10.5, 11.0)] == [
        Position(1, 100), Position(1, 100), Position(1, 200), Position(1, 200),
    ]  # fmt: skip
    assert log.at(11.1) is None


def test_who_has_come_to_a_position_is_as_late_as_that_was_last_seen(log: PrimaryLog) -> None:
    now = time.monotonic()
    _see(log, (now - 30, 100), (now - 20, 200), (now - 10, 200))

    lags = [log.lag(Position(1, position)) for position in (150, 200, 999)]
    assert [lag is not None and round(lag) for lag in lags] == [30, 10, 10]
    assert log.lag(Position(1, 99)) is None


def test_without_a_look_nothing_is_known(log: PrimaryLog) -> None:
    log.look()

    assert log.at(0.0) is None
    assert log.lag(Position(1, 1)) is None
    assert log.history == (0, 0)


def test_after_a_promotion_what_was_seen_before_still_counts(log: PrimaryLog) -> None:
    _see(log, (10.0, 100))
    log.add(11.0, _CLUSTER, Position(2, 90))

    assert log.at(9.0) == Position(1, 100)
    assert log.history == (_CLUSTER, 2)


@pytest.mark.parametrize("seen", [(_CLUSTER + 1, Position(1, 500)), (_CLUSTER, Position(1, 50))])
def test_of_another_history_nothing_that_was_seen_counts(
    log: PrimaryLog, seen: tuple[int, Position]
) -> None:
    _see(log, (10.0, 100))
    log.add(11.0, *seen)

    assert log.at(0.0) == seen[1]


def test_what_is_long_past_is_forgotten(log: PrimaryLog) -> None:
    _see(log, *((float(second), second) for second in range(1_000)))

    first = log.at(0.0)
    assert first is not None
    assert 900 < first.offset < 999
