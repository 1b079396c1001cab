"""What happens around every call, outermost first; `server` has the list."""

import logging
import math
import time
from collections.abc import Collection
from datetime import timedelta

from kith.exceptions import AppException, DeadlineError, InternalError, RateLimitError, to_status
from shared import deadlines, logs
from shared.access.rules import Access, Rule, Weight
from shared.database.session import statements_in_call
from shared.server.call_slots import CallSlots
from shared.server.handlers import Call, Hooks, Method, Step
from shared.server.incoming import require_readable
from shared.server.metrics import ServerMetrics

# Less than this and the answer would come too late.
_LEAST_SECONDS = 0.002
_log = logging.getLogger("kith.calls")


def identify(_method: Method) -> Hooks:
    """Give everything that is logged during the call its request id, and tell it to the caller.

    grpcio runs every call in a context of its own, which ends with it.
    """

    def begin(call: Call) -> None:
        logs.request_id.set(call.request_id)
        call.context.set_trailing_metadata(((logs.REQUEST_ID, call.request_id),))

    return Hooks(begin=begin)


def measure(metrics: ServerMetrics) -> Step:
    """Count the call, its code, its time and its SQL statements."""

    def step(method: Method) -> Hooks:
        calls = metrics.of(method.kind, method.service, method.name)
        statements = metrics.statements.labels(method.service, method.name)

        def begin(call: Call) -> None:
            calls.started.inc()
            statements_in_call.set(call.statements)

        def end(call: Call) -> None:
            calls.handling.observe(call.seconds)
            calls.handled[call.code].inc()
            statements.observe(call.statements[0])

        return Hooks(begin=begin, end=end)

    return step


def log_call(method: Method) -> Hooks:
    """Log one line when the call has ended."""
    line = logs.Line(_log, "call", grpc_service=method.service, grpc_method=method.name)

    def end(call: Call) -> None:
        line.write(
            f'"grpc_code": "{call.code}", "seconds": {call.seconds:.6f},'
            f' "peer": {logs.quoted(call.context.peer())}'
        )

    return Hooks(end=end)


def require_message(_method: Method) -> Hooks:
    """Refuse a call whose message cannot be read; of a stream of them each is when it is reached.

    Raises ValidationError.
    """

    def begin(call: Call) -> None:
        require_readable(call.request)

    return Hooks(begin=begin)


def limit_time(usual: timedelta) -> Step:
    """Limit a call to its caller's deadline, and to the usual time if it has none.

    Raises DeadlineError when too little is left for an answer to arrive. Streams last as long as
    their callers like.
    """
    usual_seconds = usual.total_seconds()

    def step(method: Method) -> Hooks:
        most = usual_seconds if method.kind == "unary" else math.inf

        def begin(call: Call) -> None:
            left = min(call.context.time_remaining(), most)
            if left < _LEAST_SECONDS:
                raise DeadlineError("the deadline is too close to answer the call")
            deadlines.call_end.set(
                deadlines.CallEnd(time.monotonic() + left, call.context.is_active)
            )

        def end(_call: Call) -> None:
            # Through it the call refers to itself, and would stay until it is collected as garbage.
            deadlines.call_end.set(None)

        return Hooks(begin=begin, end=end)

    return step


def take_slots(slots: CallSlots, access: Access, *, elsewhere: Collection[str]) -> Step:
    """Let the call wait for the slots that its weight wants.

    The methods named in `elsewhere` see to that themselves. Raises what `Slots.take` raises.
    """

    def step(method: Method) -> Hooks:
        if method.name in elsewhere:
            return Hooks()
        wanted = slots.of(weight(access.get(method.name)), is_stream=method.kind != "unary")

        def begin(call: Call) -> None:
            for some in wanted:
                some.take()
                call.slots.append(some)

        def end(call: Call) -> None:
            for some in call.slots:
                some.leave()

        return Hooks(begin=begin, end=end)

    return step


def weight(rule: Rule | None) -> Weight:
    """Return how much a call costs; one without a rule is refused later, which costs nothing."""
    return Weight.ORDINARY if rule is None else rule.weight


def report_errors(_method: Method) -> Hooks:
    """Answer exceptions as google.rpc.Status; what is not ours to tell becomes INTERNAL."""

    def fail(call: Call, error: Exception) -> None:
        if isinstance(error, InternalError):
            _log.exception("internal error")
        elif not isinstance(error, AppException):
            _log.exception("unexpected error")
            error = InternalError(
                "internal error; the log has the details under the request id",
                metadata={"request_id": call.request_id},
            )
        _abort(call, error)

    return Hooks(fail=fail)


def count_rejections(metrics: ServerMetrics) -> Step:
    """Count the calls that were rejected, by the reason that their callers are given.

    It comes inside `report_errors`, which replaces the exception that has the reason.
    """

    def step(method: Method) -> Hooks:
        def fail(_call: Call, error: Exception) -> None:
            if isinstance(error, RateLimitError):
                reason = error.reason_name.lower()
                metrics.rejected.labels(method.service, method.name, reason).inc()

        return Hooks(fail=fail)

    return step


def _abort(call: Call, error: AppException) -> None:
    call.context.set_trailing_metadata(
        (
            (logs.REQUEST_ID, call.request_id),
            ("grpc-status-details-bin", to_status(error).SerializeToString()),
        )
    )
    call.context.abort(error.code, error.message)
