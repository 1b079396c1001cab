"""The tables of feed_service, and for every index the queries it serves.

The author's or owner's id leads every primary key and every join, so that the schema can be
distributed by it without a change.
"""

from enum import StrEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from shared.api.idempotency import idempotency_keys_table
from shared.database.columns import big_id, moment, new_metadata
from shared.database.event_log import erased_events_table, purged_events_table
from shared.database.totals import totals_table

metadata = new_metadata()

ALL: Final = "all"
TAGS: Final = "tags"
PRIVATE: Final = "private"
MODERATED: Final = "moderated"
"""The audience of a post that a service has hidden. What its author chose is `chosen_audience`."""
NOBODY: Final = "nobody"


class EventKind(StrEnum):
    """What happened to posts or comments, as `content_events` keeps it."""

    POST_CREATED = "post_created"
    POST_EDITED = "post_edited"
    POST_AUDIENCE_CHANGED = "post_audience_changed"
    POST_DELETED = "post_deleted"
    POST_RESTORED = "post_restored"
    POST_MODERATED = "post_moderated"
    POSTS_IMPORTED = "posts_imported"
    COMMENTS_IMPORTED = "comments_imported"
    COMMENT_CREATED = "comment_created"
    COMMENT_EDITED = "comment_edited"
    COMMENT_DELETED = "comment_deleted"
    COMMENT_HIDDEN = "comment_hidden"
    COMMENT_MODERATED = "comment_moderated"
    USER_ERASED = "user_erased"


LOW_IMPORTANCE: Final = 4.0
"""Posts of this importance and below are not told of a week that has an important one."""
UTC_DAY: Final = "CAST(created_at AT TIME ZONE 'UTC' AS date)"
"""The day of a post, as far as it does not depend on the viewer."""

ALT_TEXT_LENGTH: Final = 1_000
BODY_LENGTH: Final = 10_000
COMMENT_LENGTH: Final = 2_000
EXTERNAL_ID_LENGTH: Final = 100
MODERATION_REASON_LENGTH: Final = 500
TAG_NAME_LENGTH: Final = 50

