"""What calls wait for is a metric."""

from prometheus_client import CollectorRegistry

from shared.metrics import Usage
from shared.server.metrics import UsageMetrics


def test_slots_and_connections_in_use_are_those_of_the_moment_of_the_scrape() -> None:
    registry = CollectorRegistry()
    in_use = [1]

    def usage() -> Usage:
        return Usage(in_use=in_use[-1], idle=0, waiting=0, limit=8)

    UsageMetrics(registry, slots=lambda: {"ordinary": usage()}, connections={"calls": usage})
    seen = []
    for number in (3, 2):
        in_use.append(number)
        seen.append(registry.get_sample_value("call_slots_in_use", {"weight": "ordinary"}))
        seen.append(registry.get_sample_value("db_connections_in_use", {"pool": "calls"}))

    assert seen == [3, 3, 2, 2]
