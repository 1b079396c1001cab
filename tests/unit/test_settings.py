"""Settings are read once, and all that is wrong with them is told at once."""

from pathlib import Path

import pytest

from feed_service.settings import FeedSettings
from graph_service.settings import GraphSettings
from shared.settings import SettingsError

_KEY = "a key that is long enough to be taken here"
_OWN = {"FEED_DATABASE_URL": "postgresql://db/feed", "PAGE_TOKEN_KEYS": _KEY}


def test_the_defaults_are_those_of_the_readme(tmp_path: Path) -> None:
    settings = GraphSettings.read({"KITH_DATA_DIR": str(tmp_path)})

    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 50051)
    assert settings.server.metrics_port == 9101
    assert (settings.database.pool_size, settings.database.max_overflow) == (8, 15)
    assert settings.max_connections == 5_000


def test_every_variable_that_cannot_be_used_is_named() -> None:
    variables = {
        **_OWN,
        "FEED_DATABASE_URL": "mysql://db/feed",
        "FEED_PORT": "many",
        "MAX_TAGS": "501",
        "LOG_LEVEL": "chatty",
        "PAGE_TOKEN_KEYS": "short",
    }

    with pytest.raises(SettingsError) as caught:
        FeedSettings.read(variables)

    named = [line.split()[0] for line in str(caught.value).splitlines()]
    assert sorted(named) == sorted(variables)


def test_a_bare_postgresql_url_means_the_driver_that_is_installed() -> None:
    settings = FeedSettings.read(_OWN)

    assert settings.database.url == "postgresql+psycopg2://db/feed"


def test_a_database_of_ones_own_needs_keys_of_ones_own() -> None:
    with pytest.raises(SettingsError, match="PAGE_TOKEN_KEYS must be set"):
        FeedSettings.read({"FEED_DATABASE_URL": "postgresql://db/feed"})


def test_the_key_beside_the_embedded_database_stays_the_same(tmp_path: Path) -> None:
    variables = {"KITH_DATA_DIR": str(tmp_path)}

    first = GraphSettings.read(variables).page_token_keys
    second = FeedSettings.read(variables).page_token_keys

    assert first == second
    assert (tmp_path / "page_token_key").stat().st_mode & 0o077 == 0
