"""A service that strangers could call does not start by accident."""

from collections.abc import Callable
from pathlib import Path

import pytest

from feed_service.settings import FeedSettings
from graph_service.settings import GraphSettings
from kith.environment import SettingsError
from tests.support.credentials import Authority, Issuer

_EVERYWHERE = "0.0.0.0"  # noqa: S104 -- nothing is bound here
_OWN = {
    "GRAPH_DATABASE_URL": "postgresql://serving:hidden@db/graph",
    "FEED_DATABASE_URL": "postgresql://serving:hidden@db/feed",
    "PAGE_TOKEN_KEYS": "a key that is long enough and hidden",
}


@pytest.fixture
def issuer(tmp_path: Path) -> dict[str, str]:
    """Settings by which tokens are believed."""
    issuer = Issuer(tmp_path)
    issuer.add_key("only")
    return issuer.environment


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """Settings of a certificate to show."""
    chain, key = Authority("authority").issue("graph").write(tmp_path, "own")
    return {"TLS_CERT_FILE": str(chain), "TLS_KEY_FILE": str(key)}


def _problems(variables: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        GraphSettings.read({**_OWN, **variables})
    return [line.split()[0] for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_on_this_machine_nobody_has_to_be_known(host: str) -> None:
    assert GraphSettings.read({**_OWN, "GRAPH_HOST": host}).server.auth is None


@pytest.mark.parametrize("host", [_EVERYWHERE, "::", "[::]", "10.0.0.7", "graph.internal"])
def test_elsewhere_both_ways_out_are_told(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        GraphSettings.read({**_OWN, "GRAPH_HOST": host})

    told = str(caught.value)
    assert all(
        name in told
        for name in ("GRAPH_HOST", host.strip("[]"), "AUTH_JWKS", "ALLOW_UNAUTHENTICATED")
    )


def test_elsewhere_somebody_may_say_that_callers_are_known_already() -> None:
    variables = {**_OWN, "GRAPH_HOST": _EVERYWHERE, "ALLOW_UNAUTHENTICATED": "on"}

    assert GraphSettings.read(variables).server.auth is None


def test_tokens_are_not_taken_where_they_could_be_overheard(
    issuer: dict[str, str], certificate: dict[str, str]
) -> None:
    elsewhere = {**issuer, "GRAPH_HOST": _EVERYWHERE}

    with pytest.raises(SettingsError, match=r"unencrypted.*TLS_CERT_FILE.*ALLOW_PLAINTEXT"):
        GraphSettings.read({**_OWN, **elsewhere, "ALLOW_UNAUTHENTICATED": "on"})
    for allowed in (certificate, {"ALLOW_PLAINTEXT": "on"}):
        assert GraphSettings.read({**_OWN, **elsewhere, **allowed}).server.auth is not None


@pytest.mark.parametrize("target", ["10.0.0.7:50051", "dns:///graph:50051", "graph:50051"])
def test_a_token_is_not_sent_where_it_could_be_overheard(target: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.b.c")
    variables = {**_OWN, "TARGET_TOKEN_FILE": str(token)}

    with pytest.raises(SettingsError, match=r"TARGET_TOKEN_FILE.*TARGET_CA_FILE.*ALLOW_PLAINTEXT"):
        FeedSettings.read({**variables, "GRAPH_TARGET": target})
    for allowed in ({"ALLOW_PLAINTEXT": "on"}, {"GRAPH_TARGET": "dns:///localhost:50051"}):
        settings = FeedSettings.read({**variables, "GRAPH_TARGET": target, **allowed})
        assert settings.graph_access.token == token


def _written(folder: Path, content: str) -> str:
    path = folder / "written"
    path.write_text(content)
    return str(path)


def _another_key(folder: Path) -> str:
    _, key = Authority("authority").issue("another").write(folder, "another")
    return str(key)


_SECRET_KEY = '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}'
_WRONG: dict[str, tuple[str, Callable[[Path], dict[str, str]]]] = {
    "no such file": ("AUTH_JWKS", lambda folder: {"AUTH_JWKS": str(folder / "none")}),
    "no keys": ("AUTH_JWKS", lambda folder: {"AUTH_JWKS": _written(folder, "{}")}),
    "no JWKS": ("AUTH_JWKS", lambda folder: {"AUTH_JWKS": _written(folder, "[1]")}),
    "no JSON": ("AUTH_JWKS", lambda folder: {"AUTH_JWKS": _written(folder, "{")}),
    "a password in its URL": (
        "AUTH_JWKS",
        lambda _folder: {"AUTH_JWKS": "https://kith:hidden@issuer.test/jwks.json"},
    ),
    "a shared secret": ("AUTH_JWKS", lambda folder: {"AUTH_JWKS": _written(folder, _SECRET_KEY)}),
    "no issuer": ("AUTH_ISSUER", lambda _folder: {"AUTH_ISSUER": ""}),
    "no audience": ("AUTH_AUDIENCE", lambda _folder: {"AUTH_AUDIENCE": ""}),
    "an hour of leeway": ("AUTH_LEEWAY_SECONDS", lambda _folder: {"AUTH_LEEWAY_SECONDS": "3600"}),
    "a user as a service": ("AUTH_SERVICES", lambda _folder: {"AUTH_SERVICES": "feed,17"}),
    "a call that no contract has": (
        "AUTH_SERVICES",
        lambda _folder: {"AUTH_SERVICES": "feed; notifier=GetPost,WatchPost"},
    ),
    "a scope without calls": ("AUTH_SERVICES", lambda _folder: {"AUTH_SERVICES": "notifier="}),
    "calls of nobody": ("AUTH_SERVICES", lambda _folder: {"AUTH_SERVICES": "=GetPost"}),
    "two services before one scope": (
        "AUTH_SERVICES",
        lambda _folder: {"AUTH_SERVICES": "feed,notifier=GetPost"},
    ),
    "a user with a scope": ("AUTH_SERVICES", lambda _folder: {"AUTH_SERVICES": "17=GetPost"}),
    "two scopes for one service": (
        "AUTH_SERVICES",
        lambda _folder: {"AUTH_SERVICES": "notifier=GetPost; notifier"},
    ),
    "on behalf of users as no known service": (
        "AUTH_ON_BEHALF",
        lambda _folder: {"AUTH_SERVICES": "feed", "AUTH_ON_BEHALF": "web"},
    ),
    "on behalf of users whose tokens are not believed": (
        "AUTH_ON_BEHALF",
        lambda folder: {
            "AUTH_JWKS": "",
            "AUTH_SERVICES": "web",
            "AUTH_ON_BEHALF": "web",
            "TLS_CLIENT_CA_FILE": str(folder / "own.crt"),
        },
    ),
    "services but no way to know them": (
        "AUTH_SERVICES",
        lambda _folder: {"AUTH_JWKS": "", "AUTH_SERVICES": "feed"},
    ),
    "certificates of nobody": (
        "AUTH_SERVICES",
        lambda folder: {"AUTH_JWKS": "", "TLS_CLIENT_CA_FILE": str(folder / "own.crt")},
    ),
    "a certificate without its key": ("TLS_CERT_FILE", lambda _folder: {"TLS_KEY_FILE": ""}),
    "no such certificate": (
        "TLS_CERT_FILE",
        lambda folder: {"TLS_CERT_FILE": str(folder / "none")},
    ),
    "the key of another certificate": (
        "TLS_CERT_FILE",
        lambda folder: {"TLS_KEY_FILE": _another_key(folder)},
    ),
    "an authority that is none": (
        "TLS_CERT_FILE",
        lambda folder: {"TLS_CLIENT_CA_FILE": _written(folder, "no PEM")},
    ),
    "an authority without encryption": (
        "TLS_CLIENT_CA_FILE",
        lambda folder: {
            "TLS_CERT_FILE": "",
            "TLS_KEY_FILE": "",
            "TLS_CLIENT_CA_FILE": str(folder / "own.crt"),
        },
    ),
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_what_cannot_be_used_is_told_by_its_name(
    issuer: dict[str, str], certificate: dict[str, str], tmp_path: Path, wrong: str
) -> None:
    named, make = _WRONG[wrong]

    assert named in _problems({**issuer, **certificate, **make(tmp_path)})


def test_a_call_that_no_contract_has_is_named_with_the_one_that_is_meant(
    issuer: dict[str, str],
) -> None:
    with pytest.raises(SettingsError) as caught:
        GraphSettings.read({**_OWN, **issuer, "AUTH_SERVICES": "notifier=WatchConections"})

    [problem] = str(caught.value).splitlines()
    assert "notifier" in problem
    assert "'WatchConections'" in problem
    assert "WatchConnections" in problem


def test_services_with_and_without_a_scope_stand_beside_each_other(issuer: dict[str, str]) -> None:
    variables = {**_OWN, **issuer, "AUTH_SERVICES": "feed, importer; a=GetPost ;b=DeleteUser,;"}

    auth = GraphSettings.read(variables).server.auth

    assert auth is not None
    assert auth.services == {
        "feed": None,
        "importer": None,
        "a": {"kith.feed.v1.FeedService.GetPost"},
        "b": {"kith.graph.v1.GraphService.DeleteUser", "kith.feed.v1.FeedService.DeleteUser"},
    }


def test_no_secret_is_shown_with_the_settings() -> None:
    for settings in (GraphSettings.read(_OWN), FeedSettings.read(_OWN)):
        assert "hidden" not in repr(settings)
