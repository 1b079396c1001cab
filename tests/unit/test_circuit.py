"""The circuit: when it opens, when it tries, when it closes."""

from datetime import timedelta

import pytest

from shared.circuit import Circuit


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(failures=3, pause=timedelta(seconds=1), clock=clock)


def _fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        circuit.failed()


def test_it_lets_everything_through_until_enough_tries_in_a_row_have_failed(
    circuit: Circuit,
) -> None:
    _fail(circuit, 2)
    circuit.succeeded()
    _fail(circuit, 2)
    assert circuit.lets_through()

    circuit.failed()
    assert not circuit.lets_through()


def test_open_it_lets_one_try_through_in_each_pause(circuit: Circuit, clock: Clock) -> None:
    _fail(circuit, 3)
    clock.now += 1

    assert [circuit.lets_through() for _ in range(3)] == [True, False, False]
    clock.now += 1
    assert [circuit.lets_through() for _ in range(3)] == [True, False, False]


def test_it_closes_with_the_first_success(circuit: Circuit, clock: Clock) -> None:
    _fail(circuit, 10)
    clock.now += 1
    assert circuit.lets_through()

    circuit.succeeded()

    assert [circuit.lets_through() for _ in range(3)] == [True, True, True]
