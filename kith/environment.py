"""Reading settings from the environment: once, with all problems reported together."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

_SERVICE_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")


class SettingsError(Exception):
    """Some settings are missing or malformed; the message has one line for each."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A variable that is read, and what it may say."""

    default: str
    """Empty where unset is a meaning of its own."""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


class Environment:
    """Reads variables and collects what is wrong with them; `check` raises it all at once."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._problems: list[str] = []
        self._settings: dict[str, Setting] = {}

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What has been read so far, by name; docs/configuration.md is compared with it."""
        return self._settings

    def text(self, name: str, default: str) -> str:
        """Read a text; an empty variable counts as unset."""
        self._settings[name] = Setting(default=default)
        return self._value(name) or default

    def host(self, name: str, default: str) -> str:
        """Read a host to listen on; an IPv6 address may be in brackets, and is returned without."""
        return self.text(name, default).removeprefix("[").removesuffix("]")

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """Read a whole number within limits, both included."""
        return int(self._number(name, default, minimum=minimum, maximum=maximum, kind=int))

    def port(self, name: str, default: int, *, minimum: int = 0) -> int:
        """Read a TCP port; 0, where it is allowed, is any that is free.

        What Kubernetes says of a service of that name counts as unset: it is never meant for us.
        """
        if is_service_link(self._value(name)):
            return default
        return self.integer(name, default, minimum=minimum, maximum=65_535)

    def number(self, name: str, default: float, *, minimum: float, maximum: float) -> float:
        """Read a number within limits, both included."""
        return self._number(name, default, minimum=minimum, maximum=maximum, kind=float)

    def duration(self, name: str, default: float, *, minimum: float, maximum: float) -> timedelta:
        """Read a number of seconds within limits, both included."""
        return timedelta(seconds=self.number(name, default, minimum=minimum, maximum=maximum))

    def choice(self, name: str, default: str, *, choices: tuple[str, ...]) -> str:
        """Read one of some words, in upper case."""
        self._settings[name] = Setting(default=default, choices=choices)
        value = (self._value(name) or default).upper()
        if value not in choices:
            self.problem(name, f"must be one of {', '.join(choices)}; is {value!r}")
            return default
        return value

    def switch(self, name: str, default: bool) -> bool:  # noqa: FBT001 -- like the other defaults
        """Read `on` or `off`."""
        return self.choice(name, "ON" if default else "OFF", choices=("ON", "OFF")) == "ON"

    def file(self, name: str) -> Path | None:
        """Read the path of a file; None when unset."""
        value = self.text(name, "")
        return Path(value).absolute() if value else None

    def words(self, name: str) -> list[str]:
        """Read words that commas separate."""
        return [word.strip() for word in self.text(name, "").split(",") if word.strip()]

    def require(self, name: str, work: Callable[[], object]) -> None:
        """Note a variable whose files cannot be used: reading raises OSError or ValueError."""
        try:
            work()
        except (OSError, ValueError) as error:
            self.problem(name, f"cannot be used: {error}")

    def problem(self, name: str, description: str) -> None:
        """Note that a variable cannot be used, once: several settings may read the same one."""
        problem = f"{name} {description}"
        if problem not in self._problems:
            self._problems.append(problem)

    def check(self) -> None:
        """Raise SettingsError if any variable could not be used."""
        if self._problems:
            raise SettingsError("\n".join(self._problems))

    def _value(self, name: str) -> str:
        return self._variables.get(name, "").strip()

    def _number(
        self, name: str, default: float, *, minimum: float, maximum: float, kind: type[int | float]
    ) -> float:
        self._settings[name] = Setting(default=str(default), minimum=minimum, maximum=maximum)
        raw = self._value(name) or str(default)
        try:
            value = kind(raw)
        except ValueError:
            self.problem(name, f"must be a number; is {raw!r}")
            return default
        if not minimum <= value <= maximum:
            self.problem(name, f"must be from {minimum} to {maximum}; is {raw}")
            return default
        return value


def is_service_link(value: str) -> bool:
    """Whether Kubernetes has put this value into a `*_PORT`, for a service of that name."""
    return _SERVICE_LINK_VALUE.match(value) is not None
