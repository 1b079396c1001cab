"""A node of a distributed feed is killed while its authors, and others, are writing."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from kith.exceptions import AppException, UnavailableError
from kith.feed.v1 import feed_pb2 as pb
from tests.support.citus import Citus, Node
from tests.support.citus_node import NodeProcess
from tests.support.errors import decoded
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, People
from tests.support.processes import Session, until

_SECONDS = 10


@dataclass(kw_only=True)
class _Writer:
    """A user who writes one thing after the other, each again until it is acknowledged.

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
    shard_node = (
        "SELECT nodename, nodeport FROM citus_shards"
        " WHERE shardid = get_shard_id_for_distribution_column('posts', %d)"
    )
    with Session(pair.feed_url) as session:
        for author in iter(lambda: People(pair).new(1)[0], None):
            if session.rows(shard_node % author) == [node]:
                yield author


def test_a_worker_that_is_killed_takes_nobody_with_it_but_its_own_authors(
    citus: Citus, databases: Databases
) -> None:
    dying, living = citus.workers[:2]
    worker = NodeProcess(citus, dying)
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


def test_a_coordinator_that_is_killed_loses_nothing_and_calls_may_be_repeated(
    citus: Citus, databases: Databases
) -> None:
    coordinator = NodeProcess(citus, citus.coordinator)
    with running_pair(databases) as pair, ThreadPoolExecutor() as threads:
        people = People(pair)
        [author] = people.new(1)
        post = pb.PostName(author_id=author, post_id=people.post(author))
        posting, commenting = _poster(pair, author), _commenter(pair, author, post)
        writers = [posting, commenting]
        running = [threads.submit(writer.run) for writer in writers]
        try:
            _expect_more_of(writers)
            coordinator.kill()
            coordinator.start()
            _expect_more_of(writers)
        finally:
            for writer in writers:
                writer.stopping.set()
            for thread in running:
                thread.result()
        _recover(pair)

        failed = [*posting.failed, *commenting.failed]
        assert {type(error) for error in failed} == {UnavailableError}
        assert _posts(pair, author) == sorted([post.post_id, *posting.acknowledged])
        assert _comments(pair, post) == sorted(commenting.acknowledged)


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
