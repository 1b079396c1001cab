"""The word on the wire for the token of a user, which a service brings when it acts for them."""

from typing import Final

KEY: Final = "kith-user-token"
"""The metadata key; the value is the token alone, without `Bearer`."""
