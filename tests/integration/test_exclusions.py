"""A person whom a tag excluded from a post stays excluded, until the author says otherwise."""

from collections.abc import Callable

import grpc
import pytest
import sqlalchemy
from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as pb
from kith.graph.v1 import graph_pb2
from tests.support.engines import engine_to
from tests.support.errors import fields_of, reason_of, refusal
from tests.support.pair import Pair
from tests.support.people import ALL, People, all_without, tagged

_AUDIENCE = FieldMask(paths=["audience"])


def _part(people: People, user_id: int, peer_id: int) -> None:
    people.remove(user_id, peer_id)


def _block_and_unblock(people: People, user_id: int, peer_id: int) -> None:
    people.block(user_id, peer_id)
    people.unblock(user_id, peer_id)


_ENDINGS = [_part, _block_and_unblock]


def _delete(pair: Pair, owner_id: int, tag_id: int) -> None:
    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=owner_id, tag_id=tag_id))


def _remove(pair: Pair, owner_id: int, tag_id: int, *member_ids: int) -> int:
    request = pb.RemoveTagMembersRequest(
        user_id=owner_id, tag_id=tag_id, target_user_ids=member_ids
    )
    return pair.feed.RemoveTagMembers(request).removed_count


def _add(pair: Pair, owner_id: int, tag_id: int, *member_ids: int) -> int:
    request = pb.AddTagMembersRequest(user_id=owner_id, tag_id=tag_id, target_user_ids=member_ids)
    return pair.feed.AddTagMembers(request).added_count


def _explain(pair: Pair, author_id: int, post_id: int, viewer_id: int) -> tuple[str, list[int]]:
    found = pair.feed.ExplainVisibility(
        pb.ExplainVisibilityRequest(user_id=author_id, post_id=post_id, viewer_id=viewer_id)
    )
    clause = pb.VisibilityClause.Name(found.clause).removeprefix("VISIBILITY_CLAUSE_")
    return clause, list(found.tag_ids)


def _preview(pair: Pair, author_id: int, audience: pb.Audience) -> list[int]:
    request = pb.PreviewAudienceRequest(user_id=author_id, audience=audience)
    return list(pair.feed.PreviewAudience(request).viewer_ids)


def _is_shown(pair: Pair, viewer_id: int, author_id: int, post_id: int) -> dict[str, bool]:
    """Return in which of the answers to a viewer a post is."""
    feed = pair.feed.GetFeed(pb.GetFeedRequest(user_id=viewer_id))
    name = pb.PostName(author_id=author_id, post_id=post_id)
    batch = pb.BatchGetPostsRequest(user_id=viewer_id, posts=[name])
    listed = pb.ListPostsRequest(user_id=viewer_id, author_id=author_id)
    unread = pb.CountUnreadPostsRequest(user_id=viewer_id)
    digest = pair.feed.GetDigest(pb.GetDigestRequest(user_id=viewer_id))
    comments = pb.ListCommentsRequest(user_id=viewer_id, post=name)
    return {
        "feed": post_id in [post.post_id for post in feed.posts],
        "batch": bool(pair.feed.BatchGetPosts(batch).posts),
        "list": post_id in [post.post_id for post in pair.feed.ListPosts(listed).posts],
        "digest": post_id in [item.post.post_id for item in digest.items],
        "unread": pair.feed.CountUnreadPosts(unread).unread_count == 1,
        "comments": refusal(pair.feed.ListComments, comments) == "",
    }


def _everywhere(answers: dict[str, bool]) -> set[bool]:
    return set(answers.values())


@pytest.mark.parametrize("end", _ENDINGS)
@pytest.mark.parametrize("is_deleted", [False, True])
def test_who_parts_and_connects_again_is_still_kept_out(
    pair: Pair, people: People, end: Callable[[People, int, int], None], *, is_deleted: bool
) -> None:
    author, boss, friend = people.connected(3)
    bosses = people.tag(author, "boss", boss)
    post = people.post(author, all_without(bosses))
    if is_deleted:
        _delete(pair, author, bosses)

    end(people, boss, author)
    people.connect(boss, author)

    assert _everywhere(_is_shown(pair, boss, author, post)) == {False}
    assert _everywhere(_is_shown(pair, friend, author, post)) == {True}
    assert _explain(pair, author, post, boss) == ("EXCLUDED", [bosses])
    assert _preview(pair, author, all_without(bosses)) == [friend]


