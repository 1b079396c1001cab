"""What an argument may be; the parser says the same of it as the limits here."""

import re
from argparse import Action, ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from typing import NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kith.cli.terminal import UsageError

LARGEST_ID = 2**63 - 1
_SOURCE = re.compile(r"[A-Za-z0-9.-]{1,40}")
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")


class Parser(ArgumentParser):
    """Raises UsageError for arguments that cannot be used."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, in one line."""
        text = " ".join(message.split())
        raise UsageError(f"{text}; see `{self.prog} --help`")


class Version(Action):
    """Prints the version that is installed. Looked up only when asked for, for it reads files."""

    def __call__(self, parser: ArgumentParser, *_others: object) -> NoReturn:
        """End the process."""
        print(f"kith {version('kith')}")
        parser.exit()


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers within limits."""

    def read(text: str) -> int:
        # int() would take 1_000 and digits of other scripts, and refuse 5,000 digits its own way.
        number = int(text) if _WHOLE.fullmatch(text) else None
        if number is None or not minimum <= number <= maximum:
            raise ArgumentTypeError(
                f"must be a whole number from {minimum} to {maximum}, not {_shortened(text)}"
            )
        return number

    return read


identifier = whole(1, LARGEST_ID)


def source_name(text: str) -> str:
    """Read the name of a system, which is a part of the names of what comes from there."""
    if not _SOURCE.fullmatch(text):
        raise ArgumentTypeError(
            f"must be 1 to 40 letters, digits, hyphens or dots, not {_shortened(text)}"
        )
    return text


def day(text: str) -> date:
    """Read a date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"must be a date such as 2026-11-16, not {_shortened(text)}"
        ) from None


def zone(text: str) -> ZoneInfo:
    """Read the name of a time zone."""
    try:
        return ZoneInfo(text)
    # A name is looked up as a file, so that it can be a folder, too long, or not for this account.
    except (OSError, ValueError, ZoneInfoNotFoundError):
        raise ArgumentTypeError(f"there is no time zone {_shortened(text)}") from None


def _shortened(text: str) -> str:
    most = 60
    return repr(text if len(text) <= most else f"{text[:most]}...")
