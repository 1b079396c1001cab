"""`kith conformance` finds every promise kept by Kith, and broken by servers that break it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from rich.console import Console

from kith.cli.commands import main
from kith.cli.conformance import gateway, health, paging, reflection, retries
from kith.cli.conformance.deployments import Deployment, opened
from kith.cli.conformance.promises import Check, Finding, Result, tried
from kith.cli.conformance.run import CHECKS, check_conformance
from kith.cli.conformance.world import World
from kith.cli.terminal import CommandError
from kith.client import KithClient
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from tests.support.credentials import Issuer, put
from tests.support.liar import Honest, Lie, lying, unimplemented
from tests.support.pair import Databases, Pair
from tests.support.processes import is_ready, until
from tests.support.rows import row_counts
from tests.support.secured import SecuredPair, secured_pair

_NOWHERE: Final = "http://127.0.0.1:1"
_DOCUMENTATION: Final = Path(__file__).parents[2] / "docs" / "conformance.md"


@dataclass(frozen=True, kw_only=True)
class Run:
    """How the command ended."""

    status: int
    document: dict[str, Any]
    error: str

    def promises(self, result: Result) -> list[str]:
        """Return the promises of which this became."""
        return [
            found["promise"] for found in self.document["findings"] if found["result"] == result
        ]


Conformance = Callable[..., Run]


@pytest.fixture
def conformance(capsys: pytest.CaptureFixture[str]) -> Conformance:
    """Runs the command in this process."""

    def run(graph: str, feed: str, *arguments: str) -> Run:
        capsys.readouterr()
        status = main(["conformance", f"--graph={graph}", f"--feed={feed}", "--json", *arguments])
        said = capsys.readouterr()
        return Run(status=status, document=json.loads(said.out), error=said.err)

    return run


_TABLES_OF_PEOPLE: Final = frozenset(
    f"{service}.{table}"
    for service, tables in (
        ("graph", ("connections", "blocks", "declines")),
        ("feed", ("posts", "tags", "user_tags", "post_audience_tags", "read_positions")),
    )
    for table in tables
)


def _rows_of_people(pair: SecuredPair) -> int:
    return sum(count for table, count in row_counts(pair).items() if table in _TABLES_OF_PEOPLE)


@contextmanager
def _secured(
    databases: Databases, issuer: Issuer, folder: Path, scope: str
) -> Iterator[SecuredPair]:
    """Start both services with authentication.

    The file `prober` of the folder has the token of the service `prober`, which has a scope.
    """
    for name in ("prober", "feed"):
        put(folder / name, issuer.token(name).encode())
    graph = {**issuer.environment, "AUTH_SERVICES": f"feed; {scope}"}
    feed = {**graph, "TARGET_TOKEN_FILE": str(folder / "feed")}
    with secured_pair(databases, graph=graph, feed=feed) as pair:
        until(lambda: is_ready(pair.feed_server.address))
        yield pair


def test_a_table_tells_of_each_promise_what_became_of_it_and_why(pair: Pair) -> None:
    output = StringIO()
    targets = {"graph": pair.graph_server.address, "feed": pair.feed_server.address}

    with (
        opened(**targets, gateway=_NOWHERE) as deployment,
        pytest.raises(CommandError, match="broken promises: 1"),
    ):
        check_conformance(
            deployment,
            Console(file=output, width=240),
            as_json=False,
            checks=[*health.CHECKS[:1], gateway.CHECKS[0]],
        )

    lines = [re.sub(r" +", " ", line) for line in output.getvalue().splitlines()]
    assert any("│ every name of health is serving │ kept │ live, ready," in line for line in lines)
    broken = f"│ gateway │ health is answered over http │ broken │ {_NOWHERE} cannot be reached:"
    assert any(line.startswith(broken) for line in lines)
    assert lines[-1] == "2 kept, 1 broken, 0 not tried."


def test_a_server_that_knows_no_call_keeps_none_but_to_say_so(
    pair: Pair, conformance: Conformance
) -> None:
    with lying(pair.graph_server.address, {"": unimplemented}) as nothing:
        run = conformance(nothing, nothing)

    assert run.status == 1
    assert run.promises(Result.KEPT) == [
        "a call that there is not is unimplemented",
        "all people that were made are erased",
    ]


def test_a_deployment_that_is_not_there_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["conformance", "--graph=127.0.0.1:1", "--feed=127.0.0.1:1"])

    said = capsys.readouterr()
    assert (status, said.out) == (1, "")
    assert said.err.startswith("kith: SERVICE_UNREACHABLE: ")


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://host", "http://", "http://host:99999", "http://h/v1"]
)
def test_a_gateway_that_is_no_url_is_refused_before_anything_is_tried(
    capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert main(["conformance", f"--gateway={url}"]) == 2
    assert capsys.readouterr().err.startswith("kith: --gateway must be a URL such as")


# What an answer is made to be.


def _answering(message: Message) -> Lie:
    """Answer this, and do nothing."""
    return lambda _request, _honest, _context: message.SerializeToString()


def _asking(kind: type[Message], change: Callable[[Any], object]) -> Lie:
    """Do what another request asks."""

    def lie(request: bytes, honest: Honest, _context: grpc.ServicerContext) -> bytes:
        asked = kind.FromString(request)
        change(asked)
        return honest(asked.SerializeToString())

    return lie


def _altering(kind: type[Message], change: Callable[[Any], object]) -> Lie:
    """Do what is asked, and answer something else."""

    def lie(request: bytes, honest: Honest, _context: grpc.ServicerContext) -> bytes:
        told = kind.FromString(honest(request))
        change(told)
        return told.SerializeToString()

    return lie


def _as_author(field: str) -> Callable[[Any], object]:
    """Let the viewer be the author, who is named by a field."""

    def change(request: Any) -> None:
        author = request
        for part in field.split("."):
            author = author[0] if part == "0" else getattr(author, part)
        request.user_id = author

    return change


def _without(field: str) -> Callable[[Any], object]:
    return lambda message: message.ClearField(field)


def _without_details(_request: bytes, _honest: Honest, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.NOT_FOUND, "there is no such post")


def _all_visible(request: bytes, _honest: Honest, _context: grpc.ServicerContext) -> bytes:
    checks = feed_pb2.CheckVisibilityRequest.FromString(request).checks
    return feed_pb2.CheckVisibilityResponse(visible=[True] * len(checks)).SerializeToString()


_HEALTH: Final = health_pb2.HealthCheckResponse
_SERVING, _NOT_SERVING = _HEALTH(status=_HEALTH.SERVING), _HEALTH(status=_HEALTH.NOT_SERVING)
_NO_FILES: Final = _answering(reflection_pb2.ServerReflectionResponse())
_LONGER: Final = lambda request: setattr(request, "page_size", 100)  # noqa: E731 -- as the others of the table

_LIES: Final[Mapping[str, tuple[str, Lie]]] = {
    "every_name_of_health_is_serving": ("Check", _answering(_NOT_SERVING)),
    "an_unknown_name_of_health_is_not_found": ("Check", _answering(_SERVING)),
    "a_watch_of_health_begins_with_the_status": ("Watch", _answering(_NOT_SERVING)),
    "a_watch_of_an_unknown_name_of_health_says_so": ("Watch", _answering(_SERVING)),
    "reflection_v1_lists_the_service_and_describes_it": ("ServerReflectionInfo", _NO_FILES),
    "reflection_v1alpha_lists_the_service_and_describes_it": ("ServerReflectionInfo", _NO_FILES),
    "every_call_of_a_user_refuses_the_user_0_by_name": (
        "ListTags",
        _answering(feed_pb2.ListTagsResponse()),
    ),
    "a_text_that_is_too_long_is_refused_with_its_limit": (
        "CreatePost",
        _answering(feed_pb2.CreatePostResponse()),
    ),
    "a_list_that_is_too_long_is_refused_with_its_limit": (
        "CheckConnections",
        _answering(graph_pb2.CheckConnectionsResponse()),
    ),
    "a_request_id_that_is_no_uuid_is_refused_by_name": (
        "CreateTag",
        _asking(feed_pb2.CreateTagRequest, _without("request_id")),
    ),
    "what_does_not_exist_is_not_found_with_a_reason_of_its_own": ("GetPost", _without_details),
    "what_the_state_of_things_forbids_is_refused_with_its_reason": (
        "AddTagMembers",
        _answering(feed_pb2.AddTagMembersResponse()),
    ),
    "a_call_that_there_is_not_is_unimplemented": ("NoSuchCall", _answering(_SERVING)),
    "a_call_ends_when_its_deadline_expires": (
        "WatchConnections",
        _answering(graph_pb2.WatchConnectionsResponse()),
    ),
    "pages_of_a_list_are_complete_and_repeat_nothing": (
        "ListConnections",
        _altering(graph_pb2.ListConnectionsResponse, _without("next_page_token")),
    ),
    "pages_of_a_feed_are_complete_and_newest_first": (
        "GetFeed",
        _asking(feed_pb2.GetFeedRequest, _without("page_token")),
    ),
    "a_page_is_no_longer_than_asked": (
        "ListConnections",
        _asking(graph_pb2.ListConnectionsRequest, _LONGER),
    ),
    "posts_that_come_while_a_feed_is_read_repeat_nothing_in_it": (
        "GetFeed",
        _asking(feed_pb2.GetFeedRequest, _without("page_token")),
    ),
    "a_page_token_of_another_user_is_refused": (
        "ListConnections",
        _asking(graph_pb2.ListConnectionsRequest, _without("page_token")),
    ),
    "a_page_token_that_nobody_was_given_is_refused": (
        "GetFeed",
        _asking(feed_pb2.GetFeedRequest, _without("page_token")),
    ),
    "a_negative_page_size_is_refused_by_name": (
        "GetFeed",
        _asking(feed_pb2.GetFeedRequest, _LONGER),
    ),
    "a_repeated_creation_gets_the_first_answer_and_creates_nothing": (
        "CreatePost",
        _asking(feed_pb2.CreatePostRequest, _without("request_id")),
    ),
    "a_repeated_change_gets_the_first_answer": (
        "RequestConnection",
        _asking(graph_pb2.RequestConnectionRequest, _without("request_id")),
    ),
    "a_request_id_with_another_request_is_refused": (
        "CreatePost",
        _asking(feed_pb2.CreatePostRequest, _without("request_id")),
    ),
    "a_read_after_a_write_sees_it_on_every_replica": (
        "GetFeed",
        _answering(feed_pb2.GetFeedResponse()),
    ),
    "a_feed_has_the_posts_that_its_reader_may_see_and_no_others": (
        "GetFeed",
        _asking(feed_pb2.GetFeedRequest, _as_author("author_ids.0")),
    ),
    "the_posts_of_an_author_are_listed_for_those_who_may_see_them": (
        "ListPosts",
        _asking(feed_pb2.ListPostsRequest, _as_author("author_id")),
    ),
    "a_post_is_found_by_those_who_may_see_it_and_by_nobody_else": (
        "GetPost",
        _asking(feed_pb2.GetPostRequest, _as_author("author_id")),
    ),
    "many_posts_are_found_as_each_of_them_is": (
        "BatchGetPosts",
        _asking(feed_pb2.BatchGetPostsRequest, _as_author("posts.0.author_id")),
    ),
    "comments_are_read_by_those_who_may_see_the_post": (
        "ListComments",
        _asking(feed_pb2.ListCommentsRequest, _as_author("post.author_id")),
    ),
    "checks_of_visibility_answer_what_reads_show": ("CheckVisibility", _all_visible),
    "explanations_of_visibility_answer_what_reads_show": (
        "ExplainVisibility",
        _asking(
            feed_pb2.ExplainVisibilityRequest,
            lambda asked: setattr(asked, "viewer_id", asked.user_id),
        ),
    ),
    "the_viewers_of_a_post_are_those_who_may_see_it": (
        "ListViewers",
        _altering(feed_pb2.ListViewersResponse, lambda told: told.viewer_ids.append(1)),
    ),
    # The answer is that of a change that was made.
    "the_end_of_a_connection_hides_posts_at_once": (
        "RemoveConnection",
        _answering(graph_pb2.RemoveConnectionResponse()),
    ),
    "a_block_hides_posts_at_once": ("BlockUser", _answering(graph_pb2.BlockUserResponse())),
    "a_tag_that_is_taken_away_hides_posts_at_once": (
        "RemoveTagMembers",
        _answering(feed_pb2.RemoveTagMembersResponse()),
    ),
    "a_narrower_audience_hides_a_post_at_once": (
        "UpdatePost",
        _answering(feed_pb2.UpdatePostResponse()),
    ),
    "a_deleted_post_is_gone_at_once": ("DeletePost", _answering(feed_pb2.DeletePostResponse())),
    "the_erasure_of_a_person_from_the_graph_hides_their_posts_at_once": (
        "DeleteUser",
        _answering(graph_pb2.DeleteUserResponse()),
    ),
}
_OF_SERVICES: Final = [check for check in CHECKS if check not in (*health.CHECKS, *gateway.CHECKS)]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A deployment that lies about what is in `lies`, with a world that is made without lies."""

    deployment: Deployment
    lies: dict[str, Lie]


