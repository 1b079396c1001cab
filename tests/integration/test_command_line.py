"""The command line with the real services: each command ends in a status, and at most one line."""

import csv
import gzip
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kith.cli import imports
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.cli.__main__ import main
from shared.processes.workers import Options
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People
from tests.support.processes import is_ready, until

HEADER = "first_user_id,second_user_id,connect_time\n"
TOO_LARGE = str(2**63)
# An address without a server: a port that no ordinary process may bind.
NOWHERE = "127.0.0.1:1"
_SECONDS = 240

Kith = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """A pair in which nothing that another file has done is finished while rows are counted."""
    with running_pair(databases) as running:
        until(lambda: is_ready(running.feed_server.address))
        yield running


@pytest.fixture
def kith(pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kith:
    """Runs a command in this process; returns its status, its output and its errors."""
    monkeypatch.setenv("GRAPH_TARGET", pair.graph_server.address)
    monkeypatch.setenv("FEED_TARGET", pair.feed_server.address)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, stdin: bytes | None = None) -> tuple[int, str, str]:
        capsys.readouterr()
        with monkeypatch.context() as patch, ExitStack() as stack:
            if stdin is not None:
                patch.setattr(sys, "stdin", stack.enter_context(os.fdopen(_pipe(stdin))))
            status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Writes a file."""

    def write(name: str, contents: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return path

    return write


Write = Callable[[str, str | bytes], Path]


def _pipe(contents: bytes) -> int:
    """Return the end of a pipe from which these bytes can be read, once, or not at all."""
    reader, writer = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), os.fdopen(writer, "wb") as file:
            file.write(contents)

    threading.Thread(target=feed, daemon=True).start()
    return reader


def _connected(pair: Pair, user_id: int) -> list[int]:
    request = graph_pb2.ListConnectionsRequest(user_id=user_id, page_size=500)
    return sorted(peer.peer_id for peer in pair.graph.ListConnections(request).connections)


def _is_one_line(text: str) -> bool:
    return text.startswith("kith: ") and text.endswith("\n") and text.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nonsense",
        f"feed {TOO_LARGE}",
        "feed -- -1",
        "feed 1_7",
        "feed \u0661\u0667",
        f"feed {'9' * 5_000}",
        f"feed 1 --pages {TOO_LARGE}",
        f"connections {TOO_LARGE}",
        f"erase {TOO_LARGE} --yes",
        f"explain 1 {TOO_LARGE} 1",
        f"export user {TOO_LARGE}",
        "digest 1 --time-zone America",
        f"digest 1 --time-zone {'A' * 300}",
        "digest 1 --time-zone ''",
        "digest 1 --time-zone /etc/passwd",
        "digest 1 --time-zone ../../etc/passwd",
        "digest 1 --week-of yesterday",
        "digest 1 --week-of 20261",
        f"import connections x.csv --id-offset {'9' * 40}",
        f"import posts x.txt --authors {TOO_LARGE}",
        "import posts x.txt --authors 3 --days 99999999",
        f"import posts x.txt --authors 3 --seed {'9' * 40}",
        "shards create --count 0",
        "watch posts --kind nothing",
        "watch connections --kind post_created",
        f"watch posts --user {TOO_LARGE}",
        "watch posts --count 0",
    ],
)
def test_arguments_that_cannot_be_used_are_told_in_one_line_with_status_2(
    kith: Kith, arguments: str
) -> None:
    status, out, error = kith(*shlex.split(arguments))
    assert (status, out) == (2, "")
    assert _is_one_line(error)


@pytest.mark.parametrize(
    "arguments",
    [
        "digest 1 --week-of 0001-01-01",
        "digest 1 --week-of 9999-12-31 --time-zone Etc/GMT+12",
        "explain 1 999999999 1",
        "export connections {folder}/none/x.csv",
        "export connections {folder}/none/x.csv.gz",
        "export connections {folder}",
        "export connections /dev/full",
        "export connections {folder}/{long}",
        "export connections {folder}/loop",
        "export user 1 {folder}",
        "import connections {folder}/none.csv",
        "import connections {folder}",
        "import connections {folder}/loop",
        "import posts {folder}/none.csv --authors 1",
        "import posts {folder} --authors 1",
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_with_status_1(
    kith: Kith, tmp_path: Path, people: People, arguments: str
) -> None:
    people.connected(2)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    filled = arguments.format(folder=tmp_path, long="x" * 300)
    status, out, error = kith(*shlex.split(filled))
    assert (status, out) == (1, "")
    assert _is_one_line(error)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("contents", "told"),
    [
        (f"1,{TOO_LARGE}\n", "line 1: ids must be from 1 to 9223372036854775807"),
        (f"1,2\n1,{'9' * 5_000}\n", "line 2 is not a pair of ids"),
        ("0,1\n", "line 1: ids must be"),
        ("1 2\n", "line 1 is not a pair of ids: ['1 2']; commas separate columns"),
        ("1;2\n", "line 1 is not a pair of ids: ['1;2']; commas separate columns"),
        ("1\t2\n", "line 1 is not a pair of ids"),
        ("1.0,2.0\n", "line 1 is not a pair of ids"),
        ("1,two\n", "line 1 is not a pair of ids"),
        ("first,second\nfirst,second\n", "line 2 is not a pair of ids"),
        ("one column\n", "line 1 is not a pair of ids"),
        (
            "1,2,2020-01-01T00:00:00Z\n",
            "line 1 has more than two columns, and no header names them",
        ),
        (f"{HEADER}\n1,2,2020-01-01T00:00:00\n", "line 3: connect_time must be a time with its"),
        (f"{HEADER}1,2,2020-01-01\n", "line 2: connect_time must be a time with its zone"),
        (f"{HEADER}1,2,0001-01-01T00:00:00+14:00\n", "line 2: connect_time must be a time"),
        (f"{HEADER}1,2,yesterday\n", "line 2: connect_time must be a time"),
        (f"{HEADER}\n1,2,2999-01-01T00:00:00Z\n", "line 3: INVALID_FIELD: connect_time must"),
        (f"{HEADER}1,2,1969-01-01T00:00:00Z\n1,1,\n", "line 3: INVALID_FIELD: second_user_id"),
        (f"1,{'x' * 140_000}\n", "line 1 is not a pair of ids"),
        (f"1,2\n{'x' * 1_100_000}\n", "longer than 1,000,000 bytes"),
        ('1,2\n"3,4\n' + "5,6\n" * 300_000, "the row that begins in line 2 is not valid CSV"),
        (b"1,2\n\xff\xfe\n", "is not UTF-8 text"),
        (gzip.compress(b"1,2\n" * 5_000, mtime=0)[:-20], "cannot read line"),
        (gzip.compress(b"1,2\n", mtime=0)[:10] + b"nonsense", "cannot read line 1"),
    ],
)
def test_a_row_that_is_no_pair_is_named_by_its_line_and_nothing_takes_effect(
    kith: Kith, write: Write, contents: str | bytes, told: str
) -> None:
    status, _, error = kith("import", "connections", write("edges.csv", contents))
    assert status == 1
    assert _is_one_line(error)
    assert told in error
    assert error.endswith("; no row took effect\n")


def test_a_failed_import_says_which_line_it_is_and_how_much_took_effect(
    kith: Kith, write: Write, pair: Pair, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "IMPORT_CHUNK", 2)
    first, *others = people.new(5)
    rows = "".join(f"{first},{other}\n" for other in others[:3])
    path = write("edges.csv", f"a,b\n{rows}{first},{first}\n{first},{others[3]}\n")

    status, _, error = kith("import", "connections", path)

    assert status == 1
    assert error == (
        "kith: line 5: INVALID_FIELD: second_user_id must not be the user; the rows up to line 3 "
        "took effect: 2 imported, 0 there already, 0 skipped (blocked), "
        "0 skipped (connection limit)\n"
    )
    assert _connected(pair, first) == others[:2]


def test_an_import_that_reaches_nobody_says_so_and_that_nothing_is_known_to_have_happened(
    kith: Kith, write: Write
) -> None:
    path = write("edges.csv", "1,2\n")
    status, _, error = kith("import", "connections", path, "--graph", NOWHERE)
    assert status == 1
    assert _is_one_line(error)
    assert "`make run`" in error
    assert error.endswith("; no row is known to have taken effect\n")


@pytest.mark.parametrize(
    "form",
    [
        "{a},{b}\n",
        "{a},{b}",
        "﻿{a},{b}\r\n",
        "x,y\n{a},{b}\n",
        "\nfirst user,second user\n{a},{b}\n",
        " {a} , {b} \n",
        "{a},{b}\n,\n \n",
        'user_1,user_2,weight\n"{a}","{b}",0.5\n',
    ],
)
def test_pairs_are_imported_with_or_without_a_header_and_blank_rows_are_passed_over(
    kith: Kith, write: Write, pair: Pair, people: People, form: str
) -> None:
    a, b = people.new(2)
    status, out, error = kith("import", "connections", write("edges.csv", form.format(a=a, b=b)))
    assert (status, error) == (0, "")
    assert "1 imported, 0 there already" in out
    assert _connected(pair, a) == [b]


def test_a_pipe_standard_input_and_gzip_are_read_like_a_file(
    kith: Kith, write: Write, pair: Pair, people: People
) -> None:
    person, *others = people.new(5)
    plain, standard, packed, packed_standard = (f"{person},{other}\n".encode() for other in others)
    pipe = _pipe(plain)
    ends = [
        kith("import", "connections", f"/dev/fd/{pipe}"),
        kith("import", "connections", "-", stdin=standard),
        kith("import", "connections", write("edges.csv.gz", gzip.compress(packed))),
        kith("import", "connections", "-", stdin=gzip.compress(packed_standard)),
    ]
    os.close(pipe)
    assert [(status, error) for status, _, error in ends] == [(0, "")] * 4
    assert _connected(pair, person) == others


def test_pairs_that_are_skipped_are_counted_and_show_in_the_status(
    kith: Kith, write: Write, people: People
) -> None:
    a, b, c = people.new(3)
    people.block(a, b)
    status, out, error = kith(
        "import", "connections", write("edges.csv", f"{a},{b}\n{a},{c}\n{c},{a}\n")
    )
    assert (status, error) == (3, "kith: 1 pairs were skipped\n")
    assert (
        "1 imported, 1 there already, 1 skipped (blocked), 0 skipped (connection limit); 3 rows"
        in out
    )


def test_connections_that_are_exported_and_imported_again_keep_their_times(
    kith: Kith, write: Write, pair: Pair, people: People, tmp_path: Path
) -> None:
    a, b = people.new(2)
    connect_time = "2019-02-28T23:59:59.123456+00:00"
    kith("import", "connections", write("edges.csv", f"{HEADER}{a},{b},{connect_time}\n"))
    kith("export", "connections", tmp_path / "all.csv.gz")
    with gzip.open(tmp_path / "all.csv.gz", "rt", newline="") as file:
        copy = [row for row in csv.reader(file) if row[0] in (str(a), "first_user_id")]
    people.remove(a, b)

    kith("import", "connections", write("copy.csv", "".join(f"{','.join(row)}\n" for row in copy)))

    request = graph_pb2.ListConnectionsRequest(user_id=a)
    [again] = pair.graph.ListConnections(request).connections
    expected = Timestamp()
    expected.FromJsonString(connect_time)
    assert copy[1:] == [[str(a), str(b), connect_time]]
    assert again.connect_time == expected


def test_texts_of_any_line_ending_are_imported_as_they_are(
    kith: Kith, write: Write, pair: Pair, people: People
) -> None:
    path = write("texts.txt", "one\r\n\r\n two \ntwo\r\nthree")
    kith("import", "posts", path, "--authors", 1, "--seed", people.new(1)[0])
    request = feed_pb2.ListPostsRequest(user_id=1, author_id=1, page_size=100)
    assert {"one", " two ", "two", "three"} <= {
        post.body for post in pair.feed.ListPosts(request).posts
    }


def test_texts_that_are_refused_show_in_the_status_and_stop_no_other(
    kith: Kith, people: People, write: Write
) -> None:
    path = write("texts.csv", f"id,text\n1,fine\n2,{'x' * 140_000}\n3,a\x07b\n4,good\n")
    status, out, error = kith("import", "posts", path, "--authors", 2, "--seed", people.new(1)[0])
    assert status == 3
    assert "2 imported, 0 there already; 4 rows" in out
    assert error == (
        "kith: 2 refused, the first in line 3: INVALID_FIELD: body must have at most "
        "10,000 characters; has 140,000\n"
    )


def test_long_texts_are_sent_in_messages_that_the_service_takes(
    kith: Kith, people: People, write: Write
) -> None:
    path = write("texts.txt", f"{'💪' * 10_000}\n" * 300)
    status, out, _ = kith("import", "posts", path, "--authors", 9, "--seed", people.new(1)[0])
    assert status == 0
    assert "300 imported" in out


def test_a_column_says_that_standard_input_is_csv(kith: Kith, people: People) -> None:
    arguments = ("import", "posts", "-", "--authors", 1, "--seed", people.new(1)[0])
    text = b'said,id\n"1, 2",1\n'
    as_csv = kith(*arguments, "--column", "said", stdin=text)
    without_column = kith(*arguments, "--column", "text", stdin=text)
    assert "1 imported" in as_csv[1]
    assert without_column[0] == 1
    assert "there is no column 'text', but ['said', 'id']" in without_column[2]


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def ending(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that ends a command. A shell starts background jobs with SIGINT ignored."""
    ending: signal.Signals = request.param
    is_interrupt = ending == signal.SIGINT
    former = signal.signal(ending, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    yield ending
    signal.signal(ending, former)


def test_an_import_that_is_stopped_says_how_much_took_effect(
    kith: Kith, pair: Pair, people: People, monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    monkeypatch.setattr(imports, "IMPORT_CHUNK", 1)
    a, b = people.new(2)
    reader, writer = os.pipe()
    os.write(writer, f"{a},{b}\n".encode())

    def stop() -> None:
        try:
            until(lambda: _connected(pair, a))
            # By now the answer may still be on its way, and the second line is read after it.
            os.write(writer, f"{b},{a}\n".encode())
            until(lambda: not select.select([reader], [], [], 0)[0])
        finally:
            os.kill(os.getpid(), ending)

    thread = threading.Thread(target=stop)
    thread.start()
    status, _, error = kith("import", "connections", f"/dev/fd/{reader}")
    thread.join()
    for end in (reader, writer):
        os.close(end)
    assert status == 130
    assert re.fullmatch(
        r"kith: interrupted; the rows up to line \d took effect, perhaps more: 1 imported, .*\n",
        error,
    )


def test_a_failed_export_leaves_the_file_as_it_was_and_nothing_beside_it(
    kith: Kith, write: Write, tmp_path: Path
) -> None:
    former = write("connections.csv", "what there was")
    status, _, error = kith("export", "connections", former, "--graph", NOWHERE)
    assert (status, _is_one_line(error)) == (1, True)
    assert former.read_text() == "what there was"
    assert list(tmp_path.iterdir()) == [former]


def test_an_export_takes_the_place_of_a_file_behind_its_link_with_its_mode(
    kith: Kith, write: Write, tmp_path: Path, people: People
) -> None:
    people.connected(2)
    former = write("real.csv", "what there was")
    former.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(former)
    status, _, _ = kith("export", "connections", link)
    assert status == 0
    assert link.is_symlink()
    assert former.stat().st_mode & 0o777 == 0o640
    assert former.read_text().startswith("first_user_id,second_user_id,connect_time")
    assert sorted(tmp_path.iterdir()) == [link, former]


def test_changes_are_printed_with_the_cursor_to_go_on_from(
    kith: Kith, pair: Pair, people: People
) -> None:
    person, friend = people.new(2)
    first = people.post(person)
    about = ("--user", person, "--count", 1)
    _, out, _ = kith("watch", "posts", "--from-oldest", *about)
    printed = json.loads(out)
    second = people.post(person)

    _, out, _ = kith("watch", "posts", "--cursor", printed["cursor"], *about)
    [resumed] = json.loads(out)["events"]
    start = next(pair.graph.WatchConnections(graph_pb2.WatchConnectionsRequest())).cursor
    people.connect(person, friend)
    kind = ("--kind", "imported")
    status, out, _ = kith("watch", "connections", "--cursor", start, *kind, *about)
    [connected] = json.loads(out)["events"]

    assert [int(event["postId"]) for event in printed["events"]] == [first]
    assert int(resumed["postId"]) == second
    assert (status, connected["kind"]) == (0, "CONNECTION_EVENT_KIND_IMPORTED")


def test_an_export_goes_to_standard_output_for_a_dash_or_no_file(
    kith: Kith, people: People
) -> None:
    [person] = people.new(1)
    people.tag(person, "friends")
    outputs = [kith("export", "user", person, *file) for file in ((), ("-",))]
    assert outputs[0] == outputs[1]
    assert '{"tags": ' in outputs[0][1]


@contextmanager
def _typed(text: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a terminal at which a person has typed something."""
    controller, terminal = os.openpty()
    os.write(controller, text.encode())
    with monkeypatch.context() as patch, os.fdopen(terminal) as stdin:
        patch.setattr(sys, "stdin", stdin)
        yield
    os.close(controller)


def test_erasing_takes_an_answer_or_yes(
    kith: Kith, pair: Pair, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, friend = people.connected(2)
    without_terminal = kith("erase", person, stdin=b"y\n")
    after_nothing = _connected(pair, friend)

    with _typed("\n", monkeypatch):
        no = kith("erase", person)
    after_no = _connected(pair, friend)
    with _typed("y\n", monkeypatch):
        yes = kith("erase", person)
    after_yes = _connected(pair, friend)
    again = kith("erase", person, "--yes")

    assert without_terminal[0] == 2
    assert "--yes" in without_terminal[2]
    assert (no[0], no[2]) == (1, "kith: nothing was erased\n")
    assert f"Person {person} has 1 connections." in no[1]
    assert yes[0] == 0
    assert f"Person {person} is erased; 1 connections ended." in yes[1]
    assert again[0] == 0
    assert (after_nothing, after_no, after_yes) == ([person], [person], [])


def test_several_people_are_erased_after_one_answer(
    kith: Kith, pair: Pair, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    friend, first, second = people.connected(3)
    dry_run = kith("erase", first, second, "--dry-run")
    with _typed("y\n", monkeypatch):
        status, shown, _ = kith("erase", first, second)

    assert dry_run[1] == (
        f"Person {first} has 1 connections.\nPerson {second} has 1 connections.\n"
    )
    assert status == 0
    assert shown == (
        f"{dry_run[1]}Erase these 2 people permanently? (y/N) "
        f"Person {first} is erased; 1 connections ended.\n"
        f"Person {second} is erased; 1 connections ended.\n"
    )
    assert _connected(pair, friend) == []


def test_nobody_is_erased_when_one_of_the_ids_is_none(
    kith: Kith, pair: Pair, people: People
) -> None:
    person, friend = people.connected(2)
    status, _, error = kith("erase", person, TOO_LARGE, "--yes")
    assert (status, _is_one_line(error)) == (2, True)
    assert _connected(pair, friend) == [person]


def test_a_dry_run_of_erasing_says_what_there_is_and_erases_nothing(
    kith: Kith, people: People, pair: Pair
) -> None:
    person, friend, *_ = people.connected(3)
    stranger, other = people.new(2)
    pair.graph.RequestConnection(
        graph_pb2.RequestConnectionRequest(user_id=stranger, peer_id=person)
    )
    people.block(person, other)
    people.tag(person, "friends", friend)
    for _ in range(2):
        people.post(person)
    first = kith("erase", person, "--dry-run", "--yes")
    assert first == kith("erase", person, "--dry-run")
    assert first[0] == 0
    assert first[1] == (
        f"Person {person} has 2 connections, 1 open requests, 1 blocked people, 1 tags, "
        "1 tagged users, 2 posts.\n"
    )


def test_what_somebody_wrote_can_be_hidden_held_and_shown_again(
    kith: Kith, people: People, pair: Pair
) -> None:
    person, friend = people.connected(2)
    post = feed_pb2.PostName(author_id=person, post_id=people.post(person))
    comment = feed_pb2.CreateCommentRequest(user_id=friend, post=post, body="hi")
    comment_id = pair.feed.CreateComment(comment).comment.comment_id
    name = ("moderate", person, post.post_id)
    last_day = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"

    hidden = kith(*name, "hidden", "--reason", "spam")
    while_hidden = (people.feed(friend), kith("explain", *name[1:], friend))
    held = kith(*name, "held", "--reason", "spam", "--until", last_day, "--comment", comment_id)
    shown = kith(*name, "visible")
    while_shown = people.feed(friend)
    erased = kith("erase", friend, "--yes")

    of_comment = f"comment {comment_id} on post {post.post_id} of person {person}"
    assert hidden == (0, f"Post {post.post_id} of person {person} is hidden.\n", "")
    assert "a service hides it." in while_hidden[1][1]
    assert held == (0, f"{of_comment.capitalize()} is held until {last_day}.\n", "")
    assert shown == (0, f"Post {post.post_id} of person {person} is visible.\n", "")
    assert (while_hidden[0], while_shown) == ([], [post.post_id])
    assert f"A hold keeps {of_comment} until {last_day} 00:00 UTC." in erased[1]


def test_an_erasure_that_reaches_one_service_says_so_and_who_comes_after(
    kith: Kith, pair: Pair, people: People
) -> None:
    friend, person, second, third = people.connected(4)
    status, _, error = kith("erase", person, second, third, "--yes", "--feed", NOWHERE)
    assert status == 1
    assert _is_one_line(error)
    assert f"person {person} is erased from graph_service, and not or in part from feed" in error
    assert error.endswith(f"; not tried: {second} {third}\n")
    assert _connected(pair, friend) == [second, third]


def test_an_erasure_that_reaches_no_service_names_the_person(kith: Kith) -> None:
    status, _, error = kith("erase", 17, "--yes", "--graph", NOWHERE)
    assert (status, _is_one_line(error)) == (1, True)
    assert error.startswith("kith: person 17 is not erased: SERVICE_UNREACHABLE: ")


def test_settings_that_cannot_be_used_are_told_in_one_line(
    kith: Kith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARGET_CERT_FILE", "/none")
    monkeypatch.setenv("TARGET_TOKEN_FILE", "/none")
    status, _, error = kith("connections", 1)
    assert status == 2
    assert _is_one_line(error)


def test_a_working_directory_that_is_gone_is_named(
    kith: Kith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ended = kith("run")
    assert ended == (1, "", "kith: working directory: No such file or directory\n")


def test_the_version_is_the_one_that_is_installed(kith: Kith) -> None:
    assert kith("--version") == (0, f"kith {version('kith')}\n", "")


def test_a_service_tells_the_same_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["graph_service", "--version"])

    with pytest.raises(SystemExit) as ended:
        Options.read("graph")

    assert (ended.value.code, capsys.readouterr().out) == (0, f"kith {version('kith')}\n")


@pytest.mark.parametrize(
    ("redirection", "status", "told"),
    [
        (">&-", 1, "kith: standard output is closed\n"),
        (">/dev/full", 1, "kith: standard output: No space left on device\n"),
        (">&3", 141, ""),  # a pipe whose reader has gone
        (">&- 2>&-", 1, ""),
        ("--nonsense 2>&-", 2, ""),
    ],
)
def test_an_output_that_takes_nothing_is_told_in_one_line(
    pair: Pair, people: People, redirection: str, status: int, told: str
) -> None:
    person, *_ = people.connected(200)
    command = (
        "exec 3> >(true); wait $!;"
        f" '{sys.executable}' -m shared.cli connections {person} {redirection}"
    )
    ended = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env={**os.environ, "GRAPH_TARGET": pair.graph_server.address},
    )
    assert (ended.returncode, ended.stderr) == (status, told)


def test_people_are_suspended_listed_and_restored(kith: Kith, pair: Pair, people: People) -> None:
    person, friend = people.connected(2)

    suspended = kith("suspend", person, "--reason", "sent [bold]spam")
    hidden = _connected(pair, friend)
    listed = kith("suspended")
    # The command tells it by a call that is refused, which the services do a moment later.
    until(lambda: "1 suspension" in kith("erase", person, "--dry-run")[1])
    restored, again = kith("restore", person), kith("restore", person)

    assert (suspended[0], suspended[2]) == (0, "")
    assert hidden == []
    assert f"person {person}  since " in listed[1]
    assert "  sent [bold]spam\n" in listed[1]
    assert restored == (0, f"Person {person} is restored.\n", "")
    assert again == (0, f"Person {person} was not suspended.\n", "")
    assert _connected(pair, friend) == [person]
