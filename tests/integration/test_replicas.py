"""Reads that replicas answer are never older than they may be, and right as of one moment.

The standby of these tests is paused at will: then it is as old as it was at that moment, however
much is written. The last tests take the primary away.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from feed_service.auditor.metrics import AGREED, UNSETTLED, VIOLATED
from feed_service.viewers import Viewer
from kith.client import KithClient
from kith.exceptions import DeadlineError, UnavailableError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.positions import KEY
from shared.server.server import RunningServer
from tests.support.auditing import auditing, decided_beside_writers
from tests.support.errors import decoded, fields_of
from tests.support.gateway import running_gateway
from tests.support.mutants import MUTANTS
from tests.support.pair import Databases, Pair, running_fenced_pair, running_pair
from tests.support.pauses import CASES, CLOSES_FENCES, FENCE_STEPS, OPENS_FENCES, Pause
from tests.support.people import ALL, PRIVATE, People
from tests.support.processes import until
from tests.support.replication import ReplicatedCluster, Server, replicated_cluster
from tests.support.scrape import scrape
from tests.support.wire import WireTap

_ANY = ((KEY, "any"),)
# Also when the other tests run on a Citus.
_SINGLE = {"FEED_LAYOUT": "single"}
# After this, feed_service mostly knows where its primary has been.
_A_LOOK = 0.15


@pytest.fixture(scope="module")
def replicated() -> Iterator[ReplicatedCluster]:
    """A primary and one standby."""
    with replicated_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def databases(replicated: ReplicatedCluster) -> Databases:
    """A maker of databases that the standby has as well."""
    return Databases(replicated)


@pytest.fixture(scope="module")
def pair(replicated: ReplicatedCluster, databases: Databases) -> Iterator[Pair]:
    """Both services, with the standby as their replica."""
    with running_pair(databases, _SINGLE, replicas=replicated.standbys) as running:
        until(lambda: _is_in_rotation(running))
        yield running


@pytest.fixture
def standby(replicated: ReplicatedCluster, pair: Pair) -> Iterator[Server]:
    """The standby, which is let go after the test."""
    [standby] = replicated.standbys
    standby.catch_up(replicated.primary)
    until(lambda: _is_in_rotation(pair))
    yield standby
    standby.let_go()


@pytest.fixture
def pause(pair: Pair) -> Iterator[Pause]:
    """A pause that is gone after the test."""
    pause = Pause(pair)
    yield pause
    pause.off()


def _is_in_rotation(pair: Pair) -> bool:
    servers = (pair.graph_server, pair.feed_server)
    return all(scrape(server).value("replica_in_rotation") for server in servers)


def _reads(server: RunningServer, outcome: str) -> float:
    return scrape(server).value("replica_reads_total", outcome=outcome)


def _post(pair: Pair, author: int, **fields: Any) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Publish a post; returns its id, and what to bring to a read that has to see it."""
    request = feed_pb2.CreatePostRequest(user_id=author, body="hello", audience=ALL, **fields)
    response, call = pair.feed.CreatePost.with_call(request)
    return response.post.post_id, _brought(call)


def _brought(call: grpc.Call) -> tuple[tuple[str, str], ...]:
    told = [(key, str(value)) for key, value in call.initial_metadata() if key == KEY]
    assert len(told) == 1
    return tuple(told)


def _own(pair: Pair, author: int, metadata: tuple[tuple[str, str], ...] = ()) -> list[int]:
    request = feed_pb2.ListPostsRequest(user_id=author, author_id=author)
    return [post.post_id for post in pair.feed.ListPosts(request, metadata=metadata).posts]


def _feed(pair: Pair, viewer: int, metadata: tuple[tuple[str, str], ...] = _ANY) -> list[int]:
    request = feed_pb2.GetFeedRequest(user_id=viewer)
    return [post.post_id for post in pair.feed.GetFeed(request, metadata=metadata).posts]


def _hide(pair: Pair, author: int, post_id: int) -> None:
    pair.feed.UpdatePost(
        feed_pb2.UpdatePostRequest(
            user_id=author,
            post=feed_pb2.Post(post_id=post_id, audience=PRIVATE),
            update_mask=FieldMask(paths=["audience"]),
        )
    )


