"""The report of the benchmarks says whether the machine had other work."""

import shutil
import subprocess
import sys
from io import StringIO
from os import getpid
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.others import Moment, Others
from benchmarks.report import Report, print_report
from benchmarks.row import Row

_SPIN = "import time\nwhile time.process_time() < 0.3: pass"


def _moment(at: float, *, busy: float, own: float = 0, throttled: float = 0) -> Moment:
    return Moment(at=at, busy=busy, own=own, throttled=throttled)


def _report(*others: Others | None) -> Report:
    rows = [Row(name="a row", measured=1, target=1, others=each) for each in others]
    return Report(size="quick", machine="a machine", date="a day", seconds=1, rows=rows)


def test_what_is_not_of_the_own_processes_is_of_others() -> None:
    before = _moment(100, busy=50, own=20, throttled=1)

    others = _moment(110, busy=65, own=30, throttled=3).since(before)

    assert others == Others(cores=0.5, throttled=0.2)


def test_no_less_than_nothing_is_of_others() -> None:
    others = _moment(1, busy=1, own=1.01).since(_moment(0, busy=0))

    assert others.cores == 0


@pytest.mark.parametrize("has_ended", [False, True])
def test_the_time_of_a_child_is_the_own(*, has_ended: bool) -> None:
    before = Moment.now([getpid()])

    with subprocess.Popen(
        [sys.executable, "-c", f"{_SPIN}\nprint(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout
        child.stdout.readline()
        if has_ended:
            child.communicate("\n")
        after = Moment.now([getpid()])
        if not has_ended:
            child.communicate("\n")

    # The child has spent 0.3 seconds, which the kernel tells in ticks of a hundredth.
    assert after.own - before.own > 0.2


def test_a_busy_machine_is_told_beside_the_table() -> None:
    made = _report(Others(cores=0.02, throttled=0), Others(cores=1.3, throttled=0))

    assert made.disturbance == (
        "The machine was busy: other processes took up to 1.30 cores. Do not quote the 1 of 2 rows"
        " that are marked; measure them again when nothing else runs."
    )


def test_a_limit_of_cpu_is_told_beside_the_table() -> None:
    made = _report(Others(cores=0, throttled=0.25))

    assert "the limit of CPU kept back up to 0.25. Do not quote" in made.disturbance


def test_a_quiet_machine_is_told_as_well() -> None:
    made = _report(Others(cores=0.02, throttled=0), None)

    assert made.disturbance == "The machine was quiet: other processes took up to 0.02 cores."


def test_nothing_is_told_where_nobody_has_looked() -> None:
    assert not _report(None).disturbance


def test_rows_that_were_disturbed_are_marked_in_the_table() -> None:
    console = Console(file=StringIO(), width=160)

    print_report(_report(Others(cores=1.3, throttled=0), Others(cores=0, throttled=0)), console)

    assert isinstance(console.file, StringIO)
    table = console.file.getvalue()
    assert table.count("met, busy") == 1
    assert "The machine was busy" in table


def test_rows_that_there_are_not_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "quick", "--rows", "hubs,nothing"])

    with pytest.raises(SystemExit):
        main()

    assert "there are no rows nothing" in capsys.readouterr().err


def test_a_run_that_would_fill_the_disk_ends_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: free)
    monkeypatch.setenv("KITH_BENCH_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "full"])

    with pytest.raises(SystemExit, match=r"34 GB more in .*, which has 1; KITH_BENCH_DIR may name"):
        main()
