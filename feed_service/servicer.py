"""FeedService: every RPC in the order of the proto. Decodes, calls, encodes."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial

import grpc

from feed_service import messages
from feed_service.audiences import Audiences
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
    BODY_LENGTH,
    COMMENT_LENGTH,
)
from feed_service.moderation import Moderation
from feed_service.photos import Photos
from feed_service.posts import Changes, Draft, Posts
from feed_service.queries.events import EventFilter
from feed_service.queries.posts import PostRow
from feed_service.read_positions import ReadPositions
from feed_service.requests.calls import done, service_call, user_call
from feed_service.requests.digests import read_time_zone, read_week_of, read_week_start_day
from feed_service.requests.imports import (
    read_chunk_of_comments,
    read_chunk_of_posts,
    read_chunk_of_tags,
)
from feed_service.requests.moderation import read_decision
from feed_service.requests.names import (
    read_check,
    read_comment_names,
    read_comment_on_own_post,
    read_content_name,
    read_parent_id,
    read_post_name,
    read_post_names,
)
from feed_service.requests.posts import (
    read_attributes,
    read_audience,
    read_comment_policy,
    read_new_photos,
    read_photos,
)
from feed_service.requests.tags import read_members, read_mute, read_tag_changes, read_tag_name
from feed_service.tag_imports import TagImports
from feed_service.tags import Tags
from feed_service.watches import ContentWatches
from kith.feed.v1 import feed_pb2 as pb
from kith.feed.v1 import feed_pb2_grpc
from kith.timestamps import timestamp
from shared.api.fields import Fields
from shared.api.limits import limits

_MAX_FILTER_TAGS = limits(pb.GetFeedRequest, "tag_ids").max_items
_MAX_FILTER_AUTHORS = limits(pb.GetFeedRequest, "author_ids").max_items
_MAX_PHOTOS = limits(pb.CreatePostRequest, "photo_keys").max_items
_CHANGEABLE = frozenset(
    {"body", "audience", "photos", "attributes", "comment_policy", "comments_locked"}
)
_MAX_BATCH = limits(pb.BatchGetPostsRequest, "posts").max_items
_MAX_SCORES = limits(pb.SetPostImportanceRequest, "scores").max_items
_MAX_CHECKS = limits(pb.CheckVisibilityRequest, "checks").max_items
_MAX_KINDS = limits(pb.WatchPostsRequest, "kinds").max_items
_MAX_WATCHED = limits(pb.WatchPostsRequest, "user_ids").max_items
_MAX_IMPORTANCE = limits(pb.ImportPostsRequest.ImportedPost, "importance").maximum
_CLAIM = {"default": 100, "maximum": 1_000}
_LEASE_SECONDS = 600
_MAX_LEASE_SECONDS = limits(pb.ClaimDigestsRequest, "lease_seconds").maximum
_TOKEN_LENGTH = limits(pb.AcknowledgeDigestsRequest, "lease_token").max_length
_MAX_ACKNOWLEDGED = limits(pb.AcknowledgeDigestsRequest, "user_ids").max_items
_POST_PAGE = {"default": 20, "maximum": 100}
_COMMENT_PAGE = {"default": 50, "maximum": 200}
_MEMBER_PAGE = {"default": 50, "maximum": 1_000}
_VIEWER_PAGE = {"default": 50, "maximum": 1_000}
_MODERATED_PAGE = {"default": 50, "maximum": 1_000}


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
                week_of=read_week_of(fields, request),
                time_zone=read_time_zone(fields, "time_zone", request.time_zone),
                tag_ids=fields.identifiers("tag_ids", request.tag_ids, max_items=_MAX_FILTER_TAGS),
                include_own_posts=request.include_own_posts,
                exclude_read=request.exclude_read,
                week_start_day=read_week_start_day(fields, request),
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
            call = user_call(fields, request, pb.CreatePostResponse, self._created_post)
            draft = Draft(
                body=fields.text(
                    "body",
                    request.body,
                    max_length=BODY_LENGTH,
                    may_be_empty=bool(request.photo_keys),
                ),
                audience=read_audience(fields, "audience", request.audience),
                photos=read_new_photos(fields, request),
                attributes=read_attributes(fields, "attributes", request.attributes),
                comment_policy=read_comment_policy(fields, "comment_policy", request),
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
            names = read_post_names(fields, "posts", request.posts, max_items=_MAX_BATCH)
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
            call = user_call(fields, request, pb.UpdatePostResponse, self._changed_post)
            post_id = fields.identifier("post.post_id", request.post.post_id)
            fields.own("post.author_id", request.post.author_id, user_id=request.user_id)
            changed = fields.update_mask(
                "update_mask",
                request.update_mask.paths,
                allowed=_CHANGEABLE,
                resource=request.post,
            )
            if "body" in changed:
                body = fields.text(
                    "post.body", request.post.body, max_length=BODY_LENGTH, may_be_empty=True
                )
            if "audience" in changed:
                audience = read_audience(
                    fields, "post.audience", request.post.audience, may_be_as_read=True
                )
            if "photos" in changed:
                photos = read_photos(fields, "post.photos", request.post.photos)
            if "attributes" in changed:
                attributes = read_attributes(fields, "post.attributes", request.post.attributes)
            if "comment_policy" in changed:
                comment_policy = read_comment_policy(
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
            call = user_call(fields, request, pb.DeletePostResponse, done(pb.DeletePostResponse))
            post_id = fields.identifier("post_id", request.post_id)
        return self._posts.delete(call, post_id, version=messages.version(request.etag))

    def UndeletePost(
        self, request: pb.UndeletePostRequest, context: grpc.ServicerContext
    ) -> pb.UndeletePostResponse:
        with Fields() as fields:
            call = user_call(fields, request, pb.UndeletePostResponse, self._restored_post)
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
            call = user_call(
                fields, request, pb.CreatePhotoUploadsResponse, messages.permitted_uploads
            )
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
            call = user_call(fields, request, pb.CreateTagResponse, messages.created_tag)
            name = read_tag_name(fields, "name", request.name)
            mute = read_mute(fields, "mute_until", request)
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
            call = user_call(fields, request, pb.UpdateTagResponse, messages.changed_tag)
            tag_id = fields.identifier("tag.tag_id", request.tag.tag_id)
            changes = read_tag_changes(fields, request)
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
            call = user_call(fields, request, pb.DeleteTagResponse, done(pb.DeleteTagResponse))
            tag_id = fields.identifier("tag_id", request.tag_id)
        return self._tags.delete(call, tag_id, version=messages.version(request.etag))

    def AddTagMembers(
        self, request: pb.AddTagMembersRequest, context: grpc.ServicerContext
    ) -> pb.AddTagMembersResponse:
        with Fields() as fields:
            call = user_call(fields, request, pb.AddTagMembersResponse, messages.added_members)
            tag_id, target_ids = read_members(fields, request)
        return self._tags.add_members(call, tag_id, target_ids)

    def RemoveTagMembers(
        self, request: pb.RemoveTagMembersRequest, context: grpc.ServicerContext
    ) -> pb.RemoveTagMembersResponse:
        with Fields() as fields:
            call = user_call(fields, request, pb.RemoveTagMembersResponse, messages.removed_members)
            tag_id, target_ids = read_members(fields, request)
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
            call = user_call(
                fields,
                request,
                pb.CreateCommentResponse,
                messages.created_comment,
                about_user_id=request.post.author_id,
            )
            post = read_post_name(fields, "post", request.post)
            parent_id = read_parent_id(fields, request)
            body = fields.text("body", request.body, max_length=COMMENT_LENGTH)
        return self._comments.create(
            call, post, parent_id=parent_id, body=body, shown=messages.shown_comment
        )

    def GetComment(
        self, request: pb.GetCommentRequest, context: grpc.ServicerContext
    ) -> pb.GetCommentResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            post = read_post_name(fields, "post", request.post)
            comment_id = fields.identifier("comment_id", request.comment_id)
        row = self._comments.get(viewer_id, (*post, comment_id))
        return pb.GetCommentResponse(comment=messages.comment(row, viewer_id=viewer_id))

    def BatchGetComments(
        self, request: pb.BatchGetCommentsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetCommentsResponse:
        with Fields() as fields:
            viewer_id = fields.identifier("user_id", request.user_id)
            names = read_comment_names(fields, "comments", request.comments)
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
            post = read_post_name(fields, "post", request.post)
            page_size = fields.page_size("page_size", request.page_size, **_COMMENT_PAGE)
            parent_id = read_parent_id(fields, request)
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
            call = user_call(
                fields,
                request,
                pb.UpdateCommentResponse,
                messages.changed_comment,
                about_user_id=request.comment.post.author_id,
            )
            post = read_post_name(fields, "comment.post", request.comment.post)
            comment_id = fields.identifier("comment.comment_id", request.comment.comment_id)
            fields.own("comment.author_id", request.comment.author_id, user_id=request.user_id)
            fields.update_mask(
                "update_mask",
                request.update_mask.paths,
                allowed={"body"},
                resource=request.comment,
            )
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
            call = user_call(
                fields, request, pb.DeleteCommentResponse, done(pb.DeleteCommentResponse)
            )
            post = read_post_name(fields, "post", request.post)
            comment_id = fields.identifier("comment_id", request.comment_id)
        return self._comments.delete(
            call, (*post, comment_id), version=messages.version(request.etag)
        )

    def HideComment(
        self, request: pb.HideCommentRequest, context: grpc.ServicerContext
    ) -> pb.HideCommentResponse:
        with Fields() as fields:
            call = user_call(fields, request, pb.HideCommentResponse, done(pb.HideCommentResponse))
            name = read_comment_on_own_post(fields, request)
        return self._comments.set_hidden(call, name, hidden=True)

    def UnhideComment(
        self, request: pb.UnhideCommentRequest, context: grpc.ServicerContext
    ) -> pb.UnhideCommentResponse:
        with Fields() as fields:
            call = user_call(
                fields, request, pb.UnhideCommentResponse, done(pb.UnhideCommentResponse)
            )
            name = read_comment_on_own_post(fields, request)
        return self._comments.set_hidden(call, name, hidden=False)

    def SetPostImportance(
        self, request: pb.SetPostImportanceRequest, context: grpc.ServicerContext
    ) -> pb.SetPostImportanceResponse:
        with Fields() as fields:
            call = service_call(
                fields, request, pb.SetPostImportanceResponse, messages.scored_posts
            )
            names = read_post_names(
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
            name = read_content_name(fields, request)
            call = service_call(
                fields,
                request,
                pb.SetModerationResponse,
                messages.decided,
                about_user_id=name.author_id,
            )
            decision = read_decision(fields, request)
        response = self._moderation.decide(call, name, decision)
        response.moderation.reason = decision.reason
        return response

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
            post = read_post_name(fields, "post", request.post)
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
            audience = read_audience(fields, "audience", request.audience, may_be_as_read=True)
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
                read_check(fields, f"checks[{index}]", check)
                for index, check in enumerate(request.checks[:_MAX_CHECKS])
            ]
        visible = self._checks.visible(checks)
        return pb.CheckVisibilityResponse(visible=[check in visible for check in checks])

    def ListViewers(
        self, request: pb.ListViewersRequest, context: grpc.ServicerContext
    ) -> pb.ListViewersResponse:
        with Fields() as fields:
            post = read_post_name(fields, "post", request.post)
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
            call = user_call(fields, request, pb.MarkFeedReadResponse, messages.moved_position)
            post = read_post_name(fields, "post", request.post)
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
            call = user_call(
                fields, request, pb.SetDigestSubscriptionResponse, messages.stored_subscription
            )
            time_zone = read_time_zone(fields, "time_zone", request.time_zone)
            week_start_day = read_week_start_day(fields, request)
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
            call = user_call(fields, request, answered_by, done(answered_by))
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
            read_chunk_of_tags(request) for request in request_iterator
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
        result = self._imports.import_chunks(
            read_chunk_of_posts(request) for request in request_iterator
        )
        return pb.ImportPostsResponse(
            imported_count=result.imported,
            existing_count=result.existing,
            committed_chunks=result.committed_chunks,
        )

    def ImportComments(
        self, request_iterator: Iterator[pb.ImportCommentsRequest], context: grpc.ServicerContext
    ) -> pb.ImportCommentsResponse:
        result = self._comment_imports.import_chunks(
            read_chunk_of_comments(request) for request in request_iterator
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
            call = service_call(fields, request, pb.DeleteUserResponse, messages.erased_user)
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