def test_a_read_that_brings_its_write_sees_it_however_far_behind_the_replica_is(
    pair: Pair, people: People, standby: Server
) -> None:
    [author] = people.new(1)
    standby.pause()
    behind = _reads(pair.feed_server, "behind")

    post, brought = _post(pair, author)

    assert _own(pair, author, brought) == [post]
    assert _reads(pair.feed_server, "behind") == behind + 1


def test_only_a_read_that_takes_anything_is_shown_what_a_replica_has(
    pair: Pair, people: People, standby: Server
) -> None:
    [author] = people.new(1)
    standby.pause()
    post, _ = _post(pair, author)

    assert _own(pair, author, _ANY) == []
    assert _own(pair, author) == [post]


def test_a_replica_answers_a_read_that_brings_its_write_once_it_has_it(
    replicated: ReplicatedCluster, pair: Pair, people: People, standby: Server
) -> None:
    [author] = people.new(1)
    post, brought = _post(pair, author)
    standby.catch_up(replicated.primary)
    answered = _reads(pair.feed_server, "replica")
    # It is asked when a look has seen how far it is.
    until(lambda: _own(pair, author, brought) and _reads(pair.feed_server, "replica") > answered)
    answered = _reads(pair.feed_server, "replica")
    pair.feed_tap.reset()
    for tap in pair.replica_taps:
        tap.reset()

    assert _own(pair, author, brought) == [post]
    assert _reads(pair.feed_server, "replica") == answered + 1
    assert not [text for text in pair.feed_tap.statements if "posts" in text]
    # The proof is in the message of the read.
    [message] = [text for tap in pair.replica_taps for text in tap.statements if "posts" in text]
    assert "CASE WHEN pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= " in message


def test_a_session_of_the_client_sees_what_it_has_written_and_then_reads_from_the_replica(
    replicated: ReplicatedCluster, pair: Pair, people: People, standby: Server
) -> None:
    [author] = people.new(1)
    draft = feed_pb2.CreatePostRequest(user_id=author, body="hello", audience=ALL)
    listing = feed_pb2.ListPostsRequest(user_id=author, author_id=author)
    graph, feed = pair.graph_server.address, pair.feed_server.address
    with KithClient.from_environment(graph=graph, feed=feed) as kith:
        session = kith.session(reads="replicas")
        standby.pause()
        before = list(session.feed.ListPosts(listing).posts)
        post = session.feed.CreatePost(draft).post
        stale = list(session.feed.ListPosts(listing).posts)
        standby.let_go()
        standby.catch_up(replicated.primary)
        answered = _reads(pair.feed_server, "replica")
        caught_up = list[feed_pb2.Post]()

        def is_answered_by_the_replica() -> bool:
            caught_up[:] = session.feed.ListPosts(listing).posts
            return _reads(pair.feed_server, "replica") > answered

        until(is_answered_by_the_replica)

    assert (before, stale, caught_up) == ([], [post], [post])


