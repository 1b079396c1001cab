"""Who makes a call."""

from dataclasses import dataclass

from shared.access.scopes import Scope


class RefusedCredentialsError(Exception):
    """These credentials are not valid. The message is for the log, and contains no secret."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A user, or a service that may act for users."""

    name: str
    """What logs say: `user:17`, or `service:` and the identity that was set."""
    user_id: int | None
    """The user; None for a service."""
    scope: Scope = None
    """The calls that a service may make; None for every call."""
    acts_on_behalf: bool = False
    """Whether a service must also send the token of the user that it calls for."""

    @property
    def is_service(self) -> bool:
        """Whether it may act for users."""
        return self.user_id is None
