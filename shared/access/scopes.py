"""Which calls each service may make, as AUTH_SERVICES says it."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final, TypeAlias

from kith.environment import Environment
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import fence_keeper_pb2, graph_pb2

Scope: TypeAlias = frozenset[str] | None
"""Calls by their full names, such as `kith.feed.v1.FeedService.GetPost`; None for every call."""

NAME: Final = "AUTH_SERVICES"


def read_scopes(environment: Environment) -> Mapping[str, Scope]:
    """Read the services and their scopes: `importer; notifier=GetPost,GraphService.DeleteUser`.

    A service without `=` may make every call. A call's name stands for the call of this name in
    both contracts, unless the contract's name is before it.
    """
    scopes = dict[str, Scope]()
    for service, scope in _entries(environment, environment.text(NAME, "")):
        if not service or "," in service:
            environment.problem(NAME, f"must have one service before each =; has {service!r}")
        elif service.isdecimal():
            environment.problem(NAME, f"must not contain numbers: those are users; has {service}")
        elif scopes.get(service, scope) != scope:
            environment.problem(NAME, f"must not give {service!r} two scopes")
        scopes[service] = scope
    return scopes


def _entries(environment: Environment, text: str) -> Iterator[tuple[str, Scope]]:
    for entry in text.split(";"):
        service, has_scope, calls = entry.partition("=")
        if has_scope:
            yield service.strip(), _scope(environment, service.strip(), _words(calls))
        else:
            yield from ((name, None) for name in _words(entry))


def _scope(environment: Environment, service: str, names: list[str]) -> frozenset[str]:
    if not names:
        environment.problem(NAME, f"must name a call for {service!r}, or leave out its =")
    for name in names:
        if name not in _CALLS:
            meant = get_close_matches(name, _CALLS, n=1)
            hint = f"; {meant[0]} is one" if meant else ""
            environment.problem(NAME, f"for {service!r}: no contract has the call {name!r}{hint}")
    return frozenset().union(*(_CALLS.get(name, ()) for name in names))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _calls() -> Mapping[str, frozenset[str]]:
    """Return the full names of the calls that a name stands for."""
    calls = dict[str, frozenset[str]]()
    for file in (graph_pb2, fence_keeper_pb2, feed_pb2):
        for contract in file.DESCRIPTOR.services_by_name.values():
            for method in contract.methods:
                full_name = frozenset([method.full_name])
                calls[f"{contract.name}.{method.name}"] = full_name
                calls[method.name] = calls.get(method.name, frozenset()) | full_name
    return calls


_CALLS: Final = _calls()
