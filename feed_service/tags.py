"""Tags: a user's private labels for people, from which audiences are made."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from feed_service import queries
from feed_service.connections_cache import CachedViewer
from feed_service.queries.tags import MemberRow, Mute, TagRow
from feed_service.resources import Resources
from feed_service.safe_read import steady_read
from feed_service.versions import require_version
from feed_service.viewers import Viewer
from kith.errors.v1 import errors_pb2
from kith.exceptions import (
    ConflictError,
    PreconditionError,
    ResourceNotFoundError,
    ValidationError,
)
from shared.access.suspended import user_suspended
from shared.api.idempotency import Call, M, once, once_prepared
from shared.api.paging import BELOW_ALL_IDS, ById, Page, Scope

UNMUTED_WITH_END: Final = "must be unset unless the tag is muted"
"""What is wrong with `mute_until` of a tag that is not muted."""


@dataclass(frozen=True, kw_only=True)
class TagChanges:
    """The changes of a tag; None for a name that stays, and for a tag that stays muted or not.

    The mute ends at `mute_until`, never if that is None, if `changes_end`; otherwise as it did.
    """

    name: str | None = None
    is_muted: bool | None = None
    changes_end: bool = False
    mute_until: datetime | None = None

    def mute(self, current: Mute | None) -> Mute | None:
        """Return what becomes of a mute; raises ValidationError for an end without a mute."""
        is_muted = current is not None if self.is_muted is None else self.is_muted
        if not is_muted:
            if self.mute_until is not None:
                raise ValidationError.of("tag.mute_until", UNMUTED_WITH_END)
            return None
        if self.changes_end:
            return Mute(until=self.mute_until)
        return current or Mute()


class Tags:
    """What can be done with tags."""

    def __init__(self, resources: Resources, *, max_tags: int) -> None:
        self._database = resources.database
        self._reads = resources.reads
        self._graph = resources.graph
        self._tokens = resources.tokens
        self._max_tags = max_tags

    def create(
        self, call: Call[TagRow, M], *, name: str, mute: Mute | None, shown: Callable[[M], int]
    ) -> M:
        """Create a tag; repeating the request returns the first one's answer.

        `shown` reads from such an answer the id of the tag that it shows. Raises ValidationError
        naming `mute_until` for a mute that has ended already.
        """
        owner_id = call.user_id

        def create(connection: Connection) -> TagRow:
            count = queries.tags.lock_and_count_tags(connection, owner_user_id=owner_id)
            if count >= self._max_tags:
                raise PreconditionError(
                    f"the user has {self._max_tags:,} tags, the limit",
                    reason=errors_pb2.ERROR_REASON_TAG_LIMIT_REACHED,
                    metadata={"limit": str(self._max_tags)},
                )
            with one_of_a_name():
                tag_id = queries.tags.insert_tag(
                    connection, owner_user_id=owner_id, name=name, mute=mute
                )
            return _stored(connection, owner_id, tag_id, mute=mute, end="mute_until")

        response, _ = once(
            self._database,
            call,
            create,
            still_there=lambda connection, answer: _is_there(connection, owner_id, shown(answer)),
        )
        return response

    def page(
        self, owner_id: int, *, show_deleted: bool, page_size: int, page_token: str
    ) -> Page[TagRow]:
        """Return a page of the owner's tags, by id."""
        scope = Scope.of("tags", owner_id, show_deleted)
        after = self._tokens.read(scope, page_token, start=BELOW_ALL_IDS)
        rows = self._reads.read(
            lambda connection: queries.tags.tag_page(
                connection,
                owner_user_id=owner_id,
                with_deleted=show_deleted,
                after_id=after.id,
                limit=page_size + 1,
            )
        )
        return self._tokens.cut(scope, rows, size=page_size, position=lambda row: ById(row.id))

    def update(
        self,
        call: Call[TagRow, M],
        tag_id: int,
        changes: TagChanges,
        *,
        version: int | None,
    ) -> M:
        """Change a tag; with a version, only if it is the current one.

        Raises ValidationError naming `tag.mute_until` for a mute that has ended already, and for an
        end of a tag that is not muted.
        """
        owner_id = call.user_id

        def work(connection: Connection) -> TagRow:
            current = _required(
                queries.tags.locked_tag(connection, owner_user_id=owner_id, tag_id=tag_id)
            )
            require_version(version, current=current.version)
            mute = changes.mute(current.mute)
            with one_of_a_name():
                queries.tags.update_tag(
                    connection,
                    owner_user_id=owner_id,
                    tag_id=tag_id,
                    name=current.name if changes.name is None else changes.name,
                    mute=mute,
                )
            return _stored(connection, owner_id, tag_id, mute=mute, end="tag.mute_until")

        response, _ = once(
            self._database,
            call,
            work,
            still_there=lambda connection, _: _is_there(connection, owner_id, tag_id),
        )
        return response

    def delete(self, call: Call[None, M], tag_id: int, *, version: int | None) -> M:
        """Delete a tag: it stops showing posts, and still excludes its people from posts.

        With a version, only if it is the current one.
        """
        owner_id = call.user_id

        def work(connection: Connection) -> None:
            current = _required(
                queries.tags.locked_tag(connection, owner_user_id=owner_id, tag_id=tag_id)
            )
            require_version(version, current=current.version)
            queries.tags.delete_tag(connection, owner_user_id=owner_id, tag_id=tag_id)

        response, _ = once(self._database, call, work)
        return response

    def add_members(self, call: Call[int, M], tag_id: int, target_ids: Sequence[int]) -> M:
        """Give a tag to people who are all connected with the owner, and say how many are new."""
        owner_id = call.user_id

        def connections() -> CachedViewer:
            known = self._graph.now(owner_id)
            if known.viewer.is_suspended:
                raise user_suspended()
            connected = known.viewer.connected_to
            if unconnected := [id_ for id_ in target_ids if id_ not in connected]:
                raise PreconditionError(
                    "only connections of the user can be given a tag",
                    reason=errors_pb2.ERROR_REASON_NOT_CONNECTED,
                    metadata={"target_user_id": str(unconnected[0])},
                )
            return known

        def work(connection: Connection, known: CachedViewer) -> int:
            _required(queries.tags.locked_tag(connection, owner_user_id=owner_id, tag_id=tag_id))
            members = queries.tags.members_among(
                connection, owner=known.viewer, tag_id=tag_id, target_user_ids=target_ids
            )
            if new := set(target_ids) - members:
                queries.tags.add_members(
                    connection,
                    owner_user_id=owner_id,
                    tag_id=tag_id,
                    target_user_ids=new,
                    owner_revision=known.revision,
                )
            return len(new)

        response, _ = once_prepared(self._database, call, prepare=connections, work=work)
        return response

    def remove_members(self, call: Call[int, M], tag_id: int, target_ids: Sequence[int]) -> M:
        """Take a tag from people, and say how many had it or were still kept out by it."""
        owner_id = call.user_id

        def work(connection: Connection) -> int:
            _required(
                queries.tags.locked_tag(
                    connection, owner_user_id=owner_id, tag_id=tag_id, with_deleted=True
                )
            )
            return queries.tags.remove_members(
                connection, owner_user_id=owner_id, tag_id=tag_id, target_user_ids=target_ids
            )

        response, _ = once(self._database, call, work)
        return response

    def members(
        self, owner_id: int, tag_id: int, *, show_former: bool, page_size: int, page_token: str
    ) -> Page[MemberRow]:
        """Return a page of the people who have a tag, by id."""
        scope = Scope.of("members", owner_id, tag_id, show_former)
        after = self._tokens.read(scope, page_token, start=BELOW_ALL_IDS)

        def read(owner: Viewer) -> list[MemberRow] | None:
            return self._reads.read(
                lambda connection: queries.tags.member_page(
                    connection,
                    owner=owner,
                    tag_id=tag_id,
                    with_former=show_former,
                    after_id=after.id,
                    limit=page_size + 1,
                ),
                since=owner.since,
            )

        rows = steady_read(self._graph, owner_id, read)
        if rows is None:
            raise _not_found()
        return self._tokens.cut(
            scope, rows, size=page_size, position=lambda row: ById(row.target_user_id)
        )

    def of_user(self, owner_id: int, target_id: int) -> list[TagRow]:
        """Return the owner's tags that one person has, by id."""

        def read(owner: Viewer) -> list[TagRow]:
            return self._reads.read(
                lambda connection: queries.tags.tags_of_user(
                    connection, owner=owner, target_user_id=target_id
                ),
                since=owner.since,
            )

        return steady_read(self._graph, owner_id, read)


