"""The long proof, for a moment: it finds nothing, and it finds what is wrong."""

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing

import pytest
import sqlalchemy
from google.protobuf.timestamp_pb2 import Timestamp

from feed_service.auditor.facts import Facts
from feed_service.auditor.items import Item
from feed_service.auditor.primaries import Primary
from feed_service.auditor.rule import Clause, Ruling, is_muted, ruling
from kith.environment import Environment
from kith.feed.v1 import feed_pb2 as pb
from shared.database.settings import DatabaseSettings
from tests.proof import sweeps, walks
from tests.proof.changes import Changes
from tests.proof.compared import Compared
from tests.proof.digests import Digests
from tests.proof.founding import Size, found
from tests.proof.history import History
from tests.proof.sweeps import Sweeps
from tests.proof.tally import Done, Tally
from tests.proof.walks import Meanwhile, Walk, Walks
from tests.proof.worlds import Alike, Expected, World, Worlds
from tests.support.auditing import auditing, viewer_of_everything
from tests.support.engines import engine_to
from tests.support.mutants import MUTANTS, Mutant
from tests.support.pair import Pair
from tests.support.people import People

pytestmark = pytest.mark.usefixtures("single_node")

_EVERYBODY = 9
_FACTS = Facts(
    viewer_id=1,
    taken_at=0,
    position="",
    suspensions=0,
    are_suspensions_known=True,
    relations={},
    erased={},
    posts={},
    comments={},
    mutes={},
    own_tags="",
)
_MUTANTS_OF_FEEDS = (
    Mutant(
        name="private posts are in feeds",
        service="feed",
        pattern=r"p\.audience (= 'all'|IN \([^)]*\)) AND",
        replacement="",
    ),
    Mutant(
        name="pages begin with the last post of the page before",
        service="feed",
        pattern=r"\(created_at, id\) < \(",
        replacement="(created_at, id) <= (",
    ),
)

_MUTANTS_OF_LISTS = (
    Mutant(
        name="lesser posts of a great week are chosen",
        service="feed",
        pattern=r"AND NOT \(highest >= [\d.]+ AND importance <= [\d.]+\)",
        replacement="",
    ),
    Mutant(
        name="the least posts of a day are chosen",
        service="feed",
        pattern=r"author_id, day ORDER BY importance DESC",
        replacement="author_id, day ORDER BY importance",
    ),
    Mutant(
        name="frozen digests keep what became hidden",
        service="feed",
        pattern=r"p\.id = item\.post_id AND",
        replacement="p.id = item.post_id OR p.author_id = item.author_id"
        " AND p.id = item.post_id AND",
    ),
    Mutant(
        name="feeds by tags have everybody's posts",
        service="feed",
        pattern=r"NOT (\S+) OR EXISTS \(",
        replacement=r"NOT \1 OR true OR EXISTS (",
    ),
    Mutant(
        name="what was read comes again",
        service="feed",
        pattern=r"(?<![\w.])(id <> ALL \(CAST\(\S+ AS bigint\[\]\)\))",
        replacement=r"(\1 OR true)",
    ),
    Mutant(
        name="posts that were read count as unread",
        service="feed",
        pattern=r"p\.created_at > position\.read_at",
        replacement="true",
    ),
)


@pytest.fixture(scope="module")
def worlds(pair: Pair) -> Iterator[Worlds]:
    """The reads of the proof."""
    settings = DatabaseSettings.read(Environment({}), "FEED")
    graph, feed = Primary(settings, pair.graph_url), Primary(settings, pair.feed_url)
    with closing(Worlds(graph=graph, feed=feed)) as worlds:
        yield worlds


@pytest.fixture(scope="module")
def everything(pair: Pair) -> Changes:
    """A viewer about whose posts and comments each clause decides, and those who wrote them."""
    viewer = viewer_of_everything(pair)
    return Changes.of(pair, list(range(viewer, viewer + _EVERYBODY)), random.Random(1))


@pytest.fixture
def swept(pair: Pair, worlds: Worlds) -> Sweeps:
    """Sweeps that list the viewers of every post."""
    return Sweeps(pair, worlds, random.Random(1), sweeps.Plan(listed=1))


@pytest.fixture
def swept_quickly(pair: Pair, worlds: Worlds) -> Sweeps:
    """Sweeps that list no viewers, where no digest is frozen yet: not by a mutant either."""
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(sqlalchemy.text("DELETE FROM frozen_digests"))
    return Sweeps(pair, worlds, random.Random(1), sweeps.Plan(listed=0))


@pytest.fixture(scope="module")
def crowd(pair: Pair, worlds: Worlds) -> Changes:
    """A few people with many posts on a few days."""
    return found(pair, worlds, Size(people=6, posts=500, changes=60), random.Random(3))


