"""Makes calls by the client that openapi-python-client has generated, and prints their results.

Runs where that is installed: `calls.py FOLDER URL TOKEN`, with the calls as JSON on standard input.
"""

import importlib
import json
import sys
from typing import Any


def main(folder: str, url: str, token: str) -> None:
    """Make the calls one after the other; prints of each its status and the class of its answer."""
    sys.path.insert(0, folder)
    made = importlib.import_module("client_of_kith")
    client = made.AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)
    results = []
    for call in json.load(sys.stdin):
        module = importlib.import_module(f"client_of_kith.api.{call['tag']}.{call['module']}")
        arguments: dict[str, Any] = call["arguments"]
        if call["body"] is not None:
            arguments["body"] = getattr(module, call["body_class"]).from_dict(call["body"])
        for name, value in arguments.items():
            if name in call["enums"]:
                arguments[name] = getattr(module, call["enums"][name])(value)
        answer = module.sync_detailed(client=client, **arguments)
        results.append([answer.status_code, type(answer.parsed).__name__])
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
