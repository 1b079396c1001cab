"""Whose posts a distributed database is asked for: what its other statements start from.

Such a statement is planned anew on every shard it goes to, which takes longer than running it. So
these are few, and as short as they can be.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from feed_service.mutes import MUTED
from feed_service.viewers import Viewer
from feed_service.visibility import tag_holds
from feed_service.visibility_streams import CHOSEN
from shared.database.arrays import array_literal
from shared.database.reader import Reader, Statement

FEW: Final = "= ANY (CAST(:author_ids AS bigint[]))"
"""Whether an id is one of :author_ids: it goes to those shards alone that some of them are on."""

MANY: Final = "= ANY (ARRAY(SELECT unnest(CAST(:author_ids AS bigint[]))))"
"""The same for so many that they are on every shard: a planner that sees them weighs each one, and
would do so on every shard."""

AMONG_ALL: Final = "IN (SELECT unnest(CAST(:author_ids AS bigint[]))) IS TRUE"
"""The same for so many that to look at each is more than to look at what everybody has posted of
late, in the order of a feed."""

_MANY_FROM: Final = 100


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Authors that are asked for, each once."""

    literal: str
    count: int

    @property
    def are_many(self) -> bool:
        """Whether they are probably on every shard."""
        return self.count >= _MANY_FROM

    def and_also(self, user_id: int) -> "Asked":
        """Return these and one more."""
        others = f",{self.literal[1:-1]}" if self.count else ""
        return Asked(literal=f"{{{user_id}{others}}}", count=self.count + 1)

    def without(self, user_ids: Collection[int]) -> "Asked":
        """Return those of them that are not among these users."""
        if not user_ids or not self.count:
            return self
        others = set(map(int, self.literal[1:-1].split(","))).difference(user_ids)
        return Asked(literal=array_literal(others), count=len(others))


def asked(literal: str) -> Asked:
    """Return the authors of a literal."""
    return Asked(literal=literal, count=0 if literal == "{}" else literal.count(",") + 1)


# The tags that a viewer has given are on the viewer's shard, and not on those of these authors.
_TAGGED = Statement(
    "tagged_authors",
    f"""
    SELECT DISTINCT chosen.target_user_id FROM {CHOSEN}
    WHERE chosen.owner_user_id = :viewer_id
      AND chosen.target_user_id = ANY (CAST(:author_ids AS bigint[]))
      AND chosen.tag_id = ANY (CAST(:tag_ids AS bigint[]))
      AND {tag_holds("chosen", peer="chosen.target_user_id", revisions=":own_revisions")}
""",
)


def tagged_authors(reader: Reader, *, viewer: Viewer, literal: str, tag_ids: str) -> Asked:
    """Those of the viewer's connections in a literal who have one of the viewer's tags."""
    rows = reader.rows(_TAGGED, {**viewer.parameters, "author_ids": literal, "tag_ids": tag_ids})
    return Asked(literal=array_literal(author_id for (author_id,) in rows), count=len(rows))


# The viewer's tags are on one shard, that of the viewer.
_MUTED = Statement("muted_people", MUTED)


def unmuted(reader: Reader, *, viewer: Viewer, authors: Asked) -> Asked:
    """Those of the authors, connections of the viewer, that the viewer has not muted."""
    if not authors.count:
        return authors
    return authors.without({user_id for (user_id,) in reader.rows(_MUTED, viewer.parameters)})
