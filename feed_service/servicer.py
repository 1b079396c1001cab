"""FeedService: every RPC in the order of the proto. Decodes, calls, encodes."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias, TypeVar
from zoneinfo import ZoneInfo

import grpc

from feed_service import messages
from feed_service.audiences import WITHOUT_TAGS, Audiences
from feed_service.checks import Checks
from feed_service.comment_imports import CommentImports
from feed_service.comments import Comments
from feed_service.digest import DigestQuery, Digests
from feed_service.digest_subscriptions import DigestSubscriptions
from feed_service.erasure import Erasure
from feed_service.exports import Exports
from feed_service.feed import Feed, FeedQuery
from feed_service.imports import Imports
from feed_service.models import (
    ALT_TEXT_LENGTH,
    BODY_LENGTH,
    COMMENT_LENGTH,
    EXTERNAL_ID_LENGTH,
    MODERATION_REASON_LENGTH,
    PRIVATE,
    TAG_NAME_LENGTH,
    TAGS,
)
from feed_service.moderation import Moderation
from feed_service.photos import Photos
from feed_service.posts import Changes, Draft, Posts
from feed_service.queries.checks import Check
from feed_service.queries.comments import CommentName
from feed_service.queries.events import EventFilter
from feed_service.queries.imported_comments import ImportedComment
from feed_service.queries.imported_tags import ImportedMember, ImportedTag
from feed_service.queries.imports import ImportedPost
from feed_service.queries.moderation import ContentName, Decision, ModerationState
from feed_service.queries.photos import PhotoDraft
from feed_service.queries.posts import Audience, CommentPolicy, PostName, PostRow
from feed_service.queries.tags import Mute
from feed_service.read_positions import ReadPositions
from feed_service.tag_imports import Chunk, TagImports
from feed_service.tags import UNMUTED_WITH_END, TagChanges, Tags
from feed_service.watches import ContentWatches
from feed_service.weeks import MONDAY, SUNDAY, time_zones
from kith.feed.v1 import feed_pb2 as pb
from kith.feed.v1 import feed_pb2_grpc
from kith.timestamps import timestamp
from shared.api.fields import Fields
from shared.api.idempotency import NOBODY, Call, M
from shared.api.limits import limits

R = TypeVar("R")

_Repeatable: TypeAlias = (
    pb.CreatePostRequest
    | pb.UpdatePostRequest
    | pb.DeletePostRequest
    | pb.UndeletePostRequest
    | pb.CreatePhotoUploadsRequest
    | pb.CreateTagRequest
    | pb.UpdateTagRequest
    | pb.DeleteTagRequest
    | pb.AddTagMembersRequest
    | pb.RemoveTagMembersRequest
    | pb.CreateCommentRequest
    | pb.UpdateCommentRequest
    | pb.DeleteCommentRequest
    | pb.HideCommentRequest
    | pb.UnhideCommentRequest
    | pb.MarkFeedReadRequest
    | pb.SetDigestSubscriptionRequest
    | pb.DeleteDigestSubscriptionRequest
)

_MAX_AUDIENCE_TAGS = limits(pb.Audience, "tag_ids").max_items
_MAX_POLICY_TAGS = limits(pb.CommentPolicy, "tag_ids").max_items
_MAX_FILTER_TAGS = limits(pb.GetFeedRequest, "tag_ids").max_items
_MAX_FILTER_AUTHORS = limits(pb.GetFeedRequest, "author_ids").max_items
_MAX_MEMBERS = limits(pb.AddTagMembersRequest, "target_user_ids").max_items
_MAX_PHOTOS = limits(pb.CreatePostRequest, "photo_keys").max_items
_MAX_ATTRIBUTE_BYTES = limits(pb.Post, "attributes").max_bytes
_CHANGEABLE = frozenset(
    {"body", "audience", "photos", "attributes", "comment_policy", "comments_locked"}
)
_CHANGEABLE_OF_TAG = frozenset({"name", "muted", "mute_until"})
_MAX_BATCH = limits(pb.BatchGetPostsRequest, "posts").max_items
_KEY_LENGTH = limits(pb.CreatePostRequest, "photo_keys").max_length
_MAX_SCORES = limits(pb.SetPostImportanceRequest, "scores").max_items
_MAX_CHECKS = limits(pb.CheckVisibilityRequest, "checks").max_items
_MAX_COMMENT_BATCH = limits(pb.BatchGetCommentsRequest, "comments").max_items
_MAX_IMPORT_CHUNK = limits(pb.ImportPostsRequest, "posts").max_items
_MAX_IMPORTED_PHOTOS = 100
_MAX_KINDS = limits(pb.WatchPostsRequest, "kinds").max_items
_MAX_WATCHED = limits(pb.WatchPostsRequest, "user_ids").max_items
_MAX_IMPORTANCE = limits(pb.ImportPostsRequest.ImportedPost, "importance").maximum
_CLAIM = {"default": 100, "maximum": 1_000}
_LEASE_SECONDS = 600
_MAX_LEASE_SECONDS = limits(pb.ClaimDigestsRequest, "lease_seconds").maximum
_TOKEN_LENGTH = limits(pb.AcknowledgeDigestsRequest, "lease_token").max_length
_MAX_ACKNOWLEDGED = limits(pb.AcknowledgeDigestsRequest, "user_ids").max_items
_FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
_UTC = ZoneInfo("UTC")
_POST_PAGE = {"default": 20, "maximum": 100}
_COMMENT_PAGE = {"default": 50, "maximum": 200}
_MEMBER_PAGE = {"default": 50, "maximum": 1_000}
_VIEWER_PAGE = {"default": 50, "maximum": 1_000}
_MODERATED_PAGE = {"default": 50, "maximum": 1_000}
# Ten years; SetModeration can hold anew.
_LONGEST_HOLD = timedelta(days=3_650)


class FeedServicer(feed_pb2_grpc.FeedServiceServicer):
    """The service of protos/kith/feed/v1/feed.proto, which documents every call."""

    def __init__(
        self,
        *,
        feed: Feed,
        digests: Digests,
        digest_subscriptions: DigestSubscriptions,
        posts: Posts,
        photos: Photos,
        tags: Tags,
        comments: Comments,
        audiences: Audiences,
        checks: Checks,
        moderation: Moderation,
        read_positions: ReadPositions,
        tag_imports: TagImports,
        imports: Imports,
        comment_imports: CommentImports,
        exports: Exports,
        watches: ContentWatches,
        erasure: Erasure,
    ) -> None:
        self._feed = feed
        self._digests = digests
        self._digest_subscriptions = digest_subscriptions
        self._posts = posts
        self._photos = photos
        self._created_post = partial(messages.created_post, download_url=photos.download_url)
        self._changed_post = partial(messages.changed_post, download_url=photos.download_url)
        self._restored_post = partial(messages.restored_post, download_url=photos.download_url)
        self._tags = tags
        self._comments = comments
        self._audiences = audiences
        self._checks = checks
        self._moderation = moderation
        self._read_positions = read_positions
        self._tag_imports = tag_imports
        self._imports = imports
        self._comment_imports = comment_imports
        self._exports = exports
        self._watches = watches
        self._erasure = erasure

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
                newer_than=request.newer_than,
                page_size=fields.page_size("page_size", request.page_size, **_POST_PAGE),
                page_token=request.page_token,
            )
        page = self._feed.page(query)
        response = pb.GetFeedResponse(
            next_page_token=page.next_page_token, refresh_token=page.refresh_token
        )
        self._show(page.posts, query.viewer_id, add=response.posts.add)
        return response

    def GetDigest(
        self, request: pb.GetDigestRequest, context: grpc.ServicerContext
    ) -> pb.GetDigestResponse:
        with Fields() as fields:
            query = DigestQuery(
                viewer_id=fields.identifier("user_id", request.user_id),
                week_of=_week_of(fields, request),
                time_zone=_time_zone(fields, "time_zone", request.time_zone),
                tag_ids=fields.identifiers("tag_ids", request.tag_ids, max_items=_MAX_FILTER_TAGS),
                include_own_posts=request.include_own_posts,
                exclude_read=request.exclude_read,
                week_start_day=_week_start_day(fields, request),
            )
        digest = self._digests.digest(query)
        download_url = self._photos.download_urls()
        return pb.GetDigestResponse(
            items=[
                messages.digest_item(row, viewer_id=query.viewer_id, download_url=download_url)
                for row in digest.posts
            ],
            start_time=timestamp(digest.week.start),
            end_time=timestamp(digest.week.end),
            summary=digest.summary,
            left_out_count=digest.left_out_count,
            frozen=digest.is_frozen,
        )

    def CreatePost(
        self, request: pb.CreatePostRequest, context: grpc.ServicerContext
    ) -> pb.CreatePostResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.CreatePostResponse, self._created_post)
            draft = Draft(
                body=fields.text(
                    "body",
                    request.body,
                    max_length=BODY_LENGTH,
                    may_be_empty=bool(request.photo_keys),
                ),
                audience=_audience(fields, "audience", request.audience),
                photos=_new_photos(fields, request),
                attributes=_attributes(fields, "attributes", request.attributes),
                comment_policy=_comment_policy(fields, "comment_policy", request),
            )
        return self._posts.create(call, draft, shown=messages.shown_post)

    def GetPost(
        self, request: pb.GetPostRequest, context: grpc.ServicerContext
    ) -> pb.GetPostResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            author_id = fields.identifier("author_id", request.author_id)
            post_id = fields.identifier("post_id", request.post_id)
        row = self._posts.get(viewer_id, (author_id, post_id))
        return pb.GetPostResponse(
            post=messages.post(row, viewer_id=viewer_id, download_url=self._photos.download_urls())
        )

    def BatchGetPosts(
        self, request: pb.BatchGetPostsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetPostsResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            names = _post_names(fields, "posts", request.posts, max_items=_MAX_BATCH)
        found = self._posts.batch(viewer_id, names)
        response = pb.BatchGetPostsResponse(
            not_found=[
                pb.PostName(author_id=author_id, post_id=post_id)
                for author_id, post_id in names
                if (author_id, post_id) not in found
            ],
        )
        shown = [found[name] for name in names if name in found]
        self._show(shown, viewer_id, add=response.posts.add)
        return response

    def ListPosts(
        self, request: pb.ListPostsRequest, context: grpc.ServicerContext
    ) -> pb.ListPostsResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            author_id = fields.identifier("author_id", request.author_id)
            page_size = fields.page_size("page_size", request.page_size, **_POST_PAGE)
        page = self._posts.page(
            viewer_id, author_id, page_size=page_size, page_token=request.page_token
        )
        response = pb.ListPostsResponse(next_page_token=page.next_page_token)
        self._show(page.items, viewer_id, add=response.posts.add)
        return response

    def UpdatePost(
        self, request: pb.UpdatePostRequest, context: grpc.ServicerContext
    ) -> pb.UpdatePostResponse:
        body, audience, photos, attributes, comment_policy = None, None, None, None, None
        with Fields() as fields:
            call = _call(fields, request, pb.UpdatePostResponse, self._changed_post)
            post_id = fields.identifier("post.post_id", request.post.post_id)
            fields.own("post.author_id", request.post.author_id, user_id=request.user_id)
            changed = fields.update_mask(
                "update_mask", request.update_mask.paths, allowed=_CHANGEABLE
            )
            if "body" in changed:
                body = fields.text(
                    "post.body", request.post.body, max_length=BODY_LENGTH, may_be_empty=True
                )
            if "audience" in changed:
                audience = _audience(
                    fields, "post.audience", request.post.audience, may_be_as_read=True
                )
            if "photos" in changed:
                photos = _photos(fields, "post.photos", request.post.photos)
            if "attributes" in changed:
                attributes = _attributes(fields, "post.attributes", request.post.attributes)
            if "comment_policy" in changed:
                comment_policy = _comment_policy(
                    fields, "post.comment_policy", request.post, may_be_as_read=True
                )
        return self._posts.update(
            call,
            post_id,
            Changes(
                body=body,
                audience=audience,
                photos=photos,
                attributes=attributes,
                comment_policy=comment_policy,
                comments_locked=(
                    request.post.comments_locked if "comments_locked" in changed else None
                ),
            ),
            version=messages.version(request.post.etag),
        )

    def DeletePost(
        self, request: pb.DeletePostRequest, context: grpc.ServicerContext
    ) -> pb.DeletePostResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.DeletePostResponse, _done(pb.DeletePostResponse))
            post_id = fields.identifier("post_id", request.post_id)
        return self._posts.delete(call, post_id)

    def UndeletePost(
        self, request: pb.UndeletePostRequest, context: grpc.ServicerContext
    ) -> pb.UndeletePostResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.UndeletePostResponse, self._restored_post)
            post_id = fields.identifier("post_id", request.post_id)
        return self._posts.undelete(call, post_id)

    def ListDeletedPosts(
        self, request: pb.ListDeletedPostsRequest, context: grpc.ServicerContext
    ) -> pb.ListDeletedPostsResponse:
        with Fields() as fields:
            author_id = fields.identifier("user_id", request.user_id)
            page_size = fields.page_size("page_size", request.page_size, **_POST_PAGE)
        page = self._posts.deleted_page(
            author_id, page_size=page_size, page_token=request.page_token
        )
        response = pb.ListDeletedPostsResponse(next_page_token=page.next_page_token)
        download_url = self._photos.download_urls()
        for row in page.items:
            messages.fill_deleted_post(response.posts.add(), row, download_url=download_url)
        return response

    def CreatePhotoUploads(
        self, request: pb.CreatePhotoUploadsRequest, context: grpc.ServicerContext
    ) -> pb.CreatePhotoUploadsResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.CreatePhotoUploadsResponse, messages.permitted_uploads)
            fields.count("photos", len(request.photos), min_items=1, max_items=_MAX_PHOTOS)
            content_types = [
                fields.choice(
                    f"photos[{index}].content_type",
                    draft.content_type,
                    choices=messages.CONTENT_TYPES,
                )
                for index, draft in enumerate(request.photos[:_MAX_PHOTOS])
            ]
        return self._photos.permit_uploads(call, content_types)

    def CreateTag(
        self, request: pb.CreateTagRequest, context: grpc.ServicerContext
    ) -> pb.CreateTagResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.CreateTagResponse, messages.created_tag)
            name = _tag_name(fields, "name", request.name)
            mute = _mute(fields, "mute_until", request)
        return self._tags.create(call, name=name, mute=mute, shown=messages.shown_tag)

    def ListTags(
        self, request: pb.ListTagsRequest, context: grpc.ServicerContext
    ) -> pb.ListTagsResponse:
        with Fields() as fields:
            owner_id = fields.identifier("user_id", request.user_id)
            page_size = fields.page_size("page_size", request.page_size, default=50, maximum=500)
        page = self._tags.page(
            owner_id,
            show_deleted=request.show_deleted,
            page_size=page_size,
            page_token=request.page_token,
        )
        return pb.ListTagsResponse(
            tags=[messages.tag(row) for row in page.items], next_page_token=page.next_page_token
        )

    def UpdateTag(
        self, request: pb.UpdateTagRequest, context: grpc.ServicerContext
    ) -> pb.UpdateTagResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.UpdateTagResponse, messages.changed_tag)
            tag_id = fields.identifier("tag.tag_id", request.tag.tag_id)
            changes = _tag_changes(fields, request)
        return self._tags.update(
            call,
            tag_id,
            changes,
            version=messages.version(request.tag.etag),
        )

    def DeleteTag(
        self, request: pb.DeleteTagRequest, context: grpc.ServicerContext
    ) -> pb.DeleteTagResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.DeleteTagResponse, _done(pb.DeleteTagResponse))
            tag_id = fields.identifier("tag_id", request.tag_id)
        return self._tags.delete(call, tag_id)

    def AddTagMembers(
        self, request: pb.AddTagMembersRequest, context: grpc.ServicerContext
    ) -> pb.AddTagMembersResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.AddTagMembersResponse, messages.added_members)
            tag_id, target_ids = _members(fields, request)
        return self._tags.add_members(call, tag_id, target_ids)

    def RemoveTagMembers(
        self, request: pb.RemoveTagMembersRequest, context: grpc.ServicerContext
    ) -> pb.RemoveTagMembersResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.RemoveTagMembersResponse, messages.removed_members)
            tag_id, target_ids = _members(fields, request)
        return self._tags.remove_members(call, tag_id, target_ids)

    def ListTagMembers(
        self, request: pb.ListTagMembersRequest, context: grpc.ServicerContext
    ) -> pb.ListTagMembersResponse:
        with Fields() as fields:
            owner_id = fields.identifier("user_id", request.user_id)
            tag_id = fields.identifier("tag_id", request.tag_id)
            page_size = fields.page_size("page_size", request.page_size, **_MEMBER_PAGE)
        page = self._tags.members(
            owner_id,
            tag_id,
            show_former=request.show_former,
            page_size=page_size,
            page_token=request.page_token,
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

    def CreateComment(
        self, request: pb.CreateCommentRequest, context: grpc.ServicerContext
    ) -> pb.CreateCommentResponse:
        with Fields() as fields:
            call = _call(
                fields,
                request,
                pb.CreateCommentResponse,
                messages.created_comment,
                about_user_id=request.post.author_id,
            )
            post = _post_name(fields, "post", request.post)
            parent_id = _parent_id(fields, request)
            body = fields.text("body", request.body, max_length=COMMENT_LENGTH)
        return self._comments.create(
            call, post, parent_id=parent_id, body=body, shown=messages.shown_comment
        )

    def GetComment(
        self, request: pb.GetCommentRequest, context: grpc.ServicerContext
    ) -> pb.GetCommentResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            post = _post_name(fields, "post", request.post)
            comment_id = fields.identifier("comment_id", request.comment_id)
        row = self._comments.get(viewer_id, (*post, comment_id))
        return pb.GetCommentResponse(comment=messages.comment(row, viewer_id=viewer_id))

    def BatchGetComments(
        self, request: pb.BatchGetCommentsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetCommentsResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            names = _comment_names(fields, "comments", request.comments)
        found = self._comments.batch(viewer_id, names)
        return pb.BatchGetCommentsResponse(
            comments=[
                messages.comment(found[name], viewer_id=viewer_id)
                for name in names
                if name in found
            ],
            not_found=[messages.comment_name(name) for name in names if name not in found],
        )

    def ListComments(
        self, request: pb.ListCommentsRequest, context: grpc.ServicerContext
    ) -> pb.ListCommentsResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            post = _post_name(fields, "post", request.post)
            page_size = fields.page_size("page_size", request.page_size, **_COMMENT_PAGE)
            parent_id = _parent_id(fields, request)
            newest_first = fields.choice("order", request.order, choices=messages.IS_NEWEST_FIRST)
        page = self._comments.page(
            viewer_id,
            post,
            parent_id=parent_id,
            newest_first=newest_first,
            page_size=page_size,
            page_token=request.page_token,
        )
        return pb.ListCommentsResponse(
            comments=[messages.comment(row, viewer_id=viewer_id) for row in page.items],
            next_page_token=page.next_page_token,
        )

    def ListOwnComments(
        self, request: pb.ListOwnCommentsRequest, context: grpc.ServicerContext
    ) -> pb.ListOwnCommentsResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            page_size = fields.page_size("page_size", request.page_size, **_COMMENT_PAGE)
        page = self._comments.own_page(user_id, page_size=page_size, page_token=request.page_token)
        return pb.ListOwnCommentsResponse(
            comments=[messages.comment(row, viewer_id=user_id) for row in page.items],
            next_page_token=page.next_page_token,
        )

    def UpdateComment(
        self, request: pb.UpdateCommentRequest, context: grpc.ServicerContext
    ) -> pb.UpdateCommentResponse:
        with Fields() as fields:
            call = _call(
                fields,
                request,
                pb.UpdateCommentResponse,
                messages.changed_comment,
                about_user_id=request.comment.post.author_id,
            )
            post = _post_name(fields, "comment.post", request.comment.post)
            comment_id = fields.identifier("comment.comment_id", request.comment.comment_id)
            fields.own("comment.author_id", request.comment.author_id, user_id=request.user_id)
            fields.update_mask("update_mask", request.update_mask.paths, allowed={"body"})
            body = fields.text("comment.body", request.comment.body, max_length=COMMENT_LENGTH)
        return self._comments.update(
            call,
            (*post, comment_id),
            body=body,
            version=messages.version(request.comment.etag),
        )

    def DeleteComment(
        self, request: pb.DeleteCommentRequest, context: grpc.ServicerContext
    ) -> pb.DeleteCommentResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.DeleteCommentResponse, _done(pb.DeleteCommentResponse))
            post = _post_name(fields, "post", request.post)
            comment_id = fields.identifier("comment_id", request.comment_id)
        return self._comments.delete(call, (*post, comment_id))

    def HideComment(
        self, request: pb.HideCommentRequest, context: grpc.ServicerContext
    ) -> pb.HideCommentResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.HideCommentResponse, _done(pb.HideCommentResponse))
            name = _comment_on_own_post(fields, request)
        return self._comments.set_hidden(call, name, hidden=True)

    def UnhideComment(
        self, request: pb.UnhideCommentRequest, context: grpc.ServicerContext
    ) -> pb.UnhideCommentResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.UnhideCommentResponse, _done(pb.UnhideCommentResponse))
            name = _comment_on_own_post(fields, request)
        return self._comments.set_hidden(call, name, hidden=False)

    def SetPostImportance(
        self, request: pb.SetPostImportanceRequest, context: grpc.ServicerContext
    ) -> pb.SetPostImportanceResponse:
        with Fields() as fields:
            call = _service_call(
                fields, request, pb.SetPostImportanceResponse, messages.scored_posts
            )
            names = _post_names(
                fields,
                "scores",
                [score.post for score in request.scores],
                max_items=_MAX_SCORES,
                within=".post",
            )
            importances = [
                fields.number(
                    f"scores[{index}].importance", score.importance, maximum=_MAX_IMPORTANCE
                )
                for index, score in enumerate(request.scores)
            ]
        return self._posts.score(call, dict(zip(names, importances, strict=True)))

    def SetModeration(
        self, request: pb.SetModerationRequest, context: grpc.ServicerContext
    ) -> pb.SetModerationResponse:
        with Fields() as fields:
            name = _content_name(fields, request)
            call = _service_call(
                fields,
                request,
                pb.SetModerationResponse,
                messages.decided,
                about_user_id=name.author_id,
            )
            decision = _decision(fields, request)
        return self._moderation.decide(call, name, decision)

    def ListModerated(
        self, request: pb.ListModeratedRequest, context: grpc.ServicerContext
    ) -> pb.ListModeratedResponse:
        with Fields() as fields:
            state = None
            if request.state:
                state = fields.choice("state", request.state, choices=messages.HIDING_STATES)
            page_size = fields.page_size("page_size", request.page_size, **_MODERATED_PAGE)
        page = self._moderation.page(state, page_size=page_size, page_token=request.page_token)
        return pb.ListModeratedResponse(
            items=[messages.moderated_item(row) for row in page.items],
            next_page_token=page.next_page_token,
        )

    def InspectPost(
        self, request: pb.InspectPostRequest, context: grpc.ServicerContext
    ) -> pb.InspectPostResponse:
        with Fields() as fields:
            post = _post_name(fields, "post", request.post)
            page_size = fields.page_size("page_size", request.page_size, **_COMMENT_PAGE)
        inspection = self._moderation.inspect(
            post, page_size=page_size, page_token=request.page_token
        )
        return messages.inspection(inspection, download_url=self._photos.download_urls())

    def ExplainVisibility(
        self, request: pb.ExplainVisibilityRequest, context: grpc.ServicerContext
    ) -> pb.ExplainVisibilityResponse:
        with Fields() as fields:
            author_id = fields.identifier("user_id", request.user_id)
            post_id = fields.identifier("post_id", request.post_id)
            viewer_id = fields.identifier("viewer_id", request.viewer_id)
        return messages.explanation(self._audiences.explain(viewer_id, (author_id, post_id)))

    def PreviewAudience(
        self, request: pb.PreviewAudienceRequest, context: grpc.ServicerContext
    ) -> pb.PreviewAudienceResponse:
        with Fields() as fields:
            author_id = fields.identifier("user_id", request.user_id)
            audience = _audience(fields, "audience", request.audience, may_be_as_read=True)
            page_size = fields.page_size("page_size", request.page_size, **_VIEWER_PAGE)
        preview = self._audiences.preview(
            author_id, audience, page_size=page_size, page_token=request.page_token
        )
        return pb.PreviewAudienceResponse(
            viewer_ids=preview.page.items,
            total_count=preview.total_count,
            next_page_token=preview.page.next_page_token,
        )

    def CheckVisibility(
        self, request: pb.CheckVisibilityRequest, context: grpc.ServicerContext
    ) -> pb.CheckVisibilityResponse:
        with Fields() as fields:
            fields.count("checks", len(request.checks), min_items=1, max_items=_MAX_CHECKS)
            checks = [
                _check(fields, f"checks[{index}]", check)
                for index, check in enumerate(request.checks[:_MAX_CHECKS])
            ]
        visible = self._checks.visible(checks)
        return pb.CheckVisibilityResponse(visible=[check in visible for check in checks])

    def ListViewers(
        self, request: pb.ListViewersRequest, context: grpc.ServicerContext
    ) -> pb.ListViewersResponse:
        with Fields() as fields:
            post = _post_name(fields, "post", request.post)
            page_size = fields.page_size("page_size", request.page_size, **_VIEWER_PAGE)
        viewers = self._audiences.viewers(post, page_size=page_size, page_token=request.page_token)
        return pb.ListViewersResponse(
            viewer_ids=viewers.page.items,
            total_count=viewers.total_count,
            next_page_token=viewers.page.next_page_token,
        )

    def MarkFeedRead(
        self, request: pb.MarkFeedReadRequest, context: grpc.ServicerContext
    ) -> pb.MarkFeedReadResponse:
        with Fields() as fields:
            call = _call(fields, request, pb.MarkFeedReadResponse, messages.moved_position)
            post = _post_name(fields, "post", request.post)
        return self._read_positions.mark(call, post)

    def CountUnreadPosts(
        self, request: pb.CountUnreadPostsRequest, context: grpc.ServicerContext
    ) -> pb.CountUnreadPostsResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
        unread = self._read_positions.unread(user_id)
        return pb.CountUnreadPostsResponse(unread_count=unread.count, more=unread.more)

    def SetDigestSubscription(
        self, request: pb.SetDigestSubscriptionRequest, context: grpc.ServicerContext
    ) -> pb.SetDigestSubscriptionResponse:
        with Fields() as fields:
            call = _call(
                fields, request, pb.SetDigestSubscriptionResponse, messages.stored_subscription
            )
            time_zone = _time_zone(fields, "time_zone", request.time_zone)
            week_start_day = _week_start_day(fields, request)
        return self._digest_subscriptions.subscribe(
            call, time_zone=time_zone, week_start_day=week_start_day
        )

    def GetDigestSubscription(
        self, request: pb.GetDigestSubscriptionRequest, context: grpc.ServicerContext
    ) -> pb.GetDigestSubscriptionResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
        row = self._digest_subscriptions.subscription(user_id)
        return pb.GetDigestSubscriptionResponse(
            subscription=None if row is None else messages.digest_subscription(row)
        )

    def DeleteDigestSubscription(
        self, request: pb.DeleteDigestSubscriptionRequest, context: grpc.ServicerContext
    ) -> pb.DeleteDigestSubscriptionResponse:
        with Fields() as fields:
            answered_by = pb.DeleteDigestSubscriptionResponse
            call = _call(fields, request, answered_by, _done(answered_by))
        return self._digest_subscriptions.unsubscribe(call)

    def ClaimDigests(
        self, request: pb.ClaimDigestsRequest, context: grpc.ServicerContext
    ) -> pb.ClaimDigestsResponse:
        with Fields() as fields:
            limit = fields.page_size("max_digests", request.max_digests, **_CLAIM)
            fields.number("lease_seconds", request.lease_seconds, maximum=_MAX_LEASE_SECONDS)
        lasts = timedelta(seconds=request.lease_seconds or _LEASE_SECONDS)
        claim = self._digest_subscriptions.claim(limit=limit, lasts=lasts)
        return pb.ClaimDigestsResponse(
            digests=[messages.claimed_digest(digest) for digest in claim.digests],
            lease_token=claim.lease_token,
            expire_time=None if claim.expire_at is None else timestamp(claim.expire_at),
        )

    def AcknowledgeDigests(
        self, request: pb.AcknowledgeDigestsRequest, context: grpc.ServicerContext
    ) -> pb.AcknowledgeDigestsResponse:
        with Fields() as fields:
            token = fields.text("lease_token", request.lease_token, max_length=_TOKEN_LENGTH)
            user_ids = fields.identifiers(
                "user_ids", request.user_ids, min_items=1, max_items=_MAX_ACKNOWLEDGED
            )
        done = self._digest_subscriptions.acknowledge(lease_token=token, user_ids=user_ids)
        return pb.AcknowledgeDigestsResponse(
            acknowledged_count=done.count, lost_user_ids=done.lost_user_ids
        )

    def ImportTags(
        self, request_iterator: Iterator[pb.ImportTagsRequest], context: grpc.ServicerContext
    ) -> pb.ImportTagsResponse:
        result = self._tag_imports.import_chunks(
            _chunk_of_tags(request) for request in request_iterator
        )
        return pb.ImportTagsResponse(
            imported_count=result.imported,
            existing_count=result.existing,
            imported_member_count=result.imported_members,
            existing_member_count=result.existing_members,
            unconnected_member_count=result.unconnected_members,
            committed_chunks=result.committed_chunks,
        )

    def ImportPosts(
        self, request_iterator: Iterator[pb.ImportPostsRequest], context: grpc.ServicerContext
    ) -> pb.ImportPostsResponse:
        result = self._imports.import_chunks(_chunk(request) for request in request_iterator)
        return pb.ImportPostsResponse(
            imported_count=result.imported,
            existing_count=result.existing,
            committed_chunks=result.committed_chunks,
        )

    def ImportComments(
        self, request_iterator: Iterator[pb.ImportCommentsRequest], context: grpc.ServicerContext
    ) -> pb.ImportCommentsResponse:
        result = self._comment_imports.import_chunks(
            _chunk_of_comments(request) for request in request_iterator
        )
        return pb.ImportCommentsResponse(
            imported_count=result.imported,
            existing_count=result.existing,
            committed_chunks=result.committed_chunks,
        )

    def ExportUser(
        self, request: pb.ExportUserRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportUserResponse]:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
        for part in self._exports.export(user_id, request.cursor):
            yield from messages.exported(part, download_url=self._photos.download_urls())

    def WatchPosts(
        self, request: pb.WatchPostsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchPostsResponse]:
        with Fields() as fields:
            wanted = EventFilter(
                kinds=fields.choices(
                    "kinds", request.kinds, choices=messages.EVENT_KINDS, max_items=_MAX_KINDS
                ),
                user_ids=fields.identifiers("user_ids", request.user_ids, max_items=_MAX_WATCHED),
            )
        for changes in self._watches.follow(
            request.cursor, context, wanted, from_oldest=request.from_oldest
        ):
            yield pb.WatchPostsResponse(
                events=[messages.event(row) for row in changes.events], cursor=changes.cursor
            )

    def DeleteUser(
        self, request: pb.DeleteUserRequest, context: grpc.ServicerContext
    ) -> pb.DeleteUserResponse:
        with Fields() as fields:
            call = _service_call(fields, request, pb.DeleteUserResponse, messages.erased_user)
            user_id = fields.identifier("user_id", request.user_id)
        return self._erasure.delete_user(call, user_id)

    def _show(
        self,
        rows: Sequence[PostRow],
        viewer_id: int,
        *,
        add: Callable[[], pb.Post],
    ) -> None:
        download_url = self._photos.download_urls()
        for row in rows:
            messages.fill_post(add(), row, viewer_id=viewer_id, download_url=download_url)


def _call(
    fields: Fields,
    request: _Repeatable,
    answered_by: type[M],
    answer: Callable[[R], M],
    *,
    about_user_id: int | None = None,
) -> Call[R, M]:
    """Return a user's call, of which the answer may name another user."""
    return Call(
        message=request,
        user_id=fields.identifier("user_id", request.user_id),
        request_id=fields.request_id("request_id", request.request_id),
        answered_by=answered_by,
        answer=answer,
        about_user_id=None if about_user_id == request.user_id else about_user_id,
    )


