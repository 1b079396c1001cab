"""The keys that sign page tokens."""

import os
import secrets
from pathlib import Path

from kith.environment import Environment
from shared.database.settings import DatabaseSettings
from shared.private_files import private_folder

_NAME = "PAGE_TOKEN_KEYS"
_MIN_LENGTH = 32


def page_token_keys(environment: Environment, database: DatabaseSettings) -> tuple[bytes, ...]:
    """Return the keys, newest first.

    With the embedded database a key is made once and kept beside the data, so that tokens outlive a
    restart. A database of one's own is shared by several machines, and so must be the keys: there
    the variable must be set.
    """
    keys = tuple(
        key.strip().encode() for key in environment.text(_NAME, "").split(",") if key.strip()
    )
    if any(len(key) < _MIN_LENGTH for key in keys):
        environment.problem(_NAME, f"must contain keys of at least {_MIN_LENGTH} characters each")
    if keys:
        return keys
    if database.url:
        environment.problem(_NAME, "must be set when the database is not the embedded one")
        return ()
    return (_kept_key(database.data_dir),)


def _kept_key(data_dir: Path) -> bytes:
    private_folder(data_dir, is_passed_through=os.geteuid() == 0)
    path = data_dir / "page_token_key"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(32))
        try:
            # Linking fails when another process was first; then its key is the one to use.
            path.hardlink_to(fresh)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().encode()
