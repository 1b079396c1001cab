"""The tables of graph_service, and for every index the queries it serves."""

from enum import StrEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from shared.api.idempotency import idempotency_keys_table
from shared.database.columns import big_id, moment, new_metadata
from shared.database.event_log import erased_events_table, purged_events_table
from shared.database.totals import totals_table

metadata = new_metadata()

PENDING: Final = "pending"
ACCEPTED: Final = "accepted"
WITHHELD: Final = "withheld"
"""A request to a user who blocks the requester: open for the requester, absent for the other."""


class EventKind(StrEnum):
    """What happened to a pair, as `connection_events` keeps it."""

    REQUESTED = "requested"
    CONNECTED = "connected"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    REMOVED = "removed"
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    IMPORTED = "imported"
    USER_DELETED = "user_deleted"
    SUSPENDED = "suspended"
    RESTORED = "restored"


_ACCEPTED = text(f"status = '{ACCEPTED}'")
_PENDING = text(f"status = '{PENDING}'")
_REQUESTED = text(f"status IN ('{PENDING}', '{WITHHELD}')")

# One row for each pair that is pending, withheld or connected; a pair without a row is in state
# none. A pair can be withheld only as long as who was asked blocks who asked.
connections = Table(
    "connections",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    big_id("user_a_id"),
    big_id("user_b_id"),
    Column("status", Text, nullable=False),
    big_id("requested_by"),
    Column(
        "addressee_id",
        BigInteger,
        Computed(
            "CASE WHEN requested_by = user_a_id THEN user_b_id ELSE user_a_id END", persisted=True
        ),
        nullable=False,
    ),
    moment("created_at"),
    # When it was accepted; before that, the same as created_at.
    moment("updated_at"),
    UniqueConstraint("user_a_id", "user_b_id"),
    CheckConstraint("user_a_id < user_b_id", name="ordered_pair"),
    CheckConstraint("user_a_id > 0", name="positive_ids"),
    CheckConstraint(f"status IN ('{PENDING}', '{ACCEPTED}', '{WITHHELD}')", name="known_status"),
    CheckConstraint("requested_by IN (user_a_id, user_b_id)", name="requested_by_one_of_them"),
)

# connected_user_ids, mutual_user_ids, suggestions, peers_of_user: the two sides of a pair, each of
# which is read from its index alone. `status` is in the predicate and must not become a third key
# column: PostgreSQL 18's skip scan then chooses the wrong side and reads a large part of the index
# for one user.
Index(
    "idx_connection_lookup",
    connections.c.user_a_id,
    connections.c.user_b_id,
    postgresql_where=_ACCEPTED,
)
Index(
    "idx_connection_reverse_lookup",
    connections.c.user_b_id,
    connections.c.user_a_id,
    postgresql_where=_ACCEPTED,
)
# peer_page: newest first, one page from either side.
Index(
    "idx_connection_newest_a",
    connections.c.user_a_id,
    connections.c.updated_at.desc(),
    connections.c.id.desc(),
    postgresql_where=_ACCEPTED,
)
Index(
    "idx_connection_newest_b",
    connections.c.user_b_id,
    connections.c.updated_at.desc(),
    connections.c.id.desc(),
    postgresql_where=_ACCEPTED,
)

# peer_page: requests, by direction. A withheld request is in the requester's list, and in no
# other.
Index(
    "idx_connection_outgoing",
    connections.c.requested_by,
    connections.c.created_at.desc(),
    connections.c.id.desc(),
    postgresql_where=_REQUESTED,
)
Index(
    "idx_connection_incoming",
    connections.c.addressee_id,
    connections.c.created_at.desc(),
    connections.c.id.desc(),
    postgresql_where=_PENDING,
)
# erase_user, peers_of_user: all requests of a user, of either side.
Index(
    "idx_connection_pending_b",
    connections.c.user_b_id,
    connections.c.user_a_id,
    postgresql_where=_REQUESTED,
)

blocks = Table(
    "blocks",
    metadata,
    big_id("blocker_id", primary_key=True),
    big_id("blocked_id", primary_key=True),
    moment("created_at"),
    CheckConstraint("blocker_id <> blocked_id", name="not_oneself"),
)

# peer_page: the users that a user blocks, newest first.
Index(
    "idx_block_newest",
    blocks.c.blocker_id,
    blocks.c.created_at.desc(),
    blocks.c.blocked_id.desc(),
)
# connected_user_ids, suggestions, erase_user, opponent_ids: who blocks this user.
Index("idx_block_reverse", blocks.c.blocked_id, blocks.c.blocker_id)

