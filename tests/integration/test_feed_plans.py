"""A page of a feed or a digest reads few pages of the database, in any state of it.

The statistics of the planner are those of an almost empty database throughout, and it never sees
the numbers of connections; in the end a part of all posts has been changed and nothing vacuumed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy
from sqlalchemy import Connection, text

from feed_service import queries
from feed_service.queries.feed import FeedFilter, FeedPart
from feed_service.queries.fences import STAMP
from feed_service.settings import DigestRules, HubScan
from feed_service.viewers import Viewer
from feed_service.weeks import Week
from kith.environment import Environment
from shared.api.paging import NEWER_THAN_ALL, OLDER_THAN_ALL, ByTime
from shared.database.arrays import array_literal
from shared.database.beside import Beside
from tests.support.bounds import RAISE_BOUNDS
from tests.support.pair import Databases
from tests.support.reading import Plan, new_reader, plan_of

_AUTHORS = 6_000
_DEGREES = [10, 150, 1_000, 5_000]
_VIEWER = 1_000_000
_OF_UNNAMED_TAGS = 2_000_000
_PAGE = 21
_HUB_SCAN = HubScan(degree=500, rows=8_000)
_STREAMS_ALONE = HubScan(degree=500, rows=0)
_RULES = DigestRules.read(Environment({}))
_DEEP = FeedPart(before=ByTime(1_770_000_000_000_000, 0).key, after=OLDER_THAN_ALL.key)
# Down to here 150 connections have entries for two pages.
_GUESSED = replace(_DEEP, guess=ByTime(1_770_000_000_000_000 - 2 * 86_400_000_000, 0).key[0])
_GUESSED_TOO_FAR = replace(_DEEP, guess=OLDER_THAN_ALL.key[0])
_GUESSED_TOO_NEAR = replace(_DEEP, guess=_DEEP.before[0])
_NEWEST = FeedPart(before=NEWER_THAN_ALL.key, after=OLDER_THAN_ALL.key)

# Every third author has given the viewer a tag; every fifth sometimes excludes by it. A tenth of
# the authors, and all of the last thousand, keep everything from everybody. Another viewer has a
# tag of every author, and no post names these tags.
# In a week there are about ten thousand posts, and all importances on each of its days.
_LOAD = [
    *(
        f"ALTER TABLE {table} SET (autovacuum_enabled = off)"
        for table in ("posts", "post_audience_tags", "user_tags", "authors")
    ),
    f"""INSERT INTO tags (owner_user_id, id, name)
        SELECT a, a, 'tag' FROM generate_series(1, {_AUTHORS}) AS a""",
    f"""INSERT INTO user_tags (owner_user_id, tag_id, target_user_id, owner_revision)
        SELECT a, a, {_VIEWER} + n, 1
        FROM generate_series(3, {_AUTHORS}, 3) AS a, generate_series(0, 9) AS n""",
    f"""INSERT INTO user_tags (owner_user_id, tag_id, target_user_id, owner_revision)
        SELECT a, a + 32, {_OF_UNNAMED_TAGS}, 1 FROM generate_series(1, {_AUTHORS}) AS a""",
    """INSERT INTO posts (author_id, body, importance, audience, created_at)
        SELECT a, repeat('word ', 40), (a + n) % 10 + random(),
               CASE WHEN a % 10 = 9 OR a > 5000 THEN 'private'
                    ELSE (ARRAY['all', 'tags', 'private', 'all'])[(a / 7 + n) % 4 + 1] END,
               timestamptz '2026-01-01' + (n * 6007 + a * 4001 % 6007) * interval '1 minute'
        FROM generate_series({first}, {last}) AS a, generate_series(1, 16) AS n""",
    """INSERT INTO post_audience_tags (author_id, post_id, tag_id, created_at)
        SELECT author_id, id, author_id, created_at FROM posts
        WHERE audience = 'tags' AND author_id BETWEEN {first} AND {last}""",
    """INSERT INTO post_audience_tags (author_id, post_id, tag_id, excluded, created_at)
        SELECT author_id, id, author_id, true, created_at FROM posts
        WHERE audience = 'all' AND author_id % 5 = 0 AND id % 2 = 0
          AND author_id BETWEEN {first} AND {last}""",
]
# The map that lets an index be read alone is made by VACUUM, which leaves the statistics as they
# are.
_STEPS = [
    *(statement.format(first=1, last=3) for statement in _LOAD),
    RAISE_BOUNDS,
    "ANALYZE",
    *(statement.format(first=4, last=_AUTHORS) for statement in _LOAD[-3:]),
    RAISE_BOUNDS,
    "VACUUM posts, post_audience_tags, user_tags, authors",
]
_WEEK = Week.around(datetime(2026, 2, 11, tzinfo=UTC), ZoneInfo("Europe/Lisbon"), start_day=1)
_CHANGE_A_THIRD = "UPDATE posts SET body = 'changed', version = version + 1 WHERE id % 3 = 0"


@pytest.fixture(scope="module")
def _loaded(databases: Databases, single_node: None) -> str:  # noqa: ARG001 -- it may skip
    """The URL of a database to copy."""
    url = databases.new("feed")
    with _connected(url) as connection:
        # Foreign keys hold by the way the rows are made; to check each takes long.
        for step in ("SET session_replication_role = replica", *_STEPS):
            connection.execute(text(step))
    return url


@pytest.fixture(scope="module")
def stale(databases: Databases, _loaded: str) -> Iterator[Connection]:
    """Nearly 100,000 posts, of which the planner knows 48."""
    with _connected(databases.copy(_loaded)) as connection:
        yield connection


@pytest.fixture(scope="module")
def changed(databases: Databases, _loaded: str) -> Iterator[Connection]:
    """The same, after a third of the posts was changed."""
    with _connected(databases.copy(_loaded)) as connection:
        connection.execute(text(_CHANGE_A_THIRD))
        yield connection


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield connection


def _page_plan(
    connection: Connection,
    author_ids: range,
    *,
    viewer_id: int = _VIEWER,
    hub_scan: HubScan = _HUB_SCAN,
    part: FeedPart = _NEWEST,
    with_muted: bool = False,
    is_prepared: bool = True,
    beside: Beside | None = None,
) -> Plan:
    literal = array_literal(author_ids)
    return plan_of(
        connection,
        lambda reader: queries.feed.feed_page(
            reader,
            viewer=Viewer(user_id=viewer_id, connected_ids=literal),
            among=FeedFilter(author_ids=literal, with_muted=with_muted),
            part=part,
            limit=_PAGE,
            hub_scan=hub_scan,
        ),
        is_prepared=is_prepared,
        beside=beside,
    )


def _digest_plan(
    connection: Connection,
    author_ids: range,
    *,
    hub_scan: HubScan = _HUB_SCAN,
    is_prepared: bool = True,
) -> Plan:
    return plan_of(
        connection,
        lambda reader: queries.digests.digest_choice(
            reader,
            viewer=Viewer(user_id=_VIEWER, connected_ids=array_literal(author_ids)),
            week=_WEEK,
            read_at=None,
            rules=_RULES,
            tag_ids=[],
            include_own_posts=True,
            hub_scan=hub_scan,
        ),
        is_prepared=is_prepared,
    )


def _buffers(plan: Plan) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _bound(degree: int, *, each: int = 4) -> int:
    """Return so many buffers for each stream of the viewer, and 460 for the page itself."""
    return each * (degree + degree // 3 + 1) + 460


def _by_index_alone(plan: Plan) -> set[str]:
    return {node["Index Name"] for node in _nodes(plan) if node["Node Type"] == "Index Only Scan"}


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _rows_of(plan: Plan, index: str) -> int:
    """Return how many rows were read from an index."""
    return sum(
        node["Actual Rows"] * node["Actual Loops"]
        for node in _nodes(plan)
        if node.get("Index Name") == index
    )


def _loops_of(plan: Plan, index: str) -> int:
    """Return how often an index was looked into."""
    return sum(node["Actual Loops"] for node in _nodes(plan) if node.get("Index Name") == index)


def _shape(plan: Plan) -> list[tuple[str, str | None]]:
    """Return how a plan reads, without what it reads."""
    return [(node["Node Type"], node.get("Index Name")) for node in _nodes(plan)]


@pytest.mark.parametrize("degree", _DEGREES)
def test_the_fence_beside_a_page_costs_two_probes_and_leaves_its_plan_and_order(
    stale: Connection, degree: int
) -> None:
    authors = range(1, degree + 1)
    page = _page_plan(stale, authors)
    fence = Beside(query=STAMP, parameters={"fenced_user_id": _VIEWER})
    # The first one also reads what the session does not know of the table yet.
    _page_plan(stale, authors, beside=fence)
    fenced = _page_plan(stale, authors, beside=fence)

    assert (fenced["Node Type"], fenced["Join Type"]) == ("Nested Loop", "Left")
    of_fence, of_page = fenced["Plans"]
    assert "Limit" not in {node["Node Type"] for node in _nodes(of_fence)}
    assert of_fence["Actual Rows"] == 1
    inner = _shape(of_page)
    assert inner[-len(_shape(page)) :] == _shape(page)
    assert {kind for kind, _ in inner[: -len(_shape(page))]} <= {"Subquery Scan"}
    assert _buffers(fenced) - _buffers(page) <= 4


@pytest.mark.parametrize("degree", _DEGREES)
@pytest.mark.parametrize("hub_scan", [_STREAMS_ALONE, _HUB_SCAN])
@pytest.mark.parametrize("part", [_NEWEST, _DEEP, _GUESSED, _GUESSED_TOO_FAR, _GUESSED_TOO_NEAR])
def test_a_page_costs_a_few_buffers_for_each_connection(
    stale: Connection, degree: int, hub_scan: HubScan, part: FeedPart
) -> None:
    plan = _page_plan(stale, range(1, degree + 1), hub_scan=hub_scan, part=part)

    assert plan["Actual Rows"] == _PAGE
    assert _buffers(plan) <= _bound(degree)


@pytest.mark.parametrize("degree", _DEGREES)
def test_a_viewer_without_mutes_pays_one_probe_of_an_index_at_every_degree(
    stale: Connection, degree: int
) -> None:
    authors = range(1, degree + 1)
    # The first one also reads what the session does not know of the indexes yet.
    _page_plan(stale, authors)
    unfiltered = _buffers(_page_plan(stale, authors))

    assert unfiltered - _buffers(_page_plan(stale, authors, with_muted=True)) <= 2


@pytest.mark.parametrize("degree", _DEGREES)
@pytest.mark.parametrize("hub_scan", [_STREAMS_ALONE, _HUB_SCAN])
@pytest.mark.parametrize("part", [_NEWEST, _DEEP, _GUESSED, _GUESSED_TOO_FAR, _GUESSED_TOO_NEAR])
def test_a_burst_of_changes_without_vacuum_costs_a_look_at_the_rows_of_each_stream(
    changed: Connection, degree: int, hub_scan: HubScan, part: FeedPart
) -> None:
    plan = _page_plan(changed, range(1, degree + 1), hub_scan=hub_scan, part=part)

    assert plan["Actual Rows"] == _PAGE
    assert _buffers(plan) <= _bound(degree, each=6)


def test_a_hub_finds_its_page_among_the_newest_posts_alone(stale: Connection) -> None:
    plan = _page_plan(stale, range(1, 5_001))

    assert plan["Actual Rows"] == _PAGE
    assert _buffers(plan) <= 300
    read = {node.get("Index Name") for node in _nodes(plan) if node.get("Actual Loops")}
    assert not read & {"idx_post_open", "idx_post_audience_tag_lookup"}


def test_a_hub_that_sees_enough_of_a_sample_looks_further_before_it_reads_the_streams(
    stale: Connection,
) -> None:
    plan = _page_plan(stale, range(1, 101), hub_scan=HubScan(degree=50, rows=8_000))

    assert plan["Actual Rows"] == _PAGE
    assert _rows_of(plan, "idx_post_created_at") > 500
    assert not _loops_of(plan, "idx_post_open")


def test_a_hub_that_sees_nothing_of_a_sample_looks_at_no_more_posts_of_everybody(
    stale: Connection,
) -> None:
    plan = _page_plan(stale, range(5_001, 6_001))

    assert _rows_of(plan, "idx_post_created_at") == 500


def test_a_private_post_of_a_sample_costs_no_look_at_its_tags(stale: Connection) -> None:
    plan = _page_plan(stale, range(5_001, 6_001))

    assert not _loops_of(plan, "idx_post_exclusion")
    assert not _loops_of(plan, "idx_user_tag_lookup")


@pytest.mark.parametrize("degree", [150, 1_000, 5_000])
def test_a_page_looks_at_the_streams_of_a_few_authors_alone(stale: Connection, degree: int) -> None:
    plan = _page_plan(stale, range(1, degree + 1), hub_scan=_STREAMS_ALONE)

    assert plan["Actual Rows"] == _PAGE
    assert _loops_of(plan, "idx_post_open") <= 5 * _PAGE
    assert _loops_of(plan, "idx_post_audience_tag_lookup") <= 5 * _PAGE


@pytest.mark.parametrize("state", ["stale", "changed"])
def test_a_page_that_reaches_as_far_as_guessed_reads_the_open_posts_by_one_scan(
    request: pytest.FixtureRequest, state: str
) -> None:
    connection = request.getfixturevalue(state)
    plan, unguessed = [
        _page_plan(connection, range(1, 151), part=part) for part in (_GUESSED, _DEEP)
    ]

    assert plan["Actual Rows"] == _PAGE
    assert _loops_of(plan, "idx_post_open") == 1
    assert _loops_of(plan, "idx_post_audience_tag_lookup") <= 50
    assert _buffers(plan) <= 0.8 * _buffers(unguessed)


@pytest.mark.parametrize("part", [_DEEP, _GUESSED_TOO_FAR, _GUESSED_TOO_NEAR])
def test_without_a_good_guess_a_page_reads_the_streams_and_few_entries_for_the_guess(
    stale: Connection, part: FeedPart
) -> None:
    plan = _page_plan(stale, range(1, 151), part=part)
    [guessed] = [node for node in _nodes(plan) if node.get("Subplan Name") == "CTE guessed"]

    assert plan["Actual Rows"] == _PAGE
    assert _loops_of(plan, "idx_post_open") > 150
    assert guessed["Actual Rows"] <= 12 * _PAGE


@pytest.mark.parametrize(("part", "has_bounds"), [(_NEWEST, True), (_DEEP, False)])
def test_an_ordinary_page_has_no_steps_that_only_others_take(
    stale: Connection, part: FeedPart, *, has_bounds: bool
) -> None:
    steps = {
        node.get("Relation Name") or node.get("CTE Name")
        for node in _nodes(_page_plan(stale, range(1, 151), part=part))
    }

    assert ("authors" in steps) is has_bounds
    assert "sample" not in steps


@pytest.mark.parametrize("degree", _DEGREES)
def test_tags_that_no_post_names_cost_no_look_at_their_streams(
    stale: Connection, degree: int
) -> None:
    authors = range(1, degree + 1)
    named, unnamed = [
        _page_plan(stale, authors, viewer_id=viewer_id, hub_scan=_STREAMS_ALONE)
        for viewer_id in (_VIEWER, _OF_UNNAMED_TAGS)
    ]

    assert _loops_of(named, "idx_post_audience_tag_lookup") > 0
    assert _loops_of(unnamed, "idx_post_audience_tag_lookup") == 0


def test_a_hub_looks_at_no_stream_of_authors_who_show_nothing_to_anybody(
    stale: Connection,
) -> None:
    plan = _page_plan(stale, range(5_001, 6_001))

    assert not _loops_of(plan, "idx_post_open")
    assert not _loops_of(plan, "idx_post_audience_tag_lookup")


def test_posts_that_nobody_sees_cost_no_more_than_none(stale: Connection) -> None:
    plan = _page_plan(stale, range(5_001, 6_001), hub_scan=_STREAMS_ALONE)

    assert plan["Actual Rows"] == 0
    assert _buffers(plan) <= _bound(1_000)


@pytest.mark.parametrize("state", ["stale", "changed"])
@pytest.mark.parametrize("is_prepared", [True, False])
@pytest.mark.parametrize("degree", _DEGREES)
def test_no_table_is_ever_gone_through(
    request: pytest.FixtureRequest, state: str, degree: int, *, is_prepared: bool
) -> None:
    connection = request.getfixturevalue(state)
    authors = range(1, degree + 1)
    pages = [
        _page_plan(connection, authors, is_prepared=is_prepared, part=part)
        for part in (_NEWEST, _DEEP, _GUESSED, _GUESSED_TOO_FAR, _GUESSED_TOO_NEAR)
    ]
    digest = _digest_plan(connection, authors, is_prepared=is_prepared)

    for page in pages:
        assert _by_index_alone(page) >= {
            "idx_post_author",
            "idx_post_audience_tag_lookup",
            "idx_post_exclusion",
            "idx_post_open",
            "idx_user_tag_target",
            *(["idx_post_created_at"] if degree >= _HUB_SCAN.degree else []),
        }
    assert _by_index_alone(digest) >= {
        "idx_post_author",
        "idx_post_audience_tag_lookup",
        "idx_post_exclusion",
        "idx_post_important",
        "idx_post_open",
        "idx_user_tag_target",
    }
    for plan in (*pages, digest):
        assert not {
            node["Relation Name"] for node in _nodes(plan) if node["Node Type"] == "Seq Scan"
        } & {"posts", "post_audience_tags", "user_tags", "authors"}
        assert _buffers(plan) <= _bound(degree, each=6)


@pytest.mark.parametrize("degree", _DEGREES)
def test_a_digest_costs_a_few_buffers_for_each_connection(stale: Connection, degree: int) -> None:
    plan = _digest_plan(stale, range(1, degree + 1), hub_scan=_STREAMS_ALONE)

    assert plan["Actual Rows"] >= min(degree // 4, _RULES.max_posts)
    assert _buffers(plan) <= _bound(degree)


@pytest.mark.parametrize("state", ["stale", "changed"])
@pytest.mark.parametrize("is_prepared", [True, False])
@pytest.mark.parametrize("degree", [1_000, 5_000])
def test_the_digest_of_a_hub_is_chosen_among_the_most_important_posts_alone(
    request: pytest.FixtureRequest, state: str, degree: int, *, is_prepared: bool
) -> None:
    connection = request.getfixturevalue(state)
    plan = _digest_plan(connection, range(1, degree + 1), is_prepared=is_prepared)

    [merged] = [node for node in _nodes(plan) if node["Node Type"] == "Merge Append"]
    assert {node["Index Name"] for node in merged["Plans"]} == {"idx_post_important"}
    assert merged["Actual Rows"] <= 3_000
    assert plan["Actual Rows"] == _RULES.max_posts
    assert _buffers(plan) <= 6_000


def test_pages_of_ever_more_connections_are_full_and_in_order(stale: Connection) -> None:
    reader = new_reader(stale.engine.url.render_as_string(hide_password=False))
    for degree in _DEGREES:
        literal = array_literal(range(1, degree + 1))
        pages = [
            queries.feed.feed_page(
                reader,
                viewer=Viewer(user_id=_VIEWER, connected_ids=literal),
                among=FeedFilter(author_ids=literal),
                part=_NEWEST,
                limit=_PAGE,
                hub_scan=hub_scan,
            )
            for hub_scan in (_STREAMS_ALONE, _HUB_SCAN)
        ]
        assert pages[0] == pages[1]
        assert len(pages[0]) == _PAGE
    reader.close()