@contextmanager
def _lying_scene(pair: Pair) -> Iterator[Scene]:
    lies = dict[str, Lie]()
    at_graph, at_feed = pair.graph_server.address, pair.feed_server.address
    with (
        lying(at_graph, lies) as graph,
        lying(at_feed, lies) as feed,
        opened(graph=graph, feed=feed, gateway="") as deployment,
        KithClient.from_environment(graph=at_graph, feed=at_feed, channels=1) as kith,
    ):
        world = World(kith)
        # However busy the machine is, a lie comes before the deadline.
        patient = replace(deployment, world=world, short_seconds=60)
        yield Scene(deployment=patient, lies=lies)


@pytest.fixture(scope="module")
def scene(pair: Pair) -> Iterator[Scene]:
    with _lying_scene(pair) as running:
        yield running


def _found(scene: Scene, check: Check) -> Finding:
    name, lie = _LIES[check.__name__]
    scene.lies[name] = lie
    found = tried(check, scene.deployment)
    scene.lies.clear()
    return found


@pytest.mark.parametrize("check", _OF_SERVICES, ids=lambda check: check.__name__)
def test_a_server_that_breaks_a_promise_is_found_out(scene: Scene, check: Check) -> None:
    found = _found(scene, check)

    assert found.result is Result.BROKEN, found
    # It was reached, so nothing but the lie has broken the promise.
    assert "SERVICE_UNREACHABLE" not in found.evidence


