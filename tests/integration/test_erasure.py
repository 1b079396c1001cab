"""A user who is erased is in no table any more, and other users lose nothing."""

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import grpc
import pytest
import sqlalchemy
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from feed_service.models import metadata
from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2
from tests.support import photos
from tests.support.browser import post_form
from tests.support.citus import URL
from tests.support.comments import Comments
from tests.support.engines import engine_to
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.pauses import nothing_told
from tests.support.people import ALL, PRIVATE, People, tagged
from tests.support.processes import until
from tests.support.s3 import S3Server, Stored

_PAST_WEEK = Timestamp(seconds=int(datetime(2024, 3, 4, tzinfo=UTC).timestamp()))
_PNG = pb.CreatePhotoUploadsRequest.PhotoUploadDraft(content_type=pb.PHOTO_CONTENT_TYPE_PNG)

# Kinds of columns that hold no id of a user, or only as part of a text that another column has.
_NO_IDS = {"boolean", "double precision", "smallint", "timestamp with time zone", "uuid"}


@dataclass(frozen=True)
class World:
    """A pair with an object store, and all that can be asked of both."""

    pair: Pair
    store: S3Server
    people: People


@pytest.fixture(scope="module")
def world(databases: Databases) -> Iterator[World]:
    """A world for the tests that keep to people of their own."""
    with _world(databases) as running:
        yield running


@contextmanager
def _world(databases: Databases) -> Iterator[World]:
    # A busy machine must not make the graph look as if it could not be reached.
    patience = {"GRAPH_TIMEOUT_SECONDS": "30"}
    with S3Server() as store, running_pair(databases, {**store.environment, **patience}) as pair:
        yield World(pair, store, People(pair))


@dataclass(frozen=True)
class Life:
    """A user with something in every table, and two friends who have something to do with it."""

    user: int
    friends: tuple[int, int]
    photo_key: str
    upload_keys: tuple[str, str]
    """Of the photo that is shown, and of one that no post has used."""


def _upload(world: World, user_id: int) -> str:
    """Permit a photo, upload it, return its key."""
    request = pb.CreatePhotoUploadsRequest(
        user_id=user_id, photos=[_PNG], request_id=str(uuid.uuid4())
    )
    [upload] = world.pair.feed.CreatePhotoUploads(request).uploads
    post_form(upload.url, upload.fields, photos.plain("image/png"))
    return upload.key


def _comment(world: World, user_id: int, author_id: int, post_id: int) -> pb.Comment:
    request = pb.CreateCommentRequest(
        user_id=user_id,
        post=pb.PostName(author_id=author_id, post_id=post_id),
        body="a comment",
        request_id=str(uuid.uuid4()),
    )
    return world.pair.feed.CreateComment(request).comment


def _uncomment(world: World, user_id: int, comment: pb.Comment) -> None:
    world.pair.feed.DeleteComment(
        pb.DeleteCommentRequest(user_id=user_id, post=comment.post, comment_id=comment.comment_id)
    )


def _digest(world: World, user_id: int) -> pb.GetDigestResponse:
    return world.pair.feed.GetDigest(pb.GetDigestRequest(user_id=user_id, week_of=_PAST_WEEK))


def _import_past(world: World, *author_ids: int) -> None:
    """Give each a post in a week that is over."""
    posts = [
        pb.ImportPostsRequest.ImportedPost(
            author_id=author_id,
            external_id="past",
            body="from a past week",
            create_time=_PAST_WEEK,
            audience=ALL,
            importance=6.0,
        )
        for author_id in author_ids
    ]
    world.pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=posts)]))


