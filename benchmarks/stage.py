"""What the measurements stand on: data, and the statements that the services send for it now."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from benchmarks import dataset as datasets
from benchmarks.capture import Sent, Sessions, Taps
from benchmarks.dataset import Dataset, connect
from benchmarks.fenced import running_fenced_pair
from benchmarks.processes import MeasuredProcess, RunningPair, parent_of, running_pair
from benchmarks.rounds import Effort
from benchmarks.world import SMALL, Size
from kith.client import KithClient
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.database.embedded_postgres import EmbeddedPostgres

BATCH: Final = 100
PAGE: Final = 50
"""A page far from the first."""
_DAYS_BACK = timedelta(days=300)
_LARGEST_PAGE = 100
_TIMEOUT_SECONDS = 60
# A week in the middle of the year that the posts are of.
_WEEK: Final = datetime(2025, 7, 2, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Captured:
    """The statements of calls, by viewer or by what is asked; viewers' connections are cached."""

    graph_sessions: Sessions
    feed_sessions: Sessions
    feed_page: Mapping[int, Sent]
    deep_pages: Mapping[str, Sequence[Sent]]
    first_digest: Mapping[int, Sent]
    digest: Mapping[int, Sent]
    connected_ids: Mapping[int, Sent]
    suggestions: Mapping[int, Sent]
    mutual: Mapping[int, Sent]
    """What a viewer has in common with the next one."""
    batch: Sent
    batch_id_count: int


class Stage:
    """Everything that a measurement may use, made when the first one asks for it."""

    def __init__(
        self,
        *,
        effort: Effort,
        cluster: EmbeddedPostgres,
        directory: Path,
        size: Size,
        small: Size = SMALL,
        console: Console,
        stack: ExitStack,
        start: type[MeasuredProcess] = MeasuredProcess,
    ) -> None:
        self.effort = effort
        self.cluster = cluster
        self.directory = directory
        self._console = console
        self._stack = stack
        self._small = small
        self.start = start
        self.logs.mkdir(parents=True, exist_ok=True)
        self.dataset = datasets.prepared(cluster, directory, size, console)

    @property
    def roots(self) -> list[int]:
        """The processes that, with all that they have started, are the benchmark."""
        with closing(connect(self.cluster.url("postgres"))) as session:
            return [os.getpid(), parent_of(session.get_backend_pid())]

    @property
    def logs(self) -> Path:
        """Where processes write what they have to say."""
        return self.directory / "logs"

    @cached_property
    def small(self) -> Dataset:
        """A small data set to compare with."""
        return datasets.prepared(self.cluster, self.directory, self._small, self._console)

    @cached_property
    def captured(self) -> Captured:
        """The statements of the services on the data set."""
        self._console.print("Listening to what the services send ...")
        return self._captured(self.dataset)

    @cached_property
    def streams_alone(self) -> dict[int, Sent]:
        """The pages of hubs by a service that does not look among the newest posts first."""
        return self._streams_alone(self.dataset)

    @cached_property
    def captured_small(self) -> Captured:
        """The statements of the services on the small data set."""
        is_the_same = self.small.name == self.dataset.name
        return self.captured if is_the_same else self._captured(self.small)

    @cached_property
    def pair(self) -> RunningPair:
        """Both services on the data set."""
        return self._stack.enter_context(
            running_pair(self.dataset, logs=self.logs, start=self.start)
        )

    @cached_property
    def fenced(self) -> RunningPair:
        """Both services with fences, on a copy of the data set; making it ends the other pair."""
        copy = self.copied("fenced")
        self._stack.callback(datasets.drop, self.cluster, copy.name)
        return self._stack.enter_context(
            running_fenced_pair(copy, logs=self.logs / copy.name, start=self.start)
        )

    def copied(self, name: str) -> Dataset:
        """Return a copy of the data set that may be written to, until the caller drops it.

        Ends the pairs that run: PostgreSQL copies no database that has sessions.
        """
        self._end_pairs()
        return datasets.copied(self.cluster, self.dataset, name)

    def small_copy(self, name: str) -> Dataset:
        """Return such a copy of the small data set; it takes seconds, whatever is measured."""
        self._end_pairs()
        return datasets.copied(self.cluster, self.small, name)

    def _end_pairs(self) -> None:
        self._stack.close()
        for name in ("pair", "fenced"):
            self.__dict__.pop(name, None)

    def _captured(self, dataset: Dataset) -> Captured:
        _forget_digests(dataset)
        with (
            Taps(graph_url=dataset.graph_url, feed_url=dataset.feed_url) as taps,
            running_pair(
                dataset,
                logs=self.logs,
                start=self.start,
                graph_url=taps.graph.url,
                feed_url=taps.feed.url,
            ) as pair,
        ):
            kith = pair.kith
            viewer_ids = [viewer.user_id for viewer in dataset.viewers]
            for viewer_id in viewer_ids:
                feed_page(kith, viewer_id)
            batch = dataset.ordinary_ids[:BATCH]
            return Captured(
                feed_page={id_: taps.sent_by(lambda: feed_page(kith, id_)) for id_ in viewer_ids},  # noqa: B023 -- called at once
                deep_pages=_deep_pages(dataset, taps, kith),
                first_digest={id_: taps.sent_by(lambda: _digest(kith, id_)) for id_ in viewer_ids},  # noqa: B023 -- as above
                digest={id_: taps.sent_by(lambda: _digest(kith, id_)) for id_ in viewer_ids},  # noqa: B023 -- as above
                connected_ids={
                    id_: taps.sent_by(lambda: connected_ids(kith, [id_]))  # noqa: B023 -- as above
                    for id_ in viewer_ids
                },
                suggestions={
                    id_: taps.sent_by(lambda: _suggestions(kith, id_))  # noqa: B023 -- as above
                    for id_ in viewer_ids
                },
                mutual={
                    id_: taps.sent_by(lambda: _mutual(kith, id_, peer_id))  # noqa: B023 -- as above
                    for id_, peer_id in zip(
                        viewer_ids, [*viewer_ids[1:], viewer_ids[0]], strict=True
                    )
                },
                batch=taps.sent_by(lambda: connected_ids(kith, batch)),
                batch_id_count=connected_ids(kith, batch),
                graph_sessions=taps.graph.sessions,
                feed_sessions=taps.feed.sessions,
            )

    def _streams_alone(self, dataset: Dataset) -> dict[int, Sent]:
        with (
            Taps(graph_url=dataset.graph_url, feed_url=dataset.feed_url) as taps,
            running_pair(
                dataset,
                logs=self.logs,
                start=self.start,
                graph_url=taps.graph.url,
                feed_url=taps.feed.url,
                settings={"FEED_HUB_SCAN_ROWS": "0"},
            ) as pair,
        ):
            return {
                id_: taps.sent_by(lambda: feed_page(pair.kith, id_))  # noqa: B023 -- called at once
                for id_ in dataset.viewer_ids(dataset.hub)
            }


