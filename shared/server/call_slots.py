"""The slots that bound how many calls run at once.

In grpcio a call has a thread from its first header on, and this thread waits for the message. So
there are many more threads than slots: calls that were opened and send nothing take threads that no
other call needs. A call takes a slot only when its message is there.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Final

from kith.errors.v1 import errors_pb2
from kith.exceptions import DeadlineError, RateLimitError
from shared import deadlines
from shared.access.rules import Weight
from shared.metrics import Usage

CALLS_OPEN: Final = 512
"""How many calls may have a thread; the others wait for one."""

STREAMS_OF_A_CONNECTION: Final = 32
"""How many calls one connection may have open, or twice the slots where that is more.

The rest waits at the client. gRPC keeps the headers of each, however large they are.
"""

HEAVY_AT_ONCE: Final = 2
"""How many heavy calls of one user run at once in a process."""

_RETRY_AFTER: Final = timedelta(seconds=1)
# One of so many slots is for heavy calls, and there is one stream for so many slots.
_HEAVY_PART: Final = 4
_STREAMS_PART: Final = 2
_LONGEST_WAIT_SECONDS: Final = 3600.0


class Slots:
    """A number of calls may run at once, and as many as `queue` may wait. Thread-safe.

    grpcio can refuse calls as well (`maximum_concurrent_rpcs`), but would also refuse health, and
    does not say when to retry.
    """

    def __init__(self, number: int, *, queue: int) -> None:
        self._number = number
        self._free = number
        self._queue = queue
        # The calls that wait, the first one first; the release of its lock tells a call that it is
        # its turn. A semaphore would give a free slot to a call that has not waited.
        self._turns = deque[threading.Lock]()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take a slot, or wait for one.

        Raises RateLimitError at once when too many calls wait, and DeadlineError when the deadline
        expires first.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return
            if len(self._turns) >= self._queue:
                raise RateLimitError(
                    "too many calls at once; retry later", retry_after=_RETRY_AFTER
                )
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        if not self._comes(turn):
            raise DeadlineError("the deadline expired while the call was queued")
        if deadlines.is_over():
            self.leave()
            raise DeadlineError("the deadline expired while the call was queued")

    def leave(self) -> None:
        """Release the slot; the call that has waited longest takes it."""
        with self._lock:
            if self._turns:
                self._turns.popleft().release()
            else:
                self._free += 1

    def usage(self) -> Usage:
        """Return how many slots are taken now, and how many calls wait."""
        with self._lock:
            return Usage(
                in_use=self._number - self._free, waiting=len(self._turns), limit=self._number
            )

    def _comes(self, turn: threading.Lock) -> bool:
        """Wait for the turn; returns False when the deadline expires first."""
        seconds = max(0.0, min(deadlines.seconds_left(), _LONGEST_WAIT_SECONDS))
        if turn.acquire(timeout=seconds):
            return True
        with self._lock:
            if turn in self._turns:
                self._turns.remove(turn)
                return False
        return True


class CallSlots:
    """The slots of a process: how many calls of each weight run at once.

    A heavy call takes one of the few slots of its weight before it takes an ordinary one, so heavy
    calls together never have more than a part of all slots. A vital call takes neither: it runs
    beside any number of other calls. Streams are imports and exports, all of them heavy, and they
    run for longer than a call would wait: they are refused when their slots are taken.
    """

    def __init__(self, number: int, *, queue: int) -> None:
        self._ordinary = Slots(number, queue=queue)
        self._heavy = Slots(max(1, number // _HEAVY_PART), queue=queue // _HEAVY_PART)
        self._vital = Slots(number, queue=queue)
        self._streams = Slots(max(1, number // _STREAMS_PART), queue=0)

    def usage(self) -> Mapping[str, Usage]:
        """Return how many slots of each weight are taken now; `ordinary` has the heavy ones too."""
        return {
            "ordinary": self._ordinary.usage(),
            "heavy": self._heavy.usage(),
            "vital": self._vital.usage(),
            "stream": self._streams.usage(),
        }

    def of(self, weight: Weight, *, is_stream: bool) -> Sequence[Slots]:
        """Return the kinds of slots of which a call takes one each, in this order."""
        if is_stream:
            return (self._streams,)
        if weight is Weight.VITAL:
            return (self._vital,)
        return (self._heavy, self._ordinary) if weight is Weight.HEAVY else (self._ordinary,)


class HeavyUsers:
    """Counts the heavy calls of each user that run now. Thread-safe."""

    def __init__(self) -> None:
        self._calls = Counter[int]()
        self._lock = threading.Lock()

    def enter(self, user_id: int) -> None:
        """Count a call; raises RateLimitError, and does not count it, when there are too many."""
        with self._lock:
            if self._calls[user_id] >= HEAVY_AT_ONCE:
                raise RateLimitError(
                    f"at most {HEAVY_AT_ONCE} heavy calls of a user run at once; retry later",
                    reason=errors_pb2.ERROR_REASON_TOO_MANY_AT_ONCE,
                    metadata={"limit": str(HEAVY_AT_ONCE)},
                    retry_after=_RETRY_AFTER,
                )
            self._calls[user_id] += 1

    def leave(self, user_id: int) -> None:
        """Count a call no longer."""
        with self._lock:
            self._calls[user_id] -= 1
            if not self._calls[user_id]:
                del self._calls[user_id]


def on_threads(threads: ThreadPoolExecutor, behavior: Callable[..., object]) -> partial[object]:
    """Return a handler that grpcio runs on these threads instead of the server's."""
    handler = partial(behavior)
    handler.experimental_thread_pool = threads  # type: ignore[attr-defined]  # grpc._server looks for it
    return handler
