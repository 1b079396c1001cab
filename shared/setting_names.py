"""The names of all settings of Kith, and which names in an environment only look like one."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from kith.environment import is_service_link

# No process reads all of them: graph_service cannot know what feed_service reads, and one
# environment is often given to both. So they are listed here, and a test compares the list with
# what each process reads.
NAMES: Final = frozenset(
    {
        "ALLOW_PLAINTEXT",
        "ALLOW_UNAUTHENTICATED",
        "AUDITOR_DECISIONS_PER_SECOND",
        "AUDITOR_HOST",
        "AUDITOR_METRICS_PORT",
        "AUDITOR_PORT",
        "AUTH_AUDIENCE",
        "AUTH_ISSUER",
        "AUTH_JWKS",
        "AUTH_LEEWAY_SECONDS",
        "AUTH_ON_BEHALF",
        "AUTH_SERVICES",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "COMPRESS_FROM_BYTES",
        "CONNECTIONS_CACHE_BYTES",
        "CONNECTION_EVENTS_DAYS",
        "CONTENT_EVENTS_DAYS",
        "DATABASE_MAX_OVERFLOW",
        "DATABASE_POOL_SIZE",
        "DATABASE_POOL_TIMEOUT_SECONDS",
        "DATABASE_PREPARE",
        "DATABASE_STATEMENT_TIMEOUT_SECONDS",
        "DEFAULT_DEADLINE_SECONDS",
        "DIGEST_MAX_POSTS",
        "DIGEST_MIN_IMPORTANCE",
        "DIGEST_POSTS_PER_AUTHOR_PER_DAY",
        "DIGEST_WEEK_START",
        "DRAIN_SECONDS",
        "FEED_DATABASE_URL",
        "FEED_HOST",
        "FEED_HUB_DEGREE",
        "FEED_HUB_SCAN_ROWS",
        "FEED_LAYOUT",
        "FEED_MAX_WATCHERS",
        "FEED_METRICS_PORT",
        "FEED_PORT",
        "FEED_QUEUE",
        "FEED_REPLICA_URLS",
        "FEED_TARGET",
        "FEED_THREADS",
        "FEED_WORKERS",
        "FENCE_KEEPERS",
        "FENCES_PORT",
        "GATEWAY_ADMIN_PORT",
        "GATEWAY_HOST",
        "GATEWAY_METRICS_PORT",
        "GATEWAY_ORIGINS",
        "GATEWAY_PAGES",
        "GATEWAY_PORT",
        "GATEWAY_TIMEOUT_SECONDS",
        "GATEWAY_WORKERS",
        "GRACE_SECONDS",
        "GRAPH_DATABASE_URL",
        "GRAPH_HOST",
        "GRAPH_MAX_WATCHERS",
        "GRAPH_METRICS_PORT",
        "GRAPH_PORT",
        "GRAPH_QUEUE",
        "GRAPH_READY_GRACE_SECONDS",
        "GRAPH_REPLICA_URLS",
        "GRAPH_TARGET",
        "GRAPH_THREADS",
        "GRAPH_TIMEOUT_SECONDS",
        "GRAPH_WORKERS",
        "KITH_DATA_DIR",
        "KITH_PHOTOS",
        "KITH_SAMPLE_PEOPLE",
        "LOG_LEVEL",
        "MAX_BLOCKS",
        "MAX_CONNECTIONS",
        "MAX_CONNECTION_AGE_SECONDS",
        "MAX_MESSAGE_BYTES",
        "MAX_OPEN_REQUESTS",
        "MAX_TAGS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_TRACES_SAMPLER_ARG",
        "PAGE_TOKEN_KEYS",
        "PHOTO_URL_SECONDS",
        "PURGE_DAYS",
        "RATE_LIMITS",
        "RATE_LIMIT_BLOCKS",
        "RATE_LIMIT_CALLERS",
        "RATE_LIMIT_COMMENTS",
        "RATE_LIMIT_DIGESTS",
        "RATE_LIMIT_FEEDS",
        "RATE_LIMIT_HEAVY",
        "RATE_LIMIT_OTHERS",
        "RATE_LIMIT_POSTS",
        "RATE_LIMIT_REQUESTS",
        "RATE_LIMIT_TAGS",
        "RATE_LIMIT_UPLOADS",
        "REDIS_ENABLED",
        "REDIS_TIMEOUT_SECONDS",
        "REDIS_URL",
        "REFLECTION",
        "REPLICA_MAX_LAG_SECONDS",
        "REQUEST_PAUSE_DAYS",
        "S3_ADDRESSING_STYLE",
        "S3_BUCKET",
        "S3_ENDPOINT_URL",
        "S3_REGION",
        "TARGET_CA_FILE",
        "TARGET_CERT_FILE",
        "TARGET_KEY_FILE",
        "TARGET_TOKEN_FILE",
        "TLS_CERT_FILE",
        "TLS_CLIENT_CA_FILE",
        "TLS_KEY_FILE",
        "WATCH_HEARTBEAT_SECONDS",
        "WATCH_SEND_SECONDS",
        "WORKER_MAX_MEMORY_BYTES",
    }
)
# Variables of other programs do not begin so.
_OURS: Final = ("AUDITOR_", "GRAPH_", "FEED_", "GATEWAY_", "RATE_LIMIT_")
# One letter of twelve may be wrong. At 0.8 the common DATABASE_URL would be taken for one of ours.
_CUTOFF: Final = 0.85
# What Kubernetes tells every pod of the services in its namespace, unless the pod forbids it.
_SERVICE_LINK: Final = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
# OpenSSL's, and one letter from TLS_CERT_FILE.
_OF_OTHERS: Final = frozenset({"SSL_CERT_FILE"})


def unknown_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that look like a setting and are none, with the setting that is meant.

    That is empty where no setting has a similar name.
    """
    found = {}
    for name, value in sorted(variables.items()):
        if name in NAMES | _OF_OTHERS or not value.strip():
            continue
        if _SERVICE_LINK.fullmatch(name) or is_service_link(value):
            continue
        meant = "".join(get_close_matches(name.upper(), NAMES, n=1, cutoff=_CUTOFF))
        if meant or name.startswith(_OURS):
            found[name] = meant
    return found