def test_a_post_made_later_keeps_out_those_who_had_the_tag_in_an_earlier_connection(
    pair: Pair, people: People
) -> None:
    author, boss = people.connected(2)
    bosses = people.tag(author, "boss", boss)
    people.remove(boss, author)
    people.connect(boss, author)

    post = people.post(author, all_without(bosses))

    assert _explain(pair, author, post, boss) == ("EXCLUDED", [bosses])
    assert people.feed(boss) == []


def test_a_tag_that_ended_lets_nobody_in_though_it_keeps_them_out(
    pair: Pair, people: People
) -> None:
    author, other = people.connected(2)
    tag = people.tag(author, "friends", other)
    inside, outside = people.post(author, tagged(tag)), people.post(author, all_without(tag))
    people.remove(other, author)
    people.connect(other, author)

    ended = [_explain(pair, author, post, other)[0] for post in (inside, outside)]
    added = _add(pair, author, tag, other)
    given_again = [_explain(pair, author, post, other)[0] for post in (inside, outside)]

    assert ended == ["NO_TAG", "EXCLUDED"]
    assert added == 1
    assert given_again == ["HAS_TAG", "EXCLUDED"]


@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.parametrize("is_connected", [False, True])
def test_taking_the_tag_lets_somebody_see_the_post_again(
    pair: Pair, people: People, *, is_deleted: bool, is_connected: bool
) -> None:
    author, boss = people.connected(2)
    bosses = people.tag(author, "boss", boss)
    post = people.post(author, all_without(bosses))
    people.remove(boss, author)
    if is_deleted:
        _delete(pair, author, bosses)
    if is_connected:
        people.connect(boss, author)

    removed = [_remove(pair, author, bosses, boss) for _ in range(2)]
    people.connect(boss, author)

    assert removed == [1, 0]
    assert _everywhere(_is_shown(pair, boss, author, post)) == {True}


def test_another_audience_lets_somebody_see_the_post_again(pair: Pair, people: People) -> None:
    author, boss = people.connected(2)
    post = people.post(author, all_without(people.tag(author, "boss", boss)))
    people.remove(boss, author)
    people.connect(boss, author)

    pair.feed.UpdatePost(
        pb.UpdatePostRequest(
            user_id=author, post=pb.Post(post_id=post, audience=ALL), update_mask=_AUDIENCE
        )
    )

    assert people.feed(boss) == [post]


def test_a_frozen_digest_leaves_out_a_post_after_the_excluded_one_connects_again(
    pair: Pair, people: People
) -> None:
    author, boss = people.connected(2)
    bosses = people.tag(author, "boss", boss)
    imported = pb.ImportPostsRequest.ImportedPost(
        author_id=author, external_id="old", body="long ago", audience=all_without(bosses)
    )
    imported.create_time.FromSeconds(1_700_000_000)
    pair.feed.ImportPosts(iter([pb.ImportPostsRequest(posts=[imported])]))
    request = pb.GetDigestRequest(user_id=boss, week_of=imported.create_time)
    people.remove(boss, author)
    people.connect(boss, author)

    assert not pair.feed.GetDigest(request).items
    assert not pair.feed.GetDigest(request).items


def test_an_erased_person_whose_id_returns_is_not_kept_out(pair: Pair, people: People) -> None:
    author, boss = people.connected(2)
    bosses = people.tag(author, "boss", boss)
    post = people.post(author, all_without(bosses))
    people.remove(boss, author)

    pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=boss))
    pair.feed.DeleteUser(pb.DeleteUserRequest(user_id=boss))
    people.connect(boss, author)

    assert people.feed(boss) == [post]
    assert _former(pair, author, bosses) == {}


def _read(pair: Pair, author_id: int, post_id: int) -> pb.Post:
    request = pb.GetPostRequest(user_id=author_id, author_id=author_id, post_id=post_id)
    return pair.feed.GetPost(request).post


def _former(pair: Pair, owner_id: int, tag_id: int) -> dict[int, bool]:
    """Return who has a tag or is kept out by it, and whether that is all that is left."""
    request = pb.ListTagMembersRequest(user_id=owner_id, tag_id=tag_id, show_former=True)
    return {
        member.target_user_id: member.former for member in pair.feed.ListTagMembers(request).members
    }


