"""No log holds what people write: neither the services' nor PostgreSQL's, after any error.

A secret is put into every text of every call that changes something, and into every text that is
stored already. Then the database fails in one of several ways.
"""

import io
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import sqlalchemy
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, text

from feed_service.layouts import DISTRIBUTED, SINGLE
from kith.feed.v1 import feed_pb2 as feed
from shared.logs import JsonFormatter
from tests.support.mutations import MUTATIONS, Scene
from tests.support.pair import LAYOUT, Databases, Pair, running_pair
from tests.support.people import ALL, People
from tests.support.rpcs import RPCS

_SECRET: Final = "Aunt Mabel's marmalade"
_TIMEOUT: Final = {"DATABASE_STATEMENT_TIMEOUT_SECONDS": "0.5"}
# What names something, what only a server has given out, and descriptions of new photos, which need
# an object store: those of a post's photos go the same way.
_NO_TEXTS: Final = {
    "alt_texts",
    "tag_external_ids",
    "excluded_tag_external_ids",
    "comment_tag_external_ids",
    "request_id",
    "etag",
    "photo_keys",
    "paths",
    "page_token",
    "cursor",
    "lease_token",
    "key",
    "url",
}
# The coordinator of a Citus passes on what a node says in words that may have texts, and no names.
_NAMES: Final = ", constraint refused, table posts" if LAYOUT is SINGLE else ""

_TABLES = text("""
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
""")
_REFUSE = """
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'refused',
            DETAIL = coalesce(to_jsonb(NEW), to_jsonb(OLD))::text, HINT = to_jsonb(OLD)::text;
    END $$"""
_WAIT = """
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_sleep(5); RETURN NULL;
    END $$"""


@contextmanager
def _engine(url: str) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield connection


@contextmanager
def _on_every_table(pair: Pair, wrong: str, undo: str) -> Iterator[None]:
    with ExitStack() as stack:
        for url in (pair.graph_url, pair.feed_url):
            connection = stack.enter_context(_engine(url))
            if url == pair.feed_url and LAYOUT is DISTRIBUTED:
                connection.exec_driver_sql("SET citus.enable_unsafe_triggers = on")
            for table in list(connection.execute(_TABLES).scalars()):
                connection.exec_driver_sql(wrong.format(table=table))
                stack.callback(connection.exec_driver_sql, undo.format(table=table))
        yield


@contextmanager
def _triggers(pair: Pair, function: str) -> Iterator[None]:
    for url in (pair.graph_url, pair.feed_url):
        with _engine(url) as connection:
            connection.exec_driver_sql(function)
    trigger = "BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
    with _on_every_table(
        pair, f"CREATE TRIGGER refuse {trigger}", "DROP TRIGGER refuse ON {table}"
    ):
        yield


@contextmanager
def _check_constraints(pair: Pair) -> Iterator[None]:
    with _on_every_table(
        pair,
        "ALTER TABLE {table} ADD CONSTRAINT refused CHECK (false) NOT VALID",
        "ALTER TABLE {table} DROP CONSTRAINT refused",
    ):
        yield


@contextmanager
def _missing_columns(pair: Pair) -> Iterator[None]:
    renames = [("posts", "body"), ("comments", "body"), ("tags", "name")]
    with _engine(pair.feed_url) as connection:
        for table, column in renames:
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME {column} TO lost")
        yield
        for table, column in renames:
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME lost TO {column}")


@contextmanager
def _lost_connections(pair: Pair) -> Iterator[None]:
    def lose(statement: str) -> None:
        if any(word in statement for word in ("INSERT", "UPDATE", "DELETE")):
            for tap in (pair.graph_tap, pair.feed_tap):
                tap.break_connections()

    for tap in (pair.graph_tap, pair.feed_tap):
        tap.before_statement = lose
    yield
    for tap in (pair.graph_tap, pair.feed_tap):
        tap.before_statement = lambda _statement: None


_FAULTS: Final[dict[str, Callable[[Pair], Any]]] = {
    "a trigger that quotes the row": lambda pair: _triggers(pair, _REFUSE),
    "a check constraint": _check_constraints,
    "a missing column": _missing_columns,
    "a statement timeout": lambda pair: _triggers(pair, _WAIT),
    "a lost connection": _lost_connections,
}


def _import_posts() -> feed.ImportPostsRequest:
    post = feed.ImportPostsRequest.ImportedPost(
        author_id=1,
        external_id="x",
        body="x",
        create_time=Timestamp(seconds=1),
        audience=ALL,
        attributes={"a": "b"},
    )
    return feed.ImportPostsRequest(posts=[post])


def _import_tags() -> feed.ImportTagsRequest:
    made = Timestamp(seconds=1)
    tag = feed.ImportTagsRequest.ImportedTag(
        owner_id=1, external_id="x", name="x", create_time=made
    )
    member = feed.ImportTagsRequest.ImportedMember(
        owner_id=1, tag_external_id="x", target_user_id=2, create_time=made
    )
    return feed.ImportTagsRequest(tags=[tag], members=[member])


