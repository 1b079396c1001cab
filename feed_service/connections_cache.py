"""What is known of users' connections: in this process, and behind it in Redis, if there is one.

Neither has to be right. A read with connections from here learns afterwards whether they are still
the user's: from the graph by their revision (`safe_read`), or by their stamp from `fences`. So an
entry that is out of date, or was put back from earlier, costs a second read and shows nothing.

What the graph cannot tell by a revision is whether the former users of ids that were issued anew
are erased here. An entry with such ids names the history of the database in which they were, and is
compared in full: see `graph_client`.

An entry with the right revision and another user's ids would be taken for right. In Redis, where
others may be able to write, entries are therefore signed, for their user, and an entry without a
valid signature counts as absent. Entries are not encrypted: Redis must be protected as well as
PostgreSQL.
"""

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from cachetools import LRUCache

from feed_service.fences import history_of
from feed_service.metrics import FeedMetrics
from feed_service.viewers import Viewer
from shared.optional_redis import OptionalRedis, RedisAwayError

# What an entry costs beside the texts of its ids; its stamp is part of that.
_ENTRY_BYTES = 700
# Ten thousand connections; the graph's answer for more takes long in any case.
_MOST_SHARED_BYTES = 128 * 1024
# So long an erased user's connections can be there. Most come back to their feed sooner.
_SHARED_SECONDS = 60 * 60
# Page tokens are signed with the same keys, and one must never do for the other.
_PURPOSE: Final = b"kith connections 5"
_MAC_BYTES = 32
# Of an entry that was made without asking for blocks; no array literal is empty.
_NOT_ASKED: Final = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedViewer:
    """A user with their connections as of a revision, and with their blocks where asked for.

    Whenever the user's fence tells this `stamp`, they are the graph's. It belongs to what is in the
    same entry, so entries are exchanged and never changed. What is not `lasting` becomes wrong
    without a change in the graph; it gets no stamp, and is not cached. `erased_in` is the history
    of this database in which the former users of these ids are erased; empty if no id was issued
    anew.
    """

    revision: int
    viewer: Viewer
    erased_in: str = ""
    stamp: str | None = field(default=None, compare=False)
    lasting: bool = field(default=True, compare=False)

    def suffices(self, *, with_blocked: bool) -> bool:
        """Whether there is all that is wanted."""
        return self.viewer.blocked_ids is not None or not with_blocked


class SharedConnections:
    """Connections in Redis. Without it nothing is found there, and nothing kept."""

    def __init__(self, redis: OptionalRedis, *, keys: Sequence[bytes]) -> None:
        """Sign with the first of the keys; believe what any of them has signed."""
        self._redis = redis
        self._keys = [hmac.digest(key, _PURPOSE, "sha256") for key in keys]

    def get(self, user_id: int) -> CachedViewer | None:
        """Return a user's entry, if there is one and it is genuine."""
        try:
            entry = self._redis.read(_key(user_id), most_bytes=_MOST_SHARED_BYTES)
        except RedisAwayError:
            return None
        mac, payload = entry[:_MAC_BYTES], entry[_MAC_BYTES:]
        if len(entry) > _MOST_SHARED_BYTES or not self._is_genuine(mac, payload):
            return None
        cached = _decoded(payload)
        return cached if cached.viewer.user_id == user_id else None

    def keep(self, cached: CachedViewer) -> None:
        """Keep a user's entry, unless it is too large."""
        payload = _encoded(cached)
        if len(payload) + _MAC_BYTES <= _MOST_SHARED_BYTES:
            entry = _mac(self._keys[0], payload) + payload
            self._redis.write(_key(cached.viewer.user_id), entry, seconds=_SHARED_SECONDS)

    def _is_genuine(self, mac: bytes, payload: bytes) -> bool:
        return any(hmac.compare_digest(mac, _mac(key, payload)) for key in self._keys)


