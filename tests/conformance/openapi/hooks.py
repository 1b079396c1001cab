"""What schemathesis is not to try: it imports this in the environment that it is installed in."""

from typing import Any

import schemathesis  # type: ignore[import-not-found]  # not in the environment of Kith


@schemathesis.hook  # type: ignore[untyped-decorator]  # for the same reason
def filter_case(_context: object, case: Any) -> bool:
    """Leave out null, by which JSON may name the default of every field of protobuf."""
    return not _has_null(case.body)


def _has_null(value: object) -> bool:
    match value:
        case dict():
            return any(map(_has_null, value.values()))
        case list():
            return any(map(_has_null, value))
        case _:
            return value is None