def _import_comments() -> feed.ImportCommentsRequest:
    comment = feed.ImportCommentsRequest.ImportedComment(
        author_id=2,
        external_id="x",
        post_author_id=1,
        post_external_id="x",
        body="x",
        create_time=Timestamp(seconds=1),
    )
    reply = feed.ImportCommentsRequest.ImportedComment()
    reply.CopyFrom(comment)
    reply.parent_external_id = "x"
    return feed.ImportCommentsRequest(comments=[comment, reply])


def _imports() -> dict[str, Any]:
    """Return a message for each import."""
    return {
        "ImportTags": _import_tags(),
        "ImportPosts": _import_posts(),
        "ImportComments": _import_comments(),
    }


def _plant(message: Message) -> set[str]:
    """Put the secret into every text of a message; returns the full names of the fields."""
    planted = set[str]()
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING and field.name not in _NO_TEXTS:
            setattr(message, field.name, _SECRET)
            planted.add(field.full_name)
        elif field.message_type and field.message_type.GetOptions().map_entry:
            value[_SECRET] = _SECRET
            planted.add(field.message_type.fields_by_name["value"].full_name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and not isinstance(value, FieldMask):
            for part in value if field.is_repeated else [value]:
                planted |= _plant(part)
    return planted


@pytest.fixture(scope="module")
def own_pair(databases: Databases) -> Iterator[Pair]:
    """A pair whose databases a test may break."""
    with running_pair(databases, _TIMEOUT) as running:
        yield running


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What the services log, as they write it."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)


def _log_of_postgres(url: str) -> Path:
    with _engine(url) as connection:
        directory = connection.exec_driver_sql("SHOW data_directory").scalar_one()
    return Path(directory).parent / "postgres.log"


def _store_secrets(pair: Pair) -> None:
    with _engine(pair.feed_url) as connection:
        for statement in (
            "UPDATE posts SET body = :secret, attributes = jsonb_build_object('a', :secret)",
            "UPDATE comments SET body = :secret",
            "UPDATE tags SET name = CAST(:secret AS text) || CAST(id AS text)",
        ):
            connection.execute(text(statement), {"secret": _SECRET})


def _code(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name) if isinstance(error, grpc.Call) else "UNKNOWN"
    return "OK"


@pytest.mark.parametrize("fault", _FAULTS)
def test_no_log_holds_a_text_when_the_database_fails(
    own_pair: Pair, logged: io.StringIO, fault: str
) -> None:
    scene = Scene(stubs=own_pair, people=People(own_pair))
    calls = [(mutation, mutation.request(scene)) for mutation in MUTATIONS]
    _store_secrets(own_pair)
    for _, request in calls:
        _plant(request)
    imports = _imports()
    for message in imports.values():
        _plant(message)
    # Both databases are of one PostgreSQL, unless the feed is on a Citus, whose logs are elsewhere.
    log = _log_of_postgres(own_pair.graph_url)
    before = log.stat().st_size

    sends = {
        str(mutation): partial(mutation.send, own_pair, request) for mutation, request in calls
    }
    for name, message in imports.items():
        sends[name] = partial(getattr(own_pair.feed, name), iter([message]))

    # Some faults take half a second of each.
    with _FAULTS[fault](own_pair), ThreadPoolExecutor(8) as threads:
        codes = dict(zip(sends, threads.map(_code, sends.values()), strict=True))

    with log.open("rb") as file:
        file.seek(before)
        of_postgres = file.read().decode()
    assert {codes[call] for call in ("feed CreatePost", "feed UpdatePost", "ImportPosts")} & {
        "INTERNAL",
        "DEADLINE_EXCEEDED",
        "UNAVAILABLE",
    }
    assert _SECRET.partition(" ")[2] not in logged.getvalue()
    assert "marmalade" not in of_postgres


def test_a_fault_is_logged_with_its_code_and_the_name_of_the_constraint(
    own_pair: Pair, logged: io.StringIO
) -> None:
    with _check_constraints(own_pair):
        code = _code(lambda: People(own_pair).post(1, body=_SECRET))

    assert code == "INTERNAL"
    assert f"CheckViolation: SQLSTATE 23514{_NAMES}" in logged.getvalue()


def test_every_text_of_every_call_that_changes_something_is_among_them(own_pair: Pair) -> None:
    scene = Scene(stubs=own_pair, people=People(own_pair))
    planted = {name for mutation in MUTATIONS for name in _plant(mutation.request(scene))}
    planted |= {name for message in _imports().values() for name in _plant(message)}

    texts = {
        field.full_name
        for rpc in RPCS
        if not rpc.name.startswith(("Get", "List", "Export", "Watch"))
        for field in _texts(rpc.method.input_type)
    }

    assert texts <= planted


def _texts(message: Any) -> Iterator[FieldDescriptor]:
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_STRING and field.name not in _NO_TEXTS:
            yield field
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            yield from _texts(field.message_type)
