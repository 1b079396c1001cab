"""What the use cases of feed_service have in common."""

from collections.abc import Container
from dataclasses import dataclass

from feed_service.graph_client import GraphClient
from feed_service.layouts import Layout
from feed_service.metrics import FeedMetrics
from shared.api.paging import PageTokens
from shared.database.database import Database
from shared.database.reader import Reader
from shared.database.replicas import Reads


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What use cases share: databases, the client of the graph, page tokens and metrics.

    `database` and `reader` are the primary, `reads` is a replica where one may answer, and `layout`
    is the form of the statements that the database takes. `suspended` are the suspended users of a
    second ago.
    """

    database: Database
    reader: Reader
    reads: Reads
    graph: GraphClient
    layout: Layout
    tokens: PageTokens
    metrics: FeedMetrics
    suspended: Container[int]
