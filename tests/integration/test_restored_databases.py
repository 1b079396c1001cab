"""What a process or Redis remembers is not believed of a database that took another one's place.

Databases are exchanged while the services run: with backups, as after a restore, or with what a
failover has left. A feed_service that remembers nothing says what is right.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest
import sqlalchemy

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from tests.support.errors import succeeds
from tests.support.pair import Databases, Pair, another_feed, running_pair_on
from tests.support.pauses import nothing_told
from tests.support.people import People
from tests.support.ports import free_port
from tests.support.processes import Session, until
from tests.support.redis_server import running_redis
from tests.support.scrape import scrape

# Each test has one of its own.
_CASES = 7
_SETTINGS = {"FEED_LAYOUT": "single"}
_NO_MEMORY = {**_SETTINGS, "CONNECTIONS_CACHE_BYTES": "0"}
# What is restored, by the moments of the backups: before the erasure of Alice, or after everything.
_RESTORED = (
    {"feed": "before"},
    {"graph": "before"},
    {"feed": "before", "graph": "before"},
    {"feed": "before", "graph": "after"},
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Bob, and two users who had Alice's id one after the other, both connected with him."""

    bob: int
    alice: int
    former_post: int
    post: int = 0


@dataclass(frozen=True, kw_only=True)
class World:
    """Running services, processes that remember by different means, and backups."""

    pair: Pair
    remembering: Sequence[People]
    forgetful: People
    backups: Mapping[tuple[str, str], str]
    databases: Databases
    cases: Iterator[Case]

    @contextmanager
    def restored(self, moments: Mapping[str, str]) -> Iterator[None]:
        """Put backups in place of databases, and put these back at the end."""
        urls = {"graph": self.pair.graph_url, "feed": self.pair.feed_url}
        asides = {}
        for service, moment in moments.items():
            backup = self.databases.copy(self.backups[service, moment])
            asides[service] = _exchange(urls[service], backup)
        try:
            self._until_answered()
            yield
        finally:
            for service, aside in asides.items():
                _exchange(urls[service], aside)
            self._until_answered()

    def _until_answered(self) -> None:
        for people in (*self.remembering, self.forgetful):
            [nobody] = people.new(1)
            until(lambda: succeeds(lambda: people.feed(nobody)))  # noqa: B023 -- called at once


def _exchange(url: str, other_url: str) -> str:
    """Give a database the name of another, whose sessions end; returns where that is now."""
    taken, given = (sqlalchemy.make_url(each).database for each in (url, other_url))
    aside = f"{given}_aside"
    admin = sqlalchemy.create_engine(
        sqlalchemy.make_url(url).set(database="postgres"),
        isolation_level="AUTOCOMMIT",
        poolclass=sqlalchemy.NullPool,
    )
    with admin.connect() as connection:

        def run(statement: str) -> None:
            connection.execute(sqlalchemy.text(statement))

        def is_aside() -> bool:
            # A session that was about to begin may not be there yet to be ended.
            run(f"""SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                    WHERE datname = '{taken}'""")
            try:
                run(f"ALTER DATABASE {taken} RENAME TO {aside}")
            except sqlalchemy.exc.OperationalError:
                return False
            return True

        run(f"ALTER DATABASE {taken} ALLOW_CONNECTIONS false")
        until(is_aside)
        run(f"ALTER DATABASE {given} RENAME TO {taken}")
        run(f"ALTER DATABASE {taken} ALLOW_CONNECTIONS true")
    return sqlalchemy.make_url(url).set(database=aside).render_as_string(hide_password=False)


@pytest.fixture(scope="module", params=[False, True], ids=["without fences", "with fences"])
def world(databases: Databases, request: pytest.FixtureRequest) -> Iterator[World]:
    """Services whose backups are from before and after ids were issued anew."""
    urls = {service: databases.new_single(service) for service in ("graph", "feed")}
    backups = dict[tuple[str, str], str]()
    with running_pair_on(urls, _SETTINGS) as pair:
        formers = [_former(People(pair)) for _ in range(_CASES)]
    backups |= {(service, "before"): databases.copy(url) for service, url in urls.items()}
    with running_pair_on(urls, _SETTINGS) as pair:
        cases = [_issued_anew(pair, former) for former in formers]
    backups |= {(service, "after"): databases.copy(url) for service, url in urls.items()}
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis())
        fences: Sequence[Mapping[str, str]] = [{}] * 3
        environment = dict(_SETTINGS)
        if request.param:
            ports = [str(free_port()) for _ in range(3)]
            fences = [{"FENCES_PORT": port} for port in ports]
            environment["FENCE_KEEPERS"] = f"127.0.0.1:{ports[0]}"
        shared = {"REDIS_URL": redis.url, "REDIS_TIMEOUT_SECONDS": "0.3", **_NO_MEMORY}
        pair = stack.enter_context(running_pair_on(urls, {**environment, **fences[0]}))
        others = [
            stack.enter_context(another_feed(pair, {**settings, **fence}))[1]
            for settings, fence in zip((shared, _NO_MEMORY), fences[1:], strict=True)
        ]
        in_redis, forgetful = (People(replace(pair, feed=feed)) for feed in others)
        yield World(
            pair=pair,
            remembering=[People(pair), in_redis],
            forgetful=forgetful,
            backups=backups,
            databases=databases,
            cases=iter(cases),
        )


