import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from kith.client.channel_options import client_options
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_SERVICES: dict[str, ServiceDescriptor] = {
    "graph": graph_pb2.DESCRIPTOR.services_by_name["GraphService"],
    "feed": feed_pb2.DESCRIPTOR.services_by_name["FeedService"],
}


@pytest.mark.parametrize("service", _SERVICES)
def test_the_shipped_config_names_methods_there_are_and_bounds_all_but_streams(
    service: str,
) -> None:
    contract = _SERVICES[service]
    by_method = _by_method(service)

    assert by_method.keys() - {""} <= {method.name for method in contract.methods}
    for method in contract.methods:
        config = by_method.get(method.name, by_method[""])
        assert ("timeout" in config) is not _is_stream(method)
        assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


@pytest.mark.parametrize("service", _SERVICES)
def test_the_shipped_config_asks_for_the_health_of_its_service(service: str) -> None:
    assert _config(service)["healthCheckConfig"] == {"serviceName": _SERVICES[service].full_name}


def test_a_client_may_retry_more_and_wait_less_than_the_shipped_config_says() -> None:
    options = dict(client_options("feed", waits=False, also_retried=["ABORTED"]))

    for methods in json.loads(options["grpc.service_config"])["methodConfig"]:
        assert methods["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "ABORTED"]
        assert methods["waitForReady"] is False


def _config(service: str) -> dict[str, Any]:
    directory = Path(__file__).parents[2] / "protos" / "kith" / service / "v1"
    config: dict[str, Any] = json.loads(
        (directory / f"{service}_grpc_service_config.json").read_text()
    )
    return config


def _by_method(service: str) -> dict[str, dict[str, Any]]:
    """The config of each method that is named, and under the empty name that of the others."""
    return {
        name.get("method", ""): methods
        for methods in _config(service)["methodConfig"]
        for name in methods["name"]
    }


def _is_stream(method: MethodDescriptor) -> bool:
    return method.client_streaming or method.server_streaming
