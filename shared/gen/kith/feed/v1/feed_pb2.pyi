import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AudienceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIENCE_KIND_UNSPECIFIED: _ClassVar[AudienceKind]
    AUDIENCE_KIND_ALL: _ClassVar[AudienceKind]
    AUDIENCE_KIND_TAGS: _ClassVar[AudienceKind]
    AUDIENCE_KIND_PRIVATE: _ClassVar[AudienceKind]

class PhotoContentType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHOTO_CONTENT_TYPE_UNSPECIFIED: _ClassVar[PhotoContentType]
    PHOTO_CONTENT_TYPE_JPEG: _ClassVar[PhotoContentType]
    PHOTO_CONTENT_TYPE_PNG: _ClassVar[PhotoContentType]
    PHOTO_CONTENT_TYPE_WEBP: _ClassVar[PhotoContentType]
    PHOTO_CONTENT_TYPE_AVIF: _ClassVar[PhotoContentType]

class DigestReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIGEST_REASON_UNSPECIFIED: _ClassVar[DigestReason]
    DIGEST_REASON_IMPORTANT: _ClassVar[DigestReason]
    DIGEST_REASON_FILLED_PLACE: _ClassVar[DigestReason]

class VisibilityClause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VISIBILITY_CLAUSE_UNSPECIFIED: _ClassVar[VisibilityClause]
    VISIBILITY_CLAUSE_AUTHOR: _ClassVar[VisibilityClause]
    VISIBILITY_CLAUSE_AUDIENCE_ALL: _ClassVar[VisibilityClause]
    VISIBILITY_CLAUSE_HAS_TAG: _ClassVar[VisibilityClause]
    VISIBILITY_CLAUSE_NOT_CONNECTED: _ClassVar[VisibilityClause]
    VISIBILITY_CLAUSE_PRIVATE: _ClassVar[VisibilityClause]
    VISIBILITY_CLAUSE_EXCLUDED: _ClassVar[VisibilityClause]
    VISIBILITY_CLAUSE_NO_TAG: _ClassVar[VisibilityClause]
    VISIBILITY_CLAUSE_DELETED: _ClassVar[VisibilityClause]
AUDIENCE_KIND_UNSPECIFIED: AudienceKind
AUDIENCE_KIND_ALL: AudienceKind
AUDIENCE_KIND_TAGS: AudienceKind
AUDIENCE_KIND_PRIVATE: AudienceKind
PHOTO_CONTENT_TYPE_UNSPECIFIED: PhotoContentType
PHOTO_CONTENT_TYPE_JPEG: PhotoContentType
PHOTO_CONTENT_TYPE_PNG: PhotoContentType
PHOTO_CONTENT_TYPE_WEBP: PhotoContentType
PHOTO_CONTENT_TYPE_AVIF: PhotoContentType
DIGEST_REASON_UNSPECIFIED: DigestReason
DIGEST_REASON_IMPORTANT: DigestReason
DIGEST_REASON_FILLED_PLACE: DigestReason
VISIBILITY_CLAUSE_UNSPECIFIED: VisibilityClause
VISIBILITY_CLAUSE_AUTHOR: VisibilityClause
VISIBILITY_CLAUSE_AUDIENCE_ALL: VisibilityClause
VISIBILITY_CLAUSE_HAS_TAG: VisibilityClause
VISIBILITY_CLAUSE_NOT_CONNECTED: VisibilityClause
VISIBILITY_CLAUSE_PRIVATE: VisibilityClause
VISIBILITY_CLAUSE_EXCLUDED: VisibilityClause
VISIBILITY_CLAUSE_NO_TAG: VisibilityClause
VISIBILITY_CLAUSE_DELETED: VisibilityClause

