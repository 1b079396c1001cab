"""Asks a service for its health, for container runtimes: exits with 0 when healthy, 1 when not.

probe.py HOST:PORT NAME, with a name that health answers to, such as `live` or `ready`.

For runtimes without gRPC probes, or without the certificate that TLS_CLIENT_CA_FILE demands: the
probe reads its certificate and authorities from TARGET_CA_FILE and its companions.
"""

import os
import sys
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kith.client.channels import open_channel
from kith.client.settings import TargetSettings
from kith.environment import Environment, SettingsError

_TIMEOUT_SECONDS: Final = 2


def main() -> int:
    """Ask once; returns the exit status."""
    target, name = sys.argv[1:]
    environment = Environment(os.environ)
    access = TargetSettings.read(environment, target)
    try:
        environment.check()
        status = _status(target, name, access)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except grpc.RpcError as error:
        sys.stderr.write(f"{error.code().name}: {error.details()}\n")
        return 1
    sys.stdout.write(f"{health_pb2.HealthCheckResponse.ServingStatus.Name(status)}\n")
    return 0 if status == health_pb2.HealthCheckResponse.SERVING else 1


def _status(target: str, name: str, access: TargetSettings) -> int:
    with open_channel(target, access, [("grpc.enable_http_proxy", 0)]) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_TIMEOUT_SECONDS)
        return int(answer.status)


if __name__ == "__main__":
    sys.exit(main())
