"""Loading the sample into running services, again and again if need be, with one result.

A load that was cut off is repeated from the start: connections, members and posts that are there
stay as they are, and tags are looked up first.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar

from rich.progress import Progress

from kith.cli.imports import (
    IMPORT_CHUNK,
    POSTS_CHUNK,
    ImportedPost,
    import_chunk,
    import_posts_chunk,
)
from kith.cli.rows import Pair
from kith.client import KithClient, items
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.timestamps import timestamp
from shared.cli.sample import Sample, SamplePost, SampleTag

T = TypeVar("T")
R = TypeVar("R")

_THREADS = 8
_WINDOW = 1_000


def is_empty(kith: KithClient) -> bool:
    """Whether there are no connections."""
    chunks = kith.graph.ExportConnections(graph_pb2.ExportConnectionsRequest())
    first = next(iter(chunks), None)
    chunks.cancel()
    return first is None


def load_sample(sample: Sample, kith: KithClient, progress: Progress) -> None:
    """Bring connections, then tags with their members, then posts to the services."""
    connections = progress.add_task("connections", total=len(sample.pairs))
    tags = progress.add_task("tags", total=len(sample.tags))
    posts = progress.add_task("posts", total=len(sample.posts))
    for start in range(0, len(sample.pairs), IMPORT_CHUNK):
        chunk = [Pair(*pair) for pair in sample.pairs[start : start + IMPORT_CHUNK]]
        import_chunk(kith, chunk)
        progress.advance(connections, len(chunk))

    def give_tags(owner: tuple[int, list[SampleTag]]) -> tuple[int, dict[str, int]]:
        owner_id, wanted = owner
        tag_ids = _tag_ids(kith, owner_id, wanted)
        progress.advance(tags)
        return owner_id, tag_ids

    tag_ids = dict(_in_parallel(give_tags, sample.tags.items()))

    now = datetime.now(UTC)
    imported = [
        _imported_post(number, post, tag_ids.get(post.author_id, {}), now)
        for number, post in enumerate(sample.posts)
    ]
    for start in range(0, len(imported), POSTS_CHUNK):
        import_posts_chunk(kith, imported[start : start + POSTS_CHUNK])
        progress.advance(posts, min(POSTS_CHUNK, len(imported) - start))


def _in_parallel(call: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield what `call` returns for each item, in order, with several calls under way at a time."""
    remaining = iter(items)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="client") as pool:
        try:
            while window := list(islice(remaining, _WINDOW)):
                yield from pool.map(call, window)
        finally:
            pool.shutdown(cancel_futures=True)


def _tag_ids(kith: KithClient, owner_id: int, wanted: list[SampleTag]) -> dict[str, int]:
    """Return the owner's tags by name, created where missing, with their members."""
    request = feed_pb2.ListTagsRequest(user_id=owner_id, page_size=500)
    listed = items(kith.feed.ListTags, request, lambda page: page.tags)
    ids = {tag.name: tag.tag_id for tag in listed}
    for tag in wanted:
        if tag.name not in ids:
            wanted_tag = feed_pb2.CreateTagRequest(user_id=owner_id, name=tag.name)
            ids[tag.name] = kith.feed.CreateTag(wanted_tag).tag.tag_id
        kith.feed.AddTagMembers(
            feed_pb2.AddTagMembersRequest(
                user_id=owner_id, tag_id=ids[tag.name], target_user_ids=tag.member_ids
            )
        )
    return ids


def _imported_post(
    number: int, post: SamplePost, tag_ids: Mapping[str, int], now: datetime
) -> ImportedPost:
    return ImportedPost(
        author_id=post.author_id,
        external_id=f"sample {number}",
        body=post.body,
        create_time=timestamp(now - post.age),
        audience=feed_pb2.Audience(
            kind=post.kind,
            tag_ids=[tag_ids[name] for name in post.tag_names],
            excluded_tag_ids=[tag_ids[name] for name in post.excluded_tag_names],
        ),
    )
