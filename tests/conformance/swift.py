"""OpenStack Swift with its S3 API, from Debian's packages: one node in a directory of its own.

An implementation of S3 that is not ours, and that refuses what it should.
"""

import getpass
import shutil
import subprocess
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

from tests.support.ports import free_ports

INSTALL = (
    "apt-get install --no-install-recommends "
    "swift swift-proxy swift-account swift-container swift-object memcached"
)
_KINDS = ("account", "container", "object")
_SECONDS = 60
_STORAGE = """
[app:{kind}-server]
use = egg:swift#{kind}
[pipeline:main]
pipeline = {kind}-server
"""
_PROXY = """
[pipeline:main]
pipeline = catch_errors healthcheck cache listing_formats s3api tempauth copy proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
"""


def is_installed() -> bool:
    """Whether all its parts are here."""
    servers = [f"swift-{kind}-server" for kind in ("proxy", *_KINDS)]
    return all(map(shutil.which, [*servers, "memcached"]))


@dataclass
class Swift:
    """The store, from the beginning of the block to its end."""

    directory: Path
    access_key: str = "test:tester"
    secret_key: str = "testing"
    region: str = "us-east-1"
    port: int = field(init=False)
    _started: ExitStack = field(init=False)

    def __enter__(self) -> Self:
        self.port, memcached, *ports = free_ports(2 + len(_KINDS))
        (self.directory / "devices" / "device").mkdir(parents=True)
        with ExitStack() as stack:
            self._started = stack
            user = getpass.getuser()
            self._start("memcached", "-l", "127.0.0.1", "-p", str(memcached), "-u", user)
            for kind, port in zip(_KINDS, ports, strict=True):
                self._make_ring(kind, port)
                self._start_server(kind, port, _STORAGE.format(kind=kind))
            self._start_server("proxy", self.port, _PROXY.format(memcached=memcached))
            self._wait_until_ready()
            self._started = stack.pop_all()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._started.close()

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which feed_service uses it; the bucket has yet to be created."""
        return {
            "S3_BUCKET": "photos",
            "S3_ENDPOINT_URL": self.endpoint_url,
            "S3_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def _make_ring(self, kind: str, port: int) -> None:
        """Make the list of where things are: all on one device, once."""
        for command in (
            ("create", "4", "1", "0"),
            ("add", f"r1z1-127.0.0.1:{port}/device", "1"),
            ("rebalance",),
        ):
            subprocess.run(
                ["swift-ring-builder", f"{kind}.builder", *command],
                cwd=self.directory,
                check=True,
                capture_output=True,
            )

    def _start_server(self, kind: str, port: int, sections: str) -> None:
        configuration = self.directory / f"{kind}.conf"
        configuration.write_text(
            "[DEFAULT]\n"
            "bind_ip = 127.0.0.1\n"
            f"bind_port = {port}\n"
            f"user = {getpass.getuser()}\n"
            f"swift_dir = {self.directory}\n"
            f"devices = {self.directory / 'devices'}\n"
            "mount_check = false\n"
            "workers = 0\n"
            f"{sections}"
        )
        self._start(f"swift-{kind}-server", str(configuration), "--verbose")

    def _start(self, program: str, *arguments: str) -> None:
        with (self.directory / f"{program}.log").open("wb") as log:
            process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
        self._started.callback(process.wait)
        self._started.callback(process.kill)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while not self._is_healthy():
            if time.monotonic() > deadline:
                raise TimeoutError((self.directory / "swift-proxy-server.log").read_text())
            time.sleep(0.1)

    def _is_healthy(self) -> bool:
        with suppress(OSError), closing(HTTPConnection("127.0.0.1", self.port)) as connection:
            connection.request("GET", "/healthcheck")
            return connection.getresponse().status == 200
        return False
