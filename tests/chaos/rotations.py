"""Certificates, their authority and the keys of tokens, all exchanged under load."""

import time
from collections.abc import Iterator
from typing import Final

from benchmarks.row import Row
from tests.chaos.fault import Effort, kept, no_failure
from tests.chaos.load import Load
from tests.chaos.stage import Stage
from tests.support.credentials import Authority, Issuer, Shown, put

_GRAPH: Final = "graph.kith.test"
_FEED: Final = "spiffe://kith.test/feed"
_LOADER: Final = "loader"
# Files are looked at once a second; how late exactly cannot be seen from outside.
_LOOK_SECONDS: Final = 1.3


def rotation(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Exchange everything that anybody shows, in the order in which it has to be done."""
    folder = stage.folder()
    authority, issuer = Authority("authority 0"), Issuer(folder)
    shown = Shown(
        folder=folder,
        names={"graph": [_GRAPH], "feed": [_FEED], "loader": ["loader.kith.test"]},
        services=[_GRAPH, _FEED, _LOADER],
    )
    shown.renew(authority, believed=authority.certificate)
    issuer.add_key("key 0")
    token = folder / "token"
    put(token, issuer.token(_LOADER).encode())
    services = {**shown.server("graph"), **shown.client("graph"), **issuer.environment}
    feed = {**shown.server("feed"), **shown.client("feed")}
    client = {**shown.client("loader"), "TARGET_TOKEN_FILE": str(token)}
    with stage.scene(services, feed=feed) as scene:
        with Load(scene.traffic(environment=client)) as load:
            time.sleep(_LOOK_SECONDS)
            for number in range(1, effort.of(3) + 1):
                later = Authority(f"authority {number}")
                both = authority.certificate + later.certificate
                put(folder / "ca.crt", both)
                time.sleep(_LOOK_SECONDS)
                shown.renew(later, believed=both)
                time.sleep(_LOOK_SECONDS)
                put(folder / "ca.crt", later.certificate)
                issuer.add_key(f"key {number}")
                put(token, issuer.token(_LOADER).encode())
                time.sleep(_LOOK_SECONDS)
                issuer.withdraw_key(f"key {number - 1}")
                time.sleep(_LOOK_SECONDS)
                authority = later
        yield from no_failure(load.history)
        yield from kept(load.history, scene.compared(load.history))
