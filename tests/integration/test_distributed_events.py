"""What a distributed database may still commit is waited for before later events are told.

Run on one PostgreSQL, in which a table says what the nodes of a Citus would; and what a coordinator
has lost, on a Citus.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeAlias

import pytest
from prometheus_client import CollectorRegistry

from feed_service.layouts import DISTRIBUTED
from feed_service.queries.events import EventFilter, EventRow
from feed_service.watches import ContentWatches
from kith.exceptions import UnavailableError
from kith.feed.v1 import feed_pb2 as pb
from shared.api.paging import PageTokens
from shared.api.watches import Changes, WatchMetrics, WatchSettings
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People
from tests.support.processes import Session
from tests.support.reading import new_reader

_Stream: TypeAlias = Iterator[Changes[EventRow]]

_NODES = """
    CREATE TABLE nodes (nodeid integer, success boolean, result text);
    INSERT INTO nodes VALUES (0, true, ''), (1, true, '');
    CREATE FUNCTION run_command_on_all_nodes(command text)
        RETURNS SETOF nodes LANGUAGE sql AS 'SELECT * FROM nodes';
"""
_SETTINGS = WatchSettings(
    max_watchers=1, heartbeat=timedelta(seconds=0.2), send_limit=timedelta(seconds=30)
)


class _Call:
    """The call of a consumer who stays."""

    def is_active(self) -> bool:
        return True

    def add_callback(self, _callback: Callable[[], None], /) -> bool:
        return True

    def cancel(self) -> object:
        return None


@dataclass(frozen=True, kw_only=True)
class _Nodes:
    """A database whose nodes say what a test has them say, and a stream of its events."""

    url: str
    stream: _Stream

    def execute(self, statement: str) -> None:
        with Session(self.url) as session:
            session.rows(statement)
            session.commit()

    def say(self, result: str, *, success: bool = True) -> None:
        """Let node 1 answer this."""
        self.execute(f"UPDATE nodes SET result = '{result}', success = {success} WHERE nodeid = 1")

    def post(self) -> None:
        self.execute(
            "INSERT INTO content_events (kind, author_id, post_id) VALUES ('post_created', 1, 2)"
        )


@pytest.fixture
def nodes(databases: Databases) -> Iterator[_Nodes]:
    url = databases.new_single("feed")
    with Session(url) as session:
        session.rows(_NODES)
        session.commit()
    with closing(new_reader(url, {"DATABASE_PREPARE": "off"})) as reader:
        watches = ContentWatches(
            reader,
            PageTokens(keys=[b"a key for tests that is long enough to be taken"]),
            _SETTINGS,
            WatchMetrics(CollectorRegistry()),
            layout=DISTRIBUTED,
        )
        stream = watches.follow("", _Call(), EventFilter(), from_oldest=False)
        with closing(stream):  # type: ignore[type-var]  # it is a generator
            next(stream)
            yield _Nodes(url=url, stream=stream)


def test_what_a_node_has_prepared_is_waited_for(nodes: _Nodes) -> None:
    nodes.say("77 78")
    nodes.post()
    silent = [next(nodes.stream).events for _ in range(4)]

    # Its number may be lower than that of the post.
    nodes.say("78 79")
    still_silent = [next(nodes.stream).events for _ in range(4)]
    nodes.say("79")

    assert silent == still_silent == [[]] * 4
    told = next(changes.events for changes in nodes.stream if changes.events)
    assert [event.post_id for event in told] == [2]


def test_a_stream_ends_when_a_node_does_not_answer(nodes: _Nodes) -> None:
    nodes.say("could not connect", success=False)
    nodes.post()

    with pytest.raises(UnavailableError):
        list(islice(nodes.stream, 100))


# The coordinator writes to its log that it has given numbers out when a transaction of its own
# commits, which may be after nodes have committed events that have these numbers.
_FORGET_NUMBERS = """
    SELECT setval('content_events_seq_seq', 1, false);
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND application_name LIKE 'kith %'
"""


@pytest.mark.usefixtures("citus")
def test_a_coordinator_that_has_lost_the_last_numbers_gives_no_event_a_number_again(
    databases: Databases,
) -> None:
    with running_pair(databases) as pair:
        people = People(pair)
        author, other = people.new(2)
        posted = [people.post(author) for _ in range(3)]
        told, cursor = _told(pair, "", most=3)
        with Session(pair.feed_url) as session:
            session.rows(_FORGET_NUMBERS)
            session.commit()

        later = people.post(other)

        assert told == posted
        assert _told(pair, cursor, most=1)[0] == [later]


def _told(pair: Pair, cursor: str, *, most: int) -> tuple[list[int], str]:
    """Return the posts of events behind a cursor, or of the oldest, and the cursor behind them."""
    request = pb.WatchPostsRequest(cursor=cursor, from_oldest=not cursor)
    call = pair.feed.WatchPosts(request, timeout=30)
    told = list[int]()
    for changes in call:
        told += [event.post_id for event in changes.events]
        if len(told) >= most:
            break
    call.cancel()
    return told, changes.cursor
