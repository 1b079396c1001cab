"""Logs as one JSON object a line, each with the ids of the request and trace it belongs to."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from kith import trace_context

request_id: ContextVar[str] = ContextVar("request_id", default="")

REQUEST_ID: Final = "x-request-id"
"""The header in which a call brings its request id, is told it, and hands it on."""

quoted = json.encoder.encode_basestring
"""A text as JSON."""

_encode = json.JSONEncoder(default=str, ensure_ascii=False).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


_service = ""


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, request id, trace id, and the fields in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return _line(
            created=record.created,
            level=record.levelname,
            logger=record.name,
            message=record.getMessage(),
            fields=fields,
        )


class Line:
    """An INFO line that every call writes: what is the same in all of them is encoded once.

    Without that, and through Python's records and handlers, the line costs as much as all else that
    is around a call.
    """

    def __init__(self, logger: logging.Logger, message: str, **same: object) -> None:
        self._logger = logger
        fields = {"level": "INFO", "service": _service, "logger": logger.name, "message": message}
        self._same = _encode({**fields, **same})[1:-1]

    def write(self, fields: str) -> None:
        """Write the line with more fields, which are JSON already but for the braces."""
        if self._logger.isEnabledFor(logging.INFO):
            with suppress(OSError, ValueError):  # the reader has gone: no reason to fail a call
                sys.stderr.write(
                    f'{{"time": "{_time(time.time())}", {self._same},'
                    f' "request_id": {quoted(request_id.get())}{_traced()}, {fields}}}\n'
                )


def _line(
    *, created: float, level: str, logger: str, message: str, fields: Mapping[str, object]
) -> str:
    line: dict[str, object] = {
        "time": _time(created),
        "level": level,
        "service": _service,
        "logger": logger,
        "message": message,
    }
    if current := request_id.get():
        line["request_id"] = current
    if trace := trace_context.current.get():
        line["trace_id"] = trace.id
    line.update(fields)
    return _encode(line)


def _traced() -> str:
    trace = trace_context.current.get()
    return "" if trace is None else f', "trace_id": "{trace.id}"'


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def configure(*, service: str, level: str) -> None:
    """Send the logs of this process to standard error. For composition roots only."""
    global _service  # noqa: PLW0603 -- as there is one standard error
    _service = service
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Alembic and SQLAlchemy repeat at INFO what our own lines say; botocore writes credentials into
    # its lines at DEBUG.
    for noisy in ("alembic", "botocore", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
