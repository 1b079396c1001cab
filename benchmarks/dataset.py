"""Loads a world into the two databases as migrated, once; later runs find it there.

By COPY, without the indexes and keys of the tables, which are built again afterwards from the
definitions that PostgreSQL gives of them. Building the foreign keys checks every row.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psycopg2
from rich.console import Console
from rich.progress import Progress

from benchmarks import world as world_module
from benchmarks.world import (
    TAGS_PER_OWNER,
    YEAR_MICROSECONDS,
    Kind,
    Posts,
    Size,
    SpecialViewer,
    World,
    make_world,
)
from feed_service.metrics import POSTS
from feed_service.visibility_streams import tag_bit
from graph_service.metrics import ACTIVE_CONNECTIONS, USERS
from kith.cli.terminal import progress
from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres

SEED: Final = 42
YEAR: Final = np.datetime64("2025-01-01", "us")

Session = psycopg2.extensions.connection

_CHUNK = 50_000
_AUDIENCES = np.array(["all", "tags", "private"], object)
# Revisions of people, and of the endings before: microseconds since 1970, as the service's own.
REVISION: Final = int(YEAR.astype(np.int64))
_ENDING_REVISION = REVISION - 1
_WORDS = "we met at the lake and talked about music until it rained then had soup".split()  # noqa: SIM905 -- a text, not a list
_BODIES = 256
_REMEMBERED_PEOPLE = 5_000
# Without the triggers of posts, which would look for posts without an index.
_FOR_LOADING = """
    SET maintenance_work_mem = '512MB'; SET synchronous_commit = off;
    SET session_replication_role = replica
"""
_ADD_BOUNDS = f"""
    INSERT INTO authors (author_id, open_until, tagged_until, named_tags)
    SELECT author_id, coalesce(max(created_at) FILTER (WHERE audience = 'all'), '-infinity'),
           coalesce(max(created_at) FILTER (WHERE audience = 'tags'), '-infinity'),
           coalesce(min(named.tags), 0)
    FROM posts
    LEFT JOIN (SELECT author_id, bit_or({tag_bit("tag_id")}) AS tags
               FROM post_audience_tags WHERE NOT excluded GROUP BY author_id) AS named
    USING (author_id)
    WHERE audience IN ('all', 'tags') AND deleted_at IS NULL GROUP BY author_id
