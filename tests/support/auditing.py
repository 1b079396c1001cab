"""An auditor whose rounds are made one at a time, and people with one of every situation."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask
from prometheus_client import CollectorRegistry

from feed_service.auditor.decisions import Decision
from feed_service.auditor.metrics import VIOLATED, AuditorMetrics
from feed_service.auditor.primaries import SUSPENSION_SECONDS, Primaries, Primary
from feed_service.auditor.replays import Replays
from feed_service.auditor.rounds import Rounds
from kith.environment import Environment
from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2 as graph
from shared.database.settings import DatabaseSettings
from tests.support.pair import Pair
from tests.support.people import PRIVATE, People, all_without, tagged
from tests.support.random_changes import RandomChanges
from tests.support.roles import make_auditor


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The rounds of an auditor."""

    rounds: Rounds
    registry: CollectorRegistry
    primaries: Primaries

    def violations(self, viewer_id: int) -> list[Decision]:
        """Make a round as one viewer, and return what is wrong."""
        decided = self.rounds.round_of(viewer_id)
        return [decision for decision in decided if decision.outcome == VIOLATED]


@contextmanager
def auditing(pair: Pair, *, suspension_seconds: float = 0) -> Iterator[Audit]:
    """Read the databases of a pair by the auditor's own role, and call its feed_service."""
    settings, pick = DatabaseSettings.read(Environment({}), "FEED"), random.Random(1)
    registry, replays = CollectorRegistry(), Replays(pair.feed, pick=pick)
    graph_url, feed_url = (
        make_auditor(service, url)
        for service, url in (("graph", pair.graph_url), ("feed", pair.feed_url))
    )
    with closing(
        Primaries(
            Primary(settings, graph_url),
            Primary(settings, feed_url),
            pick=pick,
            suspension_seconds=suspension_seconds,
        )
    ) as primaries:
        rounds = Rounds(
            primaries,
            replays.by_call,
            AuditorMetrics(registry, calls=replays.by_call),
            decisions_per_second=1,
            pick=pick,
        )
        yield Audit(rounds=rounds, registry=registry, primaries=primaries)


def decided_beside_writers(pair: Pair, *, rounds: int) -> list[Decision]:
    """Make rounds while two writers change what the same six people see, at random."""
    pick = random.Random(2)
    ids = People(pair).new(6)
    writers = [RandomChanges(pair, ids, random.Random(seed)) for seed in (3, 4)]
    writers[0].begin()
    for shared in ("posts", "comments", "tags"):
        setattr(writers[1], shared, getattr(writers[0], shared))
    stopping = threading.Event()

    def write(changes: RandomChanges) -> None:
        while not stopping.is_set():
            changes.change()

    with (
        auditing(pair, suspension_seconds=SUSPENSION_SECONDS) as audit,
        ThreadPoolExecutor(len(writers)) as threads,
    ):
        writing = [threads.submit(write, changes) for changes in writers]
        try:
            decided = [
                decision
                for _ in range(rounds)
                for decision in audit.rounds.round_of(pick.choice(ids))
            ]
        finally:
            stopping.set()
        for each in writing:
            each.result()
    return decided


def viewer_of_everything(pair: Pair) -> int:
    """Return a viewer of posts and comments about which each clause of the rule decides."""
    people = People(pair)
    viewer, author, commenter, former, asked, muted, suspended, blocked, stranger = people.new(9)
    people.connect(viewer, author, former, muted, suspended)
    people.connect(author, commenter, blocked)
    people.block(viewer, blocked)
    given, kept = (people.tag(author, name) for name in ("given", "kept"))
    people.give(author, given, viewer)
    people.give(former, outlived := people.tag(former, "outlived"), viewer)
    people.remove(former, viewer)
    people.connect(former, viewer)
    pair.graph.RequestConnection(graph.RequestConnectionRequest(user_id=viewer, peer_id=asked))
    _mute(pair, people, viewer, muted)

    for audience in (PRIVATE, tagged(given), tagged(kept), all_without(given)):
        people.post(author, audience)
    for other in (viewer, muted, suspended, asked, stranger):
        people.post(other)
    people.post(former, tagged(outlived))
    deleted, moderated, post_id = (people.post(author) for _ in range(3))
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author, post_id=deleted))
    _moderate(pair, pb.PostName(author_id=author, post_id=moderated))

    post = pb.PostName(author_id=author, post_id=post_id)
    plain, hid, unsaid, rude, by_blocked = (
        _comment(pair, user_id, post)
        for user_id in (viewer, commenter, commenter, commenter, blocked)
    )
    for comment_id in (plain, hid, rude, by_blocked):
        _comment(pair, author, post, comment_id)
    pair.feed.HideComment(pb.HideCommentRequest(user_id=author, post_id=post_id, comment_id=hid))
    pair.feed.DeleteComment(
        pb.DeleteCommentRequest(user_id=commenter, post=post, comment_id=unsaid)
    )
    _moderate(pair, post, rude)
    people.suspend(suspended)
    return viewer


def _mute(pair: Pair, people: People, viewer_id: int, muted_id: int) -> None:
    tag = pb.Tag(tag_id=people.tag(viewer_id, "tiring", muted_id), muted=True)
    pair.feed.UpdateTag(
        pb.UpdateTagRequest(user_id=viewer_id, tag=tag, update_mask=FieldMask(paths=["muted"]))
    )


def _comment(pair: Pair, user_id: int, post: pb.PostName, parent_id: int = 0) -> int:
    return pair.feed.CreateComment(
        pb.CreateCommentRequest(
            user_id=user_id, post=post, body="hello", parent_comment_id=parent_id
        )
    ).comment.comment_id


def _moderate(pair: Pair, post: pb.PostName, comment_id: int = 0) -> None:
    pair.feed.SetModeration(
        pb.SetModerationRequest(
            post=post, comment_id=comment_id, state=pb.MODERATION_STATE_HIDDEN, reason="rude"
        )
    )
