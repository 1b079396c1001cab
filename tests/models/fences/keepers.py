"""The steps of keepers: they are registered and retired, and their fences opened and closed."""

from typing import Literal

from tests.models.fences.rules import Rule, Scope
from tests.models.fences.state import ABSENT, NEW, Copy, Keeper, OpenFence, State, Transaction
from tests.models.search import Steps


def opened(kept: frozenset[Rule], state: State, change: int, graph_history: int) -> State:
    """Return the state in which a graph has the claim, and the fence of its change is open."""
    return fenced(kept, claimed(kept, state, graph_history), change, graph_history)


def fenced(kept: frozenset[Rule], state: State, change: int, graph_history: int) -> State:
    """Return the state in which the keeper has opened the fence of a change, if it was not open."""
    fence = state.fence
    if any(each.change == change for each in fence.open):
        return state
    added = (OpenFence(change, graph_history),)
    return state._replace(
        fence=fence._replace(
            generation=NEW if Rule.NEW_GENERATION in kept else fence.generation,
            open=(*fence.open, *added) if Rule.OPEN_UNTIL_COMMIT in kept else fence.open,
        )
    )


def claimed(kept: frozenset[Rule], state: State, graph_history: int) -> State:
    """Return the state in which a graph has the claim, by the first fence that it opens."""
    if graph_history == state.fence.claimed_by:
        return state
    history = NEW if Rule.CLAIM_SHOWS in kept else state.keeper_history
    if Rule.CLAIM_IS_NEW not in kept:
        if state.former_history != ABSENT:
            history = state.former_history
        state = state._replace(former_history=state.keeper_history)
    return state._replace(
        fence=state.fence._replace(claimed_by=graph_history), keeper_history=history
    )


class Registrations:
    """Registrations and retirements by the rules that are kept."""

    def __init__(self, kept: frozenset[Rule], scope: Scope) -> None:
        self._kept = kept
        self._has_retirements = scope.turnover
        self._is_forgetting = scope.forgetting

    def begin(self, state: State) -> Steps[State]:
        if state.transactions and Rule.REGISTRATION_WAITS in self._kept:
            return
        registration = Transaction("registration", "locked", change=NEW)
        yield "registration: takes lock K exclusively", state.having(registration)
        keeper = state.graph.keeper
        if self._has_retirements and keeper is not None:
            retirement = Transaction("retirement", "locked", change=NEW, keeper=keeper)
            yield "retirement: takes lock K exclusively", state.having(retirement)
        if self._is_forgetting and keeper is not None and not state.transactions:
            yield (
                "an operator: forgets the keeper, all of whose processes are gone",
                _forgotten(state),
            )

    def steps(self, state: State, transaction: Transaction) -> Steps[State]:
        """Return the next steps of a transaction that has begun."""
        rest, kind = state.without(transaction), transaction.kind
        if transaction.step == "opened":
            keeper = transaction.keeper if kind == "registration" else None
            graph = state.graph._replace(keeper=keeper)
            committed = rest.excused_no_more()._replace(graph=graph, is_applied=True)
            yield f"{kind}: committed", committed
        elif kind == "registration":
            yield from self._open(rest, transaction, Rule.REGISTRATION_FENCES)
        else:
            yield from self._open(rest, transaction, Rule.RETIREMENT_FENCES)

    def _open(self, rest: State, transaction: Transaction, rule: Rule) -> Steps[State]:
        history, change = rest.graph_history, transaction.change
        if rule in self._kept:
            after, step = opened(self._kept, rest, change, history), "a fence for everybody is open"
        else:
            after, step = claimed(self._kept, rest, history), "opens no fence"
        named = transaction._replace(step="opened", keeper=Keeper(after.keeper_history, history))
        yield f"{transaction.kind}: {step}", after.having(named)


