"""What the graph reads of the connections of connections, for hubs against others."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from operator import attrgetter

from benchmarks.capture import Sent
from benchmarks.processes import backend_cpu_seconds
from benchmarks.rounds import Contender, in_turns
from benchmarks.row import Row, comparison
from benchmarks.sql import runs
from benchmarks.stage import Stage


def neighbours(stage: Stage) -> list[Row]:
    """What PostgreSQL does for suggestions and mutual lists of hubs, against usual viewers."""
    captured = stage.captured
    return [
        _against_usual(stage, "SuggestConnections", captured.suggestions),
        _against_usual(stage, "ListMutualConnections of two", captured.mutual),
    ]


def _against_usual(stage: Stage, name: str, sent: Mapping[int, Sent]) -> Row:
    dataset = stage.dataset
    with closing(stage.captured.graph_sessions.open()) as session:
        clocks = {"backend": partial(backend_cpu_seconds, session)}

        def calls(degree: int) -> Sequence[Callable[[], object]]:
            statements = [text for id_ in dataset.viewer_ids(degree) for text in sent[id_].graph]
            return runs(session, statements)

        results = in_turns(
            stage.effort,
            {
                "hub": Contender(calls=calls(dataset.hub), clocks=clocks),
                "usual": Contender(calls=calls(dataset.usual), clocks=clocks),
            },
        )
    return comparison(
        f"{name}, {dataset.hub:,} connections vs {dataset.usual:,}: backend time",
        results,
        ("hub", "usual"),
        attrgetter("total_cpu"),
        target=10,
    )
