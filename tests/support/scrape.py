"""Reading the metrics of a running server as Prometheus does."""

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from shared.server.server import RunningServer


@dataclass(frozen=True)
class Scrape:
    """The samples of one GET /metrics."""

    text: str

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with a name and at least these labels."""
        # Alone: the parser takes ten milliseconds for a whole page, and tests read it in loops.
        own = "".join(line for line in self.text.splitlines(keepends=True) if line.startswith(name))
        return sum(
            sample.value
            for family in text_string_to_metric_families(own)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def has(self, name: str) -> bool:
        """Whether there is a sample with a name."""
        return f"\n{name} " in self.text


def scrape(server: RunningServer) -> Scrape:
    """Read the metrics of a server."""
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as response:
        return Scrape(response.read().decode())
