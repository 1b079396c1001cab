"""The bounds of how new an author's posts are, and the tags that they name: never too low.

Whatever makes a post visible. A bound that is too low, or a tag that is missing, hides posts from
feeds; one too high, or a tag too many, costs a look at an index.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import pytest
import sqlalchemy
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import Connection, text

from feed_service import queries
from kith.feed.v1 import feed_pb2 as pb
from shared.database import schema
from tests.support.bounds import posts_left_out
from tests.support.locks import is_waited_for
from tests.support.pair import Databases, Pair
from tests.support.people import ALL, PRIVATE, People, tagged
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("single_node")

_LONG_AGO: Final = datetime(2019, 2, 28, 23, 59, 59, 999999, tzinfo=UTC)
_FORGET: Final = """
    UPDATE authors SET open_until = '-infinity', tagged_until = '-infinity'
    WHERE author_id = :author_id"""
_LOWER: Final = "UPDATE authors SET open_until = '2001-01-01' WHERE author_id = :author_id"
_RAISE: Final = """
    UPDATE authors SET open_until = 'infinity', tagged_until = 'infinity', named_tags = -1
    WHERE author_id = :author_id"""
_FORGET_TAGS: Final = "UPDATE authors SET named_tags = 0 WHERE author_id = :author_id"
_POST: Final = """
    INSERT INTO posts (author_id, body, audience, importance) VALUES (:author_id, 'hi', 'all', 5)"""
_TAG: Final = """
    INSERT INTO tags (owner_user_id, id, name)
    OVERRIDING SYSTEM VALUE VALUES (:author_id, :author_id + 200, 'friends')"""
_POST_FOR_TAG: Final = """
    WITH post AS (
        INSERT INTO posts (author_id, body, audience, importance)
        VALUES (:author_id, 'hi', 'tags', 5) RETURNING author_id, id, created_at)
    INSERT INTO post_audience_tags (author_id, post_id, tag_id, created_at)
    SELECT author_id, id, author_id + 200, created_at FROM post"""
# As imports of the version before do, which know nothing of named tags.
_RAISE_AS_BEFORE: Final = """
    INSERT INTO authors (author_id, open_until, tagged_until)
    VALUES (:author_id, 'infinity', 'infinity')"""


@pytest.fixture
def feed(pair: Pair) -> Iterator[Connection]:
    """Return a connection with the database of the feed, outside of transactions."""
    with _connected(pair.feed_url) as connection:
        yield connection


def _connected(url: str) -> Connection:
    return sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    ).connect()


def _change(feed: Connection, statement: str, author_id: int) -> None:
    feed.execute(text(statement), {"author_id": author_id})


class _Author:
    """Somebody who publishes posts in all ways there are, and has never had one in a feed."""

    def __init__(self, pair: Pair, people: People, feed: Connection, audience: str) -> None:
        self._pair, self._people, self._feed = pair, people, feed
        self.id, self.friend = people.connected(2)
        tag = people.tag(self.id, "friends", self.friend)
        self.audience = {"all": ALL, "tags": tagged(tag)}[audience]

    def create(self) -> int:
        return self._people.post(self.id, self.audience)

    def show_to_more(self) -> int:
        tag = self._people.tag(self.id, "nobody")
        post_id = self._people.post(self.id, tagged(tag))
        self._set_audience(post_id)
        return post_id

    def show_to_others(self) -> int:
        post_id = self._people.post(self.id, PRIVATE)
        self._set_audience(post_id)
        return post_id

    def undelete(self) -> int:
        post_id = self.create()
        self._pair.feed.DeletePost(pb.DeletePostRequest(user_id=self.id, post_id=post_id))
        _change(self._feed, _FORGET, self.id)
        self._pair.feed.UndeletePost(pb.UndeletePostRequest(user_id=self.id, post_id=post_id))
        return post_id

    def moderate(self) -> int:
        post_id = self.create()
        self._set_state(post_id, pb.MODERATION_STATE_HIDDEN)
        _change(self._feed, _FORGET, self.id)
        self._set_state(post_id, pb.MODERATION_STATE_VISIBLE)
        return post_id

    def change_while_hidden(self) -> int:
        post_id = self._people.post(self.id, PRIVATE)
        self._set_state(post_id, pb.MODERATION_STATE_HIDDEN)
        self._set_audience(post_id)
        self._set_state(post_id, pb.MODERATION_STATE_VISIBLE)
        return post_id

    def import_from_long_ago(self) -> int:
        return self._import(is_moderated=False)

    def import_hidden(self) -> int:
        post_id = self._import(is_moderated=True)
        self._set_state(post_id, pb.MODERATION_STATE_VISIBLE)
        return post_id

    def come_back_after_suspension(self) -> int:
        post_id = self.create()
        self._people.suspend(self.id)
        self._people.restore(self.id)
        return post_id

    def _set_audience(self, post_id: int) -> None:
        post = pb.Post(post_id=post_id, audience=self.audience)
        mask = FieldMask(paths=["audience"])
        self._pair.feed.UpdatePost(
            pb.UpdatePostRequest(user_id=self.id, post=post, update_mask=mask)
        )

    def _set_state(self, post_id: int, state: pb.ModerationState.ValueType) -> None:
        name = pb.PostName(author_id=self.id, post_id=post_id)
        reason = "rude" if state == pb.MODERATION_STATE_HIDDEN else ""
        self._pair.feed.SetModeration(
            pb.SetModerationRequest(post=name, state=state, reason=reason)
        )

    def _import(self, *, is_moderated: bool) -> int:
        post = pb.ImportPostsRequest.ImportedPost(
            author_id=self.id,
            external_id="one",
            body="from elsewhere",
            audience=self.audience,
            moderated=is_moderated,
        )
        post.create_time.FromDatetime(_LONG_AGO)
        self._pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=[post])]))
        own = pb.ListPostsRequest(user_id=self.id, author_id=self.id)
        return self._pair.feed.ListPosts(own).posts[0].post_id


_Way: TypeAlias = Callable[[_Author], int]


@pytest.mark.parametrize("audience", ["all", "tags"])
@pytest.mark.parametrize(
    "way",
    [
        _Author.create,
        _Author.show_to_more,
        _Author.show_to_others,
        _Author.undelete,
        _Author.moderate,
        _Author.change_while_hidden,
        _Author.import_from_long_ago,
        _Author.import_hidden,
        _Author.come_back_after_suspension,
    ],
)
def test_a_post_is_in_feeds_in_whatever_way_it_became_visible(
    pair: Pair, people: People, feed: Connection, way: _Way, audience: str
) -> None:
    author = _Author(pair, people, feed, audience)

    post_id = way(author)

    assert people.feed(author.friend) == [post_id]
    assert posts_left_out(pair.feed_url) == []


def test_a_page_lacks_the_post_of_an_author_whose_bound_is_too_low(
    people: People, feed: Connection
) -> None:
    reader, *authors = people.connected(4)
    *_, before, last = [people.post(author) for author in authors]
    assert people.feed(reader, page_size=1) == [last]

    _change(feed, _LOWER, authors[-1])

    assert people.feed(reader, page_size=1) == [before]
    _change(feed, _RAISE, authors[-1])
    assert people.feed(reader, page_size=1) == [last]


def test_a_page_lacks_the_post_of_an_author_whose_tags_are_forgotten(
    people: People, feed: Connection
) -> None:
    reader, author = people.connected(2)
    post = people.post(author, tagged(people.tag(author, "friends", reader)))
    assert people.feed(reader) == [post]

    _change(feed, _FORGET_TAGS, author)

    assert people.feed(reader) == []
    _change(feed, _RAISE, author)
    assert people.feed(reader) == [post]


def test_a_tag_that_shares_its_bit_with_a_named_one_shows_nothing(
    people: People, feed: Connection
) -> None:
    reader, author = people.connected(2)
    named = people.tag(author, "nobody")
    people.post(author, tagged(named))
    other = text("""
        INSERT INTO tags (owner_user_id, id, name)
        OVERRIDING SYSTEM VALUE VALUES (:author_id, :tag_id, 'friends')""")
    feed.execute(other, {"author_id": author, "tag_id": named + 64_000_000})
    people.give(author, named + 64_000_000, reader)

    assert people.feed(reader) == []


def test_an_import_notes_the_tags_of_every_author_also_of_hidden_posts(
    pair: Pair, people: People, feed: Connection
) -> None:
    one, two = people.connected(2)
    tags = {author: people.tag(author, "friends") for author in (one, two)}
    posts = [_imported(author, tagged(tag), 1) for author, tag in tags.items()]
    posts[1].moderated = True

    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=posts)]))

    found = text("SELECT named_tags FROM authors WHERE author_id = :author_id")
    named = {
        author: feed.execute(found, {"author_id": author}).scalar_one() % 2**64 for author in tags
    }
    assert named == {author: 1 << tag % 64 for author, tag in tags.items()}


def test_bounds_that_are_too_high_change_no_page(people: People, feed: Connection) -> None:
    reader, *authors = people.connected(4)
    posts = [people.post(author) for author in authors]

    for author in authors[:2]:
        _change(feed, _RAISE, author)

    assert people.feed(reader, page_size=2) == posts[:0:-1]


def test_an_author_whose_posts_are_private_has_no_bounds(people: People, feed: Connection) -> None:
    [author] = people.new(1)
    people.post(author, PRIVATE)

    found = text("SELECT FROM authors WHERE author_id = :author_id")
    assert feed.execute(found, {"author_id": author}).all() == []


def test_posts_that_are_published_at_the_same_time_are_all_within_the_bounds(
    pair: Pair, people: People
) -> None:
    reader, *authors = people.connected(3)

    with ThreadPoolExecutor(4) as threads:
        posts = list(threads.map(people.post, authors * 10))

    assert sorted(people.feed(reader)) == sorted(posts)
    assert posts_left_out(pair.feed_url) == []


def test_an_import_raises_the_bounds_of_every_author_to_the_end_of_the_newest_hour(
    pair: Pair, people: People, feed: Connection
) -> None:
    everybody, tagger = people.connected(2)
    tag = people.tag(tagger, "friends", everybody)
    posts = [
        _imported(author, audience, hours)
        for author, audience in ((tagger, tagged(tag)), (everybody, ALL))
        for hours in (1, 3, 2)
    ]

    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=posts)]))
    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=[_imported(everybody, ALL, 0)])]))

    # The posts are of a moment before midnight, and up to three hours later.
    end = datetime(2019, 3, 1, 3, tzinfo=UTC)
    found = {author: _bounds(feed, author) for author in (everybody, tagger)}
    assert found == {everybody: [end, None], tagger: [None, end]}


def _imported(
    author_id: int, audience: pb.Audience, hours: int
) -> pb.ImportPostsRequest.ImportedPost:
    post = pb.ImportPostsRequest.ImportedPost(
        author_id=author_id, external_id=f"after {hours}", body="old", audience=audience
    )
    post.create_time.FromDatetime(_LONG_AGO + timedelta(hours=hours))
    return post


def _bounds(feed: Connection, author_id: int) -> list[datetime | None]:
    """Return how new an author's posts for ALL and for TAGS are at most; None if there is none."""
    found = text("""
        SELECT nullif(open_until, '-infinity'), nullif(tagged_until, '-infinity')
        FROM authors WHERE author_id = :author_id""")
    return [*feed.execute(found, {"author_id": author_id}).one()]


