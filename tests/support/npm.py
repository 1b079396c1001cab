"""Packages of npm, for clients and checkers in JavaScript."""

import shutil
import subprocess
from pathlib import Path

import pytest

_BUILD = Path(__file__).parents[2] / "build"
_SECONDS = 300


def installed(source: Path) -> Path:
    """Copy a folder with a package.json below build/, and install what it names there.

    Skips the test where there is no npm.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    folder = _BUILD / source.name
    shutil.copytree(source, folder, dirs_exist_ok=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"],
        cwd=folder,
        check=True,
        timeout=_SECONDS,
    )
    return folder
