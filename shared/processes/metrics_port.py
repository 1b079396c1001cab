"""The HTTP port on which metrics are read.

A client that sends nothing, half a request, or does not read the answer is disconnected: each has a
thread and a descriptor.
"""

import socket
import threading
from contextlib import suppress
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, start_http_server

from shared.processes.ports import naming

_CONNECTION_SECONDS: Final = 10.0


class MetricsPort:
    """Serves the metrics of a registry until it is closed; no connection lasts for long.

    Raises ListenError when it cannot listen.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        connection_seconds: float = _CONNECTION_SECONDS,
    ) -> None:
        with naming(host, port):
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        self._server.RequestHandlerClass = _handler(connection_seconds)
        self.port = int(self._server.server_address[1])

    def close(self) -> None:
        """Serve no more."""
        # The server looks twice a second whether it is to stop, unless its socket wakes it.
        with suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(seconds: float) -> type[WSGIRequestHandler]:
    class Handler(WSGIRequestHandler):
        def handle(self) -> None:
            # A timeout of the socket would be that of each byte.
            end = threading.Timer(seconds, self._hang_up)
            end.daemon = True
            end.start()
            try:
                super().handle()
            finally:
                end.cancel()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- so it is named there
            pass

        def _hang_up(self) -> None:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    return Handler
