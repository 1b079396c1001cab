"""Sweeps: every person of a world asks about every post and comment in it."""

import random
from dataclasses import dataclass, field
from typing import Final

from feed_service.auditor.items import Item
from feed_service.auditor.primaries import Primaries
from feed_service.auditor.rule import ruling
from kith.feed.v1 import feed_pb2 as pb
from tests.support.pair import Pair
from tests.support.people import People
from tests.support.random_changes import RandomChanges

_CHANGES: Final = 50
_SWEEPS: Final = 40
_MOST_CHECKS: Final = 1_000


@dataclass
class Sweeps:
    """A world of random people, and another one after so many sweeps."""

    pair: Pair
    primaries: Primaries
    pick: random.Random
    people: int = 24
    first_changes: int = 2_500
    _changes: RandomChanges = field(init=False)
    _left: int = 0

    def sweep(self) -> tuple[int, list[str]]:
        """Let everybody ask about everything; returns the number of decisions, and what is wrong.

        Nothing else changes meanwhile, so each answer has one moment that it can be of.
        """
        self._go_on()
        changes = self._changes
        items = [
            *(Item(post.author_id, post.post_id) for post in changes.posts),
            *(
                Item(each.post.author_id, each.post.post_id, each.comment_id)
                for each in changes.comments
            ),
        ]
        decided, wrong = 0, list[str]()
        for viewer_id in changes.ids:
            for first in range(0, len(items), _MOST_CHECKS):
                asked = items[first : first + _MOST_CHECKS]
                facts = self.primaries.facts(viewer_id, asked)
                for item, is_visible in zip(asked, self._checked(viewer_id, asked), strict=True):
                    ruled = ruling(facts, item)
                    if ruled is None:
                        continue
                    decided += 1
                    if ruled.is_visible != is_visible:
                        wrong.append(f"{viewer_id} {item}: {is_visible}, by {ruled.clause}")
        return decided, wrong

    def _go_on(self) -> None:
        """Change some things, or begin anew."""
        if self._left:
            self._left -= 1
            self._changes.change(_CHANGES)
            return
        self._left = _SWEEPS
        self._changes = RandomChanges(self.pair, People(self.pair).new(self.people), self.pick)
        self._changes.begin()
        self._changes.change(self.first_changes)

    def _checked(self, viewer_id: int, items: list[Item]) -> list[bool]:
        checks = [
            pb.CheckVisibilityRequest.VisibilityCheck(
                viewer_id=viewer_id,
                post=pb.PostName(author_id=item.author_id, post_id=item.post_id),
                comment_id=item.comment_id,
            )
            for item in items
        ]
        request = pb.CheckVisibilityRequest(checks=checks)
        return list(self.pair.feed.CheckVisibility(request).visible)
