"""Tokens of positions, and what is known of a primary's log."""

import pytest

from kith.exceptions import ValidationError
from shared.database import positions
from shared.database.positions import ANY, Position

_PLACE = Position(3, 0x16_B374D848)


def test_a_position_is_written_as_postgresql_does_and_read_back() -> None:
    assert _PLACE.lsn == "16/B374D848"
    assert Position.of("000000030000001600000002", _PLACE.lsn) == _PLACE


def test_a_token_comes_back_as_the_position_it_was_issued_for() -> None:
    assert positions.read("feed", [positions.issue("feed", _PLACE)]) == _PLACE


def test_of_several_tokens_the_latest_position_counts() -> None:
    earlier, later = (positions.issue("feed", Position(1, position)) for position in (7, 8))

    assert positions.read("feed", [f"{later}, {earlier}"]) == Position(1, 8)
    assert positions.read("feed", [earlier, later]) == Position(1, 8)


def test_a_position_behind_a_promotion_is_later_whatever_its_offset() -> None:
    assert max(Position(2, 1), Position(1, 9)) == Position(2, 1)


def test_a_token_of_the_other_service_says_no_more_than_that_a_replica_may_answer() -> None:
    assert positions.read("feed", [positions.issue("graph", _PLACE)]) == ANY
    assert positions.read("feed", ["any"]) == ANY


@pytest.mark.parametrize(
    "token",
    ["", "ANY", "all", "AAAA", positions.issue("feed", _PLACE)[:-1], "é", ",".join(["any"] * 9)],
)
def test_what_is_no_token_is_refused_by_the_name_of_its_key(token: str) -> None:
    with pytest.raises(ValidationError) as caught:
        positions.read("feed", [token])

    assert [violation.field for violation in caught.value.violations] == ["kith-position"]
