"""Reading the graph: connected ids, states of pairs, lists, counts, suggestions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from graph_service.queries import connected_ids, lookups, suggestions
from graph_service.queries.connected_ids import ConnectedAnswer
from graph_service.queries.lookups import CountRow, ListedPeer, PeerRow
from kith.errors.v1 import errors_pb2
from kith.exceptions import PreconditionError
from shared.api.paging import BELOW_ALL_IDS, NEWER_THAN_ALL, ById, ByTime, Page, PageTokens, Scope
from shared.database.reader import Reader
from shared.database.replicas import Reads


@dataclass(frozen=True, kw_only=True)
class AskedUser:
    """One user of a batch: the revision the caller already has, and the minimum it will accept."""

    known_revision: int = 0
    min_revision: int = 0


class Lookups:
    """What can be asked of the graph. Every method is one SQL statement."""

    def __init__(
        self, reads: Reads, primary: Reader, tokens: PageTokens, *, names_keepers: bool
    ) -> None:
        """With `names_keepers`, answers name the keepers of fences that are told of changes."""
        self._names_keepers = names_keepers
        self._reads = reads
        self._primary = primary
        self._tokens = tokens

    def connected_ids(
        self,
        asked: Mapping[int, AskedUser],
        *,
        with_blocked: bool,
        with_suspended: bool,
        suspended_among: Collection[int],
    ) -> ConnectedAnswer:
        """Return each user's revision, and the ids where the revision is not the known one.

        And those of the users `suspended_among` who are suspended; the ids are complete
        `with_suspended`. A known revision is compared with the newest one, which the primary alone
        has.
        """
        known = {user_id: user.known_revision for user_id, user in asked.items()}

        def read(reader: Reader) -> ConnectedAnswer:
            return connected_ids.connected_user_ids(
                reader,
                known_revisions=known,
                with_blocked=with_blocked,
                with_suspended=with_suspended,
                suspended_among=suspended_among,
                # A replica does not know of the newest changes that keepers were told of.
                with_keepers=self._names_keepers and reader is self._primary,
            )

        def suffices(answer: ConnectedAnswer) -> bool:
            return all(
                found.revision >= asked[found.user_id].min_revision for found in answer.users
            )

        if any(known.values()):
            return read(self._primary)
        return self._reads.prepared(read, suffices=suffices)

    def peers_at_revision(self, user_id: int, peer_ids: Sequence[int]) -> tuple[list[PeerRow], int]:
        """Return each peer as the user sees it, in the order asked, and the user's revision."""
        return self._reads.read(
            lambda connection: lookups.peers_at_revision(
                connection, user_id=user_id, peer_ids=peer_ids
            )
        )

    def page(
        self, user_id: int, listing: str, *, page_size: int, page_token: str
    ) -> Page[ListedPeer]:
        """Return a page of `connected`, `incoming`, `outgoing` or `blocked` peers, newest first."""
        scope = Scope.of(listing, user_id)
        before_time, before_id = self._tokens.read(scope, page_token, start=NEWER_THAN_ALL).key
        rows = self._reads.read(
            lambda connection: lookups.peer_page(
                connection,
                user_id=user_id,
                listing=listing,
                before_time=before_time,
                before_id=before_id,
                limit=page_size + 1,
            )
        )
        return self._tokens.cut(
            scope,
            rows,
            size=page_size,
            position=lambda row: ByTime.of(row.listed_at, row.row_id),
        )

    def mutual(self, user_id: int, peer_id: int, *, page_size: int, page_token: str) -> Page[int]:
        """Return a page of the users connected with both, by id; none where there is a block."""
        scope = Scope.of("mutual", user_id, peer_id)
        after = self._tokens.read(scope, page_token, start=BELOW_ALL_IDS)
        ids = self._reads.read(
            lambda connection: lookups.mutual_user_ids(
                connection,
                user_id=user_id,
                peer_id=peer_id,
                after_id=after.id,
                limit=page_size + 1,
            )
        )
        return self._tokens.cut(scope, ids, size=page_size, position=ById)

    def counts(self, user_id: int, user_ids: Sequence[int]) -> list[CountRow]:
        """Return each user's number of connections, in the order asked.

        Raises PreconditionError when one is neither the user nor connected with the user, unless
        the user is 0: then a service asks for itself.
        """
        rows = self._reads.read(
            lambda connection: lookups.connection_counts(
                connection, user_id=user_id, user_ids=user_ids
            )
        )
        for row in rows:
            if not row.may_be_told:
                raise PreconditionError(
                    "a user may count only themselves and their connections",
                    reason=errors_pb2.ERROR_REASON_NOT_CONNECTED,
                    metadata={"user_id": str(row.user_id)},
                )
        return rows

    def suggestions(self, user_id: int, *, limit: int) -> list[tuple[int, int]]:
        """Return friends of friends with their number of connections in common, most first."""
        return self._reads.read(
            lambda connection: suggestions.suggestions(connection, user_id=user_id, limit=limit)
        )
