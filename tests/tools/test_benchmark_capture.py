"""What the benchmarks make of the statements that pass by on the wire."""

import pytest

from benchmarks.capture import Sessions, Unprepared


def _sessions(*setup: str) -> Sessions:
    return Sessions(url="", options="", setup=list(setup))


def test_a_statement_that_is_not_prepared_is_its_own_sql() -> None:
    statement = "SELECT 1 WHERE now() > '2026-01-01T00:00:00+00:00'::timestamptz"

    assert _sessions().unprepared(statement) == Unprepared(sql=statement, parameters={})


def test_an_execution_becomes_the_sql_that_was_prepared_and_its_parameters() -> None:
    sessions = _sessions(
        "PREPARE other AS SELECT 0", "PREPARE page AS SELECT f($2, $1) FROM posts LIMIT $3"
    )

    found = sessions.unprepared("EXECUTE page ('it''s {1,2}', -7, NULL)")

    assert found == Unprepared(
        sql="SELECT f(:p1, :p0) FROM posts LIMIT NULL", parameters={"p0": "it's {1,2}", "p1": -7}
    )


def test_commas_in_texts_and_arrays_separate_no_arguments() -> None:
    sessions = _sessions("PREPARE page AS SELECT $1, $2, $3")

    found = sessions.unprepared("EXECUTE page ('a, b', ARRAY['c','d']::text[], f(1, 2))")

    assert found == Unprepared(
        sql="SELECT :p0, ARRAY['c','d']::text[], f(1, 2)", parameters={"p0": "a, b"}
    )


def test_declared_types_are_kept() -> None:
    sessions = _sessions("PREPARE page (bigint[], text) AS SELECT unnest($1), $2")

    found = sessions.unprepared("EXECUTE page ('{1,2}', 'a')")

    assert found.sql == "SELECT unnest(CAST(:p0 AS bigint[])), CAST(:p1 AS text)"


def test_an_execution_of_what_nobody_prepared_is_told() -> None:
    with pytest.raises(LookupError, match="page"):
        _sessions().unprepared("EXECUTE page (1)")
