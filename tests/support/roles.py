"""The roles of deploy/postgres, as an operator makes them."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy

from shared.database.embedded_postgres import binaries

_SCRIPTS = Path(__file__).parents[2] / "deploy" / "postgres"
_SET_PASSWORD = "ALTER ROLE {} PASSWORD '{}'"


def make_roles(service: str, url: str) -> str:
    """Make the roles of a service, and give them their rights in its database.

    They get the password of the URL, if it has one. Returns what psql warns of.
    """
    return _run("roles.sql", service, url, roles=[f"kith_{service}_owner", f"kith_{service}"])


def make_auditor(service: str, url: str) -> str:
    """Make the role of the auditor, and return the URL by which it reads a service's database."""
    _run("auditor.sql", service, url, roles=["kith_auditor"])
    return _as("kith_auditor", url)


def _run(script: str, service: str, url: str, *, roles: Sequence[str]) -> str:
    """Run a script and give roles the password of the URL, if it has one; returns its warnings."""
    parsed = sqlalchemy.make_url(url)
    made = subprocess.run(
        [
            binaries() / "psql",
            "--no-psqlrc",
            "--quiet",
            f"--variable=service={service}",
            f"--file={_SCRIPTS / script}",
            *(
                f"--command={_SET_PASSWORD.format(role, parsed.password)}"
                for role in (roles if parsed.password else ())
            ),
            parsed.set(drivername="postgresql").render_as_string(hide_password=False),
        ],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    return made.stderr


def owner(service: str, url: str) -> str:
    """Return the URL by which a database is migrated."""
    return _as(f"kith_{service}_owner", url)


def serving(service: str, url: str) -> str:
    """Return the URL by which a service uses its database."""
    return _as(f"kith_{service}", url)


def _as(role: str, url: str) -> str:
    return sqlalchemy.make_url(url).set(username=role).render_as_string(hide_password=False)
