"""A service that is not ready says in its log what is in the way."""

import pytest
import sqlalchemy

from graph_service.__main__ import build
from graph_service.settings import GraphSettings
from shared.server.server import RunningServer
from tests.support.pair import ENVIRONMENT, Cluster


def _failure(url: str, caplog: pytest.LogCaptureFixture) -> str:
    """Start a graph_service on a database, and return why it says that it is not ready."""
    settings = GraphSettings.read({**ENVIRONMENT, "GRAPH_DATABASE_URL": url})
    RunningServer(settings.server, build(settings, url)).stop()
    [record] = [record for record in caplog.records if record.message == "not ready"]
    failures: dict[str, str] = vars(record)["failures"]
    return failures["database"]


def test_a_missing_database_is_named(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    url = sqlalchemy.make_url(cluster.url("postgres")).set(database="nowhere")

    failure = _failure(url.render_as_string(hide_password=False), caplog)

    assert 'database "nowhere" does not exist' in failure


def test_a_refused_user_is_named(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    url = sqlalchemy.make_url(cluster.url("postgres")).set(username="nobody", password="secret")

    failure = _failure(url.render_as_string(hide_password=False), caplog)

    assert "nobody" in failure
    assert "secret" not in failure


def test_a_database_without_a_schema_says_what_to_run(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    failure = _failure(cluster.url("without_a_schema"), caplog)

    assert failure.startswith("the schema is at None")
    assert failure.endswith("run `kith migrate`")