def _forgotten(state: State) -> State:
    entry, graph = state.entry, state.graph._replace(keeper=None)
    if entry is not None:
        is_in_redis = entry.step in {"cached", "shared"}
        entry = entry._replace(step="shared") if is_in_redis else None
    return state._replace(graph=graph, entry=entry)


class Closing:
    """Fences are closed by the rules that are kept, by their process or by the reaper."""

    def __init__(self, kept: frozenset[Rule]) -> None:
        self._kept = kept

    def steps(self, state: State) -> Steps[State]:
        under_way = {each.change: each for each in state.transactions}
        for fence in state.fence.open:
            if why := self._reason(state, fence, under_way.get(fence.change)):
                yield f"a fence is closed: {why}", _closed(state, fence.change)
        if state.late_close != ABSENT:
            closed = _closed(state, state.late_close)._replace(late_close=ABSENT)
            yield "a fence is closed: by a message that was under way", closed
        if not state.fence.open and Rule.FENCES_STAY not in self._kept:
            deleted = state.fence._replace(generation=ABSENT)
            yield "a fence that is not open is deleted", state._replace(fence=deleted)

    def _reason(
        self, state: State, fence: OpenFence, transaction: Transaction | None
    ) -> Literal[
        "",
        "its transaction is over",
        "it is old",
        "COMMIT was not answered",
        "it will be committed",
        "it is of another history",
    ]:
        kept = self._kept
        if transaction is None:
            return "its transaction is over"
        if Rule.NO_CLOSING_BY_AGE not in kept:
            return "it is old"
        if Rule.UNKNOWN_STAYS_OPEN not in kept and transaction.step == "committing":
            return "COMMIT was not answered"
        if Rule.RETIREMENT_CLOSES_LAST not in kept and transaction.kind == "retirement":
            return "it will be committed"
        return "it is of another history" if self._is_of_another_history(state, fence) else ""

    def _is_of_another_history(self, state: State, fence: OpenFence) -> bool:
        """Whether the reaper takes the fence for one of an earlier history of the graph.

        An earlier history is over when a keeper has been registered in the reaper's history, for
        that waits for every change.
        """
        keeper = state.graph.keeper
        if Rule.REAPER_KNOWS_HISTORY not in self._kept:
            return fence.graph_history != state.reaper_history
        history = state.graph_history
        if keeper is None or keeper.graph_history != history or fence.graph_history == history:
            return False
        has_claim = keeper.keeper_history == state.keeper_history
        return has_claim or Rule.REAPER_HAS_CLAIM not in self._kept


def _closed(state: State, change: int) -> State:
    left = tuple(each for each in state.fence.open if each.change != change)
    return state._replace(fence=state.fence._replace(open=left))


class Copies:
    """The steps of a copy of the graph, by the rules that are kept.

    The reads are those that ask the graph. For those that ask the copy, the graph is the copy.
    """

    def __init__(self, kept: frozenset[Rule]) -> None:
        self._kept = kept

    def steps(self, state: State) -> Steps[State]:
        copy = state.copy
        if copy is None:
            return
        # Its fences only keep reads from being answered without a call, so they are closed at once.
        after = claimed(self._kept, state, copy.graph_history)
        after = after._replace(fence=after.fence._replace(generation=NEW))
        yield "copy: opens and closes a fence", after
        registered = copy._replace(keeper_history=after.keeper_history)
        yield "copy: registers the keeper", after._replace(copy=registered)
        has_claim = copy.keeper_history == state.keeper_history
        if has_claim or Rule.REAPER_HAS_CLAIM not in self._kept:
            yield from self._listed(state, copy)

    def _listed(self, state: State, copy: Copy) -> Steps[State]:
        if copy.keeper_history == ABSENT or state.late_close != ABSENT:
            return
        for fence in state.fence.open:
            if fence.graph_history != copy.graph_history:
                listed = state._replace(late_close=fence.change)
                yield "copy: lists a fence, and sends the message to close it", listed
