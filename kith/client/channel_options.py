"""How a client of the services should behave, as options of its channels.

Most of it is the service config beside each contract, `protos/kith/graph/v1/` and `feed/v1/`, which
gRPC reads in every language: calls go round all addresses that say they serve, wait for one, end in
time, and are made again when a service could not be reached. That is safe for every call, for
creations carry a request_id, and goes on only while nine in ten calls succeed.

A channel keeps one connection to each address, and behind an address that several workers share
each connection belongs to one of them. A client with a high rate of calls opens several channels.
"""

import json
from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Any, Final, TypeAlias

Options: TypeAlias = Sequence[tuple[str, Any]]

KEEPALIVE_SECONDS: Final = 30
"""How often a client asks whether an idle server is still there while it waits for an answer."""

LEAST_PING_SECONDS: Final = KEEPALIVE_SECONDS / 3
"""A client that pings more often than this is disconnected; the rest is for delays."""

# A client's own limit is 4 MiB, which the ids of a hundred hubs would pass.
_MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024


def client_options(
    service: str, *, waits: bool = True, also_retried: Collection[str] = (), bounds: bool = True
) -> Options:
    """Return the options for a channel to `graph` or `feed`.

    With `waits`, calls wait until a server is reachable instead of failing at once. With `bounds`,
    no call may take longer than `usual_seconds`, even if its own deadline is later; clients that
    give every call a deadline do without.
    """
    config = _service_config(service)
    for methods in config["methodConfig"]:
        methods["waitForReady"] = waits
        methods["retryPolicy"]["retryableStatusCodes"] += also_retried
        if not bounds:
            methods.pop("timeout", None)
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # After an outage a service is to be found again sooner than after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # How long an attempt may take: longer than until the kernel repeats a lost first packet.
        ("grpc.min_reconnect_backoff_ms", 3_000),
        # Otherwise channels with the same options share one connection.
        ("grpc.use_local_subchannel_pool", 1),
        # A proxy for web pages does not lead to the services.
        ("grpc.enable_http_proxy", 0),
    ]


def usual_seconds(service: str) -> dict[str, float | None]:
    """Return how long a call may take by its method, and under the empty name all other calls."""
    return {
        name.get("method", ""): _seconds(methods.get("timeout"))
        for methods in _service_config(service)["methodConfig"]
        for name in methods["name"]
    }


def _service_config(service: str) -> Any:
    path = files(f"kith.{service}.v1") / f"{service}_grpc_service_config.json"
    return json.loads(path.read_bytes())


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else float(duration.removesuffix("s"))
