"""Digests that are due are claimed by one mailer at a time, and are done when it says so."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import sqlalchemy

from feed_service import queries
from feed_service.layouts import DISTRIBUTED, SINGLE
from feed_service.queries.digest_subscriptions import Postponement
from kith.feed.v1 import feed_pb2 as pb
from tests.support.engines import engine_to
from tests.support.errors import fields_of, reason_of, refusal
from tests.support.pair import LAYOUT, Databases, Pair, running_pair
from tests.support.people import People
from tests.support.processes import until
from tests.support.scrape import scrape

_LISBON = "Europe/Lisbon"
_DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """A pair of whose subscriptions no other test knows."""
    with running_pair(databases) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_others(pair: Pair) -> None:
    """No subscriptions of earlier tests: a claim is for everybody's."""
    _run(pair, "DELETE FROM digest_subscriptions")


def _run(pair: Pair, statement: str, **values: object) -> None:
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(sqlalchemy.text(statement), values)


def _subscribe(
    pair: Pair, user_id: int, time_zone: str = "", week_start_day: int = 0
) -> pb.DigestSubscription:
    request = pb.SetDigestSubscriptionRequest(
        user_id=user_id, time_zone=time_zone, week_start_day=week_start_day
    )
    return pair.feed.SetDigestSubscription(request).subscription


def _stored(pair: Pair, user_id: int) -> pb.GetDigestSubscriptionResponse:
    request = pb.GetDigestSubscriptionRequest(user_id=user_id)
    return pair.feed.GetDigestSubscription(request)


def _let_weeks_pass(pair: Pair, user_id: int, *, weeks: int = 1) -> None:
    """As if the subscription had been made so many weeks earlier."""
    # In UTC, because Citus refuses what depends on a session's time zone.
    earlier = "(due_at AT TIME ZONE 'UTC' - :past) AT TIME ZONE 'UTC'"
    _run(
        pair,
        f"UPDATE digest_subscriptions SET due_at = {earlier}, claimable_at = {earlier}"
        " WHERE user_id = :user_id",
        past=weeks * 7 * _DAY,
        user_id=user_id,
    )


def _due(pair: Pair, people: People, number: int) -> list[int]:
    """Return new users with a digest that is due."""
    users = people.new(number)
    for user in users:
        _subscribe(pair, user)
        _let_weeks_pass(pair, user)
    return users


def _claim(pair: Pair, **arguments: int) -> pb.ClaimDigestsResponse:
    return pair.feed.ClaimDigests(pb.ClaimDigestsRequest(**arguments))


def _claimed(claim: pb.ClaimDigestsResponse) -> list[int]:
    return [digest.user_id for digest in claim.digests]


def _end_leases(pair: Pair) -> None:
    """As if all leases had ended."""
    _run(pair, "UPDATE digest_subscriptions SET claimable_at = now() WHERE claimable_at > due_at")


def _acknowledge(pair: Pair, lease_token: str, *user_ids: int) -> tuple[int, list[int]]:
    response = pair.feed.AcknowledgeDigests(
        pb.AcknowledgeDigestsRequest(lease_token=lease_token, user_ids=user_ids)
    )
    return response.acknowledged_count, list(response.lost_user_ids)


def _moment(timestamp: object) -> datetime:
    moment: datetime = timestamp.ToDatetime(UTC)  # type: ignore[attr-defined]  # of a Timestamp
    return moment


# Subscriptions.