def test_a_server_in_between_that_tells_no_lies_breaks_no_promise(scene: Scene) -> None:
    checks = (*reflection.CHECKS, *paging.CHECKS, *retries.CHECKS)

    found = [tried(check, scene.deployment) for check in checks]

    assert {each.result for each in found} == {Result.KEPT}, found


@pytest.mark.parametrize("check", health.CHECKS, ids=lambda check: check.__name__)
def test_a_server_that_says_the_wrong_of_its_health_is_found_out(pair: Pair, check: Check) -> None:
    # On channels of its own, for these are closed to a server that says it does not serve.
    with _lying_scene(pair) as scene:
        assert _found(scene, check).result is Result.BROKEN


class _Agreeable(BaseHTTPRequestHandler):
    """Answers every call with 200 and an empty object, and says that it does not work."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(503 if self.path == "/healthz" else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 -- so http.server calls them

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def agreeable() -> Iterator[str]:
    """The URL of a gateway that refuses nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Agreeable) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("check", gateway.CHECKS, ids=lambda check: check.__name__)
def test_a_gateway_that_breaks_a_promise_is_found_out(
    pair: Pair, scene: Scene, agreeable: str, check: Check
) -> None:
    targets = {"graph": pair.graph_server.address, "feed": pair.feed_server.address}
    with opened(**targets, gateway=agreeable) as deployment:
        found = tried(check, replace(deployment, world=scene.deployment.world))

    assert found.result is Result.BROKEN, found


