"""Makers of what callers show: certificates and signed tokens."""

import ipaddress
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm

AUDIENCE = "kith"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate with its key, in PEM."""

    chain: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Put both into files, and replace what is there; returns their paths."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, (self.chain, self.key), strict=True):
            put(path, content)
        return paths


class Authority:
    """A maker of certificates."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.certificate = _pem(_signed(self._name, self._key, self._name, self._key, names=()))

    def issue(self, *names: str) -> Certificate:
        """Return a certificate for 127.0.0.1 and for URIs and host names."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = _signed(_named(names[0]), key, self._name, self._key, names=names)
        return Certificate(
            chain=_pem(signed),
            key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def credentials(self, shown: Certificate | None = None) -> grpc.ChannelCredentials:
        """Return those of a client that believes this authority."""
        key, chain = (shown.key, shown.chain) if shown else (None, None)
        return grpc.ssl_channel_credentials(self.certificate, key, chain)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Files with the certificates of services and clients, and their authorities.

    `names` has the names that are written in each certificate; `services` are those that may act
    for everybody.
    """

    folder: Path
    names: Mapping[str, Sequence[str]]
    services: Sequence[str]

    def renew(self, authority: Authority, *, believed: bytes) -> None:
        """Give everybody certificates of an authority; those in `believed` are let in."""
        put(self.folder / "ca.crt", believed)
        for name, written in self.names.items():
            authority.issue(*written).write(self.folder, name)

    def server(self, name: str) -> Mapping[str, str]:
        """Return the settings of a service that is called."""
        return {
            "TLS_CERT_FILE": str(self.folder / f"{name}.crt"),
            "TLS_KEY_FILE": str(self.folder / f"{name}.key"),
            "TLS_CLIENT_CA_FILE": str(self.folder / "ca.crt"),
            "AUTH_SERVICES": ",".join(self.services),
        }

    def client(self, name: str) -> Mapping[str, str]:
        """Return the settings of the caller."""
        return {
            "TARGET_CERT_FILE": str(self.folder / f"{name}.crt"),
            "TARGET_KEY_FILE": str(self.folder / f"{name}.key"),
            "TARGET_CA_FILE": str(self.folder / "ca.crt"),
        }


class Issuer:
    """A signer of tokens, whose public keys are in a file."""

    def __init__(self, folder: Path, name: str = "https://issuer.test") -> None:
        self.name = name
        self.jwks = folder / "jwks.json"
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}

    @property
    def environment(self) -> dict[str, str]:
        """The settings that believe it."""
        return {
            "AUTH_JWKS": str(self.jwks),
            "AUTH_ISSUER": self.name,
            "AUTH_AUDIENCE": AUDIENCE,
            "AUTH_LEEWAY_SECONDS": "5",
        }

    def add_key(self, key_id: str) -> None:
        """Make a key, and publish it beside the others."""
        self._keys[key_id] = ec.generate_private_key(ec.SECP256R1())
        self._publish()

    def withdraw_key(self, key_id: str) -> None:
        """Publish a key no more."""
        del self._keys[key_id]
        self._publish()

    def token(
        self, subject: str | int, *, headers: Mapping[str, str] | None = None, **claims: Any
    ) -> str:
        """Return a good token, signed with the newest key, or one that differs in some claims."""
        key_id, key = [*self._keys.items()][-1]
        content = {
            "iss": self.name,
            "aud": AUDIENCE,
            "sub": str(subject),
            "exp": time.time() + 600,
            **claims,
        }
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, key, "ES256", {"kid": key_id, **(headers or {})})

    def public_key(self) -> bytes:
        """Return the newest key's public half, as everybody knows it."""
        key = [*self._keys.values()][-1].public_key()
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def _publish(self) -> None:
        keys = [
            {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig"}
            for key_id, key in self._keys.items()
        ]
        put(self.jwks, json.dumps({"keys": keys}).encode())


def put(path: Path, content: bytes) -> None:
    """Put content into a file so that no process reads half of it."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content)
    fresh.replace(path)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    names: tuple[str, ...],
) -> x509.Certificate:
    now = datetime.now(UTC)
    alternatives = [
        x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)
        for name in names
    ]
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([here, *alternatives]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