@pytest.fixture
def walked(pair: Pair, worlds: Worlds) -> Walks:
    """Walks through a small world."""
    plan = walks.Plan(people=(4, 4), posts=(16, 16), first_changes=30, calls_each=3, branches=2)
    walked = Walks(pair, worlds, random.Random(1), plan)
    walked.begin()
    return walked


def test_a_sweep_of_everything_decides_by_each_clause_and_finds_nothing_wrong(
    swept: Sweeps, everything: Changes
) -> None:
    tally = _sum(swept.sweep(everything))

    assert not tally.wrong
    assert {name.partition(":")[0].partition(",")[0] for name in tally.kinds} >= {
        "AUTHOR", "AUDIENCE_ALL", "HAS_TAG", "NOT_CONNECTED", "PRIVATE", "EXCLUDED", "NO_TAG",
        "DELETED", "MODERATED", "MUTED", "COMMENT_DELETED", "COMMENT_MODERATED", "COMMENT_HIDDEN",
        "COMMENTER_BLOCKED",
    }  # fmt: skip
    assert set(tally.calls) == {
        "BatchGetComments", "BatchGetPosts", "CheckVisibility", "CheckVisibility of comments",
        "CountUnreadPosts", "GetDigest", "GetFeed", "GetFeed author_ids", "GetFeed tag_ids",
        "GetFeed tag_ids author_ids", "ListPosts", "ListViewers",
    }  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_sweep_finds_each_clause_that_is_wrong(
    pair: Pair, people: People, swept: Sweeps, everything: Changes, mutant: Mutant
) -> None:
    # What is cached was answered before the mutant, which is to be in no change: that would stay.
    _join(people, everything)
    with mutant.applied(pair):
        found_wrong = any(tally.wrong for tally in swept.sweep(everything))
    # What is cached was answered by the mutant.
    _join(people, everything)

    assert found_wrong
    assert not next(swept.sweep(everything)).wrong


def _join(people: People, changes: Changes) -> None:
    """Connect another person with everybody, so that nobody's connections are cached."""
    [newcomer] = people.new(1)
    people.connect(newcomer, *changes.ids)
    changes.source.ids.append(newcomer)


def test_sweeps_between_changes_find_frozen_digests_and_news_right(
    swept_quickly: Sweeps, crowd: Changes
) -> None:
    tally = _sum(_between_changes(swept_quickly, crowd, sweeps=3))

    assert not tally.wrong
    assert {"DIGEST: important", "DIGEST: left out", "FROZEN: shown"} <= set(tally.kinds)
    assert "GetFeed newer_than" in tally.calls


def test_no_digest_is_compared_that_was_frozen_while_its_right_posts_were_open(
    pair: Pair, worlds: Worlds
) -> None:
    changes = found(pair, worlds, Size(people=6, posts=300, changes=0), random.Random(4))
    digests, tally = Digests(pair.feed, random.Random()), Tally()

    def ask(world: World) -> None:
        for viewer_id in world.people:
            # Each is asked for the same digest every time.
            digests.pick = random.Random(viewer_id)
            compared = Compared(world=world, viewer_id=viewer_id)
            digests.compare(compared)
            tally.add(compared.tally)

    ask(worlds.read(changes.ids, refused_or_not=changes.ids))
    for name in changes.source.posts[::2]:
        pair.feed.DeletePost(pb.DeletePostRequest(user_id=name.author_id, post_id=name.post_id))
    ask(worlds.read(changes.ids))

    assert not tally.wrong


@pytest.mark.parametrize("mutant", _MUTANTS_OF_LISTS, ids=str)
def test_sweeps_between_changes_find_lists_that_are_wrong(
    pair: Pair, swept_quickly: Sweeps, crowd: Changes, mutant: Mutant
) -> None:
    with mutant.applied(pair):
        assert any(tally.wrong for tally in _between_changes(swept_quickly, crowd, sweeps=20))


def _between_changes(swept: Sweeps, changes: Changes, *, sweeps: int) -> Iterator[Tally]:
    for _ in range(sweeps):
        yield from swept.sweep(changes)
        changes.source.publish(1)
        changes.make(10)


