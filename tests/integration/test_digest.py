"""Weekly digests: which posts, for how long, and that they show no more than feeds do."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import pytest
import sqlalchemy
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from kith.feed.v1 import feed_pb2 as pb
from kith.timestamps import timestamp
from tests.support.engines import engine_to
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import PRIVATE, People

_SUNDAY = datetime(2024, 3, 3, tzinfo=UTC)
_NEXT_SUNDAY = _SUNDAY + timedelta(days=7)
_IMPORTANT = pb.DIGEST_REASON_IMPORTANT
_FILLED_PLACE = pb.DIGEST_REASON_FILLED_PLACE


class Archive:
    """Puts posts into the past, with an importance."""

    def __init__(self, pair: Pair) -> None:
        self._engine = engine_to(pair.feed_url)

    def post(self, author_id: int, at: datetime = _SUNDAY, importance: float = 5.0) -> int:
        """Return the id of a new post for all."""
        statement = text("""
            INSERT INTO posts (author_id, body, audience, importance, created_at)
            VALUES (:author_id, 'body', 'all', :importance, :at) RETURNING id""")
        with self._engine.connect() as connection:
            post_id: int = connection.execute(
                statement, {"author_id": author_id, "importance": importance, "at": at}
            ).scalar_one()
        return post_id


@pytest.fixture
def archive(pair: Pair) -> Archive:
    return Archive(pair)


@pytest.fixture
def hooked(pair: Pair) -> Iterator[Pair]:
    """The pair, whose hooks are gone after the test."""
    yield pair
    pair.feed_tap.before_statement = lambda _statement: None


def _digest(
    pair: Pair, user_id: int, week_of: datetime | None = _SUNDAY, **arguments: Any
) -> pb.GetDigestResponse:
    return pair.feed.GetDigest(
        pb.GetDigestRequest(
            user_id=user_id,
            week_of=None if week_of is None else timestamp(week_of),
            **arguments,
        )
    )


def _ids(digest: pb.GetDigestResponse) -> list[int]:
    return [item.post.post_id for item in digest.items]


def _score(pair: Pair, author_id: int, post_id: int, importance: float) -> None:
    score = pb.SetPostImportanceRequest.PostImportance(
        post=pb.PostName(author_id=author_id, post_id=post_id), importance=importance
    )
    pair.feed.SetPostImportance(pb.SetPostImportanceRequest(scores=[score]))


def test_a_full_week_is_told_from_all_its_days(
    pair: Pair, people: People, archive: Archive
) -> None:
    pick = random.Random(3)
    viewer, *authors = people.connected(9)
    for author in authors:
        for _ in range(13):
            at = _SUNDAY + timedelta(seconds=pick.uniform(0, 7 * 86_400))
            archive.post(author, at, importance=pick.uniform(1.1, 6.9))

    digest = _digest(pair, viewer)

    times = [item.post.create_time.ToDatetime(UTC) for item in digest.items]
    assert len(times) == 12
    assert times == sorted(times)
    assert len({time.date() for time in times}) >= 5
    assert digest.left_out_count == 104 - 12


def test_what_is_left_out_is_counted_up_to_a_hundred(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    for minute in range(103):
        archive.post(author, _SUNDAY + timedelta(minutes=minute))

    chosen, frozen = _digest(pair, viewer), _digest(pair, viewer)

    assert [len(chosen.items), chosen.left_out_count] == [2, 100]
    assert [len(frozen.items), frozen.left_out_count] == [2, 100]


def test_one_author_has_a_third_of_the_posts_unless_others_have_too_few(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, busy, quiet = people.connected(3)
    days = [_SUNDAY + timedelta(days=number) for number in range(5)]
    of_busy = [archive.post(busy, day, importance=6) for day in days]
    of_quiet = archive.post(quiet, days[-1] + timedelta(hours=1), importance=2)

    items = {item.post.post_id: item for item in _digest(pair, viewer).items}

    assert list(items) == [*of_busy, of_quiet]
    assert [items[post].reason for post in of_busy] == [_FILLED_PLACE, *[_IMPORTANT] * 4]
    assert items[of_quiet].reason == _IMPORTANT
    assert items[of_quiet].importance == 2


def test_a_week_begins_and_ends_with_the_days_of_the_time_zone(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    lisbon = ZoneInfo("Europe/Lisbon")
    start, end = datetime(2024, 3, 25, tzinfo=lisbon), datetime(2024, 4, 1, tzinfo=lisbon)
    moment = timedelta(microseconds=1)
    archive.post(author, start - moment)
    inside = [archive.post(author, start), archive.post(author, end - moment)]
    archive.post(author, end)

    digest = _digest(pair, viewer, start, time_zone=lisbon.key, week_start_day=1)

    assert _ids(digest) == inside
    assert digest.start_time.ToDatetime(UTC) == datetime(2024, 3, 25, tzinfo=UTC)
    assert digest.end_time.ToDatetime(UTC) == datetime(2024, 3, 31, 23, tzinfo=UTC)


def test_ones_own_posts_are_in_it_on_demand_alone(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, friend = people.connected(2)
    tag = people.tag(viewer, "nobody")
    own, other = archive.post(viewer), archive.post(friend)

    assert _ids(_digest(pair, viewer)) == [other]
    assert _ids(_digest(pair, viewer, include_own_posts=True)) == [own, other]
    assert _ids(_digest(pair, viewer, tag_ids=[tag])) == []
    assert _ids(_digest(pair, viewer, tag_ids=[tag], include_own_posts=True)) == [own]


def test_a_tag_limits_it_to_those_who_have_it(pair: Pair, people: People, archive: Archive) -> None:
    viewer, close, distant = people.connected(3)
    tag = people.tag(viewer, "close", close)
    post = archive.post(close)
    archive.post(distant)

    digest = _digest(pair, viewer, tag_ids=[tag])

    assert _ids(digest) == [post]
    assert digest.left_out_count == 0


def test_a_week_without_posts_has_nothing_to_say(pair: Pair, people: People) -> None:
    viewer, _ = people.connected(2)

    digest = _digest(pair, viewer)

    assert not digest.items
    assert digest.summary == ""
    assert digest.left_out_count == 0


def test_the_summary_names_the_busiest_day_of_the_readers_time_zone(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    archive.post(author, datetime(2024, 3, 5, 20, tzinfo=UTC))

    in_tokyo = _digest(pair, viewer, time_zone="Asia/Tokyo")
    in_utc = _digest(pair, viewer)

    assert in_tokyo.summary == "A balanced week: 1 post by 1 person, on Wednesday."
    assert in_utc.summary == "A balanced week: 1 post by 1 person, on Tuesday."


def test_the_rules_and_the_first_day_can_be_set(databases: Databases) -> None:
    rules = {
        "DIGEST_MIN_IMPORTANCE": "5.5",
        "DIGEST_POSTS_PER_AUTHOR_PER_DAY": "1",
        "DIGEST_MAX_POSTS": "2",
        "DIGEST_WEEK_START": "3",
    }
    with running_pair(databases, rules) as pair:
        archive, people = Archive(pair), People(pair)
        viewer, one, two, three = people.connected(4)
        archive.post(one, importance=5.5)
        archive.post(two, importance=6)
        best = [archive.post(two, importance=6.5), archive.post(three, importance=6.2)]
        archive.post(one, importance=6.1)

        digest = _digest(pair, viewer)

    assert _ids(digest) == best
    assert digest.start_time.ToDatetime(UTC).strftime("%A") == "Wednesday"


def _mark_read(pair: Pair, user_id: int, author_id: int, post_id: int) -> None:
    post = pb.PostName(author_id=author_id, post_id=post_id)
    pair.feed.MarkFeedRead(pb.MarkFeedReadRequest(user_id=user_id, post=post))


def test_what_is_read_is_left_out_on_demand_before_the_best_are_chosen(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    hours = [_SUNDAY + timedelta(hours=hour) for hour in range(6)]
    posts = [archive.post(author, hour, importance=9 - hour.hour) for hour in hours]
    everything = _digest(pair, viewer)

    _mark_read(pair, viewer, author, posts[2])
    unread = _digest(pair, viewer, exclude_read=True)

    assert _ids(everything) == posts[:2]
    assert _ids(unread) == posts[3:5]
    assert unread.left_out_count == 1
    assert _ids(_digest(pair, viewer)) == posts[:2]


def test_nothing_is_read_before_the_first_mark(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    post = archive.post(author)

    assert _ids(_digest(pair, viewer, exclude_read=True)) == [post]


def test_a_week_that_is_read_to_its_end_has_an_empty_digest(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    archive.post(author)
    _mark_read(pair, viewer, author, archive.post(author, _NEXT_SUNDAY + timedelta(days=30)))

    unread = _digest(pair, viewer, exclude_read=True)

    assert _ids(unread) == []
    assert (unread.summary, unread.left_out_count, unread.frozen) == ("", 0, True)


def test_what_is_read_after_a_digest_was_frozen_stays_in_it(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    post = archive.post(author)
    first = _digest(pair, viewer, exclude_read=True)

    _mark_read(pair, viewer, author, post)

    assert _ids(first) == [post]
    assert _digest(pair, viewer, exclude_read=True) == first


# Weeks that are over.


def test_the_choice_stays_whatever_is_scored_or_added_later(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author, other = people.connected(3)
    chosen, passed_over = archive.post(author, importance=8), archive.post(other, importance=3)
    first = _digest(pair, viewer)

    _score(pair, author, chosen, 1.5)
    _score(pair, other, passed_over, 9)
    archive.post(other, importance=10)

    assert first.frozen
    assert _ids(first) == [chosen]
    assert _digest(pair, viewer) == first


def test_a_week_of_other_arguments_is_a_digest_of_its_own(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    tag = people.tag(viewer, "close", author)
    monday = _SUNDAY + timedelta(days=1)
    _digest(pair, viewer, monday)
    late = archive.post(author, monday)

    others: list[dict[str, Any]] = [
        {"include_own_posts": True},
        {"tag_ids": [tag]},
        {"time_zone": "Africa/Abidjan"},
        {"week_start_day": 1},
    ]

    assert _ids(_digest(pair, viewer, monday)) == []
    for other in others:
        assert _ids(_digest(pair, viewer, monday, **other)) == [late]


def test_the_order_of_tags_and_the_default_spelled_out_make_no_other_digest(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    tags = [people.tag(viewer, name, author) for name in ("one", "two")]
    _digest(pair, viewer, tag_ids=tags)
    archive.post(author)

    same = _digest(
        pair,
        viewer,
        _NEXT_SUNDAY - timedelta(seconds=1),
        tag_ids=tags[::-1],
        time_zone="UTC",
        week_start_day=7,
    )

    assert _ids(same) == []


def _delete(pair: Pair, _viewer_id: int, author_id: int, post_id: int) -> None:
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author_id, post_id=post_id))


def _make_private(pair: Pair, _viewer_id: int, author_id: int, post_id: int) -> None:
    pair.feed.UpdatePost(
        pb.UpdatePostRequest(
            user_id=author_id,
            post=pb.Post(post_id=post_id, audience=PRIVATE),
            update_mask=FieldMask(paths=["audience"]),
        )
    )


def _remove(pair: Pair, viewer_id: int, author_id: int, _post_id: int) -> None:
    People(pair).remove(author_id, viewer_id)


def _block(pair: Pair, viewer_id: int, author_id: int, _post_id: int) -> None:
    People(pair).block(author_id, viewer_id)


@pytest.mark.parametrize("hide", [_delete, _make_private, _remove, _block])
def test_what_may_no_longer_be_seen_disappears_and_is_not_replaced(
    pair: Pair,
    people: People,
    archive: Archive,
    hide: Callable[[Pair, int, int, int], None],
) -> None:
    viewer, author, other = people.connected(3)
    hidden, left = archive.post(author, importance=9), archive.post(other, importance=8)
    archive.post(other, importance=3)
    first = _digest(pair, viewer)

    hide(pair, viewer, author, hidden)
    second = _digest(pair, viewer)

    assert _ids(first) == [hidden, left]
    assert _ids(second) == [left]
    assert second.frozen
    assert first.summary == "An eventful week: 2 posts by 2 people, on Sunday."
    assert second.summary == "An eventful week: 1 post by 1 person, on Sunday."


def test_a_frozen_digest_says_how_many_posts_were_left_out_when_it_was_frozen(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author, other = people.connected(3)
    archive.post(author, importance=9)
    archive.post(other, importance=3)
    first = _digest(pair, viewer)

    people.remove(other, viewer)

    assert first.left_out_count == 1
    assert _digest(pair, viewer).left_out_count == 1


def test_a_digest_of_which_nothing_may_be_seen_any_more_stays_empty(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author, other = people.connected(3)
    hidden = archive.post(author, importance=8)
    assert _ids(_digest(pair, viewer)) == [hidden]

    _delete(pair, viewer, author, hidden)
    archive.post(other, importance=8)
    digest = _digest(pair, viewer)

    assert (_ids(digest), digest.summary, digest.frozen) == ([], "", True)


def test_what_may_be_seen_again_is_there_again(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    post = archive.post(author)
    _digest(pair, viewer)
    people.remove(viewer, author)
    assert _ids(_digest(pair, viewer)) == []

    people.connect(viewer, author)

    assert _ids(_digest(pair, viewer)) == [post]


def test_a_week_that_is_not_over_is_chosen_from_anew(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, author = people.connected(2)
    now = datetime.now(UTC)
    # So that the week ends days from now, whenever this runs.
    start_day = (now - timedelta(days=3)).isoweekday()
    first = archive.post(author, now - timedelta(hours=1))
    assert _ids(_digest(pair, viewer, None, week_start_day=start_day)) == [first]

    second = archive.post(author, now, importance=8)
    _score(pair, author, first, 3.0)
    digest = _digest(pair, viewer, None, week_start_day=start_day)

    assert _ids(digest) == [second]
    assert not digest.frozen


def test_a_later_moment_of_the_current_week_is_that_week(pair: Pair, people: People) -> None:
    [viewer] = people.new(1)
    now = datetime.now(UTC)
    start_day = (now - timedelta(days=3)).isoweekday()

    later = _digest(pair, viewer, now + timedelta(days=2), week_start_day=start_day)

    assert later == _digest(pair, viewer, now, week_start_day=start_day)


def test_a_reader_who_finds_the_week_frozen_by_another_shows_the_others_choice(
    hooked: Pair, people: People, archive: Archive
) -> None:
    viewer, author, other = people.connected(3)
    post, others_post = archive.post(author, importance=9), archive.post(other, importance=3)
    faster = list[pb.GetDigestResponse]()

    def let_another_be_faster(statement: str) -> None:
        if "INSERT INTO frozen_digests" in statement and not faster:
            hooked.feed_tap.before_statement = lambda _statement: None
            _score(hooked, other, others_post, 9.5)
            _score(hooked, author, post, 2)
            faster.append(_digest(hooked, viewer))

    hooked.feed_tap.before_statement = let_another_be_faster
    slower = _digest(hooked, viewer)

    assert _ids(faster[0]) == [others_post]
    assert slower == faster[0] == _digest(hooked, viewer)


def test_concurrent_first_readers_are_shown_the_same(
    pair: Pair, people: People, archive: Archive
) -> None:
    viewer, *authors = people.connected(6)
    posts = [(author, archive.post(author)) for author in authors for _ in range(3)]

    def read_and_score(number: int) -> bytes:
        author, post = posts[number % len(posts)]
        _score(pair, author, post, number % 10)
        return _digest(pair, viewer).SerializeToString(deterministic=True)

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(read_and_score, range(32)))

    assert answers == {_digest(pair, viewer).SerializeToString(deterministic=True)}


def test_a_post_that_goes_while_the_week_is_frozen_leaves_no_trace(
    hooked: Pair, people: People, archive: Archive
) -> None:
    viewer, author, other = people.connected(3)
    archive.post(author)
    left = archive.post(other)

    def erase(statement: str) -> None:
        if "INSERT INTO frozen_digests" in statement:
            _execute(hooked, f"DELETE FROM posts WHERE author_id = {author}")

    hooked.feed_tap.before_statement = erase
    _digest(hooked, viewer)

    assert _ids(_digest(hooked, viewer)) == [left]
    assert _execute(hooked, f"SELECT FROM frozen_digest_items WHERE author_id = {author}") == 0


def test_a_post_that_a_hold_keeps_of_an_erased_author_is_in_no_digest(
    hooked: Pair, people: People, archive: Archive
) -> None:
    viewer, author, other = people.connected(3)
    post = pb.PostName(author_id=author, post_id=archive.post(author))
    left = archive.post(other)
    comment = hooked.feed.CreateComment(
        pb.CreateCommentRequest(user_id=viewer, post=post, body="rude")
    ).comment
    expire_time = Timestamp()
    expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    hooked.feed.SetModeration(
        pb.SetModerationRequest(
            post=post,
            comment_id=comment.comment_id,
            state=pb.MODERATION_STATE_HELD,
            reason="rude",
            expire_time=expire_time,
        )
    )

    def erase(statement: str) -> None:
        # In a distributed database the authors are locked first, so that no erasure ends meanwhile.
        firsts = ("INSERT INTO frozen_digests", "hashtextextended('posts', id)")
        if any(first in statement for first in firsts):
            hooked.feed_tap.before_statement = lambda _statement: None
            hooked.feed.DeleteUser(pb.DeleteUserRequest(user_id=author))

    hooked.feed_tap.before_statement = erase
    _digest(hooked, viewer)

    assert _ids(_digest(hooked, viewer)) == [left]
    assert _execute(hooked, f"SELECT FROM posts WHERE author_id = {author}") == 1
    assert _execute(hooked, f"SELECT FROM frozen_digest_items WHERE author_id = {author}") == 0


# Connections that change, and no graph.


def test_nothing_is_shown_or_kept_while_the_readers_connections_keep_changing(
    hooked: Pair, people: People, archive: Archive
) -> None:
    bob, alice, *others = people.connected(8)
    archive.post(alice)
    gone = iter([alice, *others])

    def remove_another(statement: str) -> None:
        # The statement that chooses, or in a distributed database the first that does.
        if "digest_choice" in statement or "max(p.importance)" in statement:
            people.remove(next(gone), bob)
            archive.post(alice)

    hooked.feed_tap.before_statement = remove_another
    with pytest.raises(grpc.RpcError) as caught:
        _digest(hooked, bob)
    hooked.feed_tap.before_statement = lambda _statement: None

    assert reason_of(caught.value) == "CONTENTION"
    assert _digest(hooked, bob).left_out_count == 0


def test_there_is_no_digest_without_the_graph(databases: Databases) -> None:
    with running_pair(databases, {"GRAPH_TIMEOUT_SECONDS": "1"}) as pair:
        viewer, author = People(pair).connected(2)
        Archive(pair).post(author)
        frozen = _digest(pair, viewer)
        pair.gate.close()

        assert _ids(frozen)
        for week_of in (_SUNDAY, None):
            with pytest.raises(grpc.RpcError) as caught:
                _digest(pair, viewer, week_of)
            assert reason_of(caught.value) == "GRAPH_UNAVAILABLE"


_FAR = datetime.now(UTC) + timedelta(days=8)


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        (["user_id"], pb.GetDigestRequest()),
        (["time_zone"], pb.GetDigestRequest(user_id=7, time_zone="Europe/Lissabon")),
        (["time_zone"], pb.GetDigestRequest(user_id=7, time_zone="europe/lisbon")),
        (["time_zone"], pb.GetDigestRequest(user_id=7, time_zone="localtime")),
        (["time_zone"], pb.GetDigestRequest(user_id=7, time_zone="../../etc/passwd")),
        (["time_zone"], pb.GetDigestRequest(user_id=7, time_zone="UTC\x00")),
        (["week_start_day"], pb.GetDigestRequest(user_id=7, week_start_day=8)),
        (["week_start_day"], pb.GetDigestRequest(user_id=7, week_start_day=-1)),
        (["week_of"], pb.GetDigestRequest(user_id=7, week_of=Timestamp(seconds=-1))),
        (["week_of"], pb.GetDigestRequest(user_id=7, week_of=timestamp(_FAR))),
        (["week_of"], pb.GetDigestRequest(user_id=7, week_of=Timestamp(seconds=253_402_300_799))),
        (["week_of"], pb.GetDigestRequest(user_id=7, week_of=Timestamp(seconds=2**60))),
        (["week_of"], pb.GetDigestRequest(user_id=7, week_of=Timestamp(nanos=-1))),
        (["tag_ids[1]"], pb.GetDigestRequest(user_id=7, tag_ids=[5, 5])),
        (["tag_ids"], pb.GetDigestRequest(user_id=7, tag_ids=range(1, 52))),
        (
            ["user_id", "week_of", "time_zone", "tag_ids[0]", "week_start_day"],
            pb.GetDigestRequest(
                week_of=Timestamp(seconds=-1), time_zone="Mars", tag_ids=[0], week_start_day=9
            ),
        ),
    ],
)
def test_bad_input_is_refused_by_the_names_of_its_fields(
    pair: Pair, fields: list[str], request_: pb.GetDigestRequest
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.GetDigest(request_)

    assert fields_of(caught) == fields


def test_the_first_week_of_1970_can_be_asked_for(pair: Pair, people: People) -> None:
    [viewer] = people.new(1)

    digest = _digest(pair, viewer, datetime(1970, 1, 1, tzinfo=UTC))

    assert digest.start_time.ToDatetime(UTC) == datetime(1969, 12, 28, tzinfo=UTC)


def _execute(pair: Pair, statement: str) -> int:
    """Return how many rows a statement returns or changes."""
    engine = sqlalchemy.create_engine(
        pair.feed_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        return connection.execute(text(statement)).rowcount
