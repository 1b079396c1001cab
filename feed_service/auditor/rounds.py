"""The auditor's rounds: one viewer each, some items, and every call about them.

The order is that of a proof: the facts before, the call, the facts after. Pages are read once
before that, because what is on them has to be among the facts before. What was unsettled is tried
again at once, for a busy author would otherwise never be decided about.
"""

import logging
import random
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from feed_service.auditor.decisions import Decision, decisions
from feed_service.auditor.facts import Facts
from feed_service.auditor.items import Item
from feed_service.auditor.metrics import UNSETTLED, VIOLATED, AuditorMetrics
from feed_service.auditor.primaries import Primaries
from feed_service.auditor.replays import Answer, Question, Replay
from kith.exceptions import AppException

PAGES: Final = ("GetFeed", "GetDigest", "ListPosts", "ListComments")
_MOST_POSTS: Final = 60
_MOST_COMMENTS: Final = 20
_REPEATS: Final = 2
_IDLE_SECONDS: Final = 5.0
_FAILURE_SECONDS: Final = 2.0
_log = logging.getLogger("kith.auditor")


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """An answer with the facts around it."""

    call: str
    answer: Answer
    before: Facts
    after: Facts
    arrived_at: float


class Rounds:
    """Makes round after round, at a limited rate of decisions."""

    def __init__(
        self,
        primaries: Primaries,
        replays: Mapping[str, Replay],
        metrics: AuditorMetrics,
        *,
        decisions_per_second: float,
        pick: random.Random,
    ) -> None:
        self._primaries = primaries
        self._replays = replays
        self._metrics = metrics
        self._rate = decisions_per_second
        self._pick = pick
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the call that is under way, and wait some seconds for it."""
        self._stopping.set()
        self._thread.join(15)

    def round(self) -> list[Decision]:
        """Make every call as one viewer, and return what was decided.

        Raises AppException when the databases or feed_service do not answer.
        """
        viewer_id = self._primaries.some_viewer()
        if viewer_id is None:
            return []
        return self.round_of(viewer_id)

    def round_of(self, viewer_id: int) -> list[Decision]:
        """Make the same as a given viewer."""
        items = self._primaries.candidates(
            viewer_id, most_posts=_MOST_POSTS, most_comments=_MOST_COMMENTS
        )
        facts = self._primaries.facts(viewer_id, items)
        for call in PAGES:
            answer = self._ask(call, facts, items)
            if answer is not None:
                items |= answer.shown
        decided = list[Decision]()
        facts = self._primaries.facts(viewer_id, items)
        for call in self._replays:
            if self._stopping.is_set():
                break
            found, facts = self._decide(call, facts, items)
            decided += found
        return decided

    def _decide(self, call: str, facts: Facts, items: set[Item]) -> tuple[list[Decision], Facts]:
        """Return the decisions about a call, and the facts after it."""
        decided = list[Decision]()
        left: Collection[Item] | None = None
        for repeats_left in reversed(range(_REPEATS + 1)):
            answer = self._ask(call, facts, items)
            if answer is None:
                break
            arrived_at = time.monotonic()
            items |= answer.shown
            after = self._primaries.facts(facts.viewer_id, items)
            judged = _Judged(
                call=call, answer=answer, before=facts, after=after, arrived_at=arrived_at
            )
            facts = after
            found = list(decisions(answer, judged.before, after, among=left))
            unsettled = [each.item for each in found if each.outcome == UNSETTLED]
            for each in found:
                if each.outcome != UNSETTLED or not repeats_left:
                    self._count(judged, each)
                    decided.append(each)
            if not unsettled:
                break
            left = unsettled
        return decided, facts

    def _ask(self, call: str, facts: Facts, items: Collection[Item]) -> Answer | None:
        """Make a call; None when it is not answered."""
        question = Question(
            viewer_id=facts.viewer_id,
            items=items,
            since={item: post.created_at for item, post in facts.posts.items()},
            position=facts.position if self._pick.random() < 1 / 2 else "",
        )
        try:
            return self._replays[call](question)
        except AppException as error:
            self._metrics.failures.labels(error.reason_name or error.code.name).inc()
            _log.info("a call was not answered", extra={"method": call, "reason": str(error)})
            return None

    def _count(self, judged: _Judged, decision: Decision) -> None:
        self._metrics.decisions.labels(judged.call, decision.outcome).inc()
        age = judged.arrived_at - judged.before.taken_at if decision.reflects_past else 0.0
        self._metrics.staleness.observe(age)
        if decision.outcome == VIOLATED:
            self._metrics.violations.labels(judged.call, decision.kind).inc()
            _log.error("privacy violation", extra=_evidence(judged, decision))

    def _run(self) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                seconds = self._rest(len(self.round()))
            except AppException as error:
                self._metrics.failures.labels(error.reason_name or error.code.name).inc()
                _log.warning("a round failed", extra={"reason": error.message})
                seconds = _FAILURE_SECONDS
            except Exception:  # noqa: BLE001 -- the next round may succeed after any error
                self._metrics.failures.labels("INTERNAL").inc()
                _log.exception("a round failed")
                seconds = _FAILURE_SECONDS
            self._stopping.wait(max(0.0, started + seconds - time.monotonic()))

    def _rest(self, decided: int) -> float:
        """Return after how many seconds the next round may begin."""
        return decided / self._rate if decided else _IDLE_SECONDS


def _evidence(judged: _Judged, decision: Decision) -> dict[str, object]:
    """Return what an engineer needs to find the cause; ids and no texts."""
    item, after = decision.item, judged.after
    return {
        "method": judged.call,
        "kind": decision.kind,
        "clause": decision.clause,
        "told_clause": judged.answer.clauses.get(item, ""),
        "viewer_id": after.viewer_id,
        "author_id": item.author_id,
        "post_id": item.post_id,
        "comment_id": item.comment_id,
        "audited_request_id": judged.answer.request_id,
        "viewer_revision": after.relation(after.viewer_id).revision,
        "author_revision": after.relation(item.author_id).revision,
        "position_before": judged.before.position,
        "position_after": after.position,
        "window_seconds": round(time.monotonic() - judged.before.taken_at, 3),
    }
