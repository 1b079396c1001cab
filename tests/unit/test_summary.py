"""The sentence about a week."""

from datetime import date

import pytest

from feed_service.summary import PlainSummarizer, ShownPost

SUNDAY, MONDAY, WEDNESDAY = date(2026, 11, 22), date(2026, 11, 23), date(2026, 11, 25)


def _post(day: date = WEDNESDAY, *, author_id: int = 1, importance: float = 5.0) -> ShownPost:
    return ShownPost(author_id=author_id, importance=importance, day=day)


def _summary(*posts: ShownPost) -> str:
    return PlainSummarizer().summary(posts)


def test_there_is_nothing_to_say_of_nothing() -> None:
    assert _summary() == ""


def test_one_post_is_told_in_the_singular() -> None:
    assert _summary(_post()) == "A balanced week: 1 post by 1 person, on Wednesday."


def test_people_are_counted_once_and_the_busiest_day_is_named() -> None:
    posts = [_post(SUNDAY), _post(MONDAY, author_id=2), _post(MONDAY, author_id=2)]

    assert _summary(*posts) == "A balanced week: 3 posts by 2 people, busiest on Monday."


def test_of_days_that_are_equally_busy_the_first_is_named() -> None:
    assert "busiest on Sunday" in _summary(_post(WEDNESDAY), _post(SUNDAY), _post(MONDAY))


@pytest.mark.parametrize(
    ("importances", "kind"),
    [
        ((4.0,), "A quieter"),
        ((3.0, 5.1), "A balanced"),
        ((6.0,), "A balanced"),
        ((3.1, 9.0), "An eventful"),
    ],
)
def test_the_mean_importance_says_how_eventful_a_week_was(
    importances: tuple[float, ...], kind: str
) -> None:
    posts = [_post(importance=importance) for importance in importances]

    assert _summary(*posts).startswith(f"{kind} week: ")