def _service_call(
    fields: Fields,
    request: pb.SetPostImportanceRequest | pb.SetModerationRequest | pb.DeleteUserRequest,
    answered_by: type[M],
    answer: Callable[[R], M],
    *,
    about_user_id: int | None = None,
) -> Call[R, M]:
    """Return a call that services make, for no user; its answer may be about one."""
    return Call(
        message=request,
        user_id=NOBODY,
        request_id=fields.request_id("request_id", request.request_id),
        answered_by=answered_by,
        answer=answer,
        about_user_id=about_user_id,
    )


def _done(answered_by: type[M]) -> Callable[[None], M]:
    """Return what answers a call that has no result."""
    return lambda _: answered_by()


def _week_of(fields: Fields, request: pb.GetDigestRequest) -> datetime | None:
    if not request.HasField("week_of"):
        return None
    moment = fields.moment("week_of", request.week_of)
    if moment is not None and moment < _FIRST_MOMENT:
        fields.reject("week_of", "must not be before 1970")
    return moment


def _week_start_day(
    fields: Fields, request: pb.GetDigestRequest | pb.SetDigestSubscriptionRequest
) -> int:
    if request.week_start_day and not MONDAY <= request.week_start_day <= SUNDAY:
        fields.reject("week_start_day", "must be from 1 (Monday) to 7 (Sunday), or be left out")
    return request.week_start_day


