"""The steps of changes, of this version and of the previous one.

A process that is killed makes no further step, or its transaction is rolled back at any moment.
"""

from typing import Literal

from tests.models.fences.keepers import fenced, opened
from tests.models.fences.rules import Rule, Scope
from tests.models.fences.state import ABSENT, NEW, Keeper, State, Transaction
from tests.models.search import Steps


class Changes:
    """Changes by the rules that are kept."""

    def __init__(self, kept: frozenset[Rule], scope: Scope) -> None:
        self._kept = kept
        self._has_previous = scope.previous_version

    def begin(self, state: State) -> Steps[State]:
        kinds: list[tuple[Literal["change", "old change"], Rule]] = [
            ("change", Rule.KEEPERS_AFTER_LOCK)
        ]
        if self._has_previous:
            kinds.append(("old change", Rule.PREVIOUS_VERSION_LOOKS_AFTER_LOCK))
        for kind, rule in kinds:
            if rule not in self._kept:
                looked = Transaction(kind, "looked", keeper=state.graph.keeper)
                yield f"{kind}: looks for keepers, without a lock", state.having(looked)
            elif not state.is_locked or Rule.REGISTRATION_WAITS not in self._kept:
                yield f"{kind}: shares lock K", state.having(Transaction(kind, "locked"))

    def steps(self, state: State, transaction: Transaction) -> Steps[State]:
        """Return the next steps of a transaction that has begun."""
        rest = state.without(transaction)
        match transaction.step:
            case "locked":
                yield from self._decide(rest, transaction._replace(keeper=state.graph.keeper))
            case "looked":
                if not rest.is_locked:
                    yield from self._decide(rest, transaction)
            case "decided":
                yield from self._open(rest, transaction)
            case "opened":
                sent = transaction._replace(step="committing")
                yield f"{transaction.kind}: sends COMMIT", rest.having(sent)
                yield from self._again(rest, transaction)
            case "committing":
                yield from self._commit(rest, transaction)
            case "committed":
                after = opened(self._kept, rest, transaction.change, _told(rest, transaction))
                yield "change: its fence is open", after

    def _decide(self, rest: State, transaction: Transaction) -> Steps[State]:
        """Continue without its transaction, which has read the keepers."""
        keeper, kind = transaction.keeper, transaction.kind
        unfenced = transaction._replace(step="opened", keeper=None)
        if kind == "old change":
            if keeper is None or Rule.PREVIOUS_VERSION_REFUSED not in self._kept:
                yield f"{kind}: is not refused", rest.having(unfenced)
        elif keeper is None:
            if rest.is_applied or Rule.SETTING_BEFORE_CHANGES not in self._kept:
                yield f"{kind}: finds no keeper", rest.having(unfenced)
        elif keeper.graph_history == rest.graph_history:
            change = NEW if transaction.change == ABSENT else transaction.change
            is_fenced_first = Rule.FENCE_BEFORE_COMMIT in self._kept
            step: Literal["decided", "opened"] = "decided" if is_fenced_first else "opened"
            decided = transaction._replace(step=step, change=change)
            yield f"{kind}: finds a keeper", rest.having(decided)

    def _open(self, rest: State, transaction: Transaction) -> Steps[State]:
        asked: Keeper | None = transaction.keeper
        proceeding = transaction._replace(step="opened")
        goes_on = rest.having(proceeding)
        told = _told(rest, transaction)
        after = opened(self._kept, rest, transaction.change, told)
        if asked is not None and asked.keeper_history == after.keeper_history:
            yield "change: its fence is open", after.having(proceeding)
        else:
            yield "change: another history has opened its fence, rolled back", after
            if rest.copy is not None and rest.fence.claimed_by == rest.copy.graph_history:
                late = fenced(self._kept, goes_on, transaction.change, told)
                step = "change: its fence is open, by a statement that began before the claim"
                yield step, late
        if Rule.NO_ANSWER_NO_CHANGE not in self._kept:
            yield "change: has no answer, and goes on", goes_on
        if Rule.OTHER_HISTORY_NO_CHANGE not in self._kept:
            yield "change: a server of another history has opened its fence", goes_on

    def _again(self, rest: State, transaction: Transaction) -> Steps[State]:
        if (
            Rule.FENCE_FOR_EACH_ATTEMPT not in self._kept
            and transaction.change != ABSENT
            and rest.late_close == ABSENT
        ):
            again = rest.having(transaction._replace(step="locked", keeper=None))
            step = "change: rolled back and tried again, a message to close the fence is under way"
            yield step, again._replace(late_close=transaction.change)

    def _commit(self, rest: State, transaction: Transaction) -> Steps[State]:
        graph = rest.graph._replace(version=NEW)
        committed = rest.excused_no_more()._replace(graph=graph)
        is_fenced = transaction.keeper is not None
        if is_fenced and Rule.FENCE_BEFORE_COMMIT not in self._kept:
            committed = committed.having(transaction._replace(step="committed"))
        yield f"{transaction.kind}: committed", committed
        if is_fenced and Rule.FENCE_FOR_EACH_TRANSACTION not in self._kept:
            following = committed.having(transaction._replace(step="opened", change=ABSENT))
            yield "change: committed, and its next transaction begun", following


def _told(state: State, transaction: Transaction) -> int:
    """Return the history that a change tells the keeper: that in which it found the keeper."""
    keeper = transaction.keeper
    return state.graph_history if keeper is None else keeper.graph_history
