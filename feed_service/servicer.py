"""FeedService: every RPC in the order of the proto. Decodes, calls, encodes."""

import grpc

from feed_service import messages
from feed_service.feed import Feed, FeedQuery
from feed_service.models import BODY_LENGTH, PRIVATE, TAG_NAME_LENGTH, TAGS
from feed_service.posts import Audience, Posts
from feed_service.tags import Tags
from shared.errors import NotServedError
from shared.fields import Fields
from shared.gen.kith.feed.v1 import feed_pb2 as pb
from shared.gen.kith.feed.v1 import feed_pb2_grpc

_MAX_AUDIENCE_TAGS = 50
_MAX_FILTER_TAGS = 50
_MAX_FILTER_AUTHORS = 100
_MAX_MEMBERS = 1_000


class FeedServicer(feed_pb2_grpc.FeedServiceServicer):
    """The service of kith/feed/v1/feed.proto, where every call is documented."""

    def __init__(self, *, feed: Feed, posts: Posts, tags: Tags) -> None:
        self._feed = feed
        self._posts = posts
        self._tags = tags

    def GetFeed(
        self, request: pb.GetFeedRequest, context: grpc.ServicerContext
    ) -> pb.GetFeedResponse:
        with Fields() as fields:
            query = FeedQuery(
                viewer_id=fields.identifier("user_id", request.user_id),
                tag_ids=fields.identifiers("tag_ids", request.tag_ids, max_items=_MAX_FILTER_TAGS),
                author_ids=fields.identifiers(
                    "author_ids", request.author_ids, max_items=_MAX_FILTER_AUTHORS
                ),
                page_size=fields.page_size("page_size", request.page_size, default=20, maximum=100),
                page_token=request.page_token,
            )
        if request.newer_than:
            raise NotServedError("newer_than is not served yet")
        page = self._feed.page(query)
        return pb.GetFeedResponse(
            posts=[messages.post(row, viewer_id=query.viewer_id) for row in page.items],
            next_page_token=page.next_page_token,
        )

    def CreatePost(
        self, request: pb.CreatePostRequest, context: grpc.ServicerContext
    ) -> pb.CreatePostResponse:
        with Fields() as fields:
            fields.identifier("user_id", request.user_id)
            body = fields.text("body", request.body, max_length=BODY_LENGTH)
            audience = _audience(fields, request.audience)
            request_id = fields.request_id("request_id", request.request_id)
        if request.photo_keys:
            raise NotServedError("photos are not served yet")
        return self._posts.create(request, body=body, audience=audience, request_id=request_id)

    def GetPost(
        self, request: pb.GetPostRequest, context: grpc.ServicerContext
    ) -> pb.GetPostResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            author_id = fields.identifier("author_id", request.author_id)
            post_id = fields.identifier("post_id", request.post_id)
        row = self._posts.get(viewer_id, author_id, post_id)
        return pb.GetPostResponse(post=messages.post(row, viewer_id=viewer_id))

    def DeletePost(
        self, request: pb.DeletePostRequest, context: grpc.ServicerContext
    ) -> pb.DeletePostResponse:
        with Fields() as fields:
            author_id = fields.identifier("user_id", request.user_id)
            post_id = fields.identifier("post_id", request.post_id)
        self._posts.delete(author_id, post_id)
        return pb.DeletePostResponse()

    def CreateTag(
        self, request: pb.CreateTagRequest, context: grpc.ServicerContext
    ) -> pb.CreateTagResponse:
        with Fields() as fields:
            fields.identifier("user_id", request.user_id)
            name = _tag_name(fields, "name", request.name)
            request_id = fields.request_id("request_id", request.request_id)
        return self._tags.create(request, name=name, request_id=request_id)

    def ListTags(
        self, request: pb.ListTagsRequest, context: grpc.ServicerContext
    ) -> pb.ListTagsResponse:
        with Fields() as fields:
            owner_id = fields.identifier("user_id", request.user_id)
            page_size = fields.page_size("page_size", request.page_size, default=50, maximum=500)
        page = self._tags.page(owner_id, page_size=page_size, page_token=request.page_token)
        return pb.ListTagsResponse(
            tags=[messages.tag(row) for row in page.items], next_page_token=page.next_page_token
        )

    def UpdateTag(
        self, request: pb.UpdateTagRequest, context: grpc.ServicerContext
    ) -> pb.UpdateTagResponse:
        with Fields() as fields:
            owner_id = fields.identifier("user_id", request.user_id)
            tag_id = fields.identifier("tag.tag_id", request.tag.tag_id)
            fields.update_mask("update_mask", request.update_mask.paths, allowed={"name"})
            name = _tag_name(fields, "tag.name", request.tag.name)
        row = self._tags.rename(owner_id, tag_id, name=name, etag=request.tag.etag)
        return pb.UpdateTagResponse(tag=messages.tag(row))

    def DeleteTag(
        self, request: pb.DeleteTagRequest, context: grpc.ServicerContext
    ) -> pb.DeleteTagResponse:
        with Fields() as fields:
            owner_id = fields.identifier("user_id", request.user_id)
            tag_id = fields.identifier("tag_id", request.tag_id)
        self._tags.delete(owner_id, tag_id)
        return pb.DeleteTagResponse()

    def AddTagMembers(
        self, request: pb.AddTagMembersRequest, context: grpc.ServicerContext
    ) -> pb.AddTagMembersResponse:
        owner_id, tag_id, target_ids = _members(request)
        return pb.AddTagMembersResponse(
            added_count=self._tags.add_members(owner_id, tag_id, target_ids)
        )

    def RemoveTagMembers(
        self, request: pb.RemoveTagMembersRequest, context: grpc.ServicerContext
    ) -> pb.RemoveTagMembersResponse:
        owner_id, tag_id, target_ids = _members(request)
        return pb.RemoveTagMembersResponse(
            removed_count=self._tags.remove_members(owner_id, tag_id, target_ids)
        )

    def ListTagMembers(
        self, request: pb.ListTagMembersRequest, context: grpc.ServicerContext
    ) -> pb.ListTagMembersResponse:
        with Fields() as fields:
            owner_id = fields.identifier("user_id", request.user_id)
            tag_id = fields.identifier("tag_id", request.tag_id)
            page_size = fields.page_size(
                "page_size", request.page_size, default=50, maximum=_MAX_MEMBERS
            )
        page = self._tags.members(
            owner_id, tag_id, page_size=page_size, page_token=request.page_token
        )
        return pb.ListTagMembersResponse(
            members=[messages.member(row) for row in page.items],
            next_page_token=page.next_page_token,
        )

    def ListUserTags(
        self, request: pb.ListUserTagsRequest, context: grpc.ServicerContext
    ) -> pb.ListUserTagsResponse:
        with Fields() as fields:
            owner_id = fields.identifier("user_id", request.user_id)
            target_id = fields.other("target_user_id", request.target_user_id, than=owner_id)
        rows = self._tags.of_user(owner_id, target_id)
        return pb.ListUserTagsResponse(tags=[messages.tag(row) for row in rows])


