"""The step around every call that takes and tells positions, where there are replicas."""

from contextlib import suppress
from typing import Final

import grpc

from kith.positions import KEY
from shared.database import positions
from shared.server.handlers import Call, Hooks, Method, Step

_HAVE_ONE_ANSWER: Final = frozenset({"unary", "client_stream"})


def exchange_positions(service: str) -> Step:
    """Take what a call brings of positions, and answer it with that of its last commit.

    Raises ValidationError for what is no position. Told in the headers of the answer, so that it is
    one over HTTP too.
    """

    def step(method: Method) -> Hooks:
        def begin(call: Call) -> None:
            metadata = call.context.invocation_metadata() or ()
            brought = [str(value) for key, value in metadata if key == KEY]
            if brought:
                positions.wanted.set(positions.read(service, brought))
            call.commits = []
            positions.commits.set(call.commits)

        def end(call: Call) -> None:
            if call.commits and not call.has_failed:
                token = positions.issue(service, max(call.commits))
                # Of a caller who has gone.
                with suppress(grpc.RpcError):
                    call.context.send_initial_metadata(((KEY, token),))

        return Hooks(begin=begin, end=end if method.kind in _HAVE_ONE_ANSWER else None)

    return step