def test_people_are_erased_when_the_command_is_interrupted(pair: Pair) -> None:
    made = list[int]()

    def interrupted(deployment: Deployment) -> str:
        made.extend(deployment.world.connected(2))
        raise KeyboardInterrupt

    targets = {"graph": pair.graph_server.address, "feed": pair.feed_server.address}
    with (
        opened(**targets, gateway="") as deployment,
        pytest.raises(KeyboardInterrupt),
    ):
        check_conformance(deployment, Console(), as_json=True, checks=[interrupted])

    counted = pair.graph.CountConnections(graph_pb2.CountConnectionsRequest(user_ids=made))
    assert [count.connection_count for count in counted.counts] == [0, 0]


def test_people_who_cannot_be_erased_any_more_break_a_promise_and_are_named(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(scene.deployment.kith)

    def half_way(deployment: Deployment) -> str:
        deployment.world.people(1)
        scene.lies["DeleteUser"] = unimplemented
        return "made"

    with pytest.raises(CommandError, match="broken promises: 1"):
        check_conformance(
            replace(scene.deployment, world=world), Console(), as_json=True, checks=[half_way]
        )

    scene.lies.clear()
    [made] = world.made
    said = capsys.readouterr()
    [of_erasure] = [each for each in json.loads(said.out)["findings"] if each["area"] == "erasure"]
    assert of_erasure["evidence"].startswith(f"person {made}: INTERNAL: UNIMPLEMENTED")
    assert said.err == f"kith: people who are not erased, see `kith erase`: {made}\n"
    assert world.erase() == {}


def test_nobody_is_made_by_a_caller_who_may_not_erase_them(
    databases: Databases,
    issuer: Issuer,
    conformance: Conformance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TARGET_TOKEN_FILE", str(tmp_path / "prober"))
    with _secured(databases, issuer, tmp_path, "prober=GetFeed,CreatePost") as secured:
        run = conformance(secured.graph_server.address, secured.feed_server.address)

    assert run.status == 0
    assert "the viewers of a post are those who may see it" in run.promises(Result.NOT_TRIED)
    assert "every call of a user refuses the user 0 by name" in run.promises(Result.KEPT)


def test_all_promises_are_kept_with_the_scope_that_is_documented_and_nothing_is_left_of_the_people(
    databases: Databases,
    issuer: Issuer,
    conformance: Conformance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [scope] = re.findall(r"^ +(prober=\S+)$", _DOCUMENTATION.read_text(), re.MULTILINE)
    monkeypatch.setenv("TARGET_TOKEN_FILE", str(tmp_path / "prober"))
    with _secured(databases, issuer, tmp_path, scope) as secured:
        run = conformance(secured.graph_server.address, secured.feed_server.address)
        rows = _rows_of_people(secured)

    assert run.promises(Result.BROKEN) == []
    assert (run.status, run.error) == (0, "")
    assert rows == 0
    untried = {
        found["area"] for found in run.document["findings"] if found["result"] == "not tried"
    }
    # Reflection is off where callers are authenticated.
    assert untried == {"gateway", "reflection"}
