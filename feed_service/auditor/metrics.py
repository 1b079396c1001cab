"""What the auditor counts."""

from collections.abc import Collection
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

AGREED: Final = "agreed"
VIOLATED: Final = "violated"
UNSETTLED: Final = "unsettled"

SHOWN: Final = "shown"
"""An item was shown that the viewer may not see."""
WITHHELD: Final = "withheld"
"""An item was not shown that the viewer sees."""
MISEXPLAINED: Final = "misexplained"
"""The author was told another clause than the one that decides."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class AuditorMetrics:
    """The metrics of an auditor, for some calls."""

    def __init__(self, registry: CollectorRegistry, *, calls: Collection[str]) -> None:
        self.decisions = Counter(
            "privacy_decisions_total",
            "Items of answers that the auditor compared with the rule, by outcome.",
            ("grpc_method", "outcome"),
            registry=registry,
        )
        self.violations = Counter(
            "privacy_violations_total",
            "Items of answers that are wrong by the rule at every moment of the call.",
            ("grpc_method", "kind"),
            registry=registry,
        )
        self.staleness = Histogram(
            "privacy_staleness_seconds",
            "Age of the state that an answer reflects, when it arrived; 0 for the state of then.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.failures = Counter(
            "privacy_audit_failures_total",
            "Rounds of the auditor that failed, by reason; nothing was decided by them.",
            ("reason",),
            registry=registry,
        )
        # Prometheus sees no increase in a series that begins with 1.
        for call in calls:
            for outcome in (AGREED, VIOLATED, UNSETTLED):
                self.decisions.labels(call, outcome).inc(0)
            for kind in (SHOWN, WITHHELD, MISEXPLAINED):
                self.violations.labels(call, kind).inc(0)
