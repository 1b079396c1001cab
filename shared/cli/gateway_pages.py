"""The pages that the gateway serves to people: the console, and the reference of the API.

Envoy serves their files itself, so that no further process has to be watched.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from kith.cli.terminal import CommandError

_ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = _ROOT / "deploy" / "pages"
_OPENAPI: Final = _ROOT / "protos" / "openapi.yaml"
_HTTP: Final[Any] = annotations_pb2.http  # as an extension, which its stub does not say
# A package with the files of Swagger UI. It is never imported.
_SWAGGER_UI: Final = "flask_swagger_ui"
_SWAGGER_UI_FILES: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
_KINDS: Final[Mapping[str, str]] = {
    ".binpb": "application/x-protobuf",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_COMMON: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
)
# Swagger UI sets styles in its markup, and has its icons in data URLs.
_POLICIES: Final[Mapping[str, str]] = {
    "console": f"{_COMMON}style-src 'self'; img-src 'self'; require-trusted-types-for 'script'",
    "docs": f"{_COMMON}style-src 'self' 'unsafe-inline'; img-src 'self' data:",
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """A file, and the path at which it is served."""

    path: str
    file: Path
    policy: str
    """The Content-Security-Policy."""

    @property
    def content_type(self) -> str:
        """What the file is, by its name."""
        return _KINDS[self.file.suffix]


def pages(written: Path) -> list[Page]:
    """Return all pages; `written` is the folder that `write_pages` fills.

    Raises CommandError when Swagger UI is not installed.
    """
    files = {
        "console": [*(_SOURCES / "console").iterdir(), written / "calls.json"],
        "docs": [
            *(_SOURCES / "docs").iterdir(),
            *(_swagger_ui() / name for name in _SWAGGER_UI_FILES),
            written / "openapi.json",
            written / "kith.binpb",
        ],
    }
    return [
        Page(path=path, file=file, policy=_POLICIES[name])
        for name, found in files.items()
        for file in found
        for path in _paths(name, file)
    ]


def write_pages(
    written: Path, methods: Iterable[MethodDescriptor], contracts: FileDescriptorSet
) -> None:
    """Store what pages are made of the contracts: the calls, openapi.yaml and the descriptors."""
    written.mkdir(parents=True, exist_ok=True)
    calls = {method.name: _call(method) for method in methods}
    (written / "calls.json").write_text(json.dumps(calls))
    document = yaml.load(_OPENAPI.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    # The one that a reader has in front of them, wherever it is.
    document["servers"] = [{"url": "/", "description": "this gateway"}]
    (written / "openapi.json").write_text(json.dumps(document))
    (written / "kith.binpb").write_bytes(contracts.SerializeToString())


def _call(method: MethodDescriptor) -> Mapping[str, str]:
    rule = method.GetOptions().Extensions[_HTTP]
    verb = rule.WhichOneof("pattern")
    return {
        "service": method.containing_service.full_name,
        "verb": verb.upper(),
        "path": getattr(rule, verb),
        "body": rule.body,
    }


def _paths(name: str, file: Path) -> list[str]:
    return [f"/{name}", f"/{name}/"] if file.name == "index.html" else [f"/{name}/{file.name}"]


def _swagger_ui() -> Path:
    found = find_spec(_SWAGGER_UI)
    if found is None or found.origin is None:
        raise CommandError(
            "GATEWAY_PAGES needs Swagger UI, which the dependency group `gateway` has"
        )
    return Path(found.origin).parent / "dist"
