"""Reading what others posted, so that no one sees a post written after they were removed.

Reading connections first and posts second can show Bob the post that Alice wrote after removing
him: Zanzibar calls it the new-enemy problem (Pang et al., USENIX ATC 2019, section 2.2). Here the
read is optimistic. The posts are read with the ids at hand, and only afterwards the graph is asked
whether these are still the ids. If so, every post read was written before that moment, and the ids
were right at that moment, so the answer is right as of then. If not, the graph answers with the
newest ids, and the read is repeated with them. Where the statement itself can tell that the ids
are still the graph's, there is no question: see `fences`.

Comments are by people who need not be connected with the viewer, so their suspension does not
change the viewer's connections. The same question afterwards names the authors of the comments that
were read, and the read is repeated without those who are suspended.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from feed_service.connections_cache import CachedViewer
from feed_service.graph_client import GraphClient
from feed_service.viewers import Viewer
from kith.exceptions import AbortedError
from shared import deadlines
from shared.access.suspended import user_suspended
from shared.database.replicas import ANY_TIME

F = TypeVar("F")
T = TypeVar("T")

_MAX_REREADS = 2
# A page that would be short is worth more reads, but not the failure of the call.
_MOST_READS = 8
_ENOUGH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Validated(Generic[T]):
    """What was read, and which authors to keep in it.

    `unchanged_ids` is None when the connections did not change. A viewer whose connections change
    faster than they can be read gets the last read, limited to the authors with which the viewer
    is still connected by the same connection. `suspended_ids` are authors of comments in it that
    must not be shown; they are as rare.
    """

    value: T
    unchanged_ids: frozenset[int] | None = None
    suspended_ids: frozenset[int] = frozenset()

    @property
    def allows_all(self) -> bool:
        """Whether the posts of all authors may stay, as they nearly always may."""
        return self.unchanged_ids is None

    def allows(self, *, author_id: int, viewer_id: int) -> bool:
        """Whether an author's posts may stay in what was read."""
        return (
            self.unchanged_ids is None or author_id == viewer_id or author_id in self.unchanged_ids
        )


def safe_read(
    graph: GraphClient,
    viewer_id: int,
    read: Callable[[Viewer], T],
    *,
    authors: Callable[[T], Collection[int]] | None = None,
    commenters: Callable[[T], Collection[int]] | None = None,
    is_caller: bool = True,
) -> Validated[T]:
    """Run `read` with the viewer's connections until they do not change meanwhile, at most 3 times.

    With `authors`, which says whose posts are in what was read, it is read up to five times more as
    long as some of them would have to be dropped and there is time. So it is with `commenters`,
    which says whose comments are in it; the viewer then knows the ids of blocks, which change with
    the same revision, and those of suspended commenters beside them.

    Raises UnavailableError when graph_service cannot be reached: without it nothing is shown.
    Raises UnauthorizedError when the viewer is suspended, unless it is not the viewer who calls.
    """
    known = graph.cached(viewer_id, with_blocked=commenters is not None)
    hidden = frozenset[int]()
    reads = 0
    while True:
        read_with, viewer = known, known.viewer.without_comments_of(hidden)
        if graph.fences is None:
            value, stamp = read(viewer), None
        else:
            value, stamp = graph.fences.beside(viewer_id, partial(read, viewer))
        known, suspended = graph.current(
            read_with, among=() if commenters is None else commenters(value), stamp=stamp
        )
        if is_caller and known.viewer.is_suspended:
            raise user_suspended()
        reads += 1
        is_unchanged = known == read_with
        if is_unchanged and not suspended:
            return Validated(value=value)
        hidden |= suspended
        if reads <= _MAX_REREADS:
            continue
        unchanged_ids = None if is_unchanged else known.viewer.unchanged_since(read_with.viewer)
        keeps_all = not suspended and (
            authors is None
            or unchanged_ids is None
            or unchanged_ids.issuperset({*authors(value)} - {viewer_id})
        )
        if keeps_all or reads == _MOST_READS or deadlines.seconds_left() < _ENOUGH_SECONDS:
            return Validated(value=value, unchanged_ids=unchanged_ids, suspended_ids=suspended)


def steady_read(
    graph: GraphClient, viewer_id: int, read: Callable[[Viewer], T], *, is_caller: bool = True
) -> T:
    """Do the same for an answer from which single authors cannot be dropped, such as a count.

    Raises AbortedError, for the call to be repeated, when the connections kept changing.
    """
    result = safe_read(graph, viewer_id, read, is_caller=is_caller)
    _require_steady(result)
    return result.value


def steady_read_of_comments(
    graph: GraphClient,
    viewer_id: int,
    read: Callable[[Viewer], T],
    *,
    commenters: Callable[[T], Collection[int]],
) -> tuple[T, frozenset[int]]:
    """Do the same for comments; returns also the users whose comments must be dropped.

    There are any only if suspended people fill page after page. `commenters` are as in
    `safe_read`.
    """
    result = safe_read(graph, viewer_id, read, commenters=commenters)
    _require_steady(result)
    return result.value, result.suspended_ids


def _require_steady(result: Validated[T]) -> None:
    if result.unchanged_ids is not None:
        raise AbortedError("the user's connections keep changing; repeat the call")


def steady_read_of_many(
    graph: GraphClient,
    user_ids: Collection[int],
    taken: Callable[[Mapping[int, Viewer]], F],
    read: Callable[[F, float], T],
    *,
    commenters: Callable[[T], Collection[int]],
    with_blocked: bool = False,
) -> tuple[T, frozenset[int]]:
    """Run `read` with what is `taken` from the connections of many users, at most three times.

    `read` also gets the moment of which its snapshot must be, or of a later one. Only what was
    taken is compared afterwards: it tells a connection from a later one between the same two, so
    the other connections of these users may change meanwhile without another read. Returned are
    also those of the `commenters`, whose comments are in what was read, who are suspended.

    Raises AbortedError, for the call to be repeated, when what is taken kept changing.
    """
    known = graph.cached_all(user_ids, with_blocked=with_blocked)
    facts = _taken(known, taken)
    stamps: Mapping[int, str] = {}
    for _ in range(1 + _MAX_REREADS):
        since = max((each.viewer.since for each in known.values()), default=ANY_TIME)
        if graph.fences is None:
            value = read(facts, since)
        else:
            value, stamps = graph.fences.beside_all(known, partial(read, facts, since))
        read_with = (facts, _erased_in(known))
        known, suspended = graph.current_all(
            known, among=commenters(value), with_blocked=with_blocked, stamps=stamps
        )
        facts = _taken(known, taken)
        if (facts, _erased_in(known)) == read_with:
            return value, suspended
    raise AbortedError("the users' connections keep changing; repeat the call")


def _taken(known: Mapping[int, CachedViewer], taken: Callable[[Mapping[int, Viewer]], F]) -> F:
    return taken({user_id: each.viewer for user_id, each in known.items()})


def _erased_in(known: Mapping[int, CachedViewer]) -> Mapping[int, str]:
    return {user_id: each.erased_in for user_id, each in known.items()}


def read_of_author(
    graph: GraphClient, viewer_id: int, author_id: int, read: Callable[[Viewer], T | None]
) -> T | None:
    """Run `read` for something of one author's; None when it is not for this viewer by now.

    One's own is read without the graph, so that it can be reached when the graph cannot.
    """
    if author_id == viewer_id:
        return read(Viewer(user_id=viewer_id))
    result = safe_read(graph, viewer_id, read)
    return result.value if result.allows(author_id=author_id, viewer_id=viewer_id) else None
