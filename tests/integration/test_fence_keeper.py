"""The keeper of fences: what it commits, and what its fences say."""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import grpc
import pytest
import sqlalchemy
from google.protobuf.message import Message

from kith.graph.v1 import fence_keeper_pb2 as pb
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from tests.support.engines import engine_to
from tests.support.errors import fields_of
from tests.support.pair import Databases, Pair, running_fenced_pair
from tests.support.pauses import CLOSES_FENCES
from tests.support.scrape import scrape

_numbers = count(10_000_001)
# Of what is refused. Ids of tests are the same in every process that runs some of them.
_ID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def own(databases: Databases) -> Iterator[tuple[Pair, FenceKeeperServiceStub]]:
    with running_fenced_pair(databases, {"FENCE_KEEPERS": ""}) as running:
        yield running


@pytest.fixture
def keeper(own: tuple[Pair, FenceKeeperServiceStub]) -> FenceKeeperServiceStub:
    return own[1]


@pytest.fixture
def url(own: tuple[Pair, FenceKeeperServiceStub]) -> str:
    return own[0].feed_url


def _opening(
    *user_ids: int,
    change_id: str | None = None,
    everybody: bool = False,
    transaction: str = "123",
    history: str = "history",
) -> pb.OpenFencesRequest:
    return pb.OpenFencesRequest(
        change_id=str(uuid.uuid4()) if change_id is None else change_id,
        user_ids=user_ids,
        everybody=everybody,
        transaction=transaction,
        graph_history=history,
    )


def _close(keeper: FenceKeeperServiceStub, *opened: pb.OpenFencesRequest) -> None:
    keeper.CloseFences(pb.CloseFencesRequest(change_ids=[each.change_id for each in opened]))


def _fence(url: str, user_id: int) -> tuple[str, Sequence[str]]:
    """Return the generation of a user and the changes that are open."""
    with engine_to(url).connect() as connection:
        row = connection.execute(
            sqlalchemy.text(
                "SELECT CAST(generation AS text), CAST(open AS text[]) FROM fences"
                " WHERE user_id = :id"
            ),
            {"id": user_id},
        ).one()
    return str(row[0]), list(row[1])


def _listed(keeper: FenceKeeperServiceStub) -> list[pb.ListOpenFencesResponse.OpenFence]:
    return list(keeper.ListOpenFences(pb.ListOpenFencesRequest()).open_fences)


def test_the_keeper_has_the_same_name_in_every_answer(keeper: FenceKeeperServiceStub) -> None:
    # The first of a history may give it another name.
    opened = keeper.OpenFences(_opening(next(_numbers))).keeper
    named = keeper.Identify(pb.IdentifyRequest()).keeper
    again = keeper.OpenFences(_opening(next(_numbers))).keeper

    assert opened == named == again
    assert str(uuid.UUID(named.keeper_id)) == named.keeper_id
    assert named.history


def test_each_change_gives_its_users_new_generations_and_is_open_until_it_is_closed(
    keeper: FenceKeeperServiceStub, url: str
) -> None:
    alice, bob = next(_numbers), next(_numbers)
    first, second = _opening(alice, bob), _opening(bob)
    keeper.OpenFences(first)
    generation, opened = _fence(url, bob)
    keeper.OpenFences(second)

    assert opened == [first.change_id]
    assert _fence(url, bob)[1] == [first.change_id, second.change_id]
    assert _fence(url, bob)[0] not in (generation, _fence(url, alice)[0])

    newest = _fence(url, bob)[0]
    _close(keeper, first)
    assert _fence(url, bob) == (newest, [second.change_id])
    assert _fence(url, alice)[1] == []

    _close(keeper, second, first)
    assert _fence(url, bob) == (newest, [])


def test_a_change_of_everybody_opens_the_fence_of_user_0(
    keeper: FenceKeeperServiceStub, url: str
) -> None:
    opening = _opening(everybody=True)
    before = _fence(url, 0)
    keeper.OpenFences(opening)

    assert _fence(url, 0)[1] == [opening.change_id]
    _close(keeper, opening)
    assert _fence(url, 0)[1] == []
    assert _fence(url, 0)[0] != before[0]


def test_a_change_that_is_open_stays_as_it_is_when_it_is_opened_again(
    keeper: FenceKeeperServiceStub, url: str
) -> None:
    alice = next(_numbers)
    opening = _opening(alice)
    keeper.OpenFences(opening)
    before = _fence(url, alice)

    keeper.OpenFences(opening)

    assert _fence(url, alice) == before


