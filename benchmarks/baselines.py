"""Other ways to do the work of GetFeed, each as a process.

    python -m benchmarks.baselines NAME PLAN [UPSTREAM]

- `floor-feed` and `floor-graph`: two chained gRPC calls with nothing in them, and in each server
  the statements that the service sends, by bare psycopg2 and prepared. No reply is built. Nothing
  that does this work in Python over gRPC can be below.
- `plain-feed` and `plain-graph`: the same SQL through SQLAlchemy as it comes, photo URLs signed by
  boto3: what one writes who does not look at costs.
- `n-plus-one`: see that module.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import boto3
import grpc
import sqlalchemy
from botocore.config import Config
from sqlalchemy import RowMapping, text

from benchmarks.capture import Sessions
from benchmarks.n_plus_one import NPlusOneFeed
from benchmarks.processes import PHOTO_STORE
from kith.feed.v1 import feed_pb2 as feed_pb
from kith.graph.v1 import graph_pb2 as graph_pb
from kith.timestamps import timestamp

CALL: Final = "/benchmarks.Baseline/Call"
_THREADS: Final = 8
_ID_BYTES: Final = 8

Handler = Callable[[bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Script:
    """The statements that a baseline runs for each viewer: those that the service sends."""

    sessions: Sessions
    statements: Mapping[int, Sequence[str]]

    def write(self, path: Path) -> Path:
        """Store the script for another process."""
        path.write_text(
            json.dumps({"sessions": self.sessions.as_json(), "statements": dict(self.statements)})
        )
        return path

    @classmethod
    def read(cls, path: Path) -> "Script":
        """Read a script that was stored."""
        raw = json.loads(path.read_text())
        return cls(
            sessions=Sessions(**raw["sessions"]),
            statements={int(viewer_id): sent for viewer_id, sent in raw["statements"].items()},
        )


def viewer_message(viewer_id: int) -> bytes:
    """Return the request of the floor for a viewer."""
    return viewer_id.to_bytes(_ID_BYTES, "big")


def boto3_signer() -> Callable[[str], str]:
    """Return a function that signs the URL of a photo as boto3 does it."""
    client = boto3.Session(
        aws_access_key_id=PHOTO_STORE["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=PHOTO_STORE["AWS_SECRET_ACCESS_KEY"],
        region_name=PHOTO_STORE["S3_REGION"],
    ).client("s3", config=Config(signature_version="s3v4"))
    return lambda key: str(
        client.generate_presigned_url(
            "get_object", Params={"Bucket": PHOTO_STORE["S3_BUCKET"], "Key": key}
        )
    )


def _floor(script: Script, upstream: str) -> Handler:
    cursor = script.sessions.open().cursor()
    prepared: dict[bytes, list[str]] = {}
    for viewer_id, statements in script.statements.items():
        executions = prepared[viewer_message(viewer_id)] = []
        for number, statement in enumerate(statements):
            if statement.lstrip().upper().startswith("EXECUTE"):
                executions.append(statement)
            else:
                cursor.execute(f"PREPARE s{viewer_id}_{number} AS {statement}")
                executions.append(f"EXECUTE s{viewer_id}_{number}")
    next_call = _call_of(upstream)

    def answer(request: bytes) -> bytes:
        for execution in prepared[request]:
            cursor.execute(execution)
            cursor.fetchall()
        next_call(request)
        return b""

    return answer


def _plain_graph(script: Script, _upstream: str) -> Handler:
    read = _plain_reader(script)

    def answer(request: bytes) -> bytes:
        [query] = graph_pb.GetConnectedUserIdsRequest.FromString(request).users
        response = graph_pb.GetConnectedUserIdsResponse()
        for row in read(query.user_id):
            response.users.add(
                user_id=row["user_id"],
                revision=row["revision"],
                unchanged=row["ids"] is None,
                connected_user_ids=row["ids"] or (),
            )
        return response.SerializeToString()

    return answer


def _plain_feed(script: Script, upstream: str) -> Handler:
    read = _plain_reader(script)
    next_call = _call_of(upstream)
    url_of = boto3_signer()

    def answer(request: bytes) -> bytes:
        viewer_id = feed_pb.GetFeedRequest.FromString(request).user_id
        posts = [_plain_post(row, url_of) for row in read(viewer_id)]
        query = graph_pb.GetConnectedUserIdsRequest.UserQuery(user_id=viewer_id, known_revision=1)
        validated = next_call(
            graph_pb.GetConnectedUserIdsRequest(users=[query]).SerializeToString()
        )
        graph_pb.GetConnectedUserIdsResponse.FromString(validated)
        return feed_pb.GetFeedResponse(posts=posts).SerializeToString()

    return answer


def _plain_post(row: RowMapping, url_of: Callable[[str], str]) -> feed_pb.Post:
    return feed_pb.Post(
        author_id=row["author_id"],
        post_id=row["id"],
        body=row["body"],
        photos=[
            feed_pb.Photo(
                key=key, url=url_of(key), width=int(width), height=int(height), alt_text=alt_text
            )
            for key, width, height, alt_text in row["photos"]
        ],
        create_time=timestamp(row["created_at"]),
        comment_count=row["comment_count"],
    )


def _plain_reader(script: Script) -> Callable[[int], Sequence[RowMapping]]:
    """Return a function that reads what the last statement for a viewer brings."""
    engine = sqlalchemy.create_engine(script.sessions.url)
    unprepared = {
        viewer_id: [script.sessions.unprepared(statement) for statement in statements]
        for viewer_id, statements in script.statements.items()
    }

    def read(viewer_id: int) -> Sequence[RowMapping]:
        rows: Sequence[RowMapping] = ()
        with engine.connect() as connection:
            for statement in unprepared[viewer_id]:
                result = (
                    connection.execute(text(statement.sql), statement.parameters)
                    if statement.parameters
                    else connection.exec_driver_sql(statement.sql)
                )
                rows = result.mappings().all()
        return rows

    return read


def _n_plus_one(script: Script, graph_url: str) -> Handler:
    feed = NPlusOneFeed(graph_url=graph_url, feed_url=script.sessions.url)

    def answer(request: bytes) -> bytes:
        viewer_id = feed_pb.GetFeedRequest.FromString(request).user_id
        return feed.page(viewer_id).SerializeToString()

    return answer


def _call_of(upstream: str) -> Callable[[bytes], bytes]:
    if not upstream:
        return lambda request: request
    channel = grpc.insecure_channel(upstream)
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CALL)
    return call


_BASELINES: Final[Mapping[str, Callable[[Script, str], Handler]]] = {
    "floor-feed": _floor,
    "floor-graph": _floor,
    "plain-feed": _plain_feed,
    "plain-graph": _plain_graph,
    "n-plus-one": _n_plus_one,
}


def started(answer: Handler) -> tuple[grpc.Server, str]:
    """Return a server that answers calls, and where."""
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda request, _context: answer(request)
    )
    service, _, method = CALL[1:].partition("/")
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"


def serve(answer: Handler) -> None:
    """Answer calls on a free port, which is told in the log, until killed."""
    server, address = started(answer)
    serving = {"message": "serving", "address": address}
    sys.stderr.write(json.dumps(serving) + "\n")
    server.wait_for_termination()


def baseline(name: str, script: str, upstream: str = "") -> Handler:
    """Return what answers the calls of a baseline."""
    return _BASELINES[name](Script.read(Path(script)), upstream)


def main() -> None:
    """Serve the named baseline until killed."""
    serve(baseline(*sys.argv[1:]))


if __name__ == "__main__":
    main()