class Audience(_message.Message):
    __slots__ = ("kind", "tag_ids", "excluded_tag_ids")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TAG_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_TAG_IDS_FIELD_NUMBER: _ClassVar[int]
    kind: AudienceKind
    tag_ids: _containers.RepeatedScalarFieldContainer[int]
    excluded_tag_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, kind: _Optional[_Union[AudienceKind, str]] = ..., tag_ids: _Optional[_Iterable[int]] = ..., excluded_tag_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Photo(_message.Message):
    __slots__ = ("key", "url", "expire_time")
    KEY_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    key: str
    url: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, key: _Optional[str] = ..., url: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Post(_message.Message):
    __slots__ = ("author_id", "post_id", "body", "photos", "create_time", "edit_time", "comment_count", "audience", "etag")
    AUTHOR_ID_FIELD_NUMBER: _ClassVar[int]
    POST_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    PHOTOS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EDIT_TIME_FIELD_NUMBER: _ClassVar[int]
    COMMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    author_id: int
    post_id: int
    body: str
    photos: _containers.RepeatedCompositeFieldContainer[Photo]
    create_time: _timestamp_pb2.Timestamp
    edit_time: _timestamp_pb2.Timestamp
    comment_count: int
    audience: Audience
    etag: str
    def __init__(self, author_id: _Optional[int] = ..., post_id: _Optional[int] = ..., body: _Optional[str] = ..., photos: _Optional[_Iterable[_Union[Photo, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., edit_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., comment_count: _Optional[int] = ..., audience: _Optional[_Union[Audience, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class PostName(_message.Message):
    __slots__ = ("author_id", "post_id")
    AUTHOR_ID_FIELD_NUMBER: _ClassVar[int]
    POST_ID_FIELD_NUMBER: _ClassVar[int]
    author_id: int
    post_id: int
    def __init__(self, author_id: _Optional[int] = ..., post_id: _Optional[int] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("tag_id", "name", "create_time", "etag")
    TAG_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    tag_id: int
    name: str
    create_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, tag_id: _Optional[int] = ..., name: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class TagMember(_message.Message):
    __slots__ = ("target_user_id", "create_time")
    TARGET_USER_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    target_user_id: int
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, target_user_id: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Comment(_message.Message):
    __slots__ = ("post", "comment_id", "author_id", "body", "create_time", "edit_time", "etag")
    POST_FIELD_NUMBER: _ClassVar[int]
    COMMENT_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EDIT_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    post: PostName
    comment_id: int
    author_id: int
    body: str
    create_time: _timestamp_pb2.Timestamp
    edit_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, post: _Optional[_Union[PostName, _Mapping]] = ..., comment_id: _Optional[int] = ..., author_id: _Optional[int] = ..., body: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., edit_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class GetFeedRequest(_message.Message):
    __slots__ = ("user_id", "page_size", "page_token", "tag_ids", "author_ids", "newer_than")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TAG_IDS_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_IDS_FIELD_NUMBER: _ClassVar[int]
    NEWER_THAN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    page_size: int
    page_token: str
    tag_ids: _containers.RepeatedScalarFieldContainer[int]
    author_ids: _containers.RepeatedScalarFieldContainer[int]
    newer_than: str
    def __init__(self, user_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., tag_ids: _Optional[_Iterable[int]] = ..., author_ids: _Optional[_Iterable[int]] = ..., newer_than: _Optional[str] = ...) -> None: ...

class GetFeedResponse(_message.Message):
    __slots__ = ("posts", "next_page_token", "refresh_token", "stale")
    POSTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    posts: _containers.RepeatedCompositeFieldContainer[Post]
    next_page_token: str
    refresh_token: str
    stale: bool
    def __init__(self, posts: _Optional[_Iterable[_Union[Post, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., refresh_token: _Optional[str] = ..., stale: _Optional[bool] = ...) -> None: ...

class CreatePostRequest(_message.Message):
    __slots__ = ("user_id", "body", "audience", "photo_keys", "request_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    PHOTO_KEYS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    body: str
    audience: Audience
    photo_keys: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    def __init__(self, user_id: _Optional[int] = ..., body: _Optional[str] = ..., audience: _Optional[_Union[Audience, _Mapping]] = ..., photo_keys: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreatePostResponse(_message.Message):
    __slots__ = ("post",)
    POST_FIELD_NUMBER: _ClassVar[int]
    post: Post
    def __init__(self, post: _Optional[_Union[Post, _Mapping]] = ...) -> None: ...

class GetPostRequest(_message.Message):
    __slots__ = ("user_id", "author_id", "post_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_ID_FIELD_NUMBER: _ClassVar[int]
    POST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    author_id: int
    post_id: int
    def __init__(self, user_id: _Optional[int] = ..., author_id: _Optional[int] = ..., post_id: _Optional[int] = ...) -> None: ...

class GetPostResponse(_message.Message):
    __slots__ = ("post",)
    POST_FIELD_NUMBER: _ClassVar[int]
    post: Post
    def __init__(self, post: _Optional[_Union[Post, _Mapping]] = ...) -> None: ...

class BatchGetPostsRequest(_message.Message):
    __slots__ = ("user_id", "posts")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POSTS_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    posts: _containers.RepeatedCompositeFieldContainer[PostName]
    def __init__(self, user_id: _Optional[int] = ..., posts: _Optional[_Iterable[_Union[PostName, _Mapping]]] = ...) -> None: ...

class BatchGetPostsResponse(_message.Message):
    __slots__ = ("posts", "not_found")
    POSTS_FIELD_NUMBER: _ClassVar[int]
    NOT_FOUND_FIELD_NUMBER: _ClassVar[int]
    posts: _containers.RepeatedCompositeFieldContainer[Post]
    not_found: _containers.RepeatedCompositeFieldContainer[PostName]
    def __init__(self, posts: _Optional[_Iterable[_Union[Post, _Mapping]]] = ..., not_found: _Optional[_Iterable[_Union[PostName, _Mapping]]] = ...) -> None: ...

class ListPostsRequest(_message.Message):
    __slots__ = ("user_id", "author_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    author_id: int
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., author_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPostsResponse(_message.Message):
    __slots__ = ("posts", "next_page_token")
    POSTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    posts: _containers.RepeatedCompositeFieldContainer[Post]
    next_page_token: str
    def __init__(self, posts: _Optional[_Iterable[_Union[Post, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdatePostRequest(_message.Message):
    __slots__ = ("user_id", "post", "update_mask")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POST_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    post: Post
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, user_id: _Optional[int] = ..., post: _Optional[_Union[Post, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdatePostResponse(_message.Message):
    __slots__ = ("post",)
    POST_FIELD_NUMBER: _ClassVar[int]
    post: Post
    def __init__(self, post: _Optional[_Union[Post, _Mapping]] = ...) -> None: ...

class DeletePostRequest(_message.Message):
    __slots__ = ("user_id", "post_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    post_id: int
    def __init__(self, user_id: _Optional[int] = ..., post_id: _Optional[int] = ...) -> None: ...

class DeletePostResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreatePhotoUploadsRequest(_message.Message):
    __slots__ = ("user_id", "photos", "request_id")
    class PhotoUploadDraft(_message.Message):
        __slots__ = ("content_type",)
        CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
        content_type: PhotoContentType
        def __init__(self, content_type: _Optional[_Union[PhotoContentType, str]] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PHOTOS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    photos: _containers.RepeatedCompositeFieldContainer[CreatePhotoUploadsRequest.PhotoUploadDraft]
    request_id: str
    def __init__(self, user_id: _Optional[int] = ..., photos: _Optional[_Iterable[_Union[CreatePhotoUploadsRequest.PhotoUploadDraft, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreatePhotoUploadsResponse(_message.Message):
    __slots__ = ("uploads",)
    class PhotoUpload(_message.Message):
        __slots__ = ("key", "url", "fields", "expire_time", "max_size_bytes")
        class FieldsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        KEY_FIELD_NUMBER: _ClassVar[int]
        URL_FIELD_NUMBER: _ClassVar[int]
        FIELDS_FIELD_NUMBER: _ClassVar[int]
        EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
        MAX_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
        key: str
        url: str
        fields: _containers.ScalarMap[str, str]
        expire_time: _timestamp_pb2.Timestamp
        max_size_bytes: int
        def __init__(self, key: _Optional[str] = ..., url: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., max_size_bytes: _Optional[int] = ...) -> None: ...
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    uploads: _containers.RepeatedCompositeFieldContainer[CreatePhotoUploadsResponse.PhotoUpload]
    def __init__(self, uploads: _Optional[_Iterable[_Union[CreatePhotoUploadsResponse.PhotoUpload, _Mapping]]] = ...) -> None: ...

class CreateTagRequest(_message.Message):
    __slots__ = ("user_id", "name", "request_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    name: str
    request_id: str
    def __init__(self, user_id: _Optional[int] = ..., name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateTagResponse(_message.Message):
    __slots__ = ("tag",)
    TAG_FIELD_NUMBER: _ClassVar[int]
    tag: Tag
    def __init__(self, tag: _Optional[_Union[Tag, _Mapping]] = ...) -> None: ...

class ListTagsRequest(_message.Message):
    __slots__ = ("user_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTagsResponse(_message.Message):
    __slots__ = ("tags", "next_page_token")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    next_page_token: str
    def __init__(self, tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateTagRequest(_message.Message):
    __slots__ = ("user_id", "tag", "update_mask")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    tag: Tag
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, user_id: _Optional[int] = ..., tag: _Optional[_Union[Tag, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateTagResponse(_message.Message):
    __slots__ = ("tag",)
    TAG_FIELD_NUMBER: _ClassVar[int]
    tag: Tag
    def __init__(self, tag: _Optional[_Union[Tag, _Mapping]] = ...) -> None: ...

class DeleteTagRequest(_message.Message):
    __slots__ = ("user_id", "tag_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    tag_id: int
    def __init__(self, user_id: _Optional[int] = ..., tag_id: _Optional[int] = ...) -> None: ...

class DeleteTagResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddTagMembersRequest(_message.Message):
    __slots__ = ("user_id", "tag_id", "target_user_ids")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_USER_IDS_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    tag_id: int
    target_user_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, user_id: _Optional[int] = ..., tag_id: _Optional[int] = ..., target_user_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class AddTagMembersResponse(_message.Message):
    __slots__ = ("added_count",)
    ADDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    added_count: int
    def __init__(self, added_count: _Optional[int] = ...) -> None: ...

class RemoveTagMembersRequest(_message.Message):
    __slots__ = ("user_id", "tag_id", "target_user_ids")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_USER_IDS_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    tag_id: int
    target_user_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, user_id: _Optional[int] = ..., tag_id: _Optional[int] = ..., target_user_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class RemoveTagMembersResponse(_message.Message):
    __slots__ = ("removed_count",)
    REMOVED_COUNT_FIELD_NUMBER: _ClassVar[int]
    removed_count: int
    def __init__(self, removed_count: _Optional[int] = ...) -> None: ...

class ListTagMembersRequest(_message.Message):
    __slots__ = ("user_id", "tag_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    tag_id: int
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., tag_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTagMembersResponse(_message.Message):
    __slots__ = ("members", "next_page_token")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[TagMember]
    next_page_token: str
    def __init__(self, members: _Optional[_Iterable[_Union[TagMember, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListUserTagsRequest(_message.Message):
    __slots__ = ("user_id", "target_user_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    target_user_id: int
    def __init__(self, user_id: _Optional[int] = ..., target_user_id: _Optional[int] = ...) -> None: ...

class ListUserTagsResponse(_message.Message):
    __slots__ = ("tags",)
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    def __init__(self, tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ...) -> None: ...

class CreateCommentRequest(_message.Message):
    __slots__ = ("user_id", "post", "body", "request_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POST_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    post: PostName
    body: str
    request_id: str
    def __init__(self, user_id: _Optional[int] = ..., post: _Optional[_Union[PostName, _Mapping]] = ..., body: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateCommentResponse(_message.Message):
    __slots__ = ("comment",)
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    comment: Comment
    def __init__(self, comment: _Optional[_Union[Comment, _Mapping]] = ...) -> None: ...

class ListCommentsRequest(_message.Message):
    __slots__ = ("user_id", "post", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POST_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    post: PostName
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., post: _Optional[_Union[PostName, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCommentsResponse(_message.Message):
    __slots__ = ("comments", "next_page_token")
    COMMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    comments: _containers.RepeatedCompositeFieldContainer[Comment]
    next_page_token: str
    def __init__(self, comments: _Optional[_Iterable[_Union[Comment, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateCommentRequest(_message.Message):
    __slots__ = ("user_id", "comment", "update_mask")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    comment: Comment
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, user_id: _Optional[int] = ..., comment: _Optional[_Union[Comment, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateCommentResponse(_message.Message):
    __slots__ = ("comment",)
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    comment: Comment
    def __init__(self, comment: _Optional[_Union[Comment, _Mapping]] = ...) -> None: ...

class DeleteCommentRequest(_message.Message):
    __slots__ = ("user_id", "post", "comment_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POST_FIELD_NUMBER: _ClassVar[int]
    COMMENT_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    post: PostName
    comment_id: int
    def __init__(self, user_id: _Optional[int] = ..., post: _Optional[_Union[PostName, _Mapping]] = ..., comment_id: _Optional[int] = ...) -> None: ...

class DeleteCommentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetPostImportanceRequest(_message.Message):
    __slots__ = ("scores",)
    class PostImportance(_message.Message):
        __slots__ = ("post", "importance")
        POST_FIELD_NUMBER: _ClassVar[int]
        IMPORTANCE_FIELD_NUMBER: _ClassVar[int]
        post: PostName
        importance: float
        def __init__(self, post: _Optional[_Union[PostName, _Mapping]] = ..., importance: _Optional[float] = ...) -> None: ...
    SCORES_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedCompositeFieldContainer[SetPostImportanceRequest.PostImportance]
    def __init__(self, scores: _Optional[_Iterable[_Union[SetPostImportanceRequest.PostImportance, _Mapping]]] = ...) -> None: ...

class SetPostImportanceResponse(_message.Message):
    __slots__ = ("scored_count",)
    SCORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    scored_count: int
    def __init__(self, scored_count: _Optional[int] = ...) -> None: ...

class GetDigestRequest(_message.Message):
    __slots__ = ("user_id", "week_of", "time_zone", "tag_ids", "include_own_posts", "week_start_day")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    WEEK_OF_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    TAG_IDS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_OWN_POSTS_FIELD_NUMBER: _ClassVar[int]
    WEEK_START_DAY_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    week_of: _timestamp_pb2.Timestamp
    time_zone: str
    tag_ids: _containers.RepeatedScalarFieldContainer[int]
    include_own_posts: bool
    week_start_day: int
    def __init__(self, user_id: _Optional[int] = ..., week_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., time_zone: _Optional[str] = ..., tag_ids: _Optional[_Iterable[int]] = ..., include_own_posts: _Optional[bool] = ..., week_start_day: _Optional[int] = ...) -> None: ...

class GetDigestResponse(_message.Message):
    __slots__ = ("items", "start_time", "end_time", "summary", "left_out_count", "frozen", "stale")
    class DigestItem(_message.Message):
        __slots__ = ("post", "importance", "reason")
        POST_FIELD_NUMBER: _ClassVar[int]
        IMPORTANCE_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        post: Post
        importance: float
        reason: DigestReason
        def __init__(self, post: _Optional[_Union[Post, _Mapping]] = ..., importance: _Optional[float] = ..., reason: _Optional[_Union[DigestReason, str]] = ...) -> None: ...
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[GetDigestResponse.DigestItem]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    summary: str
    left_out_count: int
    frozen: bool
    stale: bool
    def __init__(self, items: _Optional[_Iterable[_Union[GetDigestResponse.DigestItem, _Mapping]]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., summary: _Optional[str] = ..., left_out_count: _Optional[int] = ..., frozen: _Optional[bool] = ..., stale: _Optional[bool] = ...) -> None: ...

class ExplainVisibilityRequest(_message.Message):
    __slots__ = ("user_id", "post_id", "viewer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POST_ID_FIELD_NUMBER: _ClassVar[int]
    VIEWER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    post_id: int
    viewer_id: int
    def __init__(self, user_id: _Optional[int] = ..., post_id: _Optional[int] = ..., viewer_id: _Optional[int] = ...) -> None: ...

class ExplainVisibilityResponse(_message.Message):
    __slots__ = ("visible", "clause", "tag_ids")
    VISIBLE_FIELD_NUMBER: _ClassVar[int]
    CLAUSE_FIELD_NUMBER: _ClassVar[int]
    TAG_IDS_FIELD_NUMBER: _ClassVar[int]
    visible: bool
    clause: VisibilityClause
    tag_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, visible: _Optional[bool] = ..., clause: _Optional[_Union[VisibilityClause, str]] = ..., tag_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class PreviewAudienceRequest(_message.Message):
    __slots__ = ("user_id", "audience", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    audience: Audience
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., audience: _Optional[_Union[Audience, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class PreviewAudienceResponse(_message.Message):
    __slots__ = ("viewer_ids", "total_count", "next_page_token")
    VIEWER_IDS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    viewer_ids: _containers.RepeatedScalarFieldContainer[int]
    total_count: int
    next_page_token: str
    def __init__(self, viewer_ids: _Optional[_Iterable[int]] = ..., total_count: _Optional[int] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class MarkFeedReadRequest(_message.Message):
    __slots__ = ("user_id", "post")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POST_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    post: PostName
    def __init__(self, user_id: _Optional[int] = ..., post: _Optional[_Union[PostName, _Mapping]] = ...) -> None: ...

class MarkFeedReadResponse(_message.Message):
    __slots__ = ("read_time",)
    READ_TIME_FIELD_NUMBER: _ClassVar[int]
    read_time: _timestamp_pb2.Timestamp
    def __init__(self, read_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CountUnreadPostsRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    def __init__(self, user_id: _Optional[int] = ...) -> None: ...

class CountUnreadPostsResponse(_message.Message):
    __slots__ = ("unread_count", "more")
    UNREAD_COUNT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    unread_count: int
    more: bool
    def __init__(self, unread_count: _Optional[int] = ..., more: _Optional[bool] = ...) -> None: ...

class ImportPostsRequest(_message.Message):
    __slots__ = ("posts",)
    class ImportedPost(_message.Message):
        __slots__ = ("author_id", "external_id", "body", "create_time", "audience", "importance")
        AUTHOR_ID_FIELD_NUMBER: _ClassVar[int]
        EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
        BODY_FIELD_NUMBER: _ClassVar[int]
        CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
        AUDIENCE_FIELD_NUMBER: _ClassVar[int]
        IMPORTANCE_FIELD_NUMBER: _ClassVar[int]
        author_id: int
        external_id: str
        body: str
        create_time: _timestamp_pb2.Timestamp
        audience: Audience
        importance: float
        def __init__(self, author_id: _Optional[int] = ..., external_id: _Optional[str] = ..., body: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., audience: _Optional[_Union[Audience, _Mapping]] = ..., importance: _Optional[float] = ...) -> None: ...
    POSTS_FIELD_NUMBER: _ClassVar[int]
    posts: _containers.RepeatedCompositeFieldContainer[ImportPostsRequest.ImportedPost]
    def __init__(self, posts: _Optional[_Iterable[_Union[ImportPostsRequest.ImportedPost, _Mapping]]] = ...) -> None: ...

class ImportPostsResponse(_message.Message):
    __slots__ = ("imported_count", "existing_count", "committed_chunks")
    IMPORTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXISTING_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    imported_count: int
    existing_count: int
    committed_chunks: int
    def __init__(self, imported_count: _Optional[int] = ..., existing_count: _Optional[int] = ..., committed_chunks: _Optional[int] = ...) -> None: ...

class ExportUserRequest(_message.Message):
    __slots__ = ("user_id", "cursor")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    cursor: str
    def __init__(self, user_id: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ExportUserResponse(_message.Message):
    __slots__ = ("posts", "comments", "tags", "tagged_users", "cursor")
    class TaggedUser(_message.Message):
        __slots__ = ("tag_id", "member")
        TAG_ID_FIELD_NUMBER: _ClassVar[int]
        MEMBER_FIELD_NUMBER: _ClassVar[int]
        tag_id: int
        member: TagMember
        def __init__(self, tag_id: _Optional[int] = ..., member: _Optional[_Union[TagMember, _Mapping]] = ...) -> None: ...
    POSTS_FIELD_NUMBER: _ClassVar[int]
    COMMENTS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TAGGED_USERS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    posts: _containers.RepeatedCompositeFieldContainer[Post]
    comments: _containers.RepeatedCompositeFieldContainer[Comment]
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    tagged_users: _containers.RepeatedCompositeFieldContainer[ExportUserResponse.TaggedUser]
    cursor: str
    def __init__(self, posts: _Optional[_Iterable[_Union[Post, _Mapping]]] = ..., comments: _Optional[_Iterable[_Union[Comment, _Mapping]]] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., tagged_users: _Optional[_Iterable[_Union[ExportUserResponse.TaggedUser, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...

class DeleteUserRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    def __init__(self, user_id: _Optional[int] = ...) -> None: ...

class DeleteUserResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