def test_another_history_of_the_graph_is_told_by_another_history_of_the_keeper(
    keeper: FenceKeeperServiceStub, url: str
) -> None:
    user = next(_numbers)
    openings = [
        *(_opening(user, history="first") for _ in range(2)),
        *(_opening(user, history="second") for _ in range(2)),
        _opening(user, history="first"),
        _opening(everybody=True, history="second"),
    ]
    before = _fence(url, 0)[0]

    names = [keeper.OpenFences(opening).keeper for opening in openings]

    first, same, second, same_second, first_again, second_again = (each.history for each in names)
    assert len({first, second, first_again, second_again}) == 4
    assert (same, same_second) == (first, second)
    assert keeper.Identify(pb.IdentifyRequest()).keeper == names[-1]
    assert keeper.ListOpenFences(pb.ListOpenFencesRequest()).keeper == names[-1]
    assert len({each.keeper_id for each in names}) == 1
    assert _fence(url, 0)[0] != before
    _close(keeper, *openings)
    assert _fence(url, user)[1] == _fence(url, 0)[1] == []


def test_the_first_history_that_tells_a_keeper_leaves_it_its_name(
    keeper: FenceKeeperServiceStub, url: str
) -> None:
    """Processes of the version before, which know of no claims, give the same name until then."""
    with engine_to(url).connect() as connection:
        # As after the migration.
        connection.execute(sqlalchemy.text("UPDATE fences SET claim = NULL, claimed_by = NULL"))
    before = keeper.Identify(pb.IdentifyRequest()).keeper
    openings = [_opening(next(_numbers), history=history) for history in ("one", "one", "two")]

    first, again, second = (keeper.OpenFences(opening).keeper for opening in openings)

    assert first == again == before
    assert second != before
    _close(keeper, *openings)


def test_a_change_that_is_opened_again_after_another_claim_is_told_of_its_own(
    keeper: FenceKeeperServiceStub,
) -> None:
    """Else its graph would take the claim of the other graph for its own."""
    first, second = (_opening(everybody=True, history=history) for history in ("one", "two"))
    keeper.OpenFences(first)
    second_name = keeper.OpenFences(second).keeper

    again = keeper.OpenFences(first).keeper

    assert again != second_name
    assert keeper.Identify(pb.IdentifyRequest()).keeper == again
    _close(keeper, first, second)


def test_histories_that_claim_the_fences_at_once_are_never_told_the_same(
    keeper: FenceKeeperServiceStub,
) -> None:
    def opened(history: str) -> tuple[str, str]:
        opening = _opening(next(_numbers), history=history)
        name = keeper.OpenFences(opening).keeper
        _close(keeper, opening)
        return name.history, history

    with ThreadPoolExecutor(4) as threads:
        told = set(threads.map(opened, ["one", "two", "one", "three"] * 20))

    assert len({name for name, _ in told}) == len(told)


