"""No secret is in what a service logs or answers, after any error and at the finest level."""

import uuid
from dataclasses import dataclass

import grpc
import pytest
import sqlalchemy

from kith.feed.v1 import feed_pb2
from tests.support.credentials import Issuer
from tests.support.pair import Databases
from tests.support.people import PRIVATE
from tests.support.processes import ProcessPair, ServiceProcess, run, until
from tests.support.roles import serving
from tests.support.rpcs import RPCS, Rpc
from tests.support.secured import bearer

_PASSWORD = "the-password-of-the-database"
_PAGE_KEY = "the-key-of-page-tokens-that-is-long-enough"
_STORE_KEY = "the-secret-key-of-the-store"
_SESSION = "the-session-token-of-the-store"
# No server listens there.
_NOWHERE = "127.0.0.1:9"


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What was sent to the services that is secret, and all that came of it."""

    secrets: list[str]
    answers: list[str]
    logs: list[str]


@pytest.fixture(scope="module")
def failures(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> _Run:
    """Both services, of which the graph has no database and the feed no graph and no store."""
    folder = tmp_path_factory.mktemp("secrets")
    issuer = Issuer(folder)
    issuer.add_key("only")
    token = folder / "feed.token"
    token.write_text(issuer.token("feed"))
    good, expired = issuer.token(17), issuer.token(17, exp=1)
    bad = [issuer.token(17, aud="elsewhere"), issuer.token("no-such-service"), f"{good[:-4]}AAAA"]
    feed_url = serving("feed", databases.new("feed"))
    environment = {
        **issuer.environment,
        "AUTH_SERVICES": "feed",
        "LOG_LEVEL": "DEBUG",
        "PAGE_TOKEN_KEYS": _PAGE_KEY,
        "S3_BUCKET": "photos",
        "S3_ENDPOINT_URL": f"http://{_NOWHERE}",
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": _STORE_KEY,
        "AWS_SESSION_TOKEN": _SESSION,
        "TARGET_TOKEN_FILE": str(token),
        "GRAPH_DATABASE_URL": f"postgresql://kith_graph:{_PASSWORD}@{_NOWHERE}/graph",
        "FEED_DATABASE_URL": feed_url,
    }
    answers: list[str] = []
    with ServiceProcess("graph_service", environment, folder / "graph.log") as graph:
        environment["GRAPH_TARGET"] = graph.address
        with ServiceProcess("feed_service", environment, folder / "feed.log") as feed:
            pair = ProcessPair(graph_process=graph, feed_process=feed, graph_url="", feed_url="")
            for shown in (good, expired, *bad):
                answers += [_answer(pair, rpc, shown) for rpc in RPCS]
            answers.append(_try_photo(pair, good))
            until(lambda: all(process.logged("not ready") for process in (graph, feed)))
            logs = [str(process.logs()) for process in (graph, feed)]
    passwords = [_PASSWORD, str(sqlalchemy.make_url(feed_url).password)]
    keys = [_PAGE_KEY, _STORE_KEY, _SESSION]
    secrets = [*passwords, *keys, token.read_text(), good, expired, *bad]
    return _Run(secrets=secrets, answers=answers, logs=logs)


def _answer(pair: ProcessPair, rpc: Rpc, token: str) -> str:
    request = rpc.request()
    if "user_id" in request.DESCRIPTOR.fields_by_name:
        request.user_id = 17
    try:
        rpc.send(pair, request, metadata=bearer(token), messages=1)
    except grpc.RpcError as error:
        return _told(error)
    return ""


def _try_photo(pair: ProcessPair, token: str) -> str:
    """Return the answer to a post with a photo that cannot be looked for."""
    shown = bearer(token)
    draft = feed_pb2.CreatePhotoUploadsRequest.PhotoUploadDraft(
        content_type=feed_pb2.PHOTO_CONTENT_TYPE_JPEG
    )
    uploads = pair.feed.CreatePhotoUploads(
        feed_pb2.CreatePhotoUploadsRequest(
            user_id=17, photos=[draft], request_id=str(uuid.uuid4())
        ),
        metadata=shown,
    )
    post = feed_pb2.CreatePostRequest(user_id=17, body="hello", audience=PRIVATE)
    post.photo_keys.append(uploads.uploads[0].key)
    with pytest.raises(grpc.RpcError) as caught:
        pair.feed.CreatePost(post, metadata=shown)
    return _told(caught.value)


def _told(error: grpc.RpcError) -> str:
    return f"{error.code()} {error.details()} {error.trailing_metadata()!r}"


def test_what_was_to_go_wrong_went_wrong(failures: _Run) -> None:
    everything = "".join(failures.answers)

    for reason in (
        "DATABASE_UNAVAILABLE",
        "GRAPH_UNAVAILABLE",
        "OBJECT_STORE_UNAVAILABLE",
        "TOKEN_EXPIRED",
        "UNAUTHENTICATED",
    ):
        assert reason in everything


def test_no_answer_holds_a_secret(failures: _Run) -> None:
    everything = "".join(failures.answers)

    assert not [secret for secret in failures.secrets if _essence(secret) in everything]


def test_no_log_holds_a_secret(failures: _Run) -> None:
    everything = "".join(failures.logs)

    assert not [secret for secret in failures.secrets if _essence(secret) in everything]


def _essence(secret: str) -> str:
    """Return the part of a secret that is nothing without: of a token its signature."""
    return secret.rpartition(".")[2][:40]


_WRONG = {
    "another driver": {"GRAPH_DATABASE_URL": f"mysql://kith:{_PASSWORD}@db/graph"},
    "no port": {"GRAPH_DATABASE_URL": f"postgresql://kith:{_PASSWORD}@db:{_PASSWORD}/graph"},
    "a short key": {"PAGE_TOKEN_KEYS": _PAGE_KEY[:20]},
    "another setting": {"GRAPH_PORT": "many"},
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_no_complaint_about_settings_holds_a_secret(wrong: str) -> None:
    environment = {
        "GRAPH_DATABASE_URL": f"postgresql://kith:{_PASSWORD}@{_NOWHERE}/graph",
        "PAGE_TOKEN_KEYS": _PAGE_KEY,
        "AWS_SECRET_ACCESS_KEY": _STORE_KEY,
    }

    ended = run("graph_service", {**environment, **_WRONG[wrong]})

    assert ended.returncode == 2
    assert ended.stdout
    for secret in (_PASSWORD, _PAGE_KEY[:20], _STORE_KEY):
        assert secret not in ended.stdout


def test_a_migration_that_fails_does_not_tell_the_password() -> None:
    url = f"postgresql://kith:{_PASSWORD}@{_NOWHERE}/graph"

    ended = run("shared.cli", {"GRAPH_DATABASE_URL": url, "FEED_DATABASE_URL": url}, "migrate")

    assert ended.returncode == 1
    assert _PASSWORD not in ended.stdout
