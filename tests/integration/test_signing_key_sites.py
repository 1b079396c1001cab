"""Keys are fetched from sites that may be slow, broken or careless, and no call waits for those."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from kith.exceptions import UnavailableError
from shared import deadlines
from shared.access.callers import RefusedCredentialsError
from shared.access.settings import TokenSettings
from shared.access.tokens import Tokens
from tests.support.credentials import AUDIENCE, Issuer
from tests.support.processes import until

_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
# More than any fetch may take.
_LONG_SECONDS = 30


class _Site:
    """Answers every connection with some bytes: at once, or from some point on one at a time."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.drips_from: int | None = None
        self.open = 0
        self.most_open = 0
        self.dripping = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/jwks.json"

    def close(self) -> None:
        self._is_over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._answer, args=[connection]))
                self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        with connection, suppress(OSError):
            connection.recv(65536)
            answer, drips_from = self.answer, self.drips_from
            connection.sendall(answer[:drips_from])
            if drips_from is not None:
                self.dripping += 1
                for number in range(drips_from, len(answer)):
                    connection.sendall(answer[number : number + 1])
                    if self._is_over.wait(0.3):
                        break
        self.open -= 1


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    issuer = Issuer(tmp_path)
    issuer.add_key("first")
    return issuer


@pytest.fixture
def site(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Site]:
    """A site with the issuer's keys, which may be asked again at once."""
    monkeypatch.setattr("shared.access.keys._SHORTEST_INTERVAL_SECONDS", 0.05)
    site = _Site(_OK + issuer.jwks.read_bytes())
    yield site
    site.close()


@contextmanager
def _tokens(site: _Site, issuer: Issuer) -> Iterator[Tokens]:
    tokens = Tokens(
        TokenSettings(
            keys=site.url, issuer=issuer.name, audience=AUDIENCE, leeway=timedelta(seconds=5)
        )
    )
    try:
        yield tokens
    finally:
        tokens.close()


def _outcome(tokens: Tokens, token: str, *, seconds: float = _LONG_SECONDS) -> str:
    """Return what comes of a token in a call that may take so long."""
    reset = deadlines.call_end.set(deadlines.CallEnd(time.monotonic() + seconds, lambda: True))
    try:
        return tokens.subject(token)
    except RefusedCredentialsError:
        return "refused"
    except UnavailableError as error:
        return error.reason_name
    finally:
        deadlines.call_end.reset(reset)


def _let_drip(site: _Site, tokens: Tokens, made_up: str) -> None:
    """Let the site drip from now on, and wait until a fetch has come to that."""
    site.drips_from = 0
    # On a busy machine calls also leave at their deadlines while a fetch from before is under way.
    until(
        lambda: (
            _outcome(tokens, made_up, seconds=0.05) == "SIGNING_KEYS_UNAVAILABLE" and site.dripping
        )
    )


@pytest.mark.parametrize("drips_from", [0, len(_OK)], ids=["headers", "body"])
def test_a_site_that_drips_is_given_up_and_asked_anew(
    site: _Site, issuer: Issuer, drips_from: int
) -> None:
    site.drips_from = drips_from
    with _tokens(site, issuer) as tokens:
        assert _outcome(tokens, issuer.token(17)) == "SIGNING_KEYS_UNAVAILABLE"
        site.drips_from = None
        until(lambda: _outcome(tokens, issuer.token(17)) == "17")

    assert site.most_open <= 2  # the site may notice late that the former has gone


def test_while_a_site_drips_known_keys_verify_and_calls_leave_at_their_deadlines(
    site: _Site, issuer: Issuer
) -> None:
    with _tokens(site, issuer) as tokens:
        known, made_up = issuer.token(17), issuer.token(17, headers={"kid": "made up"})
        until(lambda: _outcome(tokens, known) == "17")
        _let_drip(site, tokens, made_up)

        with ThreadPoolExecutor(16) as threads:
            waiting = [threads.submit(_outcome, tokens, made_up) for _ in range(16)]
            assert [_outcome(tokens, known) for _ in range(100)] == ["17"] * 100
            outcomes = {future.result() for future in waiting}

        assert outcomes == {"SIGNING_KEYS_UNAVAILABLE"}
        assert _outcome(tokens, known) == "17"


def test_strangers_with_made_up_keys_do_not_all_wait_for_a_slow_site(
    site: _Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.access.keys._FETCH_SECONDS", _LONG_SECONDS)
    made_up = issuer.token(17, headers={"kid": "made up"})
    with _tokens(site, issuer) as tokens, ThreadPoolExecutor(16) as threads:
        _let_drip(site, tokens, made_up)
        waiting = [threads.submit(_outcome, tokens, made_up) for _ in range(16)]
        until(lambda: sum(future.done() for future in waiting) == 12)
        outcomes = {future.result() for future in waiting if future.done()}
        tokens.close()

    assert outcomes == {"SIGNING_KEYS_UNAVAILABLE"}


def test_a_stop_does_not_wait_for_a_fetch_that_is_under_way(
    site: _Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _tokens(site, issuer) as tokens:
        monkeypatch.setattr("shared.access.keys._FETCH_SECONDS", _LONG_SECONDS)
        _let_drip(site, tokens, issuer.token(17, headers={"kid": "made up"}))
        tokens.close()

        assert site.open == 1


_REFUSED = {
    "a private key": json.dumps(
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": "c"}]}
    ).encode(),
    "no JWKS": b"{}",
    "more than 1 MiB": b'{"keys": []}' + b" " * 1024 * 1024,
    "lists in lists": b"[" * 100_000,
}


@pytest.mark.parametrize("kind", _REFUSED)
def test_an_answer_that_is_refused_leaves_the_former_keys(
    site: _Site, issuer: Issuer, kind: str
) -> None:
    with _tokens(site, issuer) as tokens:
        until(lambda: _outcome(tokens, issuer.token(17)) == "17")
        site.answer = _OK + _REFUSED[kind]
        made_up = issuer.token(17, headers={"kid": "made up"})
        until(lambda: _outcome(tokens, made_up) == "SIGNING_KEYS_UNAVAILABLE")

        assert _outcome(tokens, issuer.token(17)) == "17"


def test_a_site_that_withdraws_all_keys_ends_all_tokens(site: _Site, issuer: Issuer) -> None:
    with _tokens(site, issuer) as tokens:
        until(lambda: _outcome(tokens, issuer.token(17)) == "17")
        site.answer = _OK + b'{"keys": []}'
        made_up = issuer.token(17, headers={"kid": "made up"})
        until(lambda: _outcome(tokens, made_up) == "SIGNING_KEYS_UNAVAILABLE")

        assert _outcome(tokens, issuer.token(17)) == "SIGNING_KEYS_UNAVAILABLE"


def test_no_site_leads_away_from_http(site: _Site, issuer: Issuer) -> None:
    site.answer = b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/keys\r\n\r\n"
    with _tokens(site, issuer) as tokens:
        assert _outcome(tokens, issuer.token(17)) == "SIGNING_KEYS_UNAVAILABLE"