def test_a_subscription_is_of_the_week_that_is_running(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    now = datetime.now(UTC)

    subscription = _subscribe(pair, user, _LISBON, 3)

    assert (subscription.time_zone, subscription.week_start_day) == (_LISBON, 3)
    due_at = _moment(subscription.next_digest_time)
    assert now < due_at <= now + 8 * _DAY
    assert _stored(pair, user).subscription == subscription
    digest = pair.feed.GetDigest(
        pb.GetDigestRequest(user_id=user, time_zone=_LISBON, week_start_day=3)
    )
    assert digest.end_time == subscription.next_digest_time
    assert _claimed(_claim(pair)) == []


def test_what_is_left_out_of_a_subscription_is_utc_and_the_day_that_is_set(
    pair: Pair, people: People
) -> None:
    [user] = people.new(1)

    subscription = _subscribe(pair, user)

    assert (subscription.time_zone, subscription.week_start_day) == ("UTC", 7)


def test_a_user_without_subscription_has_none_and_can_end_it(pair: Pair, people: People) -> None:
    [user] = people.new(1)

    pair.feed.DeleteDigestSubscription(pb.DeleteDigestSubscriptionRequest(user_id=user))

    assert not _stored(pair, user).HasField("subscription")


def test_an_ended_subscription_is_not_due(pair: Pair, people: People) -> None:
    [user] = _due(pair, people, 1)

    pair.feed.DeleteDigestSubscription(pb.DeleteDigestSubscriptionRequest(user_id=user))

    assert _claimed(_claim(pair)) == []


def test_to_subscribe_as_before_changes_nothing(pair: Pair, people: People) -> None:
    [user] = _due(pair, people, 1)
    before = _stored(pair, user).subscription

    assert _subscribe(pair, user) == before
    assert _claimed(_claim(pair)) == [user]


def test_a_due_digest_stays_due_by_other_weeks(pair: Pair, people: People) -> None:
    [user] = _due(pair, people, 1)

    _subscribe(pair, user, _LISBON, 3)
    [digest] = _claim(pair).digests

    assert (digest.time_zone, digest.week_start_day) == (_LISBON, 3)
    assert _moment(digest.end_time) <= datetime.now(UTC) < _moment(digest.end_time) + 8 * _DAY


def test_other_weeks_do_not_take_a_digest_from_its_mailer(pair: Pair, people: People) -> None:
    [user] = _due(pair, people, 1)
    claim = _claim(pair)

    _subscribe(pair, user, _LISBON, 3)

    assert _claimed(_claim(pair)) == []
    assert _acknowledge(pair, claim.lease_token, user) == (1, [])
    assert _moment(_stored(pair, user).subscription.next_digest_time) > datetime.now(UTC)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [("time_zone", {"time_zone": "Mars/Olympus"}), ("week_start_day", {"week_start_day": 8})],
)
def test_weeks_that_there_are_not_are_refused(
    pair: Pair, people: People, field: str, arguments: dict[str, object]
) -> None:
    [user] = people.new(1)

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.SetDigestSubscription(
            pb.SetDigestSubscriptionRequest(user_id=user, **arguments)  # type: ignore[arg-type]  # each of its own type
        )

    assert fields_of(caught) == [field]
    assert not _stored(pair, user).HasField("subscription")