posts = Table(
    "posts",
    metadata,
    big_id("author_id", primary_key=True),
    Column("id", BigInteger, Identity(always=False), primary_key=True),
    Column("body", Text, nullable=False),
    Column("audience", Text, nullable=False),
    # By the built-in heuristic, or by a scorer that runs elsewhere: `importance_given`.
    Column("importance", Double, nullable=False),
    Column("importance_given", Boolean, nullable=False, server_default=text("false")),
    # The name that an importer has for the post.
    Column("external_id", Text),
    # The names and values that callers store with the post; NULL for none. Never read here.
    Column("attributes", JSONB),
    # Counts the changes of the row; callers see it as the etag.
    Column("version", Integer, nullable=False, server_default=text("1")),
    moment("created_at"),
    moment("edited_at", nullable=True),
    moment("deleted_at", nullable=True),
    # Until when a deleted post can be restored. NULL for posts that are not deleted, and for those
    # that were deleted by a version which did not keep the tags that they excluded.
    moment("purge_at", nullable=True),
    # Who may comment, of those who see the post and are not its author: see MAY_COMMENT.
    Column("comment_policy", Text, nullable=False, server_default=text(f"'{ALL}'")),
    # An array and no table, because nothing goes from a tag to these posts. Tags that were deleted
    # since stay in it, and admit no one.
    Column("comment_tag_ids", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    Column("comments_locked", Boolean, nullable=False, server_default=text("false")),
    # Set while a service hides the post, with why. Then `audience` is MODERATED, which is in no
    # stream and in no index of what others see, and `chosen_audience` is what the author chose.
    Column("chosen_audience", Text),
    moment("moderated_at", nullable=True),
    Column("moderation_reason", Text),
    # Until when a hold keeps the post as evidence.
    moment("held_until", nullable=True),
    # Until when the row stays, also if the post is deleted or its author is erased: the latest end
    # of a hold on the post or a comment on it. In the past once these holds have ended.
    moment("kept_until", nullable=True),
    CheckConstraint(
        f"audience IN ('{ALL}', '{TAGS}', '{PRIVATE}', '{MODERATED}')", name="known_audience"
    ),
    # A version that knows nothing of moderation cannot show the post again by another audience.
    CheckConstraint(
        f"(audience = '{MODERATED}') = (moderated_at IS NOT NULL)"
        " AND (moderated_at IS NULL) = (chosen_audience IS NULL)",
        name="moderation",
    ),
    CheckConstraint(
        f"char_length(moderation_reason) <= {MODERATION_REASON_LENGTH}", name="reason_length"
    ),
    CheckConstraint(
        f"comment_policy IN ('{ALL}', '{NOBODY}', '{TAGS}')", name="known_comment_policy"
    ),
    # Empty only if the post has photos.
    CheckConstraint(f"char_length(body) <= {BODY_LENGTH}", name="body_length"),
    CheckConstraint("importance BETWEEN 0 AND 10", name="importance_range"),
)
# author_page, unread_count: the newest posts of each author. feed_page, digest_choice: the viewer's
# own, and whether a tagged post is still there, read from the index alone.
Index(
    "idx_post_author",
    posts.c.author_id,
    posts.c.created_at.desc(),
    posts.c.id.desc(),
    postgresql_include=["audience", "importance"],
    postgresql_where=text("deleted_at IS NULL"),
)
# feed_page, digest_choice: the stream of an author's posts for ALL.
Index(
    "idx_post_open",
    posts.c.author_id,
    posts.c.created_at.desc(),
    posts.c.id.desc(),
    postgresql_include=["importance"],
    postgresql_where=text(f"audience = '{ALL}' AND deleted_at IS NULL"),
)
# feed_page: the newest posts of everybody, for readers with very many connections.
Index(
    "idx_post_created_at",
    posts.c.created_at.desc(),
    posts.c.id.desc(),
    postgresql_include=["author_id", "audience"],
    postgresql_where=text("deleted_at IS NULL"),
)
# digest_choice: the most important posts of everybody, day by day, for readers with very many
# connections.
Index(
    "idx_post_important",
    text(UTC_DAY),
    posts.c.importance.desc(),
    posts.c.created_at.desc(),
    posts.c.id.desc(),
    postgresql_include=["author_id", "audience"],
    postgresql_where=text(f"importance > {LOW_IMPORTANCE} AND deleted_at IS NULL"),
)
# insert_posts: a post of an importer once for each author.
Index(
    "uq_post_external_id",
    posts.c.author_id,
    posts.c.external_id,
    unique=True,
    postgresql_where=text("external_id IS NOT NULL"),
)
# purge_posts.
Index("idx_post_deleted_at", posts.c.deleted_at, postgresql_where=text("deleted_at IS NOT NULL"))

# deleted_page.
Index(
    "idx_post_restorable",
    posts.c.author_id,
    posts.c.deleted_at.desc(),
    posts.c.id.desc(),
    postgresql_where=text("purge_at IS NOT NULL"),
)
# moderated_page.
Index(
    "idx_post_moderated",
    posts.c.moderated_at.desc(),
    posts.c.id.desc(),
    postgresql_where=text("moderated_at IS NOT NULL"),
)
# moderated_page: those that are held, which are few.
Index(
    "idx_post_held",
    posts.c.moderated_at.desc(),
    posts.c.id.desc(),
    postgresql_where=text("held_until IS NOT NULL"),
)
# kept, untag_kept_posts.
Index("idx_post_kept", posts.c.author_id, postgresql_where=text("kept_until IS NOT NULL"))
# purge_kept_posts.
Index(
    "idx_post_kept_until",
    posts.c.kept_until,
    postgresql_where=text("kept_until IS NOT NULL AND deleted_at IS NOT NULL AND purge_at IS NULL"),
)

# How new the posts of an author are at most, and which tags they have ever named. Triggers of
# migrations feed_0022 to feed_0024 maintain this, and imports do; nothing lowers it. An author who
# never had a post for others has no row. feed_page.
#
# In a distributed database: everybody who has ever posted, with infinite bounds and without tags,
# both of which nothing reads. Its shards go from here to the posts of each: recent_posts,
# feed_heads, author_posts, unread_count.
authors = Table(
    "authors",
    metadata,
    big_id("author_id", primary_key=True),
    # No post for ALL, or for TAGS, that is not deleted is newer; -infinity where there is none.
    *(
        Column(name, DateTime(timezone=True), nullable=False, server_default=text("'infinity'"))
        for name in ("open_until", "tagged_until")
    ),
    # A bit for each tag that lets people see a post: see visibility_streams.
    Column("named_tags", BigInteger, nullable=False, server_default=text("0")),
)

# What changes often stays out of posts, so that index-only scans keep their visibility map.
post_stats = Table(
    "post_stats",
    metadata,
    big_id("author_id", primary_key=True),
    big_id("post_id", primary_key=True),
    Column("comment_count", Integer, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(
        ["author_id", "post_id"], ["posts.author_id", "posts.id"], ondelete="CASCADE"
    ),
    CheckConstraint("comment_count >= 0", name="count_not_negative"),
)

post_photos = Table(
    "post_photos",
    metadata,
    # The photos of a page of posts, in the author's order.
    big_id("author_id", primary_key=True),
    big_id("post_id", primary_key=True),
    Column("place", SmallInteger, primary_key=True, autoincrement=False),
    Column("object_key", Text, nullable=False),
    # In pixels, as it is shown. NULL for photos that were posted before there were these columns.
    Column("width", Integer),
    Column("height", Integer),
    # What the photo shows, in words; empty if the author gave no description.
    Column("alt_text", Text, nullable=False, server_default=text("''")),
    ForeignKeyConstraint(
        ["author_id", "post_id"], ["posts.author_id", "posts.id"], ondelete="CASCADE"
    ),
    CheckConstraint(f"char_length(alt_text) <= {ALT_TEXT_LENGTH}", name="alt_text_length"),
)
# An object belongs to one post.
Index("uq_post_photo_object_key", post_photos.c.author_id, post_photos.c.object_key, unique=True)

# Permissions to upload that no post has used yet.
photo_uploads = Table(
    "photo_uploads",
    metadata,
    big_id("owner_user_id", primary_key=True),
    Column("object_key", Text, primary_key=True),
    Column("content_type", Text, nullable=False),
    moment("created_at"),
)
# expire_uploads.
Index("idx_photo_upload_created_at", photo_uploads.c.created_at)

# Objects that no post has, until the object store has removed them. New ones are noted here before
# they are stored, and by the post that has them no longer.
object_removals = Table(
    "object_removals",
    metadata,
    big_id("owner_user_id", primary_key=True),
    Column("object_key", Text, primary_key=True),
    # A process that tries moves it ahead, so that no other tries at the same time.
    moment("due_at"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # When to remove it once more, because until then an upload could bring it back.
    moment("again_at", nullable=True),
)
# claim_removals.
Index("idx_object_removal_due_at", object_removals.c.due_at)

comments = Table(
    "comments",
    metadata,
    big_id("post_author_id", primary_key=True),
    big_id("post_id", primary_key=True),
    Column("id", BigInteger, Identity(always=False), primary_key=True),
    big_id("author_id"),
    Column("body", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    moment("created_at"),
    moment("edited_at", nullable=True),
    moment("deleted_at", nullable=True),
    # The name that an importer has for the comment.
    Column("external_id", Text),
    # Set while a service hides the comment from everybody but who wrote it, with why.
    moment("moderated_at", nullable=True),
    Column("moderation_reason", Text),
    # Until when a hold keeps the comment as evidence, and until when the row stays: see posts.
    moment("held_until", nullable=True),
    moment("kept_until", nullable=True),
    # The comment that it replies to, which is no reply itself.
    Column("parent_id", BigInteger),
    # By the author of the post. The version does not count it, or the etag would tell.
    Column("hidden", Boolean, nullable=False, server_default=text("false")),
    ForeignKeyConstraint(
        ["post_author_id", "post_id"], ["posts.author_id", "posts.id"], ondelete="CASCADE"
    ),
    ForeignKeyConstraint(
        ["post_author_id", "post_id", "parent_id"],
        ["comments.post_author_id", "comments.post_id", "comments.id"],
        ondelete="CASCADE",
    ),
    CheckConstraint(f"char_length(body) BETWEEN 1 AND {COMMENT_LENGTH}", name="body_length"),
    CheckConstraint(
        f"char_length(moderation_reason) <= {MODERATION_REASON_LENGTH}", name="reason_length"
    ),
)
# comment_page: either way, without the replies.
Index(
    "idx_comment_post",
    comments.c.post_author_id,
    comments.c.post_id,
    comments.c.created_at,
    comments.c.id,
    postgresql_where=text("deleted_at IS NULL AND parent_id IS NULL"),
)
# insert_comments: a comment of an importer once for each author under a post.
Index(
    "uq_comment_external_id",
    comments.c.post_author_id,
    comments.c.post_id,
    comments.c.author_id,
    comments.c.external_id,
    unique=True,
    postgresql_where=text("external_id IS NOT NULL"),
)
# comment_page, visible_comments: the replies to a comment, and their number. delete_comment.
# Deleted ones are among them, because the foreign key looks for these too.
Index(
    "idx_comment_reply",
    comments.c.post_author_id,
    comments.c.post_id,
    comments.c.parent_id,
    comments.c.created_at,
    comments.c.id,
    postgresql_where=text("parent_id IS NOT NULL"),
)
# own_comments, exported_comments, hide_comments, erase_comments.
Index("idx_comment_author", comments.c.author_id, comments.c.id)
# purge_comments.
Index(
    "idx_comment_deleted_at",
    comments.c.deleted_at,
    postgresql_where=text("deleted_at IS NOT NULL"),
)
# moderated_page.
Index(
    "idx_comment_moderated",
    comments.c.moderated_at.desc(),
    comments.c.post_id.desc(),
    comments.c.id.desc(),
    postgresql_where=text("moderated_at IS NOT NULL"),
)
# moderated_page: those that are held, which are few.
Index(
    "idx_comment_held",
    comments.c.moderated_at.desc(),
    comments.c.post_id.desc(),
    comments.c.id.desc(),
    postgresql_where=text("held_until IS NOT NULL"),
)
# keep_post.
Index(
    "idx_comment_kept",
    comments.c.post_author_id,
    comments.c.post_id,
    postgresql_where=text("kept_until IS NOT NULL"),
)
# purge_kept_comments.
Index(
    "idx_comment_kept_until",
    comments.c.kept_until,
    postgresql_where=text("kept_until IS NOT NULL AND deleted_at IS NOT NULL"),
)

tags = Table(
    "tags",
    metadata,
    big_id("owner_user_id", primary_key=True),
    Column("id", BigInteger, Identity(always=False), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    moment("created_at"),
    # Set when a tag that keeps people from posts is deleted: it is gone for its owner and goes on
    # keeping them from those posts. Dropping it would show the posts to the people it excluded.
    moment("deleted_at", nullable=True),
    # Until when the people of the tag stay out of its owner's feed: infinity for a mute without an
    # end, NULL for none. See mutes.
    moment("muted_until", nullable=True),
    # The name that an importer has for the tag, and when it was imported the last time: one that
    # was deleted elsewhere waits for its posts. NULL for tags that were made here.
    Column("external_id", Text),
    moment("imported_at", nullable=True),
    CheckConstraint(f"char_length(name) BETWEEN 1 AND {TAG_NAME_LENGTH}", name="name_length"),
)
# imported_tags, lock_imported_tags: a tag of an importer once for each owner.
Index(
    "uq_tag_external_id",
    tags.c.owner_user_id,
    tags.c.external_id,
    unique=True,
    postgresql_where=text("external_id IS NOT NULL"),
)
# drop_unused_tags.
Index("idx_tag_deleted_at", tags.c.deleted_at, postgresql_where=text("deleted_at IS NOT NULL"))
# feed_page, digest_choice, unread_count, frozen_choice: the tags that a viewer has muted.
Index(
    "idx_tag_muted",
    tags.c.owner_user_id,
    tags.c.muted_until,
    postgresql_where=text("muted_until IS NOT NULL"),
)
# insert_tag, update_tag: a name once for each owner, in upper or lower case.
Index(
    "uq_tag_name",
    tags.c.owner_user_id,
    # The database's own locale may be one that knows the case of ASCII alone, or of Turkish.
    func.lower(tags.c.name.collate("pg_c_utf8")),
    unique=True,
    postgresql_where=text("deleted_at IS NULL"),
)

user_tags = Table(
    "user_tags",
    metadata,
    # member_page, delete_tag.
    big_id("owner_user_id", primary_key=True),
    big_id("tag_id", primary_key=True),
    big_id("target_user_id", primary_key=True),
    # The owner's graph revision when the tag was given: the tag lets in during the connection that
    # was there then, and must not in a later one. 0 once that connection is known to have ended;
    # the row stays, to keep the person from what excludes the tag. See visibility.
    Column("owner_revision", BigInteger, nullable=False),
    moment("created_at"),
    ForeignKeyConstraint(
        ["owner_user_id", "tag_id"], ["tags.owner_user_id", "tags.id"], ondelete="CASCADE"
    ),
    CheckConstraint("owner_user_id <> target_user_id", name="not_oneself"),
)
# VISIBLE: has this author given this viewer one of these tags? tags_of_user, CONNECTIONS.
Index(
    "idx_user_tag_lookup",
    user_tags.c.owner_user_id,
    user_tags.c.target_user_id,
    user_tags.c.tag_id,
)
# feed_page, digest_choice: the tags that others have given to a viewer, read from the index alone.
# erase_tags_given_to.
Index(
    "idx_user_tag_target",
    user_tags.c.target_user_id,
    user_tags.c.owner_user_id,
    postgresql_include=["tag_id", "owner_revision"],
)

post_audience_tags = Table(
    "post_audience_tags",
    metadata,
    big_id("author_id", primary_key=True),
    big_id("post_id", primary_key=True),
    big_id("tag_id", primary_key=True),
    Column("excluded", Boolean, nullable=False, server_default=text("false")),
    # The post's own, which never changes: the order of a tag's posts without reading them.
    moment("created_at"),
    ForeignKeyConstraint(
        ["author_id", "post_id"], ["posts.author_id", "posts.id"], ondelete="CASCADE"
    ),
    ForeignKeyConstraint(["author_id", "tag_id"], ["tags.owner_user_id", "tags.id"]),
)
# feed_page, digest_choice: the stream of a tag's posts. delete_tag.
Index(
    "idx_post_audience_tag_lookup",
    post_audience_tags.c.author_id,
    post_audience_tags.c.tag_id,
    post_audience_tags.c.created_at.desc(),
    post_audience_tags.c.post_id.desc(),
    postgresql_where=text("NOT excluded"),
)
# VISIBLE, the streams: the people that a post excludes, and whether its author excludes any.
Index(
    "idx_post_exclusion",
    post_audience_tags.c.author_id,
    post_audience_tags.c.post_id,
    post_audience_tags.c.tag_id,
    postgresql_where=text("excluded"),
)

idempotency_keys = idempotency_keys_table(metadata)

# Up to where a user has read their feed.
read_positions = Table(
    "read_positions",
    metadata,
    big_id("user_id", primary_key=True),
    moment("read_at"),
    # Read by the version before alone, to which the default says that all posts of the moment are
    # read. To be dropped when that version is gone.
    Column("post_id", BigInteger, nullable=False, server_default=text(str(2**63 - 1))),
)

# The choice of posts of a week that is over, from its first reading on.
frozen_digests = Table(
    "frozen_digests",
    metadata,
    big_id("user_id", primary_key=True),
    Column("start_at", DateTime(timezone=True), primary_key=True),
    # A digest of the other arguments: the same week can be asked for in several ways.
    Column("fingerprint", LargeBinary, primary_key=True),
    Column("left_out_count", Integer, nullable=False),
    moment("created_at"),
)
frozen_digest_items = Table(
    "frozen_digest_items",
    metadata,
    big_id("user_id", primary_key=True),
    Column("start_at", DateTime(timezone=True), primary_key=True),
    Column("fingerprint", LargeBinary, primary_key=True),
    big_id("author_id", primary_key=True),
    big_id("post_id", primary_key=True),
    Column("importance", Double, nullable=False),
    Column("reason", Text, nullable=False),
    ForeignKeyConstraint(
        ["user_id", "start_at", "fingerprint"],
        ["frozen_digests.user_id", "frozen_digests.start_at", "frozen_digests.fingerprint"],
        ondelete="CASCADE",
    ),
)
# erase_from_digests: a user's posts in the digests of others.
Index("idx_frozen_digest_item_author", frozen_digest_items.c.author_id)

# Who takes part in digests that are mailed.
digest_subscriptions = Table(
    "digest_subscriptions",
    metadata,
    big_id("user_id", primary_key=True),
    Column("time_zone", Text, nullable=False),
    Column("week_start_day", SmallInteger, nullable=False),
    # The end of the week that is told next, or that is being told under a lease.
    Column("due_at", DateTime(timezone=True), nullable=False),
    # From when a mailer can claim it: `due_at`, and later than that, the end of a lease.
    Column("claimable_at", DateTime(timezone=True), nullable=False),
    # Of the last claim.
    Column("lease_token", Text),
    CheckConstraint("week_start_day BETWEEN 1 AND 7", name="known_day"),
)
# due_digests.
Index("idx_digest_subscription_claimable_at", digest_subscriptions.c.claimable_at)

# Up to which erasure of an id everything of the erased user is gone from here. As long as the graph
# tells of a later one, the user with this id counts as without connections: see graph_client.
erased_users = Table(
    "erased_users",
    metadata,
    big_id("user_id", primary_key=True),
    Column("revision", BigInteger, nullable=False),
    moment("erased_at"),
)

# How far this database has followed the changes of the graph.
followed = Table(
    "followed",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("cursor", Text, nullable=False),
    moment("updated_at"),
)

# What consumers of WatchPosts read. Rows are only added, erased with a user, and purged from the
# lowest number on. Numbers are handed out while the post is locked, so their order is that of each
# post's changes; but a lower one may be committed later. The rows of an import, one for each
# author, share a number: they are one event.
content_events = Table(
    "content_events",
    metadata,
    # The author of the post; of the event of an erasure, who was erased.
    big_id("author_id", primary_key=True),
    Column("seq", BigInteger, Identity(always=False), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("post_id", BigInteger),
    Column("comment_id", BigInteger),
    Column("comment_author_id", BigInteger),
    # The posts of an import, or those on which comments were imported.
    Column("post_ids", ARRAY(BigInteger)),
    moment("occurred_at"),
)
# event_page, note_purge, purge_events, erase_events_of_comments.
Index("idx_content_event_seq", content_events.c.seq)
# erase_events_of_comments.
Index(
    "idx_content_event_comment_author",
    content_events.c.comment_author_id,
    postgresql_where=text("comment_author_id IS NOT NULL"),
)
erased_content_events = erased_events_table("erased_content_events", metadata)
purged_content_events = purged_events_table("purged_content_events", metadata)

# Who this database is to the graph: see fence_keeper.
fence_keeper = Table(
    "fence_keeper",
    metadata,
    Column("keeper_id", UUID, primary_key=True, server_default=func.gen_random_uuid()),
)

# Whether what is cached of a user's connections can have changed, and of everybody's, user 0: see
# fences. The generation is a new one with each change, of which those under way are open. That of
# everybody has the history of the graph to which the fences belong, and a claim that is a new one
# with each other history.
fences = Table(
    "fences",
    metadata,
    big_id("user_id", primary_key=True),
    Column("generation", UUID, nullable=False),
    Column("open", ARRAY(UUID), nullable=False),
    Column("claim", UUID),
    Column("claimed_by", Text),
)

# The changes of the graph that are open, and the transactions there that make them.
open_fences = Table(
    "open_fences",
    metadata,
    Column("change_id", UUID, primary_key=True),
    Column("transaction", Text, nullable=False),
    Column("graph_history", Text, nullable=False),
    Column("user_ids", ARRAY(BigInteger), nullable=False),
    moment("opened_at"),
)

totals = totals_table(metadata)

# They are read and written in one statement, and a distributed one would go to every shard.
_ON_ONE_NODE: Final = frozenset({"fence_keeper", "fences", "open_fences"})

DISTRIBUTED_BY: Final = {
    table.name: key.name
    for table in metadata.sorted_tables
    for key in list(table.primary_key)[:1]
    if key.name.endswith("_id") and table.name not in _ON_ONE_NODE
}
"""By which column each table is spread over shards: whose rows they are, the first of its key.

Tables whose key begins with no id are small, and stay on one node, as fences do. A table comes
after those that it refers to.
"""