def _live(world: World) -> Life:
    feed, people = world.pair.feed, world.people
    lower = people.new(_MEETINGS)
    user, alice, bob = people.connected(3)
    people.connect(alice, bob)
    family = people.tag(user, "family", alice, bob)
    people.tag(alice, "friends", user, bob)
    people.tag(bob, "friends", user)
    _import_past(world, user, alice, bob)
    for reader in (user, alice):
        assert len(_digest(world, reader).items) == 2

    shown, unused = _upload(world, user), _upload(world, user)
    with_photo = feed.CreatePost(
        pb.CreatePostRequest(
            user_id=user,
            body="with a photo",
            audience=tagged(family),
            photo_keys=[shown],
            request_id=str(uuid.uuid4()),
        )
    ).post
    people.post(user, PRIVATE)
    deleted = people.post(user)
    feed.DeletePost(pb.DeletePostRequest(user_id=user, post_id=deleted))
    theirs = people.post(alice)
    _uncomment(world, user, _comment(world, user, alice, theirs))
    for author in (user, bob, user):
        _comment(world, author, alice, theirs)
    for author in (user, alice, bob):
        _comment(world, author, user, with_photo.post_id)
    feed.MarkFeedRead(
        pb.MarkFeedReadRequest(user_id=user, post=pb.PostName(author_id=alice, post_id=theirs))
    )
    feed.SetDigestSubscription(
        pb.SetDigestSubscriptionRequest(user_id=user, request_id=str(uuid.uuid4()))
    )
    # Of a pair the lower id comes first in the graph's tables, and each side is erased by itself.
    for others in (lower, people.new(_MEETINGS)):
        _meet(world, user, others)
    return Life(user, (alice, bob), with_photo.photos[0].key, (shown, unused))


# With how many others there is something in the graph.
_MEETINGS = 8


def _meet(world: World, user: int, others: list[int]) -> None:
    """Leave a row of every kind in the graph between a user and others."""
    friend, parted, asking, asked, declining, declined, blocker, blocked = others
    people, graph = world.people, world.pair.graph
    people.connect(user, friend, parted)
    people.remove(user, parted)
    for first, second in ((user, parted), (parted, user)):
        _ask(world, first, second)
    people.remove(user, parted)
    for first, second in ((asking, user), (user, asked), (user, declining), (declined, user)):
        _ask(world, first, second)
    for first, second in ((user, declining), (declined, user)):
        graph.DeclineConnection(graph_pb2.DeclineConnectionRequest(user_id=second, peer_id=first))
    people.block(blocker, user)
    people.block(user, blocked)
    # These are withheld.
    _ask(world, user, blocker)
    _ask(world, blocked, user)


def _ask(world: World, user_id: int, peer_id: int) -> None:
    world.pair.graph.RequestConnection(
        graph_pb2.RequestConnectionRequest(
            user_id=user_id, peer_id=peer_id, request_id=str(uuid.uuid4())
        )
    )


def _delete(world: World, user_id: int) -> None:
    world.pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=user_id))
    world.pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=user_id))


def _export(world: World, user_id: int) -> pb.ExportUserResponse:
    joined = pb.ExportUserResponse()
    for message in world.pair.feed.ExportUser(pb.ExportUserRequest(user_id=user_id)):
        joined.MergeFrom(message)
    joined.ClearField("cursor")
    return joined


def _without(theirs: pb.ExportUserResponse, life: Life) -> pb.ExportUserResponse:
    """Return what others have to be left with, by what they and the user had."""
    left = pb.ExportUserResponse(posts=theirs.posts, tags=theirs.tags)
    left.tagged_users.extend(
        given for given in theirs.tagged_users if given.member.target_user_id != life.user
    )
    left.comments.extend(
        comment for comment in theirs.comments if comment.post.author_id != life.user
    )
    left.frozen_digests.extend(theirs.frozen_digests)
    for digest in left.frozen_digests:
        items = [item for item in digest.items if item.post.author_id != life.user]
        digest.ClearField("items")
        digest.items.extend(items)
    if theirs.HasField("read_time"):
        left.read_time.CopyFrom(theirs.read_time)
    return left


def _expected(world: World, life: Life) -> list[pb.ExportUserResponse]:
    gone = _export(world, life.user).comments
    expected = [_without(_export(world, friend), life) for friend in life.friends]
    for post in (post for left in expected for post in left.posts):
        post.comment_count -= sum(
            (comment.post.author_id, comment.post.post_id) == (post.author_id, post.post_id)
            for comment in gone
        )
    return expected


