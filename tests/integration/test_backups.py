"""What docs/backups.md says is done here, by the commands that it gives, on a server of its own.

A backup is restored there, the services are started on it, and what users see is what it says.
"""

import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.cli.__main__ import main
from shared.database.embedded_postgres import EmbeddedPostgres, binaries
from tests.support import photos
from tests.support.browser import Answer, get, post_form
from tests.support.memory import folder_for_postgres
from tests.support.pair import ENVIRONMENT, Cluster, Databases, Pair, running_pair_on
from tests.support.people import ALL, PRIVATE, People, all_without, tagged
from tests.support.processes import Session, until
from tests.support.roles import make_roles, owner
from tests.support.s3 import S3Server

_ROOT: Final = Path(__file__).parents[2]
_GUIDE: Final = (_ROOT / "docs" / "backups.md").read_text(encoding="utf-8")
_SERVICES: Final = ("graph", "feed")
# A Citus is backed up by its own means.
_SETTINGS: Final = {"FEED_LAYOUT": "single", "WATCH_HEARTBEAT_SECONDS": "1"}

Urls = Mapping[str, str]


def _commands(heading: str) -> list[str]:
    """Return what a section of the guide tells to run, one text for each block."""
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", _GUIDE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^ *```sh\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)


def _run(commands: str, folder: Path, **environment: str) -> None:
    """Run them where the backups are, with Kith's own programs and those of PostgreSQL."""
    (folder / "deploy").unlink(missing_ok=True)
    (folder / "deploy").symlink_to(_ROOT / "deploy")
    path = os.pathsep.join([str(binaries()), sysconfig.get_path("scripts"), os.environ["PATH"]])
    ran = subprocess.run(
        ["/bin/bash", "-euc", commands],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, "PATH": path, **environment},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout


def _plain(url: str) -> str:
    # What the services' URLs add for SQLAlchemy is nothing to libpq.
    return (
        sqlalchemy.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    )


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[EmbeddedPostgres]:
    """A new server, without a role of Kith's."""
    with (
        folder_for_postgres() as directory,
        EmbeddedPostgres(directory / "postgres") as running,
    ):
        yield running


@dataclass(frozen=True, kw_only=True)
class Backups:
    """Makes backups and restores them on another server, as the guide says."""

    server: EmbeddedPostgres
    folder: Path

    def make(self, pair: Pair) -> None:
        """Back up both databases of a pair."""
        [commands] = _commands("What to back up")
        urls = {"graph": pair.graph_url, "feed": pair.feed_url}
        owners = {name: _plain(owner(name, url)) for name, url in urls.items()}
        _run(commands, self.folder, GRAPH_URL=owners["graph"], FEED_URL=owners["feed"])

    def restore(self, *services: str) -> dict[str, str]:
        """Restore databases; returns their URLs."""
        in_database, _ = _commands("Restore")
        server = sqlalchemy.make_url(_plain(self.server.url("postgres")))._replace(database=None)
        urls = {}
        for service in services:
            url = self.server.url("postgres")
            _drop(url, f"kith_{service}")
            _run(
                in_database,
                self.folder,
                SERVICE=service,
                SERVER=server.render_as_string(hide_password=False),
            )
            urls[service] = self.server.url(f"kith_{service}")
            # Once more, to give the roles their passwords.
            make_roles(service, urls[service])
        return urls

    def examine(self, urls: Urls) -> None:
        """Migrate what was restored, and let the doctor look at it."""
        _, on_both = _commands("Restore")
        owners = {f"{name.upper()}_DATABASE_URL": owner(name, url) for name, url in urls.items()}
        _run(on_both, self.folder, **owners)


def _drop(url: str, database: str) -> None:
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {database}")


@pytest.fixture
def backups(elsewhere: EmbeddedPostgres, tmp_path: Path) -> Backups:
    return Backups(server=elsewhere, folder=tmp_path)


def _new_urls(databases: Databases) -> Urls:
    """Return the URLs of two databases that will be lost."""
    return {service: databases.new_single(service) for service in _SERVICES}


@contextmanager
def _running(urls: Urls, **environment: str) -> Iterator[Pair]:
    with running_pair_on(urls, {**_SETTINGS, **environment}) as pair:
        yield pair


def _cursor(url: str) -> str:
    """Return how far feed_service has followed; empty before it begins."""
    with Session(url) as session:
        rows = session.rows("SELECT cursor FROM followed")
    return rows[0][0] if rows else ""


def _begun(url: str) -> bool:
    return bool(_cursor(url))


def _page(pair: Pair, user_id: int, token: str = "") -> feed_pb2.GetFeedResponse:
    """Return a page of two posts."""
    request = feed_pb2.GetFeedRequest(user_id=user_id, page_size=2, page_token=token)
    return pair.feed.GetFeed(request)


