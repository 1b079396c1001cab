"""Changes whose service is killed between the commit and the answer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import grpc
import pytest

from tests.support.mutations import MUTATIONS, Mutation, Scene
from tests.support.pair import Databases, tapped
from tests.support.people import People
from tests.support.ports import free_port
from tests.support.processes import ProcessPair, ServiceProcess, running_processes, until
from tests.support.rows import contents
from tests.support.s3 import S3Server
from tests.support.wire import WireTap


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_every_change_is_answered_by_the_next_process_as_if_nothing_had_happened(
    databases: Databases, tmp_path: Path, service: str
) -> None:
    mutations = [mutation for mutation in MUTATIONS if mutation.service == service]
    urls = {name: databases.new(name) for name in ("graph", "feed")}
    with S3Server() as store, tapped(urls[service]) as (tap, url):
        environment = {
            **store.environment,
            f"{service.upper()}_THREADS": "32",
            # The next process is where the first one was.
            "GRAPH_PORT": str(free_port()),
        }
        through = {**urls, service: url}
        with running_processes(
            graph_url=through["graph"],
            feed_url=through["feed"],
            logs=tmp_path,
            environment=environment,
        ) as first:
            scene = Scene(stubs=first, people=People(first))
            requests = [_with_id(mutation, scene) for mutation in mutations]
            _kill_before_any_answer(first, tap, mutations, requests)
            variables = {
                **environment,
                f"{service.upper()}_DATABASE_URL": url,
                "GRAPH_TARGET": first.graph_process.address,
            }
            with ServiceProcess(f"{service}_service", variables, tmp_path / "next.log") as process:
                second = _with_process(first, service, process)
                # Of the feed, an erasure commits after each of its steps, and a repeat finishes it.
                calls = list(zip(mutations, requests, strict=True))
                erasures = [call for call in calls if call[0].call == "DeleteUser"]
                for mutation, request in erasures:
                    mutation.send(second, request)
                done = contents(urls[service])
                answers = [
                    [mutation.send(second, request) for _ in range(2)]
                    for mutation, request in calls
                ]

    assert all(one == other for one, other in answers)
    assert contents(urls[service]) == done


def _with_process(pair: ProcessPair, service: str, process: ServiceProcess) -> ProcessPair:
    """Return the pair with another process of one of its services, when that is ready."""
    until(lambda: process.is_serving("ready"))
    if service == "graph":
        return replace(pair, graph_process=process)
    return replace(pair, feed_process=process)


def _with_id(mutation: Mutation, scene: Scene) -> Any:
    request = mutation.request(scene)
    request.request_id = str(uuid4())
    return request


def _kill_before_any_answer(
    pair: ProcessPair, tap: WireTap, mutations: list[Mutation], requests: list[Any]
) -> None:
    """Make all calls at once, and kill their process when each has committed."""
    committed = list[str]()
    is_killed = Event()

    def wait(statement: str) -> None:
        if statement.endswith("COMMIT"):
            committed.append(statement)
            is_killed.wait()

    def send(mutation: Mutation, request: Any) -> bool:
        try:
            mutation.send(pair, request)
        except grpc.RpcError:
            return False
        return True

    tap.after_statement = wait
    with ThreadPoolExecutor(len(mutations)) as threads:
        sent = [
            threads.submit(send, mutation, request)
            for mutation, request in zip(mutations, requests, strict=True)
        ]
        until(lambda: len(committed) >= len(mutations))
        process = pair.graph_process if mutations[0].service == "graph" else pair.feed_process
        process.kill()
        is_killed.set()
    tap.after_statement = lambda _statement: None
    assert not [call for call in sent if call.result()]
