"""Every call that changes something, each with a situation in which it has an effect."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask

from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.people import ALL, People
from tests.support.rpcs import RPCS, Stubs

_READS = re.compile("Get|List|Check|Count|BatchGet|Explain|Inspect|Preview|Suggest|Watch|Export")
# A message of an import may be sent again as it is: what exists is counted, not repeated.
_IMPORTS = re.compile("Import")
# What is claimed is leased, and to acknowledge it once more changes nothing.
_LEASES = re.compile("Claim|Acknowledge")
_others = count(1)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Clients of both services, and people who are made through them."""

    stubs: Stubs
    people: People


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A call that changes something.

    `request` makes a situation and returns a request that changes it, without a request id.
    `change` gives a request other arguments; None if it has none but the user, whose id it is.
    """

    service: str
    call: str
    request: Callable[[Scene], Any]
    change: Callable[[Any], object] | None

    def __str__(self) -> str:
        return f"{self.service} {self.call}"

    def send(self, stubs: Stubs, request: object) -> Any:
        """Call."""
        return getattr(getattr(stubs, self.service), self.call)(request, timeout=30)


def _change(field: str) -> Callable[[Any], object]:
    """Return what changes an id in a request."""
    path, _, name = field.rpartition(".")

    def change(request: Any) -> None:
        within = request
        for part in filter(None, path.split(".")):
            within = getattr(within, part)
        setattr(within, name, getattr(within, name) + next(_others))

    return change


def _pair(
    request_type: Callable[..., Any], arrange: Callable[[Scene, int, int], object]
) -> Callable[[Scene], Any]:
    def request(scene: Scene) -> Any:
        user, peer = scene.people.new(2)
        arrange(scene, user, peer)
        return request_type(user_id=user, peer_id=peer)

    return request


def _ask(scene: Scene, user_id: int, peer_id: int) -> None:
    scene.stubs.graph.RequestConnection(
        graph.RequestConnectionRequest(user_id=user_id, peer_id=peer_id)
    )


_GRAPH: Final = [
    Mutation(service="graph", call=call, request=request, change=_change("peer_id"))
    for call, request in (
        ("RequestConnection", _pair(graph.RequestConnectionRequest, lambda *_: None)),
        (
            "AcceptConnection",
            _pair(graph.AcceptConnectionRequest, lambda scene, user, peer: _ask(scene, peer, user)),
        ),
        (
            "DeclineConnection",
            _pair(
                graph.DeclineConnectionRequest, lambda scene, user, peer: _ask(scene, peer, user)
            ),
        ),
        ("CancelConnectionRequest", _pair(graph.CancelConnectionRequestRequest, _ask)),
        (
            "RemoveConnection",
            _pair(
                graph.RemoveConnectionRequest,
                lambda scene, user, peer: scene.people.connect(user, peer),
            ),
        ),
        (
            "BlockUser",
            _pair(
                graph.BlockUserRequest, lambda scene, user, peer: scene.people.connect(user, peer)
            ),
        ),
        (
            "UnblockUser",
            _pair(
                graph.UnblockUserRequest, lambda scene, user, peer: scene.people.block(user, peer)
            ),
        ),
    )
]


def _delete_user_of_graph(scene: Scene) -> Any:
    return graph.DeleteUserRequest(user_id=scene.people.connected(3)[0])


def _suspend_user(scene: Scene) -> Any:
    return graph.SuspendUserRequest(user_id=scene.people.connected(3)[0], reason="spam")


def _restore_user(scene: Scene) -> Any:
    user = scene.people.connected(3)[0]
    scene.people.suspend(user)
    return graph.RestoreUserRequest(user_id=user)


def _create_post(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    return feed.CreatePostRequest(
        user_id=user, body="hello", audience=ALL, attributes={"place": "Porto"}
    )


def _update_post(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    name = {"author_id": user, "post_id": scene.people.post(user)}
    request = feed.GetPostRequest(user_id=user, author_id=user, post_id=name["post_id"])
    etag = scene.stubs.feed.GetPost(request).post.etag
    return feed.UpdatePostRequest(
        user_id=user,
        post=feed.Post(
            **name,  # type: ignore[arg-type]  # both are ids
            body="changed",
            etag=etag,
            photos=[feed.Photo(key="not in the mask", alt_text="a cat")],
            attributes={"place": "Porto"},
        ),
        update_mask=FieldMask(paths=["body", "attributes"]),
    )


def _delete_post(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    return feed.DeletePostRequest(user_id=user, post_id=scene.people.post(user))


def _undelete_post(scene: Scene) -> Any:
    deleted = _delete_post(scene)
    scene.stubs.feed.DeletePost(deleted)
    return feed.UndeletePostRequest(user_id=deleted.user_id, post_id=deleted.post_id)


def _create_photo_uploads(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    draft = feed.CreatePhotoUploadsRequest.PhotoUploadDraft(
        content_type=feed.PHOTO_CONTENT_TYPE_PNG
    )
    return feed.CreatePhotoUploadsRequest(user_id=user, photos=[draft])


def _create_tag(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    return feed.CreateTagRequest(user_id=user, name="family")


def _update_tag(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    scene.people.tag(user, "family")
    [tag] = scene.stubs.feed.ListTags(feed.ListTagsRequest(user_id=user)).tags
    tag.name = "friends"
    return feed.UpdateTagRequest(user_id=user, tag=tag, update_mask=FieldMask(paths=["name"]))


def _delete_tag(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    return feed.DeleteTagRequest(user_id=user, tag_id=scene.people.tag(user, "family"))


def _add_tag_members(scene: Scene) -> Any:
    user, *friends = scene.people.connected(3)
    return feed.AddTagMembersRequest(
        user_id=user, tag_id=scene.people.tag(user, "family"), target_user_ids=friends
    )


def _remove_tag_members(scene: Scene) -> Any:
    user, *friends = scene.people.connected(3)
    return feed.RemoveTagMembersRequest(
        user_id=user, tag_id=scene.people.tag(user, "family", *friends), target_user_ids=friends
    )


def _create_comment(scene: Scene) -> Any:
    user, author = scene.people.connected(2)
    return feed.CreateCommentRequest(
        user_id=user,
        post=feed.PostName(author_id=author, post_id=scene.people.post(author)),
        body="hello",
    )


def _comment(scene: Scene) -> feed.Comment:
    return scene.stubs.feed.CreateComment(_create_comment(scene)).comment


def _update_comment(scene: Scene) -> Any:
    comment = _comment(scene)
    comment.body = "changed"
    return feed.UpdateCommentRequest(
        user_id=comment.author_id, comment=comment, update_mask=FieldMask(paths=["body"])
    )


def _delete_comment(scene: Scene) -> Any:
    comment = _comment(scene)
    return feed.DeleteCommentRequest(
        user_id=comment.author_id, post=comment.post, comment_id=comment.comment_id
    )


def _hide_comment(scene: Scene) -> Any:
    comment = _comment(scene)
    return feed.HideCommentRequest(
        user_id=comment.post.author_id,
        post_id=comment.post.post_id,
        comment_id=comment.comment_id,
    )


def _unhide_comment(scene: Scene) -> Any:
    hidden = _hide_comment(scene)
    scene.stubs.feed.HideComment(hidden)
    return feed.UnhideCommentRequest(
        user_id=hidden.user_id, post_id=hidden.post_id, comment_id=hidden.comment_id
    )


def _set_post_importance(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    score = feed.SetPostImportanceRequest.PostImportance(
        post=feed.PostName(author_id=user, post_id=scene.people.post(user)), importance=7
    )
    return feed.SetPostImportanceRequest(scores=[score])


def _set_moderation(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    return feed.SetModerationRequest(
        post=feed.PostName(author_id=user, post_id=scene.people.post(user)),
        state=feed.MODERATION_STATE_HIDDEN,
        reason="rude",
    )


def _mark_feed_read(scene: Scene) -> Any:
    user, author = scene.people.connected(2)
    post = feed.PostName(author_id=author, post_id=scene.people.post(author))
    return feed.MarkFeedReadRequest(user_id=user, post=post)


def _set_digest_subscription(scene: Scene) -> Any:
    [user] = scene.people.new(1)
    return feed.SetDigestSubscriptionRequest(
        user_id=user, time_zone="Europe/Lisbon", week_start_day=1
    )


def _delete_digest_subscription(scene: Scene) -> Any:
    subscribe = _set_digest_subscription(scene)
    scene.stubs.feed.SetDigestSubscription(subscribe)
    return feed.DeleteDigestSubscriptionRequest(user_id=subscribe.user_id)


def _delete_user_of_feed(scene: Scene) -> Any:
    user, friend = scene.people.connected(2)
    scene.people.post(user)
    scene.people.tag(user, "family", friend)
    return feed.DeleteUserRequest(user_id=user)


def _change_score(request: Any) -> None:
    request.scores[0].importance -= 1


def _change_day(request: Any) -> None:
    request.week_start_day += 1


def _add_photo(request: Any) -> None:
    request.photos.add(content_type=feed.PHOTO_CONTENT_TYPE_JPEG)


def _drop_last_target(request: Any) -> None:
    del request.target_user_ids[-1]


def _change_text(path: str) -> Callable[[Any], object]:
    *within, name = path.split(".")

    def change(request: Any) -> None:
        for part in within:
            request = getattr(request, part)
        setattr(request, name, "something else")

    return change


_FEED: Final = [
    Mutation(service="feed", call=call, request=request, change=change)
    for call, request, change in (
        ("CreatePost", _create_post, _change_text("body")),
        ("UpdatePost", _update_post, _change_text("post.body")),
        ("DeletePost", _delete_post, _change("post_id")),
        ("UndeletePost", _undelete_post, _change("post_id")),
        ("CreatePhotoUploads", _create_photo_uploads, _add_photo),
        ("CreateTag", _create_tag, _change_text("name")),
        ("UpdateTag", _update_tag, _change_text("tag.name")),
        ("DeleteTag", _delete_tag, _change("tag_id")),
        ("AddTagMembers", _add_tag_members, _drop_last_target),
        ("RemoveTagMembers", _remove_tag_members, _drop_last_target),
        ("CreateComment", _create_comment, _change_text("body")),
        ("UpdateComment", _update_comment, _change_text("comment.body")),
        ("DeleteComment", _delete_comment, _change("comment_id")),
        ("HideComment", _hide_comment, _change("comment_id")),
        ("UnhideComment", _unhide_comment, _change("comment_id")),
        ("SetPostImportance", _set_post_importance, _change_score),
        ("SetModeration", _set_moderation, _change_text("reason")),
        ("MarkFeedRead", _mark_feed_read, _change("post.post_id")),
        ("SetDigestSubscription", _set_digest_subscription, _change_day),
        ("DeleteDigestSubscription", _delete_digest_subscription, None),
        ("DeleteUser", _delete_user_of_feed, _change("user_id")),
    )
]

MUTATIONS: Final = [
    *_GRAPH,
    Mutation(
        service="graph",
        call="DeleteUser",
        request=_delete_user_of_graph,
        change=_change("user_id"),
    ),
    Mutation(
        service="graph",
        call="SuspendUser",
        request=_suspend_user,
        change=_change("user_id"),
    ),
    Mutation(
        service="graph",
        call="RestoreUser",
        request=_restore_user,
        change=_change("user_id"),
    ),
    *_FEED,
]
TAKE_NO_REQUEST_ID: Final = [
    rpc
    for rpc in RPCS
    if _READS.match(rpc.name) or _IMPORTS.match(rpc.name) or _LEASES.match(rpc.name)
]
WRITES: Final = [rpc for rpc in RPCS if rpc not in TAKE_NO_REQUEST_ID]
