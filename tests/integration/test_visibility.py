"""Who sees which post, through the API."""

import grpc
import pytest

from kith.feed.v1 import feed_pb2
from tests.support.errors import reason_of
from tests.support.pair import Pair
from tests.support.people import PRIVATE, People, all_without, tagged


def test_a_connection_sees_posts_for_all_and_a_stranger_does_not(people: People) -> None:
    author, friend = people.connected(2)
    [stranger] = people.new(1)

    post = people.post(author)

    assert people.feed(friend) == [post]
    assert people.feed(stranger) == []


def test_a_post_for_a_tag_is_seen_by_those_who_have_it_and_the_author(people: People) -> None:
    author, member, other = people.connected(3)
    family = people.tag(author, "family", member)

    post = people.post(author, tagged(family))

    assert people.feed(author) == people.feed(member) == [post]
    assert people.feed(other) == []


def test_a_private_post_is_seen_by_its_author_only(people: People) -> None:
    author, friend = people.connected(2)

    post = people.post(author, PRIVATE)

    assert people.feed(author) == [post]
    assert people.feed(friend) == []


def test_an_excluded_tag_outweighs_every_audience(people: People) -> None:
    author, both, other = people.connected(3)
    family = people.tag(author, "family", both, other)
    colleagues = people.tag(author, "colleagues", both)

    for_all = people.post(author, all_without(colleagues))
    for_family = people.post(author, tagged(family, without=(colleagues,)))

    assert people.feed(both) == []
    assert people.feed(other) == [for_family, for_all]


def test_the_same_tag_name_of_another_author_opens_nothing(people: People) -> None:
    viewer, alice, carol = people.connected(3)
    people.tag(carol, "family", viewer)

    people.post(alice, tagged(people.tag(alice, "family")))

    assert people.feed(viewer) == []


def test_a_post_whose_tags_were_all_deleted_is_seen_by_its_author_only(
    pair: Pair, people: People
) -> None:
    author, member = people.connected(2)
    family = people.tag(author, "family", member)
    post = people.post(author, tagged(family))

    pair.feed.DeleteTag(feed_pb2.DeleteTagRequest(user_id=author, tag_id=family))

    assert people.feed(member) == []
    assert people.feed(author) == [post]


def test_deleting_an_excluded_tag_shows_the_post_to_nobody_new(pair: Pair, people: People) -> None:
    author, excluded, other = people.connected(3)
    colleagues = people.tag(author, "colleagues", excluded)
    post = people.post(author, all_without(colleagues))

    pair.feed.DeleteTag(feed_pb2.DeleteTagRequest(user_id=author, tag_id=colleagues))

    assert people.feed(excluded) == []
    assert people.feed(other) == [post]
    assert not pair.feed.ListTags(feed_pb2.ListTagsRequest(user_id=author)).tags


def test_a_deleted_post_is_gone_for_everybody(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post = people.post(author)

    pair.feed.DeletePost(feed_pb2.DeletePostRequest(user_id=author, post_id=post))

    assert people.feed(author) == people.feed(friend) == []


def test_only_the_author_is_shown_the_audience(pair: Pair, people: People) -> None:
    author, member = people.connected(2)
    family = people.tag(author, "family", member)
    people.post(author, tagged(family))

    [own] = pair.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=author)).posts
    [seen] = pair.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=member)).posts

    assert own.audience == tagged(family)
    assert not seen.HasField("audience")
    assert not seen.etag


def test_an_invisible_post_and_one_that_does_not_exist_cannot_be_told_apart(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    hidden = people.post(author, PRIVATE)
    answers = set[tuple[object, ...]]()

    for post_id in (hidden, hidden + 1_000_000):
        with pytest.raises(grpc.RpcError) as caught:
            pair.feed.GetPost(
                feed_pb2.GetPostRequest(user_id=friend, author_id=author, post_id=post_id)
            )
        assert isinstance(caught.value, grpc.Call)
        answers.add((caught.value.code(), caught.value.details(), reason_of(caught.value)))

    assert answers == {
        (
            grpc.StatusCode.NOT_FOUND,
            "the post does not exist, or the user may not see it",
            "POST_NOT_FOUND",
        )
    }


def test_a_tag_filter_shows_the_people_with_that_tag_and_oneself(
    pair: Pair, people: People
) -> None:
    viewer, alice, carol = people.connected(3)
    close = people.tag(viewer, "close", alice)
    of_alice, _, own = people.post(alice), people.post(carol), people.post(viewer)

    response = pair.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=viewer, tag_ids=[close]))

    assert [post.post_id for post in response.posts] == [own, of_alice]


def test_an_author_filter_opens_nothing(pair: Pair, people: People) -> None:
    viewer, alice, carol = people.connected(3)
    [stranger] = people.new(1)
    of_alice, _, _ = people.post(alice), people.post(carol), people.post(stranger)

    response = pair.feed.GetFeed(
        feed_pb2.GetFeedRequest(user_id=viewer, author_ids=[alice, stranger])
    )

    assert [post.post_id for post in response.posts] == [of_alice]
