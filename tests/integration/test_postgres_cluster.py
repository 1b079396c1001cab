"""The embedded PostgreSQL keeps what it acknowledged and leaves nothing behind after any kill.

Every holder here is a process of its own, because its lock ends with its process.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy

from shared.database.embedded_postgres import binaries
from tests.support.memory import folder_for_postgres
from tests.support.processes import is_there

_ROOT = Path(__file__).parents[2]
_WITHIN_SECONDS = 120
_ONLY_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="only as root does PostgreSQL need another account"
)
_HOLDER = """
import sys
from pathlib import Path
from shared.database.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError

try:
    with EmbeddedPostgres(Path(sys.argv[1])) as cluster:
        print(cluster.url("kept"), flush=True)
        sys.stdin.read()
except EmbeddedPostgresError as error:
    sys.exit(str(error))
"""


class Holder:
    """A process that holds the cluster in a directory."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, directory],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def url(self) -> sqlalchemy.URL:
        """Where the cluster is; waits until it is ready."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, self.failure()
        return sqlalchemy.make_url(line)

    def failure(self) -> str:
        """Return what was said when it could not start."""
        _, said = self.process.communicate(timeout=_WITHIN_SECONDS)
        return said

    def leave(self) -> None:
        """Let go of the cluster and exit."""
        self.process.communicate(timeout=_WITHIN_SECONDS)
        assert self.process.returncode == 0

    def kill(self) -> None:
        """Die without a chance to let go."""
        self.process.kill()
        self.process.communicate(timeout=_WITHIN_SECONDS)


class Cluster:
    """A directory, and the processes that its cluster is made of."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._holders: list[Holder] = []

    def hold(self) -> Holder:
        """Start a holder."""
        self._holders.append(Holder(self.directory))
        return self._holders[-1]

    def postmaster(self) -> int:
        """Return the pid of the server."""
        pid_file = self.directory / "postgres" / "postmaster.pid"
        return int(pid_file.read_text().split()[0])

    def guardian(self) -> int:
        """Return the pid of the guardian."""
        # What the server has just forked has its command line for a moment.
        while len(found := self.processes()) != 2:
            time.sleep(0.01)
        [pid] = [pid for pid in found if pid != self.postmaster()]
        return pid

    def processes(self) -> list[int]:
        """Return the pids of all processes of this cluster that are still there."""
        listing = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=,stat=,args="],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        holders = {holder.process.pid for holder in self._holders}
        found = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
        return [
            int(pid)
            for pid, state, *arguments in found
            if str(self.directory) in "".join(arguments)
            and not state.startswith("Z")
            and int(pid) not in holders
        ]

    def close(self) -> None:
        """Kill the processes that a failed test may have left."""
        for holder in self._holders:
            holder.kill()
        self.wait_for_end()

    def wait_for_end(self) -> None:
        """Return when no process is left."""
        # To list all processes of a machine takes more than to look at those that were there.
        while left := self.processes():
            _until(lambda left=left: not any(map(is_there, left)))  # type: ignore[misc]  # mypy knows no default of a lambda