def _time_zone(fields: Fields, field: str, name: str) -> ZoneInfo:
    if name and name not in time_zones():
        fields.reject(field, "must be an IANA time zone, such as Europe/Lisbon")
        return _UTC
    return ZoneInfo(name) if name else _UTC


def _post_names(
    fields: Fields, field: str, names: Sequence[pb.PostName], *, max_items: int, within: str = ""
) -> list[PostName]:
    fields.count(field, len(names), min_items=1, max_items=max_items)
    seen = set[PostName]()
    for index, name in enumerate(names[:max_items]):
        found = _post_name(fields, f"{field}[{index}]{within}", name)
        if found in seen:
            fields.reject(f"{field}[{index}]", "must not be given twice")
        seen.add(found)
    return [(name.author_id, name.post_id) for name in names]


def _post_name(fields: Fields, field: str, name: pb.PostName) -> PostName:
    return (
        fields.identifier(f"{field}.author_id", name.author_id),
        fields.identifier(f"{field}.post_id", name.post_id),
    )


def _comment_names(
    fields: Fields, field: str, names: Sequence[pb.CommentName]
) -> list[CommentName]:
    fields.count(field, len(names), min_items=1, max_items=_MAX_COMMENT_BATCH)
    found, seen = list[CommentName](), set[CommentName]()
    for index, message in enumerate(names[:_MAX_COMMENT_BATCH]):
        post = _post_name(fields, f"{field}[{index}].post", message.post)
        comment_id = fields.identifier(f"{field}[{index}].comment_id", message.comment_id)
        name = (*post, comment_id)
        if name in seen:
            fields.reject(f"{field}[{index}]", "must not be given twice")
        seen.add(name)
        found.append(name)
    return found