@pytest.mark.parametrize("publish", [_POST, _POST_FOR_TAG])
def test_the_bounds_stay_for_a_post_that_is_published_while_its_author_is_erased(
    pair: Pair, people: People, feed: Connection, publish: str
) -> None:
    [author] = people.new(1)
    people.post(author)
    _change(feed, _TAG, author)
    _change(feed, "UPDATE posts SET deleted_at = now() WHERE author_id = :author_id", author)
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)

    def erase() -> int:
        with engine.begin() as connection:
            return queries.erasure.erase_author(connection, user_id=author, limit=1)

    with engine.connect() as publishing, ThreadPoolExecutor(1) as threads:
        _change(publishing, publish, author)
        publishing.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        erased = threads.submit(erase)
        until(lambda: is_waited_for(pair.feed_url))
        publishing.commit()

        assert erased.result() == 0

    assert posts_left_out(pair.feed_url) == []


def test_posts_that_the_version_before_writes_during_the_migration_are_within_the_bounds(
    databases: Databases,
) -> None:
    url = databases.new_single("feed")
    schema.downgrade("feed", url, "feed_0021")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as publishing, ThreadPoolExecutor(1) as threads:
        _change(publishing, _POST, 1)
        migrated = threads.submit(schema.upgrade, "feed", url)
        until(lambda: is_waited_for(url))
        publishing.commit()
        migrated.result()
    with _connected(url) as after:
        _change(after, _POST, 2)

    assert posts_left_out(url) == []


def test_tags_that_the_version_before_names_during_the_migration_are_noted(
    databases: Databases,
) -> None:
    url = databases.new_single("feed")
    schema.downgrade("feed", url, "feed_0023")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as publishing, ThreadPoolExecutor(1) as threads:
        for author in (1, 2, 3):
            _change(publishing, _TAG, author)
        _change(publishing, _POST_FOR_TAG, 1)
        publishing.commit()
        _change(publishing, _POST_FOR_TAG, 2)
        migrated = threads.submit(schema.upgrade, "feed", url)
        until(lambda: is_waited_for(url))
        publishing.commit()
        migrated.result()
        publishing.execute(text("SET LOCAL kith.raises_bounds = 'on'"))
        _change(publishing, _POST_FOR_TAG, 3)
        _change(publishing, _RAISE_AS_BEFORE, 3)
        publishing.commit()

    assert posts_left_out(url) == []
