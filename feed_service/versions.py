"""What users may change: only what they have seen, and nothing that a service holds as evidence."""

from kith.errors.v1 import errors_pb2
from kith.exceptions import AbortedError, PreconditionError


def require_version(wanted: int | None, *, current: int) -> None:
    """Raise AbortedError with ETAG_MISMATCH unless the wanted version is the current one, or None.

    Callers know versions as etags; see `messages.etag`.
    """
    if wanted is not None and wanted != current:
        raise AbortedError(
            "the resource was changed meanwhile; read it again",
            reason=errors_pb2.ERROR_REASON_ETAG_MISMATCH,
        )


def require_no_hold(*, is_held: bool) -> None:
    """Raise PreconditionError with CONTENT_HELD for a post or a comment that is held."""
    if is_held:
        raise PreconditionError(
            "a service holds this content, so it cannot be changed; it can be deleted",
            reason=errors_pb2.ERROR_REASON_CONTENT_HELD,
        )
