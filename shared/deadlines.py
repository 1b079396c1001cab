"""How long a call may take.

A caller says until when it will wait; what works for a call asks here how long that still is.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class CallEnd(NamedTuple):
    """When a call ends: at a time of `time.monotonic`, or before that, when its caller is gone."""

    at: float
    is_active: Callable[[], bool]


call_end: ContextVar[CallEnd | None] = ContextVar("call_end", default=None)


def seconds_left() -> float:
    """Return how long the call that is being worked for may still take; infinite outside of one."""
    end = call_end.get()
    return float("inf") if end is None else end.at - time.monotonic()


def is_over() -> bool:
    """Whether the current call has ended: its deadline has expired or its caller has gone."""
    end = call_end.get()
    return end is not None and (end.at <= time.monotonic() or not end.is_active())


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give what is in the block so long, and no longer than the call it is for may take."""
    latest, end = time.monotonic() + seconds, call_end.get()
    is_active = always if end is None else end.is_active
    token = call_end.set(CallEnd(latest if end is None else min(latest, end.at), is_active))
    try:
        yield
    finally:
        call_end.reset(token)


def always() -> bool:
    """Stand for a caller that never leaves."""
    return True