"""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Where a world is loaded, and the viewers to ask about."""

    name: str
    people: int
    graph_url: str
    feed_url: str
    viewers: Sequence[SpecialViewer]
    degrees: Sequence[int]
    """How many connections ordinary viewers have: few, as usual, many, and a hub's."""
    ordinary_ids: Sequence[int]
    """Some of the ordinary people."""

    @property
    def usual(self) -> int:
        """The degree that most rows are about."""
        return self.degrees[1]

    @property
    def hub(self) -> int:
        """The largest degree."""
        return self.degrees[-1]

    def viewer_ids(self, degree: int, kind: Kind = Kind.ORDINARY) -> list[int]:
        """Return the viewers of exactly so many connections; none if the world is too small."""
        return [
            viewer.user_id
            for viewer in self.viewers
            if (viewer.degree, viewer.kind) == (degree, kind)
        ]


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows of one table: columns as arrays, and how a line of COPY is made of them."""

    table: str
    columns: str
    line: str
    values: Sequence[npt.NDArray[Any]]


def prepared(cluster: EmbeddedPostgres, directory: Path, size: Size, console: Console) -> Dataset:
    """Return the data set of a size, made now unless it is there already."""
    record = directory / f"{size.name}.json"
    fingerprint = _fingerprint(size)
    if not record.exists() or json.loads(record.read_text())["fingerprint"] != fingerprint:
        record.unlink(missing_ok=True)
        console.print(f"Making the data set {size.name!r}, once:", highlight=False)
        world = make_world(size, seed=SEED)
        drop(cluster, size.name)
        with progress(console) as bar:
            load(
                world,
                graph_url=_url(cluster, "graph", size.name),
                feed_url=_url(cluster, "feed", size.name),
                bar=bar,
            )
        record.write_text(json.dumps({"fingerprint": fingerprint, **_summary(world)}))
    found = json.loads(record.read_text())
    return Dataset(
        name=size.name,
        people=size.people,
        graph_url=_url(cluster, "graph", size.name),
        feed_url=_url(cluster, "feed", size.name),
        viewers=[
            SpecialViewer(**{**viewer, "kind": Kind(viewer["kind"])}) for viewer in found["viewers"]
        ],
        degrees=size.degrees,
        ordinary_ids=found["ordinary_ids"],
    )


def copied(cluster: EmbeddedPostgres, dataset: Dataset, name: str) -> Dataset:
    """Return a copy of a data set that may be written to; an earlier one of this name is gone.

    Files are copied, instead of writing each page to the log too: that is eight times as fast.
    """
    drop(cluster, name)
    for service in ("graph", "feed"):
        with closing(connect(cluster.url("postgres"))) as session, session.cursor() as cursor:
            cursor.execute(
                f"CREATE DATABASE kith_{service}_{name} TEMPLATE kith_{service}_{dataset.name}"
                " STRATEGY file_copy"
            )
    return replace(
        dataset,
        name=name,
        graph_url=_url(cluster, "graph", name),
        feed_url=_url(cluster, "feed", name),
    )


def empty(cluster: EmbeddedPostgres, name: str) -> Dataset:
    """Return an empty data set with the newest schema; an earlier one of this name is gone."""
    drop(cluster, name)
    urls = {service: _url(cluster, service, name) for service in ("graph", "feed")}
    for service, url in urls.items():
        schema.upgrade(service, url)
    return Dataset(
        name=name,
        people=0,
        graph_url=urls["graph"],
        feed_url=urls["feed"],
        viewers=[],
        degrees=[],
        ordinary_ids=[],
    )


def drop(cluster: EmbeddedPostgres, name: str) -> None:
    """Remove the databases of a data set, if there are any."""
    with closing(connect(cluster.url("postgres"))) as session, session.cursor() as cursor:
        for service in ("graph", "feed"):
            cursor.execute(f"DROP DATABASE IF EXISTS kith_{service}_{name} WITH (FORCE)")


def connect(url: str, *, options: str = "") -> Session:
    """Open a session that commits each statement by itself."""
    session: Session = psycopg2.connect(url.replace("+psycopg2", ""), options=options)
    session.autocommit = True
    return session


def load(world: World, *, graph_url: str, feed_url: str, bar: Progress) -> None:
    """Migrate two empty databases and fill them."""
    _load("graph", graph_url, _graph_rows(world), bar)
    _load("feed", feed_url, _feed_rows(world), bar)


def _load(service: str, url: str, tables: Sequence[_Rows], bar: Progress) -> None:
    schema.upgrade(service, url)
    with closing(connect(url)) as session, session.cursor() as cursor:
        cursor.execute(_FOR_LOADING)
        with _without_indexes(session, [rows.table for rows in tables], bar):
            for rows in tables:
                _copy(session, rows, bar)
        for rows in tables:
            _continue_identity(session, rows.table)
        if service == "feed":
            cursor.execute(_ADD_BOUNDS)
        cursor.execute("VACUUM ANALYZE")


def _copy(session: Session, rows: _Rows, bar: Progress) -> None:
    task = bar.add_task(rows.table, total=len(rows.values[0]))
    with session.cursor() as cursor:
        cursor.copy_expert(
            f"COPY {rows.table} ({rows.columns}) FROM STDIN", _Lines(_chunks(rows, bar, task))
        )


def _chunks(rows: _Rows, bar: Progress, task: Any) -> Iterator[str]:
    for start in range(0, len(rows.values[0]), _CHUNK):
        columns = [_plain(column[start : start + _CHUNK]) for column in rows.values]
        yield "".join(map(rows.line.__mod__, zip(*columns, strict=True)))
        bar.advance(task, len(columns[0]))


def _plain(column: npt.NDArray[Any]) -> list[Any]:
    is_time = np.issubdtype(column.dtype, np.datetime64)
    return list((np.datetime_as_string(column) if is_time else column).tolist())


class _Lines:
    """A file that is made while psycopg2 reads it."""

    def __init__(self, chunks: Iterator[str]) -> None:
        self._chunks = chunks

    def read(self, _size: int = 0, /) -> bytes:
        """Return the next part, of any size; psycopg2 takes it to pieces."""
        return next(self._chunks, "").encode()

    readline = read


@contextmanager
def _without_indexes(session: Session, tables: Sequence[str], bar: Progress) -> Iterator[None]:
    """Drop keys, then the other indexes; afterwards build indexes, then keys, as they were."""
    with session.cursor() as cursor:
        cursor.execute(_KEYS, {"tables": list(tables)})
        keys = cursor.fetchall()
        for table, name, _ in keys:
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        cursor.execute(_INDEXES, (list(tables),))
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        yield
        task = bar.add_task("indexes", total=len(indexes) + len(keys))
        build = [definition for _, definition in indexes] + [
            f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"
            for table, name, definition in sorted(keys, key=lambda key: "FOREIGN" in key[2])
        ]
        for statement in build:
            cursor.execute(statement)
            bar.advance(task)


# Foreign keys first, so that nothing depends on a key when it is dropped.
_KEYS = """
    SELECT CAST(conrelid AS regclass), quote_ident(conname), pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE contype IN ('p', 'u', 'f')
      AND (conrelid = ANY (CAST(%(tables)s AS regclass[]))
           OR confrelid = ANY (CAST(%(tables)s AS regclass[])))
    ORDER BY contype = 'f' DESC, conname
