"""The trace that a call belongs to: taken from its caller, passed on with its own calls.

In the words of https://www.w3.org/TR/trace-context/. A call without a trace gets none here. As with
the request id, gRPC runs every call in a context of its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Final, Protocol, Self, TypeAlias

Metadata: TypeAlias = tuple[tuple[str, str], ...]

_PARENT: Final = "traceparent"
_STATE: Final = "tracestate"
_WELL_FORMED: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a call has to say to continue the trace of its caller."""

    id: str
    parent: str
    """The header that names the trace, the step before in it, and whether it is kept."""
    state: str = ""
    """What those who keep traces tell each other; Kith only hands it on."""
    begin_below: "BeginBelow | None" = field(default=None, compare=False, repr=False)
    """Begins a span of what is asked for this step of the trace; None where no spans are made."""

    @classmethod
    def read(cls, metadata: Iterable[tuple[str, str | bytes]] | None) -> Self | None:
        """Return the trace that a call says it belongs to; None for none, or a malformed one."""
        found = [(key, value) for key, value in metadata or () if key in {_PARENT, _STATE}]
        parents = [str(value) for key, value in found if key == _PARENT]
        if len(parents) != 1 or (named := _WELL_FORMED.fullmatch(parents[0])) is None:
            return None
        # It may be spread over several headers.
        state = ",".join(str(value) for key, value in found if key == _STATE)
        return cls(id=named[1], parent=parents[0], state=state)

    def metadata(self) -> Metadata:
        """Return what a call of another service is sent with."""
        parent = (_PARENT, self.parent)
        return (parent, (_STATE, self.state)) if self.state else (parent,)


class Span(Protocol):
    """A step below another that is under way, such as a statement of a call."""

    @property
    def trace(self) -> Trace:
        """What is asked for this step continues this trace."""

    def end(self, error: BaseException | None = None) -> None:
        """Say that it is over, and for which error if it has failed."""


BeginBelow: TypeAlias = Callable[[str, Mapping[str, str]], Span]
"""Begins a span with a name and attributes."""

current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def outgoing() -> Metadata | None:
    """Return what a call of another service is sent with, so that it continues the trace."""
    trace = current.get()
    return None if trace is None else trace.metadata()


def commented(statement: str, trace: Trace | None = None) -> str:
    """Return an SQL statement that tells its trace where a database's operator looks.

    In the form of https://google.github.io/sqlcommenter/spec/ but for its place, which there is the
    end: of a long statement pg_stat_activity shows the beginning alone. Without a trace it is that
    of the current call.
    """
    trace = trace or current.get()
    return statement if trace is None else f"/*traceparent='{trace.parent}'*/ {statement}"


def begun(name: str, attributes: Mapping[str, str]) -> Span | None:
    """Begin a span of what the current call asks; None where no spans are made."""
    trace = current.get()
    return (
        None if trace is None or trace.begin_below is None else trace.begin_below(name, attributes)
    )


def asking(name: str, attributes: Mapping[str, str]) -> AbstractContextManager[None]:
    """Make what is asked in a block a span of its own, where spans are made."""
    span = begun(name, attributes)
    return _NOTHING if span is None else _Asking(span)


class _Nothing:
    """Does nothing around what no span is made of: it is around every statement."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_exc_info: object) -> None:
        return None


class _Asking:
    """Lets what a block asks continue the trace of a span, and ends it."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Token[Trace | None] | None = None

    def __enter__(self) -> None:
        self._token = current.set(self._span.trace)

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if self._token is not None:
            current.reset(self._token)
        self._span.end(error)


_NOTHING: Final = _Nothing()
