"""How one service listens, authenticates callers, stops and logs."""

import os
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec

from kith.environment import Environment
from kith.tls.certificates import CertificateFiles
from kith.tls.settings import certificate_files, is_loopback
from shared.access.settings import AuthSettings, auth_settings

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How one service listens, authenticates callers, stops and logs."""

    host: str
    port: int
    metrics_port: int
    workers: int
    threads: int
    queue: int
    usual_deadline: timedelta
    drain: timedelta
    grace: timedelta
    max_connection_age: timedelta
    max_message_bytes: int
    compress_from_bytes: int
    """From how many bytes on answers are compressed; 0 for never: COMPRESS_FROM_BYTES."""
    max_memory_bytes: int
    """How much a worker may have in RAM before it is replaced: WORKER_MAX_MEMORY_BYTES."""
    log_level: str
    trace_collector: str
    """Where spans are sent to; empty for nowhere: OTEL_EXPORTER_OTLP_ENDPOINT."""
    certificates: CertificateFiles | None
    """TLS_CERT_FILE, without which nothing is encrypted, TLS_KEY_FILE and TLS_CLIENT_CA_FILE."""
    auth: AuthSettings | None
    """Who callers may be; None when authentication is not enabled."""
    reflection: bool
    """Whether the contracts can be asked for: REFLECTION."""

    @classmethod
    def read(
        cls, environment: Environment, prefix: str, *, port: int, metrics_port: int
    ) -> "ServerSettings":
        """Read the variables of one service, whose names start with `prefix`."""
        mebibyte = 1024 * 1024
        files = _server_certificate_files(environment)
        auth = auth_settings(environment, files)
        settings = cls(
            host=environment.host(f"{prefix}_HOST", "127.0.0.1"),
            port=environment.port(f"{prefix}_PORT", port),
            metrics_port=environment.port(f"{prefix}_METRICS_PORT", metrics_port),
            workers=environment.integer(
                f"{prefix}_WORKERS", os.cpu_count() or 1, minimum=1, maximum=256
            ),
            threads=environment.integer(f"{prefix}_THREADS", 8, minimum=1, maximum=256),
            queue=environment.integer(f"{prefix}_QUEUE", 64, minimum=0, maximum=10_000),
            usual_deadline=environment.duration(
                "DEFAULT_DEADLINE_SECONDS", 15, minimum=0.1, maximum=3600
            ),
            drain=environment.duration("DRAIN_SECONDS", 0.5, minimum=0, maximum=600),
            grace=environment.duration("GRACE_SECONDS", 20, minimum=0, maximum=600),
            max_connection_age=environment.duration(
                "MAX_CONNECTION_AGE_SECONDS", 10, minimum=0, maximum=86_400
            ),
            max_message_bytes=environment.integer(
                "MAX_MESSAGE_BYTES", 10 * mebibyte, minimum=mebibyte, maximum=64 * mebibyte
            ),
            compress_from_bytes=environment.integer(
                "COMPRESS_FROM_BYTES", 0, minimum=0, maximum=64 * mebibyte
            ),
            max_memory_bytes=environment.integer(
                "WORKER_MAX_MEMORY_BYTES",
                1024 * mebibyte,
                minimum=0,
                maximum=1024 * 1024 * mebibyte,
            ),
            log_level=environment.choice("LOG_LEVEL", "INFO", choices=_LOG_LEVELS),
            certificates=files,
            auth=auth,
            trace_collector=_trace_collector(environment, prefix),
            reflection=environment.switch("REFLECTION", default=auth is None),
        )
        settings._check_exposure(environment, prefix)
        return settings

    def _check_exposure(self, environment: Environment, prefix: str) -> None:
        """Refuse to listen to strangers, unless a setting says that something else is in front."""
        may_know_nobody = environment.switch("ALLOW_UNAUTHENTICATED", default=False)
        may_be_overheard = environment.switch("ALLOW_PLAINTEXT", default=False)
        if is_loopback(self.host):
            return
        if self.auth is None and not may_know_nobody:
            environment.problem(
                f"{prefix}_HOST",
                f"is {self.host}, which others can reach: set AUTH_JWKS or TLS_CLIENT_CA_FILE to "
                "authenticate callers, or ALLOW_UNAUTHENTICATED=on if something in front does",
            )
        if self.auth is not None and self.certificates is None and not may_be_overheard:
            environment.problem(
                f"{prefix}_HOST",
                f"is {self.host}, and tokens would arrive unencrypted: set TLS_CERT_FILE and "
                "TLS_KEY_FILE, or ALLOW_PLAINTEXT=on if something in front encrypts",
            )


def _trace_collector(environment: Environment, prefix: str) -> str:
    collector = environment.text("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    # Envoy sends its spans itself.
    if collector and prefix != "GATEWAY" and find_spec("opentelemetry") is None:
        environment.problem(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "needs the dependency group `tracing`: pip install --group tracing",
        )
    return collector


def _server_certificate_files(environment: Environment) -> CertificateFiles | None:
    files = certificate_files(
        environment, chain="TLS_CERT_FILE", key="TLS_KEY_FILE", authorities="TLS_CLIENT_CA_FILE"
    )
    if files.authorities and not files.chain:
        environment.problem("TLS_CLIENT_CA_FILE", "needs TLS_CERT_FILE and TLS_KEY_FILE")
    return files if files.chain else None