"""

_INDEXES = """
    SELECT quote_ident(indexname), indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename = ANY (%s) ORDER BY indexname
"""


def _continue_identity(session: Session, table: str) -> None:
    """Let the table's identity column, if it has one, go on behind the rows that are there."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_name = %s AND is_identity = 'YES'",
            (table,),
        )
        for (column,) in cursor.fetchall():
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence(%s, %s), max({column})) FROM {table}",
                (table, column),
            )


def _graph_rows(world: World) -> list[_Rows]:
    pairs, people = world.pairs, np.arange(1, world.size.people + 1)
    count = len(pairs.a)
    step = YEAR_MICROSECONDS // count
    created = YEAR - np.timedelta64(YEAR_MICROSECONDS, "us") + np.arange(count) * step
    updated = np.where(pairs.is_accepted, created + np.timedelta64(step, "us"), created)
    ended = pairs.ended_before
    accepted = np.concatenate([pairs.a[pairs.is_accepted], pairs.b[pairs.is_accepted]])
    counts = np.bincount(accepted, minlength=world.size.people + 1)[1:]
    return [
        _Rows(
            table="connections",
            columns="id, user_a_id, user_b_id, status, requested_by, created_at, updated_at",
            line="%d\t%d\t%d\t%s\t%d\t%s\t%s\n",
            values=[
                np.arange(1, count + 1),
                pairs.a,
                pairs.b,
                np.array(["pending", "accepted"], object)[pairs.is_accepted.astype(int)],
                np.where(pairs.is_requested_by_a, pairs.a, pairs.b),
                created,
                updated,
            ],
        ),
        _Rows(
            table="users",
            columns="user_id, revision, connection_count",
            line=f"%d\t{REVISION}\t%d\n",
            values=[people, counts],
        ),
        _Rows(
            table="endings",
            columns="user_a_id, user_b_id, user_a_revision, user_b_revision",
            line=f"%d\t%d\t{_ENDING_REVISION}\t{_ENDING_REVISION}\n",
            values=[pairs.a[ended], pairs.b[ended]],
        ),
        _totals({ACTIVE_CONNECTIONS: int(pairs.is_accepted.sum()), USERS: world.size.people}),
    ]


def _feed_rows(world: World) -> list[_Rows]:
    posts, given = world.posts, world.given
    owners = np.repeat(np.arange(1, world.size.people + 1), TAGS_PER_OWNER)
    indexes = np.tile(np.arange(TAGS_PER_OWNER), world.size.people)
    return [
        _Rows(
            table="tags",
            columns="owner_user_id, id, name",
            line="%d\t%d\ttag %d\n",
            values=[owners, _tag_id(owners, indexes), indexes],
        ),
        _Rows(
            table="user_tags",
            columns="owner_user_id, tag_id, target_user_id, owner_revision, created_at",
            line=f"%d\t%d\t%d\t{REVISION}\t{YEAR}\n",
            values=[given.owner, _tag_id(given.owner, given.index), given.target],
        ),
        _post_rows(posts),
        _audience_rows(posts),
        _photo_rows(posts),
        *_comment_rows(posts),
        _totals({POSTS: int((~posts.is_deleted).sum())}),
    ]


