"""Tags come from elsewhere with all their people, and let nobody through whom they kept out."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import sqlalchemy
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from feed_service.queries import upkeep
from kith.feed.v1 import feed_pb2 as pb
from kith.timestamps import timestamp
from tests.support.errors import decoded, fields_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, People

ImportedTag = pb.ImportTagsRequest.ImportedTag
ImportedMember = pb.ImportTagsRequest.ImportedMember
ImportedPost = pb.ImportPostsRequest.ImportedPost

_LONG_AGO = timestamp(datetime(2019, 2, 28, 23, 59, 59, 123456, tzinfo=UTC))
_LATER = timestamp(datetime(2019, 3, 1, tzinfo=UTC))
_FUTURE = timestamp(datetime.now(UTC) + timedelta(hours=1))
_TAGS = pb.Audience(kind=pb.AUDIENCE_KIND_TAGS)


def _tag(
    owner_id: int,
    external_id: str = "1",
    name: str = "family",
    *,
    deleted: Timestamp | None = None,
) -> ImportedTag:
    return ImportedTag(
        owner_id=owner_id,
        external_id=external_id,
        name=name,
        create_time=_LONG_AGO,
        delete_time=deleted,
    )


def _member(
    owner_id: int, target_id: int, external_id: str = "1", *, former: bool = False
) -> ImportedMember:
    return ImportedMember(
        owner_id=owner_id,
        tag_external_id=external_id,
        target_user_id=target_id,
        create_time=_LONG_AGO,
        former=former,
    )


def _import(
    pair: Pair, tags: Sequence[ImportedTag] = (), members: Sequence[ImportedMember] = ()
) -> pb.ImportTagsResponse:
    request = pb.ImportTagsRequest(tags=tags, members=members)
    return pair.feed.ImportTags(iter([request]))


def _post(
    pair: Pair,
    author_id: int,
    external_id: str = "post",
    *,
    tags: Sequence[str] = (),
    excluded: Sequence[str] = (),
) -> None:
    post = ImportedPost(
        author_id=author_id,
        external_id=external_id,
        body="from elsewhere",
        create_time=_LONG_AGO,
        audience=_TAGS if tags else ALL,
        tag_external_ids=tags,
        excluded_tag_external_ids=excluded,
    )
    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=[post])]))


def _listed(pair: Pair, owner_id: int) -> list[pb.Tag]:
    return list(pair.feed.ListTags(pb.ListTagsRequest(user_id=owner_id, show_deleted=True)).tags)


def _members(pair: Pair, owner_id: int, tag_id: int) -> list[tuple[int, bool]]:
    request = pb.ListTagMembersRequest(user_id=owner_id, tag_id=tag_id, show_former=True)
    members = pair.feed.ListTagMembers(request).members
    return [(member.target_user_id, member.former) for member in members]


def test_a_tag_comes_with_its_people_and_times(pair: Pair, people: People) -> None:
    owner, friend = people.connected(2)

    done = _import(pair, [_tag(owner)], [_member(owner, friend)])

    assert done == pb.ImportTagsResponse(
        imported_count=1, imported_member_count=1, committed_chunks=1
    )
    [tag] = _listed(pair, owner)
    assert (tag.name, tag.create_time) == ("family", _LONG_AGO)
    request = pb.ListTagMembersRequest(user_id=owner, tag_id=tag.tag_id)
    [member] = pair.feed.ListTagMembers(request).members
    assert (member.target_user_id, member.create_time) == (friend, _LONG_AGO)


def test_an_imported_tag_shows_posts_to_its_people_alone(pair: Pair, people: People) -> None:
    owner, friend, other = people.connected(3)
    _import(pair, [_tag(owner)], [_member(owner, friend)])

    _post(pair, owner, tags=["1"])

    assert len(people.feed(friend)) == 1
    assert people.feed(other) == []


def test_a_member_who_is_not_connected_is_kept_out_when_they_connect_later(
    pair: Pair, people: People
) -> None:
    owner, later = people.new(2)

    done = _import(pair, [_tag(owner)], [_member(owner, later)])
    _post(pair, owner, "shown", tags=["1"])
    _post(pair, owner, "hidden", excluded=["1"])
    people.connect(owner, later)

    assert (done.imported_member_count, done.unconnected_member_count) == (1, 1)
    assert people.feed(later) == []
    [tag] = _listed(pair, owner)
    assert _members(pair, owner, tag.tag_id) == [(later, True)]


def test_a_former_member_is_kept_out_and_let_in_nowhere(pair: Pair, people: People) -> None:
    owner, former = people.connected(2)

    done = _import(pair, [_tag(owner)], [_member(owner, former, former=True)])
    _post(pair, owner, "shown", tags=["1"])
    _post(pair, owner, "hidden", excluded=["1"])

    assert (done.imported_member_count, done.unconnected_member_count) == (1, 0)
    assert people.feed(former) == []


def test_a_deleted_tag_keeps_people_out_and_lets_nobody_in(pair: Pair, people: People) -> None:
    owner, friend = people.connected(2)
    _import(pair, [_tag(owner, deleted=_LATER)], [_member(owner, friend)])

    _post(pair, owner, excluded=["1"])

    assert people.feed(friend) == []
    [tag] = _listed(pair, owner)
    assert tag.delete_time == _LATER
    assert _members(pair, owner, tag.tag_id) == [(friend, True)]
    with pytest.raises(grpc.RpcError) as caught:
        _post(pair, owner, "shown", tags=["1"])
    assert fields_of(caught) == ["posts[0].tag_external_ids[0]"]


def test_a_deleted_tag_waits_a_day_for_its_posts(databases: Databases) -> None:
    with running_pair(databases) as pair:
        [owner] = People(pair).new(1)
        _import(pair, [_tag(owner, each, deleted=_LATER) for each in ("new", "old")])
        engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE tags SET imported_at = now() - interval '2 days'"
                    " WHERE external_id = 'old'"
                )
            )
            upkeep.drop_unused_tags(connection, limit=10)

            left = connection.execute(text("SELECT external_id FROM tags")).scalars().all()

    assert left == ["new"]


def test_a_muted_tag_stays_muted_for_as_long_as_it_was(pair: Pair, people: People) -> None:
    owner, friend = people.connected(2)
    people.post(friend)
    tags = [_tag(owner, each, f"tag {each}") for each in ("ever", "long", "over")]
    for tag, end in zip(tags, (None, _FUTURE, _LATER), strict=True):
        tag.muted = True
        if end is not None:
            tag.mute_until.CopyFrom(end)

    before = people.feed(owner)
    _import(pair, tags, [_member(owner, friend, "ever")])

    listed = _listed(pair, owner)
    assert [tag.muted for tag in listed] == [True, True, False]
    assert listed[1].mute_until == _FUTURE
    assert (len(before), people.feed(owner)) == (1, [])


def test_what_is_sent_again_is_counted_and_undoes_nothing(pair: Pair, people: People) -> None:
    owner, friend, other = people.connected(3)
    tags, members = [_tag(owner)], [_member(owner, friend), _member(owner, other)]
    _import(pair, tags, members)
    [tag] = _listed(pair, owner)
    people.take(owner, tag.tag_id, other)
    people.remove(owner, friend)
    people.connect(owner, friend)

    again = _import(pair, tags, members)

    assert (again.imported_count, again.existing_count) == (0, 1)
    assert (again.imported_member_count, again.existing_member_count) == (1, 1)
    assert _members(pair, owner, tag.tag_id) == [(friend, True), (other, False)]


def test_names_that_another_tag_has_are_refused(pair: Pair, people: People) -> None:
    owner, other = people.new(2)
    people.tag(owner, "Work")
    tags = [
        _tag(owner, "1", "family"),
        _tag(owner, "2", "FAMILY"),
        _tag(owner, "3", "work"),
        _tag(owner, "4", "work", deleted=_LATER),
        _tag(other, "1", "work"),
    ]

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, tags)

    assert fields_of(caught) == ["tags[1].name", "tags[2].name"]
    assert [tag.name for tag in _listed(pair, owner)] == ["Work"]


def test_members_of_a_tag_that_was_not_imported_are_refused(pair: Pair, people: People) -> None:
    owner, friend = people.connected(2)
    people.tag(owner, "made here")

    with pytest.raises(grpc.RpcError) as caught:
        _import(pair, [_tag(owner)], [_member(owner, friend), _member(owner, friend, "2")])

    assert fields_of(caught) == ["members[1].tag_external_id"]
    assert decoded(caught.value).metadata["committed_chunks"] == "0"
    assert [tag.name for tag in _listed(pair, owner)] == ["made here"]


def test_a_post_names_imported_tags_of_its_author_alone(pair: Pair, people: People) -> None:
    owner, other = people.new(2)
    _import(pair, [_tag(other)])

    with pytest.raises(grpc.RpcError) as caught:
        _post(pair, owner, tags=["1"], excluded=["2"])

    assert fields_of(caught) == [
        "posts[0].tag_external_ids[0]",
        "posts[0].excluded_tag_external_ids[0]",
    ]


@pytest.fixture(scope="module")
def tight(databases: Databases) -> Iterator[Pair]:
    """A pair in which everybody may have two tags."""
    with running_pair(databases, {"MAX_TAGS": "2"}) as running:
        yield running


def test_tags_beyond_the_limit_are_refused_and_deleted_ones_do_not_count(tight: Pair) -> None:
    [owner] = People(tight).new(1)
    tags = [
        _tag(owner, "1", "one"),
        _tag(owner, "2", "two", deleted=_LATER),
        _tag(owner, "3", "three"),
        _tag(owner, "4", "four"),
    ]

    with pytest.raises(grpc.RpcError) as caught:
        _import(tight, tags)

    assert fields_of(caught) == ["tags[3]"]
    assert _import(tight, tags[:3]).imported_count == 3


_REFUSED = {
    "a tag without a time": (
        pb.ImportTagsRequest(tags=[ImportedTag(owner_id=1, external_id="1", name="x")]),
        "tags[0].create_time",
    ),
    "a tag that was deleted before it was made": (
        pb.ImportTagsRequest(tags=[_tag(1, deleted=Timestamp(seconds=1))]),
        "tags[0].delete_time",
    ),
    "a tag that will be deleted": (
        pb.ImportTagsRequest(tags=[_tag(1, deleted=_FUTURE)]),
        "tags[0].delete_time",
    ),
    "the end of no mute": (
        pb.ImportTagsRequest(
            tags=[
                ImportedTag(
                    owner_id=1,
                    external_id="1",
                    name="x",
                    create_time=_LONG_AGO,
                    mute_until=_FUTURE,
                )
            ]
        ),
        "tags[0].mute_until",
    ),
    "a tag twice": (
        pb.ImportTagsRequest(tags=[_tag(1), _tag(1, name="other")]),
        "tags[1].external_id",
    ),
    "oneself as a member": (
        pb.ImportTagsRequest(members=[_member(1, 1)]),
        "members[0].target_user_id",
    ),
    "a member twice": (
        pb.ImportTagsRequest(members=[_member(1, 2), _member(1, 2, former=True)]),
        "members[1].target_user_id",
    ),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("fault", _REFUSED)
def test_a_row_that_cannot_be_is_refused_by_name(pair: Pair, fault: str) -> None:
    request, field = _REFUSED[fault]

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.ImportTags(iter([request]))

    assert fields_of(caught) == [field]