# One row for each requester and each who has declined them, the last time; also when a block, or
# the end of one, has removed the request, so that the requester cannot tell these apart. Upkeep
# deletes it when the requester may ask again.
declines = Table(
    "declines",
    metadata,
    big_id("requester_id", primary_key=True),
    big_id("decliner_id", primary_key=True),
    moment("declined_at"),
)
# erase_user: the requests that a user has declined.
Index("idx_decline_decliner", declines.c.decliner_id)
# purge_declines.
Index("idx_decline_oldest", declines.c.declined_at)

# One row for each user who ever had a connection, a request or a block. `revision` grows with every
# change of the user's connections and of blocks in either direction; it tells a time, so it is for
# services. `shown_revision` is for the user: it grows with the connections alone, by random steps.
# It begins as for a user without a row, because others make the row, by a request or a block.
users = Table(
    "users",
    metadata,
    big_id("user_id", primary_key=True),
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    Column("connection_count", Integer, nullable=False, server_default=text("0")),
    Column("shown_revision", BigInteger, nullable=False, server_default=text("1")),
    # A connection was made with a user whose id had been erased before, or by such a user: only
    # then connected_user_ids looks for the erasures of all connections.
    Column("meets_erased", Boolean, nullable=False, server_default=text("false")),
    # How many of the connections are with suspended users: only where there are any, reads look for
    # them, and a count is right without looking.
    Column("suspended_connection_count", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("connection_count >= 0", name="count_not_negative"),
)

# One row for each user who is suspended. It is all that a suspension stores, so that its end leaves
# no trace; it outlives the erasure of the user, without the reason.
suspensions = Table(
    "suspensions",
    metadata,
    big_id("user_id", primary_key=True),
    Column("reason", Text, nullable=False, server_default=text("''")),
    moment("suspended_at"),
)
# suspension_page: newest first.
Index(
    "idx_suspension_newest",
    suspensions.c.suspended_at.desc(),
    suspensions.c.user_id.desc(),
)

# At most one row, whose revision grows whenever a user is suspended or restored: who knows all
# suspended users reads them again only then. It tells a time, so that a restored backup has no
# revision that meant something else.
suspension_changes = Table(
    "suspension_changes",
    metadata,
    Column("is_single", Boolean, primary_key=True, server_default=text("true")),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("is_single", name="single_row"),
)

# One row for each id that was ever erased: a service that keeps something of users learns from the
# revision that what it had before belonged to another user. It outlives the event, so that events
# can be purged.
erasures = Table(
    "erasures",
    metadata,
    big_id("user_id", primary_key=True),
    Column("revision", BigInteger, nullable=False),
    moment("erased_at"),
)

# One row for each pair whose connection has ever ended: both revisions right after it did, the last
# time. What was noted for a pair at these revisions or before is of a connection that is over, also
# when the two have connected again since.
endings = Table(
    "endings",
    metadata,
    big_id("user_a_id"),
    big_id("user_b_id"),
    Column("user_a_revision", BigInteger, nullable=False),
    Column("user_b_revision", BigInteger, nullable=False),
    moment("ended_at"),
    PrimaryKeyConstraint(
        "user_a_id", "user_b_id", postgresql_include=["user_a_revision", "user_b_revision"]
    ),
    CheckConstraint("user_a_id < user_b_id", name="ordered_pair"),
)
# connected_user_ids, with the primary key for the other side; erase_user. Both hold the
# revisions, so that the endings of a user with many endings are read from the index alone.
Index(
    "idx_ending_reverse",
    endings.c.user_b_id,
    endings.c.user_a_id,
    postgresql_include=["user_a_revision", "user_b_revision"],
)

# What followers read. Rows are only added, and purged from the lowest number on. Numbers are handed
# out while both users are locked, so their order is that of each user's changes; but a lower one
# may be committed later.
connection_events = Table(
    "connection_events",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    big_id("actor_id"),
    Column("peer_id", BigInteger),
    Column("actor_revision", BigInteger, nullable=False, server_default=text("0")),
    Column("peer_revision", BigInteger, nullable=False, server_default=text("0")),
    moment("occurred_at"),
)
# erase_user: events about a user.
Index("idx_connection_event_actor", connection_events.c.actor_id)
Index("idx_connection_event_peer", connection_events.c.peer_id)

# One row for each service that caches connections and has to be told of a change before it is
# committed: where it is, which keeper in which history has answered there, and the history of this
# database in which it did. A trigger on `users` reads them, and lets no change pass without them.
fence_keepers = Table(
    "fence_keepers",
    metadata,
    Column("target", Text, primary_key=True),
    Column("keeper_id", Uuid, nullable=False),
    Column("keeper_history", Text, nullable=False),
    Column("graph_history", Text, nullable=False),
)

erased_events = erased_events_table("erased_events", metadata)
purged_events = purged_events_table("purged_events", metadata)

idempotency_keys = idempotency_keys_table(metadata)
totals = totals_table(metadata)
