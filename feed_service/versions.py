"""Versions of what users change: how a change is made only to what its author has seen."""

from kith.errors.v1 import errors_pb2
from kith.exceptions import AbortedError


def require_version(wanted: int | None, *, current: int) -> None:
    """Raise AbortedError with ETAG_MISMATCH unless the wanted version is the current one, or None.

    Callers know versions as etags; see `messages.etag`.
    """
    if wanted is not None and wanted != current:
        raise AbortedError(
            "the resource was changed meanwhile; read it again",
            reason=errors_pb2.ERROR_REASON_ETAG_MISMATCH,
        )