def test_what_an_author_reads_of_an_audience_can_be_written_back_and_changes_nothing(
    pair: Pair, people: People
) -> None:
    author, boss, friend, other = people.connected(4)
    bosses, friends = people.tag(author, "boss", boss), people.tag(author, "friends", friend)
    for_all = people.post(author, all_without(bosses))
    for_friends = people.post(author, tagged(friends, without=(bosses,)))
    _delete(pair, author, bosses)
    _delete(pair, author, friends)
    viewers = (boss, friend, other)
    before = [people.feed(viewer) for viewer in viewers]

    written = []
    for post_id in (for_all, for_friends):
        post = _read(pair, author, post_id)
        request = pb.UpdatePostRequest(user_id=author, post=post, update_mask=_AUDIENCE)
        written.append((post.audience, pair.feed.UpdatePost(request).post.audience))

    assert [list(read.excluded_tag_ids) for read, _ in written] == [[bosses], [bosses]]
    assert [read for read, _ in written] == [now for _, now in written]
    assert [people.feed(viewer) for viewer in viewers] == before == [[], [for_all], [for_all]]


def test_a_deleted_tag_can_be_named_only_where_it_excludes_already(
    pair: Pair, people: People
) -> None:
    author, boss = people.connected(2)
    bosses = people.tag(author, "boss", boss)
    people.post(author, all_without(bosses))
    other = people.post(author)
    _delete(pair, author, bosses)

    refused = []
    for audience in (all_without(bosses), tagged(bosses)):
        request = pb.UpdatePostRequest(
            user_id=author, post=pb.Post(post_id=other, audience=audience), update_mask=_AUDIENCE
        )
        with pytest.raises(grpc.RpcError) as caught:
            pair.feed.UpdatePost(request)
        refused += fields_of(caught)

    assert refused == ["post.audience.excluded_tag_ids[0]", "post.audience.tag_ids[0]"]
    assert _preview(pair, author, all_without(bosses)) == []


def test_an_audience_of_no_tags_is_refused_unless_it_is_what_is_left(
    pair: Pair, people: People
) -> None:
    author, _ = people.connected(2)
    post = people.post(author)
    request = pb.UpdatePostRequest(
        user_id=author, post=pb.Post(post_id=post, audience=tagged()), update_mask=_AUDIENCE
    )

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.UpdatePost(request)

    assert fields_of(caught) == ["post.audience.tag_ids"]


def test_the_lists_of_a_tag_go_by_the_connection(pair: Pair, people: People) -> None:
    owner, gone, back, stays = people.connected(4)
    tag = people.tag(owner, "friends", gone, back, stays)
    people.remove(gone, owner)
    people.remove(back, owner)
    people.connect(back, owner)

    listed = pair.feed.ListTagMembers(pb.ListTagMembersRequest(user_id=owner, tag_id=tag)).members

    assert [member.target_user_id for member in listed] == [stays]
    assert not listed[0].former
    assert _former(pair, owner, tag) == {gone: True, back: True, stays: False}
    assert [
        [found.tag_id for found in pair.feed.ListUserTags(request).tags]
        for request in (
            pb.ListUserTagsRequest(user_id=owner, target_user_id=person)
            for person in (gone, back, stays)
        )
    ] == [[], [], [tag]]


def test_pages_of_members_are_full_though_former_ones_are_between(
    pair: Pair, people: People
) -> None:
    owner, *members = people.connected(8)
    tag = people.tag(owner, "friends", *members)
    for gone in members[::2]:
        people.remove(gone, owner)

    request = pb.ListTagMembersRequest(user_id=owner, tag_id=tag, page_size=2)
    first = pair.feed.ListTagMembers(request)
    request.page_token = first.next_page_token
    second = pair.feed.ListTagMembers(request)

    assert [member.target_user_id for member in first.members] == members[1:4:2]
    assert [member.target_user_id for member in second.members] == members[5:6]
    assert not second.next_page_token


def test_the_token_of_a_list_without_former_members_is_not_one_of_the_list_with_them(
    pair: Pair, people: People
) -> None:
    owner, *members = people.connected(4)
    tag = people.tag(owner, "friends", *members)
    request = pb.ListTagMembersRequest(user_id=owner, tag_id=tag, page_size=1)
    request.page_token = pair.feed.ListTagMembers(request).next_page_token
    request.show_former = True

    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.ListTagMembers(request)

    assert reason_of(caught.value) == "INVALID_PAGE_TOKEN"