def _stored(
    connection: Connection, owner_id: int, tag_id: int, *, mute: Mute | None, end: str
) -> TagRow:
    """Return a tag as it is stored; raises ValidationError naming `end` if its mute is over.

    The clock of the database decides, because a mute ends by it.
    """
    row = _required(queries.tags.tag(connection, owner_user_id=owner_id, tag_id=tag_id))
    if mute is not None and not row.is_muted:
        raise ValidationError.of(end, "must be in the future")
    return row


def _required(row: TagRow | None) -> TagRow:
    if row is None:
        raise _not_found()
    return row


def _not_found() -> ResourceNotFoundError:
    return ResourceNotFoundError(
        "the user has no such tag", reason=errors_pb2.ERROR_REASON_TAG_NOT_FOUND
    )


@contextmanager
def one_of_a_name() -> Iterator[None]:
    """Raise ConflictError when a tag gets the name of another of its owner's."""
    try:
        yield
    except IntegrityError as error:
        if not queries.tags.is_name_taken(error):
            raise
        raise ConflictError(
            "the user already has a tag of this name",
            reason=errors_pb2.ERROR_REASON_TAG_NAME_TAKEN,
        ) from error


def _is_there(connection: Connection, owner_id: int, tag_id: int) -> bool:
    """Whether a tag has not been deleted."""
    return queries.tags.tag(connection, owner_user_id=owner_id, tag_id=tag_id) is not None
