"""What one transaction finds that another has changed meanwhile, so that it must be repeated."""

from kith.exceptions import AbortedError


def erased_meanwhile() -> AbortedError:
    """Return the error of a transaction whose user lost their row before it was locked."""
    return AbortedError("one of the users was erased meanwhile; repeat the call")
