"""What Envoy is told: deploy/envoy/envoy.yaml, with what depends on settings and on the contracts.

The contracts are taken from the stubs, so that Envoy knows the calls that this version has.
"""

import base64
import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor import (
    Descriptor,
    FileDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.options.v1 import options_pb2
from shared.cli.gateway_pages import Page, pages
from shared.cli.gateway_settings import GatewaySettings, collector, hosts, system_authorities
from shared.cli.http_rules import http_rules, native_errors
from shared.processes.ports import reachable

_FOLDER: Final = Path(__file__).parents[2] / "deploy" / "envoy"
_GRAPH: Final[ServiceDescriptor] = graph_pb2.DESCRIPTOR.services_by_name["GraphService"]
_FEED: Final[ServiceDescriptor] = feed_pb2.DESCRIPTOR.services_by_name["FeedService"]
_HTTP: Final[Any] = annotations_pb2.http  # as an extension, which its stub does not say
_CALLERS_USER: Final = options_pb2.CALLERS_USER
# What of an HTTP method may be repeated is said by RFC 9110, section 9.2.2.
_IDEMPOTENT = {"get", "put", "delete"}
# Characters of JSON that a byte of protobuf becomes at worst, as control characters may.
_JSON_GROWTH = 6
_PATIENCE_SECONDS = 0.25
_ADDRESS = r"\d+(\.\d+){3}|\[[\da-f:.]+\]"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SCRIPTS = ("requests.lua", "answers.lua")
_CONDITION = "only_with"
_REPETITION = "for_each"
_LEFT_OUT = object()


def configuration(settings: GatewaySettings) -> list[Any]:
    """Return the documents of envoy.yaml with the settings in them."""
    read = (_FOLDER / "envoy.yaml").read_bytes()
    # A tenth of the time of the loader in Python, which keeps Envoy waiting.
    documents = [*yaml.load_all(read, Loader=yaml.CSafeLoader)]
    return _filled(documents, _values(settings))  # type: ignore[no-any-return]  # a list, as given


def _exposed(service: ServiceDescriptor) -> Iterator[tuple[MethodDescriptor, str]]:
    """Yield the calls that can be made over HTTP, each with its method there."""
    for method in service.methods:
        options = method.GetOptions()
        if options.HasExtension(_HTTP):
            yield method, options.Extensions[_HTTP].WhichOneof("pattern")


def _streams_of_users(service: ServiceDescriptor) -> Iterator[MethodDescriptor]:
    """Yield the streams that users may read. A document of JSON has no place for their errors."""
    for method in service.methods:
        is_of_users = method.GetOptions().Extensions[options_pb2.callers] == _CALLERS_USER
        if is_of_users and method.server_streaming:
            yield method


def _values(settings: GatewaySettings) -> Mapping[str, object]:
    server = settings.server
    seconds = settings.timeout.total_seconds()
    return {
        "HOST": server.host,
        "PORT": server.port,
        "METRICS_PORT": server.metrics_port,
        "ADMIN_PORT": settings.admin_port,
        "GRAPH_TARGET": _endpoints(settings.graph_target),
        "FEED_TARGET": _endpoints(settings.feed_target),
        "TARGET_NAMES": _names(settings.graph_target, settings.feed_target),
        "LONGER_TIMEOUT": f"{seconds + _PATIENCE_SECONDS:.3f}s",
        "GRPC_TIMEOUT": f"{seconds * 1_000:.0f}m",
        "CORS_ORIGINS": [{"exact": origin} for origin in settings.origins],
        # The filter compares hosts and ports.
        "CSRF_ORIGINS": [{"exact": urlsplit(origin).netloc} for origin in settings.origins],
        "KNOWN_HOSTS": _known_hosts(settings),
        "MAX_REQUEST_BYTES": server.max_message_bytes,
        "MAX_RESPONSE_BYTES": server.max_message_bytes * _JSON_GROWTH,
        "FOLDER": str(settings.folder),
        "CONTRACTS": base64.b64encode(contracts().SerializeToString()).decode(),
        "SCRIPTS": _scripts(),
        **native_errors(),
        "SERVICES": [_GRAPH.full_name, _FEED.full_name],
        "PAGES": [_page(page) for page in pages(settings.written_pages)] if settings.pages else [],
        **_paths("GRAPH", _GRAPH),
        **_paths("FEED", _FEED),
        **_certificates(settings),
        **_tokens(settings),
        **_traces(settings),
    }


def _known_hosts(settings: GatewaySettings) -> str | None:
    """Return as a regular expression the hosts that calls are taken for; None for all of them."""
    if settings.server.auth and settings.server.auth.tokens:
        return None
    own = [re.escape(urlsplit(origin).netloc) for origin in settings.origins]
    return "|".join([rf"(?i)({_ADDRESS}|(.+\.)?localhost|[^.:\[]*)(:\d+)?", *own])


def _page(page: Page) -> Mapping[str, str]:
    return {
        "PAGE": page.path,
        "PAGE_FILE": str(page.file),
        "PAGE_TYPE": page.content_type,
        "PAGE_POLICY": page.policy,
    }


def exposed_methods() -> list[MethodDescriptor]:
    """Return the calls that can be made over HTTP, of both services."""
    return [method for service in (_GRAPH, _FEED) for method, _ in _exposed(service)]


def descriptor_set(*files: FileDescriptor) -> FileDescriptorSet:
    """Return files with all that they import, each after what it imports."""
    found: dict[str, FileDescriptor] = {}

    def collect(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            collect(imported)
        found.setdefault(file.name, file)

    for file in files:
        collect(file)
    result = FileDescriptorSet()
    for file in found.values():
        copy = result.file.add()
        file.CopyToProto(copy)
        for message in copy.message_type:
            _name_in_json(message, file.message_types_by_name[message.name])
    return result


def _name_in_json(message: DescriptorProto, descriptor: Descriptor) -> None:
    """Put in what protoc writes and CopyToProto leaves out. Clients in JavaScript need it."""
    for field in message.field:
        field.json_name = descriptor.fields_by_name[field.name].json_name
    for inner in message.nested_type:
        _name_in_json(inner, descriptor.nested_types_by_name[inner.name])


def contracts() -> FileDescriptorSet:
    """Return the contracts of both services, and of the details of errors."""
    # The transcoder leaves an error empty whose details it has no descriptor of.
    return descriptor_set(graph_pb2.DESCRIPTOR, feed_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)


def _scripts() -> str:
    """Return the scripts that look at requests and answers, with their tables in front of them."""
    scripts = [(_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    return "".join([http_rules(exposed_methods()), *scripts])


def _paths(prefix: str, service: ServiceDescriptor) -> Mapping[str, str]:
    """Return as regular expressions the paths of calls that may be repeated, and of the others."""
    calls = [
        *((method.name, verb in _IDEMPOTENT) for method, verb in _exposed(service)),
        *((method.name, True) for method in _streams_of_users(service)),
    ]

    def pattern(*, is_idempotent: bool) -> str:
        names = "|".join(name for name, may_be in calls if may_be is is_idempotent)
        return f"/{re.escape(service.full_name)}/({names})"

    return {
        f"{prefix}_IDEMPOTENT": pattern(is_idempotent=True),
        f"{prefix}_OTHERS": pattern(is_idempotent=False),
    }


def _certificates(settings: GatewaySettings) -> Mapping[str, str | None]:
    own, target = settings.server.certificates, settings.target.certificates
    return {
        **_file("TLS_CERT", own.chain if own else None),
        **_file("TLS_KEY", own.key if own else None),
        **_file("TARGET_CA", target.authorities),
        **_file("TARGET_CERT", target.chain),
        **_file("TARGET_KEY", target.key),
    }


def _tokens(settings: GatewaySettings) -> Mapping[str, object]:
    server = settings.server
    tokens = server.auth.tokens if server.auth else None
    if tokens is None:
        return {"AUTH_JWKS": None, **_file("AUTH_JWKS", None)}
    # Not the file that the setting names: what Envoy is given to serve, everybody can read.
    file = settings.published_keys if isinstance(tokens.keys, Path) else None
    here = reachable(server.host, server.metrics_port)
    url = urlsplit(f"http://{here}/signing-keys" if file else str(tokens.keys))
    is_encrypted = url.scheme == "https"
    return {
        "AUTH_JWKS": url.geturl(),
        **_file("AUTH_JWKS", file),
        "AUTH_JWKS_HOST": url.hostname,
        "AUTH_JWKS_PORT": url.port or (443 if is_encrypted else 80),
        "AUTH_JWKS_ENCRYPTED": is_encrypted,
        "SYSTEM_CA_FILE": system_authorities(),
        "AUTH_ISSUER": tokens.issuer,
        "AUTH_AUDIENCE": tokens.audience,
        "AUTH_LEEWAY_SECONDS": int(tokens.leeway.total_seconds()),
    }


def _traces(settings: GatewaySettings) -> Mapping[str, object]:
    if not settings.server.trace_collector:
        return {"COLLECTOR": None, "COLLECTOR_ENCRYPTED": None}
    host, port, is_encrypted = collector(settings.server.trace_collector)
    return {
        "COLLECTOR": _endpoints(f"{host}:{port}"),
        "COLLECTOR_HOST": host,
        "COLLECTOR_ENCRYPTED": is_encrypted or None,
        "TRACED_PERCENT": settings.traced_share * 100,
        "SYSTEM_CA_FILE": system_authorities(),
    }


def _file(name: str, path: Path | None) -> Mapping[str, str | None]:
    return {
        f"{name}_FILE": str(path) if path else None,
        f"{name}_FOLDER": str(path.parent) if path else None,
    }


def _endpoints(target: str) -> list[object]:
    """Return a target's hosts to call. Every address of a name is used."""
    return [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in hosts(target)
    ]


def _names(*targets: str) -> list[object]:
    """Return what a certificate has to be for, one of them."""
    addresses = sorted({address for target in targets for address, _ in hosts(target)})
    return [
        {"san_type": "IP_ADDRESS" if _is_ip(address) else "DNS", "matcher": {"exact": address}}
        for address in addresses
    ]


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _filled(node: Any, values: Mapping[str, object]) -> Any:
    """Return a document with values instead of variables, without what has no condition."""
    match node:
        case dict():
            if _CONDITION in node and not _filled(node[_CONDITION], values):
                return _LEFT_OUT
            filled = {key: _filled(each, values) for key, each in node.items()}
            return {
                key: each
                for key, each in filled.items()
                if key != _CONDITION and each is not _LEFT_OUT
            }
        case list():
            return [
                each for item in node for each in _repeated(item, values) if each is not _LEFT_OUT
            ]
        case str() if variable := _VARIABLE.fullmatch(node):
            return values[variable[1]]
        case str():
            return _VARIABLE.sub(lambda variable: str(values[variable[1]]), node)
        case _:
            return node


def _repeated(item: Any, values: Mapping[str, Any]) -> Iterator[Any]:
    """Yield an item of a list, filled: once, or for each of the values that it names."""
    if not isinstance(item, dict) or _REPETITION not in item:
        yield _filled(item, values)
        return
    rest = {key: each for key, each in item.items() if key != _REPETITION}
    for more in _filled(item[_REPETITION], values):
        yield _filled(rest, {**values, **more})