def _photos(page: feed_pb2.GetFeedResponse) -> list[Answer]:
    """Return the photos of a page as they are downloaded."""
    return [get(photo.url) for post in page.posts for photo in post.photos]


def _unsigned(page: feed_pb2.GetFeedResponse) -> list[feed_pb2.Post]:
    """Return the posts of a page without what is new with every answer."""
    for post in page.posts:
        for photo in post.photos:
            photo.ClearField("url")
            photo.ClearField("expire_time")
    return list(page.posts)


def _publish_photo(pair: Pair, author_id: int) -> None:
    draft = feed_pb2.CreatePhotoUploadsRequest.PhotoUploadDraft
    [upload] = pair.feed.CreatePhotoUploads(
        feed_pb2.CreatePhotoUploadsRequest(
            user_id=author_id, photos=[draft(content_type=feed_pb2.PHOTO_CONTENT_TYPE_PNG)]
        )
    ).uploads
    assert post_form(upload.url, upload.fields, photos.plain("image/png")).status == 204
    pair.feed.CreatePost(
        feed_pb2.CreatePostRequest(
            user_id=author_id, body="look", audience=ALL, photo_keys=[upload.key]
        )
    )


def test_users_see_on_what_was_restored_what_they_saw_before_and_go_on_from_there(
    databases: Databases, backups: Backups
) -> None:
    with S3Server() as store, _running(_new_urls(databases), **store.environment) as pair:
        people = People(pair)
        alice, bob, carol, dave = people.connected(4)
        people.block(carol, bob)
        tag = people.tag(alice, "friends", bob)
        for audience in (ALL, PRIVATE, tagged(tag), all_without(tag), ALL):
            people.post(alice, audience)
        _publish_photo(pair, alice)
        viewers = (alice, bob, carol, dave)
        firsts = [_page(pair, viewer) for viewer in viewers]
        seconds = [
            _page(pair, viewer, first.next_page_token)
            for viewer, first in zip(viewers, firsts, strict=True)
        ]
        shown = list(map(_photos, firsts))
        assert {photo.status for page in shown for photo in page} == {200}
        backups.make(pair)
        copy = replace(store, objects=dict(store.objects), bucket="another", port=0)

    restored = backups.restore(*_SERVICES)
    backups.examine(restored)
    with copy, _running(restored, **copy.environment) as pair:
        now = [_page(pair, viewer) for viewer in viewers]
        assert list(map(_photos, now)) == shown
        assert list(map(_unsigned, now)) == list(map(_unsigned, firsts))
        for viewer, first, second in zip(viewers, firsts, seconds, strict=True):
            assert _page(pair, viewer, first.next_page_token).posts == second.posts
        people = People(pair)
        people.remove(alice, dave)
        newest = people.post(alice, tagged(tag))

        assert [people.feed(viewer)[:1] for viewer in (bob, dave)] == [[newest], []]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Users with many changes since the backup.

    Alice was connected with bob and erin when it was made, and the author of posts for all, and for
    those who have a tag, which bob had and erin did not. A test goes on with one of the two
    databases at most, and no other goes on with that one.
    """

    urls: Urls
    backups: Backups
    alice: int
    bob: int
    carol: int
    dave: int
    erin: int
    for_all: int
    for_tagged: int
    without_kept: int
    deleted: int
    tag: int
    kept: int
    frank: int
    lost_post: int
    lost_tag: int


@pytest.fixture(scope="module")
def loss(
    databases: Databases, elsewhere: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Loss:
    """Backed up, then: bob is removed, carol new, dave erased, erin excluded, a post deleted.

    And frank has his first post and tag.
    """
    urls = _new_urls(databases)
    backups = Backups(server=elsewhere, folder=tmp_path_factory.mktemp("loss"))
    with _running(urls) as pair:
        people = People(pair)
        alice, bob, dave, erin = people.connected(4)
        carol, frank = people.new(2)
        tag, kept = people.tag(alice, "friends", bob), people.tag(alice, "kept out")
        loss = Loss(
            urls=urls,
            backups=backups,
            alice=alice,
            bob=bob,
            carol=carol,
            dave=dave,
            erin=erin,
            tag=tag,
            kept=kept,
            for_all=people.post(alice),
            for_tagged=people.post(alice, tagged(tag)),
            without_kept=people.post(alice, all_without(kept)),
            deleted=people.post(alice),
            frank=frank,
            lost_post=0,
            lost_tag=0,
        )
        people.post(dave)
        until(lambda: _begun(urls["feed"]))
        backups.make(pair)
        loss = replace(loss, lost_post=people.post(frank), lost_tag=people.tag(frank, "lost"))
        people.remove(alice, bob)
        people.connect(alice, carol)
        people.give(alice, tag, carol)
        people.give(alice, kept, erin)
        pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=dave))
        pair.feed.DeleteUser(feed_pb2.DeleteUserRequest(user_id=dave))
        pair.feed.DeletePost(feed_pb2.DeletePostRequest(user_id=alice, post_id=loss.deleted))
        until(lambda: _tagged(urls["feed"], bob) == [0])
    return loss


def _tagged(url: str, user_id: int) -> list[int]:
    """Return the revisions at which people were given tags; 0 for tags that have ended."""
    with Session(url) as session:
        rows = session.rows(
            f"SELECT owner_revision FROM user_tags WHERE target_user_id = {user_id}"
        )
    return [revision for (revision,) in rows]


def _posts_of(url: str, author_id: int) -> int:
    with Session(url) as session:
        return len(session.rows(f"SELECT 1 FROM posts WHERE author_id = {author_id}"))


def test_a_feed_that_is_ahead_of_the_graph_shows_no_more_than_the_graph_says(loss: Loss) -> None:
    before = _cursor(loss.urls["feed"])

    restored = {**loss.urls, **loss.backups.restore("graph")}

    with _running(restored) as pair:
        people = People(pair)
        until(lambda: _cursor(restored["feed"]) not in {before, ""})
        assert people.feed(loss.bob) == [loss.without_kept, loss.for_all]
        assert people.feed(loss.carol) == []
        assert people.feed(loss.erin) == [loss.for_all]
        people.connect(loss.alice, loss.carol)
        people.remove(loss.alice, loss.bob)
        people.connect(loss.alice, loss.bob)
        for viewer in (loss.bob, loss.carol):
            assert people.feed(viewer) == [loss.without_kept, loss.for_all]
        assert _posts_of(restored["feed"], loss.dave) == 0


def test_a_feed_that_is_behind_the_graph_catches_up_with_it(loss: Loss) -> None:
    restored = {**loss.urls, **loss.backups.restore("feed")}

    with _running(restored) as pair:
        people = People(pair)
        until(lambda: _posts_of(restored["feed"], loss.dave) == 0)
        until(lambda: _tagged(restored["feed"], loss.bob) == [0])
        everything = [loss.deleted, loss.without_kept, loss.for_all]
        assert people.feed(loss.bob) == []
        assert people.feed(loss.carol) == people.feed(loss.erin) == everything
        people.connect(loss.alice, loss.bob)
        assert people.feed(loss.bob) == everything


def test_a_backup_brings_back_who_was_erased_until_they_are_erased_again(loss: Loss) -> None:
    restored = loss.backups.restore(*_SERVICES)

    with _running(restored) as pair:
        dave = loss.dave
        came_back = _posts_of(restored["feed"], dave)
        pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=dave))
        pair.feed.DeleteUser(feed_pb2.DeleteUserRequest(user_id=dave))

        assert (came_back, _posts_of(restored["feed"], dave)) == (1, 0)


def test_nothing_new_has_the_id_of_what_the_backup_has_not_got(loss: Loss) -> None:
    restored = {**loss.urls, **loss.backups.restore("feed")}

    with _running(restored) as pair:
        people = People(pair)

        assert people.post(loss.frank) > loss.lost_post
        assert people.tag(loss.frank, "new") > loss.lost_tag


def test_the_doctor_fails_on_a_database_without_a_schema(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAGE_TOKEN_KEYS", ENVIRONMENT["PAGE_TOKEN_KEYS"])
    for service in _SERVICES:
        monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", cluster.url(f"ill_{service}"))

    status = main(["doctor"])

    assert status == 1
    assert "run `kith migrate`" in capsys.readouterr().out


def test_the_doctor_names_what_does_not_answer_and_fails_for_what_a_service_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("AUTH_JWKS", "http://127.0.0.1:1/keys")
    monkeypatch.setenv("AUTH_ISSUER", "issuer")
    monkeypatch.setenv("AUTH_AUDIENCE", "kith")
    for service in ("GRAPH", "FEED"):
        monkeypatch.setenv(f"{service}_TARGET", "127.0.0.1:1")

    status = main(["doctor"])

    said = capsys.readouterr()
    assert status == 1
    assert "failed: signing keys" in said.err
    for name in ("redis", "signing keys", "graph_service", "feed_service"):
        assert f"{name}: " in said.out
        assert f"{name}: good" not in said.out


def test_the_doctor_finds_services_that_are_ready(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRAPH_TARGET", pair.graph_server.address)
    monkeypatch.setenv("FEED_TARGET", pair.feed_server.address)

    status = main(["doctor"])

    assert status == 0
    assert capsys.readouterr().out.count("_service: good") == 2
