"""A port for calls of another service of Kith, apart from those of everybody else.

Calls of the two services wait for each other. If they shared threads, slots and sessions, calls
that wait for the other service could take all of them, and the other would wait as well.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

import grpc

from kith.client.channel_options import LEAST_PING_SECONDS
from kith.tls.certificates import server_credentials
from shared.processes.ports import reserved, stop_listening, written
from shared.server.handlers import Around, Step
from shared.server.incoming import MessageTimeouts
from shared.server.service import InternalCalls
from shared.server.settings import ServerSettings

# For each of the calls that run at once, so many may have been opened.
_OPEN_PER_CALL: Final = 16


class InternalPort:
    """A started server of internal calls.

    Raises ListenError when another program listens at its port.
    """

    def __init__(
        self,
        settings: ServerSettings,
        calls: InternalCalls,
        *,
        steps: Sequence[Step],
        refusing: Sequence[Step],
        shares_port: bool,
    ) -> None:
        """Serve the calls, each inside the steps; workers share the port."""
        self._grace = settings.grace.total_seconds()
        self._open = _OPEN_PER_CALL * calls.threads
        with ExitStack() as resources:
            if not shares_port:
                resources.callback(reserved(settings.host, calls.port).close)
            self._server = self._new_server(calls, steps, refusing, resources)
            address = written(settings.host, calls.port)
            files = settings.certificates
            self.port = (
                self._server.add_insecure_port(address)
                if files is None
                else self._server.add_secure_port(address, server_credentials(files))
            )
            self._server.start()
            self._resources = resources.pop_all()

    def stop(self) -> None:
        """Take no more calls, and finish those in flight within the grace period."""
        stop_listening(self.port)
        self._server.stop(self._grace).wait()
        self._resources.close()

    def _new_server(
        self,
        calls: InternalCalls,
        steps: Sequence[Step],
        refusing: Sequence[Step],
        resources: ExitStack,
    ) -> grpc.Server:
        timeouts = MessageTimeouts(many=self._open // 2, most=self._open * 3 // 4)
        resources.callback(timeouts.close)
        refusals = ThreadPoolExecutor(1, thread_name_prefix="refusal")
        resources.callback(refusals.shutdown, wait=False)
        server = grpc.server(
            ThreadPoolExecutor(self._open, thread_name_prefix="internal-call"),
            interceptors=[
                Around(steps, threads={}, timeouts=timeouts, refusals=refusals, refusing=refusing)
            ],
            options=(
                ("grpc.so_reuseport", 1),
                # All messages are small, so gRPC need not find out how much can be under way. Its
                # pings for that are most of what an idle connection carries.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", LEAST_PING_SECONDS * 1_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ),
        )
        calls.add_to(server)
        return server
