"""Imports: tags from elsewhere and the people who have them, chunk by chunk.

A tag that excludes people must not let one of them through. So none is skipped: a person who is
not connected with the owner here is stored as a former member, whom the tag excludes and lets in
nowhere, and the answer says how many these are.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from feed_service import queries
from feed_service.connections_cache import CachedViewer
from feed_service.queries.imported_tags import ImportedMember, ImportedTag, NewMember
from feed_service.resources import Resources
from feed_service.tags import one_of_a_name
from kith.exceptions import FieldViolation, ValidationError
from shared.api.imports import import_chunks

NO_SUCH_TAG = "must be the external_id of an imported tag of the owner"
_NAME_TAKEN = "must not be the name of another tag of the owner"


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What one message imports."""

    tags: Sequence[ImportedTag]
    members: Sequence[ImportedMember]


@dataclass(frozen=True, kw_only=True)
class TagImportResult:
    """What became of the tags and members so far."""

    imported: int = 0
    existing: int = 0
    imported_members: int = 0
    existing_members: int = 0
    unconnected_members: int = 0
    committed_chunks: int = 0

    def __add__(self, other: "TagImportResult") -> "TagImportResult":
        """Return the sum of two results."""
        return TagImportResult(
            imported=self.imported + other.imported,
            existing=self.existing + other.existing,
            imported_members=self.imported_members + other.imported_members,
            existing_members=self.existing_members + other.existing_members,
            unconnected_members=self.unconnected_members + other.unconnected_members,
            committed_chunks=self.committed_chunks + other.committed_chunks,
        )


class TagImports:
    """Imports of tags by any number of owners."""

    def __init__(self, resources: Resources, *, max_tags: int) -> None:
        self._database = resources.database
        self._graph = resources.graph
        self._layout = resources.layout
        self._max_tags = max_tags

    def import_chunks(self, chunks: Iterable[Chunk]) -> TagImportResult:
        """Import each chunk as `shared.api.imports` says."""
        return import_chunks(chunks, self._import, nothing=TagImportResult())

    def _import(self, chunk: Chunk) -> TagImportResult:
        if not chunk.tags and not chunk.members:
            return TagImportResult(committed_chunks=1)
        owners = self._owners({each.owner_id for each in chunk.members if not each.is_former})
        return self._database.write(lambda connection: self._import_in(connection, chunk, owners))

    def _owners(self, owner_ids: Collection[int]) -> Mapping[int, CachedViewer]:
        """Return the connections of owners as of now: a tag is given as of their revision.

        It applies when a suspension ends, so what suspensions hide counts.
        """
        return self._graph.all_connections(owner_ids) if owner_ids else {}

    def _import_in(
        self, connection: Connection, chunk: Chunk, owners: Mapping[int, CachedViewer]
    ) -> TagImportResult:
        imported = self._import_tags(connection, chunk.tags)
        members = self._members(connection, chunk.members, owners)
        stored = queries.imported_tags.insert_members(connection, members=members)
        claims = {
            (new.tag_id, new.target_user_id)
            for member, new in zip(chunk.members, members, strict=True)
            if new.owner_revision == 0 and not member.is_former
        }
        return TagImportResult(
            imported=imported,
            existing=len(chunk.tags) - imported,
            imported_members=len(stored),
            existing_members=len(members) - len(stored),
            unconnected_members=len(stored & claims),
            committed_chunks=1,
        )

    def _import_tags(self, connection: Connection, tags: Sequence[ImportedTag]) -> int:
        """Store the tags that were not imported before, and return how many these are."""
        if not tags:
            return 0
        counts = queries.imported_tags.lock_and_count_tags_of_many(
            connection, owner_ids={tag.owner_id for tag in tags}
        )
        known = queries.imported_tags.imported_tags(connection, keys=[tag.key for tag in tags])
        new = {index: tag for index, tag in enumerate(tags) if tag.key not in known}
        self._require_room(connection, new, Counter(counts))
        with one_of_a_name():
            queries.imported_tags.insert_tags(connection, tags=list(new.values()))
        return len(new)

    def _require_room(
        self, connection: Connection, new: Mapping[int, ImportedTag], counts: Counter[int]
    ) -> None:
        """Raise ValidationError naming the tags whose owners have no room for them."""
        present = {index: tag for index, tag in new.items() if tag.deleted_at is None}
        if not present:
            return
        faults = dict[str, str]()
        for index, tag in present.items():
            counts[tag.owner_id] += 1
            if counts[tag.owner_id] > self._max_tags:
                faults[f"tags[{index}]"] = (
                    f"must be among the owner's first {self._max_tags:,} tags"
                )
        indexes = list(present)
        for taken in queries.imported_tags.taken_names(connection, tags=list(present.values())):
            faults[f"tags[{indexes[taken]}].name"] = _NAME_TAKEN
        _refuse(faults)

    def _members(
        self,
        connection: Connection,
        members: Sequence[ImportedMember],
        owners: Mapping[int, CachedViewer],
    ) -> list[NewMember]:
        """Return what is to be stored of each member, whose tags are locked.

        Raises ValidationError naming those whose tag was not imported.
        """
        found = self._layout.lock_imported_tags(connection, keys={member.tag for member in members})
        _refuse(
            {
                f"members[{index}].tag_external_id": NO_SUCH_TAG
                for index, member in enumerate(members)
                if member.tag not in found
            }
        )
        connected = {owner_id: known.viewer.connected_to for owner_id, known in owners.items()}
        return [
            NewMember(
                owner_id=member.owner_id,
                tag_id=found[member.tag].id,
                target_user_id=member.target_user_id,
                owner_revision=(
                    owners[member.owner_id].revision
                    if not member.is_former and member.target_user_id in connected[member.owner_id]
                    else 0
                ),
                created_at=member.created_at,
            )
            for member in members
        ]


def _refuse(faults: Mapping[str, str]) -> None:
    if faults:
        raise ValidationError.of_all(
            [FieldViolation(field=field, description=why) for field, why in faults.items()]
        )
