"""The script `kith`: the client's commands, and the operator's where the services are."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import kith

_OPERATORS = "shared.cli.__main__"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of this process's arguments for None; returns the exit status."""
    # What fails is told in a line of ours. gRPC reads this when it is imported, and would write
    # others beside it, also of a gateway that does not tell its health.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        commands = import_module(_OPERATORS if _has_services() else "kith.cli.commands")
    except ModuleNotFoundError as error:
        if error.name != "rich":
            raise
        sys.exit("kith: the commands need the extra `cli`: pip install 'kith[cli]'")
    status: int = commands.main(arguments)
    return status


def _has_services() -> bool:
    """Whether the services lie beside this package, as in a checkout and in the image.

    An entry point could not say so: wheel and checkout have the same metadata. In site-packages,
    where the wheel puts this package, a `shared` would be of another project and must not run.
    """
    beside = Path(kith.__file__).resolve().parents[1]
    if not all((beside / name).is_dir() for name in ("feed_service", "graph_service")):
        return False
    found = find_spec("shared")
    return (
        found is not None
        and found.origin is not None
        and Path(found.origin).resolve() == beside / "shared" / "__init__.py"
    )


if __name__ == "__main__":
    sys.exit(main())
