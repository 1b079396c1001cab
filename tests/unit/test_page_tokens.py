"""Page tokens: only a service with the key can read and make them."""

from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kith.exceptions import ValidationError
from shared.api.paging import (
    BELOW_ALL_IDS,
    NEWER_THAN_ALL,
    OLDER_THAN_ALL,
    ById,
    ByTime,
    PageTokens,
    Scope,
)
from tests.support.tokens import integers_in

_OLD, _NEW = b"an old key of some length", b"a new key of some length"
_TOKENS = PageTokens(keys=[_NEW, _OLD])
_SCOPE = Scope.of("feed", 7, [1, 2])


class _ByTimeAndPace(NamedTuple):
    micros: int
    id: int
    pace: int = 0


_integers = st.integers(-(2**63), 2**63 - 1)
_lists = st.lists(_integers, min_size=1, max_size=3)


@given(position=st.one_of(st.builds(ById, _integers), st.builds(ByTime, _integers, _integers)))
def test_a_token_brings_back_its_position(position: ById | ByTime) -> None:
    token = _TOKENS.issue(_SCOPE, position)

    assert _TOKENS.read(_SCOPE, token, start=position._replace(id=0)) == position


@given(position=st.one_of(st.builds(ById, _integers), st.builds(ByTime, _integers, _integers)))
def test_a_sealed_token_brings_back_its_position_and_does_not_show_it(
    position: ById | ByTime,
) -> None:
    token = PageTokens(keys=[_OLD]).issue_sealed(_SCOPE, position)

    assert _TOKENS.read(_SCOPE, token, start=position._replace(id=0)) == position
    assert not {*position} & {*integers_in(token)}


def test_a_token_of_an_earlier_version_brings_back_what_is_in_it_and_no_more() -> None:
    token = _TOKENS.issue(_SCOPE, ByTime(5, 7))

    assert _TOKENS.read(_SCOPE, token, start=_ByTimeAndPace(1, 2, 3)) == (5, 7, 3)
    with pytest.raises(ValidationError):
        _TOKENS.read(_SCOPE, _TOKENS.issue(_SCOPE, ById(5)), start=_ByTimeAndPace(1, 2, 3))


def test_the_empty_token_is_for_the_start() -> None:
    assert _TOKENS.read(_SCOPE, "", start=NEWER_THAN_ALL) is NEWER_THAN_ALL


def test_a_token_of_a_position_of_another_kind_is_refused() -> None:
    token = _TOKENS.issue(_SCOPE, ById(3))

    with pytest.raises(ValidationError):
        _TOKENS.read(_SCOPE, token, start=OLDER_THAN_ALL)


@given(integers=_lists)
def test_a_token_brings_back_any_number_of_integers(integers: list[int]) -> None:
    token = _TOKENS.issue(_SCOPE, integers)

    assert _TOKENS.read_integers(_SCOPE, token, field="newer_than") == tuple(integers)


@given(moment=st.datetimes(timezones=st.just(UTC)))
def test_a_time_comes_back_to_the_microsecond(moment: datetime) -> None:
    assert ByTime.of(moment, 7).key == (moment, 7)


@given(position=_lists, index=st.integers(0), character=st.sampled_from("AZaz09-_=.!"))
def test_a_token_with_another_character_anywhere_is_refused(
    position: list[int], index: int, character: str
) -> None:
    token = _TOKENS.issue(_SCOPE, position)
    index %= len(token)
    changed = token[:index] + character + token[index + 1 :]
    if changed == token:
        return

    with pytest.raises(ValidationError):
        _TOKENS.read_integers(_SCOPE, changed, field="page_token")


@given(garbage=st.text(min_size=1))
def test_garbage_is_refused(garbage: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _TOKENS.read(_SCOPE, garbage, start=OLDER_THAN_ALL)

    assert [violation.field for violation in caught.value.violations] == ["page_token"]


def test_a_token_of_the_old_key_is_still_read() -> None:
    token = PageTokens(keys=[_OLD]).issue(_SCOPE, [3])

    assert _TOKENS.read(_SCOPE, token, start=BELOW_ALL_IDS) == ById(3)


def test_a_token_of_a_retired_key_is_refused() -> None:
    token = _TOKENS.issue(_SCOPE, [3])

    with pytest.raises(ValidationError):
        PageTokens(keys=[_OLD]).read(_SCOPE, token, start=BELOW_ALL_IDS)


@pytest.mark.parametrize(
    "other", [Scope.of("feed", 8, [1, 2]), Scope.of("feed", 7, [1]), Scope.of("tags", 7, [1, 2])]
)
def test_a_token_is_refused_for_other_arguments(other: Scope) -> None:
    token = _TOKENS.issue(_SCOPE, [3])

    with pytest.raises(ValidationError):
        _TOKENS.read(other, token, start=BELOW_ALL_IDS)


def test_the_last_page_has_no_token() -> None:
    page = _TOKENS.cut(_SCOPE, [1, 2], size=2, position=ById)

    assert (page.items, page.next_page_token) == ([1, 2], "")


def test_a_row_too_many_is_cut_off_and_gives_a_token_for_the_row_before() -> None:
    page = _TOKENS.cut(_SCOPE, [1, 2, 3], size=2, position=ById)

    assert page.items == [1, 2]
    assert _TOKENS.read(_SCOPE, page.next_page_token, start=BELOW_ALL_IDS) == ById(2)
