"""Slots that bound how many calls run at once."""

from concurrent.futures import ThreadPoolExecutor

from kith.exceptions import DeadlineError, RateLimitError
from shared import deadlines
from shared.metrics import Usage
from shared.server.call_slots import Slots
from tests.support.processes import until

_ROUNDS = 100


def _has_somebody_waiting(slots: Slots) -> bool:
    """Whether the one who may wait does."""
    try:
        with deadlines.within(0.001):
            slots.take()
    except RateLimitError:
        return True
    except DeadlineError:
        return False
    raise AssertionError("there was a free slot")


def _takes(slots: Slots) -> bool:
    try:
        slots.take()
    except RateLimitError:
        return False
    return True


def test_a_call_that_waits_for_a_slot_is_not_overtaken_by_a_later_one() -> None:
    slots = Slots(1, queue=1)
    order: list[str] = []

    def wait_in_line() -> None:
        # `_has_somebody_waiting` is in the queue for a moment, and may be in the way.
        while not _takes(slots):
            pass
        order.append("who waited")
        slots.leave()

    with ThreadPoolExecutor(1) as threads:
        for _ in range(_ROUNDS):
            slots.take()
            waiting = threads.submit(wait_in_line)
            until(lambda: _has_somebody_waiting(slots))
            slots.leave()
            slots.take()
            order.append("who came later")
            slots.leave()
            waiting.result()

    assert order == ["who waited", "who came later"] * _ROUNDS


def test_what_is_taken_and_who_waits_is_told() -> None:
    slots = Slots(1, queue=1)
    slots.take()

    with ThreadPoolExecutor(1) as threads:
        threads.submit(slots.take)
        until(lambda: slots.usage() == Usage(in_use=1, waiting=1, limit=1))
        slots.leave()
    slots.leave()

    assert slots.usage() == Usage(in_use=0, waiting=0, limit=1)