def test_what_is_expected_of_a_whole_world_is_what_the_rule_says_of_each_item(
    pair: Pair, worlds: Worlds
) -> None:
    size = Size(people=6, posts=40, changes=120)
    changes = found(pair, worlds, size, random.Random(2))
    with auditing(pair) as audit:
        world = changes.world(worlds)
        for viewer_id in world.people:
            expected = (world.seen_by(viewer_id), world.comments_for(viewer_id))
            items = [item for part in expected for item in part.by_item]
            facts = audit.primaries.facts(viewer_id, items)
            shown = {item for item in items if (ruled := ruling(facts, item)) and ruled.is_visible}

            unknown = expected[0].unknown | expected[1].unknown
            assert expected[0].shown | expected[1].shown == shown - unknown
            assert world.feed_of(viewer_id).shown == {
                item
                for item in shown - unknown
                if not item.comment_id
                and (item.author_id == viewer_id or not is_muted(facts, item.author_id))
            }


def test_walks_between_and_beside_changes_find_nothing_wrong(walked: Walks) -> None:
    tally = _sum(walked.step() for _ in range(12))

    assert not tally.wrong
    assert tally.walked
    assert tally.walks.total()


@pytest.mark.parametrize("mutant", _MUTANTS_OF_FEEDS, ids=str)
def test_walks_find_pages_that_are_wrong(pair: Pair, walked: Walks, mutant: Mutant) -> None:
    with mutant.applied(pair):
        assert any(walked.step().wrong for _ in range(20))


@pytest.mark.parametrize(
    ("pages", "wrong"),
    [
        pytest.param([[4, 3], [2, 1]], "", id="right"),
        pytest.param([[4, 3], [1]], "was not shown", id="a gap"),
        pytest.param([[4, 3], [3, 2], [1]], "twice", id="a repetition"),
        pytest.param([[3, 4], [2, 1]], "out of order", id="another order"),
        pytest.param([[4, 3], [2, 1, 0]], "more than a page", id="a page that is too large"),
        pytest.param([[5, 4], [3, 2], [1]], "never in the feed", id="a hidden post"),
    ],
)
def test_a_walk_through_what_does_not_change_finds(pages: list[list[int]], wrong: str) -> None:
    found_wrong = _wrong_with(pages, [_feed([1, 2, 3, 4])] * 3)

    assert wrong in found_wrong
    assert bool(found_wrong) == bool(wrong)


def test_a_walk_may_show_what_was_in_the_feed_at_any_moment_of_its_call() -> None:
    for first in ([4, 3], [3, 2]):
        assert not _wrong_with([first, [1]], [_feed([1, 2, 3, 4], [1, 2, 3]), _feed([1, 3])])
    always = [_feed([1, 2, 3]), _feed([1, 2, 3])]
    assert "never in the feed" in _wrong_with([[4, 3], [2, 1]], always)


def test_a_walk_need_not_show_what_was_not_in_the_feed_all_the_time() -> None:
    assert not _wrong_with([[4, 3], [1]], [_feed([1, 2, 3, 4]), _feed([1, 3, 4])])


def test_a_state_may_be_in_answers_from_its_change_until_the_next_one_is_over(
    pair: Pair, people: People, worlds: Worlds
) -> None:
    changes = Changes.of(pair, people.new(2), random.Random(1))
    history = History(changes, worlds)
    before = history.now
    people_of_the_world = People(changes.source.stubs)
    people_of_the_world.connect(*changes.ids)

    [made] = changes.latest
    assert [len(world.connections) for world in history.between(made.began_at, made.began_at)] == [
        0,
        1,
    ]
    assert history.between(0, made.began_at - 1) == [before]
    history.forget()
    assert history.between(0, made.began_at) == [history.now]


def test_what_was_done_is_read_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("proof") / "done.json"
    done = Done.read(path)
    done.calls["GetFeed"] += 3
    done.pages["2 pages"] += 1
    done.wrong.append("it was shown")
    done.write(path)

    assert Done.read(path) == done


def _wrong_with(pages: Sequence[Sequence[int]], feeds: Sequence[Meanwhile]) -> str:
    walk = Walk(pb.GetFeedRequest(user_id=1, page_size=2))
    wrong = list[str]()
    for number, ids in enumerate(pages, 1):
        page = pb.GetFeedResponse(
            posts=[
                pb.Post(author_id=1, post_id=each, create_time=Timestamp(seconds=each))
                for each in ids
            ],
            next_page_token="" if number == len(pages) else "next",
        )
        wrong += walk.go_on(page, feeds[number - 1])
    return "; ".join(wrong)


def _feed(*post_ids: Collection[int]) -> Meanwhile:
    """Return a feed with some posts at one moment, and others at the next ones."""
    return Meanwhile([_moment(each) for each in post_ids])


def _moment(post_ids: Collection[int]) -> Expected:
    ruled = Ruling(is_visible=True, clause=Clause.AUTHOR)
    return Expected([Alike(items=[Item(1, each) for each in post_ids], facts=_FACTS, ruled=ruled)])


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total