def _comment_on_own_post(
    fields: Fields, request: pb.HideCommentRequest | pb.UnhideCommentRequest
) -> CommentName:
    post_id = fields.identifier("post_id", request.post_id)
    return request.user_id, post_id, fields.identifier("comment_id", request.comment_id)


def _parent_id(fields: Fields, request: pb.CreateCommentRequest | pb.ListCommentsRequest) -> int:
    if request.parent_comment_id < 0:
        fields.reject("parent_comment_id", "must be a positive integer, or 0 for none")
    return request.parent_comment_id


def _check(fields: Fields, field: str, check: pb.CheckVisibilityRequest.VisibilityCheck) -> Check:
    if check.comment_id < 0:
        fields.reject(f"{field}.comment_id", "must be a positive integer, or 0 for the post itself")
    author_id, post_id = _post_name(fields, f"{field}.post", check.post)
    return Check(
        viewer_id=fields.identifier(f"{field}.viewer_id", check.viewer_id),
        author_id=author_id,
        post_id=post_id,
        comment_id=check.comment_id,
    )


def _content_name(fields: Fields, request: pb.SetModerationRequest) -> ContentName:
    if request.comment_id < 0:
        fields.reject("comment_id", "must be a positive integer, or 0 for the post itself")
    return ContentName(*_post_name(fields, "post", request.post), request.comment_id)


