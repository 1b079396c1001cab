"""Changing posts, and reading several of them: lists of one author, batches by name."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Pair
from tests.support.people import ALL, PRIVATE, People, all_without, tagged


def _update(pair: Pair, author_id: int, post: pb.Post, *paths: str) -> pb.Post:
    request = pb.UpdatePostRequest(user_id=author_id, post=post, update_mask=FieldMask(paths=paths))
    return pair.feed.UpdatePost(request).post


def _list(pair: Pair, viewer_id: int, author_id: int, page_size: int = 100) -> list[int]:
    request = pb.ListPostsRequest(user_id=viewer_id, author_id=author_id, page_size=page_size)
    *full, last = pages(pair.feed.ListPosts, request)
    assert all(len(page.posts) == page_size for page in full)
    return [post.post_id for page in (*full, last) for post in page.posts]


def test_a_changed_text_is_what_everybody_reads(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post_id = people.post(author, body="befor")

    changed = _update(pair, author, pb.Post(post_id=post_id, body="before"), "body")

    [seen] = pair.feed.GetFeed(pb.GetFeedRequest(user_id=friend)).posts
    assert seen.body == changed.body == "before"
    assert seen.edit_time == changed.edit_time
    assert changed.audience == ALL


def test_a_new_audience_holds_for_the_next_read(pair: Pair, people: People) -> None:
    author, member, other = people.connected(3)
    family = people.tag(author, "family", member)
    post_id = people.post(author)
    seen = list[tuple[bool, bool]]()

    for audience in (tagged(family), all_without(family), PRIVATE, ALL):
        _update(pair, author, pb.Post(post_id=post_id, audience=audience), "audience")
        seen.append((people.feed(member) == [post_id], people.feed(other) == [post_id]))

    assert seen == [(True, False), (False, True), (False, False), (True, True)]


@pytest.mark.parametrize("paths", [["audience"], ["comment_policy"], ["*"]], ids=str)
def test_readers_do_not_notice_that_what_only_the_author_sees_was_changed(
    pair: Pair, people: People, paths: list[str]
) -> None:
    author, friend, excluded = people.connected(3)
    out = people.tag(author, "out", excluded)
    post_id = people.post(author)
    policy = pb.CommentPolicy(kind=pb.COMMENT_POLICY_KIND_NOBODY)
    post = pb.Post(post_id=post_id, body="hello", audience=all_without(out), comment_policy=policy)
    request = pb.GetPostRequest(user_id=friend, author_id=author, post_id=post_id)
    before = pair.feed.GetPost(request)

    changed = _update(pair, author, post, *paths)

    assert changed.etag == '"2"'
    assert pair.feed.GetPost(request) == before


@pytest.mark.parametrize(
    "post",
    [pb.Post(body="x"), pb.Post(attributes={"a": "b"}), pb.Post(comments_locked=True)],
    ids=["text", "attributes", "lock"],
)
def test_readers_see_when_what_they_read_was_changed(
    pair: Pair, people: People, post: pb.Post
) -> None:
    author, friend = people.connected(2)
    post.post_id = people.post(author)
    paths = [field.name for field, _ in post.ListFields() if field.name != "post_id"]
    request = pb.GetPostRequest(user_id=friend, author_id=author, post_id=post.post_id)

    _update(pair, author, post, *paths)
    first = pair.feed.GetPost(request).post
    _update(pair, author, post, *paths)

    assert first.HasField("edit_time")
    assert pair.feed.GetPost(request).post == first


def test_attributes_come_back_to_everybody_who_sees_the_post(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    attributes = {"place": "Zürich", "kind": "", 'quo"te\\': "\U0001f600\n"}
    draft = pb.CreatePostRequest(user_id=author, body="hello", audience=ALL, attributes=attributes)

    created = pair.feed.CreatePost(draft).post

    [seen] = pair.feed.GetFeed(pb.GetFeedRequest(user_id=friend)).posts
    assert dict(seen.attributes) == dict(created.attributes) == attributes


def test_new_attributes_replace_all_former_ones(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post_id = people.post(author)
    shown = list[dict[str, str]]()

    for attributes in ({"a": "1", "b": "2"}, {"b": "3"}, {}):
        post = pb.Post(post_id=post_id, attributes=attributes)
        shown.append(dict(_update(pair, author, post, "attributes").attributes))
        shown.append(
            dict(_update(pair, author, pb.Post(post_id=post_id, body="x"), "body").attributes)
        )

    assert shown == [{"a": "1", "b": "2"}] * 2 + [{"b": "3"}] * 2 + [{}] * 2


def test_a_star_changes_everything(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post_id = people.post(author)

    changed = _update(pair, author, pb.Post(post_id=post_id, body="new", audience=PRIVATE), "*")

    assert (changed.body, changed.audience) == ("new", PRIVATE)


def test_a_new_audience_ends_the_exclusion_by_a_tag_that_was_deleted(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    tag_id = people.tag(author, "colleagues", friend)
    post_id = people.post(author, all_without(tag_id))
    pair.feed.DeleteTag(pb.DeleteTagRequest(user_id=author, tag_id=tag_id))
    hidden = people.feed(friend)

    _update(pair, author, pb.Post(post_id=post_id, audience=ALL), "audience")

    assert hidden == []
    assert people.feed(friend) == [post_id]


def test_of_many_changes_with_one_etag_one_succeeds(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post_id = people.post(author)
    [etag] = [post.etag for post in pair.feed.GetFeed(pb.GetFeedRequest(user_id=author)).posts]

    def change(number: int) -> str:
        try:
            _update(pair, author, pb.Post(post_id=post_id, body=str(number), etag=etag), "body")
        except grpc.RpcError as error:
            return reason_of(error)
        return str(number)

    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(change, range(16)))

    [winner] = [outcome for outcome in outcomes if outcome != "ETAG_MISMATCH"]
    [post] = pair.feed.GetFeed(pb.GetFeedRequest(user_id=author)).posts
    assert post.body == winner
    assert post.etag != etag


@pytest.mark.parametrize("path", ["post_id", "create_time", "photos.alt_text", "etag"])
def test_nothing_but_the_contents_and_audience_can_be_changed(
    pair: Pair, people: People, path: str
) -> None:
    [author] = people.new(1)
    post_id = people.post(author)

    with pytest.raises(grpc.RpcError) as caught:
        _update(pair, author, pb.Post(post_id=post_id, body="new"), path)

    assert fields_of(caught) == ["update_mask"]


def test_nobody_changes_the_post_of_somebody_else(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post_id = people.post(author)

    with pytest.raises(grpc.RpcError) as caught:
        _update(pair, friend, pb.Post(post_id=post_id, body="mine"), "body")

    assert reason_of(caught.value) == "POST_NOT_FOUND"


def test_a_deleted_post_cannot_be_changed(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    post_id = people.post(author)
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author, post_id=post_id))

    with pytest.raises(grpc.RpcError) as caught:
        _update(pair, author, pb.Post(post_id=post_id, body="again"), "body")

    assert reason_of(caught.value) == "POST_NOT_FOUND"


def test_a_deleted_post_is_among_the_posts_of_no_tag_and_is_explained_as_deleted(
    pair: Pair, people: People
) -> None:
    author, friend = people.connected(2)
    tag = people.tag(author, "family", friend)
    deleted, kept = people.post(author, tagged(tag)), people.post(author, tagged(tag))

    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author, post_id=deleted))

    assert people.feed(friend) == [kept]
    explained = pair.feed.ExplainVisibility(
        pb.ExplainVisibilityRequest(user_id=author, post_id=deleted, viewer_id=friend)
    )
    assert explained.clause == pb.VISIBILITY_CLAUSE_DELETED


def test_a_foreign_tag_leaves_the_audience_as_it_was(pair: Pair, people: People) -> None:
    author, other = people.new(2)
    post_id, foreign = people.post(author), people.tag(other, "theirs")

    with pytest.raises(grpc.RpcError) as caught:
        _update(pair, author, pb.Post(post_id=post_id, audience=tagged(foreign)), "audience")

    assert fields_of(caught) == ["post.audience.tag_ids[0]"]
    [post] = pair.feed.GetFeed(pb.GetFeedRequest(user_id=author)).posts
    assert post.audience == ALL


def test_a_list_holds_every_post_of_its_author_that_the_viewer_may_see(
    pair: Pair, people: People
) -> None:
    author, member, friend = people.connected(3)
    [stranger] = people.new(1)
    family = people.tag(author, "family", member)
    for_all, private, for_family = (
        people.post(author, audience) for audience in (ALL, PRIVATE, tagged(family))
    )

    assert _list(pair, author, author, 2) == [for_family, private, for_all]
    assert _list(pair, member, author, 1) == [for_family, for_all]
    assert _list(pair, friend, author) == [for_all]
    assert _list(pair, stranger, author) == []


def test_a_batch_keeps_the_order_and_names_what_may_not_be_seen_like_what_is_not_there(
    pair: Pair, people: People
) -> None:
    viewer, alice, carol = people.connected(3)
    first, private, second = people.post(carol), people.post(alice, PRIVATE), people.post(alice)
    own = people.post(viewer, PRIVATE)
    names = [(alice, second), (alice, private), (viewer, own), (carol, second), (carol, first)]
    request = pb.BatchGetPostsRequest(
        user_id=viewer,
        posts=[pb.PostName(author_id=author_id, post_id=post_id) for author_id, post_id in names],
    )

    response = pair.feed.BatchGetPosts(request)

    assert [post.post_id for post in response.posts] == [second, own, first]
    assert [(name.author_id, name.post_id) for name in response.not_found] == [
        (alice, private),
        (carol, second),
    ]


def test_scores_are_stored_for_the_posts_that_exist(pair: Pair, people: People) -> None:
    [author] = people.new(1)
    posts = [people.post(author) for _ in range(3)]
    scores = [
        pb.SetPostImportanceRequest.PostImportance(
            post=pb.PostName(author_id=author, post_id=post_id), importance=9.5
        )
        for post_id in [*posts, posts[-1] + 1_000_000]
    ]

    response = pair.feed.SetPostImportance(pb.SetPostImportanceRequest(scores=scores))

    assert response.scored_count == 3
