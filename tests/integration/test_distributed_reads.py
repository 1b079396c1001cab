"""The reads of a distributed database: how many statements, and what they keep to meanwhile.

What they find, the oracles compare. Their SQL is no other where one PostgreSQL has it all.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy
from sqlalchemy import Connection, text

from feed_service import queries
from feed_service.layouts import DISTRIBUTED
from feed_service.queries.citus.feed import FeedPages
from feed_service.queries.digests import Choice, FrozenName
from feed_service.queries.feed import FeedFilter, FeedPart
from feed_service.queries.posts import PostRow
from feed_service.settings import DigestRules, HubScan
from feed_service.viewers import Viewer
from feed_service.weeks import Week
from kith.environment import Environment
from kith.exceptions import AbortedError
from shared.database.arrays import array_literal
from shared.database.reader import Reader, Rows, Statement
from shared.database.session import statements_in_call
from tests.support.pair import Databases, tapped
from tests.support.reading import new_database, new_reader

_VIEWER = 1_000_000
_AUTHORS = range(1, 61)
_QUIET = range(101, 161)
_LIMIT = 21
_MANY = HubScan(degree=40, rows=8_000)
_NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
_NEWEST = FeedPart(
    before=(datetime(9999, 1, 1, tzinfo=UTC), 0), after=(datetime(1970, 1, 1, tzinfo=UTC), 0)
)
_WEEK = Week.around(_NOON, ZoneInfo("UTC"), start_day=1)

# Each author posts every hour, in a minute of their own; the quiet ones did so a year ago, and what
# one in two of them wrote was hidden from all.
_LOAD = f"""
    INSERT INTO posts (author_id, body, importance, audience, created_at)
    SELECT author, 'post', 2 + number % 8,
           CASE WHEN author > 100 AND author % 2 = 0 THEN 'private' ELSE 'all' END,
           CAST('{_NOON}' AS timestamptz) - number * interval '1 hour'
               - author * interval '1 minute'
               - CASE WHEN author > 100 THEN interval '1 year' ELSE interval '0' END
    FROM generate_series({{first}}, {{last}}) AS author, generate_series(1, 20) AS number