def _decision(fields: Fields, request: pb.SetModerationRequest) -> Decision:
    state = fields.choice("state", request.state, choices=messages.MODERATION_STATES)
    is_visible = state is ModerationState.VISIBLE
    reason = fields.text(
        "reason", request.reason, max_length=MODERATION_REASON_LENGTH, may_be_empty=is_visible
    )
    if is_visible and reason:
        fields.reject("reason", "must be empty if state is VISIBLE")
    return Decision(state=state, reason=reason, held_until=_hold_end(fields, request, state))


def _hold_end(
    fields: Fields, request: pb.SetModerationRequest, state: ModerationState
) -> datetime | None:
    if state is not ModerationState.HELD:
        if request.HasField("expire_time"):
            fields.reject("expire_time", "must be empty unless state is HELD")
        return None
    if not request.HasField("expire_time"):
        fields.reject("expire_time", "must be given if state is HELD")
        return None
    return fields.future("expire_time", request.expire_time, most=_LONGEST_HOLD)


def _audience(
    fields: Fields, field: str, message: pb.Audience, *, may_be_as_read: bool = False
) -> Audience:
    """Read an audience; as a post is read, TAGS may be without tags."""
    kind = fields.choice(f"{field}.kind", message.kind, choices=messages.AUDIENCE_KINDS)
    tag_ids = fields.identifiers(f"{field}.tag_ids", message.tag_ids, max_items=_MAX_AUDIENCE_TAGS)
    excluded_tag_ids = fields.identifiers(
        f"{field}.excluded_tag_ids", message.excluded_tag_ids, max_items=_MAX_AUDIENCE_TAGS
    )
    if kind == TAGS and not message.tag_ids and not may_be_as_read:
        fields.reject(f"{field}.tag_ids", WITHOUT_TAGS)
    if kind != TAGS and message.tag_ids:
        fields.reject(f"{field}.tag_ids", "must be empty unless kind is TAGS")
    if kind == PRIVATE and message.excluded_tag_ids:
        fields.reject(f"{field}.excluded_tag_ids", "must be empty if kind is PRIVATE")
    for index, tag_id in enumerate(excluded_tag_ids):
        if tag_id in tag_ids:
            fields.reject(f"{field}.excluded_tag_ids[{index}]", "must not also be in tag_ids")
    return Audience(kind=kind, tag_ids=tag_ids, excluded_tag_ids=excluded_tag_ids)


