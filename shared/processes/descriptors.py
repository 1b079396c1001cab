"""How many descriptors, and so connections, a process may have.

Systems start processes with a soft limit of 1,024 for the sake of programs that use select(), which
none of ours does.
"""

import resource
from contextlib import suppress
from typing import Final

# For the database, files, pipes and what gRPC needs itself.
_OURS: Final = 256
_LEAST_CONNECTIONS: Final = 128
# Where there is no limit, or one in the millions.
_MOST_CONNECTIONS: Final = 65_536


def raise_limit() -> None:
    """Raise the soft limit of this process, and of those that it starts, to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems call a limit infinite that they do not grant.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections() -> int:
    """Return how many connections a server may take, so that what it does has descriptors left."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(max(soft - _OURS, _LEAST_CONNECTIONS), _MOST_CONNECTIONS)