def _rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with engine_to(url).connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def _varint(number: int) -> str:
    """Return how protobuf writes a number, in hex."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return (written + bytes([number])).hex()


def _mentions(column: str, kind: str, user_id: int) -> str:
    """Return the condition that a column of any kind names a user."""
    written = str(user_id).encode().hex()
    conditions = {
        "bigint": f"{column} = {user_id}",
        "integer": f"{column} = {user_id}",
        "ARRAY": rf"CAST({column} AS text) ~ '\y{user_id}\y'",
        "jsonb": rf"CAST({column} AS text) ~ '\y{user_id}\y'",
        "text": rf"{column} ~ '\y{user_id}\y'",
        "character varying": rf"{column} ~ '\y{user_id}\y'",
        "bytea": f"position('\\x{_varint(user_id)}'::bytea IN {column})"
        f" + position('\\x{written}'::bytea IN {column}) > 0",
    }
    return conditions[kind]


@cache
def _columns(url: str) -> list[tuple[object, ...]]:
    """Return every column of every table, and its kind. They stay what they are."""
    return _rows(
        url,
        """SELECT table_name, column_name, data_type
           FROM information_schema.columns
           JOIN information_schema.tables USING (table_schema, table_name)
           WHERE table_schema = 'public' AND table_type = 'BASE TABLE'""",
    )


# The events of erasures stay; see _TOMBSTONE.
_IS_NO_TOMBSTONE = {
    "connection_events": "kind <> 'user_deleted'",
    "content_events": "kind <> 'user_erased'",
}


def _found(url: str, user_id: int) -> set[str]:
    """Return every column of every table that names a user, as table.column.

    The event that they were erased is left out.
    """
    looks = [
        f"(SELECT '{table}.{column}' FROM {table}"
        f" WHERE {_mentions(str(column), str(kind), user_id)}"
        f" AND {_IS_NO_TOMBSTONE.get(str(table), 'true')} LIMIT 1)"
        for table, column, kind in _columns(url)
        if kind not in _NO_IDS
    ]
    return {str(name) for (name,) in _rows(url, " UNION ALL ".join(looks))}


def _found_anywhere(world: World, user_id: int) -> set[str]:
    return {
        *(f"graph {name}" for name in _found(world.pair.graph_url, user_id)),
        *_found_in_feed(world, user_id),
    }


def _found_in_feed(world: World, user_id: int) -> set[str]:
    return {f"feed {name}" for name in _found(world.pair.feed_url, user_id)}


# That the id was erased, and when: what is kept so that it can be issued anew.
_TOMBSTONE = {"graph erasures.user_id", "feed erased_users.user_id"}
_REMOVALS = {"feed object_removals.owner_user_id", "feed object_removals.object_key"}


def test_no_table_names_a_user_who_is_erased_from_both_services(world: World) -> None:
    life = _live(world)
    before = _found_anywhere(world, life.user)

    _delete(world, life.user)

    assert before >= {
        "feed comments.author_id",
        "feed content_events.author_id",
        "feed content_events.comment_author_id",
        "feed comments.post_author_id",
        "feed digest_subscriptions.user_id",
        "feed frozen_digest_items.author_id",
        "feed frozen_digest_items.user_id",
        "feed frozen_digests.user_id",
        "feed idempotency_keys.about_user_id",
        "feed idempotency_keys.response",
        "feed idempotency_keys.user_id",
        "feed photo_uploads.object_key",
        "feed photo_uploads.owner_user_id",
        "feed post_audience_tags.author_id",
        "feed post_photos.author_id",
        "feed post_photos.object_key",
        "feed post_stats.author_id",
        "feed posts.author_id",
        "feed read_positions.user_id",
        "feed tags.owner_user_id",
        "feed user_tags.owner_user_id",
        "feed user_tags.target_user_id",
        "graph blocks.blocked_id",
        "graph connection_events.actor_id",
        "graph connections.user_a_id",
        "graph endings.user_a_id",
        "graph idempotency_keys.about_user_id",
        "graph idempotency_keys.response",
        "graph idempotency_keys.user_id",
        "graph users.user_id",
    }
    assert _found_anywhere(world, life.user) <= _TOMBSTONE | _REMOVALS


def test_others_keep_all_that_is_theirs_with_counts_that_are_right(world: World) -> None:
    life = _live(world)
    expected = _expected(world, life)
    alice = life.friends[0]

    _delete(world, life.user)

    assert [_export(world, friend) for friend in life.friends] == expected
    assert sorted(post.comment_count for post in expected[0].posts) == [0, 1]
    assert [item.post.author_id for item in _digest(world, alice).items] == [life.friends[1]]


def test_replies_go_with_the_comments_of_who_is_erased_and_no_others(world: World) -> None:
    comments = Comments(world.pair)
    alice, user, bob = world.people.connected(3)
    post = (alice, world.people.post(alice))
    goes, stays = comments.write(user, post), comments.write(alice, post)
    for author in (alice, bob, user):
        comments.write(author, post, to=goes)
    replies = [comments.write(author, post, to=stays) for author in (bob, user, alice)]
    deleted = comments.write(bob, post, to=goes)
    comments.delete(bob, deleted)

    _delete(world, user)

    assert comments.count(alice, post) == 3
    assert [one.comment_id for one in comments.all(alice, post)] == [stays.comment_id]
    assert comments.replies(alice, stays) == [replies[0], replies[2]]
    assert comments.own(bob) == [replies[0]]
    stored = f"SELECT count(*) FROM comments WHERE post_author_id = {alice}"
    assert _rows(world.pair.feed_url, stored) == [(3,)]
    assert not _found_anywhere(world, user) - _TOMBSTONE


def test_erasing_a_user_from_the_feed_alone_is_enough_for_nobody_to_see_anything(
    world: World,
) -> None:
    life = _live(world)
    alice = life.friends[0]

    world.pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=life.user))

    page = world.pair.feed.GetFeed(pb.GetFeedRequest(user_id=alice)).posts
    assert life.user not in {post.author_id for post in page}
    assert _export(world, life.user) == pb.ExportUserResponse()
    assert {name for name in _found_anywhere(world, life.user) if name.startswith("feed")} <= (
        _TOMBSTONE | _REMOVALS
    )


def test_erasing_again_or_somebody_unknown_changes_nothing(world: World) -> None:
    life = _live(world)
    [nobody] = world.people.new(1)
    _delete(world, life.user)
    expected = [_export(world, friend) for friend in life.friends]

    _delete(world, life.user)
    _delete(world, nobody)

    assert [_export(world, friend) for friend in life.friends] == expected


def test_the_id_can_be_issued_anew(world: World) -> None:
    life = _live(world)
    _delete(world, life.user)
    alice = life.friends[0]

    world.people.connect(life.user, alice)
    tag = world.people.tag(life.user, "family", alice)
    post = world.people.post(life.user, tagged(tag))

    assert post in world.people.feed(alice)
    assert [tag.name for tag in _export(world, life.user).tags] == ["family"]


def test_the_number_of_posts_goes_down_by_those_that_were_not_deleted(
    databases: Databases,
) -> None:
    with _world(databases) as world:
        life = _live(world)
        total = "SELECT CAST(sum(value) AS int) FROM totals WHERE name = 'posts_total'"
        [(before,)] = _rows(world.pair.feed_url, total)

        _delete(world, life.user)

        assert before == 3 + 3
        assert _rows(world.pair.feed_url, total) == [(3,)]


def test_photos_are_removed_and_then_no_trace_of_them_is_left(world: World) -> None:
    life = _live(world)
    _, unused = life.upload_keys
    assert {life.photo_key, unused} <= set(world.store.objects)

    _delete(world, life.user)

    until(lambda: not {life.photo_key, *life.upload_keys} & set(world.store.objects))
    # Both could be uploaded once more for as long as their permissions work.
    postponed = f"owner_user_id = {life.user} AND due_at > now() + interval '50 minutes'"
    until(
        lambda: (
            sorted(
                _rows(
                    world.pair.feed_url,
                    f"SELECT object_key FROM object_removals WHERE {postponed}",
                )
            )
            == sorted((key,) for key in life.upload_keys)
        )
    )
    world.store.objects[unused] = Stored(body=b"again", content_type="image/png")
    _rows(
        world.pair.feed_url,
        f"UPDATE object_removals SET due_at = now() WHERE {postponed} RETURNING object_key",
    )
    world.pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=_somebody_with_a_post(world)))
    until(lambda: unused not in world.store.objects)
    until(lambda: not _found_anywhere(world, life.user) & _REMOVALS)


def _somebody_with_a_post(world: World) -> int:
    [user] = world.people.new(1)
    world.people.post(user)
    return user


def test_more_than_a_batch_of_everything_is_erased(world: World) -> None:
    user, *friends = world.people.connected(12)
    tag = world.people.tag(user, "family", *friends)
    posts = [
        pb.ImportPostsRequest.ImportedPost(
            author_id=author,
            external_id=str(number),
            body="one of many",
            create_time=_PAST_WEEK,
            audience=tagged(tag) if author == user else ALL,
        )
        for number in range(700)
        for author in (user, friends[0])
    ]
    for start in (0, 700):
        world.pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=posts[start : start + 700])]))
    engine = sqlalchemy.create_engine(world.pair.feed_url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO comments (post_author_id, post_id, author_id, body)
                SELECT author_id, id, :user, 'mine' FROM posts WHERE author_id = :friend
                UNION ALL
                SELECT author_id, id, :friend, 'theirs' FROM posts
                WHERE author_id IN (:user, :friend)"""),
            {"user": user, "friend": friends[0]},
        )
        connection.execute(
            text("""
                INSERT INTO post_stats (author_id, post_id, comment_count)
                SELECT author_id, id, 2 FROM posts WHERE author_id = :friend"""),
            {"friend": friends[0]},
        )

    _delete(world, user)

    assert _found_anywhere(world, user) <= _TOMBSTONE
    assert {post.comment_count for post in _export(world, friends[0]).posts} == {1}