def _audience(fields: Fields, message: pb.Audience) -> Audience:
    kind = fields.choice("audience.kind", message.kind, choices=messages.AUDIENCE_KINDS)
    tag_ids = fields.identifiers("audience.tag_ids", message.tag_ids, max_items=_MAX_AUDIENCE_TAGS)
    excluded_tag_ids = fields.identifiers(
        "audience.excluded_tag_ids", message.excluded_tag_ids, max_items=_MAX_AUDIENCE_TAGS
    )
    if kind == TAGS and not message.tag_ids:
        fields.reject("audience.tag_ids", "must have at least 1 item with TAGS")
    if kind != TAGS and message.tag_ids:
        fields.reject("audience.tag_ids", "must be empty unless the kind is TAGS")
    if kind == PRIVATE and message.excluded_tag_ids:
        fields.reject("audience.excluded_tag_ids", "must be empty with PRIVATE")
    for index, tag_id in enumerate(excluded_tag_ids):
        if tag_id in tag_ids:
            fields.reject(f"audience.excluded_tag_ids[{index}]", "must not be in tag_ids as well")
    return Audience(kind=kind, tag_ids=tag_ids, excluded_tag_ids=excluded_tag_ids)


def _tag_name(fields: Fields, field: str, value: str) -> str:
    name = fields.text(field, value, max_length=TAG_NAME_LENGTH)
    if name != name.strip():
        fields.reject(field, "must not begin or end with white space")
    return name


def _members(
    request: pb.AddTagMembersRequest | pb.RemoveTagMembersRequest,
) -> tuple[int, int, list[int]]:
    with Fields() as fields:
        owner_id = fields.identifier("user_id", request.user_id)
        tag_id = fields.identifier("tag_id", request.tag_id)
        target_ids = fields.identifiers(
            "target_user_ids", request.target_user_ids, min_items=1, max_items=_MAX_MEMBERS
        )
        for index, target_id in enumerate(target_ids):
            if target_id == owner_id:
                fields.reject(f"target_user_ids[{index}]", "must not be the user")
    return owner_id, tag_id, target_ids