@contextmanager
def prepared_stage(
    *, size: Size, effort: Effort, directory: Path, console: Console
) -> Iterator[Stage]:
    """Make or find the data, and end afterwards what the measurements started."""
    directory.mkdir(parents=True, exist_ok=True)
    with EmbeddedPostgres(directory) as cluster, ExitStack() as stack:
        yield Stage(
            effort=effort,
            cluster=cluster,
            directory=directory,
            size=size,
            console=console,
            stack=stack,
        )


def feed_page(
    kith: KithClient, viewer_id: int, *, page_size: int = 0, page_token: str = ""
) -> feed_pb2.GetFeedResponse:
    """Return a page of a feed."""
    request = feed_pb2.GetFeedRequest(user_id=viewer_id, page_size=page_size, page_token=page_token)
    return kith.feed.GetFeed(request, timeout=_TIMEOUT_SECONDS)


def connected_ids(kith: KithClient, user_ids: Sequence[int]) -> int:
    """Return how many ids the answer about a batch of users has."""
    users = [graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=id_) for id_ in user_ids]
    response = kith.graph.GetConnectedUserIds(
        graph_pb2.GetConnectedUserIdsRequest(users=users), timeout=_TIMEOUT_SECONDS
    )
    return sum(len(user.connected_user_ids) for user in response.users)


def _digest(kith: KithClient, viewer_id: int) -> None:
    week = Timestamp()
    week.FromDatetime(_WEEK)
    kith.feed.GetDigest(
        feed_pb2.GetDigestRequest(user_id=viewer_id, week_of=week), timeout=_TIMEOUT_SECONDS
    )


def _suggestions(kith: KithClient, viewer_id: int) -> None:
    kith.graph.SuggestConnections(
        graph_pb2.SuggestConnectionsRequest(user_id=viewer_id), timeout=_TIMEOUT_SECONDS
    )


def _mutual(kith: KithClient, viewer_id: int, peer_id: int) -> None:
    kith.graph.ListMutualConnections(
        graph_pb2.ListMutualConnectionsRequest(user_id=viewer_id, peer_id=peer_id),
        timeout=_TIMEOUT_SECONDS,
    )


def _deep_pages(dataset: Dataset, taps: Taps, kith: KithClient) -> dict[str, list[Sent]]:
    """Return what first and deep pages of 20 send, for the same viewers."""
    pages: dict[str, list[Sent]] = {"page 1": [], "page 50": [], "300 days back": []}
    for viewer_id in dataset.viewer_ids(dataset.usual)[:5]:
        tokens = {
            "page 1": "",
            "page 50": token_behind(kith, viewer_id, pages=PAGE - 1),
            "300 days back": _token_before(kith, viewer_id),
        }
        for name, token in tokens.items():
            pages[name].append(
                taps.sent_by(lambda: feed_page(kith, viewer_id, page_token=token))  # noqa: B023 -- called at once
            )
    return pages


def token_behind(kith: KithClient, viewer_id: int, *, pages: int) -> str:
    """Return the token of the page behind so many, or of the last one."""
    token = ""
    for _ in range(pages):
        token = feed_page(kith, viewer_id, page_token=token).next_page_token or token
    return token


def _token_before(kith: KithClient, viewer_id: int) -> str:
    """Return the token of a page whose posts are 300 days older than the newest."""
    page = feed_page(kith, viewer_id, page_size=_LARGEST_PAGE)
    newest = page.posts[0].create_time.ToDatetime()
    token = page.next_page_token
    while page.next_page_token and page.posts[-1].create_time.ToDatetime() > newest - _DAYS_BACK:
        token = page.next_page_token
        page = feed_page(kith, viewer_id, page_size=_LARGEST_PAGE, page_token=token)
    return token


def _forget_digests(dataset: Dataset) -> None:
    """Forget the digests frozen by earlier runs, so that the choice is made again."""
    with closing(connect(dataset.feed_url)) as session, session.cursor() as cursor:
        cursor.execute("TRUNCATE frozen_digests CASCADE")
