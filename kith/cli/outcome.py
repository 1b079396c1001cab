"""The one place that turns how a command ended into one line and an exit status."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kith.cli.clients import sentence
from kith.cli.terminal import CommandError, Status
from kith.environment import SettingsError
from kith.exceptions import AppException

_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def _explain_nothing(_error: BaseException) -> str | None:
    return None


def outcome(
    work: Callable[[], object], *, explain: Callable[[BaseException], str | None] = _explain_nothing
) -> Status:
    """Run a command to its end; says on standard error what went wrong, and returns the status.

    `explain` returns what to say of errors that only its caller knows, and None for others.
    """
    if sys.stdout is None:  # closed by the parent process, as `>&-` does
        return _failed("standard output is closed")
    # A terminal that cannot show a character shows a question mark instead of a traceback.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is text
    try:
        with _interrupted_by_signals():
            work()
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- a person gets a line
        message, status = _told(error, explain)
        _end_output()
        return _failed(message, status)
    return Status.DONE


def _told(
    error: BaseException, explain: Callable[[BaseException], str | None]
) -> tuple[str, Status]:
    """Return what to say of an error. One that is a fault of ours is raised with `-X dev`."""
    status = Status.FAILED
    match error:
        case CommandError():
            message, status = str(error), error.status
        case SettingsError():
            message, status = "; ".join(str(error).splitlines()), Status.USAGE
        case KeyboardInterrupt():
            message, status = "interrupted", Status.INTERRUPTED
        case AppException():
            message = sentence(error)
        case BrokenPipeError():
            message, status = "", Status.OUTPUT_CLOSED
        case OSError():
            message = _system_fault(error)
        case _ if (explanation := explain(error)) is not None:
            message = explanation
        case _ if sys.flags.dev_mode:
            raise error
        case _:
            kind = type(error).__name__
            message = _one_line(f"{kind}: {error} -- PYTHONDEVMODE=1 shows where it happened")
    return message, status


def _system_fault(error: OSError) -> str:
    """Return what the system says, which names neither of the two that every command needs."""
    nameless = "working directory" if isinstance(error, FileNotFoundError) else "standard output"
    return f"{error.filename or nameless}: {error.strerror or error}"


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let what ends a process be what Ctrl-C is: files that are half written are removed.

    What is ignored, as under `nohup`, stays so.
    """
    former = {
        number: signal.signal(number, signal.default_int_handler)
        for number in _ENDINGS
        if signal.getsignal(number) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end_output() -> None:
    """Write what is left in buffers, to nowhere if need be, or Python complains at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(message: str, status: Status = Status.FAILED) -> Status:
    if message and sys.stderr is not None:
        sys.stderr.write(f"kith: {message}\n")
    return status


def _one_line(message: str) -> str:
    return " ".join(message.split())
