"""Weekly digests: the most important posts of a week, chosen once when the week is over.

A week that is not over is chosen from anew at every reading. The first reading of a week that is
over keeps its choice, under the arguments that make it another digest, and later readings show of
it what the viewer may still see. Freezing takes place only after the choice has been validated, so
that nothing is kept that the viewer should not have seen.

What is frozen is read where it is written. A week that is not over may be chosen from on a replica.

A reading costs one statement, the first of a finished week three: looking for a frozen choice,
choosing, freezing. To leave out what was read takes one more. A reading that finds the digest
frozen by another one meanwhile reads again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from feed_service import queries
from feed_service.queries.digests import Choice, ChosenPost, FrozenName
from feed_service.resources import Resources
from feed_service.safe_read import steady_read
from feed_service.settings import DigestRules, HubScan
from feed_service.summary import PlainSummarizer, ShownPost, Summarizer
from feed_service.viewers import Viewer
from feed_service.weeks import Week
from kith.exceptions import ValidationError
from shared.database.reader import Reader

_LONGER_THAN_A_WEEK: Final = timedelta(days=9)


@dataclass(frozen=True, kw_only=True)
class DigestQuery:
    """What a digest is asked for; `week_start_day` 0 is the day that is set."""

    viewer_id: int
    week_of: datetime | None
    time_zone: ZoneInfo
    tag_ids: Sequence[int]
    include_own_posts: bool
    exclude_read: bool
    week_start_day: int


@dataclass(frozen=True, kw_only=True)
class Digest:
    """A week, what the viewer sees of its choice of posts, and a sentence about them."""

    week: Week
    posts: Sequence[ChosenPost]
    summary: str
    left_out_count: int
    is_frozen: bool


class Digests:
    """Makes digests."""

    def __init__(
        self,
        resources: Resources,
        rules: DigestRules,
        *,
        hub_scan: HubScan,
        summarizer: Summarizer | None = None,
    ) -> None:
        self._database = resources.database
        self._reader = resources.reader
        self._reads = resources.reads
        self._graph = resources.graph
        self._rules = rules
        self._metrics = resources.metrics
        self._layout = resources.layout
        self._hub_scan = hub_scan
        self._summarizer = summarizer or PlainSummarizer()

    def digest(self, query: DigestQuery) -> Digest:
        """Return the digest of a week that has begun.

        Raises ValidationError naming `week_of` for any other week, and AbortedError when the
        viewer's connections kept changing: one can drop the posts of a former connection from a
        digest, but not their part in what else was chosen and counted.
        """
        self._metrics.digest_requests.inc()
        with self._metrics.digest_latency.time():
            now = datetime.now(UTC)
            week = self._week(query, now)
            choice = self._choice(query, week, is_over=week.end <= now)
            return Digest(
                week=week,
                posts=choice.posts,
                summary=self._summarizer.summary([_shown(chosen, week) for chosen in choice.posts]),
                left_out_count=choice.left_out_count,
                is_frozen=choice.is_frozen,
            )

    def _week(self, query: DigestQuery, now: datetime) -> Week:
        # The end of time has no week that can be computed; any later week is as wrong.
        moment = min(query.week_of or now, now + _LONGER_THAN_A_WEEK)
        week = Week.around(moment, query.time_zone, start_day=self._start_day(query))
        if week.start > now:
            raise ValidationError.of("week_of", "must not be in a future week")
        return week

    def _choice(self, query: DigestQuery, week: Week, *, is_over: bool) -> Choice:
        name = self._frozen_name(query, week) if is_over else None
        choice = self._read(query, week, name)
        if name is None or choice.is_frozen:
            return choice
        if self._freeze(name, choice):
            return replace(choice, is_frozen=True)
        return self._read(query, week, name)

    def _read(self, query: DigestQuery, week: Week, name: FrozenName | None) -> Choice:
        """Return the choice frozen under a name, or else choose."""

        def choose(reader: Reader, viewer: Viewer) -> Choice:
            read_at = None
            if query.exclude_read:
                read_at = queries.read_positions.read_position(reader, user_id=viewer.user_id)
            return self._layout.digest_choice(
                reader,
                viewer=viewer,
                week=week,
                read_at=read_at,
                rules=self._rules,
                tag_ids=query.tag_ids,
                include_own_posts=query.include_own_posts,
                hub_scan=self._hub_scan,
            )

        def read(viewer: Viewer) -> Choice:
            if name is None:
                return self._reads.prepared(
                    lambda reader: choose(reader, viewer), since=viewer.since
                )
            frozen = self._layout.frozen_choice(
                self._reader, viewer=viewer, name=name, with_muted=bool(query.tag_ids)
            )
            return frozen or choose(self._reader, viewer)

        return steady_read(self._graph, query.viewer_id, read)

    def _freeze(self, name: FrozenName, choice: Choice) -> bool:
        # A read as far as the database is concerned: one statement of its own, as good when
        # repeated, without the two round trips of a transaction.
        return self._database.read(
            lambda connection: self._layout.freeze(connection, name=name, choice=choice)
        )

    def _frozen_name(self, query: DigestQuery, week: Week) -> FrozenName:
        arguments = (
            query.time_zone.key,
            self._start_day(query),
            sorted(query.tag_ids),
            query.include_own_posts,
            # The names of digests without it are those of the versions that did not know it.
            *(["exclude_read"] if query.exclude_read else []),
        )
        return FrozenName(
            viewer_id=query.viewer_id,
            week=week,
            fingerprint=hashlib.sha256(repr(arguments).encode()).digest(),
        )

    def _start_day(self, query: DigestQuery) -> int:
        return query.week_start_day or self._rules.week_start_day


def _shown(chosen: ChosenPost, week: Week) -> ShownPost:
    return ShownPost(
        author_id=chosen.post.author_id,
        importance=chosen.importance,
        day=week.first_date + timedelta(days=chosen.day),
    )