def test_a_subscription_is_exported(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    subscription = _subscribe(pair, user, _LISBON, 1)

    [part] = pair.feed.ExportUser(pb.ExportUserRequest(user_id=user))

    assert part.digest_subscription == subscription


# Claims.


def test_a_claim_names_the_digest_of_the_week_that_has_ended(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    _subscribe(pair, user, _LISBON, 1)
    _let_weeks_pass(pair, user)

    claim = _claim(pair, lease_seconds=60)

    [claimed] = claim.digests
    assert (claimed.user_id, claimed.time_zone, claimed.week_start_day) == (user, _LISBON, 1)
    digest = pair.feed.GetDigest(
        pb.GetDigestRequest(
            user_id=user,
            week_of=claimed.start_time,
            time_zone=claimed.time_zone,
            week_start_day=claimed.week_start_day,
        )
    )
    assert (digest.start_time, digest.end_time) == (claimed.start_time, claimed.end_time)
    assert digest.frozen
    assert not digest.items
    assert claim.lease_token
    left = _moment(claim.expire_time) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=61)


def test_nothing_is_due_without_a_token(pair: Pair) -> None:
    assert _claim(pair) == pb.ClaimDigestsResponse()


def test_a_leased_digest_cannot_be_claimed_until_the_lease_ends(pair: Pair, people: People) -> None:
    users = _due(pair, people, 3)
    first = _claim(pair)

    during = _claim(pair)
    _end_leases(pair)
    afterwards = _claim(pair)

    assert sorted(_claimed(first)) == users
    assert _claimed(during) == []
    assert sorted(_claimed(afterwards)) == users
    assert afterwards.lease_token != first.lease_token


def test_an_acknowledged_digest_is_due_again_a_week_later(pair: Pair, people: People) -> None:
    [user] = _due(pair, people, 1)
    claim = _claim(pair)

    assert _acknowledge(pair, claim.lease_token, user) == (1, [])

    _end_leases(pair)
    assert _claimed(_claim(pair)) == []
    due_at = _moment(_stored(pair, user).subscription.next_digest_time)
    assert _moment(claim.digests[0].end_time) + 7 * _DAY == due_at > datetime.now(UTC)
    _let_weeks_pass(pair, user)
    assert _claimed(_claim(pair)) == [user]


def test_what_a_mailer_could_not_acknowledge_is_claimed_again_and_nothing_else(
    pair: Pair, people: People
) -> None:
    users = _due(pair, people, 4)
    claim = _claim(pair)
    _acknowledge(pair, claim.lease_token, *users[:2])

    _end_leases(pair)

    assert sorted(_claimed(_claim(pair))) == users[2:]


def test_an_acknowledgement_under_a_lost_lease_is_refused(pair: Pair, people: People) -> None:
    kept, lost = _due(pair, people, 2)
    first = _claim(pair)
    _run(
        pair,
        "UPDATE digest_subscriptions SET claimable_at = now() WHERE user_id = :user_id",
        user_id=lost,
    )
    second = _claim(pair)

    assert _claimed(second) == [lost]
    assert _acknowledge(pair, first.lease_token, lost, kept) == (1, [lost])
    assert _moment(_stored(pair, lost).subscription.next_digest_time) < datetime.now(UTC)
    assert _acknowledge(pair, second.lease_token, lost) == (1, [])


def test_a_lease_that_has_ended_is_good_until_another_claim(pair: Pair, people: People) -> None:
    [user] = _due(pair, people, 1)
    claim = _claim(pair)

    _end_leases(pair)

    assert _acknowledge(pair, claim.lease_token, user) == (1, [])
    assert _claimed(_claim(pair)) == []


def test_to_acknowledge_again_changes_nothing(pair: Pair, people: People) -> None:
    [user] = _due(pair, people, 1)
    claim = _claim(pair)

    answers = [_acknowledge(pair, claim.lease_token, user) for _ in range(2)]

    assert answers == [(1, []), (1, [])]
    due_at = _moment(_stored(pair, user).subscription.next_digest_time)
    assert due_at == _moment(claim.digests[0].end_time) + 7 * _DAY


def test_a_user_who_has_left_or_was_never_claimed_is_lost(pair: Pair, people: People) -> None:
    [left], [other] = _due(pair, people, 1), people.new(1)
    claim = _claim(pair)

    pair.feed.DeleteDigestSubscription(pb.DeleteDigestSubscriptionRequest(user_id=left))

    assert _acknowledge(pair, claim.lease_token, left, other) == (0, [left, other])
    assert _acknowledge(pair, "no such token", left) == (0, [left])


def test_the_digest_of_a_suspended_user_is_refused_and_can_be_acknowledged(
    pair: Pair, people: People
) -> None:
    [user] = _due(pair, people, 1)
    people.suspend(user)

    claim = _claim(pair)

    assert _claimed(claim) == [user]
    request = pb.GetDigestRequest(user_id=user)
    until(lambda: refusal(pair.feed.GetDigest, request) == "USER_SUSPENDED")
    assert _acknowledge(pair, claim.lease_token, user) == (1, [])


def test_after_an_outage_of_weeks_the_last_week_alone_is_told(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    _subscribe(pair, user)
    _let_weeks_pass(pair, user, weeks=5)

    claim = _claim(pair)
    _acknowledge(pair, claim.lease_token, user)

    [digest] = claim.digests
    assert _moment(digest.end_time) <= datetime.now(UTC) < _moment(digest.end_time) + 7 * _DAY
    assert _claimed(_claim(pair)) == []


def test_a_claim_has_at_most_as_many_as_are_asked_for_the_longest_due_first(
    pair: Pair, people: People
) -> None:
    users = people.new(3)
    for weeks, user in enumerate(users, 1):
        _subscribe(pair, user)
        _let_weeks_pass(pair, user, weeks=weeks)

    first, second = _claim(pair, max_digests=2), _claim(pair, max_digests=2)

    assert _claimed(first) == users[:0:-1]
    assert _claimed(second) == users[:1]


def test_of_many_mailers_each_digest_is_one_mailers(pair: Pair, people: People) -> None:
    users = _due(pair, people, 40)

    def mail_all(_: int) -> list[int]:
        sent = list[int]()
        while claimed := _claimed(claim := _claim(pair, max_digests=3)):
            assert _acknowledge(pair, claim.lease_token, *claimed) == (len(claimed), [])
            sent += claimed
        return sent

    with ThreadPoolExecutor(6) as threads:
        sent = [user for each in threads.map(mail_all, range(6)) for user in each]

    assert sorted(sent) == users


def test_a_zone_that_time_zone_data_does_not_have_any_more_is_utc_to_all(
    pair: Pair, people: People
) -> None:
    stale, other = _due(pair, people, 2)
    _run(
        pair,
        "UPDATE digest_subscriptions SET time_zone = 'Mars/Olympus' WHERE user_id = :user_id",
        user_id=stale,
    )

    claim = _claim(pair)

    assert {digest.user_id: digest.time_zone for digest in claim.digests} == {
        stale: "UTC",
        other: "UTC",
    }
    assert _acknowledge(pair, claim.lease_token, stale, other) == (2, [])


@pytest.mark.skipif(LAYOUT is not SINGLE, reason="one statement cannot lock rows of several shards")
def test_a_claim_passes_over_what_another_one_is_about_to_get(pair: Pair, people: People) -> None:
    first, second = _due(pair, people, 2)
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("SELECT FROM digest_subscriptions WHERE user_id = :id FOR UPDATE"),
            {"id": first},
        )

        claim = _claim(pair)

    assert _claimed(claim) == [second]


def test_of_two_claims_that_have_read_the_same_digests_the_first_gets_them(
    pair: Pair, people: People
) -> None:
    users = _due(pair, people, 2)
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    leased = list[set[int]]()
    with engine.connect() as connection:
        # As it is read where its rows cannot be locked.
        due = [
            Postponement(user_id=row.user_id, from_due_at=row.due_at, to_due_at=row.due_at)
            for row in DISTRIBUTED.due_digests(connection, limit=10)
        ]
        for token in ("first", "second"):
            leased.append(
                set(
                    queries.digest_subscriptions.lease(
                        connection, due=due, lease_token=token, lasts=timedelta(minutes=1)
                    )
                )
            )

    assert leased == [set(users), set()]


def test_claims_and_acknowledgements_are_counted_once_each(pair: Pair, people: People) -> None:
    users = _due(pair, people, 2)
    before = scrape(pair.feed_server)

    claim = _claim(pair)
    for _ in range(2):
        _acknowledge(pair, claim.lease_token, *users)

    after = scrape(pair.feed_server)
    for name in ("digests_claimed_total", "digests_acknowledged_total"):
        assert after.value(name) - before.value(name) == 2


@pytest.mark.parametrize(
    ("call", "request_", "field"),
    [
        ("ClaimDigests", pb.ClaimDigestsRequest(max_digests=-1), "max_digests"),
        ("ClaimDigests", pb.ClaimDigestsRequest(lease_seconds=86_401), "lease_seconds"),
        ("AcknowledgeDigests", pb.AcknowledgeDigestsRequest(user_ids=[1]), "lease_token"),
        ("AcknowledgeDigests", pb.AcknowledgeDigestsRequest(lease_token="a"), "user_ids"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(
    pair: Pair, call: str, request_: object, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(pair.feed, call)(request_)

    assert reason_of(caught.value) == "INVALID_FIELD"
    assert fields_of(caught) == [field]
