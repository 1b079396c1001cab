"""The HTTP port on which metrics are read.

A client that sends nothing, half a request, or does not read the answer is disconnected: each has a
thread and a descriptor.
"""

import socket
import sys
import threading
from contextlib import suppress
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from shared.processes.ports import naming

_CONNECTION_SECONDS: Final = 10.0
# How often the server looks whether it is to stop. Linux wakes it for that, see `close`.
_LOOK_SECONDS: Final = None if sys.platform == "linux" else 0.5


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
            self._server = make_server(
                host,
                port,
                make_wsgi_app(registry),
                _server(host, port),
                handler_class=_handler(connection_seconds),
            )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[_LOOK_SECONDS], name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        # Linux tells the server that there is something to accept, and so it looks.
        with suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server(host: str, port: int) -> type[ThreadingWSGIServer]:
    class Server(ThreadingWSGIServer):
        address_family = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0][0]

    return Server


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