@pytest.mark.usefixtures("standby")
def test_a_commit_tells_its_position_in_its_own_message(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    _post(pair, author)
    pair.feed_tap.reset()

    _post(pair, author)

    ends = [text for text in pair.feed_tap.statements if "COMMIT" in text]
    assert len(ends) == 1
    assert "; COMMIT; " in ends[0]
    assert not [text for text in pair.feed_tap.statements if text.lstrip().startswith("SELECT pg_")]


def test_an_answer_out_of_the_keys_of_requests_has_a_position_too(
    pair: Pair, people: People, standby: Server
) -> None:
    [author] = people.new(1)
    request_id = "8f2f5bd1-5a83-4b52-9f0e-0f0f8a1d2c3b"
    comment = feed_pb2.CreateCommentRequest(
        user_id=author,
        post=feed_pb2.PostName(author_id=author, post_id=_post(pair, author)[0]),
        body="hello",
        request_id=request_id,
    )
    standby.pause()
    pair.feed.CreateComment(comment)

    repeated, call = pair.feed.CreateComment.with_call(comment)

    listing = feed_pb2.ListCommentsRequest(user_id=author, post=comment.post)
    shown = pair.feed.ListComments(listing, metadata=_brought(call)).comments
    assert [found.comment_id for found in shown] == [repeated.comment.comment_id]


@pytest.mark.usefixtures("standby")
def test_a_read_and_a_call_that_fails_tell_no_position(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    _, read = pair.feed.ListPosts.with_call(
        feed_pb2.ListPostsRequest(user_id=author, author_id=author), metadata=_ANY
    )
    with pytest.raises(grpc.RpcError) as failed:
        pair.feed.CreatePost(feed_pb2.CreatePostRequest(user_id=author))

    for call in (read, failed.value):
        assert isinstance(call, grpc.Call)
        assert KEY not in dict(call.initial_metadata() or ())


def test_over_http_a_position_is_a_header(
    pair: Pair, people: People, standby: Server, tmp_path: Path
) -> None:
    pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")
    [author] = people.new(1)
    graph, feed = pair.graph_server.address, pair.feed_server.address
    draft = {"body": "hello", "audience": {"kind": "AUDIENCE_KIND_ALL"}}
    with running_gateway(tmp_path, graph=graph, feed=feed) as gateway:
        standby.pause()
        written = gateway.call("POST", f"/v1/users/{author}/posts", draft)
        position = {KEY: written.headers[KEY]}
        shown, anything = (
            gateway.call("GET", f"/v1/users/{author}/authors/{author}/posts", headers=headers)
            for headers in (position, {KEY: "any"})
        )

    assert [post["postId"] for post in shown.json["posts"]] == [written.json["post"]["postId"]]
    assert not anything.json.get("posts")


@pytest.mark.usefixtures("standby")
def test_what_is_no_position_is_refused_by_name(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    made_up = ((KEY, "made up"),)

    with pytest.raises(grpc.RpcError) as of_feed:
        _own(pair, author, made_up)
    with pytest.raises(grpc.RpcError) as of_graph:
        pair.graph.ListConnections(
            graph_pb2.ListConnectionsRequest(user_id=author), metadata=made_up
        )

    assert fields_of(of_feed) == fields_of(of_graph) == [KEY]


def test_a_replica_of_the_graph_answers_what_the_caller_has_written_or_the_primary_does(
    pair: Pair, people: People, standby: Server
) -> None:
    asker, peer = people.new(2)
    standby.pause()
    _, call = pair.graph.RequestConnection.with_call(
        graph_pb2.RequestConnectionRequest(user_id=asker, peer_id=peer)
    )
    request = graph_pb2.GetConnectionRequest(user_id=asker, peer_id=peer)

    brought, anything = (
        pair.graph.GetConnection(request, metadata=metadata).connection.state
        for metadata in (_brought(call), _ANY)
    )

    assert brought == graph_pb2.CONNECTION_STATE_REQUEST_SENT
    assert anything == graph_pb2.CONNECTION_STATE_NONE


def test_an_answer_below_the_revision_that_is_asked_for_is_asked_of_the_primary(
    pair: Pair, people: People, standby: Server
) -> None:
    user, friend = people.connected(2)
    standby.pause()
    people.remove(user, friend)

    def answer(**at: int) -> graph_pb2.GetConnectedUserIdsResponse.ConnectedUsers:
        query = graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=user, **at)
        request = graph_pb2.GetConnectedUserIdsRequest(users=[query])
        return pair.graph.GetConnectedUserIds(request, metadata=_ANY).users[0]

    assert answer().connected_user_ids in ([friend], [])
    # A known revision is compared with the newest one, which the primary alone has.
    now = answer(known_revision=1)
    assert now.connected_user_ids == []
    assert answer(min_revision=now.revision).connected_user_ids == []


def _hide_and_connect(pair: Pair, people: People, standby: Server) -> tuple[int, int]:
    """Return a viewer, and a post that its author has hidden before the two were connected."""
    viewer, friend, author = people.new(3)
    people.connect(viewer, friend)
    post, _ = _post(pair, author)
    until(lambda: _own(pair, author, _ANY) == [post])
    standby.pause()
    _hide(pair, author, post)
    people.connect(viewer, author)
    return viewer, post


@pytest.mark.parametrize("start", ["cold", "warm"])
def test_what_was_hidden_before_two_were_connected_is_not_shown_by_a_replica_that_is_behind(
    pair: Pair, people: People, standby: Server, start: str
) -> None:
    viewer, _ = _hide_and_connect(pair, people, standby)
    if start == "warm":
        _feed(pair, viewer, ())
        time.sleep(_A_LOOK)

    assert _feed(pair, viewer) == []


def test_without_a_moment_that_the_posts_must_be_of_what_was_hidden_would_leak(
    pair: Pair, people: People, standby: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, post = _hide_and_connect(pair, people, standby)
    monkeypatch.setattr(Viewer, "since", float("-inf"))

    assert _feed(pair, viewer) == [post]


@pytest.mark.parametrize(("start", "step"), CASES)
@pytest.mark.parametrize("what", ["ends the connection and posts", "hides and connects"])
def test_a_read_that_is_paused_while_the_replica_is_paused_shows_nothing_it_must_not(
    pair: Pair, people: People, standby: Server, pause: Pause, what: str, start: str, step: str
) -> None:
    viewer, friend, author = people.connected(3)
    people.post(friend)
    shown_before, brought = _post(pair, author)
    if what == "hides and connects":
        people.remove(viewer, author)
    if start == "warm":
        _feed(pair, viewer, brought)
        time.sleep(_A_LOOK)
    forbidden: list[int] = []

    def act() -> None:
        standby.pause()
        if what == "hides and connects":
            _hide(pair, author, shown_before)
            people.connect(viewer, author)
            forbidden.append(shown_before)
        else:
            people.remove(author, viewer)
            forbidden.append(people.post(author))

    pause.at(step, act)
    page = _feed(pair, viewer)
    pause.off()

    assert forbidden
    assert not set(page) & set(forbidden)
    assert not set(_feed(pair, viewer)) & set(forbidden)


def test_a_safe_read_is_answered_by_a_replica_that_keeps_up(
    pair: Pair, people: People, standby: Server, replicated: ReplicatedCluster
) -> None:
    viewer, author = people.connected(2)
    post, brought = _post(pair, author)
    _feed(pair, viewer)
    standby.catch_up(replicated.primary)
    answered = _reads(pair.feed_server, "replica")

    until(
        lambda: (
            _feed(pair, viewer, brought) == [post]
            and _reads(pair.feed_server, "replica") > answered
        )
    )


@pytest.mark.usefixtures("standby")
def test_the_auditor_notices_a_rule_that_is_wrong_on_a_replica_alone(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    people.post(author, PRIVATE)
    [shown] = [mutant for mutant in MUTANTS if mutant.name == "private posts are shown"]
    with auditing(pair) as audit:
        assert audit.violations(viewer) == []
        with shown.applied_to(pair.replica_taps):
            # A round asks replicas as often as the primary, if they are in rotation.
            until(lambda: audit.violations(viewer))


@pytest.mark.usefixtures("standby")
def test_writers_beside_the_auditor_cause_no_false_alarm_of_a_replica(pair: Pair) -> None:
    before = _reads(pair.feed_server, "replica")
    outcomes = Counter[str]()

    def has_replica_answered() -> bool:
        outcomes.update(each.outcome for each in decided_beside_writers(pair, rounds=3))
        return _reads(pair.feed_server, "replica") > before

    until(has_replica_answered)
    assert not outcomes[VIOLATED]
    assert outcomes[AGREED] > outcomes[UNSETTLED]


@pytest.mark.usefixtures("standby")
def test_connections_are_fetched_from_a_replica_and_validated_by_the_primary(
    pair: Pair, people: People
) -> None:
    viewer, _ = people.connected(2)
    asked = {each: _reads(pair.graph_server, each) for each in ("replica", "behind", "primary")}
    pair.graph_tap.reset()

    _feed(pair, viewer, ())

    fetched = [_reads(pair.graph_server, each) - asked[each] for each in ("replica", "behind")]
    assert sum(fetched) == 1
    assert _reads(pair.graph_server, "primary") == asked["primary"]
    assert [text for text in pair.graph_tap.statements if "asked.known_revision" in text]


@pytest.fixture(scope="module")
def running_fenced(replicated: ReplicatedCluster, databases: Databases) -> Iterator[Pair]:
    """Both services with fences, and with the standby as their replica."""
    with running_fenced_pair(databases, _SINGLE, replicas=replicated.standbys) as (running, _):
        until(lambda: _is_in_rotation(running))
        yield running


@pytest.fixture
def fenced(running_fenced: Pair) -> Iterator[Pair]:
    """The pair with fences, of which hooks are gone after the test."""
    yield running_fenced
    Pause(running_fenced).off()
    running_fenced.graph_tap.before_statement = running_fenced.graph_tap.after_statement = _pass


def _pass(_statement: str) -> None:
    """Let something through."""


def test_what_a_replica_answers_is_confirmed_by_the_fence_on_the_primary(
    fenced: Pair, standby: Server, replicated: ReplicatedCluster
) -> None:
    people, asked = People(fenced), list[str]()
    viewer, author = people.connected(2)
    post = people.post(author)
    standby.catch_up(replicated.primary)
    _confirm(fenced, viewer, [post])
    fenced.gate.before_call = asked.append
    standby.pause()
    people.remove(author, viewer)

    assert _feed(fenced, viewer) == []
    assert "GetConnectedUserIds" in asked


def _confirm(pair: Pair, viewer: int, page: list[int]) -> None:
    """Have a viewer's feed read until a replica answers, and the fence confirms it alone."""
    asked = list[str]()

    def is_confirmed_by_the_fence() -> bool:
        asked.clear()
        answered = _reads(pair.feed_server, "replica")
        is_shown = _feed(pair, viewer) == page
        is_by_replica = _reads(pair.feed_server, "replica") > answered
        return is_shown and is_by_replica and "GetConnectedUserIds" not in asked

    pair.gate.before_call = asked.append
    until(is_confirmed_by_the_fence)
    pair.gate.before_call = _pass


@pytest.mark.parametrize(
    ("start", "step"),
    [
        ("cold", "before the 1st question to the graph"),
        ("cold", "after the 1st question to the graph"),
        ("stamped", "before the posts are read"),
        *(("stamped", step) for step in FENCE_STEPS),
    ],
)
@pytest.mark.parametrize("what", ["ends the connection and posts", "hides and connects"])
def test_a_fenced_read_that_is_paused_while_the_replica_is_paused_shows_nothing_it_must_not(
    fenced: Pair, standby: Server, replicated: ReplicatedCluster, what: str, start: str, step: str
) -> None:
    people, pause = People(fenced), Pause(fenced)
    viewer, friend, author = people.connected(3)
    shown = people.post(friend)
    hidden = people.post(author)
    if what == "hides and connects":
        people.remove(viewer, author)
    standby.catch_up(replicated.primary)
    if start == "stamped":
        _confirm(fenced, viewer, [shown] if what == "hides and connects" else [hidden, shown])
    forbidden = list[int]()

    def act() -> None:
        standby.pause()
        if what == "hides and connects":
            _hide(fenced, author, hidden)
            people.connect(viewer, author)
            forbidden.append(hidden)
        else:
            people.remove(author, viewer)
            forbidden.append(people.post(author))

    pause.at(step, act, viewer_id=viewer)
    pages = [_feed(fenced, viewer) for _ in range(3)]

    assert forbidden
    assert not {*pages[0], *pages[1], *pages[2]} & set(forbidden)
    assert pages[1:] == [[shown]] * 2


_COMMITTED = ("after COMMIT", "after the fence is closed")
_CHANGE_STEPS = {
    "after the fence is opened": ("feed_tap", "after_statement", OPENS_FENCES),
    "before COMMIT": ("graph_tap", "before_statement", "COMMIT"),
    "after COMMIT": ("graph_tap", "after_statement", "COMMIT"),
    "after the fence is closed": ("feed_tap", "after_statement", CLOSES_FENCES),
}


@pytest.mark.parametrize("step", _CHANGE_STEPS)
@pytest.mark.parametrize("replica", ["keeps up", "is behind"])
def test_reads_of_a_replica_during_a_paused_change_show_what_is_committed(
    fenced: Pair, standby: Server, replicated: ReplicatedCluster, replica: str, step: str
) -> None:
    people, has_read = People(fenced), threading.Event()
    viewer, author = people.connected(2)
    post = people.post(author)
    standby.catch_up(replicated.primary)
    _confirm(fenced, viewer, [post])
    if replica == "is behind":
        standby.pause()
    tap_name, when, what = _CHANGE_STEPS[step]
    tap: WireTap = getattr(fenced, tap_name)
    pages = list[list[int]]()

    def read(statement: str) -> None:
        if what in statement:
            setattr(tap, when, _pass)
            if replica == "keeps up":
                standby.catch_up(replicated.primary)
            pages.extend(_feed(fenced, viewer) for _ in range(2))
            has_read.set()

    setattr(tap, when, read)
    people.remove(author, viewer)
    assert has_read.wait(60), "the change did not come to this step"

    assert pages == [[] if step in _COMMITTED else [post]] * 2
    assert [_feed(fenced, viewer) for _ in range(2)] == [[], []]


def test_a_replica_whose_connections_break_is_done_without_and_comes_back_by_itself(
    pair: Pair, people: People, standby: Server
) -> None:
    [author] = people.new(1)
    post, brought = _post(pair, author)
    _own(pair, author, _ANY)

    standby.kill()

    assert all(_own(pair, author, metadata) == [post] for metadata in (brought, _ANY, ()))
    until(lambda: not _is_in_rotation(pair))
    assert _own(pair, author, _ANY) == [post]
    standby.start()
    until(lambda: _is_in_rotation(pair))


def test_a_read_to_which_a_replica_says_nothing_is_answered_by_the_primary(
    pair: Pair, people: People, standby: Server, pause: Pause
) -> None:
    [author] = people.new(1)
    post, _ = _post(pair, author)
    standby.pause()
    is_over = threading.Event()

    def say_nothing(_statement: str) -> None:
        is_over.wait(60)

    for tap in pair.replica_taps:
        tap.before_statement = say_nothing

    assert _own(pair, author, _ANY) == [post]

    is_over.set()
    pause.off()


def test_a_replica_that_is_too_far_behind_leaves_and_comes_back_by_itself(
    replicated: ReplicatedCluster, databases: Databases, standby: Server
) -> None:
    impatient = {**_SINGLE, "REPLICA_MAX_LAG_SECONDS": "0.5"}
    with running_pair(databases, impatient, replicas=replicated.standbys) as pair:
        people = People(pair)
        [author] = people.new(1)
        until(lambda: _is_in_rotation(pair))
        standby.pause()
        post, _ = _post(pair, author)

        until(lambda: scrape(pair.feed_server).value("replica_in_rotation") != 1)

        assert scrape(pair.feed_server).value("replica_lag_seconds") > 0.5
        assert _own(pair, author, _ANY) == [post]
        standby.let_go()
        standby.catch_up(replicated.primary)
        until(lambda: _is_in_rotation(pair))


def _is_published(pair: Pair, author: int) -> bool:
    """Whether a post can be published; if not, the call says when to try again."""
    try:
        _post(pair, author)
    except grpc.RpcError as error:
        refused = decoded(error)
        assert isinstance(refused, UnavailableError | DeadlineError)
        assert isinstance(refused, DeadlineError) or refused.retry_after is not None
        return False
    return True


def test_a_primary_that_takes_no_writes_any_more_is_unavailable_to_them(
    replicated: ReplicatedCluster, pair: Pair, people: People
) -> None:
    [author] = people.new(1)
    post, _ = _post(pair, author)

    replicated.primary.set("default_transaction_read_only", "on")
    until(lambda: not _is_published(pair, author))
    replicated.primary.set("default_transaction_read_only", "off")
    until(lambda: _is_published(pair, author))

    assert post in _own(pair, author)


def test_after_a_promotion_the_services_find_the_new_primary_and_what_was_acknowledged(
    replicated: ReplicatedCluster, pair: Pair, people: People, standby: Server
) -> None:
    [author] = people.new(1)
    acknowledged = [_post(pair, author) for _ in range(5)]
    standby.catch_up(replicated.primary)

    replicated.primary.kill()
    # As of a machine that is gone: no server listens.
    pair.graph_tap.close()
    pair.feed_tap.close()
    assert not _is_published(pair, author)
    standby.promote()
    until(lambda: _is_published(pair, author))

    posts = {post for post, _ in acknowledged}
    for metadata in ((), _ANY, acknowledged[-1][1]):
        assert posts < set(_own(pair, author, metadata))
    # Once a replica, it is none any more.
    until(lambda: scrape(pair.feed_server).value("replica_in_rotation") != 1)
