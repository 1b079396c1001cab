"""The ports on which a command is about to start a process."""

from contextlib import ExitStack

from kith.cli.terminal import CommandError
from shared.processes.ports import ListenError, reserved


def free_port(host: str, port: int, variable: str, ports: ExitStack) -> int:
    """Return the port, or for 0 a free one, and reserve it until `ports` is closed.

    Raises CommandError, which names the variable of the port, when another process has it.
    """
    try:
        sock = ports.enter_context(reserved(host, port))
    except ListenError as error:
        raise CommandError(
            f"cannot listen on {error.filename} ({error.strerror}): stop the process that "
            f"uses it, or choose another port with {variable}"
        ) from error
    return int(sock.getsockname()[1])
