"""Rates, and where Redis is, as an operator says them."""

import pytest

from feed_service.settings import FeedSettings
from graph_service.settings import GraphSettings
from kith.environment import SettingsError

_OWN = {"PAGE_TOKEN_KEYS": "a key that is long enough to be taken here"}


def _problem(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        FeedSettings.read({**_OWN, **variables})
    return str(caught.value)


def test_a_limit_can_be_changed_and_switched_off_by_itself() -> None:
    settings = FeedSettings.read(
        {**_OWN, "RATE_LIMIT_POSTS": "100 per 5 minutes", "RATE_LIMIT_FEEDS": "off"}
    )

    assert settings.rate_limits is not None
    rates = settings.rate_limits.rates
    assert (rates["POSTS"].amount, rates["POSTS"].seconds) == (100, 300)
    assert "FEEDS" not in rates
    assert "CALLERS" not in rates


def test_a_full_cache_is_no_reason_to_replace_a_worker() -> None:
    memory = {"CONNECTIONS_CACHE_BYTES": str(1024**3), "WORKER_MAX_MEMORY_BYTES": str(1024**3)}

    assert "at least 1342177280" in _problem(**memory)
    FeedSettings.read({**_OWN, **memory, "WORKER_MAX_MEMORY_BYTES": "0"})


def test_all_limits_can_be_switched_off_together() -> None:
    assert GraphSettings.read({**_OWN, "RATE_LIMITS": "off"}).rate_limits is None


@pytest.mark.parametrize(
    "rate",
    [
        *("ten", "10", "10/fortnight", "0/minute", "-1/minute", "1/2 years"),
        *("1/0 minutes", "10/minute; 5/second", "10 minutes"),
    ],
)
def test_a_rate_that_makes_no_sense_is_told(rate: str) -> None:
    assert "RATE_LIMIT_POSTS" in _problem(RATE_LIMIT_POSTS=rate)


def test_redis_is_used_when_it_has_a_url_and_is_not_switched_off() -> None:
    url = "rediss://:secret@cache.example:6380/1"
    redis = FeedSettings.read({**_OWN, "REDIS_URL": url}).redis

    assert redis is not None
    assert redis.url == url
    assert FeedSettings.read(_OWN).redis is None
    assert FeedSettings.read({**_OWN, "REDIS_URL": url, "REDIS_ENABLED": "off"}).redis is None


def test_redis_that_is_switched_on_needs_a_url() -> None:
    assert "REDIS_URL" in _problem(REDIS_ENABLED="on")


@pytest.mark.parametrize("url", ["http://:secret@cache", "redis://:secret@cache:port", "secret"])
def test_a_url_of_redis_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    problem = _problem(REDIS_URL=url)

    assert "REDIS_URL" in problem
    assert "secret" not in problem


def test_the_password_of_redis_is_not_shown_with_the_settings() -> None:
    settings = FeedSettings.read({**_OWN, "REDIS_URL": "redis://:secret@cache"})

    assert "secret" not in repr(settings)
