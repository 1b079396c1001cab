"""What is deployed fits together, as far as can be told without running it."""

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kubernetes_validate.utils import validate
from sqlalchemy import make_url

from feed_service.auditor.settings import AuditorSettings
from feed_service.settings import FeedSettings
from graph_service.settings import GraphSettings
from kith.environment import Environment, SettingsError
from shared.access.scopes import read_scopes
from shared.cli.gateway_settings import GatewaySettings
from shared.server.settings import ServerSettings
from tests.support.deployment import (
    COMPOSE,
    DEPLOY,
    ROOT,
    Variables,
    compose,
    dockerfile,
    image_environment,
    kustomization,
    manifests,
    required_variables,
)

_BIN: Final = Path(sys.executable).parent
_SECRETS: Final = {
    "PAGE_TOKEN_KEYS": "k" * 32,
    "GRAPH_DATABASE_URL": "postgresql://kith_graph:secret@db.example/kith_graph",
    "FEED_DATABASE_URL": "postgresql://kith_feed:secret@db.example/kith_feed",
    "S3_BUCKET": "kith-photos",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
_TOKENS: Final = {
    "AUTH_JWKS": "https://issuer.example/keys",
    "AUTH_ISSUER": "https://issuer.example",
    "AUTH_AUDIENCE": "kith",
    "AUTH_SERVICES": "feed_service",
}
_READERS: Final[Mapping[str, Callable[[Mapping[str, str]], Any]]] = {
    "graph": GraphSettings.read,
    "feed": FeedSettings.read,
    "gateway": GatewaySettings.read,
}
# Of boto3, which looks for them by itself, and of the image.
_OTHERS: Final = {"KITH_DATA_DIR"}
_OURS: Final = ("migrate", *_READERS)
_START_SECONDS: Final = 300
# What a program takes to stop beyond what its calls take; see shared/server/program.py.
_SPARE_SECONDS: Final = 15


def _composed(**environment: str) -> dict[str, Any]:
    """Return what `docker compose` reads when all is set that has to be."""
    needed = {name: f"{name.lower()}-{'x' * 32}" for name in required_variables()}
    return compose({**needed, **environment})


def _environment(service: str, **environment: str) -> dict[str, str]:
    """Return the variables that a service of Kith is started with by `docker compose`."""
    told = _composed(**environment)["services"][service]
    return {**image_environment(told["build"]["target"]), **told["environment"]}


def _known(service: str) -> set[str]:
    """Return the variables that a service reads."""
    if service == "migrate":
        return {"GRAPH_DATABASE_URL", "FEED_DATABASE_URL"}
    variables = Variables(_SECRETS)
    with suppress(SettingsError):
        _READERS[service](variables)
    return variables.asked | _OTHERS


def _complaints(command: list[str | Path]) -> str:
    """Return what a checker has to say."""
    run = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_docker_compose_is_what_its_schema_says() -> None:
    checker = [sys.executable, "-m", "check_jsonschema"]

    assert not _complaints([*checker, "--builtin-schema", "vendor.compose-spec", COMPOSE])


def test_all_that_a_container_refers_to_is_there() -> None:
    composed = _composed()
    services, missing = composed["services"], []
    for name, service in services.items():
        wanted = {
            "services": service.get("depends_on", {}),
            "networks": service["networks"],
            "secrets": service.get("secrets", []),
        }
        for kind, names in wanted.items():
            missing += [(name, kind, each) for each in names if each not in composed[kind]]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            is_there = (
                (ROOT / source).exists()
                if source.startswith(".")
                else source in composed["volumes"]
            )
            if not is_there:
                missing.append((name, "volumes", source))
        for other, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                missing.append((name, "healthcheck", other))
    assert not missing


def test_every_part_is_used_and_stays_itself() -> None:
    composed = _composed()
    services = composed["services"].values()
    text = COMPOSE.read_text()

    for kind in ("networks", "volumes", "secrets"):
        for name in composed[kind]:
            assert any(name in str(service.get(kind, "")) for service in services), name
    for service in services:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?", service["image"])
    # A name that is set nowhere is a typing error.
    assert not [name for name in required_variables() if text.count(f"${{{name}") == 0]


def test_the_file_holds_no_secrets() -> None:
    secrets = re.findall(
        r"^ *(\w*(?:PASSWORD|SECRET|KEYS?|TOKEN_FILE)\w*): (.*)$", COMPOSE.read_text(), re.MULTILINE
    )

    assert secrets
    for name, value in secrets:
        assert value.startswith(("${", "&page_token_keys ${", "*")), name
    assert not re.findall(r"://\w*:(?!\$)[^/\s]*@", COMPOSE.read_text())


def test_a_name_of_another_container_is_one_that_can_be_reached_at_a_port_it_has() -> None:
    services = _composed()["services"]
    ports = {
        "graph": {"50051"},
        "feed": {"50052", "50053"},
        "postgres": {"5432"},
        "redis": {"6379"},
        "objects.localhost": {"8333"},
    }
    for name in _OURS:
        for value in services[name]["environment"].values():
            for host, port in re.findall(r"(?:@|//|^)([a-z.]+):(\d+)", value):
                assert port in ports[host]
                there, here = services[host.split(".")[0]], services[name]
                assert {*there["networks"]} & {*here["networks"]}


@pytest.mark.parametrize("service", _OURS)
def test_a_container_is_told_nothing_that_its_service_does_not_read(service: str) -> None:
    told = _composed()["services"][service]["environment"]

    assert not told.keys() - _known(service)


@pytest.mark.parametrize("service", ["migrate", "graph", "feed"])
def test_a_container_believes_no_database_but_the_one_it_knows(service: str) -> None:
    told = _composed()["services"][service]
    [mount] = [volume for volume in told["volumes"] if volume.startswith("authority:")]
    authority = f"{mount.split(':')[1]}/ca.crt"

    for name, value in told["environment"].items():
        if name.endswith("_DATABASE_URL"):
            query = make_url(value).query
            assert query == {"sslmode": "verify-full", "sslrootcert": authority}
        if name == "REDIS_URL":
            assert value == f"rediss://redis:6379?ssl_ca_certs={authority}"


def test_the_databases_of_docker_compose_take_nothing_that_is_not_encrypted() -> None:
    services = _composed()["services"]

    assert "ssl=on" in services["postgres"]["command"]
    rules = (DEPLOY / "postgres" / "pg_hba.conf").read_text().splitlines()
    assert {rule.split()[0] for rule in rules if not rule.startswith("#")} == {"local", "hostssl"}
    redis = services["redis"]["command"]
    assert redis[redis.index("--port") + 1] == "0"
    assert redis[redis.index("--tls-port") + 1] == "6379"


def test_the_health_check_of_postgres_asks_as_a_role_that_is_let_in() -> None:
    check = _composed()["services"]["postgres"]["healthcheck"]["test"]
    asked = dict(word.removeprefix("--").split("=") for word in check if "=" in word)
    rules = (DEPLOY / "postgres" / "pg_hba.conf").read_text().splitlines()
    let_in = [rule.split()[1:3] for rule in rules if rule.startswith("hostssl")]

    assert [
        roles
        for database, roles in let_in
        if database == asked["dbname"] and asked["username"] in roles.split(",")
    ]


def _shown(folder: Path, name: str, asked_for: str) -> str:
    """Return the host that a server's certificate is for, as a client sees that asks for a host."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / name / "tls.crt", folder / name / "tls.key")
    client = ssl.create_default_context(cafile=folder / "authority" / "ca.crt")
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(here, there, server_side=True)
    calling = client.wrap_bio(there, here, server_hostname=asked_for)
    for side in (calling, serving, calling):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    certificate = calling.getpeercert()
    assert certificate
    return str(certificate["subjectAltName"][0][1])


def test_the_certificates_are_of_their_hosts_and_made_once(tmp_path: Path) -> None:
    names = ("postgres", "redis")
    for name in (*names, "authority"):
        (tmp_path / name).mkdir()
    script = ["sh", str(DEPLOY / "certificates.sh"), *names]

    subprocess.run(script, check=True, cwd=tmp_path, capture_output=True)
    made = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    subprocess.run(script, check=True, cwd=tmp_path, capture_output=True)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == made
    assert {path.name for path in made} == {"tls.key", "tls.crt", "ca.crt"}
    for name in names:
        assert _shown(tmp_path, name, name) == name
        assert (tmp_path / name / "tls.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ssl.SSLCertVerificationError):
        _shown(tmp_path, "redis", "postgres")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as it is mounted in a pod: tls.crt, tls.key, ca.crt."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("pod", "authority"):
        (folder / name).mkdir()
    script = ["sh", str(DEPLOY / "certificates.sh"), "pod"]
    subprocess.run(script, check=True, cwd=folder, capture_output=True)
    shutil.copy(folder / "authority" / "ca.crt", folder / "pod")
    return folder / "pod"


@pytest.mark.parametrize("service", _READERS)
def test_a_container_starts_once_it_knows_its_callers_and_not_before(service: str) -> None:
    _READERS[service](_environment(service, **_TOKENS))
    _READERS[service](_environment(service, ALLOW_UNAUTHENTICATED="on"))

    with pytest.raises(SettingsError, match="ALLOW_UNAUTHENTICATED"):
        _READERS[service](_environment(service))


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_a_container_is_not_killed_while_it_stops(service: str) -> None:
    server = _READERS[service](_environment(service, **_TOKENS)).server
    timeouts = int(_composed()["services"][service]["stop_grace_period"].removesuffix("s"))

    assert _seconds_to_stop(server) < timeouts


def _seconds_to_stop(server: ServerSettings) -> float:
    longest = server.drain + server.grace + 1.1 * server.max_connection_age
    return longest.total_seconds() + _SPARE_SECONDS


def test_postgres_takes_all_connections_that_the_services_may_hold() -> None:
    [limit] = [
        int(word.partition("=")[2])
        for word in _composed()["services"]["postgres"]["command"]
        if word.startswith("max_connections=")
    ]
    most = 0
    for service in ("graph", "feed"):
        settings = _READERS[service](_environment(service, **_TOKENS))
        pool, server = settings.database, settings.server
        beside_the_calls = 3
        each = pool.pool_size + pool.max_overflow + server.threads + beside_the_calls
        most += each * (server.workers + 1)

    assert most < limit


def test_the_dockerfile_is_as_its_linter_wants_it() -> None:
    assert not _complaints([_BIN / "hadolint", "--no-color", DEPLOY / "Dockerfile"])


def test_an_image_is_made_of_files_that_are_there_and_does_not_run_as_root() -> None:
    admitted = (ROOT / ".dockerignore").read_text().splitlines()
    for stage in ("kith", "gateway"):
        assert ["USER", "10001:10001"] in dockerfile(stage)
    copied = [words[1:-1] for words in dockerfile("built") if words[0] == "COPY"]
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists()
        assert f"!{source}" in admitted


def test_an_image_has_everything_that_its_programs_read_when_they_begin(tmp_path: Path) -> None:
    for words in (words for words in dockerfile("built") if words[0] == "COPY"):
        for name in words[1:-1]:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, tmp_path / name)
    begin = (
        "import feed_service.__main__, graph_service.__main__\n"
        "import shared.cli.__main__, shared.server.probe\n"
        "import shared.cli.doctor, shared.cli.schemas, shared.cli.shards, shared.database.history\n"
        "from kith.client.channel_options import client_options, __file__ as where\n"
        "print(where, *map(len, (client_options('graph'), client_options('feed'))))\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", begin],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(str(tmp_path))


def test_an_image_has_the_versions_that_are_developed_with() -> None:
    project = (ROOT / "pyproject.toml").read_text() + (ROOT / "Makefile").read_text()
    pinned = re.findall(r"[\w-]+==[\d.]+", (DEPLOY / "Dockerfile").read_text())

    assert pinned
    assert not [pin for pin in pinned if pin not in project]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_manifests_are_what_kubernetes_takes(version: str) -> None:
    for manifest in manifests():
        _require_valid(manifest, version)


def _require_valid(manifest: dict[str, Any], version: str) -> None:
    # What cert-manager takes is no part of Kubernetes; a test of ours looks at it.
    if not manifest["apiVersion"].startswith("cert-manager.io/"):
        validate(manifest, version, strict=True)


def test_all_manifests_are_applied_as_one() -> None:
    # Folders are for what is optional.
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}

    assert {*kustomization()["resources"], "kustomization.yaml"} == files
    used = {
        container["image"].partition(":")[0]
        for kind in ("Deployment", "Job")
        for manifest in _manifests(kind).values()
        for container in manifest["spec"]["template"]["spec"]["containers"]
    }
    assert {image["name"] for image in kustomization()["images"]} == used


def _built(folder: Path) -> list[dict[str, Any]]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(
        [kubectl, "kustomize", folder], check=True, capture_output=True, text=True
    )
    return list(yaml.safe_load_all(built.stdout))


def test_every_version_has_a_migration_job_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "kubernetes"
    shutil.copytree(DEPLOY / "kubernetes", folder)
    told = folder / "kustomization.yaml"
    newer = (
        told.read_text().replace("0.2.0", "0.3.0").replace("Name: kith", "Name: r.test:5000/kith")
    )
    names = []

    for text in (told.read_text(), newer):
        told.write_text(text)
        built = _built(folder)
        [job] = [each for each in built if each["kind"] == "Job"]
        names.append(job["metadata"]["name"])
        assert {each["metadata"]["namespace"] for each in built} == {"kith"}
        for each in built:
            _require_valid(each, "1.31")

    assert names == ["kith-migrate-0.2.0", "kith-migrate-0.3.0"]
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "r.test:5000/kith:0.3.0"


def test_the_manifests_are_of_one_version() -> None:
    written = kustomization()

    tags = {image["newTag"] for image in written["images"]}
    assert tags == {pair for each in written["labels"] for pair in each["pairs"].values()}


def _manifests(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in manifests() if each["kind"] == kind}


def _container(service: str) -> dict[str, Any]:
    [container] = _manifests("Deployment")[service]["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _variables(service: str, **shared: str) -> dict[str, str]:
    """Return the variables of a container in Kubernetes; `shared` are those that are left open."""
    own = {each["name"]: each["value"] for each in _container(service)["env"]}
    common = {**_manifests("ConfigMap")["kith"]["data"], **shared}
    stage = "gateway" if service == "gateway" else "kith"
    return {**image_environment(stage), **_SECRETS, **common, **own}


@pytest.mark.parametrize("service", _READERS)
def test_a_pod_starts_with_what_its_manifest_and_the_secrets_say(
    service: str, certificates: Path
) -> None:
    _READERS[service](_mounted(service, certificates, **_TOKENS))


def test_the_gateway_does_not_start_before_it_knows_whose_tokens_to_believe(
    certificates: Path,
) -> None:
    with pytest.raises(SettingsError, match="needs AUTH_JWKS"):
        GatewaySettings.read(_mounted("gateway", certificates))


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_a_native_port_lets_in_nobody_without_a_certificate_and_believes_no_token_at_first(
    service: str, certificates: Path
) -> None:
    server = _READERS[service](_mounted(service, certificates)).server

    assert server.certificates.chain.parent == server.certificates.authorities.parent
    assert server.auth.tokens is None


def test_who_may_act_for_every_user_are_the_services_and_not_the_gateway() -> None:
    environment = Environment(_manifests("ConfigMap")["kith"]["data"])
    services = read_scopes(environment)
    environment.check()
    issued = _manifests("Certificate")

    for name in ("graph", "feed"):
        assert [each for each in services if each in issued[name]["spec"]["dnsNames"]]
    assert not {*issued["gateway"]["spec"]["dnsNames"]} & {*services}


@pytest.mark.parametrize("service", _READERS)
def test_the_certificate_of_a_pod_is_for_its_service_and_its_probe_and_mounted(
    service: str,
) -> None:
    issued = _manifests("Certificate")[service]["spec"]

    assert {service, "localhost"} == {*issued["dnsNames"]}
    assert {*issued["usages"]} == {"server auth", "client auth"}
    assert issued["issuerRef"] == {"kind": "Issuer", "name": "kith"}
    pod = _manifests("Deployment")[service]["spec"]["template"]["spec"]
    [volume] = [each for each in pod["volumes"] if each["name"] == "tls"]
    assert volume["secret"] == {"secretName": issued["secretName"]}
    authority = _manifests("Certificate")["kith-authority"]["spec"]
    assert _manifests("Issuer")["kith"]["spec"]["ca"]["secretName"] == authority["secretName"]


def _mounted(service: str, certificates: Path, **shared: str) -> dict[str, str]:
    """Return the variables of a container whose certificates are in a folder of this machine."""
    [mount] = [each for each in _container(service)["volumeMounts"] if each["name"] == "tls"]
    return {
        name: value.replace(mount["mountPath"], str(certificates))
        for name, value in _variables(service, **shared).items()
    }


def test_a_pod_is_told_nothing_that_its_service_does_not_read() -> None:
    common = _manifests("ConfigMap")["kith"]["data"].keys()

    assert not common - {name for service in _READERS for name in _known(service)}
    for service in _READERS:
        assert not {each["name"] for each in _container(service)["env"]} - _known(service)


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_a_pod_is_not_killed_while_it_stops(service: str, certificates: Path) -> None:
    server = _READERS[service](_mounted(service, certificates)).server
    pod = _manifests("Deployment")[service]["spec"]["template"]["spec"]

    assert _seconds_to_stop(server) < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_a_pod_is_asked_for_its_health_where_it_answers(service: str, certificates: Path) -> None:
    container = _container(service)
    server = _READERS[service](_mounted(service, certificates)).server
    asked = {"startup": "live", "liveness": "live", "readiness": "ready"}

    for name, health in asked.items():
        probe = ["python", "-m", "shared.server.probe", f"localhost:{server.port}", health]
        assert container[f"{name}Probe"]["exec"]["command"] == probe
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports.items() >= {"grpc": server.port, "metrics": server.metrics_port}.items()


def test_graph_service_finds_the_keeper_of_fences_where_feed_service_listens(
    certificates: Path,
) -> None:
    in_pods = [_READERS[service](_mounted(service, certificates)) for service in ("graph", "feed")]
    in_containers = [
        _READERS[service](_environment(service, **_TOKENS)) for service in ("graph", "feed")
    ]

    for graph, feed in (in_pods, in_containers):
        assert graph.fence_keepers == (f"dns:///feed:{feed.fences_port}",)
    ports = {each["name"]: each["containerPort"] for each in _container("feed")["ports"]}
    assert ports["fences"] == in_pods[1].fences_port


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_a_pod_may_do_nothing_that_it_need_not(kind: str) -> None:
    for manifest in _manifests(kind).values():
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert pod["enableServiceLinks"] is False
        assert pod["serviceAccountName"] in _manifests("ServiceAccount")
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} == container["resources"]["requests"].keys()


@pytest.mark.parametrize("service", _READERS)
def test_what_stands_around_a_deployment_means_its_pods(service: str) -> None:
    labels = _manifests("Deployment")[service]["spec"]["template"]["metadata"]["labels"]
    containers = {each["name"] for each in _container(service)["ports"]}

    published = _manifests("Service")[service]["spec"]
    assert published["selector"] == labels
    metrics = _manifests("Service")[f"{service}-metrics"]["spec"]
    assert metrics["selector"] == labels
    ports = [*published["ports"], *metrics["ports"]]
    assert sorted(each["targetPort"] for each in ports) == sorted(containers)
    assert _manifests("PodDisruptionBudget")[service]["spec"]["selector"]["matchLabels"] == labels
    assert _manifests("NetworkPolicy")[service]["spec"]["podSelector"]["matchLabels"] == labels
    scaled = _manifests("HorizontalPodAutoscaler")[service]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", service)


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_clients_of_a_service_see_every_pod(service: str) -> None:
    assert _manifests("Service")[service]["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("service", _READERS)
def test_prometheus_sees_every_pod_also_those_that_are_not_ready(service: str) -> None:
    metrics = _manifests("Service")[f"{service}-metrics"]["spec"]

    assert metrics["clusterIP"] == "None"
    assert metrics["publishNotReadyAddresses"] is True


@pytest.mark.parametrize("service", _READERS)
def test_a_container_may_take_five_minutes_to_start(service: str) -> None:
    probe = _container(service)["startupProbe"]
    composed = _composed()["services"][service]["healthcheck"]

    assert probe["periodSeconds"] * probe["failureThreshold"] >= _START_SECONDS
    assert int(composed["start_period"].removesuffix("s")) >= _START_SECONDS
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text())
    [missing] = [
        rule
        for group in rules["groups"]
        for rule in group["rules"]
        if rule["alert"] == "KithScrapeMissing"
    ]
    assert int(missing["for"].removesuffix("m")) * 60 > _START_SECONDS


def test_the_feed_may_reach_every_object_store_that_the_project_names() -> None:
    egress = _manifests("NetworkPolicy")["feed"]["spec"]["egress"]
    anywhere = {each["port"] for rule in egress if "to" not in rule for each in rule["ports"]}

    # By HTTPS, of MinIO, and of docker-compose.yml.
    composed = _composed()["services"]["feed"]["environment"]["S3_ENDPOINT_URL"]
    assert {443, 9000, int(composed.rpartition(":")[2])} <= anywhere


@pytest.mark.parametrize("service", _READERS)
def test_kubernetes_and_compose_run_the_same_image_by_the_same_command(service: str) -> None:
    composed, container = _composed()["services"][service], _container(service)

    assert container["image"] == composed["image"]
    command = composed.get("command") or [*dockerfile(composed["build"]["target"])[-1][1:]]
    assert container["command"] == [word.strip('[],"') for word in command]


def test_prometheus_looks_for_every_service_where_its_metrics_are() -> None:
    configured = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    found = {}
    for job in configured["scrape_configs"]:
        [lookup] = job["dns_sd_configs"]
        [name] = lookup["names"]
        found[name] = lookup["port"]

    composed = _composed()["services"]
    for service in _READERS:
        assert f"{service}-metrics" in composed[service]["networks"]["services"]["aliases"]
        [port] = _manifests("Service")[f"{service}-metrics"]["spec"]["ports"]
        assert port["port"] == found[f"{service}-metrics"]
    assert found == {
        f"{service}-metrics": _READERS[service](
            _environment(service, **_TOKENS)
        ).server.metrics_port
        for service in _READERS
    } | {"auditor-metrics": AuditorSettings.read(_SECRETS).metrics_port}


def test_grafana_finds_its_dashboards_where_they_are_mounted() -> None:
    grafana = _composed()["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    providers = DEPLOY / "grafana" / "provisioning" / "dashboards" / "kith.yml"
    [provider] = yaml.safe_load(providers.read_text())["providers"]

    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]


def _promtool() -> str:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    return promtool


def test_prometheus_takes_its_configuration_and_rules() -> None:
    promtool, prometheus = _promtool(), DEPLOY / "prometheus"

    assert not _complaints([promtool, "check", "config", prometheus / "prometheus.yml"])
    assert not _complaints(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", *prometheus.glob("rules/*.yml")]
    )


def test_alerts_fire_for_what_they_are_for_and_are_quiet_otherwise() -> None:
    tests = DEPLOY / "prometheus" / "tests" / "alerts.yml"

    assert not _complaints([_promtool(), "test", "rules", tests])


def test_every_alert_is_tested_and_explained_and_says_what_to_do_first() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text())
    tested = (DEPLOY / "prometheus" / "tests" / "alerts.yml").read_text()
    explained = (DEPLOY.parent / "docs" / "operating.md").read_text()
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]

    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"].keys() == {"summary", "description"}
        assert alert["alert"] in tested
        assert f"`{alert['alert']}`" in explained
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