def _crash(world: World, rows: "_Rows", user_id: int, *, at: int, when: str) -> bool:
    """Erase a user with a database that breaks off at a statement and stays away.

    Returns whether there were so many statements.
    """
    seen, changes = 0, rows.changes()

    def is_step(statement: str) -> bool:
        nonlocal changes
        # What begins after a crash meets what was there after the last COMMIT that changed rows.
        if when == "before" or not statement.endswith("COMMIT"):
            return when == "before"
        before, changes = changes, rows.changes()
        return before != changes

    def hook(statement: str) -> None:
        nonlocal seen
        seen += "alembic_version" not in statement and seen < at and is_step(statement)
        if seen >= at:
            world.pair.feed_tap.break_connections()

    setattr(world.pair.feed_tap, f"{when}_statement", hook)
    reason = _reason(lambda: world.pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=user_id)))
    setattr(world.pair.feed_tap, f"{when}_statement", lambda _statement: None)
    assert reason == ("DATABASE_UNAVAILABLE" if seen >= at else "")
    return seen >= at


def _reason(call: Callable[[], object]) -> str:
    """Make a call and return why it was refused, or nothing."""
    try:
        call()
    except grpc.RpcError as error:
        return reason_of(error)
    return ""


_NEXT = "SELECT CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text)"
# The coordinator of a Citus numbers no transaction that changes rows of other nodes alone.
_NEXT_ON_NODES = f"""
    SELECT sum(CAST(result AS bigint)) FROM run_command_on_all_nodes($$ {_NEXT} $$)
"""


