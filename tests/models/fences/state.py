"""What the machine's state consists of, and how states that differ in numbers alone become one.

Numbers are only ever compared for equality, so each state is renamed to the smallest numbers. That
leaves finitely many states, and the search covers any number of changes, registrations, failovers
and restores. What is bounded is how many transactions and open fences there are at once.
"""

from typing import Final, Literal, NamedTuple, TypeAlias

NEW: Final = -1
"""A number that nothing else has, until the state is renamed."""
ABSENT: Final = -2
"""No number, such as the generation of a user without a fence."""

TransactionStep: TypeAlias = Literal[
    "locked", "looked", "decided", "opened", "committing", "committed"
]
EntryStep: TypeAlias = Literal["filled", "told", "asked", "cached", "shared", "fenced", "wrong"]


class Keeper(NamedTuple):
    """A row of the graph's fence_keepers: the histories of both databases when it was stored."""

    keeper_history: int
    graph_history: int


class Graph(NamedTuple):
    """What the graph's database stores: which connections the viewer has, and who keeps fences."""

    version: int
    keeper: Keeper | None


class OpenFence(NamedTuple):
    """A change that has opened its fence, and the history of the graph in which it is made."""

    change: int
    graph_history: int


class Fence(NamedTuple):
    """What the keeper's database stores: the fence of the viewer and that of everybody, as one.

    A read compares both, so it is the same whether one of them changes or the other. `claimed_by`
    is the history of the graph that has the claim.
    """

    generation: int
    open: tuple[OpenFence, ...]
    claimed_by: int


class Copy(NamedTuple):
    """A copy of the graph: its history, and the keeper's in which it has registered the keeper."""

    graph_history: int
    keeper_history: int = ABSENT


class Stamp(NamedTuple):
    """What an entry of the cache is compared by."""

    keeper_history: int
    generation: int


class Transaction(NamedTuple):
    """A transaction in the graph's database, with the process that makes it."""

    kind: Literal["change", "old change", "registration", "retirement"]
    step: TransactionStep
    change: int = ABSENT
    keeper: Keeper | None = None

    @property
    def is_exclusive(self) -> bool:
        return self.kind in {"registration", "retirement"}


class Entry(NamedTuple):
    """What one read knows: from its statement on it has asked, from the answer on it is cached.

    It is shared if its process is gone, and it is in Redis.
    The version is that of the connections. `is_excused` says that the graph has lost them in a
    failover, and that neither a change nor a registration has been committed since.
    """

    step: EntryStep
    version: int = ABSENT
    stamp: Stamp | None = None
    is_excused: bool = False


class State(NamedTuple):
    """Both databases with a standby each, what is under way in them, and one entry.

    `is_applied` says that the graph's processes have applied their setting in this history. The
    histories of the session and of the reaper are those of the moment when their sessions were
    opened. `late_close` is a change that is to be closed by a message which is still under way.
    The history of the keeper has the claim in it, and `former_history` is that of the claim before.
    """

    graph: Graph
    graph_standby: Graph
    graph_history: int
    fence: Fence
    fence_standby: Fence
    keeper_history: int
    transactions: tuple[Transaction, ...] = ()
    entry: Entry | None = None
    is_applied: bool = True
    session_history: int = 0
    reaper_history: int = 0
    late_close: int = ABSENT
    copy: Copy | None = None
    former_history: int = ABSENT

    @property
    def is_locked(self) -> bool:
        """Whether lock K is exclusive."""
        return any(each.is_exclusive for each in self.transactions)

    def having(self, transaction: Transaction) -> "State":
        return self._replace(transactions=(*self.transactions, transaction))

    def without(self, transaction: Transaction) -> "State":
        transactions = list(self.transactions)
        transactions.remove(transaction)
        return self._replace(transactions=tuple(transactions))

    def with_entry(self, entry: Entry | None) -> "State":
        return self._replace(entry=entry)

    def excused_no_more(self) -> "State":
        return self.with_entry(self.entry and self.entry._replace(is_excused=False))


def first_state(*, is_copied: bool) -> State:
    """Return the state in which a keeper is registered and nothing has happened yet."""
    graph = Graph(version=0, keeper=Keeper(keeper_history=0, graph_history=0))
    fence = Fence(generation=ABSENT, open=(), claimed_by=0)
    return State(
        graph=graph,
        graph_standby=graph,
        graph_history=0,
        fence=fence,
        fence_standby=fence,
        keeper_history=0,
        copy=Copy(graph_history=1) if is_copied else None,
    )


class _Names:
    """The smallest numbers, in the order in which others are first met."""

    def __init__(self) -> None:
        self._names: dict[int, int] = {ABSENT: ABSENT}

    def __call__(self, number: int) -> int:
        return self._names.setdefault(number, len(self._names) - 1)


def renamed(state: State) -> State:
    """Return the state in which equal numbers are equal still, and as small as possible."""
    version, generation, change, keeper, graph = (_Names() for _ in range(5))

    def row(of: Keeper | None) -> Keeper | None:
        return of and Keeper(keeper(of.keeper_history), graph(of.graph_history))

    def fence(of: Fence) -> Fence:
        opened = tuple(OpenFence(change(each), graph(history)) for each, history in of.open)
        return Fence(generation(of.generation), opened, graph(of.claimed_by))

    def stamp(of: Stamp | None) -> Stamp | None:
        return of and Stamp(keeper(of.keeper_history), generation(of.generation))

    entry = state.entry
    return State(
        graph_history=graph(state.graph_history),
        keeper_history=keeper(state.keeper_history),
        graph=Graph(version(state.graph.version), row(state.graph.keeper)),
        graph_standby=Graph(version(state.graph_standby.version), row(state.graph_standby.keeper)),
        fence=fence(state.fence),
        fence_standby=fence(state.fence_standby),
        entry=entry
        and Entry(entry.step, version(entry.version), stamp(entry.stamp), entry.is_excused),
        transactions=tuple(
            sorted(
                (
                    Transaction(each.kind, each.step, change(each.change), row(each.keeper))
                    for each in state.transactions
                ),
                key=lambda each: (*each[:3], each.keeper or ()),
            )
        ),
        is_applied=state.is_applied,
        session_history=keeper(state.session_history),
        reaper_history=graph(state.reaper_history),
        late_close=change(state.late_close),
        copy=state.copy
        and Copy(graph(state.copy.graph_history), keeper(state.copy.keeper_history)),
        former_history=keeper(state.former_history),
    )
