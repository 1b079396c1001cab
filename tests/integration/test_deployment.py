"""What dashboards and alerts look at is there, and what runs in containers does its work."""

import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg2
import pytest
import sqlalchemy
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from feed_service.auditor.metrics import AuditorMetrics
from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres, binaries
from shared.optional_redis import RedisMetrics
from shared.processes.metrics import worker_deaths
from shared.server.server import RunningServer
from tests.support import programs
from tests.support.deployment import DEPLOY, ROOT
from tests.support.gateway import running_gateway
from tests.support.pair import Databases, Pair
from tests.support.processes import Session, until
from tests.support.roles import make_roles, owner, serving
from tests.support.secured import secured_pair

_DASHBOARDS: Final = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
_RULES: Final = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
# Prometheus makes these itself.
_PROMETHEUS_OWN: Final = {"up", "ALERTS"}
_OF_HISTOGRAM: Final = ("_bucket", "_count", "_sum")
_NOT_A_NAME: Final = re.compile(
    r'"[^"]*"'  # texts
    r"|\{[^}]*\}|\[[^\]]*\]"  # matchers and ranges
    r"|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"  # labels
    r"|\b(?:and|or|unless|offset|bool)\b"
    r"|\b\d[\w.]*"  # numbers and durations
)
# What is not called as a function.
_NAME: Final = re.compile(r"[a-zA-Z_:][\w:]*\b(?!\s*\()")


def _rules() -> list[dict[str, Any]]:
    read = [yaml.safe_load(path.read_text()) for path in _RULES]
    return [rule for file in read for group in file["groups"] for rule in group["rules"]]


def _panels() -> Iterator[dict[str, Any]]:
    for path in _DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield panel
            yield from panel.get("panels", [])


def _dashboard_expressions() -> list[str]:
    """Return what the dashboards ask for, with values instead of Grafana's variables."""
    asked = [target["expr"] for panel in _panels() for target in panel.get("targets", [])]
    for path in _DASHBOARDS:
        asked += [
            annotation["expr"] for annotation in json.loads(path.read_text())["annotations"]["list"]
        ]
    return [
        expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$method", ".*")
        for expression in asked
    ]


def _names(expression: str) -> set[str]:
    """Return the metrics that an expression names."""
    rest = expression
    while (shorter := _NOT_A_NAME.sub(" ", rest)) != rest:
        rest = shorter
    return set(_NAME.findall(rest))


def _metrics_of(server: RunningServer) -> str:
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as response:
        return str(response.read().decode())


def _exposed(metrics: str) -> set[str]:
    """Return the names of the samples that there are, also of those that nothing has moved yet."""
    moved = set(re.findall(r"^(\w+)[{ ]", metrics, re.MULTILINE))
    announced = re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.MULTILINE)
    return moved | {
        f"{name}{ending}"
        for name, kind in announced
        for ending in (_OF_HISTOGRAM if kind == "histogram" else ("",))
    }


def _metrics_of_gateway(pair: Pair, folder: Path) -> str:
    graph, feed = pair.graph_server.address, pair.feed_server.address
    with running_gateway(folder, graph=graph, feed=feed) as gateway:
        gateway.call("GET", "/v1/users/17/feed")

        def shows_times() -> bool:
            return "envoy_http_downstream_rq_time_bucket" in page()

        def page() -> str:
            return gateway.call("GET", "/metrics", port=gateway.metrics_port).body.decode()

        # Envoy sums up its histograms every few seconds.
        until(shows_times)
        return page()


def test_every_metric_that_a_rule_or_a_dashboard_names_exists(pair: Pair, tmp_path: Path) -> None:
    rules = _rules()
    recorded = {rule["record"] for rule in rules if "record" in rule}
    pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")
    registry = CollectorRegistry()
    worker_deaths(registry)
    RedisMetrics(registry)
    AuditorMetrics(registry, calls=["GetFeed"])
    there = {
        *recorded,
        *_exposed(_metrics_of(pair.graph_server)),
        *_exposed(_metrics_of(pair.feed_server)),
        *_exposed(generate_latest(registry).decode()),
        *_exposed(_metrics_of_gateway(pair, tmp_path)),
        *_PROMETHEUS_OWN,
    }
    expressions = [*(rule["expr"] for rule in rules), *_dashboard_expressions()]

    for expression in expressions:
        named = _names(expression)
        assert named, expression
        assert not named - there, expression


def test_every_recorded_series_is_looked_at() -> None:
    expressions = [
        *(rule["expr"] for rule in _rules() if "alert" in rule),
        *_dashboard_expressions(),
    ]

    looked_at = {name for expression in expressions for name in _names(expression)}
    assert {rule["record"] for rule in _rules() if "record" in rule} <= looked_at


