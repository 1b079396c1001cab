import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

import pytest

from kith.client import KithClient
from kith.feed.v1 import feed_pb2
from tests.support import photos, programs
from tests.support.browser import get, post_form
from tests.support.memory import folder_for_postgres
from tests.support.ports import free_ports

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="what is left running is looked up in /proc"
)

RUNNING = "Ctrl-C stops everything"
SECONDS = 240
ALL = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL)


@dataclass
class Home:
    """A directory for data, ports of its own, and everything that was started with them."""

    people: int
    directory: Path = field(init=False)
    environment: dict[str, str] = field(init=False)
    feed_target: str = field(init=False)
    metrics_address: str = field(init=False)
    runs: list["Started"] = field(default_factory=list)
    _resources: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.directory = self._resources.enter_context(folder_for_postgres())
        graph, feed, fences, graph_metrics, feed_metrics = free_ports(5)
        self.feed_target = f"127.0.0.1:{feed}"
        self.metrics_address = f"127.0.0.1:{feed_metrics}"
        self.environment = {
            **os.environ,
            "KITH_DATA_DIR": str(self.directory),
            "KITH_SAMPLE_PEOPLE": str(self.people),
            "GRAPH_PORT": str(graph),
            "GRAPH_METRICS_PORT": str(graph_metrics),
            "GRAPH_TARGET": f"127.0.0.1:{graph}",
            "FEED_PORT": str(feed),
            "FEED_METRICS_PORT": str(feed_metrics),
            "FENCES_PORT": str(fences),
            "FEED_TARGET": self.feed_target,
            "DRAIN_SECONDS": "0",
            "COLUMNS": "100",
        }
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.kill_everything()
        for run in self.runs:
            run.process.wait()
        self._resources.close()

    def start(self, **settings: str) -> "Started":
        output = self.directory / "output"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [*programs.ending_with_us(), "shared.cli", "run"],
                cwd=self.directory,
                env={**self.environment, **settings},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.runs.append(Started(process, output, settings))
        return self.runs[-1]

    def running(self, **settings: str) -> "Started":
        """Return what runs here with these settings, which an earlier test may have started."""
        last = self.runs[-1] if self.runs else None
        if last is None or last.process.poll() is not None or last.settings != settings:
            self.kill_everything()
            last = self.start(**settings)
        last.until_running()
        return last

    def kith(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return programs.run(
            "shared.cli",
            *map(str, arguments),
            environment=self.environment,
            folder=self.directory,
        )

    def client(self) -> KithClient:
        return KithClient.from_environment(
            graph=self.environment["GRAPH_TARGET"], feed=self.feed_target
        )

    def pids(self, name: str = "") -> set[int]:
        """What runs here and has this name in its command, by the directory in its environment."""
        found = set[int]()
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                with suppress(OSError):
                    command = (process / "cmdline").read_bytes()
                    known = command + (process / "environ").read_bytes()
                    if (
                        command
                        and str(self.directory).encode() in known
                        and name.encode() in command
                    ):
                        found.add(int(process.name))
        return found

    def kill_everything(self) -> None:
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def post_count(self) -> int:
        connection = HTTPConnection(self.metrics_address, timeout=SECONDS)
        with closing(connection):
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
        found = re.search(r"^posts_total (\S+)$", page, re.MULTILINE)
        assert found
        return int(float(found[1]))


@dataclass
class Started:
    """A `kith run` and what it has said."""

    process: subprocess.Popen[bytes]
    output: Path
    settings: Mapping[str, str]

    def said(self) -> str:
        return self.output.read_text()

    def until_running(self) -> str:
        wait_until(lambda: RUNNING in self.said() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()
        return self.said()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(SECONDS)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def first_run() -> Iterator[tuple[Home, str, int]]:
    """A home with data, what the command that was first to run there said, and its posts then."""
    with Home(people=60) as fresh:
        yield fresh, fresh.running().said(), fresh.post_count()


@pytest.fixture
def home(first_run: tuple[Home, str, int]) -> Home:
    """A home with data, where an earlier test may have left something running."""
    home, *_ = first_run
    return home


@pytest.fixture
def lived_in(first_run: tuple[Home, str, int]) -> tuple[Home, str]:
    """The same home, where everything runs."""
    home, said, _ = first_run
    home.running()
    return home, said


def test_the_first_run_loads_the_sample_and_shows_a_page_and_where_everything_is(
    first_run: tuple[Home, str, int],
) -> None:
    home, said, posts = first_run
    assert posts == 120
    assert "Loading a sample of 60 people" in said
    assert "The feed of person 17, page 1" in said
    for variable in ("GRAPH_PORT", "GRAPH_METRICS_PORT", "FEED_PORT", "FEED_METRICS_PORT"):
        assert f"127.0.0.1:{home.environment[variable]}" in said


def test_the_calls_to_try_work_as_they_are_printed(lived_in: tuple[Home, str]) -> None:
    home, said = lived_in
    calls = [
        line.split() for line in said.splitlines() if line.startswith("    ") and "kith " in line
    ]
    assert len(calls) == 4
    for _, *arguments in calls:
        answer = home.kith(*arguments)
        assert (answer.returncode, answer.stderr) == (0, "")
    assert (home.directory / "connections.csv").exists()


def test_a_photo_can_be_uploaded_posted_and_looked_at_without_any_setting(
    lived_in: tuple[Home, str],
) -> None:
    home, said = lived_in
    draft = feed_pb2.CreatePhotoUploadsRequest.PhotoUploadDraft(
        content_type=feed_pb2.PHOTO_CONTENT_TYPE_PNG
    )
    with home.client() as kith:
        (upload,) = kith.feed.CreatePhotoUploads(
            feed_pb2.CreatePhotoUploadsRequest(user_id=17, photos=[draft])
        ).uploads
        uploaded = post_form(upload.url, upload.fields, photos.plain("image/png"))
        post = kith.feed.CreatePost(
            feed_pb2.CreatePostRequest(
                user_id=17, body="With a photo", audience=ALL, photo_keys=[upload.key]
            )
        ).post
    seen = get(post.photos[0].url)
    assert upload.url.removesuffix("/kith-photos") in said
    assert uploaded.status == 204
    assert (seen.status, seen.content_type) == (200, "image/png")
    assert photos.pixels(seen.body) == photos.pixels(photos.plain("image/png"))


def test_a_second_run_beside_the_first_says_which_port_is_taken(
    lived_in: tuple[Home, str],
) -> None:
    home, _ = lived_in
    answer = home.kith("run")
    assert answer.returncode == 1
    assert f"127.0.0.1:{home.environment['GRAPH_PORT']}" in answer.stderr
    assert "GRAPH_PORT" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_what_is_imported_can_be_exported_and_imported_again(lived_in: tuple[Home, str]) -> None:
    home, _ = lived_in
    edges, copy = home.directory / "edges.csv", home.directory / "copy.csv"
    edges.write_text("a,b\n0,1\n1,2\n2,1\n")
    first = home.kith("import", "connections", edges, "--id-offset", "7000")
    home.kith("export", "connections", copy)
    again = home.kith("import", "connections", copy)
    assert "2 imported, 1 there already" in first.stdout
    with copy.open(newline="") as file:
        pairs = [(row["first_user_id"], row["second_user_id"]) for row in csv.DictReader(file)]
    assert ("7000", "7001") in pairs
    assert ("7001", "7002") in pairs
    assert f"\n0 imported, {len(pairs):,} there already" in again.stdout


def test_an_edge_list_with_a_bad_line_names_it(lived_in: tuple[Home, str]) -> None:
    home, _ = lived_in
    edges = home.directory / "bad.csv"
    edges.write_text("1,2\n3,four\n")
    answer = home.kith("import", "connections", edges)
    assert answer.returncode == 1
    assert answer.stderr == (
        "kith: line 2 is not a pair of ids: ['3', 'four']; no row took effect\n"
    )


def test_imported_posts_are_in_the_feed_whatever_their_script_and_only_once(
    lived_in: tuple[Home, str],
) -> None:
    home, _ = lived_in
    texts = home.directory / "texts.csv"
    texts.write_text('id,said\n1,"[b]so, so[/b] 🇮🇪💪🏿"\n2,نتوريا يا صديقي\n3,  \n')
    arguments = ("import", "posts", texts, "--column", "said", "--authors", "1")
    before = home.post_count()
    answers = [home.kith(*arguments), home.kith(*arguments)]
    feed = home.kith("feed", "1", "--pages", "9")
    assert home.post_count() == before + 2
    assert "2 imported, 0 there already" in answers[0].stdout
    assert "0 imported, 2 there already" in answers[1].stdout
    assert [answer.returncode for answer in answers] == [3, 3]
    assert "1 refused, the first in line 4: INVALID_FIELD: body" in answers[0].stderr
    assert "[b]so, so[/b] 🇮🇪💪🏿" in feed.stdout
    assert "نتوريا يا صديقي" in feed.stdout
    assert "to all connections" in feed.stdout


def test_a_digest_names_its_week_and_says_why_each_post_is_there(
    lived_in: tuple[Home, str],
) -> None:
    home, _ = lived_in
    answer = home.kith("digest", "17", "--time-zone", "Europe/Lisbon")
    assert "The digest of person 17, from " in answer.stdout
    assert "The week is not over yet." in answer.stdout
    last_week = (date.today() - timedelta(days=7)).isoformat()  # noqa: DTZ011 -- as a person says it
    before = home.kith("digest", "17", "--week-of", last_week)
    assert "among the most important" in before.stdout
    assert "Its choice of posts is final." in before.stdout
    [said] = re.findall(
        r"No posts to summarise\. --week-of (\S+) shows the week before\.",
        home.kith("digest", "999999").stdout,
    )
    assert date.fromisoformat(said).isoweekday() == 6
    assert home.kith("digest", "17", "--time-zone", "Mars/Olympus").stderr.startswith(
        "kith: argument --time-zone: there is no time zone 'Mars/Olympus'; "
    )


def test_a_person_is_told_why_somebody_sees_a_post(lived_in: tuple[Home, str]) -> None:
    home, _ = lived_in
    feed = home.kith("feed", "1")
    post = re.search(r"person 1 .* post (\d+) +to all connections", feed.stdout)
    assert post
    answers = [home.kith("explain", "1", post[1], viewer) for viewer in ("1", "999999")]
    assert [answer.stdout for answer in answers] == [
        f"Person 1 sees post {post[1]} of person 1: it is their own.\n",
        f"Person 999999 does not see post {post[1]} of person 1: the two are not connected.\n",
    ]


def test_a_person_can_take_everything_along_and_be_erased(lived_in: tuple[Home, str]) -> None:
    home, _ = lived_in
    copy = home.directory / "person.jsonl"
    home.kith("export", "user", "9", copy)
    erased = home.kith("erase", "9", "--yes")
    lines = [json.loads(line) for line in copy.read_text().splitlines()]
    assert {next(iter(line)) for line in lines} >= {"tags", "tagged_users"}
    assert re.fullmatch(r"Person 9 is erased; \d+ connections ended\.\n", erased.stdout)
    assert "has 0 connections" in home.kith("connections", "9").stdout
    assert home.kith("export", "user", "9").stdout.endswith('\n{"end": {"lines": 0}}\n')


def test_an_error_of_a_service_is_one_line(lived_in: tuple[Home, str]) -> None:
    home, _ = lived_in
    answer = home.kith("explain", "1", "999999999", "1")
    assert answer.returncode == 1
    assert answer.stderr.startswith("kith: POST_NOT_FOUND: ")
    assert len(answer.stderr.splitlines()) == 1


def test_without_services_the_command_line_says_how_to_start_them() -> None:
    with Home(people=20) as home:
        answer = home.kith("connections", "17")
    assert answer.returncode == 1
    assert "`make run`" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_ctrl_c_leaves_nothing_running_and_the_next_run_has_the_data_without_loading(
    home: Home,
) -> None:
    first = home.running()
    posts = home.post_count()
    status = first.interrupt()
    left = home.pids()
    said = home.running(KITH_PHOTOS="off").said()
    assert (status, left) == (0, set())
    assert "Loading" not in said
    assert "The feed of person 17, page 1" in said
    assert home.post_count() == posts > 0
    # Without photos, no object store is started.
    assert "photos " not in said
    assert home.pids("moto") == set()


def test_a_service_that_dies_is_named_and_takes_everything_with_it(home: Home) -> None:
    started = home.running(KITH_PHOTOS="off")
    (feed_pid,) = home.pids("feed_service")
    os.kill(feed_pid, signal.SIGKILL)
    status = started.process.wait(SECONDS)
    assert (status, home.pids()) == (1, set())
    assert "feed_service ended with status -9; its log ends with" in started.said()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell a child")
def test_a_command_line_killed_alone_takes_everything_with_it(home: Home) -> None:
    home.kill_everything()
    started = home.start()
    wait_until(lambda: "Starting graph_service" in started.said())
    wait_until(lambda: home.pids("graph_service") and home.pids("feed_service"))
    started.process.kill()
    started.process.wait()
    wait_until(lambda: not home.pids())


def test_everything_killed_during_the_load_comes_back_with_each_acknowledged_write() -> None:
    with Home(people=300) as home:
        home.start(KITH_PHOTOS="off")
        with home.client() as kith:
            wait_until((home.directory / "sample.loading").exists)
            acknowledged = [
                kith.feed.CreatePost(
                    feed_pb2.CreatePostRequest(user_id=9_001, body=f"Post {n}", audience=ALL),
                    timeout=SECONDS,
                ).post
                for n in range(5)
            ]
        home.kill_everything()
        was_loaded = (home.directory / "sample.loaded").exists()

        said = home.start(KITH_PHOTOS="off").until_running()

        with home.client() as kith:
            page = kith.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=9_001))
        assert not was_loaded
        assert "Loading a sample" in said
        assert list(page.posts) == acknowledged[::-1]
        assert home.post_count() == 600 + len(acknowledged)
