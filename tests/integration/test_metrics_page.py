"""docs/metrics.md has every metric that a service registers, as it is, and no other."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from feed_service.__main__ import build as build_feed
from feed_service.auditor.metrics import AuditorMetrics
from feed_service.settings import FeedSettings
from graph_service.__main__ import build as build_graph
from graph_service.settings import GraphSettings
from shared.processes.metrics import describe_processes, worker_deaths, worker_replacements
from shared.server.server import RunningServer
from tests.support.pair import ENVIRONMENT, Pair

_PAGE: Final = Path(__file__).parents[2] / "docs" / "metrics.md"
_ROW: Final = re.compile(r"^\| `(\w+)` \| (\w+) \| (\w+) \| ([^|]+) \|([^|]*)\| [^|]+ \|$")
_SERVICES: Final = {
    "graph": {"graph"},
    "feed": {"feed"},
    "both": {"graph", "feed"},
    "auditor": {"auditor"},
}
# The units that Prometheus has in the names of metrics; counts have a noun, which nothing checks.
_UNIT: Final = re.compile(r"_(seconds|bytes)(?:_total)?$")


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A metric, as the page and the registries know it."""

    services: frozenset[str]
    kind: str
    labels: frozenset[str]


def _families(registry: CollectorRegistry) -> Iterator[tuple[Metric, frozenset[str]]]:
    """Yield what a registry holds, each with the names of its labels.

    prometheus_client tells neither its collectors nor the labels of those without any values.
    """
    for collector in vars(registry)["_collector_to_names"]:
        describe = getattr(collector, "describe", collector.collect)
        for family in describe():
            labels = {label for sample in family.samples for label in sample.labels}
            yield family, frozenset(labels | {*vars(collector).get("_labelnames", ())})


def _of_workers() -> CollectorRegistry:
    """Return what a supervisor adds to the metrics of its workers."""
    registry = CollectorRegistry()
    worker_deaths(registry)
    worker_replacements(registry)
    describe_processes(registry, lambda: {"supervisor": os.getpid()})
    return registry


@pytest.fixture(scope="module")
def registered(pair: Pair) -> Mapping[str, _Known]:
    """The metrics of both services, with all that is configured which brings metrics."""
    environment = {
        **ENVIRONMENT,
        "REDIS_URL": "redis://127.0.0.1:1",
        "GRAPH_DATABASE_URL": pair.graph_url,
        "FEED_DATABASE_URL": pair.feed_url,
        "GRAPH_TARGET": pair.graph_server.address,
    }
    graph, feed = GraphSettings.read(environment), FeedSettings.read(environment)
    built = {
        "graph": (graph.server, build_graph(graph, graph.database.url)),
        "feed": (feed.server, build_feed(feed, feed.database.url)),
    }
    audited = CollectorRegistry()
    AuditorMetrics(audited, calls=["GetFeed"])
    registries = {"auditor": [audited]}
    found = defaultdict[str, list[tuple[str, str, frozenset[str]]]](list)
    for name, (settings, service) in built.items():
        RunningServer(settings, service).stop()
        registries[name] = [service.registry, _of_workers()]
    for name, each in registries.items():
        for registry in each:
            for family, labels in _families(registry):
                suffix = "_total" if family.type == "counter" else ""
                kind = "untyped" if family.type == "unknown" else family.type
                found[f"{family.name}{suffix}"].append((name, kind, labels))
    return {
        name: _Known(
            services=frozenset(service for service, _, _ in each),
            kind=" or ".join({kind for _, kind, _ in each}),
            labels=frozenset[str]().union(*(labels for _, _, labels in each)),
        )
        for name, each in found.items()
    }


def _documented() -> Iterator[tuple[str, _Known, str]]:
    """Yield the metrics of the page, and their units."""
    for line in _PAGE.read_text().splitlines():
        if line.startswith("| `"):
            row = _ROW.match(line)
            assert row, line
            name, service, kind, unit, labels = row.groups()
            yield (
                name,
                _Known(
                    services=frozenset(_SERVICES[service]),
                    kind=kind,
                    labels=frozenset(re.findall(r"`(\w+)`", labels)),
                ),
                unit,
            )


def test_the_page_and_the_services_have_the_same_metrics_of_the_same_kinds_and_labels(
    registered: Mapping[str, _Known],
) -> None:
    documented = [(name, known) for name, known, _ in _documented()]

    assert sorted(name for name, _ in documented) == sorted(registered)
    assert dict(documented) == registered


def test_the_page_tells_the_unit_that_a_name_has() -> None:
    units = {name: unit for name, _, unit in _documented()}

    assert {name: unit for name, unit in units.items() if unit in {"seconds", "bytes"}} == {
        name: unit[1] for name in units if (unit := _UNIT.search(name))
    }