def test_prometheus_understands_what_the_dashboards_ask(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    rules = [
        {"record": f"panel_{number}", "expr": expression}
        for number, expression in enumerate(_dashboard_expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))

    checked = subprocess.run(
        [promtool, "check", "rules", path], check=False, capture_output=True, text=True
    )

    assert checked.returncode == 0, checked.stderr


def test_panels_say_what_they_show_and_do_not_cover_each_other() -> None:
    panels, taken = list(_panels()), set[tuple[int, int]]()

    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        panel_area = panel["gridPos"]
        squares = {
            (x, y)
            for x in range(panel_area["x"], panel_area["x"] + panel_area["w"])
            for y in range(panel_area["y"], panel_area["y"] + panel_area["h"])
        }
        assert panel["title"]
        assert not squares & taken, panel["title"]
        assert panel_area["x"] + panel_area["w"] <= 24
        taken |= squares


@pytest.mark.parametrize(("name", "status"), [("ready", 0), ("live", 0), ("misspelt", 1)])
def test_the_probe_of_the_image_tells_by_its_status_how_a_service_is(
    pair: Pair, name: str, status: int
) -> None:
    asked = _probe(pair.feed_server.address, name)

    assert asked.returncode == status
    assert "NOT_FOUND" in asked.stderr if status else asked.stdout == "SERVING\n"


def _probe(
    target: str, name: str = "ready", **environment: str
) -> subprocess.CompletedProcess[str]:
    return programs.run(
        "shared.server.probe", target, name, environment={**os.environ, **environment}
    )


def test_pods_know_each_other_and_their_probes_by_the_certificates_of_the_script(
    databases: Databases, tmp_path: Path
) -> None:
    names = ("graph", "feed", "gateway")
    for name in (*names, "authority"):
        (tmp_path / name).mkdir()
    script = ["sh", str(DEPLOY / "certificates.sh"), *names]
    subprocess.run(script, check=True, cwd=tmp_path, capture_output=True)
    believed = str(tmp_path / "authority" / "ca.crt")
    settings = {
        name: {
            "AUTH_SERVICES": "feed",
            f"{name.upper()}_HOST": "localhost",
            "TLS_CLIENT_CA_FILE": believed,
            "TARGET_CA_FILE": believed,
            **{f"{end}_CERT_FILE": str(tmp_path / name / "tls.crt") for end in ("TLS", "TARGET")},
            **{f"{end}_KEY_FILE": str(tmp_path / name / "tls.key") for end in ("TLS", "TARGET")},
        }
        for name in names
    }

    with secured_pair(databases, graph=settings["graph"], feed=settings["feed"]) as pair:
        target = pair.feed_server.address
        # Ready is the feed only if graph_service takes it for one that may call.
        until(lambda: _probe(target, **settings["feed"]).returncode == 0)
        uncertified = _probe(target, TARGET_CA_FILE=believed)
        overheard = _probe(target)

    assert (uncertified.returncode, overheard.returncode) == (1, 1)


def test_a_probe_loads_nothing_of_a_server() -> None:
    loaded = "import sys, shared.server.probe; print({'sqlalchemy', 'redis'} & sys.modules.keys())"

    said = subprocess.run(
        [sys.executable, "-c", loaded], check=True, capture_output=True, text=True, cwd=ROOT
    )

    assert said.stdout == "set()\n"


def _is_password(password: str, verifier: str) -> bool:
    """Whether PostgreSQL would take a password for this, which it keeps; see RFC 5803."""
    _, parameters, keys = verifier.split("$")
    iterations, salt = parameters.split(":")
    stored, _ = keys.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b64decode(salt), int(iterations))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return b64encode(hashlib.sha256(client_key).digest()).decode() == stored


def test_a_new_postgres_gets_both_databases_and_roles_with_their_passwords(
    cluster: EmbeddedPostgres,
) -> None:
    server = sqlalchemy.make_url(cluster.url("postgres"))
    passwords = {"OWNER_PASSWORD": "it's", "GRAPH_PASSWORD": '"\\', "FEED_PASSWORD": "`$HOME`"}
    environment = {
        "PATH": f"{binaries()}:{os.environ['PATH']}",
        "PGHOST": str(server.host),
        "PGPORT": str(server.port),
        "PGUSER": str(server.username),
        "PGPASSWORD": str(server.password),
        "ROLES_SQL": str(DEPLOY / "postgres" / "roles.sql"),
        **passwords,
    }

    subprocess.run(["sh", DEPLOY / "postgres" / "init.sh"], check=True, env=environment)

    engine = sqlalchemy.create_engine(server, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        roles = connection.execute(
            sqlalchemy.text("SELECT rolname, rolpassword FROM pg_authid WHERE rolname ~ '^kith_'")
        )
        kept = {row.rolname: row.rolpassword for row in roles}
    for service in ("graph", "feed"):
        assert _is_password(passwords["OWNER_PASSWORD"], kept[f"kith_{service}_owner"])
        assert _is_password(passwords[f"{service.upper()}_PASSWORD"], kept[f"kith_{service}"])
        url = cluster.url(f"kith_{service}")
        owners = sqlalchemy.make_url(owner(service, url)).set(password=passwords["OWNER_PASSWORD"])
        schema.upgrade(service, owners.render_as_string(hide_password=False))
        # Other tests know another one.
        make_roles(service, url)
        for other in ("postgres", "template1"):
            elsewhere = sqlalchemy.make_url(serving(service, url)).set(database=other)
            with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
                Session(elsewhere.render_as_string(hide_password=False))
