"""The rule of each call of a service: its callers, its rate, its weight, and what is logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias


class Admits(Enum):
    """The callers of a call. Services act for users, so they may make every call of their scope."""

    THE_USER = auto()
    """The user that the request names in `user_id`, and services for that user."""
    SERVICES = auto()
    """Services alone."""


class Weight(Enum):
    """How much a call costs, and so which of the slots it may take (`server.call_slots`)."""

    ORDINARY = auto()
    HEAVY = auto()
    """It may read tens of thousands of rows: such calls get a part of the slots."""
    VITAL = auto()
    """Other calls cannot be answered without it, and it costs little: it has slots of its own."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How often some calls, all of them together, may be made for each user."""

    name: str
    """The setting that it has is RATE_LIMIT_ and this name."""
    usual: str
    """What it is unless that is set, such as `10/minute`."""


OTHERS: Final = Limit(name="OTHERS", usual="600/minute")
"""The limit of what has none of its own."""

HEAVY: Final = Limit(name="HEAVY", usual="60/minute")
"""The limit of heavy calls."""

CALLERS: Final = "CALLERS"
"""The name of the limit of all calls that a service makes, or a user."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One call's."""

    admits: Admits
    limit: Limit = OTHERS
    weight: Weight = Weight.ORDINARY
    audit: tuple[str, ...] | None
    """The ids to write down, as paths in the request; None for a call that is not audited."""
    also_suspended: bool = False
    """Whether the call is answered for a user who is suspended."""


Access: TypeAlias = Mapping[str, Rule]
"""The rules of a service by the names of its calls. Other calls are permitted to no caller."""
