"""A post is seen by its audience and by nobody else, in whichever way one asks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kith.cli.conformance.deployments import Deployment
from kith.cli.conformance.evidence import BrokenPromiseError, listing, require
from kith.cli.conformance.world import Cast
from kith.exceptions import ResourceNotFoundError
from kith.feed.v1 import feed_pb2

_NOTHING: Final[frozenset[str]] = frozenset()
# Written down rather than computed, so that it cannot have the faults of what it is compared with.
_SEEN: Final[Mapping[str, frozenset[str]]] = {
    "the author": frozenset({"all", "nobody", "close", "close and work", "all but work"}),
    "a friend": frozenset({"all", "all but work"}),
    "a close friend": frozenset({"all", "close", "close and work", "all but work"}),
    "a colleague": frozenset({"all", "close and work"}),
    "a blocked person": _NOTHING,
    "a stranger": _NOTHING,
}


def a_feed_has_the_posts_that_its_reader_may_see_and_no_others(deployment: Deployment) -> str:
    """Try everybody's."""

    def read(cast: Cast, viewer: int) -> Iterable[int]:
        request = feed_pb2.GetFeedRequest(user_id=viewer, author_ids=[cast.author])
        posts = listing(deployment.kith.feed.GetFeed, request, lambda page: page.posts)
        return [post.post_id for post in posts]

    return _agrees(deployment, read)


def the_posts_of_an_author_are_listed_for_those_who_may_see_them(deployment: Deployment) -> str:
    """Try everybody's list."""

    def read(cast: Cast, viewer: int) -> Iterable[int]:
        request = feed_pb2.ListPostsRequest(user_id=viewer, author_id=cast.author)
        posts = listing(deployment.kith.feed.ListPosts, request, lambda page: page.posts)
        return [post.post_id for post in posts]

    return _agrees(deployment, read)


def a_post_is_found_by_those_who_may_see_it_and_by_nobody_else(deployment: Deployment) -> str:
    """Try each post for everybody; what is not for them is as if it were not there."""

    def is_found(viewer: int, post: feed_pb2.PostName) -> bool:
        request = feed_pb2.GetPostRequest(
            user_id=viewer, author_id=post.author_id, post_id=post.post_id
        )
        return _is_found(deployment.kith.feed.GetPost, request)

    def read(cast: Cast, viewer: int) -> Iterable[int]:
        return [post.post_id for post in cast.posts.values() if is_found(viewer, post)]

    return _agrees(deployment, read)


def many_posts_are_found_as_each_of_them_is(deployment: Deployment) -> str:
    """Try all posts at once for everybody."""

    def read(cast: Cast, viewer: int) -> Iterable[int]:
        request = feed_pb2.BatchGetPostsRequest(user_id=viewer, posts=cast.posts.values())
        return [post.post_id for post in deployment.kith.feed.BatchGetPosts(request).posts]

    return _agrees(deployment, read)


def comments_are_read_by_those_who_may_see_the_post(deployment: Deployment) -> str:
    """Try those of each post for everybody."""

    def read(cast: Cast, viewer: int) -> Iterable[int]:
        return [
            post.post_id
            for post in cast.posts.values()
            if _is_found(
                deployment.kith.feed.ListComments,
                feed_pb2.ListCommentsRequest(user_id=viewer, post=post),
            )
        ]

    return _agrees(deployment, read)


def checks_of_visibility_answer_what_reads_show(deployment: Deployment) -> str:
    """Try CheckVisibility for everybody."""

    def read(cast: Cast, viewer: int) -> Iterable[int]:
        check = feed_pb2.CheckVisibilityRequest.VisibilityCheck
        request = feed_pb2.CheckVisibilityRequest(
            checks=[check(viewer_id=viewer, post=post) for post in cast.posts.values()]
        )
        visible = deployment.kith.feed.CheckVisibility(request).visible
        posts = cast.posts.values()
        return [post.post_id for post, seen in zip(posts, visible, strict=True) if seen]

    return _agrees(deployment, read)


def explanations_of_visibility_answer_what_reads_show(deployment: Deployment) -> str:
    """Try ExplainVisibility for everybody, as the author asks it."""

    def read(cast: Cast, viewer: int) -> Iterable[int]:
        return [
            post.post_id
            for post in cast.posts.values()
            if deployment.kith.feed.ExplainVisibility(
                feed_pb2.ExplainVisibilityRequest(
                    user_id=cast.author, post_id=post.post_id, viewer_id=viewer
                )
            ).visible
        ]

    return _agrees(deployment, read)


def the_viewers_of_a_post_are_those_who_may_see_it(deployment: Deployment) -> str:
    """Try ListViewers of all posts."""
    cast = deployment.world.cast
    names = {viewer: name for name, viewer in cast.viewers.items()}
    for audience, post in cast.posts.items():
        expected = {name for name, seen in _SEEN.items() if audience in seen}
        request = feed_pb2.ListViewersRequest(post=post)
        listed = listing(deployment.kith.feed.ListViewers, request, lambda page: page.viewer_ids)
        found = {names.get(viewer, f"person {viewer}") for viewer in listed}
        wrong = ", ".join(sorted(found ^ expected))
        require(found == expected, f"the post for {audience}: wrong about {wrong}")
    return f"{len(cast.posts)} posts"


CHECKS: Final = (
    a_feed_has_the_posts_that_its_reader_may_see_and_no_others,
    the_posts_of_an_author_are_listed_for_those_who_may_see_them,
    a_post_is_found_by_those_who_may_see_it_and_by_nobody_else,
    many_posts_are_found_as_each_of_them_is,
    comments_are_read_by_those_who_may_see_the_post,
    checks_of_visibility_answer_what_reads_show,
    explanations_of_visibility_answer_what_reads_show,
    the_viewers_of_a_post_are_those_who_may_see_it,
)


def _agrees(deployment: Deployment, read: Callable[[Cast, int], Iterable[int]]) -> str:
    """Require that everybody sees what they may see, and nothing else."""
    cast = deployment.world.cast
    for name, viewer in cast.viewers.items():
        seen = cast.named(read(cast, viewer))
        told = f"{name} (person {viewer}) {{}} of person {cast.author}: {{}}"
        surplus, missing = sorted(seen - _SEEN[name]), sorted(_SEEN[name] - seen)
        require(not surplus, told.format("sees posts", ", ".join(surplus)))
        require(not missing, told.format("does not see posts", ", ".join(missing)))
    return f"{len(cast.viewers) * len(cast.posts)} decisions"


def _is_found(call: Callable[..., object], request: object) -> bool:
    try:
        call(request)
    except ResourceNotFoundError as error:
        if error.reason_name != "POST_NOT_FOUND":
            raise BrokenPromiseError(f"was NOT_FOUND {error.reason_name}") from error
        return False
    return True
