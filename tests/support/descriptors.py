"""Limits of descriptors, which processes inherit from those that start them."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def soft_limit(number: int) -> Iterator[None]:
    """Lower the soft limit of this process inside the block."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
