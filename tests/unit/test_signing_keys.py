"""Which keys of a JWKS verify tokens, and what of it is published."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from graph_service.settings import GraphSettings
from kith.environment import SettingsError
from kith.exceptions import UnavailableError
from shared.access import jwks
from shared.access.callers import RefusedCredentialsError
from shared.access.settings import TokenSettings
from shared.access.tokens import Tokens
from tests.support.credentials import AUDIENCE, put
from tests.support.processes import until

_ISSUER: Final = "https://issuer.test"
_RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_WEAK: Final = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 -- it is refused
_EC: Final = ec.generate_private_key(ec.SECP256R1())
_OTHER: Final = ec.generate_private_key(ec.SECP256R1())
_ED: Final = ed25519.Ed25519PrivateKey.generate()
_OF_RSA: Final = RSAAlgorithm.to_jwk(_RSA.public_key(), as_dict=True)
_OF_WEAK: Final = RSAAlgorithm.to_jwk(_WEAK.public_key(), as_dict=True)
_OF_EC: Final = ECAlgorithm.to_jwk(_EC.public_key(), as_dict=True)
_OF_OTHER: Final = ECAlgorithm.to_jwk(_OTHER.public_key(), as_dict=True)
_OF_ED: Final = OKPAlgorithm.to_jwk(_ED.public_key(), as_dict=True)
_GOOD: Final = {**_OF_EC, "kid": "good"}

_TAKEN: Final[Mapping[str, Mapping[str, Any]]] = {
    "RSA without alg": _OF_RSA,
    "RSA for PS512": {**_OF_RSA, "alg": "PS512"},
    "P-256": _OF_EC,
    "Ed25519": {**_OF_ED, "alg": "EdDSA"},
    "use sig": {**_OF_EC, "use": "sig"},
    "key_ops with verify": {**_OF_EC, "key_ops": ["sign", "verify"]},
    "members that are not known": {**_OF_EC, "x5t": "abc", "note": "of May"},
}
_LEFT_OUT: Final[Mapping[str, Mapping[str, Any]]] = {
    "an RSA key of 1,024 bits": _OF_WEAK,
    "use enc": {**_OF_RSA, "use": "enc"},
    "a use that is no text": {**_OF_RSA, "use": ["sig"]},
    "key_ops for encryption": {**_OF_RSA, "key_ops": ["encrypt", "wrapKey"]},
    "use sig with key_ops for encryption": {**_OF_RSA, "use": "sig", "key_ops": ["encrypt"]},
    "key_ops that are no list": {**_OF_RSA, "key_ops": "verify"},
    "an unknown kty": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "abc"},
    "a kty that is no text": {**_OF_EC, "kty": ["EC"]},
    "an unknown curve": {**_OF_EC, "crv": "secp256k1"},
    "no curve": {"kty": "EC", "x": _OF_EC["x"], "y": _OF_EC["y"]},
    "an unknown alg": {**_OF_RSA, "alg": "RSA-OAEP"},
    "the alg of another kty": {**_OF_EC, "alg": "RS256"},
    "the alg of another curve": {**_OF_EC, "alg": "ES384"},
    "a secret's alg": {**_OF_RSA, "alg": "HS256"},
    "a point off its curve": {**_OF_EC, "y": _OF_EC["x"]},
    "numbers that are none": {**_OF_RSA, "n": {"a": 1}},
    "no numbers": {"kty": "RSA"},
}
_SECRET: Final[Mapping[str, Mapping[str, Any]]] = {
    "a private RSA key": RSAAlgorithm.to_jwk(_RSA, as_dict=True),
    "a private EC key": ECAlgorithm.to_jwk(_EC, as_dict=True),
    "a private Ed25519 key": OKPAlgorithm.to_jwk(_ED, as_dict=True),
    "a prime of an RSA key": {**_OF_RSA, "p": "abc"},
    "a private key for encryption": {**RSAAlgorithm.to_jwk(_RSA, as_dict=True), "use": "enc"},
    "a private key of an unknown kty": {"kty": "AKP", "priv": "abc"},
    "a symmetric key": {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
    "a symmetric key for encryption": {"kty": "oct", "k": "c2VjcmV0", "use": "enc"},
}
_NO_JWKS: Final[Mapping[str, bytes]] = {
    "no JSON": b"{",
    "a list": b"[]",
    "no keys": b"{}",
    "keys that are no list": b'{"keys": {}}',
    "a key that is no object": b'{"keys": ["key"]}',
    "lists in lists": b"[" * 100_000,
    "more than 1 MiB": b'{"keys": []}' + b" " * jwks.MAX_BYTES,
}


def _set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def _settings(path: Path) -> TokenSettings:
    return TokenSettings(keys=path, issuer=_ISSUER, audience=AUDIENCE, leeway=timedelta(seconds=5))


def _problem(path: Path) -> str:
    """Return why a service does not start with a file of keys."""
    with pytest.raises(SettingsError) as caught:
        GraphSettings.read(
            {
                "GRAPH_DATABASE_URL": "postgresql://serving:hidden@db/graph",
                "PAGE_TOKEN_KEYS": "a key that is long enough and hidden",
                "AUTH_JWKS": str(path),
                "AUTH_ISSUER": _ISSUER,
                "AUTH_AUDIENCE": AUDIENCE,
            }
        )
    return str(caught.value)


def _token(key: ec.EllipticCurvePrivateKey, key_id: str | None) -> str:
    claims = {"iss": _ISSUER, "aud": AUDIENCE, "sub": "17", "exp": time.time() + 600}
    return jwt.encode(claims, key, "ES256", {"kid": key_id} if key_id else None)


def _is_believed(tokens: Tokens, token: str) -> bool:
    try:
        return tokens.subject(token) == "17"
    except RefusedCredentialsError:
        return False


@pytest.mark.parametrize("kind", _TAKEN)
def test_a_key_that_verifies_is_published_with_its_public_members(kind: str) -> None:
    found = jwks.parse(_set({**_TAKEN[kind], "kid": "this"}))

    [published] = json.loads(found.document())["keys"]
    assert [*found.keys] == ["this"]
    assert published == {
        name: value
        for name, value in {**_TAKEN[kind], "kid": "this"}.items()
        if name not in {"x5t", "note"}
    }


@pytest.mark.parametrize("kind", _LEFT_OUT)
def test_a_key_that_cannot_be_used_is_left_out_and_the_others_verify(kind: str) -> None:
    found = jwks.parse(_set({**_LEFT_OUT[kind], "kid": "this"}, _GOOD))

    assert [*found.keys] == ["good"]
    assert json.loads(found.document()) == {"keys": [_GOOD]}
    assert [line.split(":")[0] for line in found.left_out] == ["keys[0]"]


@pytest.mark.parametrize("kind", _LEFT_OUT)
def test_no_service_starts_when_every_key_is_left_out(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "jwks.json", _set({**_LEFT_OUT[kind], "kid": "this"}))

    assert "AUTH_JWKS cannot be used: no key in it verifies tokens: keys[0]: " in _problem(
        tmp_path / "jwks.json"
    )


def test_no_service_starts_on_an_empty_set(tmp_path: Path) -> None:
    put(tmp_path / "jwks.json", _set())

    assert "AUTH_JWKS cannot be used: no key in it verifies tokens: it is empty" in _problem(
        tmp_path / "jwks.json"
    )


@pytest.mark.parametrize("kind", _SECRET)
def test_no_service_starts_when_a_secret_lies_among_the_keys(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "jwks.json", _set(_GOOD, {**_SECRET[kind], "kid": "this"}))

    problem = _problem(tmp_path / "jwks.json")

    assert "AUTH_JWKS cannot be used: keys[1] is secret" in problem
    assert "c2VjcmV0" not in problem


@pytest.mark.parametrize("kind", _NO_JWKS)
def test_what_is_no_jwks_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"JWKS|JSON|larger|Expecting"):
        jwks.parse(_NO_JWKS[kind])


@pytest.mark.parametrize(
    ("first", "second"), [("same", "same"), (None, None)], ids=["one kid", "no kid"]
)
def test_of_two_keys_with_one_kid_neither_verifies(
    tmp_path: Path, first: str | None, second: str | None
) -> None:
    path = tmp_path / "jwks.json"
    put(path, _set({**_OF_EC, "kid": first}, {**_OF_OTHER, "kid": second}, {**_OF_RSA, "kid": "r"}))
    tokens = Tokens(_settings(path))

    assert not _is_believed(tokens, _token(_EC, first))
    assert not _is_believed(tokens, _token(_OTHER, second))


def test_a_key_that_is_there_twice_is_one_key(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    put(path, _set(_GOOD, {**_GOOD, "use": "sig"}, {**_OF_RSA, "kid": "good", "use": "enc"}))

    assert _is_believed(Tokens(_settings(path)), _token(_EC, "good"))


def test_a_key_without_kid_verifies_tokens_that_name_none(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    put(path, _set(_OF_EC, {**_OF_OTHER, "kid": "other"}))
    tokens = Tokens(_settings(path))

    believed = {
        (name, key_id): _is_believed(tokens, _token(key, key_id))
        for name, key in (("unnamed", _EC), ("other", _OTHER))
        for key_id in (None, "other")
    }
    assert [pair for pair, is_believed in believed.items() if is_believed] == [
        ("unnamed", None),
        ("other", "other"),
    ]


_CHANGES: Final[Mapping[str, Callable[[], bytes]]] = {
    "no JWKS": lambda: b"{}",
    "a secret": lambda: _set(_GOOD, _SECRET["a private EC key"]),
}


@pytest.mark.parametrize("kind", _CHANGES)
def test_a_file_that_is_refused_later_leaves_the_former_keys(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "jwks.json"
    put(path, _set(_GOOD))
    tokens = Tokens(_settings(path))
    put(path, _CHANGES[kind]())

    # A token of an unknown key has the file read again.
    assert not _is_believed(tokens, _token(_EC, "unknown"))
    assert _is_believed(tokens, _token(_EC, "good"))


def test_a_file_without_keys_ends_all_tokens(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    put(path, _set(_GOOD))
    tokens = Tokens(_settings(path))
    assert _is_believed(tokens, _token(_EC, "good"))
    put(path, _set())

    def is_unavailable() -> bool:
        try:
            tokens.subject(_token(_EC, "good"))
        except UnavailableError:
            return True
        return False

    until(is_unavailable)
