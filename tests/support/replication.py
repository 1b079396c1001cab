"""A PostgreSQL with standbys that stream from it, to be paused, killed and promoted.

Each finds the primary among all of them, so that those that are left follow the one that is
promoted.
"""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import psycopg2
import sqlalchemy

from shared.database.embedded_postgres import binaries
from tests.support.memory import folder_for_postgres
from tests.support.ports import free_port
from tests.support.processes import until

_SUPERUSER: Final = "kith"
_OPTIONS: Final = {
    # What dies here are processes, and the system keeps what they wrote.
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "unix_socket_directories": "",
    "wal_retrieve_retry_interval": "100ms",
}


class Server:
    """One PostgreSQL of a cluster."""

    def __init__(self, directory: Path, name: str, options: Mapping[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self._directory = directory / name
        self._log = directory / f"{name}.log"
        self._options = {**_OPTIONS, **options}
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make a new empty one."""
        _run("initdb", "-D", self._directory, "-U", _SUPERUSER, "-A", "trust", "--no-sync")

    def copy(self, primary: "Server", cluster: Sequence["Server"]) -> None:
        """Make a standby of another, which will follow the primary of the cluster."""
        _run(
            "pg_basebackup", "-D", self._directory, "-d", _conninfo([primary]),
            "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        (self._directory / "standby.signal").touch()
        conninfo = f"{_conninfo(cluster)} target_session_attrs=read-write"
        settings = f"primary_conninfo = '{conninfo} application_name={self.name}'\n"
        with (self._directory / "postgresql.auto.conf").open("a") as file:
            file.write(settings)

    def start(self) -> Self:
        """Start, and wait until it accepts connections."""
        options = [f"--{name}={value}" for name, value in self._options.items()]
        where = ["-D", str(self._directory), "-h", "127.0.0.1", "-p", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(binaries() / "postgres"), *where, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **_identity(),
            )
        until(self._accepts)
        return self

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it with all its sessions, as the end of its machine would."""
        self._end(signal.SIGKILL)

    def crash(self) -> None:
        """Kill one of its sessions, for which it ends all and begins anew with what is in its log.

        It is the same process, so it tells the same time of its start.
        """
        killed, ended = (psycopg2.connect(self._dsn("postgres")) for _ in range(2))
        with closing(killed), closing(ended), ended.cursor() as cursor, suppress(psycopg2.Error):
            os.kill(killed.info.backend_pid, signal.SIGKILL)
            cursor.execute("SELECT pg_sleep(60)")
        until(self._accepts)

    def url(self, database: str) -> str:
        """Return the URL of a database, which is created if there is none of this name."""
        if not self.rows("SELECT 1 FROM pg_database WHERE datname = %s", database):
            self.rows(f"CREATE DATABASE {database}")
        return self.at(f"postgresql+psycopg2://{_SUPERUSER}@127.0.0.1/{database}")

    def at(self, url: str) -> str:
        """Return the URL of what another server of the cluster has under a URL."""
        here = sqlalchemy.make_url(url).set(host="127.0.0.1", port=self.port)
        return here.render_as_string(hide_password=False)

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement."""
        connection = psycopg2.connect(self._dsn("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def set(self, name: str, value: str) -> None:
        """Change a setting for which it need not be restarted."""
        self.rows(f"ALTER SYSTEM SET {name} = '{value}'")
        self.rows("SELECT pg_reload_conf()")

    def pause(self) -> None:
        """Let a standby see nothing new from now on."""
        self.rows("SELECT pg_wal_replay_pause()")
        until(lambda: self.rows("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])

    def let_go(self) -> None:
        """Let a standby go on; a primary does so in any case."""
        self.rows("SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery()")

    def catch_up(self, primary: "Server") -> None:
        """Wait until a standby has all that its primary has."""
        [(lsn,)] = primary.rows("SELECT pg_current_wal_flush_lsn()")
        until(lambda: self.rows("SELECT pg_last_wal_replay_lsn() >= %s", lsn) == [(True,)])

    def promote(self) -> None:
        """Make a standby the primary."""
        assert self.rows("SELECT pg_promote()") == [(True,)]

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            pids = [self._process.pid]
            if how == signal.SIGKILL:
                children = Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text()
                pids += map(int, children.split())
            for pid in pids:
                # A session may have ended by itself since.
                with suppress(ProcessLookupError):
                    os.kill(pid, how)
            self._process.wait()

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            psycopg2.connect(self._dsn("postgres")).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _dsn(self, database: str) -> str:
        return f"{_conninfo([self])} dbname={database}"


class ReplicatedCluster:
    """A primary and its standbys; the names say nothing of who is which later."""

    def __init__(self, directory: Path, *, standbys: int, options: Mapping[str, str]) -> None:
        names = [f"server_{number}" for number in range(standbys + 1)]
        self.servers = [Server(directory, name, options) for name in names]
        self.primary, *self.standbys = self.servers

    def url(self, database: str) -> str:
        """Return the URL of a database on the first primary."""
        return self.primary.url(database)


@contextmanager
def replicated_cluster(
    *, standbys: int = 1, options: Mapping[str, str] | None = None
) -> Iterator[ReplicatedCluster]:
    """Start a primary and standbys, in a directory that is removed afterwards."""
    with ExitStack() as stack:
        directory = stack.enter_context(folder_for_postgres())
        if (user := _identity().get("user")) is not None:
            os.chown(directory, user, -1)
        cluster = ReplicatedCluster(directory, standbys=standbys, options=options or {})
        for server in cluster.servers:
            if server is cluster.primary:
                server.create()
            else:
                server.copy(cluster.primary, cluster.servers)
            stack.callback(server.stop)
            server.start()
        yield cluster


def _run(program: str, *arguments: str | Path) -> None:
    subprocess.run(
        [binaries() / program, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
        **_identity(),
    )


def _identity() -> dict[str, Any]:
    """Return the account that runs PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _conninfo(servers: Sequence[Server]) -> str:
    hosts = ",".join("127.0.0.1" for _ in servers)
    ports = ",".join(str(server.port) for server in servers)
    return f"host={hosts} port={ports} user={_SUPERUSER}"