def test_giving_a_tag_counts_who_did_not_have_it_in_the_present_connection(
    pair: Pair, people: People
) -> None:
    owner, back, stays, new = people.connected(4)
    tag = people.tag(owner, "friends", back, stays)
    people.remove(back, owner)
    people.connect(back, owner)

    assert _add(pair, owner, tag, back, stays, new) == 2
    assert _add(pair, owner, tag, back, stays, new) == 0
    assert set(_former(pair, owner, tag).values()) == {False}


def _purge(pair: Pair, post_id: int) -> None:
    with engine_to(pair.feed_url).connect() as connection:
        connection.execute(sqlalchemy.text("DELETE FROM posts WHERE id = :id"), {"id": post_id})


def test_a_deleted_tag_shows_whom_it_keeps_out_as_long_as_a_post_excludes_by_it(
    pair: Pair, people: People
) -> None:
    author, boss = people.connected(2)
    bosses = people.tag(author, "boss", boss)
    post = people.post(author, all_without(bosses))
    _delete(pair, author, bosses)
    plain = pb.ListTagMembersRequest(user_id=author, tag_id=bosses)

    kept_out, without = _former(pair, author, bosses), refusal(pair.feed.ListTagMembers, plain)
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author, post_id=post))
    kept_out_of_deleted = _former(pair, author, bosses)
    _purge(pair, post)
    plain.show_former = True

    assert kept_out_of_deleted == kept_out
    assert (kept_out, without) == ({boss: True}, "TAG_NOT_FOUND")
    assert refusal(pair.feed.ListTagMembers, plain) == "TAG_NOT_FOUND"
    with pytest.raises(grpc.RpcError) as caught:
        _remove(pair, author, bosses, boss)
    assert reason_of(caught.value) == "TAG_NOT_FOUND"


def test_deleted_tags_are_listed_with_the_time_as_long_as_a_post_excludes_by_them(
    pair: Pair, people: People
) -> None:
    [author] = people.new(1)
    bosses, family = people.tag(author, "boss"), people.tag(author, "family")
    unused = people.tag(author, "unused")
    people.post(author, all_without(bosses))
    _delete(pair, author, bosses)
    _delete(pair, author, unused)

    plain = pair.feed.ListTags(pb.ListTagsRequest(user_id=author)).tags
    all_of_them = pair.feed.ListTags(pb.ListTagsRequest(user_id=author, show_deleted=True)).tags

    assert [tag.tag_id for tag in plain] == [family]
    assert [(tag.tag_id, tag.name, tag.HasField("delete_time")) for tag in all_of_them] == [
        (bosses, "boss", True),
        (family, "family", False),
    ]


def test_a_filter_by_a_deleted_tag_matches_nobody(pair: Pair, people: People) -> None:
    user, friend = people.connected(2)
    tag = people.tag(user, "friends", friend)
    people.post(user, all_without(tag))
    people.post(friend)
    _delete(pair, user, tag)
    own = pb.GetFeedRequest(user_id=user, tag_ids=[tag])
    digest = pb.GetDigestRequest(user_id=user, tag_ids=[tag])

    assert {post.author_id for post in pair.feed.GetFeed(own).posts} == {user}
    assert not pair.feed.GetDigest(digest).items


def test_an_export_tells_former_members_and_the_deleted_tags_that_keep_people_out(
    pair: Pair, people: People
) -> None:
    author, boss, gone, friend = people.connected(4)
    bosses, friends = people.tag(author, "boss", boss), people.tag(author, "friends", gone, friend)
    people.post(author, all_without(bosses))
    _delete(pair, author, bosses)
    people.remove(gone, author)

    found = pb.ExportUserResponse()
    for message in pair.feed.ExportUser(pb.ExportUserRequest(user_id=author)):
        found.MergeFrom(message)

    assert [(tag.tag_id, tag.HasField("delete_time")) for tag in found.tags] == [
        (bosses, True),
        (friends, False),
    ]
    assert [
        (given.tag_id, given.member.target_user_id, given.member.former)
        for given in found.tagged_users
    ] == [(bosses, boss, True), (friends, gone, True), (friends, friend, False)]
