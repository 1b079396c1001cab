"""A program that is forked, as most are in tests, behaves as one that is started by exec."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import programs
from tests.support.pair import Pair
from tests.support.processes import ServiceProcess, is_there, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")

_DESCRIPTION = "tests.support.self_description"
_VARIABLES = {"KITH_DATA_DIR": "a folder", "EMPTY": ""}
_STATUSES = {"well": 0, "3": 3, "a reason": 1, "raise": 1, "interrupt": -signal.SIGINT}
# Starts something that does not end by itself, and is killed.
_KILLED = """
import os, sys, time
from tests.support.programs import start
how = {"by_exec": sys.argv[1] == "True", "output": sys.stderr}
print(start("http.server", "0", environment=os.environ.copy(), **how).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", _STATUSES)
def test_a_forked_program_sees_what_another_sees_and_ends_with_the_same_status(
    tmp_path: Path, how: str
) -> None:
    forked, started = (_ran(tmp_path, how, "-x", by_exec=by_exec) for by_exec in (False, True))

    assert forked == started
    assert forked[0] == _STATUSES[how]


def test_a_forked_program_is_ended_by_signals_that_it_does_not_expect(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        process = programs.start(
            "http.server", "0", environment=dict(os.environ), output=output, by_exec=False
        )
        running = process.poll()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.terminate()

        assert running is None
        assert process.wait() == -signal.SIGTERM
        assert process.poll() == -signal.SIGTERM
        assert not is_there(process.pid)
        process.kill()


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "LC_ALL", "PROMETHEUS_MULTIPROC_DIR", "TZ"])
def test_a_program_that_would_be_another_interpreter_is_not_forked(
    tmp_path: Path, name: str
) -> None:
    with (tmp_path / "output").open("wb") as output:
        process = programs.start(
            _DESCRIPTION, "well", environment={**os.environ, name: "0"}, output=output
        )

        assert isinstance(process, subprocess.Popen)
        assert process.wait() == 0


def test_a_forked_service_logs_and_ends_as_another(pair: Pair, tmp_path: Path) -> None:
    forked, started = (
        _life(pair, tmp_path / str(by_exec), by_exec=by_exec) for by_exec in (False, True)
    )

    assert forked == started
    assert forked[0] == 0


@pytest.mark.parametrize("by_exec", [False, True])
def test_what_was_started_ends_with_tests_that_are_killed(*, by_exec: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(by_exec)],
        cwd=programs.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        pids = {int(tests.stdout.readline()), *_children(tests.pid)}
        tests.kill()

    assert len(pids) == (1 if by_exec else 2)
    until(lambda: not any(is_there(pid) for pid in pids))


def _without_home() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "HOME"}


def _ran(folder: Path, *arguments: str, by_exec: bool) -> tuple[int, Any, list[str], list[str]]:
    """Return the status of a program, what it has seen, what else it said, and its last error."""
    with (folder / "output").open("w+b") as output, (folder / "errors").open("w+b") as errors:
        process = programs.start(
            _DESCRIPTION,
            *arguments,
            environment={**_without_home(), **_VARIABLES},
            output=output,
            errors=errors,
            folder=folder,
            by_exec=by_exec,
        )
        assert isinstance(process, subprocess.Popen) == by_exec
        status = process.wait()
        output.seek(0)
        errors.seek(0)
        seen, *said = output.read().decode().splitlines()
        first, *_, last = [*errors.read().decode().splitlines(), ""]
        # Between them is the way to the error.
        return status, json.loads(seen), said, [first, last]


def _life(pair: Pair, log: Path, *, by_exec: bool) -> tuple[int, list[tuple[str, str, str]]]:
    """Run a service for a moment; returns its status, and what it has logged."""
    variables = {"GRAPH_DATABASE_URL": pair.graph_url, "GRAPH_LIMIT_OF_NOTHING": "1"}
    with ServiceProcess("graph_service", variables, log, by_exec=by_exec) as process:
        assert process.is_serving("ready")
        process.terminate()
        status = process.wait()
        lines = process.logs()
    return status, [(line["level"], line["logger"], line["message"]) for line in lines]


def _children(pid: int) -> list[int]:
    """Return the processes that one has started: the fork server, or the program itself."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