class ConnectionsCache:
    """The connections of the users who were asked for last. Thread-safe."""

    def __init__(
        self,
        most_bytes: int,
        *,
        shared: SharedConnections | None,
        metrics: FeedMetrics,
        has_fences: bool = False,
    ) -> None:
        """Look behind this process in what is `shared`; with fences, its stamps are proofs."""
        self._here: LRUCache[int, CachedViewer] = LRUCache(most_bytes, getsizeof=_size)
        self._lock = Lock()
        self._shared = shared
        self._metrics = metrics
        self._has_fences = has_fences
        self.registered_in = ""
        """The history of the keeper of fences that the graph has last told this process to be
        registered; empty for none."""

    def get(self, user_id: int, *, with_blocked: bool = False) -> CachedViewer | None:
        """Return a user's connections as of some time, with blocks if wanted, or None."""
        with self._lock:
            cached = self._here.get(user_id)
        if cached is not None and cached.suffices(with_blocked=with_blocked):
            self._metrics.cache_hits.inc()
            return cached
        if (
            self._shared is not None
            and (cached := self._shared.get(user_id)) is not None
            and cached.suffices(with_blocked=with_blocked)
            and self._is_credible(cached)
        ):
            self._metrics.cache_hits_shared.inc()
            self.keep_here(cached)
            return cached
        self._metrics.cache_misses.inc()
        return None

    def get_here(
        self, user_ids: Collection[int], *, with_blocked: bool = False
    ) -> dict[int, CachedViewer]:
        """Return those of many users that this process has, with blocks if wanted.

        Redis would be asked about each of the others in turn, and the graph answers for a hundred
        at once.
        """
        with self._lock:
            all_cached = {user_id: self._here.get(user_id) for user_id in user_ids}
        found = {
            user_id: cached
            for user_id, cached in all_cached.items()
            if cached is not None and cached.suffices(with_blocked=with_blocked)
        }
        self._metrics.cache_hits.inc(len(found))
        self._metrics.cache_misses.inc(len(all_cached) - len(found))
        return found

    def keep(self, current: CachedViewer) -> None:
        """Keep what the graph has just said of a user."""
        self.keep_here(current)
        if self._shared is not None:
            self._shared.keep(current)

    def keep_here(self, current: CachedViewer) -> None:
        """Keep an entry in this process alone.

        Answers may arrive out of order. An older one does no harm, it only costs a second read. The
        higher revision need not be the newer one: a restored graph has lower ones.
        """
        if _size(current) <= self._here.maxsize:
            with self._lock:
                self._here[current.viewer.user_id] = current

    def _is_credible(self, cached: CachedViewer) -> bool:
        """Whether the keeper that has stamped an entry of another process is still registered.

        One that did not answer may have been forgotten, and its fences stayed as they were. One in
        another history may have again what it had erased, which only a whole answer tells.
        """
        if not self._has_fences or cached.stamp is None:
            return True
        return history_of(cached.stamp) == self.registered_in


def _key(user_id: int) -> str:
    return f"connections:{user_id}"


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")


def _encoded(cached: CachedViewer) -> bytes:
    viewer = cached.viewer
    numbers = (viewer.user_id, cached.revision, int(viewer.is_suspended))
    stamps = (cached.stamp or "", cached.erased_in)
    return "\n".join((*map(str, numbers), *stamps, *_texts(viewer))).encode()


def _decoded(payload: bytes) -> CachedViewer:
    """Return what `_encoded` has made, and only that: it must be known to be genuine."""
    user_id, revision, is_suspended, stamp, erased_in, *texts = payload.decode().split("\n")
    connected, reconnected, own, peer, blocked = texts
    viewer = Viewer(
        user_id=int(user_id),
        connected_ids=connected,
        reconnected_ids=reconnected,
        own_revisions=own,
        peer_revisions=peer,
        blocked_ids=None if blocked == _NOT_ASKED else blocked,
        is_suspended=is_suspended == "1",
    )
    return CachedViewer(
        revision=int(revision), viewer=viewer, stamp=stamp or None, erased_in=erased_in
    )


def _texts(viewer: Viewer) -> tuple[str, str, str, str, str]:
    return (
        viewer.connected_ids,
        viewer.reconnected_ids,
        viewer.own_revisions,
        viewer.peer_revisions,
        _NOT_ASKED if viewer.blocked_ids is None else viewer.blocked_ids,
    )


def _size(cached: CachedViewer) -> int:
    return sum(map(len, _texts(cached.viewer))) + _ENTRY_BYTES
