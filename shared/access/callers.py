"""Who makes a call."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A user, or a service that may act for every user."""

    name: str
    """What logs say: `user:17`, or `service:` and the identity that was set."""
    user_id: int | None
    """The user; None for a service."""

    @property
    def is_service(self) -> bool:
        """Whether it may act for users."""
        return self.user_id is None