def _comment_policy(
    fields: Fields,
    field: str,
    of: pb.CreatePostRequest | pb.Post | pb.ImportPostsRequest.ImportedPost,
    *,
    may_be_as_read: bool = False,
) -> CommentPolicy:
    """Read a policy, which is ALL if it is not given; as a post is read, TAGS may be without."""
    if not of.HasField("comment_policy"):
        return CommentPolicy()
    message = of.comment_policy
    kind = fields.choice(f"{field}.kind", message.kind, choices=messages.COMMENT_POLICY_KINDS)
    tag_ids = fields.identifiers(f"{field}.tag_ids", message.tag_ids, max_items=_MAX_POLICY_TAGS)
    if kind == TAGS and not message.tag_ids and not may_be_as_read:
        fields.reject(f"{field}.tag_ids", WITHOUT_TAGS)
    if kind != TAGS and message.tag_ids:
        fields.reject(f"{field}.tag_ids", "must be empty unless kind is TAGS")
    return CommentPolicy(kind=kind, tag_ids=tag_ids)


def _tag_name(fields: Fields, field: str, value: str) -> str:
    name = fields.text(field, value, max_length=TAG_NAME_LENGTH)
    if name != name.strip():
        fields.reject(field, "must not begin or end with white space")
    return name


def _mute(
    fields: Fields, field: str, tag: pb.CreateTagRequest | pb.ImportTagsRequest.ImportedTag
) -> Mute | None:
    has_end = tag.HasField("mute_until")
    if has_end and not tag.muted:
        fields.reject(field, UNMUTED_WITH_END)
    until = fields.moment(field, tag.mute_until) if has_end else None
    return Mute(until=until) if tag.muted else None


