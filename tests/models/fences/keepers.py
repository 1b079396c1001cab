"""The steps of keepers: they are registered and retired, and their fences opened and closed."""

from typing import Literal

from tests.models.fences.rules import Rule, Scope
from tests.models.fences.state import ABSENT, NEW, Fence, Keeper, OpenFence, State, Transaction
from tests.models.search import Steps


def opened(kept: frozenset[Rule], state: State, change: int) -> State:
    """Return the state in which the keeper has opened the fence of a change, if it was not open."""
    fence = state.fence
    if any(each.change == change for each in fence.open):
        return state
    added = (OpenFence(change, state.graph_history),)
    return state._replace(
        fence=Fence(
            NEW if Rule.NEW_GENERATION in kept else fence.generation,
            (*fence.open, *added) if Rule.OPEN_UNTIL_COMMIT in kept else fence.open,
        )
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
        now = Keeper(state.keeper_history, state.graph_history)
        if transaction.step == "opened":
            keeper = transaction.keeper if kind == "registration" else None
            graph = state.graph._replace(keeper=keeper)
            committed = rest.excused_no_more()._replace(graph=graph, is_applied=True)
            yield f"{kind}: committed", committed
        elif kind == "registration":
            yield from self._open(rest, transaction, now, Rule.REGISTRATION_FENCES)
        elif transaction.keeper is not None and transaction.keeper.keeper_history == now[0]:
            yield from self._open(rest, transaction, now, Rule.RETIREMENT_FENCES)

    def _open(self, rest: State, transaction: Transaction, now: Keeper, rule: Rule) -> Steps[State]:
        after = rest.having(transaction._replace(step="opened", keeper=now))
        if rule in self._kept:
            after = opened(self._kept, after, transaction.change)
            yield f"{transaction.kind}: a fence for everybody is open", after
        else:
            yield f"{transaction.kind}: opens no fence", after


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
            yield "a fence is closed: by the message of the failed attempt", closed
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
        is_mended = keeper is not None and keeper.graph_history == history
        return is_mended and fence.graph_history != history


def _closed(state: State, change: int) -> State:
    left = tuple(each for each in state.fence.open if each.change != change)
    return state._replace(fence=state.fence._replace(open=left))
