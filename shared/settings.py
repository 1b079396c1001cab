"""Reading settings from the environment: once, with all problems reported together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class SettingsError(Exception):
    """Some settings are missing or malformed; the message has one line for each."""


class Environment:
    """Reads variables and collects what is wrong with them; `check` raises it all at once."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._problems: list[str] = []

    def text(self, name: str, default: str) -> str:
        """Read a text; an empty variable counts as unset."""
        return self._variables.get(name, "").strip() or default

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """Read a whole number within limits, both included."""
        return int(self._number(name, default, minimum=minimum, maximum=maximum, kind=int))

    def number(self, name: str, default: float, *, minimum: float, maximum: float) -> float:
        """Read a number within limits, both included."""
        return self._number(name, default, minimum=minimum, maximum=maximum, kind=float)

    def duration(self, name: str, default: float, *, minimum: float, maximum: float) -> timedelta:
        """Read a number of seconds within limits, both included."""
        return timedelta(seconds=self.number(name, default, minimum=minimum, maximum=maximum))

    def choice(self, name: str, default: str, *, choices: tuple[str, ...]) -> str:
        """Read one of some words, in upper case."""
        value = self.text(name, default).upper()
        if value not in choices:
            self.problem(name, f"must be one of {', '.join(choices)}; is {value!r}")
            return default
        return value

    def problem(self, name: str, description: str) -> None:
        """Note that a variable cannot be used."""
        self._problems.append(f"{name} {description}")

    def check(self) -> None:
        """Raise SettingsError if any variable could not be used."""
        if self._problems:
            raise SettingsError("\n".join(self._problems))

    def _number(
        self, name: str, default: float, *, minimum: float, maximum: float, kind: type[int | float]
    ) -> float:
        raw = self.text(name, str(default))
        try:
            value = kind(raw)
        except ValueError:
            self.problem(name, f"must be a number; is {raw!r}")
            return default
        if not minimum <= value <= maximum:
            self.problem(name, f"must be from {minimum} to {maximum}; is {raw}")
            return default
        return value


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How one service listens, stops and logs."""

    host: str
    port: int
    metrics_port: int
    threads: int
    drain: timedelta
    grace: timedelta
    max_message_bytes: int
    log_level: str

    @classmethod
    def read(
        cls, environment: Environment, prefix: str, *, port: int, metrics_port: int
    ) -> "ServerSettings":
        """Read the variables of one service, whose names start with `prefix`."""
        any_port = {"minimum": 0, "maximum": 65_535}
        mebibyte = 1024 * 1024
        return cls(
            host=environment.text(f"{prefix}_HOST", "127.0.0.1"),
            port=environment.integer(f"{prefix}_PORT", port, **any_port),
            metrics_port=environment.integer(f"{prefix}_METRICS_PORT", metrics_port, **any_port),
            threads=environment.integer(f"{prefix}_THREADS", 8, minimum=1, maximum=256),
            drain=environment.duration("DRAIN_SECONDS", 0.5, minimum=0, maximum=600),
            grace=environment.duration("GRACE_SECONDS", 20, minimum=0, maximum=600),
            max_message_bytes=environment.integer(
                "MAX_MESSAGE_BYTES", 10 * mebibyte, minimum=mebibyte, maximum=64 * mebibyte
            ),
            log_level=environment.choice("LOG_LEVEL", "INFO", choices=_LOG_LEVELS),
        )


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Where one service's database is and how many connections it may hold."""

    url: str
    data_dir: Path
    pool_size: int
    max_overflow: int
    pool_timeout: timedelta
    statement_timeout: timedelta
    prepare: bool

    @classmethod
    def read(cls, environment: Environment, prefix: str) -> "DatabaseSettings":
        """Read the variables of one service, whose names start with `prefix`."""
        url = environment.text(f"{prefix}_DATABASE_URL", "")
        if url.startswith("postgresql://"):
            # Since SQLAlchemy 2.1 the bare scheme means psycopg 3, which Kith does not install.
            url = url.replace("postgresql://", "postgresql+psycopg2://", 1)
        elif url and not url.startswith("postgresql+psycopg2://"):
            environment.problem(f"{prefix}_DATABASE_URL", "must start with postgresql://")
        return cls(
            url=url,
            data_dir=Path(environment.text("KITH_DATA_DIR", ".data")).absolute(),
            pool_size=environment.integer("DATABASE_POOL_SIZE", 8, minimum=1, maximum=200),
            max_overflow=environment.integer("DATABASE_MAX_OVERFLOW", 15, minimum=0, maximum=200),
            pool_timeout=environment.duration(
                "DATABASE_POOL_TIMEOUT_SECONDS", 2, minimum=0.1, maximum=60
            ),
            statement_timeout=environment.duration(
                "DATABASE_STATEMENT_TIMEOUT_SECONDS", 10, minimum=0.1, maximum=3600
            ),
            prepare=environment.choice("DATABASE_PREPARE", "ON", choices=("ON", "OFF")) == "ON",
        )
