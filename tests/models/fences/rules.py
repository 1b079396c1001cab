"""The rules of the protocol, each of which can be left out, and what may happen at all."""

from dataclasses import dataclass
from enum import Enum


class Rule(Enum):
    """A rule without which a read without a call says something untrue."""

    POSTS_BEFORE_FENCE = "a read takes the fence in the snapshot of the posts or later"
    FENCE_OF_PRIMARY = "a read takes the fence from the primary"
    NOTHING_OPEN = "a stamp is of a fence with nothing open"
    FENCE_BEFORE_QUESTION = "a stamp is of a fence that was read before the question was sent"
    ANSWER_OF_PRIMARY = "the graph's primary answers the question"
    SHARED_AFTER_ANSWER = (
        "a process trusts a shared stamp after an answer has named the keeper to it"
    )
    STAMP_OF_ITS_ENTRY = "a stamp is put on the entry of the same answer"
    HISTORY_IN_STAMP = "a stamp has the history of the keeper"
    HISTORY_OF_STATEMENT = "the history is that of the statement, not of its session"
    ANSWER_NAMES_HISTORY = "an answer names the history of the keeper to which changes are fenced"
    KEEPER_LOSS_SHOWS = "the keeper loses no commits without another history"
    GRAPH_KNOWS_KEEPER_LOSS = "another history of the keeper has another name in the graph as well"
    GRAPH_LOSS_SHOWS = "the graph loses no commits without another history"
    FENCES_STAY = "the row of a fence is not deleted"

    FENCE_BEFORE_COMMIT = "a change opens its fence before its COMMIT"
    OPEN_UNTIL_COMMIT = "a fence is open until the change is over, beside its new generation"
    NEW_GENERATION = "opening a fence changes the generation"
    NO_ANSWER_NO_CHANGE = "a change fails if no keeper answers"
    OTHER_HISTORY_NO_CHANGE = "a change fails if another history of the keeper answers"
    KEEPERS_AFTER_LOCK = "a change reads the keepers after it has shared lock K"
    FENCE_FOR_EACH_ATTEMPT = "a change that is tried again opens another fence"
    FENCE_FOR_EACH_TRANSACTION = "a change in several transactions opens a fence for each"
    UNKNOWN_STAYS_OPEN = "a fence stays open while the outcome of COMMIT is unknown"
    NO_CLOSING_BY_AGE = "no fence is closed for its age"
    REAPER_KNOWS_HISTORY = "the reaper reads the graph's history beside the transactions' outcomes"

    CLAIM_SHOWS = "another graph that tells the keeper of a change gives it another history"
    CLAIM_IS_NEW = "a graph that claims the keeper again gives it a history that is new again"
    REAPER_HAS_CLAIM = (
        "the reaper closes fences of other histories if the keeper lists them as it is registered"
    )

    REGISTRATION_WAITS = "registration takes lock K exclusively"
    REGISTRATION_FENCES = "registration opens a fence for everybody"
    RETIREMENT_FENCES = "retirement opens a fence for everybody"
    RETIREMENT_CLOSES_LAST = "retirement closes its fence after its COMMIT"
    SETTING_BEFORE_CHANGES = "a process makes no change before its keepers are in this history"
    PREVIOUS_VERSION_REFUSED = "the previous version makes no change while there is a keeper"
    PREVIOUS_VERSION_LOOKS_AFTER_LOCK = "it looks for keepers after it has shared lock K"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What may happen, and how much of it at once."""

    turnover: bool = False
    """Keepers are retired, and registered again."""
    forgetting: bool = False
    """A keeper that is away with all its processes is forgotten, and registered again."""
    previous_version: bool = False
    """Processes of the graph's previous version make changes as well."""
    keeper_losses: bool = False
    """The keeper's database fails over or is restored, and may lose what was committed."""
    graph_losses: bool = False
    """The same for the graph's database."""
    copies: bool = False
    """A copy of the graph tells the same keeper of its changes, and closes fences there."""
    transactions: int = 2
    open_fences: int = 2


PAIR = Scope()
TURNOVER = Scope(turnover=True, previous_version=True)
FORGETTING = Scope(forgetting=True)
KEEPER_LOSSES = Scope(keeper_losses=True, transactions=1, open_fences=1)
GRAPH_LOSSES = Scope(graph_losses=True, transactions=1)
COPIES = Scope(copies=True)
LOST_REGISTRATIONS = Scope(turnover=True, graph_losses=True, transactions=1, open_fences=1)