def _former(people: People) -> Case:
    bob, alice = people.connected(2)
    return Case(bob=bob, alice=alice, former_post=people.post(alice))


def _issued_anew(pair: Pair, case: Case) -> Case:
    """Erase the user who has the id; the next one is connected with Bob, and posts."""
    people = People(pair)
    pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=case.alice))
    pair.feed.DeleteUser(feed_pb2.DeleteUserRequest(user_id=case.alice))
    people.connect(case.bob, case.alice)
    return replace(case, post=people.post(case.alice))


@pytest.mark.parametrize(
    "moments",
    _RESTORED,
    ids=lambda moments: " and ".join(f"{service} {moment}" for service, moment in moments.items()),
)
def test_who_remembers_connections_shows_no_more_of_restored_databases_than_who_does_not(
    world: World, moments: Mapping[str, str]
) -> None:
    case = next(world.cases)
    with nothing_told(world.pair):
        for people in world.remembering:
            assert [people.feed(case.bob) for _ in range(2)] == [[case.post]] * 2
        with world.restored(moments):
            shown = [[people.feed(case.bob) for _ in range(2)] for people in world.remembering]
            right = world.forgetful.feed(case.bob)

    assert shown == [[right, right]] * 2


def _revisions_after_changes(graph_url: str, feed_url: str, users: Sequence[int]) -> set[object]:
    """Change something of each of three users; returns the newest revisions of everything."""
    changed, suspended, erased = users
    with running_pair_on({"graph": graph_url, "feed": feed_url}, _SETTINGS) as pair:
        people = People(pair)
        people.connect(changed, *people.new(1))
        people.suspend(suspended)
        pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=erased))
    with Session(graph_url) as session:
        return set(
            session.rows(f"""
                SELECT 'user', revision FROM users WHERE user_id = {changed}
                UNION ALL SELECT 'suspensions', revision FROM suspension_changes
                UNION ALL SELECT 'erasure', revision FROM erasures WHERE user_id = {erased}""")
        )


def test_no_revision_of_a_lost_history_is_given_again_while_the_clock_is_behind(
    databases: Databases,
) -> None:
    backup, feed = databases.new_single("graph"), databases.new_single("feed")
    with running_pair_on({"graph": backup, "feed": feed}, _SETTINGS) as pair:
        people = People(pair)
        *users, suspended = people.connected(4)
        people.suspend(suspended)
    with Session(backup) as session:
        for table in ("users", "suspension_changes"):
            session.rows(f"UPDATE {table} SET revision = revision + {10**15}")
        session.commit()
    lost, restored = (databases.copy(backup) for _ in range(2))

    revisions = _revisions_after_changes(lost, feed, users)

    assert len(revisions) == 3
    assert revisions.isdisjoint(_revisions_after_changes(restored, feed, users))


def test_what_a_restored_graph_has_not_got_is_forgotten_at_the_first_read(world: World) -> None:
    case, people = next(world.cases), People(world.pair)

    def changes_met() -> float:
        people.feed(case.bob)
        return scrape(world.pair.feed_server).value("feed_connection_changes_met_total")

    with nothing_told(world.pair):
        before = changes_met()
        with world.restored({"graph": "before"}):
            # With fences nothing is asked before the graph has noticed that its history is new.
            until(lambda: changes_met() > before)
            after = changes_met()

    assert after == before + 1


def _page(pair: Pair, case: Case) -> bool:
    """Whether Bob's feed has the former user's post."""
    return case.former_post in People(pair).feed(case.bob)


def _check(pair: Pair, case: Case) -> bool:
    """Whether services are told that Bob sees it."""
    name = feed_pb2.PostName(author_id=case.alice, post_id=case.former_post)
    check = feed_pb2.CheckVisibilityRequest.VisibilityCheck(viewer_id=case.bob, post=name)
    [is_visible] = pair.feed.CheckVisibility(
        feed_pb2.CheckVisibilityRequest(checks=[check])
    ).visible
    return is_visible


@pytest.mark.parametrize("read", [_page, _check])
def test_what_is_back_when_it_is_read_and_erased_when_that_is_compared_is_not_shown(
    world: World, read: Callable[[Pair, Case], bool]
) -> None:
    case, pair = next(world.cases), world.pair
    request = feed_pb2.DeleteUserRequest(user_id=case.alice)
    is_erased = list[bool]()

    def erase(statement: str) -> None:
        if "posts AS p" in statement and str(case.bob) in statement and not is_erased:
            is_erased.append(succeeds(lambda: pair.feed.DeleteUser(request)))

    with nothing_told(pair):
        assert [read(pair, case) for _ in range(2)] == [False, False]
        with world.restored({"feed": "before"}):
            pair.feed_tap.after_statement = erase
            is_shown = read(pair, case)
            pair.feed_tap.after_statement = lambda _statement: None

    assert is_erased == [True]
    assert not is_shown
