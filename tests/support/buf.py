"""`buf curl`: a client that knows nothing of Kith, written in Go on a gRPC of its own."""

import base64
import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

from google.rpc import error_details_pb2

_BUF: Final = Path(sysconfig.get_path("scripts")) / "buf"

Ended = subprocess.CompletedProcess[str]


def buf_curl(address: str, path: str, *arguments: str, protocol: str = "grpc") -> Ended:
    """Call a path in plain text by `grpc` or `grpcweb`; without a schema buf asks by reflection."""
    return subprocess.run(
        [
            *(_BUF, "curl", "--protocol", protocol, "--http2-prior-knowledge"),
            *(*arguments, f"http://{address}{path}"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def reason_of(ended: Ended) -> str:
    """Return the reason of the error that a call ended with."""
    [info] = [
        base64.b64decode(detail["value"] + "==")
        for detail in json.loads(ended.stderr)["details"]
        if detail["type"] == "google.rpc.ErrorInfo"
    ]
    return error_details_pb2.ErrorInfo.FromString(info).reason
