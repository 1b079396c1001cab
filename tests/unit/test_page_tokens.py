"""Page tokens: read by whoever has a key, made by nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kith.exceptions import ValidationError
from shared.paging import PageTokens, Scope

_OLD, _NEW = b"an old key of some length", b"a new key of some length"
_TOKENS = PageTokens(keys=[_NEW, _OLD])
_SCOPE = Scope.of("feed", 7, [1, 2])

_positions = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3)


@given(position=_positions)
def test_a_token_brings_back_its_position(position: list[int]) -> None:
    token = _TOKENS.issue(_SCOPE, position)

    assert _TOKENS.read(_SCOPE, token, length=len(position)) == tuple(position)


@given(position=_positions, place=st.integers(0), character=st.sampled_from("AZaz09-_=.!"))
def test_a_token_with_another_character_anywhere_is_refused(
    position: list[int], place: int, character: str
) -> None:
    token = _TOKENS.issue(_SCOPE, position)
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    if changed == token:
        return

    with pytest.raises(ValidationError):
        _TOKENS.read(_SCOPE, changed, length=len(position))


@given(garbage=st.text(min_size=1))
def test_garbage_is_refused(garbage: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _TOKENS.read(_SCOPE, garbage, length=2)

    assert [violation.field for violation in caught.value.violations] == ["page_token"]


def test_a_token_of_the_old_key_is_still_read() -> None:
    token = PageTokens(keys=[_OLD]).issue(_SCOPE, [3])

    assert _TOKENS.read(_SCOPE, token, length=1) == (3,)


def test_a_token_of_a_retired_key_is_refused() -> None:
    token = _TOKENS.issue(_SCOPE, [3])

    with pytest.raises(ValidationError):
        PageTokens(keys=[_OLD]).read(_SCOPE, token, length=1)


@pytest.mark.parametrize(
    "other", [Scope.of("feed", 8, [1, 2]), Scope.of("feed", 7, [1]), Scope.of("tags", 7, [1, 2])]
)
def test_a_token_is_refused_for_other_arguments(other: Scope) -> None:
    token = _TOKENS.issue(_SCOPE, [3])

    with pytest.raises(ValidationError):
        _TOKENS.read(other, token, length=1)


def test_the_last_page_has_no_token() -> None:
    page = _TOKENS.cut(_SCOPE, [1, 2], size=2, position=lambda row: (row,))

    assert (page.items, page.next_page_token) == ([1, 2], "")


def test_a_row_too_many_is_cut_off_and_gives_a_token_for_the_row_before() -> None:
    page = _TOKENS.cut(_SCOPE, [1, 2, 3], size=2, position=lambda row: (row,))

    assert page.items == [1, 2]
    assert _TOKENS.read(_SCOPE, page.next_page_token, length=1) == (2,)
