"""What people see, rendered for a terminal.

A text stands on lines of its own, so that one written from right to left turns nothing around.
"""

from collections.abc import Mapping
from datetime import UTC

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from shared.cli.clients import TIMEOUT_SECONDS, Clients
from shared.gen.kith.feed.v1 import feed_pb2
from shared.gen.kith.graph.v1 import graph_pb2


def print_feed(user_id: int, clients: Clients, console: Console, *, pages: int = 1) -> None:
    """Print the newest posts that a person may see."""
    names = _tag_names(user_id, clients)
    token = ""
    for number in range(1, pages + 1):
        page = clients.feed.GetFeed(
            feed_pb2.GetFeedRequest(user_id=user_id, page_token=token), timeout=TIMEOUT_SECONDS
        )
        console.rule(f"The feed of person {user_id}, page {number}")
        for post in page.posts:
            console.print(_heading(post, user_id, names), highlight=False)
            console.print(Padding(Text(post.body), (0, 0, 1, 4), expand=False))
        token = page.next_page_token
        if not token:
            console.print("That is all there is.")
            return
    console.print(f"There is more: kith feed {user_id} --pages {pages + 1}", highlight=False)


def print_connections(user_id: int, clients: Clients, console: Console) -> None:
    """Print everybody a person is connected with, newest first."""
    table = Table("person", "connected since")
    token = ""
    while True:
        page = clients.graph.ListConnections(
            graph_pb2.ListConnectionsRequest(user_id=user_id, page_size=500, page_token=token),
            timeout=TIMEOUT_SECONDS,
        )
        for connection in page.connections:
            table.add_row(str(connection.peer_id), _local(connection.connect_time))
        token = page.next_page_token
        if not token:
            break
    console.print(f"Person {user_id} has {table.row_count:,} connections.", highlight=False)
    if table.row_count:
        console.print(table)


def _heading(post: feed_pb2.Post, viewer_id: int, tag_names: Mapping[int, str]) -> Text:
    heading = Text(f"person {post.author_id}", style="bold")
    heading.append(f"  {_local(post.create_time)}", style="dim")
    if post.author_id == viewer_id:
        heading.append(f"  to {_audience(post.audience, tag_names)}", style="cyan")
    return heading


def _audience(audience: feed_pb2.Audience, tag_names: Mapping[int, str]) -> str:
    def named(tag_ids: list[int]) -> str:
        return ", ".join(tag_names.get(tag_id, f"tag {tag_id}") for tag_id in tag_ids)

    if audience.kind == feed_pb2.AUDIENCE_KIND_PRIVATE:
        return "nobody else"
    shown = "all connections"
    if audience.kind == feed_pb2.AUDIENCE_KIND_TAGS:
        shown = named(list(audience.tag_ids)) or "nobody: its tags were deleted"
    if audience.excluded_tag_ids:
        shown += f", but not {named(list(audience.excluded_tag_ids))}"
    return shown


def _tag_names(user_id: int, clients: Clients) -> dict[int, str]:
    response = clients.feed.ListTags(
        feed_pb2.ListTagsRequest(user_id=user_id, page_size=500), timeout=TIMEOUT_SECONDS
    )
    return {tag.tag_id: tag.name for tag in response.tags}


def _local(moment: Timestamp) -> str:
    return moment.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M")
