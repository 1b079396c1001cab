"""The auditor is an optional part of what is deployed, and fits the rest."""

import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import yaml
from kubernetes_validate.utils import validate

from feed_service.auditor.replays import Replays
from feed_service.auditor.settings import AuditorSettings
from kith.environment import Environment
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from shared.access.scopes import read_scopes
from tests.support.deployment import DEPLOY, ROOT, compose, manifests, required_variables

_FOLDER: Final = DEPLOY / "kubernetes" / "auditor"
_URLS: Final = {
    "GRAPH_DATABASE_URL": "postgresql://kith_auditor:secret@db.example/kith_graph",
    "FEED_DATABASE_URL": "postgresql://kith_auditor:secret@db.example/kith_feed",
}


def _manifests() -> dict[str, dict[str, Any]]:
    """Return the objects by their kinds."""
    documents = yaml.safe_load_all((_FOLDER / "auditor.yaml").read_text())
    return {each["kind"]: each for each in documents}


def _container() -> dict[str, Any]:
    [container] = _manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _composed() -> dict[str, Any]:
    needed = {name: f"{name.lower()}-{'x' * 32}" for name in required_variables()}
    return dict(compose(needed)["services"]["auditor"])


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_its_manifests_are_what_kubernetes_takes(version: str) -> None:
    for kind, manifest in _manifests().items():
        if kind != "Certificate":
            validate(manifest, version, strict=True)


def test_its_pod_starts_with_what_its_manifest_and_the_shared_settings_say(tmp_path: Path) -> None:
    for name in ("pod", "authority"):
        (tmp_path / name).mkdir()
    script = ["sh", str(DEPLOY / "certificates.sh"), "pod"]
    subprocess.run(script, check=True, cwd=tmp_path, capture_output=True)
    shutil.copy(tmp_path / "authority" / "ca.crt", tmp_path / "pod")
    [shared] = [each["data"] for each in manifests() if each["kind"] == "ConfigMap"]
    own = {each["name"]: each["value"] for each in _container()["env"]}

    settings = AuditorSettings.read(
        {
            name: value.replace("/etc/kith/tls", str(tmp_path / "pod"))
            for name, value in {**shared, **own, **_URLS}.items()
        }
    )

    assert settings.certificates is not None
    assert settings.feed_target == "dns:///feed:50052"
    ports = {each["name"]: each["containerPort"] for each in _container()["ports"]}
    assert ports == {"grpc": settings.port, "metrics": settings.metrics_port}
    for probe in ("startup", "liveness", "readiness"):
        assert f"localhost:{settings.port}" in _container()[f"{probe}Probe"]["exec"]["command"]


def test_its_pod_may_call_the_feed_and_do_nothing_else() -> None:
    pod = _manifests()["Deployment"]["spec"]["template"]

    assert pod["metadata"]["labels"]["kith-client"] == "feed"
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert not pod["spec"]["automountServiceAccountToken"]
    assert _container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_it_is_optional_in_compose_and_the_same_there() -> None:
    composed, container = _composed(), _container()

    assert composed["profiles"] == ["auditor"]
    assert (composed["image"], composed["command"]) == (container["image"], container["command"])
    settings = AuditorSettings.read(composed["environment"])
    assert f"127.0.0.1:{settings.port}" in composed["healthcheck"]["test"]
    written = yaml.safe_load((_FOLDER / "kustomization.yaml").read_text())
    [pair] = [label["pairs"] for label in written["labels"]]
    assert [image["newTag"] for image in written["images"]] == [*pair.values()]


def test_the_scope_that_its_page_names_has_the_calls_that_it_makes() -> None:
    page = (ROOT / "docs" / "auditor.md").read_text()
    [scope] = re.findall(r"`(auditor=[\w,]+)`", page)
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        calls = Replays(FeedServiceStub(channel), pick=random.Random()).by_call

    environment = Environment({"AUTH_SERVICES": scope})
    named = read_scopes(environment)["auditor"]
    environment.check()
    assert named == frozenset(f"kith.feed.v1.FeedService.{call}" for call in calls)
    [issued] = [_manifests()["Certificate"]["spec"]]
    assert "auditor" in issued["dnsNames"]
