"""A post, a tag or a comment is deleted only while it has the etag that the caller has read."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as pb
from tests.support.comments import Comments
from tests.support.errors import reason_of
from tests.support.pair import Pair
from tests.support.people import People


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A new resource of a user, with its first etag."""

    etag: str
    update: Callable[[str], Any]
    """Changes it if it has this etag."""
    delete: Callable[..., Any]
    """Deletes it; takes further fields of the request."""
    exists: Callable[[], bool]


def _post(pair: Pair, people: People) -> Resource:
    [author] = people.new(1)
    post = pb.Post(author_id=author, post_id=people.post(author), body="changed")
    name = pb.PostName(author_id=author, post_id=post.post_id)
    batch = pb.BatchGetPostsRequest(user_id=author, posts=[name])
    return Resource(
        etag=pair.feed.BatchGetPosts(batch).posts[0].etag,
        update=lambda etag: pair.feed.UpdatePost(
            pb.UpdatePostRequest(
                user_id=author,
                post=pb.Post(post_id=post.post_id, body="changed", etag=etag),
                update_mask=FieldMask(paths=["body"]),
            )
        ),
        delete=lambda **fields: pair.feed.DeletePost(
            pb.DeletePostRequest(user_id=author, post_id=post.post_id, **fields)
        ),
        exists=lambda: bool(pair.feed.BatchGetPosts(batch).posts),
    )


def _tag(pair: Pair, people: People) -> Resource:
    [owner] = people.new(1)
    tag_id = people.tag(owner, "family")
    tags = pb.ListTagsRequest(user_id=owner)
    return Resource(
        etag=pair.feed.ListTags(tags).tags[0].etag,
        update=lambda etag: pair.feed.UpdateTag(
            pb.UpdateTagRequest(
                user_id=owner,
                tag=pb.Tag(tag_id=tag_id, name="changed", etag=etag),
                update_mask=FieldMask(paths=["name"]),
            )
        ),
        delete=lambda **fields: pair.feed.DeleteTag(
            pb.DeleteTagRequest(user_id=owner, tag_id=tag_id, **fields)
        ),
        exists=lambda: bool(pair.feed.ListTags(tags).tags),
    )


def _comment(pair: Pair, people: People, *, by_post_author: bool = False) -> Resource:
    author, friend = people.connected(2)
    comments = Comments(pair)
    post = pb.PostName(author_id=author, post_id=people.post(author))
    written = pair.feed.CreateComment(
        pb.CreateCommentRequest(user_id=friend, post=post, body="hello")
    ).comment
    return Resource(
        etag=written.etag,
        update=lambda etag: comments.update(friend, written, "changed", etag=etag),
        delete=lambda **fields: pair.feed.DeleteComment(
            pb.DeleteCommentRequest(
                user_id=author if by_post_author else friend,
                post=post,
                comment_id=written.comment_id,
                **fields,
            )
        ),
        exists=lambda: bool(comments.own(friend)),
    )


def _comment_on_own_post(pair: Pair, people: People) -> Resource:
    return _comment(pair, people, by_post_author=True)


@pytest.fixture(params=[_post, _tag, _comment, _comment_on_own_post])
def resource(request: pytest.FixtureRequest, pair: Pair, people: People) -> Resource:
    made: Resource = request.param(pair, people)
    return made


def _outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return reason_of(error)
    return "done"


def test_a_resource_is_deleted_while_it_has_the_etag(resource: Resource) -> None:
    resource.delete(etag=resource.etag)

    assert not resource.exists()


def test_a_resource_that_was_changed_is_not_deleted(resource: Resource) -> None:
    resource.update(resource.etag)

    outcome = _outcome(lambda: resource.delete(etag=resource.etag))

    assert (outcome, resource.exists()) == ("ETAG_MISMATCH", True)


@pytest.mark.parametrize("etag", ["1", '"0"', '"x"', "*"])
def test_an_etag_that_was_never_issued_deletes_nothing(resource: Resource, etag: str) -> None:
    outcome = _outcome(lambda: resource.delete(etag=etag))

    assert (outcome, resource.exists()) == ("ETAG_MISMATCH", True)


def test_a_deletion_that_is_repeated_by_its_id_succeeds(resource: Resource) -> None:
    fields = {"etag": resource.etag, "request_id": str(uuid.uuid4())}
    resource.delete(**fields)

    assert _outcome(lambda: resource.delete(**fields)) == "done"


def test_an_id_is_of_one_etag(resource: Resource) -> None:
    request_id = str(uuid.uuid4())
    resource.delete(etag=resource.etag, request_id=request_id)

    outcome = _outcome(lambda: resource.delete(etag='"9"', request_id=request_id))

    assert outcome == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("resource", [_post, _comment, _comment_on_own_post], indirect=True)
def test_what_is_deleted_already_may_be_deleted_by_its_last_etag(resource: Resource) -> None:
    resource.delete(etag=resource.etag)

    assert _outcome(lambda: resource.delete(etag=resource.etag)) == "done"


def test_of_a_change_and_a_deletion_with_one_etag_one_succeeds(resource: Resource) -> None:
    def act(number: int) -> str:
        if number % 2:
            return _outcome(lambda: resource.delete(etag=resource.etag))
        return _outcome(lambda: resource.update(resource.etag))

    with ThreadPoolExecutor(2) as threads:
        updated, deleted = threads.map(act, range(2))

    assert resource.exists() == (updated == "done")
    assert (updated == "done") != (deleted == "done")
    assert {updated, deleted} <= {
        "done",
        "ETAG_MISMATCH",
        "POST_NOT_FOUND",
        "TAG_NOT_FOUND",
        "COMMENT_NOT_FOUND",
    }