def _post_rows(posts: Posts) -> _Rows:
    random = Random(SEED)
    bodies = np.array(
        [" ".join(random.choices(_WORDS, k=random.randint(4, 80))) for _ in range(_BODIES)], object
    )
    ids = _post_ids(posts)
    end = YEAR + np.timedelta64(YEAR_MICROSECONDS, "us")
    return _Rows(
        table="posts",
        columns="author_id, id, body, audience, importance, importance_given, created_at,"
        " deleted_at",
        line="%d\t%d\t%s\t%s\t%d\tt\t%s\t%s\n",
        values=[
            posts.author,
            ids,
            bodies[ids % _BODIES],
            _AUDIENCES[posts.audience],
            posts.importance,
            _times(posts),
            np.array(["\\N", str(end)], object)[posts.is_deleted.astype(int)],
        ],
    )


def _audience_rows(posts: Posts) -> _Rows:
    ids, most = _post_ids(posts), int(posts.tag_count.max(initial=0))
    named = [(posts.tag_count > number, posts.tag_index(number), "f") for number in range(most)]
    named.append((posts.excluded_tag >= 0, posts.excluded_tag, "t"))
    return _Rows(
        table="post_audience_tags",
        columns="author_id, post_id, tag_id, excluded, created_at",
        line="%d\t%d\t%d\t%s\t%s\n",
        values=[
            np.concatenate([posts.author[has] for has, _, _ in named]),
            np.concatenate([ids[has] for has, _, _ in named]),
            np.concatenate([_tag_id(posts.author[has], index[has]) for has, index, _ in named]),
            np.concatenate([np.full(int(has.sum()), excluded) for has, _, excluded in named]),
            np.concatenate([_times(posts)[has] for has, _, _ in named]),
        ],
    )


def _photo_rows(posts: Posts) -> _Rows:
    ids = _post_ids(posts)
    shown = [
        (np.flatnonzero((posts.photo_count > index) & ~posts.is_deleted), index)
        for index in range(int(posts.photo_count.max(initial=0)))
    ]
    rows = np.concatenate([found for found, _ in shown])
    indexes = np.concatenate([np.full(len(found), index) for found, index in shown])
    return _Rows(
        table="post_photos",
        columns="author_id, post_id, place, object_key",
        line="%d\t%d\t%d\tphotos/%d/%031x%d.jpg\n",
        values=[posts.author[rows], ids[rows], indexes, posts.author[rows], ids[rows], indexes],
    )


def _comment_rows(posts: Posts) -> list[_Rows]:
    """Return the comments, all by the authors of the posts, and how many each post has."""
    ids, commented = _post_ids(posts), posts.comment_count > 0
    author = np.repeat(posts.author, posts.comment_count)
    return [
        _Rows(
            table="comments",
            columns="post_author_id, post_id, id, author_id, body, created_at",
            line="%d\t%d\t%d\t%d\tindeed\t%s\n",
            values=[
                author,
                np.repeat(ids, posts.comment_count),
                np.arange(1, len(author) + 1),
                author,
                np.repeat(_times(posts), posts.comment_count),
            ],
        ),
        _Rows(
            table="post_stats",
            columns="author_id, post_id, comment_count",
            line="%d\t%d\t%d\n",
            values=[posts.author[commented], ids[commented], posts.comment_count[commented]],
        ),
    ]


def _totals(values: dict[str, int]) -> _Rows:
    return _Rows(
        table="totals",
        columns="name, slot, value",
        line="%s\t0\t%d\n",
        values=[np.array(list(values), object), np.array(list(values.values()))],
    )


def _post_ids(posts: Posts) -> npt.NDArray[np.int64]:
    return np.arange(1, len(posts.author) + 1)


def _times(posts: Posts) -> npt.NDArray[np.datetime64]:
    return np.asarray(YEAR + posts.time.astype("timedelta64[us]"))


def _tag_id(owner: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return owner * TAGS_PER_OWNER + index


def _summary(world: World) -> dict[str, Any]:
    return {
        "viewers": [asdict(viewer) for viewer in world.viewers],
        "ordinary_ids": world.ordinary_ids[:_REMEMBERED_PEOPLE].tolist(),
    }


def _fingerprint(size: Size) -> dict[str, Any]:
    """Return what makes another data set when it changes."""
    sources = [Path(world_module.__file__), Path(__file__)]
    return {
        "size": json.loads(json.dumps(asdict(size))),
        "seed": SEED,
        "generator": hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest(),
        "schema": [schema.head("graph"), schema.head("feed")],
    }


def _url(cluster: EmbeddedPostgres, service: str, name: str) -> str:
    return cluster.url(f"kith_{service}_{name}")
