"""Who callers may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from kith.environment import Environment
from kith.tls.certificates import CertificateFiles
from shared.access.scopes import Scope, read_scopes


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """Which signed tokens are believed."""

    keys: str | Path
    """The URL or the file of the keys they are signed with, as a JWKS: AUTH_JWKS."""
    issuer: str
    """Who issues them, their `iss`: AUTH_ISSUER."""
    audience: str
    """Their audience, `aud`: AUTH_AUDIENCE."""
    leeway: timedelta
    """How far the issuer's clock may be off: AUTH_LEEWAY_SECONDS."""

    @classmethod
    def read(cls, environment: Environment) -> "TokenSettings | None":
        """Read the variables; None when no keys are named, and tokens are refused then."""
        where = environment.text("AUTH_JWKS", "")
        named = {name: environment.text(name, "") for name in ("AUTH_ISSUER", "AUTH_AUDIENCE")}
        leeway = environment.duration("AUTH_LEEWAY_SECONDS", 30, minimum=0, maximum=300)
        if not where:
            return None
        for name, value in named.items():
            if not value:
                environment.problem(name, "must be set with AUTH_JWKS")
        is_url = where.startswith(("http://", "https://"))
        if is_url and "@" in where:
            environment.problem("AUTH_JWKS", "must not contain a password: its keys are public")
        if not is_url:
            from shared.access import jwks  # noqa: PLC0415 -- cryptography slows a start

            environment.require("AUTH_JWKS", lambda: jwks.require_keys(jwks.read(Path(where))))
        return cls(
            keys=where if is_url else Path(where).absolute(),
            issuer=named["AUTH_ISSUER"],
            audience=named["AUTH_AUDIENCE"],
            leeway=leeway,
        )


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """Who callers may be."""

    services: Mapping[str, Scope]
    """The calls of each service, by a certificate's name or a token's `sub`: AUTH_SERVICES."""
    on_behalf: frozenset[str]
    """The services that must also send the token of the user they call for: AUTH_ON_BEHALF."""
    tokens: TokenSettings | None
    """Which tokens are believed; None for none."""

    @classmethod
    def read(cls, environment: Environment) -> "AuthSettings":
        """Read the variables."""
        auth = cls(
            services=read_scopes(environment),
            on_behalf=frozenset(environment.words("AUTH_ON_BEHALF")),
            tokens=TokenSettings.read(environment),
        )
        for name in sorted(auth.on_behalf - auth.services.keys()):
            environment.problem(
                "AUTH_ON_BEHALF", f"must name services of AUTH_SERVICES; has {name!r}"
            )
        if auth.on_behalf and auth.tokens is None:
            environment.problem("AUTH_ON_BEHALF", "needs AUTH_JWKS, which verifies users' tokens")
        return auth


def auth_settings(environment: Environment, files: CertificateFiles | None) -> AuthSettings | None:
    """Read who callers may be; None when there is nothing by which they could be known."""
    auth = AuthSettings.read(environment)
    shows_certificates = files is not None and files.authorities is not None
    if auth.tokens is None and not shows_certificates:
        if auth.services:
            environment.problem("AUTH_SERVICES", "needs AUTH_JWKS or TLS_CLIENT_CA_FILE")
        return None
    if auth.tokens is None and not auth.services:
        environment.problem(
            "AUTH_SERVICES", "must name the services whose certificates are accepted"
        )
    return auth
