"""Erasing people from both services."""

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC

from rich.console import Console

from kith.cli.clients import sentence
from kith.cli.documents import CURSOR
from kith.cli.terminal import CommandError, UsageError
from kith.client import KithClient, items, resumed
from kith.errors.v1 import errors_pb2
from kith.exceptions import AppException, UnauthorizedError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_TIMEOUT_SECONDS = 600
_PAGE = 500


def erase_users(
    user_ids: Sequence[int], kith: KithClient, console: Console, *, is_agreed: bool
) -> None:
    """Erase people one after the other, and stop at the first who cannot be erased.

    Unless it `is_agreed`, this shows what there is and asks at the terminal. Raises UsageError when
    there is no terminal, CommandError when the answer is no or who is left when it stops.
    """
    if not is_agreed:
        _ask(user_ids, kith, console)
    for count, user_id in enumerate(user_ids, start=1):
        try:
            _erase(user_id, kith, console)
        except CommandError as error:
            left = " ".join(map(str, user_ids[count:]))
            raise CommandError(f"{error}; not tried: {left}" if left else str(error)) from error


def print_erasure(user_id: int, kith: KithClient, console: Console) -> None:
    """Print what there is of a person, and erase nothing."""
    counts = _counts(user_id, kith)
    listing = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    console.print(f"Person {user_id} has {listing or 'no data'}.", highlight=False, soft_wrap=True)


def _erase(user_id: int, kith: KithClient, console: Console) -> None:
    """Erase a person, first from the graph, which hides them from all others at once."""
    try:
        erased = kith.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=user_id))
    except AppException as error:
        raise CommandError(f"person {user_id} is not erased: {sentence(error)}") from error
    try:
        answer = kith.feed.DeleteUser(
            feed_pb2.DeleteUserRequest(user_id=user_id), timeout=_TIMEOUT_SECONDS
        )
    except AppException as error:
        raise CommandError(
            f"person {user_id} is erased from graph_service, and not or in part from feed_service; "
            f"repeat the command: {sentence(error)}"
        ) from error
    console.print(
        f"Person {user_id} is erased; {erased.removed_connection_count:,} connections ended.",
        highlight=False,
    )
    for kept in answer.kept:
        what = f"comment {kept.comment_id} on post" if kept.comment_id else "post"
        ends = kept.hold_expire_time.ToDatetime(UTC)
        console.print(
            f"A hold keeps {what} {kept.post.post_id} of person {kept.post.author_id} until"
            f" {ends:%Y-%m-%d %H:%M} UTC.",
            highlight=False,
            soft_wrap=True,
        )


def _ask(user_ids: Sequence[int], kith: KithClient, console: Console) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for confirmation: pass --yes")
    for user_id in user_ids:
        print_erasure(user_id, kith, console)
    [first, *others] = user_ids
    who = f"these {len(user_ids)} people" if others else f"person {first}"
    try:
        answer = console.input(f"Erase {who} permanently? (y/N) ", markup=False)
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was erased")


def _counts(user_id: int, kith: KithClient) -> Counter[str]:
    """Return how many there are of what in both services; each item is read to be counted."""
    counted = kith.graph.CountConnections(graph_pb2.CountConnectionsRequest(user_ids=[user_id]))
    counts = Counter({"connections": counted.counts[0].connection_count})
    try:
        _count_pairs(user_id, kith, counts)
    except UnauthorizedError as error:
        if error.reason != errors_pb2.ERROR_REASON_USER_SUSPENDED:
            raise
        # No call may ask for them while there is one.
        counts["suspension"] += 1
    for chunk in resumed(kith.feed.ExportUser, feed_pb2.ExportUserRequest(user_id=user_id)):
        for field, values in chunk.ListFields():
            if field.name != CURSOR:
                counts[field.name.replace("_", " ")] += len(values) if field.is_repeated else 1
    return counts


def _count_pairs(user_id: int, kith: KithClient, counts: Counter[str]) -> None:
    """Count the user's open requests and blocks."""
    graph = kith.graph
    for direction in (graph_pb2.REQUEST_DIRECTION_INCOMING, graph_pb2.REQUEST_DIRECTION_OUTGOING):
        asked = graph_pb2.ListConnectionRequestsRequest(
            user_id=user_id, direction=direction, page_size=_PAGE
        )
        listed = items(graph.ListConnectionRequests, asked, lambda page: page.connections)
        counts["open requests"] += sum(1 for _ in listed)
    blocks = graph_pb2.ListBlockedUsersRequest(user_id=user_id, page_size=_PAGE)
    blocked = items(graph.ListBlockedUsers, blocks, lambda page: page.connections)
    counts["blocked people"] += sum(1 for _ in blocked)
