"""The steps of servers: standbys follow and are promoted, and what they did not have is lost.

A backup is a standby that stopped following, and to restore it is to promote it.
"""

from tests.models.fences.rules import Rule, Scope
from tests.models.fences.state import NEW, Keeper, State
from tests.models.search import Steps


class Losses:
    """Losses of both databases, by the rules that are kept."""

    def __init__(self, kept: frozenset[Rule], scope: Scope) -> None:
        self._kept = kept
        self._of_keeper = scope.keeper_losses
        self._of_graph = scope.graph_losses

    def steps(self, state: State) -> Steps[State]:
        is_keeper_read = Rule.FENCE_OF_PRIMARY not in self._kept
        if (self._of_keeper or is_keeper_read) and state.fence_standby != state.fence:
            yield "keeper: the standby follows", state._replace(fence_standby=state.fence)
        is_graph_read = Rule.ANSWER_OF_PRIMARY not in self._kept
        if (self._of_graph or is_graph_read) and state.graph_standby != state.graph:
            yield "graph: the standby follows", state._replace(graph_standby=state.graph)
        if self._of_keeper:
            yield from self._keeper(state)
        if self._of_graph:
            yield from self._graph(state)

    def _keeper(self, state: State) -> Steps[State]:
        lost = state._replace(fence=state.fence_standby)
        if Rule.KEEPER_LOSS_SHOWS not in self._kept:
            yield "keeper: commits are lost, in the same history", lost
            return
        promoted = lost._replace(keeper_history=NEW)
        if Rule.GRAPH_KNOWS_KEEPER_LOSS not in self._kept:
            promoted = _same_to_the_graph(promoted, state.keeper_history)
        yield "keeper: the standby is promoted", promoted
        if state.session_history != state.keeper_history:
            reopened = state._replace(session_history=state.keeper_history)
            yield "keeper: the session is opened anew", reopened

    def _graph(self, state: State) -> Steps[State]:
        lost = state._replace(graph=state.graph_standby, transactions=())
        if Rule.GRAPH_LOSS_SHOWS not in self._kept:
            yield "graph: commits are lost, in the same history", lost
            return
        entry = state.entry
        if entry is not None and entry.step == "cached" and entry.version == state.graph.version:
            entry = entry._replace(is_excused=True)
        promoted = lost._replace(graph_history=NEW, is_applied=False, entry=entry)
        yield "graph: the standby is promoted", promoted
        # As when a table is rewritten whose number is a part of the name.
        named = state._replace(graph_history=NEW, is_applied=False)
        yield "graph: its history has another name, transactions go on", named
        if state.reaper_history != state.graph_history:
            reopened = state._replace(reaper_history=state.graph_history)
            yield "graph: the reaper's session is opened anew", reopened


def _same_to_the_graph(state: State, former: int) -> State:
    """Return the state in which the graph knows the keeper's new history by its former name."""

    def known(keeper: Keeper | None) -> Keeper | None:
        if keeper is None or keeper.keeper_history != former:
            return keeper
        return keeper._replace(keeper_history=state.keeper_history)

    return state._replace(
        graph=state.graph._replace(keeper=known(state.graph.keeper)),
        graph_standby=state.graph_standby._replace(keeper=known(state.graph_standby.keeper)),
        transactions=tuple(each._replace(keeper=known(each.keeper)) for each in state.transactions),
    )
