"""Processes start without the libraries that they may never need."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("programs", "library"),
    [
        pytest.param("graph_service.__main__, feed_service.__main__", "alembic", id="services"),
        pytest.param("shared.cli.__main__", "sqlalchemy", id="commands of the client"),
    ],
)
def test_a_program_starts_without_a_library_that_only_some_of_its_work_needs(
    programs: str, library: str
) -> None:
    imported = _imported(f"import sys, {programs}; print(*sys.modules)")

    assert programs.partition(",")[0] in imported
    assert library not in imported


def test_services_are_built_without_the_libraries_of_what_is_not_configured() -> None:
    imported = _imported(_BUILT, {})

    assert "feed_service.servicer" in imported
    assert not imported & _OPTIONAL


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
