"""The settings of graph_service."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.secret import page_token_keys
from shared.settings import DatabaseSettings, Environment, ServerSettings


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Everything that can be set, from `GRAPH_*` and the variables both services share."""

    server: ServerSettings
    database: DatabaseSettings
    page_token_keys: tuple[bytes, ...]
    """Keys that sign page tokens: PAGE_TOKEN_KEYS, newest first, separated by commas."""
    max_connections: int
    """How many connections a user may have: MAX_CONNECTIONS."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "GraphSettings":
        """Read the environment; raises SettingsError naming every variable that cannot be used."""
        environment = Environment(variables)
        database = DatabaseSettings.read(environment, "GRAPH")
        settings = cls(
            server=ServerSettings.read(environment, "GRAPH", port=50051, metrics_port=9101),
            database=database,
            page_token_keys=page_token_keys(environment, database),
            max_connections=environment.integer(
                "MAX_CONNECTIONS", 5_000, minimum=1, maximum=100_000
            ),
        )
        environment.check()
        return settings
