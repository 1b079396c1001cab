"""Connections and single users out of the services into files."""

import csv
from datetime import UTC
from pathlib import Path
from typing import TextIO

from kith.cli.documents import Writer
from kith.cli.photos import fetch_photos
from kith.cli.rows import PAIR_COLUMNS
from kith.client import KithClient, resumed
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2


def export_connections(kith: KithClient, out: TextIO) -> None:
    """Write every connection once, in the form that `import_connections` reads."""
    writer = csv.writer(out)
    writer.writerow(PAIR_COLUMNS)
    request = graph_pb2.ExportConnectionsRequest()
    for chunk in resumed(kith.graph.ExportConnections, request):
        writer.writerows(
            (
                pair.first_user_id,
                pair.second_user_id,
                pair.connect_time.ToDatetime(UTC).isoformat(),
            )
            for pair in chunk.connections
        )


def export_user(user_id: int, kith: KithClient, out: TextIO, *, photos: Path | None) -> None:
    """Write everything that both services store of a person, as `documents` says.

    With a folder for `photos`, the pictures of the posts are stored there too, each under the last
    part of its key. Raises CommandError when a picture cannot be fetched.
    """
    document = Writer(out, user_id=user_id)
    in_graph = graph_pb2.ExportUserRequest(user_id=user_id)
    for connections in resumed(kith.graph.ExportUser, in_graph):
        document.add(connections)
    in_feed = feed_pb2.ExportUserRequest(user_id=user_id)
    for chunk in resumed(kith.feed.ExportUser, in_feed):
        document.add(chunk)
        if photos is not None:
            fetch_photos((photo for post in chunk.posts for photo in post.photos), photos)
    document.end()
