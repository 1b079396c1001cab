"""On a loaded database every hot query uses the index that models.py says serves it."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy
from sqlalchemy import Connection, event, text

from feed_service import queries as feed
from feed_service.queries.checks import Check, Relation
from feed_service.queries.digests import FrozenName
from feed_service.queries.events import EventFilter
from feed_service.queries.feed import FeedFilter, FeedPart
from feed_service.queries.following import Ending
from feed_service.queries.moderation import ModerationState
from feed_service.settings import DigestRules, HubScan
from feed_service.viewers import Viewer
from feed_service.weeks import Week
from graph_service.queries import (
    connected_ids,
    erasure,
    events,
    lookups,
    pairs,
    suggestions,
    upkeep,
)
from kith.environment import Environment
from shared.api import idempotency
from shared.database.arrays import array_literal
from tests.support.bounds import RAISE_BOUNDS
from tests.support.pair import Databases
from tests.support.reading import plan_of

_PEOPLE = 10_000
_AUTHORS = 2_000
_END_OF_TIME = (datetime(9999, 1, 1, tzinfo=UTC), 2**63 - 1)
_BEGINNING = (datetime(1970, 1, 1, tzinfo=UTC), 0)
_START = {"before_time": _END_OF_TIME[0], "before_id": _END_OF_TIME[1]}
# It holds the last quarter of the posts.
_WEEK = Week.around(datetime(2026, 1, 2, tzinfo=UTC), ZoneInfo("UTC"), start_day=5)

_LOAD_GRAPH = [
    # A ring with chords: everybody is connected with twelve others on each side.
    f"""INSERT INTO connections (user_a_id, user_b_id, status, requested_by, created_at, updated_at)
        SELECT DISTINCT ON (1, 2) least(a, b), greatest(a, b), 'accepted', a,
               timestamptz '2026-01-01' + a * interval '1 minute',
               timestamptz '2026-01-01' + (a * 12 + n) * interval '1 second'
        FROM generate_series(1, {_PEOPLE}) AS a, generate_series(1, 12) AS n,
             LATERAL (SELECT (a + n * n * 7) % {_PEOPLE} + 1 AS b) AS other
        WHERE a <> b""",
    f"""INSERT INTO connections (user_a_id, user_b_id, status, requested_by)
        SELECT least(a, b), greatest(a, b), 'pending', a
        FROM generate_series(1, {_PEOPLE}) AS a, generate_series(1, 2) AS n,
             LATERAL (SELECT (a + 5000 + n * 13) % {_PEOPLE} + 1 AS b) AS other
        WHERE a <> b ON CONFLICT DO NOTHING""",
    f"""INSERT INTO blocks (blocker_id, blocked_id)
        SELECT a, a + {_PEOPLE} + n FROM generate_series(1, {_PEOPLE}) AS a,
             generate_series(1, 3) AS n""",
    f"INSERT INTO users SELECT a, 1, 24 FROM generate_series(1, {_PEOPLE}) AS a",
    f"""INSERT INTO connection_events (kind, actor_id, peer_id)
        SELECT 'requested', a, a % {_PEOPLE} + 1 FROM generate_series(1, {_PEOPLE}) AS a,
             generate_series(1, 5) AS n""",
    f"""INSERT INTO erased_events (seq, occurred_at)
        SELECT 1000000 + n, now() FROM generate_series(1, {_PEOPLE}) AS n""",
    """INSERT INTO endings (user_a_id, user_b_id, user_a_revision, user_b_revision)
        SELECT user_a_id, user_b_id, 1, 1 FROM connections
        WHERE status = 'accepted' AND id % 10 = 0""",
    f"""INSERT INTO declines (requester_id, decliner_id, declined_at)
        SELECT a, a % {_PEOPLE} + n, timestamptz '2026-01-01' + a * interval '1 minute'
        FROM generate_series(1, {_PEOPLE}) AS a, generate_series(2, 4) AS n""",
    f"""INSERT INTO erasures (user_id, revision)
        SELECT a + 2 * {_PEOPLE}, 1 FROM generate_series(1, {_PEOPLE}) AS a""",
    f"""INSERT INTO suspensions (user_id, suspended_at)
        SELECT a + 2 * {_PEOPLE}, timestamptz '2026-01-01' + a * interval '1 minute'
        FROM generate_series(1, {_PEOPLE}) AS a""",
    "VACUUM ANALYZE",
]

_LOAD_FEED = [
    f"""INSERT INTO tags (owner_user_id, id, name)
        SELECT a, a * 3 + n, 'tag ' || n
        FROM generate_series(1, {_PEOPLE}) AS a, generate_series(0, 2) AS n""",
    f"""INSERT INTO user_tags (owner_user_id, tag_id, target_user_id, owner_revision)
        SELECT a, a * 3 + n % 3, (a + n * n * 7) % {_PEOPLE} + 1, 1
        FROM generate_series(1, {_PEOPLE}) AS a, generate_series(1, 12) AS n
        WHERE a <> (a + n * n * 7) % {_PEOPLE} + 1 ON CONFLICT DO NOTHING""",
    f"""INSERT INTO posts (author_id, body, importance, audience, created_at)
        SELECT a, 'body', n % 10, (ARRAY['all', 'tags', 'private'])[n % 3 + 1],
               timestamptz '2026-01-01' + (n * {_AUTHORS} + a) * interval '1 second'
        FROM generate_series(1, {_AUTHORS}) AS a, generate_series(1, 60) AS n""",
    """INSERT INTO post_audience_tags (author_id, post_id, tag_id, created_at)
        SELECT author_id, id, author_id * 3 + id % 3, created_at FROM posts
        WHERE audience = 'tags'""",
    """INSERT INTO post_photos (author_id, post_id, place, object_key)
        SELECT author_id, id, place, 'photos/' || id || '/' || place
        FROM posts, generate_series(1, 2) AS place WHERE id % 3 = 0""",
    """INSERT INTO post_stats (author_id, post_id, comment_count)
        SELECT author_id, id, 2 FROM posts WHERE id % 2 = 0""",
    """INSERT INTO comments (post_author_id, post_id, author_id, body)
        SELECT author_id, id, author_id % 50 + n, 'comment'
        FROM posts, generate_series(1, 2) AS n WHERE id % 2 = 0""",
    f"""INSERT INTO read_positions (user_id, read_at, post_id)
        SELECT a, timestamptz '2026-01-01', 1 FROM generate_series(1, {_PEOPLE}) AS a""",
    f"""INSERT INTO digest_subscriptions
            (user_id, time_zone, week_start_day, due_at, claimable_at)
        SELECT a, 'UTC', 7, due_at, due_at
        FROM generate_series(1, {_PEOPLE}) AS a, LATERAL (
            SELECT timestamptz '2026-01-04' + a % 1000 * interval '7 days') AS week (due_at)""",
    f"""INSERT INTO frozen_digests (user_id, start_at, fingerprint, left_out_count)
        SELECT a, timestamptz '2026-01-02', 'arguments', 0
        FROM generate_series(1, {_AUTHORS}) AS a""",
    f"""INSERT INTO frozen_digest_items
            (user_id, start_at, fingerprint, author_id, post_id, importance, reason)
        SELECT a, timestamptz '2026-01-02', 'arguments', p.author_id, p.id, 5, 'important'
        FROM generate_series(1, {_AUTHORS}) AS a
        JOIN posts AS p ON p.author_id = a % {_AUTHORS} + 1 AND p.id % 5 = 0""",
    f"""INSERT INTO idempotency_keys (user_id, request_id, fingerprint, response, about_user_id)
        SELECT a, gen_random_uuid(), 'arguments', 'answer', a % {_AUTHORS} + 1
        FROM generate_series(1, {_PEOPLE}) AS a, generate_series(1, 3) AS n""",
    """INSERT INTO content_events (kind, author_id, post_id)
        SELECT 'post_created', author_id, id FROM posts""",
    """INSERT INTO content_events (kind, author_id, post_id, comment_id, comment_author_id)
        SELECT 'comment_created', post_author_id, post_id, id, author_id FROM comments""",
    f"""INSERT INTO photo_uploads (owner_user_id, object_key, content_type)
        SELECT a, 'photos/' || a || '/' || n, 'image/png'
        FROM generate_series(1, {_PEOPLE}) AS a, generate_series(1, 3) AS n""",
    RAISE_BOUNDS,
    "VACUUM ANALYZE",
]


@pytest.fixture(scope="module")
def loaded_graph(databases: Databases) -> Iterator[Connection]:
    """A graph of more than 100,000 connections."""
    yield from _loaded(databases.new("graph"), _LOAD_GRAPH)


@pytest.fixture(scope="module")
def loaded_feed(databases: Databases, single_node: None) -> Iterator[Connection]:  # noqa: ARG001 -- it may skip
    """120,000 posts."""
    yield from _loaded(databases.new("feed"), _LOAD_FEED)


def _loaded(url: str, statements: list[str]) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        # Foreign keys hold by the way the rows are made; to check each costs a third of the time.
        connection.execute(text("SET session_replication_role = replica"))
        for statement in statements:
            connection.execute(text(statement))
        connection.execute(text("RESET session_replication_role"))
        yield connection


class _ExplainedError(Exception):
    """Ends a query function once its plan is known."""


def _plan(connection: Connection, query: Callable[[], object]) -> dict[str, Any]:
    """Return the plan of the first statement that a function runs, but for locks of no table."""
    found: list[dict[str, Any]] = []

    def explain(
        _connection: object,
        cursor: Any,
        statement: str,
        parameters: object,
        _context: object,
        _executemany: object,
    ) -> None:
        if "pg_advisory_xact_lock" in statement:
            return
        cursor.execute("EXPLAIN (FORMAT JSON) " + statement, parameters)
        answer = cursor.fetchone()[0]
        found.append((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"])
        raise _ExplainedError

    event.listen(connection, "before_cursor_execute", explain)
    try:
        with pytest.raises(_ExplainedError):
            query()
    finally:
        event.remove(connection, "before_cursor_execute", explain)
    return found[0]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _indexes(plan: dict[str, Any]) -> set[str]:
    return {node["Index Name"] for node in _nodes(plan) if "Index Name" in node}


def _scanned_tables(plan: dict[str, Any]) -> set[str]:
    return {node["Relation Name"] for node in _nodes(plan) if node["Node Type"] == "Seq Scan"}


def _page(connection: Connection, listing: str) -> Callable[[], object]:
    return lambda: lookups.peer_page(connection, user_id=77, listing=listing, limit=21, **_START)  # type: ignore[arg-type]  # the two are what they say


def test_connected_ids_are_read_from_both_sides_indexes_alone(loaded_graph: Connection) -> None:
    plan = plan_of(
        loaded_graph,
        lambda reader: connected_ids.connected_user_ids(
            reader,
            known_revisions=dict.fromkeys(range(1, 101), 0),
            with_blocked=True,
            suspended_among=range(1, 101),
        ),
    )

    by_index_alone = {
        node["Index Name"] for node in _nodes(plan) if node["Node Type"] == "Index Only Scan"
    }
    assert by_index_alone == {
        "idx_connection_lookup",
        "idx_connection_reverse_lookup",
        "pk_endings",
        "idx_ending_reverse",
        "pk_erasures",
        "pk_suspensions",
        "pk_blocks",
        "idx_block_reverse",
    }
    assert not _scanned_tables(plan) & {
        *("connections", "endings", "blocks", "erasures", "suspensions")
    }


def test_erasures_are_looked_for_once_for_all_users_of_a_batch(loaded_graph: Connection) -> None:
    plan = plan_of(
        loaded_graph,
        lambda reader: connected_ids.connected_user_ids(
            reader, known_revisions=dict.fromkeys(range(1, 101), 0)
        ),
    )

    reads = [
        node["Actual Loops"] for node in _nodes(plan) if node.get("Relation Name") == "erasures"
    ]
    assert sum(reads) == 1


@pytest.mark.parametrize(
    ("listing", "indexes"),
    [
        (
            "connected",
            {*("idx_connection_newest_a", "idx_connection_newest_b"), "pk_users", "pk_suspensions"},
        ),
        ("incoming", {"idx_connection_incoming", "pk_suspensions"}),
        ("outgoing", {"idx_connection_outgoing", "pk_suspensions"}),
        ("blocked", {"idx_block_newest"}),
    ],
)
def test_a_page_of_peers_is_read_in_the_order_of_its_index(
    loaded_graph: Connection, listing: str, indexes: set[str]
) -> None:
    plan = _plan(loaded_graph, _page(loaded_graph, listing))

    assert _indexes(plan) == indexes


def test_mutual_connections_are_read_from_both_sides_indexes(loaded_graph: Connection) -> None:
    plan = _plan(
        loaded_graph,
        lambda: lookups.mutual_user_ids(loaded_graph, user_id=77, peer_id=78, after_id=0, limit=51),
    )

    assert {"idx_connection_lookup", "idx_connection_reverse_lookup"} <= _indexes(plan)
    assert not _scanned_tables(plan)


def test_suggestions_are_read_from_both_sides_indexes(loaded_graph: Connection) -> None:
    plan = _plan(loaded_graph, lambda: suggestions.suggestions(loaded_graph, user_id=77, limit=20))

    assert {"idx_connection_lookup", "idx_connection_reverse_lookup"} <= _indexes(plan)
    # Whether so few users are scanned or looked up depends on which of them ANALYZE has sampled.
    assert _scanned_tables(plan) <= {"users"}


def test_events_are_read_in_the_order_of_their_numbers(loaded_graph: Connection) -> None:
    plan = plan_of(
        loaded_graph,
        lambda reader: events.event_page(reader, after=20_000, until=45_000, limit=1_000),
    )

    assert [node["Node Type"] for node in _nodes(plan)] == ["Limit", "Index Scan"]
    assert _indexes(plan) == {"pk_connection_events"}


@pytest.mark.parametrize(
    "change", ["a request", "an erasure", "the end of old declines", "the end of old events"]
)
def test_a_change_reads_no_table_from_end_to_end(loaded_graph: Connection, change: str) -> None:
    loaded_graph.execute(text("BEGIN"))
    if change == "a request":
        looked_at = pairs.LookedAt(open_requests=1_000, pause=timedelta(days=7))
        pairs.lock_pair(loaded_graph, user_id=77, peer_id=5_000, looked_at=looked_at)
    elif change == "an erasure":
        erasure.erase_user(loaded_graph, user_id=5_000)
    elif change == "the end of old events":
        assert upkeep.purge_events(loaded_graph, age=timedelta(0), limit=500) == 500
    else:
        assert upkeep.purge_declines(loaded_graph, age=timedelta(days=7), limit=500) == 500
    # Keepers of fences are few, and all of them are told.
    read = loaded_graph.execute(
        text("""SELECT relname FROM pg_stat_xact_user_tables
                WHERE seq_scan > 0 AND relname <> 'fence_keepers'""")
    )
    tables = list(read.scalars())
    loaded_graph.execute(text("ROLLBACK"))

    assert tables == []


def test_states_of_pairs_are_read_by_the_unique_pair(loaded_graph: Connection) -> None:
    plan = _plan(
        loaded_graph,
        lambda: lookups.peers_at_revision(loaded_graph, user_id=77, peer_ids=[78, 79]),
    )

    assert "uq_connections_user_a_id_user_b_id" in _indexes(plan)
    assert not _scanned_tables(plan)


def test_a_feed_page_is_read_stream_by_stream(loaded_feed: Connection) -> None:
    connected = "{" + ",".join(str(number) for number in range(100, 125)) + "}"
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.feed.feed_page(
            reader,
            viewer=Viewer(user_id=77, connected_ids=connected),
            among=FeedFilter(author_ids=connected),
            part=FeedPart(before=_END_OF_TIME, after=_BEGINNING),
            limit=21,
            hub_scan=HubScan(degree=500, rows=8_000),
        ),
    )

    by_index_alone = {
        node["Index Name"] for node in _nodes(plan) if node["Node Type"] == "Index Only Scan"
    }
    assert by_index_alone >= {
        "idx_post_open",
        "idx_post_author",
        "idx_post_audience_tag_lookup",
        "idx_post_exclusion",
        "idx_user_tag_target",
    }
    assert "idx_tag_muted" in _indexes(plan)
    assert not _scanned_tables(plan)


def test_the_posts_of_a_week_are_read_stream_by_stream(loaded_feed: Connection) -> None:
    connected = "{" + ",".join(str(number) for number in range(100, 125)) + "}"
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.digests.digest_choice(
            reader,
            viewer=Viewer(user_id=77, connected_ids=connected),
            week=_WEEK,
            read_at=None,
            rules=DigestRules.read(Environment({})),
            tag_ids=[],
            include_own_posts=True,
            hub_scan=HubScan(degree=500, rows=8_000),
        ),
    )

    conditions = {
        node["Index Name"]: node["Index Cond"]
        for node in _nodes(plan)
        if node["Node Type"] == "Index Only Scan"
    }
    for index in ("idx_post_open", "idx_post_audience_tag_lookup"):
        assert "author_id =" in conditions[index]
        assert "created_at >=" in conditions[index]
        assert "created_at <" in conditions[index]
    assert {
        "idx_post_author",
        "idx_post_exclusion",
        "idx_post_important",
        "idx_user_tag_target",
    } <= set(conditions)
    assert "idx_tag_muted" in _indexes(plan)
    assert not _scanned_tables(plan)


def test_a_frozen_digest_is_read_by_its_name(loaded_feed: Connection) -> None:
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.digests.frozen_choice(
            reader,
            viewer=Viewer(user_id=77, connected_ids="{78}"),
            name=FrozenName(viewer_id=77, week=_WEEK, fingerprint=b"arguments"),
            with_muted=False,
        ),
    )

    assert {"pk_frozen_digests", "pk_frozen_digest_items", "idx_tag_muted"} <= _indexes(plan)
    assert not _scanned_tables(plan)


def test_the_digests_that_are_due_are_found_without_reading_the_others(
    loaded_feed: Connection,
) -> None:
    plan = _plan(loaded_feed, lambda: feed.digest_subscriptions.due_digests(loaded_feed, limit=100))

    assert _indexes(plan) == {"idx_digest_subscription_claimable_at"}
    assert not [node for node in _nodes(plan) if "Sort" in node["Node Type"]]


def test_a_single_post_is_read_by_its_name(loaded_feed: Connection) -> None:
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.posts.visible_posts(
            reader,
            viewer=Viewer(user_id=77, connected_ids="{100}"),
            names=[(100, 100), (100, 2_100)],
        ),
    )

    assert _indexes(plan) & {"pk_posts", "idx_post_author"}
    assert not _scanned_tables(plan)


_MANY = range(1, 1_001)
_CHECKED = {
    # By a thousand people, of whom the first twelve are connected with the author.
    "one post": [Check(viewer_id=viewer, author_id=100, post_id=100) for viewer in _MANY],
    "posts of many": [
        Check(viewer_id=77, author_id=author, post_id=author * 3 % 120_000) for author in _MANY
    ],
    "comments": [
        Check(viewer_id=77, author_id=number * 2, post_id=number * 2, comment_id=number)
        for number in _MANY
    ],
}


@pytest.mark.parametrize("what", _CHECKED)
def test_checks_of_many_pairs_look_at_each_post_and_its_tags_by_their_names(
    loaded_feed: Connection, what: str
) -> None:
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.checks.visible_checks(
            reader,
            asked=dict.fromkeys(_CHECKED[what], Relation(is_connected=True, author_ending=0)),
            blocks={77: array_literal(range(1_000, 6_000))} if what == "comments" else {},
        ),
    )

    used = _indexes(plan)
    assert used & {"pk_posts", "idx_post_author"}
    assert used & {"idx_post_exclusion", "pk_post_audience_tags"}
    assert used & {"idx_user_tag_lookup", "pk_user_tags"}
    assert used & {"pk_comments", "idx_comment_post"}
    assert not _scanned_tables(plan)


def test_the_viewers_of_a_post_are_found_by_the_tags_of_each_connection(
    loaded_feed: Connection,
) -> None:
    plan = _plan(
        loaded_feed,
        lambda: feed.audiences.viewers(
            loaded_feed,
            author=Viewer(user_id=100, connected_ids=array_literal(range(101, 5_101))),
            post_id=100,
            after_id=0,
            limit=1_001,
            most_counted=10_000,
        ),
    )

    used = _indexes(plan)
    assert used & {"pk_posts", "idx_post_author"}
    assert used & {"idx_post_exclusion", "pk_post_audience_tags"}
    assert used & {"idx_user_tag_lookup", "pk_user_tags"}
    assert not _scanned_tables(plan)


def test_more_viewers_than_are_counted_are_all_listed(loaded_feed: Connection) -> None:
    [post_id] = loaded_feed.execute(
        text("SELECT min(id) FROM posts WHERE author_id = 100 AND audience = 'all'")
    ).scalars()

    def page(after_id: int) -> tuple[int, list[int]]:
        return feed.audiences.viewers(
            loaded_feed,
            author=Viewer(user_id=100, connected_ids=array_literal(range(101, 351))),
            post_id=post_id,
            after_id=after_id,
            limit=150,
            most_counted=200,
        )

    assert page(0) == (200, list(range(100, 250)))
    assert page(249) == (200, list(range(250, 351)))


@pytest.mark.parametrize("with_former", [False, True])
def test_members_of_a_tag_are_found_by_an_index(
    loaded_feed: Connection, *, with_former: bool
) -> None:
    plan = _plan(
        loaded_feed,
        lambda: feed.tags.member_page(
            loaded_feed,
            owner=Viewer(user_id=77, connected_ids="{85,106,141}"),
            tag_id=231,
            with_former=with_former,
            after_id=0,
            limit=51,
        ),
    )

    # Of an owner with few connections it is looked at each of them.
    others = set() if with_former else {"idx_user_tag_target"}
    assert _indexes(plan) & {"pk_user_tags", *others}
    assert not _scanned_tables(plan)


def test_the_tags_of_a_person_are_read_by_owner_and_person(loaded_feed: Connection) -> None:
    plan = _plan(
        loaded_feed,
        lambda: feed.tags.tags_of_user(
            loaded_feed, owner=Viewer(user_id=77, connected_ids="{85}"), target_user_id=85
        ),
    )

    assert _indexes(plan) & {"idx_user_tag_lookup", "idx_user_tag_target"}
    assert not _scanned_tables(plan)


def test_whether_somebody_may_comment_is_found_by_the_post_and_their_tags(
    loaded_feed: Connection,
) -> None:
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.comments.openness(
            reader,
            viewer=Viewer(user_id=77, connected_ids="{100}", blocked_ids="{}"),
            post=(100, 100),
            parent_id=100,
        ),
    )

    assert _indexes(plan) & {"idx_user_tag_lookup", "pk_user_tags"}
    assert _indexes(plan) & {"pk_comments", "idx_comment_reply"}
    assert not _scanned_tables(plan)


_READER = Viewer(
    user_id=77, connected_ids="{100,102}", blocked_ids=array_literal(range(1_000, 6_000))
)


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    ("parent_id", "index"), [(0, "idx_comment_post"), (9, "idx_comment_reply")]
)
def test_comments_are_read_in_the_order_of_their_index_either_way(
    loaded_feed: Connection,
    parent_id: int,
    index: str,
    newest_first: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.comments.comment_page(
            reader,
            viewer=_READER,
            post=(100, 100),
            parent_id=parent_id,
            newest_first=newest_first,
            beyond=_END_OF_TIME if newest_first else _BEGINNING,
            limit=51,
        ),
    )

    [page, *_] = [node for node in _nodes(plan) if node["Node Type"] == "Limit"]
    [read] = page["Plans"]
    assert read["Index Name"] == index
    assert "Sort" not in {node["Node Type"] for node in _nodes(read)}
    assert _indexes(plan) >= {"idx_comment_reply"}
    assert not _scanned_tables(plan)


@pytest.mark.parametrize("authors", [[100], [100, 102]])
def test_comments_are_read_by_their_names(loaded_feed: Connection, authors: list[int]) -> None:
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.comments.visible_comments(
            reader,
            viewer=_READER,
            names=[(author, author, number) for author in authors for number in range(1, 50)],
        ),
    )

    assert _indexes(plan) >= {"idx_comment_reply"}
    assert not _scanned_tables(plan)


def test_ones_own_comments_are_read_by_author_in_the_order_of_their_ids(
    loaded_feed: Connection,
) -> None:
    plan = _plan(
        loaded_feed,
        lambda: feed.comments.own_comments(loaded_feed, user_id=30, before_id=2**63 - 1, limit=51),
    )

    assert _indexes(plan) == {"idx_comment_author"}
    assert "Sort" not in {node["Node Type"] for node in _nodes(plan)}


def test_the_replies_to_a_deleted_comment_are_found_by_it(loaded_feed: Connection) -> None:
    plan = _plan(
        loaded_feed,
        lambda: feed.comments.delete_comment(loaded_feed, name=(100, 100, 100)),
    )

    assert _indexes(plan) >= {"idx_comment_reply"}
    assert not _scanned_tables(plan)


@pytest.mark.parametrize("state", [None, ModerationState.HIDDEN, ModerationState.HELD])
def test_what_is_moderated_is_listed_by_its_own_indexes(
    loaded_feed: Connection, state: ModerationState | None
) -> None:
    plan = _plan(
        loaded_feed,
        lambda: feed.moderation.moderated_page(
            loaded_feed, state=state, before=(*_END_OF_TIME, 0), limit=51
        ),
    )

    assert _indexes(plan) <= {
        "idx_post_moderated",
        "idx_post_held",
        "idx_comment_moderated",
        "idx_comment_held",
    }
    assert not _scanned_tables(plan)


def test_comments_are_inspected_in_the_order_of_their_ids(loaded_feed: Connection) -> None:
    plan = _plan(
        loaded_feed,
        lambda: feed.moderation.inspected_comments(
            loaded_feed, post=(100, 100), after_id=0, limit=51, retained_for=timedelta(days=30)
        ),
    )

    assert _indexes(plan) == {"pk_comments"}


def test_unread_posts_are_counted_author_by_author(loaded_feed: Connection) -> None:
    connected = "{" + ",".join(str(number) for number in range(100, 125)) + "}"
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.read_positions.unread_count(
            reader, viewer=Viewer(user_id=77, connected_ids=connected), limit=1_001
        ),
    )

    [conditions] = [
        node["Index Cond"] for node in _nodes(plan) if node.get("Index Name") == "idx_post_author"
    ]
    assert "author_id = author.id" in conditions
    assert "(created_at >" in conditions
    assert "idx_tag_muted" in _indexes(plan)
    assert not _scanned_tables(plan)
    assert not [node for node in _nodes(plan) if "Sort" in node["Node Type"]]


def test_the_tags_that_end_with_connections_are_found_by_owner_and_person(
    loaded_feed: Connection,
) -> None:
    endings = [
        Ending(owner_user_id=owner, target_user_id=owner + 8, owner_revision=9)
        for owner in range(1, 1_001)
    ]
    plan = _plan(loaded_feed, lambda: feed.following.end_tags(loaded_feed, endings=endings))

    assert _indexes(plan) & {"idx_user_tag_lookup", "idx_user_tag_target"}
    assert not _scanned_tables(plan)


def test_everybody_of_whom_something_is_stored_is_found_without_reading_all_of_it(
    loaded_feed: Connection,
) -> None:
    plan = _plan(loaded_feed, lambda: feed.following.user_ids(loaded_feed, after_id=0, limit=100))

    assert {"idx_user_tag_target", "pk_tags"} <= _indexes(plan)
    assert not _scanned_tables(plan) & {"posts", "tags", "user_tags"}


def test_an_export_is_read_by_the_indexes_of_its_sections(loaded_feed: Connection) -> None:
    pages: list[tuple[Callable[[], object], set[str]]] = [
        (
            lambda: feed.exports.exported_tagged(
                loaded_feed, owner=Viewer(user_id=30), after=(0, 0), limit=500
            ),
            {"pk_user_tags"},
        ),
        (
            lambda: feed.exports.exported_posts(
                loaded_feed, author_id=30, after=_BEGINNING, limit=500
            ),
            # An author's sixty posts are as well sorted as read in their order.
            {"idx_post_author", "pk_posts"},
        ),
        (
            lambda: feed.exports.exported_comments(loaded_feed, user_id=30, after_id=0, limit=500),
            {"idx_comment_author"},
        ),
    ]
    for page, indexes in pages:
        plan = _plan(loaded_feed, page)

        assert _indexes(plan) & indexes
        assert not _scanned_tables(plan)


_ERASED = {
    "hide_posts": {"pk_posts", "idx_post_author"},
    "withhold_posts": {"idx_post_restorable"},
    "untag_kept_posts": {"idx_post_kept", "idx_post_deleted_at"},
    "hide_comments": {"idx_comment_author"},
    "erase_comments": {"idx_comment_author", "idx_comment_deleted_at"},
    "erase_tags_given_to": {"idx_user_tag_target"},
    "erase_comments_under": {"pk_comments", "idx_comment_post"},
    "erase_posts": {"pk_posts", "idx_post_deleted_at"},
    "erase_from_digests": {"idx_frozen_digest_item_author"},
    "erase_tagged": {"pk_user_tags", "idx_user_tag_lookup"},
    "erase_tags": {"pk_tags", "uq_tag_name"},
    "erase_digests": {"pk_frozen_digests"},
    "erase_read_position": {"pk_read_positions"},
    "erase_subscription": {"pk_digest_subscriptions"},
}


@pytest.mark.parametrize("step", list(_ERASED))
def test_what_is_erased_of_a_user_is_found_by_an_index(loaded_feed: Connection, step: str) -> None:
    plan = _plan(
        loaded_feed, lambda: getattr(feed.erasure, step)(loaded_feed, user_id=30, limit=500)
    )

    assert _indexes(plan) & _ERASED[step]
    assert not _scanned_tables(plan)


@pytest.mark.parametrize(
    ("step", "index"),
    [
        (feed.events.erase_events_of_author, "pk_content_events"),
        (feed.events.erase_events_of_comments, "idx_content_event_comment_author"),
    ],
)
def test_what_was_told_of_a_user_is_found_by_an_index(
    loaded_feed: Connection, step: Callable[..., int], index: str
) -> None:
    plan = _plan(loaded_feed, lambda: step(loaded_feed, user_id=30, limit=500))

    assert index in _indexes(plan)
    assert not _scanned_tables(plan)


@pytest.mark.parametrize("wanted", [EventFilter(), EventFilter(user_ids=[30])])
def test_changes_of_posts_are_read_in_the_order_of_their_numbers(
    loaded_feed: Connection, wanted: EventFilter
) -> None:
    plan = plan_of(
        loaded_feed,
        lambda reader: feed.events.event_page(reader, wanted=wanted, after=20_000, until=90_000),
    )

    assert _indexes(plan) == {"idx_content_event_seq"}
    assert not _scanned_tables(plan)


def test_kept_answers_are_found_by_whose_they_are_whom_they_name_and_their_age(
    loaded_feed: Connection,
) -> None:
    steps: list[tuple[Callable[[], object], str]] = [
        (
            lambda: idempotency.forget_of(loaded_feed, user_id=30, limit=500),
            "pk_idempotency_keys",
        ),
        (
            lambda: idempotency.forget_about(loaded_feed, user_id=30, limit=500),
            "idx_idempotency_key_about_user",
        ),
        (
            lambda: idempotency.purge(loaded_feed, limit=500),
            "idx_idempotency_key_created_at",
        ),
    ]
    for step, index in steps:
        plan = _plan(loaded_feed, step)

        assert index in _indexes(plan)
        assert not _scanned_tables(plan)


def test_the_uploads_of_a_user_are_found_by_their_key(loaded_feed: Connection) -> None:
    plan = _plan(
        loaded_feed,
        lambda: feed.erasure.erase_uploads(
            loaded_feed, user_id=30, valid_for=timedelta(minutes=10), limit=500
        ),
    )

    assert "pk_photo_uploads" in _indexes(plan)
    assert not _scanned_tables(plan)
