"""The keys in a JWKS (RFC 7517): which of them verify tokens, and what may be told of them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import jwt

MAX_BYTES: Final = 1024 * 1024
KeySet: TypeAlias = Mapping[str | None, jwt.PyJWK]

# By `kty` and `crv`. The first is meant by a key without `alg`. There is no HS256: with a shared
# secret, everybody who can verify a token could also make one.
_ALGORITHMS_OF: Final[Mapping[tuple[str, str | None], Sequence[str]]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
ALGORITHMS: Final = tuple(sorted({name for names in _ALGORITHMS_OF.values() for name in names}))
_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_MEMBERS_OF_ALL: Final = ("kty", "kid", "use", "key_ops", "alg")
# Every member that the registry of RFC 7517 calls private, for any `kty`.
_SECRET_MEMBERS: Final = {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}
# NIST SP 800-131A allows no less. A signature of more than 8,192 bits costs too much to verify, and
# BoringSSL, which is Envoy's, refuses it.
_RSA_BITS: Final = range(2048, 8192 + 1)


@dataclass(frozen=True, kw_only=True)
class Jwks:
    """What a JWKS says. `left_out` tells which keys verify nothing, and why; it holds no key."""

    keys: KeySet
    public: Sequence[Mapping[str, Any]]
    left_out: Sequence[str]

    def document(self) -> bytes:
        """Return a JWKS of the keys that verify, with their public members alone."""
        return json.dumps({"keys": self.public}, ensure_ascii=False).encode()


class _UnusableError(Exception):
    """A key that verifies no tokens; the message says why."""


def parse(document: bytes) -> Jwks:
    """Return what a JWKS says; raises ValueError if it is none, or holds a private key.

    A secret key refuses the whole document, because everybody who has read it can sign tokens.
    Other keys that cannot be used are skipped one by one, as RFC 7517 (section 5) has it: issuers
    publish keys for other purposes beside those for signing.
    """
    by_id: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    made: dict[str | None, jwt.PyJWK] = {}
    left_out = []
    for number, jwk in enumerate(_jwks(document)):
        try:
            public, key = _usable(jwk)
        except _UnusableError as error:
            left_out.append(f"keys[{number}]: {error}")
        else:
            by_id[key.key_id].append(public)
            made.setdefault(key.key_id, key)
    for key_id, found in by_id.items():
        if any(_identity(public) != _identity(found[0]) for public in found):
            # No token could tell which of them it means.
            del made[key_id]
            left_out.append(f"{len(found)} keys have the kid {key_id!r}, or none")
    return Jwks(keys=made, public=[by_id[key_id][0] for key_id in made], left_out=left_out)


def read(path: Path) -> Jwks:
    """Return what a file says; raises OSError, or ValueError as `parse` does."""
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES + 1))


def require_keys(found: Jwks) -> Jwks:
    """Return what a JWKS says; raises ValueError if it has no key that verifies tokens."""
    if not found.keys:
        why = "; ".join(found.left_out) or "it is empty"
        raise ValueError(f"no key in it verifies tokens: {why}")
    return found


def _jwks(document: bytes) -> list[dict[str, Any]]:
    if len(document) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        read = json.loads(document)
    except RecursionError as error:
        raise ValueError("it is not a JWKS: it is nested too deeply") from error
    keys = read.get("keys") if isinstance(read, dict) else None
    if not isinstance(keys, list) or not all(isinstance(jwk, dict) for jwk in keys):
        raise ValueError("it is not a JWKS: `keys` is not a list of objects")
    for number, jwk in enumerate(keys):
        if secret := _SECRET_MEMBERS & jwk.keys() or jwk.get("kty") == "oct":
            named = "kty oct" if secret is True else ", ".join(sorted(secret))
            raise ValueError(
                f"keys[{number}] is secret ({named}): publish only public keys, and replace it"
            )
    return keys


def _usable(jwk: Mapping[str, Any]) -> tuple[dict[str, Any], jwt.PyJWK]:
    """Return a key's public members, and the key; raises _UnusableError."""
    kty, crv = str(jwk.get("kty")), jwk.get("crv")
    algorithms = _ALGORITHMS_OF.get((kty, None if kty == "RSA" else str(crv)))
    if algorithms is None:
        raise _UnusableError("its kty or crv is unknown")
    if not isinstance(jwk.get("kid"), str | None):
        raise _UnusableError("its kid is not a string")
    if jwk.get("use") not in (None, "sig"):
        raise _UnusableError("its use is not sig")
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise _UnusableError("its key_ops do not include verify")
    algorithm = jwk.get("alg", algorithms[0])
    if algorithm not in algorithms:
        raise _UnusableError(f"its alg is none of {', '.join(algorithms)}")
    names = (*_MEMBERS_OF_ALL, *_MEMBERS[kty])
    public = {name: jwk[name] for name in names if jwk.get(name) is not None}
    try:
        key = jwt.PyJWK(public, algorithm)
    except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as error:
        raise _UnusableError("its numbers do not form a key") from error
    if kty == "RSA" and key.key.key_size not in _RSA_BITS:
        raise _UnusableError(
            f"it has {key.key.key_size:,} bits, not {_RSA_BITS[0]:,} to {_RSA_BITS[-1]:,}"
        )
    return public, key


def _identity(public: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: public.get(name) for name in ("kty", "alg", *_MEMBERS[public["kty"]])}


def key_of(keys: KeySet, key_id: str | None) -> jwt.PyJWK | None:
    """Return the key that a token names; one that names none means the only one there is."""
    if key_id is None and len(keys) == 1:
        [only] = keys.values()
        return only
    return keys.get(key_id)
