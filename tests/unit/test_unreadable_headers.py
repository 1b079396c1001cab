"""Headers that are not UTF-8 leave a line a minute in the log, and not what was sent."""

import logging

from shared.server.unreadable_headers import UnreadableHeaders


def _logged(of: UnreadableHeaders, message: str) -> logging.LogRecord | None:
    error = UnicodeDecodeError("utf-8", b"hidden\xff", 6, 7, "invalid start byte")
    record = logging.LogRecord(
        name="grpc._cython.cygrpc",
        level=logging.ERROR,
        pathname=__file__,
        lineno=1,
        msg=message,
        args=(b"hidden\xff",),
        exc_info=(type(error), error, None),
    )
    return record if of.filter(record) else None


def test_of_many_headers_a_minute_has_one_warning_with_their_number_and_no_content() -> None:
    now = [1.0]
    headers = UnreadableHeaders(lambda: now[0])

    first = _logged(headers, "Invalid encoding on %s")
    others = [_logged(headers, "Invalid encoding on %s") for _ in range(5)]
    now[0] += 61
    last = _logged(headers, "Invalid encoding on %s")

    assert others == [None] * 5
    assert first
    assert last
    assert [vars(first)["headers"], vars(last)["headers"]] == [1, 6]
    for record in (first, last):
        assert record.levelno == logging.WARNING
        assert "hidden" not in logging.Formatter("%(levelname)s %(message)s").format(record)


def test_other_errors_of_grpcio_are_logged_as_they_are() -> None:
    record = _logged(UnreadableHeaders(), "Exception calling application: %s")

    assert record
    assert record.levelno == logging.ERROR
    assert record.exc_info