def _tag_changes(fields: Fields, request: pb.UpdateTagRequest) -> TagChanges:
    changed = fields.update_mask(
        "update_mask", request.update_mask.paths, allowed=_CHANGEABLE_OF_TAG
    )
    changes_end, mute_until = "mute_until" in changed, None
    if changes_end and request.tag.HasField("mute_until"):
        mute_until = fields.moment("tag.mute_until", request.tag.mute_until)
    return TagChanges(
        name=_tag_name(fields, "tag.name", request.tag.name) if "name" in changed else None,
        is_muted=request.tag.muted if "muted" in changed else None,
        changes_end=changes_end,
        mute_until=mute_until,
    )


def _members(
    fields: Fields, request: pb.AddTagMembersRequest | pb.RemoveTagMembersRequest
) -> tuple[int, list[int]]:
    tag_id = fields.identifier("tag_id", request.tag_id)
    target_ids = fields.identifiers(
        "target_user_ids", request.target_user_ids, min_items=1, max_items=_MAX_MEMBERS
    )
    for index, target_id in enumerate(target_ids):
        if target_id == request.user_id:
            fields.reject(f"target_user_ids[{index}]", "must not be the user")
    return tag_id, target_ids


def _chunk_of_tags(request: pb.ImportTagsRequest) -> Chunk:
    now = datetime.now(UTC)
    with Fields() as fields:
        fields.count("tags", len(request.tags), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        fields.count("members", len(request.members), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        tags = [
            _imported_tag(fields, f"tags[{index}]", tag, now=now)
            for index, tag in enumerate(request.tags[:_MAX_IMPORT_CHUNK])
        ]
        members = [
            _imported_member(fields, f"members[{index}]", member, now=now)
            for index, member in enumerate(request.members[:_MAX_IMPORT_CHUNK])
        ]
        _reject_repeated(fields, "tags", "external_id", [tag.key for tag in tags])
        given = [(member.tag, member.target_user_id) for member in members]
        _reject_repeated(fields, "members", "target_user_id", given)
    return Chunk(tags=tags, members=members)


def _imported_tag(
    fields: Fields, at: str, tag: pb.ImportTagsRequest.ImportedTag, *, now: datetime
) -> ImportedTag:
    created_at = _create_time(fields, f"{at}.create_time", tag, now=now)
    return ImportedTag(
        owner_id=fields.identifier(f"{at}.owner_id", tag.owner_id),
        external_id=_external_id(fields, f"{at}.external_id", tag.external_id),
        name=_tag_name(fields, f"{at}.name", tag.name),
        created_at=created_at,
        deleted_at=_later_time(fields, at, tag, "delete_time", than=created_at, now=now),
        mute=_mute(fields, f"{at}.mute_until", tag),
    )


def _imported_member(
    fields: Fields, at: str, member: pb.ImportTagsRequest.ImportedMember, *, now: datetime
) -> ImportedMember:
    owner_id = fields.identifier(f"{at}.owner_id", member.owner_id)
    return ImportedMember(
        owner_id=owner_id,
        tag_external_id=_external_id(fields, f"{at}.tag_external_id", member.tag_external_id),
        target_user_id=fields.other(f"{at}.target_user_id", member.target_user_id, than=owner_id),
        created_at=_create_time(fields, f"{at}.create_time", member, now=now),
        is_former=member.former,
    )


def _chunk(request: pb.ImportPostsRequest) -> list[ImportedPost]:
    now = datetime.now(UTC)
    with Fields() as fields:
        fields.count("posts", len(request.posts), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        posts = [
            _imported_post(fields, f"posts[{index}]", post, now=now)
            for index, post in enumerate(request.posts[:_MAX_IMPORT_CHUNK])
        ]
        _reject_repeated(fields, "posts", "external_id", [post.key for post in posts])
        _check_photos(fields, posts)
    return posts


def _check_photos(fields: Fields, posts: Sequence[ImportedPost]) -> None:
    """Check that no two posts have a photo in common, and that there are not too many in all."""
    seen = set[str]()
    for post in posts:
        for draft in post.photos:
            if draft.key in seen:
                fields.reject(draft.field, "must not be given twice")
        seen.update(draft.key for draft in post.photos)
    if sum(len(post.photos) for post in posts) > _MAX_IMPORTED_PHOTOS:
        fields.reject("posts", f"must have at most {_MAX_IMPORTED_PHOTOS} photos in all")
    if len({post.author_id for post in posts if post.photos}) > 1:
        fields.reject("posts", "must have one author, as far as they have photos")


def _chunk_of_comments(request: pb.ImportCommentsRequest) -> list[ImportedComment]:
    now = datetime.now(UTC)
    with Fields() as fields:
        fields.count("comments", len(request.comments), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        comments = [
            _imported_comment(fields, f"comments[{index}]", comment, now=now)
            for index, comment in enumerate(request.comments[:_MAX_IMPORT_CHUNK])
        ]
        keys = [(comment.post, comment.author_id, comment.external_id) for comment in comments]
        _reject_repeated(fields, "comments", "external_id", keys)
    return comments


def _imported_comment(
    fields: Fields, at: str, comment: pb.ImportCommentsRequest.ImportedComment, *, now: datetime
) -> ImportedComment:
    created_at = _create_time(fields, f"{at}.create_time", comment, now=now)
    return ImportedComment(
        author_id=fields.identifier(f"{at}.author_id", comment.author_id),
        external_id=_external_id(fields, f"{at}.external_id", comment.external_id),
        post_author_id=fields.identifier(f"{at}.post_author_id", comment.post_author_id),
        post_external_id=_external_id(fields, f"{at}.post_external_id", comment.post_external_id),
        body=fields.text(f"{at}.body", comment.body, max_length=COMMENT_LENGTH),
        created_at=created_at,
        edited_at=_later_time(fields, at, comment, "edit_time", than=created_at, now=now),
        is_moderated=comment.moderated,
        parent_external_id=fields.text(
            f"{at}.parent_external_id",
            comment.parent_external_id,
            max_length=EXTERNAL_ID_LENGTH,
            may_be_empty=True,
        ),
        is_hidden=comment.hidden,
    )


def _reject_repeated(fields: Fields, items: str, field: str, keys: Sequence[Hashable]) -> None:
    seen = set[Hashable]()
    for index, key in enumerate(keys):
        if key in seen:
            fields.reject(f"{items}[{index}].{field}", "must not be given twice")
        seen.add(key)


def _external_id(fields: Fields, field: str, value: str) -> str:
    return fields.text(field, value, max_length=EXTERNAL_ID_LENGTH)


def _new_photos(fields: Fields, request: pb.CreatePostRequest) -> list[PhotoDraft]:
    keys = fields.texts(
        "photo_keys", request.photo_keys, max_items=_MAX_PHOTOS, max_length=_KEY_LENGTH
    )
    alt_texts = request.alt_texts or [""] * len(keys)
    if len(alt_texts) != len(keys):
        fields.reject("alt_texts", "must be empty or have one item for each of photo_keys")
    return [
        PhotoDraft(key, _alt_text(fields, f"alt_texts[{index}]", alt_text), f"photo_keys[{index}]")
        for index, (key, alt_text) in enumerate(zip(keys, alt_texts, strict=False))
    ]


def _photos(fields: Fields, at: str, photos: Sequence[pb.Photo]) -> list[PhotoDraft]:
    fields.count(at, len(photos), min_items=0, max_items=_MAX_PHOTOS)
    drafts, seen = list[PhotoDraft](), set[str]()
    for index, photo in enumerate(photos[:_MAX_PHOTOS]):
        key_field = f"{at}[{index}].key"
        key = fields.text(key_field, photo.key, max_length=_KEY_LENGTH)
        if key in seen:
            fields.reject(key_field, "must not be given twice")
        seen.add(key)
        alt_text = _alt_text(fields, f"{at}[{index}].alt_text", photo.alt_text)
        drafts.append(PhotoDraft(key, alt_text, key_field))
    return drafts


def _alt_text(fields: Fields, field: str, value: str) -> str:
    return fields.text(field, value, max_length=ALT_TEXT_LENGTH, may_be_empty=True)


def _attributes(fields: Fields, field: str, values: Mapping[str, str]) -> Mapping[str, str]:
    return fields.text_map(field, values, max_bytes=_MAX_ATTRIBUTE_BYTES)


def _imported_post(
    fields: Fields, at: str, post: pb.ImportPostsRequest.ImportedPost, *, now: datetime
) -> ImportedPost:
    author_id = fields.identifier(f"{at}.author_id", post.author_id)
    external_id = _external_id(fields, f"{at}.external_id", post.external_id)
    body = fields.text(
        f"{at}.body", post.body, max_length=BODY_LENGTH, may_be_empty=bool(post.photos)
    )
    created_at = _create_time(fields, f"{at}.create_time", post, now=now)
    audience = _audience(fields, f"{at}.audience", post.audience, may_be_as_read=True)
    tags, excluded_tags = _external_tags(fields, at, post, audience)
    policy = _comment_policy(fields, f"{at}.comment_policy", post, may_be_as_read=True)
    is_scored = post.HasField("importance")
    if is_scored:
        fields.number(f"{at}.importance", post.importance, maximum=_MAX_IMPORTANCE)
    return ImportedPost(
        author_id=author_id,
        external_id=external_id,
        body=body,
        created_at=created_at,
        edited_at=_later_time(fields, at, post, "edit_time", than=created_at, now=now),
        audience=audience,
        tag_external_ids=tags,
        excluded_tag_external_ids=excluded_tags,
        importance=post.importance if is_scored else None,
        attributes=_attributes(fields, f"{at}.attributes", post.attributes),
        photos=_photos(fields, f"{at}.photos", post.photos),
        is_moderated=post.moderated,
        comment_policy=policy,
        comment_tag_external_ids=_policy_tags(fields, at, post, policy),
        comments_locked=post.comments_locked,
    )


def _policy_tags(
    fields: Fields, at: str, post: pb.ImportPostsRequest.ImportedPost, policy: CommentPolicy
) -> list[str]:
    """Read the imported tags of a comment policy, which has no others then."""
    field = f"{at}.comment_tag_external_ids"
    tags = fields.texts(
        field,
        post.comment_tag_external_ids,
        max_items=_MAX_POLICY_TAGS,
        max_length=EXTERNAL_ID_LENGTH,
    )
    if tags and (policy.kind != TAGS or policy.tag_ids):
        fields.reject(field, "must be empty unless kind is TAGS and tag_ids are empty")
    return tags


def _external_tags(
    fields: Fields, at: str, post: pb.ImportPostsRequest.ImportedPost, audience: Audience
) -> tuple[list[str], list[str]]:
    """Read the imported tags of an audience, which has no others then."""
    shown, excluded = (
        fields.texts(
            f"{at}.{name}",
            getattr(post, name),
            max_items=_MAX_AUDIENCE_TAGS,
            max_length=EXTERNAL_ID_LENGTH,
        )
        for name in ("tag_external_ids", "excluded_tag_external_ids")
    )
    if shown and (audience.kind != TAGS or audience.tag_ids):
        fields.reject(
            f"{at}.tag_external_ids", "must be empty unless kind is TAGS and tag_ids are empty"
        )
    if excluded and (audience.kind == PRIVATE or audience.excluded_tag_ids):
        fields.reject(
            f"{at}.excluded_tag_external_ids",
            "must be empty if kind is PRIVATE or there are excluded_tag_ids",
        )
    for index, external_id in enumerate(excluded):
        if external_id in shown:
            fields.reject(
                f"{at}.excluded_tag_external_ids[{index}]",
                "must not also be in tag_external_ids",
            )
    return shown, excluded


_Timed: TypeAlias = (
    pb.ImportTagsRequest.ImportedTag
    | pb.ImportTagsRequest.ImportedMember
    | pb.ImportPostsRequest.ImportedPost
    | pb.ImportCommentsRequest.ImportedComment
)


def _create_time(fields: Fields, field: str, item: _Timed, *, now: datetime) -> datetime:
    if not item.HasField("create_time"):
        fields.reject(field, "must be given")
        return now
    moment = fields.past(field, item.create_time, now=now)
    if moment < _FIRST_MOMENT:
        fields.reject(field, "must not be before 1970")
    return moment


def _later_time(
    fields: Fields, at: str, item: _Timed, name: str, *, than: datetime, now: datetime
) -> datetime | None:
    """Read when something was changed or deleted that was created before."""
    if not item.HasField(name):  # type: ignore[arg-type]  # each is a field of the items it is for
        return None
    moment = fields.past(f"{at}.{name}", getattr(item, name), now=now)
    if moment < than:
        fields.reject(f"{at}.{name}", "must not be before create_time")
    return moment