class _Rows:
    """The rows of every table of the feed, as they are now."""

    def __init__(self, url: str) -> None:
        self._url = url
        # What the follower has come to is not undone with the rest.
        self._tables = [table.name for table in metadata.sorted_tables if table.name != "followed"]
        self._execute(
            "CREATE SCHEMA kept",
            *(f"CREATE TABLE kept.{table} AS TABLE {table}" for table in self._tables),
        )

    def restore(self) -> None:
        """Bring them back, without what was stored since."""
        self._execute(
            *(f"DELETE FROM {table}" for table in reversed(self._tables)),
            *(f"INSERT INTO {table} SELECT * FROM kept.{table}" for table in self._tables),
        )

    def changes(self) -> int:
        """Return a number that is another one after each transaction that changed rows."""
        [(number,)] = _rows(self._url, _NEXT_ON_NODES if URL else _NEXT)
        return int(str(number))

    def _execute(self, *statements: str) -> None:
        with engine_to(self._url).connect() as connection:
            # One message, and so one transaction.
            connection.exec_driver_sql("; ".join(statements))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_step_is_made_up_for_by_another_call(
    databases: Databases, when: str
) -> None:
    at, has_crashed = 0, True
    with _world(databases) as world:
        life = _live(world)
        expected = _expected(world, life)
        rows = _Rows(world.pair.feed_url)
        # The follower would erase beside the calls.
        with nothing_told(world.pair):
            world.pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=life.user))
            while has_crashed:
                # Before a statement there is what there was after the COMMIT before it, and each of
                # those is tried.
                at += 17 if when == "before" else 1
                rows.restore()

                has_crashed = _crash(world, rows, life.user, at=at, when=when)
                if has_crashed:
                    world.pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=life.user))

                assert _found_in_feed(world, life.user) <= _TOMBSTONE | _REMOVALS
                assert [_export(world, friend) for friend in life.friends] == expected
    assert at > 20


