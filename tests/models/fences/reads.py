"""The steps of reads: a statement, a question, and the entry that a later read is answered by."""

from tests.models.fences.rules import Rule
from tests.models.fences.state import ABSENT, Entry, Keeper, Stamp, State
from tests.models.search import Steps


class Reads:
    """Reads by the rules that are kept."""

    def __init__(self, kept: frozenset[Rule]) -> None:
        self._kept = kept

    def is_untrue(self, state: State) -> bool:
        """Whether a read of this moment is answered without a call, and not by the truth."""
        entry = state.entry
        if entry is None or entry.is_excused:
            return False
        if Rule.POSTS_BEFORE_FENCE not in self._kept:
            return entry.step == "wrong"
        return self._is_served(state, entry) and entry.version != state.graph.version

    def steps(self, state: State) -> Steps[State]:
        entry = state.entry
        if entry is None:
            yield from self._first(state)
            yield from self._statement(state, Entry("asked"))
            return
        match entry.step:
            case "filled":
                yield from self._statement(state, entry._replace(step="asked"))
            case "told":
                yield from self._joined(state, entry)
            case "shared":
                yield from self._found(state, entry)
            case "asked":
                yield from self._answer(state, entry)
                yield "read: given up", state.with_entry(None)
            case _:
                yield from self._late_posts(state, entry)
                yield "read: the entry is dropped", state.with_entry(None)

    def _first(self, state: State) -> Steps[State]:
        version = state.graph.version
        if Rule.STAMP_OF_ITS_ENTRY not in self._kept:
            yield "read: the cache is filled", state.with_entry(Entry("filled", version))
        if Rule.FENCE_BEFORE_QUESTION not in self._kept:
            told = Entry("told", version)
            yield "read: the question of an earlier read is answered", state.with_entry(told)

    def _statement(self, state: State, asked: Entry) -> Steps[State]:
        if (stamp := self._unfenced(state)) is not None:
            asked = asked._replace(stamp=stamp)
            yield "read: the statement returns a fence with nothing open", state.with_entry(asked)

    def _joined(self, state: State, told: Entry) -> Steps[State]:
        if (stamp := self._unfenced(state)) is not None:
            yield from self._stamped(state, told._replace(stamp=stamp), state.graph.keeper)

    def _answer(self, state: State, asked: Entry) -> Steps[State]:
        is_primary = Rule.ANSWER_OF_PRIMARY in self._kept
        graph = state.graph if is_primary else state.graph_standby
        # Only without a rule there is a version already, by an earlier answer.
        version = graph.version if asked.version == ABSENT else asked.version
        yield from self._stamped(state, asked._replace(version=version), graph.keeper)

    def _stamped(self, state: State, entry: Entry, keeper: Keeper | None) -> Steps[State]:
        if keeper is None or entry.stamp is None:
            return
        is_named = entry.stamp.keeper_history in {keeper.keeper_history, ABSENT}
        if is_named or Rule.ANSWER_NAMES_HISTORY not in self._kept:
            cached = entry._replace(step="cached")
            yield "read: the graph has answered, the entry is stamped", state.with_entry(cached)

    def _found(self, state: State, shared: Entry) -> Steps[State]:
        keeper, stamp = state.graph.keeper, shared.stamp
        is_named = keeper is not None and stamp is not None and keeper[0] == stamp.keeper_history
        if is_named or Rule.SHARED_AFTER_ANSWER not in self._kept:
            cached = shared._replace(step="cached")
            yield "read: another process takes the entry from Redis", state.with_entry(cached)
        yield "read: the entry is dropped", state.with_entry(None)

    def _late_posts(self, state: State, entry: Entry) -> Steps[State]:
        if Rule.POSTS_BEFORE_FENCE in self._kept:
            return
        if self._is_served(state, entry):
            fenced = entry._replace(step="fenced")
            yield "read: the fence is that of the entry", state.with_entry(fenced)
        if entry.step == "fenced" and entry.version != state.graph.version:
            yield "read: the posts are read", state.with_entry(entry._replace(step="wrong"))

    def _is_served(self, state: State, entry: Entry) -> bool:
        return entry.step == "cached" and self._unfenced(state) == entry.stamp

    def _unfenced(self, state: State) -> Stamp | None:
        """What a statement of this moment returns, if nothing is open for the viewer."""
        fence = state.fence if Rule.FENCE_OF_PRIMARY in self._kept else state.fence_standby
        if fence.open and Rule.NOTHING_OPEN in self._kept:
            return None
        is_fresh = Rule.HISTORY_OF_STATEMENT in self._kept
        history = state.keeper_history if is_fresh else state.session_history
        return Stamp(
            keeper_history=history if Rule.HISTORY_IN_STAMP in self._kept else ABSENT,
            generation=fence.generation,
        )
