"""Tags and the people who have them."""

from contextlib import closing

import grpc
import psycopg2
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import decoded, reason_of
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People, tagged

_NAME = FieldMask(paths=["name"])


def _rename(
    pair: Pair, owner_id: int, tag_id: int, name: str, etag: str = ""
) -> pb.UpdateTagResponse:
    tag = pb.Tag(tag_id=tag_id, name=name, etag=etag)
    return pair.feed.UpdateTag(pb.UpdateTagRequest(user_id=owner_id, tag=tag, update_mask=_NAME))


def _names(pair: Pair, owner_id: int) -> list[str]:
    return [tag.name for tag in pair.feed.ListTags(pb.ListTagsRequest(user_id=owner_id)).tags]


def _members(pair: Pair, owner_id: int, tag_id: int) -> list[int]:
    request = pb.ListTagMembersRequest(user_id=owner_id, tag_id=tag_id)
    return [member.target_user_id for member in pair.feed.ListTagMembers(request).members]


def test_a_name_is_taken_whatever_its_case(pair: Pair, people: People) -> None:
    [owner] = people.new(1)
    people.tag(owner, "Family")

    with pytest.raises(grpc.RpcError) as caught:
        people.tag(owner, "fAMILY")

    assert reason_of(caught.value) == "TAG_NAME_TAKEN"
    assert _names(pair, owner) == ["Family"]


def test_the_name_of_a_deleted_tag_is_free_again(pair: Pair, people: People) -> None:
    owner, friend = people.connected(2)
    old = people.tag(owner, "family", friend)
    people.post(owner, tagged(people.tag(owner, "other"), without=(old,)))

    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=owner, tag_id=old))
    people.tag(owner, "family")

    assert _names(pair, owner) == ["other", "family"]


def test_renaming_changes_the_etag_and_a_stale_one_is_refused(pair: Pair, people: People) -> None:
    [owner] = people.new(1)
    tag_id = people.tag(owner, "family")
    [before] = pair.feed.ListTags(pb.ListTagsRequest(user_id=owner)).tags
    after = _rename(pair, owner, tag_id, "relatives", before.etag).tag

    with pytest.raises(grpc.RpcError) as caught:
        _rename(pair, owner, tag_id, "clan", before.etag)

    assert after.etag != before.etag
    assert reason_of(caught.value) == "ETAG_MISMATCH"
    assert _names(pair, owner) == ["relatives"]


def test_renaming_to_the_name_of_another_tag_is_refused(pair: Pair, people: People) -> None:
    [owner] = people.new(1)
    people.tag(owner, "family")
    work = people.tag(owner, "work")

    with pytest.raises(grpc.RpcError) as caught:
        _rename(pair, owner, work, "FAMILY")

    assert reason_of(caught.value) == "TAG_NAME_TAKEN"


def test_a_row_that_breaks_another_rule_of_the_database_is_not_called_a_taken_name(
    databases: Databases,
) -> None:
    with (
        running_pair(databases) as pair,
        closing(psycopg2.connect(pair.feed_url.replace("+psycopg2", ""))) as own,
    ):
        own.autocommit = True
        own.cursor().execute(
            "CREATE UNIQUE INDEX one_of_a_length ON tags (owner_user_id, char_length(name))"
        )
        people = People(pair)
        [owner] = people.new(1)
        people.tag(owner, "family")
        tag_id = people.tag(owner, "work")

        for break_the_rule in (
            lambda: people.tag(owner, "school"),
            lambda: _rename(pair, owner, tag_id, "school"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                break_the_rule()
            assert caught.value.code() is grpc.StatusCode.INTERNAL

        assert _names(pair, owner) == ["family", "work"]


@pytest.mark.parametrize("method", ["DeleteTag", "UpdateTag", "ListTagMembers", "AddTagMembers"])
def test_the_tag_of_somebody_else_does_not_exist(pair: Pair, people: People, method: str) -> None:
    owner, friend = people.connected(2)
    tag_id = people.tag(owner, "family", friend)
    requests = {
        "DeleteTag": pb.DeleteTagRequest(user_id=friend, tag_id=tag_id),
        "UpdateTag": pb.UpdateTagRequest(
            user_id=friend, tag=pb.Tag(tag_id=tag_id, name="x"), update_mask=_NAME
        ),
        "ListTagMembers": pb.ListTagMembersRequest(user_id=friend, tag_id=tag_id),
        "AddTagMembers": pb.AddTagMembersRequest(
            user_id=friend, tag_id=tag_id, target_user_ids=[owner]
        ),
    }

    with pytest.raises(grpc.RpcError) as caught:
        getattr(pair.feed, method)(requests[method])

    assert reason_of(caught.value) == "TAG_NOT_FOUND"
    assert _names(pair, owner) == ["family"]


def test_only_connections_can_be_tagged_and_then_all_or_none(pair: Pair, people: People) -> None:
    owner, friend = people.connected(2)
    [stranger] = people.new(1)
    tag_id = people.tag(owner, "family")

    with pytest.raises(grpc.RpcError) as caught:
        people.give(owner, tag_id, friend, stranger)

    assert reason_of(caught.value) == "NOT_CONNECTED"
    assert decoded(caught.value).metadata["target_user_id"] == str(stranger)
    assert _members(pair, owner, tag_id) == []


def test_giving_a_tag_twice_counts_once(pair: Pair, people: People) -> None:
    owner, alice, carol = people.connected(3)
    tag_id = people.tag(owner, "family", alice)
    request = pb.AddTagMembersRequest(user_id=owner, tag_id=tag_id, target_user_ids=[alice, carol])

    counts = [pair.feed.AddTagMembers(request).added_count for _ in range(2)]

    assert counts == [1, 0]
    assert _members(pair, owner, tag_id) == [alice, carol]


def test_taking_a_tag_passes_over_those_who_do_not_have_it(pair: Pair, people: People) -> None:
    owner, alice, carol = people.connected(3)
    tag_id = people.tag(owner, "family", alice)
    request = pb.RemoveTagMembersRequest(
        user_id=owner, tag_id=tag_id, target_user_ids=[alice, carol]
    )

    assert pair.feed.RemoveTagMembers(request).removed_count == 1
    assert _members(pair, owner, tag_id) == []


def test_a_persons_tags_are_those_given_to_them(pair: Pair, people: People) -> None:
    owner, alice, carol = people.connected(3)
    family = people.tag(owner, "family", alice, carol)
    people.tag(owner, "work", carol)

    response = pair.feed.ListUserTags(pb.ListUserTagsRequest(user_id=owner, target_user_id=alice))

    assert [tag.tag_id for tag in response.tags] == [family]


def test_a_user_can_have_no_more_tags_than_the_limit(databases: Databases) -> None:
    with running_pair(databases, {"MAX_TAGS": "2"}) as pair:
        people = People(pair)
        [owner] = people.new(1)
        people.tag(owner, "one")
        people.tag(owner, "two")

        with pytest.raises(grpc.RpcError) as caught:
            people.tag(owner, "three")

        assert reason_of(caught.value) == "TAG_LIMIT_REACHED"
        assert decoded(caught.value).metadata == {"limit": "2"}