def test_erasures_beside_each_other_and_beside_others_neither_wait_in_vain_nor_miscount(
    databases: Databases,
) -> None:
    pick = random.Random(11)
    with ExitStack() as stack:
        world = stack.enter_context(_world(databases))
        alice, bob, first, second = world.people.connected(4)
        world.people.connect(bob, first, second)
        posts = [world.people.post(alice) for _ in range(12)]
        posts_of_first = [world.people.post(first) for _ in range(6)]
        comments = [
            _comment(world, author, alice, post)
            for author in (first, second, bob)
            for post in posts * 2
        ]
        calls: list[Callable[[], object]] = [
            *(lambda c=c: _uncomment(world, alice, c) for c in comments[::3]),
            *(lambda p=p: _comment(world, bob, alice, p) for p in posts * 3),
            *(lambda p=p: _comment(world, alice, first, p) for p in posts_of_first * 3),
        ]
        pick.shuffle(calls)
        middle = len(calls) // 2
        erasures = [lambda: _delete(world, first), lambda: _delete(world, second)]
        with ThreadPoolExecutor(16) as threads:
            refused = set(threads.map(_reason, [*calls[:middle], *erasures, *calls[middle:]]))

        listed = [
            world.pair.feed.ListComments(
                pb.ListCommentsRequest(
                    user_id=alice, post=pb.PostName(author_id=alice, post_id=post), page_size=200
                )
            ).comments
            for post in posts
        ]
        counts = {post.post_id: post.comment_count for post in _export(world, alice).posts}
        assert refused <= {"", "POST_NOT_FOUND", "COMMENT_NOT_FOUND"}
        assert [counts[post] for post in posts] == [len(comments) for comments in listed]
        assert not {first, second} & {c.author_id for comments in listed for c in comments}
        url = sqlalchemy.make_url(world.pair.feed_url)
    # What a session has seen is told when it ends.
    assert _rows(
        url.set(database="postgres").render_as_string(hide_password=False),
        f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{url.database}'",
    ) == [(0,)]


def test_who_is_to_be_erased_must_be_named(world: World) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        world.pair.feed.DeleteUser(pb.DeleteUserRequest())

    assert fields_of(caught) == ["user_id"]