"""


@pytest.fixture(scope="module")
def url(databases: Databases) -> str:
    return databases.new("feed")


@pytest.fixture(scope="module")
def database(url: str) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        for people in (_AUTHORS, _QUIET):
            connection.execute(text(_LOAD.format(first=people[0], last=people[-1])))
        connection.execute(
            text("INSERT INTO authors SELECT DISTINCT author_id FROM posts ON CONFLICT DO NOTHING")
        )
        yield connection


@pytest.fixture
def reader(url: str, database: Connection) -> Iterator["_Interrupted"]:  # noqa: ARG001 -- has the posts
    reader = new_reader(url)
    yield _Interrupted(reader)
    reader.close()


class _Interrupted(Reader):
    """Reads, and lets something happen behind statements of some name."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.behind: dict[str, Callable[[], object]] = {}

    def rows(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        rows = self._reader.rows(statement, parameters)
        self.behind.get(statement.name, lambda: None)()
        return rows


def _page(
    pages: FeedPages,
    reader: Reader,
    authors: Sequence[int],
    *,
    part: FeedPart = _NEWEST,
    hub_scan: HubScan = _MANY,
) -> list[PostRow]:
    literal = array_literal(authors)
    return pages.page(
        reader,
        viewer=Viewer(user_id=_VIEWER, connected_ids=literal),
        among=FeedFilter(author_ids=literal, with_muted=True),
        part=part,
        limit=_LIMIT,
        hub_scan=hub_scan,
    )


def _counted(read: Callable[[], object]) -> int:
    token = statements_in_call.set([0])
    try:
        read()
        return (statements_in_call.get() or [0])[0]
    finally:
        statements_in_call.reset(token)


def test_a_page_of_few_authors_is_one_statement(reader: Reader) -> None:
    assert _counted(lambda: _page(FeedPages(), reader, _AUTHORS[:39])) == 1


def test_a_page_without_those_whom_the_viewer_has_muted_is_one_statement_more(
    reader: Reader, database: Connection
) -> None:
    viewer, muted = _AUTHORS[1], _AUTHORS[2]
    database.execute(
        text(f"""
            INSERT INTO tags (owner_user_id, name, muted_until)
            VALUES ({viewer}, 'loud', 'infinity')""")
    )
    database.execute(
        text(f"""
            INSERT INTO user_tags (owner_user_id, tag_id, target_user_id, owner_revision)
            SELECT owner_user_id, id, {muted}, 1 FROM tags WHERE owner_user_id = {viewer}""")
    )

    def read() -> list[PostRow]:
        literal = array_literal(_AUTHORS[2:6])
        return FeedPages().page(
            reader,
            viewer=Viewer(user_id=viewer, connected_ids=literal),
            among=FeedFilter(author_ids=literal, with_own=False),
            part=_NEWEST,
            limit=_LIMIT,
            hub_scan=_MANY,
        )

    assert _counted(read) == 2
    assert {post.author_id for post in read()} == set(_AUTHORS[3:6])


def test_pages_of_many_are_one_statement_each_once_one_of_them_was_read(reader: Reader) -> None:
    pages = FeedPages()
    first = _page(pages, reader, _AUTHORS)
    behind = FeedPart(before=(first[-1].created_at, first[-1].id), after=_NEWEST.after)

    assert _counted(lambda: _page(pages, reader, _AUTHORS)) == 1
    assert _counted(lambda: _page(pages, reader, _AUTHORS, part=behind)) == 1


def test_a_hub_is_shown_the_same_whether_or_not_others_have_posted(reader: Reader) -> None:
    pages, hub = FeedPages(), [*_AUTHORS, *range(10_000, 13_000)]

    assert _page(pages, reader, hub) == _page(FeedPages(), reader, _AUTHORS)
    assert _counted(lambda: _page(pages, reader, hub)) == 1


def test_own_posts_are_shown_with_their_tags_for_one_statement_more(
    reader: Reader, database: Connection
) -> None:
    viewer, part = _AUTHORS[0], _NEWEST
    database.execute(text("INSERT INTO tags (owner_user_id, name) VALUES (1, 'friends')"))
    database.execute(
        text("""
            INSERT INTO post_audience_tags (author_id, post_id, tag_id, excluded, created_at)
            SELECT p.author_id, p.id, tag.id, true, p.created_at
            FROM posts AS p JOIN tags AS tag ON tag.owner_user_id = p.author_id
            WHERE p.author_id = 1""")
    )

    def read() -> list[PostRow]:
        return FeedPages().page(
            reader,
            viewer=Viewer(user_id=viewer, connected_ids="{2}"),
            among=FeedFilter(author_ids="{2}", with_muted=True),
            part=part,
            limit=_LIMIT,
            hub_scan=_MANY,
        )

    assert _counted(read) == 2
    assert {(post.author_id, len(post.excluded_tag_ids)) for post in read()} == {(1, 1), (2, 0)}


def test_a_page_whose_authors_have_not_posted_for_long_is_full_after_three(
    reader: Reader,
) -> None:
    pages = FeedPages()
    _page(pages, reader, _AUTHORS)

    assert _counted(lambda: _page(pages, reader, _QUIET)) == 3
    assert len(_page(pages, reader, _QUIET)) == _LIMIT


def test_a_feed_that_shows_nothing_ends_after_three(reader: Reader) -> None:
    pages, silent = FeedPages(), [author for author in _QUIET if author % 2 == 0] * 2
    _page(pages, reader, _AUTHORS)

    assert _counted(lambda: _page(pages, reader, silent)) <= 3
    assert _page(pages, reader, silent) == []


def test_a_page_is_full_although_a_post_of_it_is_deleted_while_it_is_read(
    reader: _Interrupted, database: Connection
) -> None:
    pages, by_heads = FeedPages(), HubScan(degree=0, rows=0)
    [newest, *_] = _page(pages, reader, _AUTHORS, hub_scan=by_heads)

    def delete() -> None:
        reader.behind.clear()
        _set_deleted(database, newest, at="now()")

    reader.behind["feed_heads"] = delete
    page = _page(pages, reader, _AUTHORS, hub_scan=by_heads)
    _set_deleted(database, newest, at="NULL")

    assert len(page) == _LIMIT
    assert newest.id not in [post.id for post in page]


def test_a_page_whose_posts_keep_being_deleted_is_to_be_asked_for_again(
    reader: _Interrupted, database: Connection
) -> None:
    pages, by_heads, deleted = FeedPages(), HubScan(degree=0, rows=0), list[PostRow]()

    def delete_another() -> None:
        reader.behind.clear()
        [newest, *_] = _page(pages, reader, _AUTHORS, hub_scan=by_heads)
        _set_deleted(database, newest, at="now()")
        deleted.append(newest)
        reader.behind["feed_heads"] = delete_another

    reader.behind["feed_heads"] = delete_another
    with pytest.raises(AbortedError):
        _page(pages, reader, _AUTHORS, hub_scan=by_heads)
    for post in deleted:
        _set_deleted(database, post, at="NULL")


def _set_deleted(database: Connection, post: PostRow, *, at: str) -> None:
    database.execute(
        text(f"UPDATE posts SET deleted_at = {at} WHERE author_id = :author_id AND id = :id"),
        {"author_id": post.author_id, "id": post.id},
    )


def test_a_digest_is_chosen_in_three_statements_and_read_again_in_two(
    url: str, reader: Reader
) -> None:
    viewer = Viewer(user_id=_VIEWER, connected_ids=array_literal(_AUTHORS))
    name = FrozenName(viewer_id=_VIEWER, week=_WEEK, fingerprint=b"read again")

    assert _counted(lambda: _choice(reader, viewer)) == 3
    chosen = _choice(reader, viewer)
    with_database = new_database(url)
    assert with_database.read(
        lambda connection: DISTRIBUTED.freeze(connection, name=name, choice=chosen)
    )
    with_database.close()

    def read_again() -> Choice | None:
        return DISTRIBUTED.frozen_choice(reader, viewer=viewer, name=name, with_muted=False)

    assert _counted(read_again) == 2
    frozen = read_again()
    assert frozen is not None
    assert (frozen.posts, frozen.left_out_count) == (chosen.posts, chosen.left_out_count)


def test_an_erasure_waits_for_a_digest_that_is_being_frozen_and_leaves_nothing_in_it(
    url: str, reader: Reader, database: Connection
) -> None:
    erased = 90
    database.execute(text(_LOAD.format(first=erased, last=erased)))
    database.execute(
        text("INSERT INTO authors VALUES (:id) ON CONFLICT DO NOTHING"), {"id": erased}
    )
    viewer = Viewer(user_id=_VIEWER, connected_ids=array_literal([erased]))
    name = FrozenName(viewer_id=_VIEWER, week=_WEEK, fingerprint=b"while erasing")
    chosen = _choice(reader, viewer)
    with_database = new_database(url)
    steps = (
        queries.erasure.hide_posts,
        queries.erasure.erase_posts,
        queries.erasure.erase_from_digests,
    )

    def erase() -> None:
        for step in steps:
            with_database.write(lambda connection: step(connection, user_id=erased, limit=500))  # noqa: B023 -- called at once

    erasing = threading.Thread(target=erase)
    with tapped(url) as (tap, through):

        def begin_to_erase(statement: str) -> None:
            if "INSERT INTO frozen_digest_items" in statement:
                erasing.start()
                erasing.join(timeout=0.3)
                assert erasing.is_alive()

        tap.before_statement = begin_to_erase
        tapped_database = new_database(through)
        tapped_database.read(
            lambda connection: DISTRIBUTED.freeze(connection, name=name, choice=chosen)
        )
        erasing.join()
        tapped_database.close()
    with_database.close()

    assert chosen.posts
    assert not database.execute(
        text("SELECT FROM frozen_digest_items WHERE author_id = :id"), {"id": erased}
    ).all()
    frozen = DISTRIBUTED.frozen_choice(reader, viewer=viewer, name=name, with_muted=False)
    assert frozen is not None
    assert frozen.posts == []


def _choice(reader: Reader, viewer: Viewer) -> Choice:
    return DISTRIBUTED.digest_choice(
        reader,
        viewer=viewer,
        week=_WEEK,
        read_at=None,
        rules=DigestRules.read(Environment({})),
        tag_ids=(),
        include_own_posts=False,
        hub_scan=_MANY,
    )


def test_what_is_unread_is_counted_up_to_the_limit(
    url: str, database: Connection, reader: Reader
) -> None:
    viewer = Viewer(user_id=_VIEWER, connected_ids=array_literal(_AUTHORS))
    with_database = new_database(url)

    def unread(limit: int) -> int:
        return DISTRIBUTED.unread_count(reader, viewer=viewer, limit=limit)

    assert [unread(7), unread(5_000)] == [7, 20 * len(_AUTHORS)]
    read_at = _NOON - timedelta(hours=2)
    with_database.write(
        lambda connection: queries.read_positions.move_forward(
            connection, user_id=_VIEWER, read_at=read_at
        )
    )
    assert unread(5_000) == len(_AUTHORS) - 1
    with_database.close()
    database.execute(text("DELETE FROM read_positions WHERE user_id = :id"), {"id": _VIEWER})