@contextmanager
def _new_cluster() -> Iterator[Cluster]:
    with folder_for_postgres() as folder:
        directory = folder / "cluster"
        directory.mkdir()
        directory.chmod(0o755)
        cluster = Cluster(directory)
        try:
            yield cluster
        finally:
            cluster.close()


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The directory of a cluster that was used once and is stopped."""
    with _new_cluster() as cluster:
        holder = cluster.hold()
        assert holder.url
        holder.leave()
        cluster.wait_for_end()
        # Every copy is to find a port of its own.
        (cluster.directory / "postgres.port").unlink()
        yield cluster.directory


@pytest.fixture
def new_cluster() -> Iterator[Cluster]:
    """A directory without a cluster, which takes a second to make."""
    with _new_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(made: Path) -> Iterator[Cluster]:
    """A cluster that was made before, and never held here."""
    with _new_cluster() as cluster:
        subprocess.run(["cp", "-a", f"{made}/.", cluster.directory], check=True)
        yield cluster


def _until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WITHIN_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _conninfo(url: sqlalchemy.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _execute(url: sqlalchemy.URL, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(_conninfo(url))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def _kill_server(cluster: Cluster) -> None:
    """Kill the guardian first, so that it starts no other server, and the server before it stops.

    A server whose guardian is gone shuts down, and removes its file; one that is held cannot.
    """
    postmaster = cluster.postmaster()
    os.kill(postmaster, signal.SIGSTOP)
    os.kill(cluster.guardian(), signal.SIGKILL)
    os.kill(postmaster, signal.SIGKILL)


def _write(url: sqlalchemy.URL, number: int = 1) -> None:
    _execute(url, "CREATE TABLE IF NOT EXISTS kept (number integer)")
    _execute(url, f"INSERT INTO kept SELECT generate_series(1, {number})")


def _rows(url: sqlalchemy.URL) -> int:
    return len(_execute(url, "SELECT number FROM kept"))


def _answers(url: sqlalchemy.URL) -> bool:
    try:
        _execute(url, "SELECT 1")
    except psycopg2.OperationalError:
        return False
    return True


def test_data_and_address_survive_a_restart(cluster: Cluster) -> None:
    first = cluster.hold()
    url = first.url
    _write(url)
    first.leave()

    again = cluster.hold().url

    assert (_rows(again), again) == (1, url)


def test_the_cluster_stops_with_the_last_of_its_holders(cluster: Cluster) -> None:
    first = cluster.hold()
    url = first.url
    second = cluster.hold()
    assert second.url == url

    first.leave()
    is_up_with_one = _answers(url)
    second.leave()

    assert is_up_with_one
    cluster.wait_for_end()
    assert not _answers(url)


def test_the_cluster_stops_when_its_last_holder_is_killed(cluster: Cluster) -> None:
    holder = cluster.hold()
    assert _answers(holder.url)

    holder.kill()

    cluster.wait_for_end()


def test_two_processes_that_start_at_once_share_one_new_cluster(new_cluster: Cluster) -> None:
    first, second = new_cluster.hold(), new_cluster.hold()

    urls = {first.url, second.url}

    assert len(urls) == 1
    _write(urls.pop())


def test_rows_survive_when_server_and_guardian_and_holder_are_killed(cluster: Cluster) -> None:
    holder = cluster.hold()
    _write(holder.url, number=10_000)
    _kill_server(cluster)
    holder.kill()

    again = cluster.hold().url

    assert _rows(again) == 10_000


def test_a_killed_server_is_started_again_at_its_address(cluster: Cluster) -> None:
    url = cluster.hold().url
    _write(url)
    killed = cluster.postmaster()

    os.kill(killed, signal.SIGKILL)

    _until(lambda: _answers(url))
    assert _rows(url) == 1
    assert cluster.postmaster() != killed


def test_a_killed_guardian_is_replaced_by_the_next_holder(cluster: Cluster) -> None:
    _write(cluster.hold().url)

    os.kill(cluster.guardian(), signal.SIGKILL)
    again = cluster.hold().url

    assert _rows(again) == 1


@pytest.mark.parametrize(
    ("command", "is_over"),
    [
        pytest.param(["sleep", "600"], False, id="another program"),
        # No process waits for it here, as in a container without an init.
        pytest.param([binaries() / "postgres", "--version"], True, id="a zombie"),
    ],
)
def test_a_server_file_whose_pid_is_no_servers_is_no_obstacle(
    cluster: Cluster, command: list[str], *, is_over: bool
) -> None:
    holder = cluster.hold()
    _write(holder.url)
    pid_file = cluster.directory / "postgres" / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines(keepends=True)
    _kill_server(cluster)
    holder.kill()
    cluster.wait_for_end()
    # PostgreSQL passes over the processes of other accounts, so it must be one of its own.
    account = pid_file.owner()
    with subprocess.Popen(command, user=account, cwd="/", stdout=subprocess.DEVNULL) as process:
        if is_over:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        pid_file.write_text("".join([f"{process.pid}\n", *rest]))

        again = cluster.hold().url

        process.kill()
    assert _rows(again) == 1


def test_nobody_is_let_in_without_the_password(cluster: Cluster) -> None:
    url = cluster.hold().url

    for password in ("", "0" * 64):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            _execute(url.set(password=password), "SELECT 1")


def test_the_password_is_asked_for_where_an_earlier_version_let_everybody_in(
    cluster: Cluster,
) -> None:
    first = cluster.hold()
    _write(first.url)
    first.leave()
    (cluster.directory / "postgres" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    (cluster.directory / "postgres.password").unlink()

    url = cluster.hold().url

    assert _rows(url) == 1
    with pytest.raises(psycopg2.OperationalError, match="password"):
        _execute(url.set(password=""), "SELECT 1")


def test_others_may_read_neither_log_nor_data(new_cluster: Cluster) -> None:
    (new_cluster.directory / "postgres.log").touch(mode=0o644)
    _write(new_cluster.hold().url)

    kept = {path.name: path.stat().st_mode for path in new_cluster.directory.iterdir()}

    assert {"postgres", "postgres.log", "postgres.password", "postgres.holders"} <= kept.keys()
    open_to_others = {name for name, mode in kept.items() if mode & 0o077}
    assert open_to_others <= {"postgres.port", "postgres.ready"}


@_ONLY_ROOT
def test_data_are_kept_where_the_servers_account_can_reach_them(new_cluster: Cluster) -> None:
    private = Cluster(new_cluster.directory / "home" / ".data")
    private.directory.parent.mkdir(mode=0o700)
    first = private.hold()
    url = first.url
    data = (private.directory / "postgres").readlink()
    try:
        _write(url)
        first.leave()
        again = private.hold()

        assert _rows(again.url) == 1
        assert not data.is_relative_to(new_cluster.directory)
        assert not data.stat().st_mode & 0o077
        again.leave()
    finally:
        private.close()
        shutil.rmtree(data.parent)


@_ONLY_ROOT
def test_a_directory_closed_later_to_the_servers_account_is_named_with_the_remedy(
    cluster: Cluster,
) -> None:
    cluster.hold().leave()
    cluster.wait_for_end()
    cluster.directory.chmod(0o700)
    with ExitStack() as stack:
        holder = Holder(cluster.directory)
        stack.callback(holder.kill)
        said = holder.failure()

    assert holder.process.returncode == 1
    assert f"cannot enter {cluster.directory}" in said
    assert "chmod o+x" in said
    assert "Traceback" not in said
