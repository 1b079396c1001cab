"""Fences as a machine of few states, searched for a read without a call that says something untrue.

The machine has one viewer, the graph's database with a standby, and the keeper's database with a
standby. Everybody else, such as processes and messages, is a step that may happen at any moment or
never: a process that is killed is a transaction that makes no further step, or is rolled back. A
message that is late is a step that comes late.

There is one entry of the cache because one is enough: whether an entry is served depends on itself
and on the fence, and on no other entry. Where it was kept in between does not matter either, so the
one entry stands for those of all processes and of Redis, of any age. One keeper is enough as well:
what a read is answered depends on the fences of its own keeper.

The promise is that a read without a call is answered by the connections of its own moment. After a
failover of the graph which lost commits, the connections of the moment of the loss may be used
until the first change or registration in the new history. A read with a call needs no fence.
"""

from tests.models.fences.changes import Changes
from tests.models.fences.keepers import Closing, Copies, Registrations
from tests.models.fences.losses import Losses
from tests.models.fences.reads import Reads
from tests.models.fences.rules import Rule, Scope
from tests.models.fences.state import ABSENT, State, first_state, renamed
from tests.models.search import Found, Steps, search


def check(scope: Scope, *, without: Rule | None = None) -> Found:
    """Search the protocol, or the protocol without a rule, for a read that is answered untruly."""
    machine = _Machine(frozenset(Rule) - {without}, scope)
    return search(first_state(is_copied=scope.copies), machine.successors, machine.is_untrue)


class _Machine:
    def __init__(self, kept: frozenset[Rule], scope: Scope) -> None:
        self._kept = kept
        self._scope = scope
        self._reads = Reads(kept)
        self._changes = Changes(kept, scope)
        self._registrations = Registrations(kept, scope)
        self._closing = Closing(kept)
        self._copies = Copies(kept)
        self._losses = Losses(kept, scope)
        self.is_untrue = self._reads.is_untrue

    def successors(self, state: State) -> Steps[State]:
        for step, successor in self._steps(state):
            if len(successor.fence.open) <= self._scope.open_fences:
                yield step, renamed(self._without_the_past(successor))

    def _steps(self, state: State) -> Steps[State]:
        yield from self._reads.steps(state)
        for transaction in state.transactions:
            yield f"{transaction.kind}: rolled back", state.without(transaction)
            if transaction.is_exclusive:
                yield from self._registrations.steps(state, transaction)
            else:
                yield from self._changes.steps(state, transaction)
        if len(state.transactions) < self._scope.transactions:
            yield from self._changes.begin(state)
            yield from self._registrations.begin(state)
        yield from self._closing.steps(state)
        yield from self._copies.steps(state)
        yield from self._losses.steps(state)

    def _without_the_past(self, state: State) -> State:
        """Return the state without what has no effect any more, so that fewer are different."""
        if Rule.HISTORY_OF_STATEMENT in self._kept:
            state = state._replace(session_history=state.keeper_history)
        if Rule.REAPER_KNOWS_HISTORY in self._kept:
            state = state._replace(reaper_history=state.graph_history)
        if Rule.FENCE_FOR_EACH_ATTEMPT in self._kept and all(
            each.change != state.late_close for each in state.fence.open
        ):
            state = state._replace(late_close=ABSENT)
        if state.entry is not None and (stamp := state.entry.stamp) is not None:
            histories = {state.keeper_history, state.session_history, ABSENT}
            generations = {state.fence.generation, state.fence_standby.generation, ABSENT}
            if stamp.keeper_history not in histories or stamp.generation not in generations:
                return state.with_entry(None)
        return state
