"""What people see, rendered for a terminal.

A text stands on lines of its own, so that one written from right to left turns nothing around.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kith.client import KithClient, items
from kith.client import pages as pages_of
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.timestamps import timestamp

_FILLED = feed_pb2.DIGEST_REASON_FILLED_PLACE
_CLAUSES = {
    feed_pb2.VISIBILITY_CLAUSE_AUTHOR: "it is their own.",
    feed_pb2.VISIBILITY_CLAUSE_AUDIENCE_ALL: "it is for all connections.",
    feed_pb2.VISIBILITY_CLAUSE_HAS_TAG: "they have the tag {tags}.",
    feed_pb2.VISIBILITY_CLAUSE_NOT_CONNECTED: "the two are not connected.",
    feed_pb2.VISIBILITY_CLAUSE_PRIVATE: "it is private.",
    feed_pb2.VISIBILITY_CLAUSE_EXCLUDED: "it is not for those with the tag {tags}.",
    feed_pb2.VISIBILITY_CLAUSE_NO_TAG: "they have none of its tags.",
    feed_pb2.VISIBILITY_CLAUSE_DELETED: "it is deleted.",
    feed_pb2.VISIBILITY_CLAUSE_MODERATED: "a service hides it.",
}


def print_feed(user_id: int, kith: KithClient, console: Console, *, pages: int = 1) -> None:
    """Print the newest posts that a person may see."""
    names = _tag_names(user_id, kith)
    asked = islice(pages_of(kith.feed.GetFeed, feed_pb2.GetFeedRequest(user_id=user_id)), pages)
    for number, page in enumerate(asked, 1):
        console.rule(f"The feed of person {user_id}, page {number}")
        for post in page.posts:
            _print_post(post, user_id, names, console)
        if not page.next_page_token:
            console.print("This is the end of the feed.")
            return
    console.print(f"Next page: kith feed {user_id} --pages {pages + 1}", highlight=False)


def print_digest(
    user_id: int, kith: KithClient, console: Console, *, week_of: date | None, zone: ZoneInfo
) -> None:
    """Print the digest of a week, by default of the one that is under way."""
    names = _tag_names(user_id, kith)
    request = feed_pb2.GetDigestRequest(user_id=user_id, time_zone=zone.key)
    if week_of is not None:
        request.week_of.CopyFrom(timestamp(datetime.combine(week_of, time(12), zone)))
    digest = kith.feed.GetDigest(request)
    first, last = (
        moment.ToDatetime(UTC).astimezone(zone) for moment in (digest.start_time, digest.end_time)
    )
    console.rule(f"The digest of person {user_id}, from {first:%Y-%m-%d} to {last:%Y-%m-%d}")
    for item in digest.items:
        reason = "filled a free slot" if item.reason == _FILLED else "among the most important"
        note = f"importance {item.importance:.1f}, {reason}"
        _print_post(item.post, user_id, names, console, note=note)
    nothing = "No posts to summarise."
    if week_of is None:
        # As on the first day of a week.
        nothing += f" --week-of {first - timedelta(days=1):%Y-%m-%d} shows the week before."
    console.print(digest.summary or nothing, highlight=False)
    state = "Its choice of posts is final." if digest.frozen else "The week is not over yet."
    console.print(f"{digest.left_out_count:,} posts were omitted. {state}", highlight=False)


def print_explanation(
    author_id: int, post_id: int, viewer_id: int, kith: KithClient, console: Console
) -> None:
    """Print whether and why a person sees a post."""
    answer = kith.feed.ExplainVisibility(
        feed_pb2.ExplainVisibilityRequest(user_id=author_id, post_id=post_id, viewer_id=viewer_id)
    )
    names = _tag_names(author_id, kith)
    tags = ", ".join(names.get(tag_id, "a deleted tag") for tag_id in answer.tag_ids)
    verb = "sees" if answer.visible else "does not see"
    console.print(
        f"Person {viewer_id} {verb} post {post_id} of person {author_id}: "
        + _CLAUSES[answer.clause].format(tags=tags),
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def print_connections(user_id: int, kith: KithClient, console: Console) -> None:
    """Print everybody a person is connected with, newest first."""
    table = Table("person", "connected since")
    request = graph_pb2.ListConnectionsRequest(user_id=user_id, page_size=500)
    for connection in items(kith.graph.ListConnections, request, lambda page: page.connections):
        table.add_row(str(connection.peer_id), _local(connection.connect_time))
    console.print(f"Person {user_id} has {table.row_count:,} connections.", highlight=False)
    if table.row_count:
        console.print(table)


def _print_post(
    post: feed_pb2.Post,
    viewer_id: int,
    tag_names: Mapping[int, str],
    console: Console,
    *,
    note: str = "",
) -> None:
    console.print(_heading(post, viewer_id, tag_names, note), highlight=False)
    if post.body:
        console.print(Padding(Text(post.body), (0, 0, 1, 4), expand=False))


def _heading(post: feed_pb2.Post, viewer_id: int, tag_names: Mapping[int, str], note: str) -> Text:
    heading = Text(f"person {post.author_id}", style="bold")
    heading.append(f"  {_local(post.create_time)}  post {post.post_id}", style="dim")
    if post.author_id == viewer_id:
        heading.append(f"  to {_audience(post.audience, tag_names)}", style="cyan")
    for count, what in ((len(post.photos), "photo"), (post.comment_count, "comment")):
        if count:
            heading.append(f"  {count:,} {what}{'s' if count > 1 else ''}", style="dim")
    if note:
        heading.append(f"  {note}", style="dim")
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


def _tag_names(user_id: int, kith: KithClient) -> dict[int, str]:
    request = feed_pb2.ListTagsRequest(user_id=user_id, page_size=500)
    tags = items(kith.feed.ListTags, request, lambda page: page.tags)
    return {tag.tag_id: tag.name for tag in tags}


def _local(moment: Timestamp) -> str:
    return moment.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M")
