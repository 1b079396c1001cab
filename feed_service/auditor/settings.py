"""The settings of the auditor."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from kith.client.settings import FEED, TargetSettings
from kith.environment import Environment
from kith.tls.certificates import CertificateFiles
from kith.tls.settings import certificate_files
from shared.database.settings import DatabaseSettings


@dataclass(frozen=True, kw_only=True)
class AuditorSettings:
    """Everything that can be set, from `AUDITOR_*` and the variables that the services share."""

    host: str
    """Where health and metrics are served: AUDITOR_HOST."""
    port: int
    """The port of health: AUDITOR_PORT."""
    metrics_port: int
    """The port of metrics: AUDITOR_METRICS_PORT."""
    certificates: CertificateFiles | None
    """What the port of health shows: TLS_CERT_FILE, TLS_KEY_FILE and TLS_CLIENT_CA_FILE."""
    decisions_per_second: float
    """How much it decides, as an average: AUDITOR_DECISIONS_PER_SECOND."""
    graph_database: DatabaseSettings
    """The primary of the graph, by a role that may read: GRAPH_DATABASE_URL."""
    feed_database: DatabaseSettings
    """The primary of the feed, by a role that may read: FEED_DATABASE_URL."""
    feed_target: str
    """Where feed_service is, as a gRPC target: FEED_TARGET."""
    feed_access: TargetSettings
    """What feed_service is shown: TARGET_CA_FILE and its companions."""
    drain: timedelta
    """How long health says NOT_SERVING before the process ends: DRAIN_SECONDS."""
    log_level: str

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "AuditorSettings":
        """Read the environment; raises SettingsError naming every variable that cannot be used."""
        environment = Environment(variables)
        settings = cls.read_from(environment)
        environment.check()
        return settings

    @classmethod
    def read_from(cls, environment: Environment) -> "AuditorSettings":
        """Read the variables; what cannot be used is noted in the environment."""
        layout = environment.choice("FEED_LAYOUT", "SINGLE", choices=("SINGLE", "DISTRIBUTED"))
        if layout == "DISTRIBUTED":
            environment.problem(
                "FEED_LAYOUT",
                "must be single for the auditor: a distributed database has no snapshot that all "
                "of its nodes share, so nothing read there is the state of one moment",
            )
        target = environment.text("FEED_TARGET", FEED)
        files = certificate_files(
            environment, chain="TLS_CERT_FILE", key="TLS_KEY_FILE", authorities="TLS_CLIENT_CA_FILE"
        )
        return cls(
            host=environment.host("AUDITOR_HOST", "127.0.0.1"),
            port=environment.port("AUDITOR_PORT", 50054),
            metrics_port=environment.port("AUDITOR_METRICS_PORT", 9104),
            certificates=files if files.chain else None,
            decisions_per_second=environment.number(
                "AUDITOR_DECISIONS_PER_SECOND", 50, minimum=0.1, maximum=100_000
            ),
            graph_database=DatabaseSettings.read(environment, "GRAPH"),
            feed_database=DatabaseSettings.read(environment, "FEED"),
            feed_target=target,
            feed_access=TargetSettings.read(environment, target),
            drain=environment.duration("DRAIN_SECONDS", 0.5, minimum=0, maximum=600),
            log_level=environment.choice(
                "LOG_LEVEL", "INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR")
            ),
        )
