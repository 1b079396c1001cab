"""Settings are read once, and all that is wrong with them is told at once."""

from pathlib import Path

import pytest

from feed_service.settings import FeedSettings
from graph_service.settings import GraphSettings
from kith.environment import SettingsError
from shared.database.database import address

_KEY = "a key that is long enough to be taken here"
_OWN = {"FEED_DATABASE_URL": "postgresql://db/feed", "PAGE_TOKEN_KEYS": _KEY}


def test_the_defaults_are_those_of_the_readme(tmp_path: Path) -> None:
    settings = GraphSettings.read({"KITH_DATA_DIR": str(tmp_path)})

    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 50051)
    assert settings.server.metrics_port == 9101
    assert (settings.database.pool_size, settings.database.max_overflow) == (8, 15)
    assert settings.limits.max_connections == 5_000


def test_every_variable_that_cannot_be_used_is_named() -> None:
    variables = {
        **_OWN,
        "FEED_DATABASE_URL": "mysql://db/feed",
        "FEED_PORT": "many",
        "MAX_TAGS": "501",
        "LOG_LEVEL": "chatty",
        "ALLOW_PLAINTEXT": "perhaps",  # which both the server and its calls read
        "PAGE_TOKEN_KEYS": "short",
    }

    with pytest.raises(SettingsError) as caught:
        FeedSettings.read(variables)

    named = [line.split()[0] for line in str(caught.value).splitlines()]
    assert sorted(named) == sorted(variables)


def test_digests_are_made_as_the_readme_says_unless_told_otherwise() -> None:
    rules = FeedSettings.read(_OWN).digest

    assert (rules.min_importance, rules.posts_per_author_per_day, rules.max_posts) == (1.0, 2, 12)
    assert rules.week_start_day == 7


def test_rules_for_digests_that_make_no_sense_are_all_told() -> None:
    wrong = {
        "DIGEST_MIN_IMPORTANCE": "nan",
        "DIGEST_POSTS_PER_AUTHOR_PER_DAY": "0",
        "DIGEST_MAX_POSTS": "101",
        "DIGEST_WEEK_START": "Sunday",
    }

    with pytest.raises(SettingsError) as caught:
        FeedSettings.read({**_OWN, **wrong})

    assert {line.split()[0] for line in str(caught.value).splitlines()} == {*wrong}


@pytest.mark.parametrize(("max_posts", "share"), [(1, 1), (2, 1), (5, 1), (12, 4), (14, 4)])
def test_an_author_has_a_third_of_the_posts_and_at_least_one(max_posts: int, share: int) -> None:
    rules = FeedSettings.read({**_OWN, "DIGEST_MAX_POSTS": str(max_posts)}).digest

    assert rules.posts_per_author == share


def test_a_bare_postgresql_url_means_the_driver_that_is_installed() -> None:
    settings = FeedSettings.read(_OWN)

    assert settings.database.url == "postgresql+psycopg2://db/feed"


def test_of_several_hosts_the_one_that_takes_writes_is_wanted_unless_told_otherwise() -> None:
    several = "postgresql://me:secret@/feed?host=a:5432&host=b:5433"

    urls = [
        FeedSettings.read({**_OWN, "FEED_DATABASE_URL": url}).database.url
        for url in (several, f"{several}&target_session_attrs=any", _OWN["FEED_DATABASE_URL"])
    ]

    wanted = [address(url).get("target_session_attrs") for url in urls]
    assert wanted == ["read-write", "any", None]
    assert (address(urls[0])["host"], address(urls[0])["port"]) == ("a,b", "5432,5433")
    assert address(urls[0])["password"] == "secret"


def test_replicas_are_named_one_after_the_other() -> None:
    settings = FeedSettings.read(
        {**_OWN, "FEED_REPLICA_URLS": "postgresql://a/b, postgresql://c/d"}
    )

    assert [address(url)["host"] for url in settings.database.replica_urls] == ["a", "c"]
    assert FeedSettings.read(_OWN).database.replica_urls == ()


@pytest.mark.parametrize(
    "wrong", [{"FEED_REPLICA_URLS": "mysql://a/b"}, {"FEED_LAYOUT": "distributed"}]
)
def test_replicas_that_cannot_be_read_from_are_told(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        FeedSettings.read({**_OWN, "FEED_REPLICA_URLS": "postgresql://a/b", **wrong})

    assert str(caught.value).split()[0] == "FEED_REPLICA_URLS"
    assert "\n" not in str(caught.value)


def test_a_database_of_ones_own_needs_keys_of_ones_own() -> None:
    with pytest.raises(SettingsError, match="PAGE_TOKEN_KEYS must be set"):
        FeedSettings.read({"FEED_DATABASE_URL": "postgresql://db/feed"})


def test_the_key_beside_the_embedded_database_stays_the_same(tmp_path: Path) -> None:
    variables = {"KITH_DATA_DIR": str(tmp_path)}

    first = GraphSettings.read(variables).page_token_keys
    second = FeedSettings.read(variables).page_token_keys

    assert first == second
    assert (tmp_path / "page_token_key").stat().st_mode & 0o077 == 0


_STORE = {"S3_BUCKET": "photos", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hidden"}


def test_fences_have_a_port_of_their_own() -> None:
    with pytest.raises(SettingsError, match="FENCES_PORT must be a port of its own; is 50052"):
        FeedSettings.read({**_OWN, "FEED_PORT": "50052", "FENCES_PORT": "50052"})


def test_without_a_bucket_there_is_no_object_store() -> None:
    assert FeedSettings.read({**_OWN, "S3_ENDPOINT_URL": "http://store:9000"}).object_store is None


def test_an_object_store_is_that_of_aws_unless_told_otherwise() -> None:
    store = FeedSettings.read({**_OWN, **_STORE}).object_store

    assert store is not None
    assert (store.endpoint_url, store.region, store.addressing_style) == ("", "us-east-1", "auto")


def test_no_secret_of_the_object_store_is_shown_with_the_settings() -> None:
    shown = repr(FeedSettings.read({**_OWN, **_STORE, "AWS_SESSION_TOKEN": "hidden too"}))

    assert "AKID" in shown
    assert "hidden" not in shown


def test_an_object_store_that_cannot_be_reached_as_described_is_told_with_the_rest() -> None:
    wrong = {
        "S3_BUCKET": "my/photos",
        "S3_ENDPOINT_URL": "store:9000",
        "S3_ADDRESSING_STYLE": "host",
        "MAX_TAGS": "501",
    }

    with pytest.raises(SettingsError) as caught:
        FeedSettings.read({**_OWN, **_STORE, **wrong})

    assert {line.split()[0] for line in str(caught.value).splitlines()} == {*wrong}


@pytest.mark.parametrize("known", [{}, {"AWS_ACCESS_KEY_ID": "AKID"}], ids=["none", "half a pair"])
def test_a_bucket_without_credentials_is_told(
    known: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(SettingsError, match="S3_BUCKET is set, but there are no credentials"):
        FeedSettings.read({**_OWN, "S3_BUCKET": "photos", **known})
