"""The trace that a call belongs to: taken from its caller, passed on with its own calls.

In the words of https://www.w3.org/TR/trace-context/. A call without a trace gets none here. As with
the request id, gRPC runs every call in a context of its own.
"""

import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

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


current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def outgoing() -> Metadata | None:
    """Return what a call of another service is sent with, so that it continues the trace."""
    trace = current.get()
    return None if trace is None else trace.metadata()


def commented(statement: str) -> str:
    """Return an SQL statement that tells its trace where a database's operator looks.

    In the form of https://google.github.io/sqlcommenter/spec/ but for its place, which there is the
    end: of a long statement pg_stat_activity shows the beginning alone.
    """
    trace = current.get()
    return statement if trace is None else f"/*traceparent='{trace.parent}'*/ {statement}"
