"""To everything that a user does, a blocker answers like a person who only declines.

In each random life two users make the same calls, each to a peer of their own. One peer blocks and
unblocks; the other removes the connection and declines instead. All answers must be equal.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.message import Message

from kith.graph.v1 import graph_pb2 as pb
from tests.support.errors import decoded
from tests.support.examples import seeds
from tests.support.pair import Pair
from tests.support.people import People

_STEPS = 40
# Half of the changes are requests: most of what a block could show needs one.
_TIME = re.compile(r"(?<=_time )\{[^}]*\}")
_CHANGES = (
    *("RequestConnection",) * 6,
    "AcceptConnection",
    "DeclineConnection",
    "CancelConnectionRequest",
    "RemoveConnection",
    "BlockUser",
    "UnblockUser",
)
_READS: Mapping[str, Callable[[int], Mapping[str, Any]]] = {
    "CheckConnections": lambda peer: {"peer_ids": [peer]},
    "GetConnection": lambda peer: {"peer_id": peer},
    "ListConnections": lambda _: {},
    "ListConnectionRequests": lambda _: {"direction": pb.REQUEST_DIRECTION_OUTGOING},
    "ListBlockedUsers": lambda _: {},
    "ListMutualConnections": lambda peer: {"peer_id": peer},
    "CountConnections": lambda peer: {"user_ids": [peer]},
    "SuggestConnections": lambda _: {},
}


class _Side:
    """A user and their peer, and what the user is answered, without names and moments."""

    def __init__(self, pair: Pair, user_id: int, peer_id: int) -> None:
        self._graph: Any = pair.graph
        self.user_id, self.peer_id = user_id, peer_id
        self._revisions: dict[int, int] = {}

    def ask(self, method: str, fields: Mapping[str, Any]) -> str:
        """Make a call of the user's."""
        request = getattr(pb, f"{method}Request")(user_id=self.user_id, **fields)
        try:
            return self._plain(getattr(self._graph, method)(request))
        except grpc.RpcError as error:
            refused = decoded(error)
            told = f"{refused.reason_name} {refused} {refused.metadata}"
            return told.replace(str(self.peer_id), "peer")

    def _plain(self, answer: Message) -> str:
        told = str(answer)
        if (revision := getattr(answer, "user_revision", None)) is not None:
            number = self._revisions.setdefault(revision, len(self._revisions))
            told = told.replace(f"user_revision: {revision}", f"user_revision: {number}")
        return _TIME.sub("", told).replace(str(self.peer_id), "peer")


def _calls(random: Random) -> Iterator[tuple[str, Callable[[int], Mapping[str, Any]]]]:
    """Yield calls without end: changes, repeats of them, and reads."""
    kept: list[tuple[str, Callable[[int], Mapping[str, Any]]]] = []
    while True:
        kind = random.random()
        if kind < 0.4:
            request_id = str(UUID(int=random.getrandbits(128), version=4))
            kept.append((random.choice(_CHANGES), _change(request_id)))
            yield kept[-1]
        elif kind < 0.5 and kept:
            yield random.choice(kept)
        else:
            yield random.choice(list(_READS.items()))


def _change(request_id: str) -> Callable[[int], Mapping[str, Any]]:
    return lambda peer: {"peer_id": peer, "request_id": request_id}


@pytest.mark.parametrize("life", seeds(*range(5)))
def test_a_user_is_answered_the_same_of_a_blocker_and_of_one_who_declines(
    pair: Pair, people: People, life: int
) -> None:
    random = Random(life)
    blocked, declined = sides = [_Side(pair, *people.new(2)) for _ in range(2)]
    if random.random() < 0.5:
        for side in sides:
            people.connect(side.user_id, side.peer_id)
    blocks = False
    calls = _calls(random)
    done = []

    for _ in range(_STEPS):
        if random.random() < 0.2:
            change = people.unblock if blocks else people.block
            blocks = not blocks
            change(blocked.peer_id, blocked.user_id)
            people.remove(declined.peer_id, declined.user_id)
            pair.graph.DeclineConnection(
                pb.DeclineConnectionRequest(user_id=declined.peer_id, peer_id=declined.user_id)
            )
            done.append("the peer blocks" if blocks else "the peer unblocks")
        method, fields = next(calls)
        done.append(method)
        answers = [side.ask(method, fields(side.peer_id)) for side in sides]
        assert answers[0] == answers[1], done
