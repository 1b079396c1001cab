"""PostgreSQL that dies, says nothing, or works for callers who have gone."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Final

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from benchmarks.row import Row
from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.chaos.fault import Effort, at_least, kept, no_failure, none, within
from tests.chaos.history import History
from tests.chaos.load import GRAPH_CALLS, READS, WRITES, Load
from tests.chaos.stage import Scene, Stage
from tests.support.people import ALL
from tests.support.processes import Session, until

_SETTLING_SECONDS: Final = 2.5
_SERVING_SECONDS: Final = 2.0
_DEADLINE_SECONDS: Final = 2.0
_LATE_MS: Final = 50
_SILENCE_SECONDS: Final = 10
_SLOTS: Final = 32
_ORPHAN_SECONDS: Final = 0.1
_CALLS_AT_ONCE: Final = 8


def postgres_killed(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Kill PostgreSQL, which its guardian starts again, and one of its sessions."""
    with stage.scene(effort.settings) as scene:
        accepting = []
        with Load(replace(scene.traffic(), rate=effort.rate)) as load:
            time.sleep(_SETTLING_SECONDS)
            for _ in range(effort.of(10)):
                accepting.append(stage.kill_postmaster())
                time.sleep(_SETTLING_SECONDS)
            for number in range(effort.of(3)):
                url = scene.graph_url if number % 2 else scene.feed_url
                accepting.append(stage.kill_backend(url))
                time.sleep(_SETTLING_SECONDS)
        yield from kept(load.history, scene.compared(load.history))
        yield _serving(load.history, accepting)
        yield at_least("calls a second", load.history.rate, 200, "/s")


def sessions_ended(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Terminate every session, as a failover or a restarted pooler does."""
    with stage.scene() as scene:
        with Load(replace(scene.traffic(), config="unretried")) as load:
            time.sleep(_SETTLING_SECONDS)
            for _ in range(effort.of(20)):
                _terminate_sessions(scene)
                time.sleep(0.5)
        reads = [outcome for outcome in load.history.failed if outcome.method in READS]
        yield none("failed reads", len(reads), note=load.history.codes())
        yield from kept(load.history, scene.compared(load.history))
        yield at_least("calls a second", load.history.rate, 200, "/s")


def postgres_silent(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Let no byte through, with more callers than threads; then stop every process."""
    seconds = max(3, effort.of(_SILENCE_SECONDS))
    with stage.scene() as scene:
        for name, silence in (
            ("black hole", _cut_off(scene)),
            ("SIGSTOP", stage.stopped_postgres()),
        ):
            yield from _silenced(scene, name, silence, seconds)


@contextmanager
def _cut_off(scene: Scene) -> Iterator[None]:
    for database in (scene.graph_database, scene.feed_database):
        database.swallow()
    try:
        yield
    finally:
        for database in (scene.graph_database, scene.feed_database):
            database.heal()


def _silenced(
    scene: Scene, name: str, silence: AbstractContextManager[None], seconds: float
) -> Iterator[Row]:
    # Clients with the service config would not call who is not ready.
    traffic = replace(scene.traffic(clients=24), timeout=_DEADLINE_SECONDS, config="none")
    with Load(traffic) as load:
        time.sleep(_SETTLING_SECONDS)
        with silence:
            time.sleep(seconds)
            during = load.stop()
            stuck = _stuck(scene)
        healed = time.monotonic()
    with Load(traffic) as load:
        time.sleep(_SETTLING_SECONDS)
    late = max(outcome.seconds for outcome in during.outcomes) - _DEADLINE_SECONDS
    note = f"of {len(during.outcomes):,} calls {len(during.failed):,} failed: {during.codes()}"
    yield within(f"{name}: past the deadline", max(0, late) * 1e3, _LATE_MS, "ms", note=note)
    yield none(f"{name}: threads not free again", stuck, note=f"of {_SLOTS} tries")
    yield within(f"{name}: serving again after", _first_answers(load.history, healed), 2, "s")
    for history in (during, load.history):
        yield from kept(history, scene.compared(history))


def cancelled(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Let updates wait for rows that are locked, cancel every second one, and look again."""
    with stage.scene() as scene:
        posts = _own_posts(scene, _CALLS_AT_ONCE)
        with Load(scene.traffic()) as load:
            orphans = [_orphans(scene, posts) for _ in range(effort.of(50))]
        calls = len(orphans) * _CALLS_AT_ONCE
        yield none("statements without a caller", sum(orphans), note=f"{calls // 2:,} cancelled")
        yield from no_failure(load.history)
        yield from kept(load.history, scene.compared(load.history))


def _serving(history: History, accepting: Sequence[float]) -> Row:
    slowest = max(_first_answers(history, when) for when in accepting)
    note = f"{len(history.failed):,} calls failed meanwhile: {history.codes()}"
    return within("serving again after", slowest, _SERVING_SECONDS, "s", note=note)


def _first_answers(history: History, when: float) -> float:
    """After how long calls of each kind are answered again."""
    kinds = [READS - GRAPH_CALLS, WRITES - GRAPH_CALLS, GRAPH_CALLS]
    return max(history.first_answer_after(when, kind) for kind in kinds)


def _terminate_sessions(scene: Scene) -> None:
    for url in (scene.graph_url, scene.feed_url):
        with Session(url) as session:
            session.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def _stuck(scene: Scene) -> int:
    """How many calls that need a thread and no database are not answered within a second."""

    def is_stuck(_number: int) -> bool:
        try:
            feed.GetPost(feed_pb2.GetPostRequest(), timeout=1)
        except grpc.RpcError as error:
            return error.code() is not grpc.StatusCode.INVALID_ARGUMENT
        return False

    feed = FeedServiceStub(scene.feed.channel)
    time.sleep(_DEADLINE_SECONDS)
    with ThreadPoolExecutor(_SLOTS) as threads:
        return sum(threads.map(is_stuck, range(_SLOTS)))


def _own_posts(scene: Scene, number: int) -> list[int]:
    feed = FeedServiceStub(scene.feed.channel)
    draft = feed_pb2.CreatePostRequest(user_id=1, body="hello", audience=ALL)
    return [feed.CreatePost(draft, timeout=10).post.post_id for _ in range(number)]


def _orphans(scene: Scene, posts: Sequence[int]) -> int:
    """How many statements wait for a row more than there are callers."""
    with (
        Session(scene.feed_url) as locking,
        Session(scene.feed_url) as seer,
        grpc.insecure_channel(scene.feed.address) as channel,
    ):
        locking.rows(f"SELECT FROM posts WHERE id IN ({', '.join(map(str, posts))}) FOR UPDATE")
        feed = FeedServiceStub(channel)
        calls = [feed.UpdatePost.future(_change(post_id), timeout=30) for post_id in posts]
        until(lambda: _waiting(seer) == len(posts))
        for call in calls[::2]:
            call.cancel()
        time.sleep(_ORPHAN_SECONDS)
        orphans = _waiting(seer) - len(calls[1::2])
        locking.commit()
        for call in calls[1::2]:
            call.result()
    return max(0, orphans)


def _change(post_id: int) -> feed_pb2.UpdatePostRequest:
    post = feed_pb2.Post(author_id=1, post_id=post_id, body="changed")
    mask = FieldMask(paths=["body"])
    return feed_pb2.UpdatePostRequest(user_id=1, post=post, update_mask=mask)


def _waiting(seer: Session) -> int:
    [(number,)] = seer.rows(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    # What there is to see is kept until the end of a transaction.
    seer.commit()
    return int(number)