def test_a_claim_by_another_history_is_counted_and_logged_once(
    own: tuple[Pair, FenceKeeperServiceStub],
    keeper: FenceKeeperServiceStub,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper.OpenFences(_opening(next(_numbers), history="one"))
    before = _claims(own[0])
    openings = [_opening(next(_numbers), history="two") for _ in range(2)]
    caplog.clear()

    for opening in openings:
        keeper.OpenFences(opening)

    assert _claims(own[0]) == before + 1
    assert caplog.messages.count("another graph has claimed the fences") == 1
    _close(keeper, *openings)


def _claims(pair: Pair) -> float:
    return scrape(pair.feed_server).value("fence_claims_total")


def test_changes_that_are_not_open_are_closed_without_an_effect(
    keeper: FenceKeeperServiceStub, url: str
) -> None:
    alice = next(_numbers)
    opened, never_opened = _opening(alice), _opening(alice)
    keeper.OpenFences(opened)

    _close(keeper, never_opened)

    assert _fence(url, alice)[1] == [opened.change_id]


def test_open_changes_are_listed_with_their_transactions(keeper: FenceKeeperServiceStub) -> None:
    openings = [_opening(next(_numbers)) for _ in range(3)]
    for opening in openings:
        keeper.OpenFences(opening)

    listed = {each.change_id: each for each in _listed(keeper)}
    for opening in openings:
        found = listed[opening.change_id]
        assert (found.transaction, found.graph_history) == ("123", "history")
    assert list(listed) == sorted(listed)

    _close(keeper, *openings)
    assert not {each.change_id for each in openings} & {each.change_id for each in _listed(keeper)}


def test_a_page_of_open_changes_begins_behind_the_last_one(keeper: FenceKeeperServiceStub) -> None:
    openings = [_opening(next(_numbers)) for _ in range(2)]
    for opening in openings:
        keeper.OpenFences(opening)
    first, *_ = _listed(keeper)

    request = pb.ListOpenFencesRequest(after_change_id=first.change_id)
    assert first not in keeper.ListOpenFences(request).open_fences
    _close(keeper, *openings)


def test_changes_of_the_same_users_at_once_are_all_open_and_then_all_closed(
    keeper: FenceKeeperServiceStub, url: str
) -> None:
    users = [next(_numbers) for _ in range(5)]
    openings = [_opening(*users) for _ in range(40)]

    def open_and_close(opening: pb.OpenFencesRequest) -> list[str]:
        keeper.OpenFences(opening)
        seen = [user_id for user_id in users if opening.change_id in _fence(url, user_id)[1]]
        _close(keeper, opening)
        assert seen == users
        return list(_fence(url, users[0])[1])

    with ThreadPoolExecutor(8) as threads:
        after = list(threads.map(open_and_close, openings))

    for opening, still_open in zip(openings, after, strict=True):
        assert opening.change_id not in still_open
    assert [_fence(url, user_id)[1] for user_id in users] == [[]] * 5


def test_most_users_of_one_change_are_fenced_in_one_statement(
    keeper: FenceKeeperServiceStub, own: tuple[Pair, FenceKeeperServiceStub]
) -> None:
    users = [next(_numbers) for _ in range(1_000)]
    opening = _opening(*users)
    keeper.Identify(pb.IdentifyRequest())
    pair = own[0]
    pair.feed_tap.reset()

    keeper.OpenFences(opening)
    sent = [text for text in pair.feed_tap.statements if "open_fences" in text]

    assert len(sent) == 1
    assert _fence(pair.feed_url, users[-1])[1] == [opening.change_id]
    _close(keeper, opening)


def test_fences_of_many_users_are_closed_some_at_a_time(
    keeper: FenceKeeperServiceStub, own: tuple[Pair, FenceKeeperServiceStub]
) -> None:
    """A call that is too short for all of them closes some, and the calls after it the rest."""
    pair = own[0]
    first = next(_numbers)
    openings = [_opening(*range(first, first + 1_000)) for _ in range(11)]
    for opening in openings:
        keeper.OpenFences(opening)
    ids = {opening.change_id for opening in openings}
    left = list[int]()

    def count_left() -> int:
        return len(ids.intersection(fence.change_id for fence in _listed(keeper)))

    def look(statement: str) -> None:
        if CLOSES_FENCES in statement:
            left.append(count_left())

    pair.feed_tap.before_statement = look
    _close(keeper, *openings)
    pair.feed_tap.before_statement = lambda _statement: None

    assert [*left, count_left()] == [11, 1, 0]
    assert _fence(pair.feed_url, first)[1] == []


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (_opening(1, change_id=""), "change_id"),
        (_opening(1, change_id="no uuid"), "change_id"),
        (_opening(change_id=_ID), "user_ids"),
        (_opening(2, 1, change_id=_ID), "user_ids"),
        (_opening(1, change_id=_ID, transaction=""), "transaction"),
        (_opening(1, change_id=_ID, transaction="-1"), "transaction"),
        (_opening(1, change_id=_ID, transaction="\u0661"), "transaction"),
        (_opening(1, change_id=_ID, transaction=str(2**64)), "transaction"),
        (_opening(1, change_id=_ID, transaction="0" * 21), "transaction"),
        (_opening(1, change_id=_ID, history=""), "graph_history"),
        (_opening(1, change_id=_ID, history="h" * 101), "graph_history"),
        (pb.CloseFencesRequest(), "change_ids"),
        (pb.CloseFencesRequest(change_ids=[""]), "change_ids[0]"),
        (pb.ListOpenFencesRequest(after_change_id="x"), "after_change_id"),
    ],
    ids=str,
)
def test_what_cannot_be_a_change_is_refused_by_its_field(
    keeper: FenceKeeperServiceStub, request_: Message, field: str
) -> None:
    call: Any = {
        pb.OpenFencesRequest: keeper.OpenFences,
        pb.CloseFencesRequest: keeper.CloseFences,
        pb.ListOpenFencesRequest: keeper.ListOpenFences,
    }[type(request_)]

    with pytest.raises(grpc.RpcError) as raised:
        call(request_)

    assert fields_of(raised) == [field]
