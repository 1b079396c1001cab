"""Whether all is as the services need it, for a person or an init container."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import grpc
import redis
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from prometheus_client import CollectorRegistry
from redis.backoff import NoBackoff
from redis.retry import Retry
from rich.console import Console

from kith.cli.terminal import CommandError
from kith.client.channels import open_channel
from kith.client.settings import FEED, GRAPH, TargetSettings
from kith.environment import Environment
from shared.access.keys import open_keys
from shared.access.settings import TokenSettings
from shared.api.page_token_keys import page_token_keys
from shared.cli.databases import SERVICES
from shared.database import schema
from shared.database.database import why
from shared.database.endpoint import Endpoint
from shared.database.metrics import database_latency
from shared.database.reader import Reader, Statement
from shared.database.settings import DatabaseSettings
from shared.optional_redis import RedisSettings
from shared.server.settings import ServerSettings

_MOST_SECONDS_APART: Final = 5
_LATE_SECONDS: Final = 60
_ANSWER_SECONDS: Final = 2
# A dozen requests, each within seconds.
_BUCKET_SECONDS: Final = 60
_NO_START: Final = 2
_CLOCK = Statement("clock", "SELECT CAST(extract(epoch FROM clock_timestamp()) AS float)")
_FOLLOWED = Statement(
    "followed", "SELECT CAST(extract(epoch FROM now() - updated_at) AS float) FROM followed"
)


def examine(console: Console) -> None:
    """Print what was found; raises CommandError when a service could not be ready.

    That a service does not answer yet, that the follower is late, that Redis is away or that the
    photo bucket cannot be used is printed but is no failure.
    """
    environment = Environment(os.environ)
    settings = {name: DatabaseSettings.read(environment, name.upper()) for name in SERVICES}
    for database in settings.values():
        if database.url:
            page_token_keys(environment, database)
    # Both services read the same settings of callers.
    server, *_ = [
        ServerSettings.read(environment, name.upper(), port=0, metrics_port=0) for name in SERVICES
    ]
    targets = {
        "graph": environment.text("GRAPH_TARGET", GRAPH),
        "feed": environment.text("FEED_TARGET", FEED),
    }
    access = TargetSettings.read(environment, *targets.values())
    redis_settings = RedisSettings.read(environment)
    has_bucket = bool(environment.text("S3_BUCKET", ""))
    environment.check()
    console.print("settings: good")
    failed = [name for name, database in settings.items() if not _examined(name, database, console)]
    tokens = server.auth.tokens if server.auth else None
    if tokens and not _passes("signing keys", lambda: _require_keys(tokens), console):
        failed.append("signing keys")
    if has_bucket and not _bucket_is_settled(console):
        failed.append("photo bucket")
    if redis_settings:
        _passes("redis", lambda: _require_redis(redis_settings), console)
    for name, target in targets.items():
        _passes(f"{name}_service", lambda target=target: _require_ready(target, access), console)  # type: ignore[misc]  # mypy knows no default of a lambda
    if failed:
        raise CommandError(f"failed: {', '.join(failed)}")


def _require_keys(tokens: TokenSettings) -> None:
    with closing(open_keys(tokens.keys)) as keys:
        keys.check()


def _bucket_is_settled(console: Console) -> bool:
    """Try the photo bucket; returns whether feed_service would start with its settings.

    In a process of feed_service, because this package knows the services only as processes.
    """
    try:
        tried = subprocess.run(
            [sys.executable, "-m", "feed_service.photo_bucket"],
            check=False,
            capture_output=True,
            cwd=Path(__file__).parents[2],
            text=True,
            timeout=_BUCKET_SECONDS,
        )
    except subprocess.TimeoutExpired:
        console.print(f"photo bucket: was not tried within {_BUCKET_SECONDS} seconds")
        return True
    said = tried.stdout.strip() or tried.stderr.strip().rpartition("\n")[2]
    outcome = said if tried.returncode else "good"
    console.print(f"photo bucket: {outcome}", markup=False, highlight=False, soft_wrap=True)
    return tried.returncode != _NO_START


def _require_redis(settings: RedisSettings) -> None:
    with redis.Redis.from_url(
        settings.url,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    ) as client:
        client.ping()


def _require_ready(target: str, access: TargetSettings) -> None:
    request = health_pb2.HealthCheckRequest(service="ready")
    with open_channel(target, access, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = HealthStub(channel).Check(request, timeout=_ANSWER_SECONDS)
        except grpc.RpcError as error:
            raise CommandError(f"{target}: {error.code().name}: {error.details()}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise CommandError(f"{target}: not ready")


def _examined(name: str, database: DatabaseSettings, console: Console) -> bool:
    if not database.url:
        console.print(f"{name}: the embedded database; the service starts and migrates it")
        return True
    endpoint = Endpoint.of(database, database.url, database_latency(CollectorRegistry()))
    reader = Reader(endpoint)
    with closing(endpoint.guard), closing(reader):
        passed = [
            _passes(f"{name} schema", lambda: schema.check(reader, name), console),
            _passes(f"{name} clock", lambda: _compare_clocks(reader), console),
        ]
        if all(passed) and name == "feed":
            _passes("feed follower", lambda: _require_followed(reader), console)
    return all(passed)


def _passes(what: str, check: Callable[[], None], console: Console) -> bool:
    try:
        check()
    except Exception as error:  # noqa: BLE001 -- a person wants to see all that is wrong
        said = str(error) if isinstance(error, CommandError) else why(error)
        console.print(f"{what}: {said}", markup=False, highlight=False)
        return False
    console.print(f"{what}: good")
    return True


def _compare_clocks(reader: Reader) -> None:
    [(there,)] = reader.rows(_CLOCK, {})
    apart = abs(there - time.time())
    if apart > _MOST_SECONDS_APART:
        raise CommandError(f"{apart:.0f} seconds from the clock of this machine")


def _require_followed(reader: Reader) -> None:
    ages = [age for (age,) in reader.rows(_FOLLOWED, {})]
    if not ages:
        raise CommandError("has not begun")
    if ages[0] > _LATE_SECONDS:
        raise CommandError(f"heard nothing of graph_service for {ages[0]:.0f} seconds")
