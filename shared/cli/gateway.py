"""`kith gateway`: Envoy in front of both services, for callers over HTTP, gRPC-web and gRPC."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

from rich.console import Console

from kith.cli.terminal import CommandError
from kith.tls.watched_files import WatchedFiles
from shared import logs
from shared.access import jwks
from shared.cli.envoy import configuration, contracts, exposed_methods
from shared.cli.gateway_pages import write_pages
from shared.cli.gateway_settings import GatewaySettings
from shared.cli.ports import free_port
from shared.cli.processes import CHILD
from shared.processes.ports import written
from shared.processes.signals import Signals

_WATCH_SECONDS = 0.5
_POLL_SECONDS = 0.05
_ADMIN_HOST = "127.0.0.1"
_ADMIN_SECONDS = 5


def gateway(console: Console) -> None:
    """Run Envoy until told to stop, and stop it without a lost call.

    Raises CommandError or SettingsError when it cannot start or ends by itself.
    """
    settings = GatewaySettings.read(os.environ)
    logs.configure(service="gateway", level=settings.server.log_level)
    _check_ports(settings)
    settings.folder.mkdir(parents=True, exist_ok=True)
    keys = _published_keys(settings)
    command = [sys.executable, *CHILD, str(os.getpid()), envoy_program(), *_arguments(settings)]
    signals = Signals(signal.SIGINT, signal.SIGTERM)
    # Ctrl-C is for this process, which then lets Envoy finish.
    with subprocess.Popen(command, process_group=0) as envoy:
        _welcome(settings, console)
        while not signals.received:
            signals.wait(_WATCH_SECONDS)
            if envoy.poll() is not None:
                raise CommandError(f"Envoy ended with status {envoy.returncode}")
            if keys is not None:
                keys.current()
        _drain(settings)
        envoy.terminate()


def _check_ports(settings: GatewaySettings) -> None:
    """Raise CommandError if Envoy would not get a port, or would share it with another Envoy."""
    server = settings.server
    with ExitStack() as ports:
        free_port(server.host, server.port, "GATEWAY_PORT", ports)
        free_port(server.host, server.metrics_port, "GATEWAY_METRICS_PORT", ports)
        free_port(_ADMIN_HOST, settings.admin_port, "GATEWAY_ADMIN_PORT", ports)


def _arguments(settings: GatewaySettings) -> list[str]:
    server = settings.server
    level = server.log_level.lower()
    return [
        *("-c", str(_written(settings))),
        *("--log-level", "warning" if level == "info" else level),
        *("--concurrency", str(server.workers)),
        *("--file-flush-interval-msec", "1000"),
        # While it drains, every answer tells its client to connect elsewhere.
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(max(1, round(server.drain.total_seconds())))),
        # Two gateways on one machine would take each other for their successors.
        "--disable-hot-restart",
    ]


def _drain(settings: GatewaySettings) -> None:
    """Say that it stops, as the services do, and return when no call is in flight or it takes long.

    An Envoy that does not answer any more is not waited for.
    """
    server = settings.server
    with suppress(OSError):
        _admin(settings, "POST", "/healthcheck/fail")
        _admin(settings, "POST", "/drain_listeners?graceful&skip_exit")
        time.sleep(server.drain.total_seconds())
        deadline = time.monotonic() + server.grace.total_seconds()
        while _calls_in_flight(settings) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _calls_in_flight(settings: GatewaySettings) -> int:
    name = "http.gateway.downstream_rq_active"
    page = _admin(settings, "GET", f"/stats?filter=^{name}$")
    return int(page.rpartition(":")[2])


def _admin(settings: GatewaySettings, method: str, path: str) -> str:
    address = (_ADMIN_HOST, settings.admin_port)
    with closing(HTTPConnection(*address, timeout=_ADMIN_SECONDS)) as connection:
        connection.request(method, path)
        return connection.getresponse().read().decode()


def _published_keys(settings: GatewaySettings) -> WatchedFiles[Path] | None:
    """Write the public keys of AUTH_JWKS for Envoy to serve, and again when that file changes."""
    tokens = settings.server.auth and settings.server.auth.tokens
    if not tokens or not isinstance(tokens.keys, Path):
        return None
    source, published = tokens.keys, settings.published_keys
    fresh = published.with_suffix(".fresh")

    def publish() -> Path:
        fresh.write_bytes(jwks.read(source).document())
        return fresh.replace(published)

    return WatchedFiles([source], publish)


def _written(settings: GatewaySettings) -> Path:
    """Write what Envoy reads; returns the file to start with."""
    if settings.pages:
        write_pages(settings.written_pages, exposed_methods(), contracts())
    start, *certificates = configuration(settings)
    path = settings.folder / "envoy.json"
    path.write_text(json.dumps(start, indent=2))
    for certificate in certificates:
        [resource] = certificate["resources"]
        (settings.folder / f"{resource['name']}.json").write_text(json.dumps(certificate))
    return path


def envoy_program() -> str:
    """Return where Envoy is: beside this Python, or wherever the system finds it."""
    beside = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise CommandError(
            "Envoy is not installed: `make gateway` installs it, where there is a package"
        )
    return found


def _pages(url: str) -> list[str]:
    return [f"the console at {url}/console, the reference of the API at {url}/docs"]


def _welcome(settings: GatewaySettings, console: Console) -> None:
    server = settings.server
    scheme = "https" if server.certificates else "http"
    url = f"{scheme}://{written(server.host, server.port)}"
    lines = [
        f"The gateway is at {url}, in front of {settings.graph_target} and {settings.feed_target}",
        f"its metrics at http://{written(server.host, server.metrics_port)}/metrics",
        *(_pages(url) if settings.pages else ()),
        "protos/openapi.yaml describes all calls; for example",
        f"\n    curl {url}/v1/users/17/feed\n\nCtrl-C stops it.",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
