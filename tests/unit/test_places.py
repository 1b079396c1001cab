"""Places at which calls are worked on."""

from concurrent.futures import ThreadPoolExecutor

from kith.exceptions import DeadlineError, RateLimitError
from shared import deadlines
from shared.metrics import Usage
from shared.server.call_slots import Places
from tests.support.processes import until

_ROUNDS = 100


def _has_somebody_waiting(places: Places) -> bool:
    """Whether the one who may wait does."""
    try:
        with deadlines.within(0.001):
            places.take()
    except RateLimitError:
        return True
    except DeadlineError:
        return False
    raise AssertionError("there was a free place")


def _takes(places: Places) -> bool:
    try:
        places.take()
    except RateLimitError:
        return False
    return True


def test_who_waits_for_a_place_is_not_overtaken_by_who_comes_later() -> None:
    places = Places(1, queue=1)
    order: list[str] = []

    def wait_in_line() -> None:
        # Whoever looks whether somebody waits is in the way for a moment.
        while not _takes(places):
            pass
        order.append("who waited")
        places.leave()

    with ThreadPoolExecutor(1) as threads:
        for _ in range(_ROUNDS):
            places.take()
            waiting = threads.submit(wait_in_line)
            until(lambda: _has_somebody_waiting(places))
            places.leave()
            places.take()
            order.append("who came later")
            places.leave()
            waiting.result()

    assert order == ["who waited", "who came later"] * _ROUNDS


def test_what_is_taken_and_who_waits_is_told() -> None:
    places = Places(1, queue=1)
    places.take()

    with ThreadPoolExecutor(1) as threads:
        threads.submit(places.take)
        until(lambda: places.usage() == Usage(in_use=1, waiting=1, limit=1))
        places.leave()
    places.leave()

    assert places.usage() == Usage(in_use=0, waiting=0, limit=1)
