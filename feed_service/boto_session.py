"""Sessions of boto3, which is imported with this module and only where photos are configured."""

from typing import Protocol

import boto3
from botocore.exceptions import BotoCoreError


class Keys(Protocol):
    """What a session is opened with; empty keys stand for wherever else boto3 finds some."""

    @property
    def access_key_id(self) -> str:
        """AWS_ACCESS_KEY_ID."""

    @property
    def secret_access_key(self) -> str:
        """AWS_SECRET_ACCESS_KEY."""

    @property
    def session_token(self) -> str:
        """AWS_SESSION_TOKEN."""

    @property
    def region(self) -> str:
        """S3_REGION."""


def open_session(keys: Keys) -> boto3.Session:
    """Return a session with the credentials that are set, or boto3's own search for them."""
    return boto3.Session(
        aws_access_key_id=keys.access_key_id or None,
        aws_secret_access_key=keys.secret_access_key or None,
        aws_session_token=keys.session_token or None,
        region_name=keys.region,
    )


def has_credentials(keys: Keys) -> bool:
    """Whether boto3 finds credentials; raises ValueError when what it finds cannot be used."""
    try:
        return open_session(keys).get_credentials() is not None
    except BotoCoreError as error:
        raise ValueError(str(error)) from error
