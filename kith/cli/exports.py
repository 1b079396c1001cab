"""Connections and single users out of the services into files."""

import csv
from datetime import UTC
from typing import TextIO

from google.protobuf.json_format import MessageToJson

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


def export_user(user_id: int, kith: KithClient, out: TextIO) -> None:
    """Write everything that feed_service stores of a person, one JSON object in each line."""
    request = feed_pb2.ExportUserRequest(user_id=user_id)
    for chunk in resumed(kith.feed.ExportUser, request):
        for section, items in chunk.ListFields():
            if section.name != "cursor":
                out.writelines(
                    f'{{"{section.name}": {MessageToJson(item, indent=None)}}}\n' for item in items
                )
