"""Suspending people, bringing them back, and printing who is suspended."""

import uuid
from datetime import UTC

from rich.console import Console

from kith.client import KithClient, items
from kith.graph.v1 import graph_pb2

_PAGE = 500


def suspend_user(user_id: int, kith: KithClient, console: Console, *, reason: str) -> None:
    """Suspend a person; one who is suspended already gets the reason alone."""
    kith.graph.SuspendUser(
        graph_pb2.SuspendUserRequest(user_id=user_id, reason=reason, request_id=str(uuid.uuid4()))
    )
    console.print(f"Person {user_id} is suspended; nothing is deleted.", highlight=False)


def restore_user(user_id: int, kith: KithClient, console: Console) -> None:
    """End the suspension of a person, if there is one."""
    answer = kith.graph.RestoreUser(
        graph_pb2.RestoreUserRequest(user_id=user_id, request_id=str(uuid.uuid4()))
    )
    outcome = "is restored" if answer.restored else "was not suspended"
    console.print(f"Person {user_id} {outcome}.", highlight=False)


def print_suspended(kith: KithClient, console: Console) -> None:
    """Print who is suspended, since when and why, last suspended first."""
    request = graph_pb2.ListSuspendedUsersRequest(page_size=_PAGE)
    listed = items(kith.graph.ListSuspendedUsers, request, lambda page: page.suspended_users)
    for user in listed:
        since = user.suspend_time.ToDatetime(UTC).astimezone()
        line = f"person {user.user_id}  since {since:%Y-%m-%d %H:%M}  {user.reason}"
        console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)
