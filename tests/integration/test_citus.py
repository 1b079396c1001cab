"""The feed's database spread over nodes by Citus: by which command, at what price, and at whose.

That everything works as it does on one PostgreSQL, all other tests show, when KITH_TEST_CITUS_URL
is set.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

import migrations
from feed_service.access import ACCESS
from feed_service.models import DISTRIBUTED_BY
from migrations.shards import ShardsError, distribute, report, skew
from shared.errors import AppException, UnavailableError
from shared.gen.kith.feed.v1 import feed_pb2 as pb
from shared.gen.kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.support.citus import Citus, Node
from tests.support.citus_worker import Worker
from tests.support.errors import decoded
from tests.support.pair import Databases, Pair, another_feed, running_pair
from tests.support.people import ALL, People, all_without, tagged
from tests.support.processes import Session, run, until
from tests.support.roles import owner
from tests.support.s3 import S3Server

_SECONDS = 10
_FILL = """
    INSERT INTO posts (author_id, body, audience, importance)
    SELECT n % 50 + 1, 'hello', 'all', 1 FROM generate_series(1, 1000) AS n;
    INSERT INTO comments (post_author_id, post_id, author_id, body)
    SELECT author_id, id, author_id + 1, 'hello' FROM posts
"""


@pytest.mark.parametrize("broken_off_after", [0, 1, 6])
def test_a_database_in_use_is_distributed_with_all_its_rows(
    citus: Citus, broken_off_after: int
) -> None:
    url = citus.undistributed()
    with Session(url) as session:
        session.rows(_FILL)
        session.commit()

    def break_off(done: int, _total: int) -> None:
        if done == broken_off_after:
            raise InterruptedError

    if broken_off_after:
        with pytest.raises(InterruptedError):
            distribute(owner("feed", url), shard_count=4, progress=break_off)
    assert distribute(owner("feed", url), shard_count=4) == len(DISTRIBUTED_BY) - broken_off_after
    assert distribute(owner("feed", url), shard_count=4) == 0

    with Session(url) as session:
        for table, count in (("posts", 1000), ("comments", 1000), ("authors", 50)):
            assert session.rows(f"SELECT count(*) FROM {table}") == [(count,)]
            assert session.rows(f"SELECT pg_relation_size('{table}')") == [(0,)]


def test_the_report_says_what_lies_where(citus: Citus) -> None:
    url = citus.new()
    with Session(url) as session:
        session.rows(_FILL)
        session.rows(
            "INSERT INTO posts (author_id, body, audience, importance)"
            " SELECT 7, 'hello', 'all', 1 FROM generate_series(1, 1000)"
        )
        session.commit()
        session.rows("ANALYZE posts")
        session.commit()

    found = report(owner("feed", url))

    assert len(found.shards) == 4
    assert sum(shard.rows for shard in found.shards) == 2000
    assert sum(node.rows for node in found.nodes.values()) == 2000
    assert set(found.nodes) == {f"{host}:{port}" for host, port in citus.workers}
    assert 1 < skew(found.shards).rows < 4
    assert not found.not_distributed


def test_what_is_not_distributed_is_told(citus: Citus, databases: Databases) -> None:
    with pytest.raises(ShardsError, match="kith shards create"):
        report(citus.undistributed())
    with pytest.raises(ShardsError, match="has no Citus"):
        distribute(databases.new("graph"), shard_count=4)


def test_the_command_line_distributes_and_reports(citus: Citus) -> None:
    variables = {"FEED_DATABASE_URL": owner("feed", citus.undistributed())}

    created = run("shared.cli", variables, "shards", "create", "--count", "6")
    shown = run("shared.cli", variables, "shards", "report")

    assert created.returncode == 0, created.stdout
    assert f"{len(DISTRIBUTED_BY)} tables were distributed now" in created.stdout
    for host, port in citus.workers:
        assert shown.stdout.count(f"on {host}:{port}") == 3
    assert "The fullest node has 1.00 times the mean rows" in shown.stdout


def test_the_command_line_says_what_is_missing(databases: Databases) -> None:
    for variables, message in (
        ({"FEED_DATABASE_URL": databases.new("graph")}, "has no Citus"),
        ({"FEED_DATABASE_URL": ""}, "FEED_DATABASE_URL must name a database with Citus"),
    ):
        ended = run("shared.cli", variables, "shards", "create")

        assert ended.returncode == 1
        assert message in ended.stdout


def test_a_distributed_database_is_migrated_both_ways(citus: Citus) -> None:
    url = owner("feed", citus.new())
    with Session(url) as session:
        session.rows(_FILL)
        session.commit()

    migrations.downgrade("feed", url, "feed_0002")
    migrations.upgrade("feed", url)
    distribute(url, shard_count=4)

    with Session(url) as session:
        assert session.rows("SELECT count(*), count(importance) FROM posts") == [(1000, 1000)]
        [(indexes,)] = session.rows("SELECT count(*) FROM pg_indexes WHERE tablename = 'posts'")
        [(everywhere,)] = session.rows(
            "SELECT sum(CAST(result AS int)) FROM run_command_on_shards('posts',"
            " $$SELECT count(*) FROM pg_indexes WHERE tablename = '%s'$$)"
        )
        assert everywhere == 4 * indexes


@dataclass(frozen=True, kw_only=True)
class _World:
    """An author with a tag, a post and a comment of a friend, and the friend, who has the tag."""

    feed: FeedServiceStub
    author: int
    friend: int
    tag: int
    post: pb.PostName
    comment: int


@pytest.fixture
def world(databases: Databases) -> Iterator[_World]:
    """On a database that refuses to ask more than one shard for one statement."""
    with S3Server() as store, running_pair(databases, store.environment) as pair:
        people = People(pair)
        author, friend = people.connected(2)
        tag = people.tag(author, "close", friend)
        post = people.post(author, tagged(tag))
        name = pb.PostName(author_id=author, post_id=post)
        comment = pair.feed.CreateComment(
            pb.CreateCommentRequest(user_id=friend, post=name, body="hello")
        ).comment.comment_id
        with Session(pair.feed_url) as session:
            session.rows(
                "DO $$ BEGIN EXECUTE format('ALTER ROLE kith_feed IN DATABASE %I"
                " SET citus.multi_task_query_log_level = error', current_database()); END $$"
            )
            session.commit()
        with another_feed(pair, store.environment) as (_, feed):
            yield _World(
                feed=feed, author=author, friend=friend, tag=tag, post=name, comment=comment
            )


# In the order in which they are made: what is deleted comes last.
_ON_ONE_SHARD: Mapping[str, Callable[[_World], Message]] = {
    "CreatePost": lambda w: pb.CreatePostRequest(
        user_id=w.author,
        body="hello",
        audience=all_without(w.tag),
        request_id=str(uuid.uuid4()),
    ),
    "GetPost": lambda w: pb.GetPostRequest(
        user_id=w.friend, author_id=w.post.author_id, post_id=w.post.post_id
    ),
    "ListPosts": lambda w: pb.ListPostsRequest(user_id=w.friend, author_id=w.author),
    "BatchGetPosts": lambda w: pb.BatchGetPostsRequest(user_id=w.friend, posts=[w.post]),
    "UpdatePost": lambda w: pb.UpdatePostRequest(
        user_id=w.author,
        post=pb.Post(post_id=w.post.post_id, body="bye", audience=tagged(w.tag)),
        update_mask=FieldMask(paths=["body", "audience"]),
    ),
    "CreatePhotoUploads": lambda w: pb.CreatePhotoUploadsRequest(
        user_id=w.author,
        photos=[
            pb.CreatePhotoUploadsRequest.PhotoUploadDraft(content_type=pb.PHOTO_CONTENT_TYPE_JPEG)
        ],
    ),
    "CreateTag": lambda w: pb.CreateTagRequest(user_id=w.author, name="new"),
    "ListTags": lambda w: pb.ListTagsRequest(user_id=w.author),
    "UpdateTag": lambda w: pb.UpdateTagRequest(
        user_id=w.author,
        tag=pb.Tag(tag_id=w.tag, name="closer"),
        update_mask=FieldMask(paths=["name"]),
    ),
    "AddTagMembers": lambda w: pb.AddTagMembersRequest(
        user_id=w.author, tag_id=w.tag, target_user_ids=[w.friend]
    ),
    "ListTagMembers": lambda w: pb.ListTagMembersRequest(user_id=w.author, tag_id=w.tag),
    "ListUserTags": lambda w: pb.ListUserTagsRequest(user_id=w.author, target_user_id=w.friend),
    "CreateComment": lambda w: pb.CreateCommentRequest(
        user_id=w.friend, post=w.post, body="hello", request_id=str(uuid.uuid4())
    ),
    "ListComments": lambda w: pb.ListCommentsRequest(user_id=w.friend, post=w.post),
    "UpdateComment": lambda w: pb.UpdateCommentRequest(
        user_id=w.friend,
        comment=pb.Comment(post=w.post, comment_id=w.comment, body="bye"),
        update_mask=FieldMask(paths=["body"]),
    ),
    "ExplainVisibility": lambda w: pb.ExplainVisibilityRequest(
        user_id=w.author, post_id=w.post.post_id, viewer_id=w.friend
    ),
    "PreviewAudience": lambda w: pb.PreviewAudienceRequest(
        user_id=w.author, audience=tagged(w.tag)
    ),
    "MarkFeedRead": lambda w: pb.MarkFeedReadRequest(user_id=w.friend, post=w.post),
    "DeleteComment": lambda w: pb.DeleteCommentRequest(
        user_id=w.friend, post=w.post, comment_id=w.comment
    ),
    "RemoveTagMembers": lambda w: pb.RemoveTagMembersRequest(
        user_id=w.author, tag_id=w.tag, target_user_ids=[w.friend]
    ),
    "DeletePost": lambda w: pb.DeletePostRequest(user_id=w.author, post_id=w.post.post_id),
    "DeleteTag": lambda w: pb.DeleteTagRequest(user_id=w.author, tag_id=w.tag),
}
# These are about rows of many people, and ask every shard.
_ON_ALL_SHARDS = {
    "GetFeed",
    "GetDigest",
    "CountUnreadPosts",
    "SetPostImportance",
    "ImportPosts",
    "ExportUser",
    "DeleteUser",
}


@pytest.mark.usefixtures("citus")
def test_all_calls_about_one_person_ask_one_shard_at_a_time(world: _World) -> None:
    failed = {}
    for name, request in _ON_ONE_SHARD.items():
        try:
            getattr(world.feed, name)(request(world), timeout=_SECONDS)
        except grpc.RpcError as error:
            failed[name] = error.code()

    assert failed == {}


def test_of_every_call_it_is_known_where_it_goes() -> None:
    assert set(_ON_ONE_SHARD) | _ON_ALL_SHARDS == set(ACCESS)


@dataclass(kw_only=True)
class _Writer:
    """Somebody who writes one thing after the other, each again until it is acknowledged.

    `write` takes a request id and returns the id of what was made.
    """

    write: Callable[[str], int]
    acknowledged: list[int] = field(default_factory=list)
    failed: list[AppException] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stopping.wait(0.01):
            request_id = str(uuid.uuid4())
            while not self._is_written(request_id):
                pass

    def _is_written(self, request_id: str) -> bool:
        try:
            self.acknowledged.append(self.write(request_id))
        except grpc.RpcError as error:
            self.failed.append(decoded(error))
            return False
        return True


def _poster(pair: Pair, author: int) -> _Writer:
    def post(request_id: str) -> int:
        draft = pb.CreatePostRequest(
            user_id=author, body="hello", audience=ALL, request_id=request_id
        )
        made = pair.feed.CreatePost(draft, timeout=_SECONDS).post.post_id
        name = pb.GetPostRequest(user_id=author, author_id=author, post_id=made)
        return pair.feed.GetPost(name, timeout=_SECONDS).post.post_id

    return _Writer(write=post)


def _commenter(pair: Pair, user: int, post: pb.PostName) -> _Writer:
    def comment(request_id: str) -> int:
        draft = pb.CreateCommentRequest(
            user_id=user, post=post, body="hello", request_id=request_id
        )
        return pair.feed.CreateComment(draft, timeout=_SECONDS).comment.comment_id

    return _Writer(write=comment)


def _authors(pair: Pair, node: Node) -> Iterator[int]:
    """Yield people whose rows are on a node."""
    place = (
        "SELECT nodename, nodeport FROM citus_shards"
        " WHERE shardid = get_shard_id_for_distribution_column('posts', %d)"
    )
    with Session(pair.feed_url) as session:
        for author in iter(lambda: People(pair).new(1)[0], None):
            if session.rows(place % author) == [node]:
                yield author


def test_a_worker_that_is_killed_takes_nobody_with_it_but_its_own_authors(
    citus: Citus, databases: Databases
) -> None:
    dying, living = citus.workers[:2]
    worker = Worker(citus, dying)
    with running_pair(databases) as pair, ThreadPoolExecutor() as threads:
        people = People(pair)
        lost, friend = next(_authors(pair, dying)), next(_authors(pair, living))
        people.connect(lost, friend)
        post = pb.PostName(author_id=lost, post_id=people.post(lost))
        cut_off = [_poster(pair, lost), _commenter(pair, friend, post)]
        untouched = [_poster(pair, friend), _poster(pair, next(_authors(pair, living)))]
        writers = [*cut_off, *untouched]
        running = [threads.submit(writer.run) for writer in writers]
        try:
            _expect_more_of(writers)
            worker.kill()
            try:
                until(lambda: all(len(writer.failed) > 5 for writer in cut_off))
                _expect_more_of(untouched)
                with pytest.raises(grpc.RpcError) as caught:
                    people.feed(friend)
                assert isinstance(decoded(caught.value), UnavailableError)
            finally:
                worker.start()
            _recover(pair)
            _expect_more_of(cut_off)
        finally:
            for writer in writers:
                writer.stopping.set()
            for thread in running:
                thread.result()
        _recover(pair)

        assert [writer.failed for writer in untouched] == [[], []]
        for writer in cut_off:
            assert {type(error) for error in writer.failed} == {UnavailableError}
            assert all(error.retry_after for error in writer.failed)
        assert _posts(pair, lost) == sorted([post.post_id, *cut_off[0].acknowledged])
        assert _comments(pair, post) == sorted(cut_off[1].acknowledged)
        assert _posts(pair, friend) == sorted(untouched[0].acknowledged)
        assert people.feed(friend)


def _expect_more_of(writers: Sequence[_Writer]) -> None:
    before = [len(writer.acknowledged) for writer in writers]
    until(
        lambda: all(
            len(writer.acknowledged) > count + 5
            for writer, count in zip(writers, before, strict=True)
        )
    )


def _recover(pair: Pair) -> None:
    """Let Citus finish what was committed on several nodes when one died."""
    with Session(pair.feed_url) as session:
        session.rows("SELECT recover_prepared_transactions()")
        session.commit()


def _posts(pair: Pair, author: int) -> list[int]:
    def page(token: str) -> pb.ListPostsResponse:
        return pair.feed.ListPosts(
            pb.ListPostsRequest(user_id=author, author_id=author, page_size=100, page_token=token)
        )

    return sorted(post.post_id for answer in _pages(page) for post in answer.posts)


def _comments(pair: Pair, post: pb.PostName) -> list[int]:
    def page(token: str) -> pb.ListCommentsResponse:
        return pair.feed.ListComments(
            pb.ListCommentsRequest(
                user_id=post.author_id, post=post, page_size=100, page_token=token
            )
        )

    return sorted(one.comment_id for answer in _pages(page) for one in answer.comments)


def _pages(page: Callable[[str], Any]) -> Iterator[Any]:
    yield (answer := page(""))
    while answer.next_page_token:
        yield (answer := page(answer.next_page_token))
