"""Who may make which call of feed_service, how often, at what cost, and what is written down.

A user acts for themselves alone; whether they see another user's post is decided by the
visibility rule, not here. What the contract calls internal is for services. So is erasure: the
service that keeps the account asks its owner first, so that a stolen token is not enough. An export
of one's own tells that token nothing that it could not read call by call.
"""

from typing import Final

from shared.access.rules import HEAVY, Access, Admits, Limit, Rule, Weight

_FEEDS: Final = Limit(name="FEEDS", usual="60/minute")
_DIGESTS: Final = Limit(name="DIGESTS", usual="30/minute")
_POSTS: Final = Limit(name="POSTS", usual="10/minute")
_UPLOADS: Final = Limit(name="UPLOADS", usual="20/minute")
_TAGS: Final = Limit(name="TAGS", usual="60/minute")
_COMMENTS: Final = Limit(name="COMMENTS", usual="30/minute")

ACCESS: Final[Access] = {
    "GetFeed": Rule(admits=Admits.THE_USER, limit=_FEEDS, audit=None),
    "GetDigest": Rule(admits=Admits.THE_USER, limit=_DIGESTS, audit=None),
    "CreatePost": Rule(admits=Admits.THE_USER, limit=_POSTS, audit=None),
    "GetPost": Rule(admits=Admits.THE_USER, audit=None),
    "BatchGetPosts": Rule(admits=Admits.THE_USER, audit=None),
    "ListPosts": Rule(admits=Admits.THE_USER, audit=None),
    "UpdatePost": Rule(
        admits=Admits.THE_USER,
        audit=(
            "post.post_id",
            "post.audience.kind",
            "post.audience.tag_ids",
            "post.audience.excluded_tag_ids",
        ),
    ),
    "DeletePost": Rule(admits=Admits.THE_USER, audit=("post_id",)),
    "UndeletePost": Rule(admits=Admits.THE_USER, audit=("post_id",)),
    "ListDeletedPosts": Rule(admits=Admits.THE_USER, audit=None),
    "CreatePhotoUploads": Rule(admits=Admits.THE_USER, limit=_UPLOADS, audit=None),
    "CreateTag": Rule(admits=Admits.THE_USER, limit=_TAGS, audit=None),
    "ListTags": Rule(admits=Admits.THE_USER, audit=None),
    "UpdateTag": Rule(admits=Admits.THE_USER, limit=_TAGS, audit=None),
    "DeleteTag": Rule(admits=Admits.THE_USER, limit=_TAGS, audit=("tag_id",)),
    "AddTagMembers": Rule(admits=Admits.THE_USER, limit=_TAGS, audit=("tag_id", "target_user_ids")),
    "RemoveTagMembers": Rule(
        admits=Admits.THE_USER, limit=_TAGS, audit=("tag_id", "target_user_ids")
    ),
    "ListTagMembers": Rule(admits=Admits.THE_USER, audit=None),
    "ListUserTags": Rule(admits=Admits.THE_USER, audit=None),
    "CreateComment": Rule(admits=Admits.THE_USER, limit=_COMMENTS, audit=None),
    "GetComment": Rule(admits=Admits.THE_USER, audit=None),
    "BatchGetComments": Rule(admits=Admits.THE_USER, audit=None),
    "ListComments": Rule(admits=Admits.THE_USER, audit=None),
    "ListOwnComments": Rule(admits=Admits.THE_USER, audit=None),
    "UpdateComment": Rule(admits=Admits.THE_USER, limit=_COMMENTS, audit=None),
    "DeleteComment": Rule(
        admits=Admits.THE_USER, audit=("post.author_id", "post.post_id", "comment_id")
    ),
    "HideComment": Rule(admits=Admits.THE_USER, audit=("post_id", "comment_id")),
    "UnhideComment": Rule(admits=Admits.THE_USER, audit=("post_id", "comment_id")),
    "SetPostImportance": Rule(admits=Admits.SERVICES, audit=None),
    "SetModeration": Rule(
        admits=Admits.SERVICES,
        audit=("post.author_id", "post.post_id", "comment_id", "state"),
    ),
    "ListModerated": Rule(admits=Admits.SERVICES, audit=()),
    "InspectPost": Rule(admits=Admits.SERVICES, audit=("post.author_id", "post.post_id")),
    "ExplainVisibility": Rule(admits=Admits.THE_USER, audit=("post_id", "viewer_id")),
    "PreviewAudience": Rule(
        admits=Admits.THE_USER,
        limit=HEAVY,
        weight=Weight.HEAVY,
        audit=("audience.tag_ids", "audience.excluded_tag_ids"),
    ),
    # Not audited: services make it for every like, search and notification.
    "CheckVisibility": Rule(admits=Admits.SERVICES, audit=None),
    "ListViewers": Rule(
        admits=Admits.SERVICES, weight=Weight.HEAVY, audit=("post.author_id", "post.post_id")
    ),
    "MarkFeedRead": Rule(admits=Admits.THE_USER, audit=None),
    "CountUnreadPosts": Rule(admits=Admits.THE_USER, audit=None),
    "SetDigestSubscription": Rule(admits=Admits.THE_USER, audit=None),
    "GetDigestSubscription": Rule(admits=Admits.THE_USER, audit=None),
    "DeleteDigestSubscription": Rule(admits=Admits.THE_USER, audit=None),
    "ClaimDigests": Rule(admits=Admits.SERVICES, audit=()),
    "AcknowledgeDigests": Rule(admits=Admits.SERVICES, audit=()),
    "ImportTags": Rule(admits=Admits.SERVICES, weight=Weight.HEAVY, audit=()),
    "ImportPosts": Rule(admits=Admits.SERVICES, weight=Weight.HEAVY, audit=()),
    "ImportComments": Rule(admits=Admits.SERVICES, weight=Weight.HEAVY, audit=()),
    # Their data is theirs, and it tells nothing that a suspension hides.
    "ExportUser": Rule(
        admits=Admits.THE_USER,
        limit=HEAVY,
        weight=Weight.HEAVY,
        audit=(),
        also_suspended=True,
    ),
    "WatchPosts": Rule(admits=Admits.SERVICES, audit=None),
    "DeleteUser": Rule(admits=Admits.SERVICES, audit=()),
}

FENCES: Final[Access] = {
    name: Rule(admits=Admits.SERVICES, audit=None)
    for name in ("Identify", "OpenFences", "CloseFences", "ListOpenFences")
}
"""The rules of the calls that graph_service makes of the keeper of fences; others are refused.

They are not audited: graph_service makes them for every change.
"""
