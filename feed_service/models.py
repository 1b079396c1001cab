"""The tables of feed_service, and for every index the queries it serves.

The author's or owner's id leads every primary key and every join, so that the schema can be
distributed by it without a change.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from shared.tables import big_id, moment, new_metadata
from shared.totals import totals_table

metadata = new_metadata()

ALL: Final = "all"
TAGS: Final = "tags"
PRIVATE: Final = "private"

BODY_LENGTH: Final = 10_000
TAG_NAME_LENGTH: Final = 50

posts = Table(
    "posts",
    metadata,
    big_id("author_id", primary_key=True),
    Column("id", BigInteger, Identity(always=False), primary_key=True),
    Column("body", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("importance", Double),
    # Counts the changes of the row; callers see it as the etag.
    Column("version", Integer, nullable=False, server_default=text("1")),
    moment("created_at"),
    moment("edited_at", nullable=True),
    moment("deleted_at", nullable=True),
    CheckConstraint(f"audience IN ('{ALL}', '{TAGS}', '{PRIVATE}')", name="known_audience"),
    CheckConstraint(f"char_length(body) BETWEEN 1 AND {BODY_LENGTH}", name="body_length"),
    CheckConstraint("importance BETWEEN 0 AND 10", name="importance_range"),
)
# feed_page: the newest posts of each author.
Index(
    "idx_post_author",
    posts.c.author_id,
    posts.c.created_at.desc(),
    posts.c.id.desc(),
    postgresql_where=text("deleted_at IS NULL"),
)
# The newest posts of everybody, for readers with very many connections.
Index(
    "idx_post_created_at",
    posts.c.created_at.desc(),
    posts.c.id.desc(),
    postgresql_include=["author_id", "audience"],
    postgresql_where=text("deleted_at IS NULL"),
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
    CheckConstraint(f"char_length(name) BETWEEN 1 AND {TAG_NAME_LENGTH}", name="name_length"),
)
# insert_tag, rename_tag: a name once for each owner, whatever its case.
Index(
    "uq_tag_name",
    tags.c.owner_user_id,
    func.lower(tags.c.name),
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
    # The owner's graph revision when the tag was given, so that a tag from before a broken
    # connection can be told from one given after it.
    Column("owner_revision", BigInteger, nullable=False),
    moment("created_at"),
    ForeignKeyConstraint(
        ["owner_user_id", "tag_id"], ["tags.owner_user_id", "tags.id"], ondelete="CASCADE"
    ),
    CheckConstraint("owner_user_id <> target_user_id", name="not_oneself"),
)
# VISIBLE: has this author given this viewer one of these tags? tags_of_user, feed_page by tags.
Index(
    "idx_user_tag_lookup",
    user_tags.c.owner_user_id,
    user_tags.c.target_user_id,
    user_tags.c.tag_id,
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
# delete_tag, and the posts of one tag newest first.
Index(
    "idx_post_audience_tag_lookup",
    post_audience_tags.c.author_id,
    post_audience_tags.c.tag_id,
    post_audience_tags.c.created_at.desc(),
    post_audience_tags.c.post_id.desc(),
)

# The first success of every creation that named a request id, kept for 24 hours.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    big_id("user_id", primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    moment("created_at"),
)
# purge of what has expired.
Index("idx_idempotency_key_created_at", idempotency_keys.c.created_at)

totals = totals_table(metadata)
