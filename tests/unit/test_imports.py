"""Processes start without the libraries that they may never need."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_OPTIONAL = {"boto3", "cryptography", "jwt", "limits", "opentelemetry", "redis"}
_BUILT = (
    "import os, sys\n"
    "from feed_service import __main__ as feed\n"
    "from graph_service import __main__ as graph\n"
    "from shared.access.credentials import Credentials\n"
    "for program in (feed.PROGRAM, graph.PROGRAM):\n"
    "    settings = program.read_settings(os.environ)\n"
    "    program.build(settings, 'postgresql+psycopg2://nobody@127.0.0.1:1/none').close()\n"
    "    if settings.server.auth:\n"
    "        Credentials(settings.server.auth).close()\n"
    "print(*sys.modules)\n"
)


def _imported(script: str, environment: Mapping[str, str] | None = None) -> set[str]:
    return set(
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=_ROOT,
            env=None if environment is None else {"PATH": os.environ["PATH"], **environment},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.split()
    )


def test_commands_of_the_client_start_without_the_libraries_of_a_database() -> None:
    imported = _imported("import sys, shared.cli.__main__; print(*sys.modules)")

    assert "shared.cli.__main__" in imported
    assert "sqlalchemy" not in imported


def test_services_are_built_without_migrations_and_the_libraries_of_what_is_not_configured() -> (
    None
):
    imported = _imported(_BUILT, {})

    assert imported > {"feed_service.servicer", "graph_service.servicer"}
    assert not imported & {"alembic", *_OPTIONAL}


def test_what_is_configured_is_imported_before_the_first_call() -> None:
    configured = {
        "AUTH_JWKS": "http://127.0.0.1:1/keys",
        "AUTH_ISSUER": "https://issuer.example",
        "AUTH_AUDIENCE": "kith",
        "REDIS_URL": "redis://127.0.0.1:1",
        "S3_BUCKET": "photos",
        "AWS_ACCESS_KEY_ID": "an id",
        "AWS_SECRET_ACCESS_KEY": "a secret",
    }

    assert _imported(_BUILT, configured) >= {"boto3", "jwt", "limits", "redis"}
