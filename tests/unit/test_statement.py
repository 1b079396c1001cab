"""Statements with their parameters, as they are sent."""

from datetime import UTC, datetime

import pytest

from shared.database.statement import Statement

_ONE = Statement("one", "SELECT :value")
_MOMENT = datetime(2025, 7, 2, 12, 30, 0, 250, UTC)


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (7, "7"),
        (-7, "-7"),
        (True, "true"),
        (False, "false"),
        (None, "NULL"),
        ("", "''"),
        ("{1,2}", "'{1,2}'"),
        ("100 % :of; $1 --", "'100 % :of; $1 --'"),
        (_MOMENT, "'2025-07-02T12:30:00.000250+00:00'::timestamptz"),
    ],
)
def test_plain_values_are_written_into_the_execution(value: object, literal: str) -> None:
    assert _ONE.execution({"value": value}) == f"EXECUTE one ({literal})"


@pytest.mark.parametrize(
    "value",
    ["it's", "back\\slash", "nul\0", "é", b"bytes", [1, 2], 1.5, _MOMENT.replace(tzinfo=None)],
)
def test_what_depends_on_the_session_is_left_to_the_driver(value: object) -> None:
    assert _ONE.execution({"value": value}) is None


def test_parameters_are_written_in_the_order_in_which_the_statement_names_them() -> None:
    statement = Statement("two", "SELECT :second, :first, :second")

    assert statement.execution({"first": 1, "second": 2, "more": 3}) == "EXECUTE two (2, 1)"


def test_a_statement_without_parameters_is_executed_without_parentheses() -> None:
    assert Statement("none", "SELECT 1").execution({}) == "EXECUTE none"


def test_a_parameter_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="value"):
        _ONE.execution({})
