"""The metrics of feed_service."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.metrics import LATENCY_BUCKETS

POSTS: Final = "posts_total"

GAUGES: Final = {POSTS: "Posts that are not deleted."}


class FeedMetrics:
    """Counters and latencies of what the feed's users do."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.feed_requests = Counter(
            "feed_requests_total", "Requested pages of feeds.", registry=registry
        )
        self.feed_latency = Histogram(
            "feed_latency_seconds",
            "Time to make one page of a feed.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.digest_requests = Counter(
            "digest_requests_total", "Requested weekly digests.", registry=registry
        )
        self.digest_latency = Histogram(
            "digest_latency_seconds",
            "Time to make one weekly digest.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.digests_claimed = Counter(
            "digests_claimed_total", "Digests that mailers have claimed.", registry=registry
        )
        self.digests_acknowledged = Counter(
            "digests_acknowledged_total",
            "Claimed digests that mailers have acknowledged, each once.",
            registry=registry,
        )
        self.post_creations = Counter("post_creations_total", "Posts published.", registry=registry)
        self.post_creation_latency = Histogram(
            "post_creation_latency_seconds",
            "Time to publish one post.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.post_deletions = Counter("post_deletions_total", "Posts deleted.", registry=registry)
        self.moderation_actions = Counter(
            "moderation_actions_total",
            "Decisions of SetModeration, by the state that they set.",
            ["state"],
            registry=registry,
        )
        self.s3_latency = Histogram(
            "s3_operation_latency_seconds",
            "Time of one call to the object store.",
            ["operation"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.s3_errors = Counter(
            "s3_operation_errors_total",
            "Failed calls to the object store.",
            ["operation"],
            registry=registry,
        )
        lookups = Counter(
            "connections_cache_lookups_total",
            "Lookups of connected ids: in the process (hit), in Redis (shared), or neither (miss).",
            ["result"],
            registry=registry,
        )
        self.cache_hits = lookups.labels("hit")
        self.cache_hits_shared = lookups.labels("shared")
        self.cache_misses = lookups.labels("miss")
        self.changes_met = Counter(
            "feed_connection_changes_met_total",
            "Reads during which the viewer's connections changed.",
            registry=registry,
        )
        confirmations = Counter(
            "connections_confirmations_total",
            "Reads by what confirmed the cached connections: fence, without a call; or the graph, "
            "because they had no_stamp, the fence was open or had changed, or suspensions had. "
            "None without FENCES_PORT.",
            ["by"],
            registry=registry,
        )
        self.confirmations = {
            by: confirmations.labels(by)
            for by in ("fence", "no_stamp", "open", "changed", "suspensions")
        }
        self.fence_claims = Counter(
            "fence_claims_total",
            "How often another graph than before has claimed the fences, or the same one after a "
            "restart or failover of its database.",
            registry=registry,
        )
        self.followed_at = Gauge(
            "connections_followed_timestamp_seconds",
            "When this process last received a message of WatchConnections. One process at a time "
            "receives them, so use the maximum.",
            registry=registry,
            multiprocess_mode="max",
        )
        self.tags_ended = Counter(
            "tags_ended_total",
            "Tags that were recorded as ended with a connection.",
            registry=registry,
        )
