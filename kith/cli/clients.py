"""The client of both services as a person at a terminal wants it: patient, and clear in failure."""

from kith.client import KithClient
from kith.errors.v1 import errors_pb2
from kith.exceptions import AppException

# A person would try again, and everything that this package does may be repeated.
_ALSO_RETRIED = ("ABORTED", "RESOURCE_EXHAUSTED")


def connected(*, graph: str = "", feed: str = "") -> KithClient:
    """Open channels to both services, by default where the environment says; raises SettingsError.

    Calls to services that are not running fail at once, so that the error says so.
    """
    return KithClient.from_environment(
        graph=graph, feed=feed, waits=False, also_retried=_ALSO_RETRIED
    )


def sentence(error: AppException) -> str:
    """Return what went wrong in one line: the reason and the message."""
    hint = ""
    if error.reason == errors_pb2.ERROR_REASON_SERVICE_UNREACHABLE:
        hint = " -- is Kith running? `make run` in a checkout starts it"
    return " ".join(f"{error.reason_name}: {error.message}{hint}".split())
