"""People who move from one Kith to another, empty one have there what they had here."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kith.cli.commands import main
from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support import photos
from tests.support.browser import get, post_form
from tests.support.credentials import Issuer, put
from tests.support.examples import seeds
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import ALL, PRIVATE, People, all_without, tagged
from tests.support.s3 import S3Server
from tests.support.secured import SecuredPair, bearer, secured_pair

_PEOPLE: Final = 5
_STEPS: Final = 70
# What another Kith gives anew.
_ANEW: Final = {"etag", "url", "expireTime", "key"}
_NOT_CARRIED: Final = {"read_time", "frozen_digests"}
_DONE, _ROWS_REFUSED = 0, 3

Kith = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A pair with an object store of its own."""

    pair: Pair
    store: S3Server


@pytest.fixture(scope="module")
def here(databases: Databases) -> Iterator[Side]:
    """Where people live."""
    with S3Server() as store, running_pair(databases, store.environment) as pair:
        yield Side(pair=pair, store=store)


@pytest.fixture(scope="module")
def there(databases: Databases) -> Iterator[Side]:
    """Where nobody of them has been."""
    with S3Server() as store, running_pair(databases, store.environment) as pair:
        yield Side(pair=pair, store=store)


@pytest.fixture
def kith(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kith:
    """Runs a command on a pair; returns its status, its output and its errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(pair: Pair | SecuredPair, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("GRAPH_TARGET", pair.graph_server.address)
        monkeypatch.setenv("FEED_TARGET", pair.feed_server.address)
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@dataclass
class _Life:
    """A random life of a few people."""

    pair: Pair
    random: Random
    ids: list[int] = field(init=False)
    tags: list[tuple[int, int]] = field(default_factory=list)
    posts: list[tuple[int, int]] = field(default_factory=list)
    comments: list[feed.Comment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.people = People(self.pair)
        self.ids = self.people.new(_PEOPLE)

    def live(self) -> None:
        """Do many things, of which those that are refused do not matter."""
        steps = (
            *(self._connect, self._connect, self._request, self._remove, self._block),
            *(self._tag, self._give, self._give, self._mute, self._delete_tag),
            *(self._post, self._post, self._edit, self._delete_post, self._hide),
            *(self._comment, self._comment, self._reply, self._reply, self._hide_comment),
            *(self._hide_own_comment, self._close_comments),
        )
        for _ in range(_STEPS):
            with suppress(grpc.RpcError, IndexError):
                self.random.choice(steps)()

    def _two(self) -> tuple[int, int]:
        first, second = self.random.sample(self.ids, 2)
        return first, second

    def _connect(self) -> None:
        first, second = self._two()
        self.pair.graph.RequestConnection(
            graph.RequestConnectionRequest(user_id=first, peer_id=second)
        )
        self.pair.graph.AcceptConnection(
            graph.AcceptConnectionRequest(user_id=second, peer_id=first)
        )

    def _request(self) -> None:
        first, second = self._two()
        self.pair.graph.RequestConnection(
            graph.RequestConnectionRequest(user_id=first, peer_id=second)
        )

    def _remove(self) -> None:
        self.people.remove(*self._two())

    def _block(self) -> None:
        if self.random.random() < 0.3:
            self.people.block(*self._two())

    def _tag(self) -> None:
        owner = self.random.choice(self.ids)
        self.tags.append((owner, self.people.tag(owner, f"tag {len(self.tags)}")))

    def _mute(self) -> None:
        owner, tag = self.random.choice(self.tags or [(self.ids[0], 1)])
        changed = feed.Tag(tag_id=tag, muted=True)
        if self.random.random() < 0.5:
            changed.mute_until.FromDatetime(datetime.now(UTC) + timedelta(days=1))
        self.pair.feed.UpdateTag(
            feed.UpdateTagRequest(
                user_id=owner, tag=changed, update_mask=FieldMask(paths=["muted", "mute_until"])
            )
        )

    def _give(self) -> None:
        owner, tag = self.random.choice(self.tags or [(self.ids[0], 1)])
        self.people.give(owner, tag, self.random.choice([id_ for id_ in self.ids if id_ != owner]))

    def _delete_tag(self) -> None:
        owner, tag = self.random.choice(self.tags or [(self.ids[0], 1)])
        self.pair.feed.DeleteTag(feed.DeleteTagRequest(user_id=owner, tag_id=tag))

    def _post(self) -> None:
        author = self.random.choice(self.ids)
        own = [tag for owner, tag in self.tags if owner == author]
        self.random.shuffle(own)
        audience = self.random.choice(
            [ALL, PRIVATE, tagged(*own[:1], without=tuple(own[1:2])), all_without(*own[:1])]
        )
        post = self.people.post(author, audience, body=f"post {len(self.posts)}")
        self.posts.append((author, post))

    def _edit(self) -> None:
        author, post = self.random.choice(self.posts or [(self.ids[0], 1)])
        self.pair.feed.UpdatePost(
            feed.UpdatePostRequest(
                user_id=author,
                post=feed.Post(post_id=post, attributes={"place": "Zürich"}),
                update_mask=FieldMask(paths=["attributes"]),
            )
        )

    def _delete_post(self) -> None:
        author, post = self.random.choice(self.posts or [(self.ids[0], 1)])
        self.pair.feed.DeletePost(feed.DeletePostRequest(user_id=author, post_id=post))

    def _hide(self) -> None:
        author, post = self.random.choice(self.posts or [(self.ids[0], 1)])
        self._moderate(feed.PostName(author_id=author, post_id=post), 0)

    def _hide_comment(self) -> None:
        comment = self.random.choice(self.comments)
        self._moderate(comment.post, comment.comment_id)

    def _moderate(self, post: feed.PostName, comment_id: int) -> None:
        state = self.random.choice([feed.MODERATION_STATE_HIDDEN, feed.MODERATION_STATE_VISIBLE])
        self.pair.feed.SetModeration(
            feed.SetModerationRequest(
                post=post,
                comment_id=comment_id,
                state=state,
                reason="spam" if state == feed.MODERATION_STATE_HIDDEN else "",
            )
        )

    def _reply(self) -> None:
        parent = self.random.choice(self.comments)
        request = feed.CreateCommentRequest(
            user_id=self.random.choice(self.ids),
            post=parent.post,
            body="a reply",
            parent_comment_id=parent.comment_id,
        )
        self.comments.append(self.pair.feed.CreateComment(request).comment)

    def _hide_own_comment(self) -> None:
        own = [each for each in self.comments if each.author_id == each.post.author_id]
        comment = self.random.choice(own)
        self.pair.feed.HideComment(
            feed.HideCommentRequest(
                user_id=comment.author_id,
                post_id=comment.post.post_id,
                comment_id=comment.comment_id,
            )
        )

    def _close_comments(self) -> None:
        author, post = self.random.choice(self.posts)
        own = [tag for owner, tag in self.tags if owner == author]
        kind = self.random.choice([feed.COMMENT_POLICY_KIND_NOBODY, feed.COMMENT_POLICY_KIND_TAGS])
        is_by_tags = kind == feed.COMMENT_POLICY_KIND_TAGS
        policy = feed.CommentPolicy(kind=kind, tag_ids=own[:2] if is_by_tags else [])
        self.pair.feed.UpdatePost(
            feed.UpdatePostRequest(
                user_id=author,
                post=feed.Post(
                    post_id=post,
                    comment_policy=policy,
                    comments_locked=self.random.random() < 0.3,
                ),
                update_mask=FieldMask(paths=["comment_policy", "comments_locked"]),
            )
        )

    def _comment(self) -> None:
        author, post = self.random.choice(self.posts or [(self.ids[0], 1)])
        request = feed.CreateCommentRequest(
            user_id=self.random.choice(self.ids),
            post=feed.PostName(author_id=author, post_id=post),
            body="a comment\nof two lines",
        )
        self.comments.append(self.pair.feed.CreateComment(request).comment)


def _rows(document: Path) -> list[tuple[str, Any]]:
    rows = [json.loads(line) for line in document.read_text().splitlines()]
    return [(name, value) for row in rows[1:-1] for name, value in row.items()]


def _comparable(documents: dict[int, Path]) -> dict[int, list[tuple[str, Any]]]:
    """Return what is in documents, with positions in place of ids; comments of deleted posts out.

    A comment under a post that is deleted has no post in any document.
    """
    rows = {user: _carried(_rows(document)) for user, document in documents.items()}
    posts: dict[tuple[str, ...], str] = {
        (value["authorId"], value["postId"]): f"post {value['authorId']} {number}"
        for found in rows.values()
        for number, value in enumerate(value for name, value in found if name == "posts")
    }
    for user, found in rows.items():
        written = (value for name, value in found if name == "comments" and _post(value) in posts)
        for number, value in enumerate(written):
            posts[*_post(value), value["commentId"]] = f"comment {user} {number}"
    told = dict[int, list[tuple[str, Any]]]()
    for user, found in rows.items():
        tags = [value["tagId"] for name, value in found if name == "tags"]
        told[user] = [
            (name, _without_ids(value, tags, posts))
            for name, value in found
            if not (name == "comments" and _post(value) not in posts)
        ]
    return told


def _carried(rows: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return what a move carries, with the comments by time: those that had to wait have later ids.

    A deleted tag goes with the posts that exclude by it, and a deleted post stays behind.
    """
    excluding = {
        tag_id
        for name, value in rows
        if name == "posts"
        for tag_id in value["audience"].get("excludedTagIds", ())
    }
    left = {
        value["tagId"]
        for name, value in rows
        if name == "tags" and "deleteTime" in value and value["tagId"] not in excluding
    }
    kept = [row for row in rows if row[0] not in _NOT_CARRIED and row[1].get("tagId") not in left]
    return sorted(kept, key=lambda row: row[1]["createTime"] if row[0] == "comments" else "")


def _post(comment: Any) -> tuple[str, str]:
    return comment["post"]["authorId"], comment["post"]["postId"]


def _without_ids(value: Any, tags: list[str], posts: dict[tuple[str, ...], str]) -> Any:
    if isinstance(value, list):
        return [_without_ids(item, tags, posts) for item in value]
    if not isinstance(value, dict):
        return value
    told = {
        name: _without_ids(item, tags, posts)
        for name, item in value.items()
        if name not in _ANEW | {"postId", "commentId"}
    }
    for name in ("tagId", "tagIds", "excludedTagIds"):
        if name in told:
            ids = told[name] if isinstance(told[name], list) else [told[name]]
            told[name] = [tags.index(id_) for id_ in ids]
    if "parentCommentId" in value:
        told["parentCommentId"] = posts[*_post(value), value["parentCommentId"]]
    if "postId" in value:
        told["post"] = posts[value["authorId"], value["postId"]]
    return told


def _seen(side: Side, ids: list[int]) -> dict[tuple[int, int], list[tuple[str, list[str]]]]:
    """Return each one's feed, and which posts and comments each one sees of each other one."""
    feeds = {
        (viewer, 0): [
            (post.body, list[str]())
            for post in side.pair.feed.GetFeed(
                feed.GetFeedRequest(user_id=viewer, page_size=100)
            ).posts
        ]
        for viewer in ids
    }
    return feeds | {
        (viewer, author): [
            (post.body, _comments(side, viewer, author, post.post_id))
            for post in side.pair.feed.ListPosts(
                feed.ListPostsRequest(user_id=viewer, author_id=author, page_size=100)
            ).posts
        ]
        for viewer in ids
        for author in ids
    }


def _comments(side: Side, viewer: int, author: int, post: int) -> list[str]:
    request = feed.ListCommentsRequest(
        user_id=viewer, post=feed.PostName(author_id=author, post_id=post)
    )
    return [
        f"{comment.author_id} {comment.create_time.ToJsonString()} {comment.body}"
        for comment in side.pair.feed.ListComments(request).comments
    ]


def _exported(kith: Kith, side: Side, ids: list[int], folder: Path) -> dict[int, Path]:
    folder.mkdir()
    documents = {user: folder / f"{user}.jsonl" for user in ids}
    for user, document in documents.items():
        assert kith(side.pair, "export", "user", user, document) == (_DONE, "", "")
    return documents


# In both, replies wait for their comments, and a deleted tag for a deleted post.
@pytest.mark.parametrize("seed", seeds(11, 15))
def test_people_who_move_have_and_show_there_what_they_did_here(
    kith: Kith, here: Side, there: Side, tmp_path: Path, seed: int
) -> None:
    life = _Life(here.pair, Random(seed))
    life.live()
    documents = _exported(kith, here, life.ids, tmp_path / "here")

    # Comments under posts of people who come later wait for the second time.
    for _ in range(2):
        order = life.random.sample(life.ids, _PEOPLE)
        ends = [kith(there.pair, "import", "user", documents[user]) for user in order]

    assert {status for status, _, _ in ends} <= {_DONE, _ROWS_REFUSED}
    assert all("post_external_id" in error for status, _, error in ends if status != _DONE)
    again = _exported(kith, there, life.ids, tmp_path / "there")
    assert _comparable(again) == _comparable(documents)
    assert _seen(there, life.ids) == _seen(here, life.ids)


def _upload(
    side: Side, user: int, content_type: feed.PhotoContentType.ValueType, content: bytes
) -> str:
    draft = feed.CreatePhotoUploadsRequest.PhotoUploadDraft(content_type=content_type)
    request = feed.CreatePhotoUploadsRequest(user_id=user, photos=[draft])
    [upload] = side.pair.feed.CreatePhotoUploads(request).uploads
    assert post_form(upload.url, upload.fields, content).status == 204
    return upload.key


@pytest.fixture
def photographer(here: Side) -> int:
    """Somebody with a post of photos alone, in two formats."""
    people = People(here.pair)
    [user] = people.new(1)
    keys = [
        _upload(here, user, feed.PHOTO_CONTENT_TYPE_PNG, photos.plain("image/png")),
        _upload(here, user, feed.PHOTO_CONTENT_TYPE_JPEG, photos.plain("image/jpeg", number=1)),
    ]
    here.pair.feed.CreatePost(
        feed.CreatePostRequest(
            user_id=user, audience=ALL, photo_keys=keys, alt_texts=["a garden", ""]
        )
    )
    people.post(user, body="without photos")
    return user


def _posts(side: Side, user: int) -> list[feed.Post]:
    request = feed.ListPostsRequest(user_id=user, author_id=user)
    return list(side.pair.feed.ListPosts(request).posts)


def test_photos_move_through_a_folder(
    kith: Kith, here: Side, there: Side, tmp_path: Path, photographer: int
) -> None:
    document, folder = tmp_path / "person.jsonl", tmp_path / "photos"
    assert kith(here.pair, "export", "user", photographer, document, "--photos", folder)[0] == _DONE

    moved = kith(there.pair, "import", "user", document, "--photos", folder)
    again = kith(there.pair, "import", "user", document, "--photos", folder)

    assert (moved[0], again[0]) == (_DONE, _DONE)
    assert "2 posts" in moved[1]
    assert "2 there already" in again[1]
    [_, before], [_, after] = _posts(here, photographer), _posts(there, photographer)
    assert len(after.photos) == 2
    for old, new in zip(before.photos, after.photos, strict=True):
        assert photos.pixels(get(new.url).body) == photos.pixels(get(old.url).body)
        assert (new.width, new.height, new.alt_text) == (old.width, old.height, old.alt_text)
        assert new.key != old.key


def test_a_post_whose_photos_are_missing_is_refused_by_its_line_and_can_follow(
    kith: Kith, here: Side, there: Side, tmp_path: Path, photographer: int
) -> None:
    document, folder = tmp_path / "person.jsonl", tmp_path / "photos"
    assert kith(here.pair, "export", "user", photographer, document, "--photos", folder)[0] == _DONE

    without = kith(there.pair, "import", "user", document)
    after_first = len(_posts(there, photographer))
    complete = kith(there.pair, "import", "user", document, "--photos", folder)

    assert without[0] == _ROWS_REFUSED
    assert "1 refused" in without[2]
    assert "line 2: the post has photos; pass their folder with --photos" in without[2]
    assert after_first == 1
    assert complete[0] == _DONE
    assert len(_posts(there, photographer)) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:-1], "it was cut off"),
        (lambda lines: [lines[0], *lines[2:]], "lacks lines, or has too many"),
        (lambda lines: lines[1:], "line 1 is not the beginning of an export of a person"),
        (lambda lines: lines[:0], "line 1 is not"),
        (lambda lines: [lines[0].replace('"format": 1', '"format": 2')], "has format 2"),
        (lambda lines: [lines[0], '{"likes": {}}\n'], "knows no section 'likes'"),
        (lambda lines: [lines[0], '{"tags": {"tagId": "x"}}\n'], "line 2 is not valid"),
        (lambda lines: [lines[0], "[]\n"], "line 2 is not a JSON object with one member"),
        (
            lambda lines: [
                lines[0],
                '{"posts": {"authorId": "1"}}\n',
                '{"end": {"lines": 1}}\n',
            ],
            "line 2: person 1 has",
        ),
        (lambda lines: [*lines, lines[-1]], "is the last one of the document, but more follow"),
    ],
)
def test_a_document_that_is_not_whole_is_told_in_one_line(
    kith: Kith,
    here: Side,
    there: Side,
    tmp_path: Path,
    change: Callable[[list[str]], list[str]],
    told: str,
) -> None:
    people = People(here.pair)
    [user] = people.new(1)
    people.post(user)
    people.post(user)
    document = tmp_path / "person.jsonl"
    kith(here.pair, "export", "user", user, document)
    document.write_text("".join(change(document.read_text().splitlines(keepends=True))))

    status, _, error = kith(there.pair, "import", "user", document)

    assert status == 1
    assert told in error
    assert error.startswith("kith: ")
    assert error.count("\n") == 1


def test_a_tag_that_cannot_be_imported_stops_before_the_posts_that_exclude_by_it(
    kith: Kith, here: Side, there: Side, tmp_path: Path
) -> None:
    people = People(here.pair)
    user, friend = people.connected(2)
    tag = people.tag(user, "hidden from", friend)
    people.post(user, all_without(tag))
    document = tmp_path / "person.jsonl"
    kith(here.pair, "export", "user", user, document)
    People(there.pair).tag(user, "Hidden From")

    status, _, error = kith(there.pair, "import", "user", document)

    assert status == 1
    assert "line 3: INVALID_FIELD: name must not be the name of another tag of the owner" in error
    assert _posts(there, user) == []


def test_documents_of_two_systems_do_not_meet(
    kith: Kith, here: Side, there: Side, tmp_path: Path
) -> None:
    people = People(here.pair)
    [user] = people.new(1)
    people.post(user)
    document = tmp_path / "person.jsonl"
    kith(here.pair, "export", "user", user, document)

    ends = [
        kith(there.pair, "import", "user", document, "--source", source)
        for source in ("old", "older", "old")
    ]

    assert [status for status, _, _ in ends] == [_DONE] * 3
    assert len(_posts(there, user)) == 2


@pytest.fixture(scope="module")
def secured(databases: Databases, issuer: Issuer) -> Iterator[SecuredPair]:
    """A pair whose callers show tokens."""
    token = issuer.jwks.parent / "feed.token"
    put(token, issuer.token("feed").encode())
    graph_settings = {**issuer.environment, "AUTH_SERVICES": "feed,mover"}
    feed_settings = {**graph_settings, "TARGET_TOKEN_FILE": str(token)}
    with secured_pair(databases, graph=graph_settings, feed=feed_settings) as pair:
        yield pair


def test_users_move_themselves_out_and_services_move_them_in(
    kith: Kith,
    secured: SecuredPair,
    issuer: Issuer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user, other = 4_400_001, 4_400_002
    token, document = tmp_path / "token", tmp_path / "person.jsonl"
    monkeypatch.setenv("TARGET_TOKEN_FILE", str(token))

    def as_caller(subject: str | int, *arguments: object) -> tuple[int, str, str]:
        put(token, issuer.token(subject).encode())
        return kith(secured, *arguments)

    with secured.clients() as clients:
        clients.feed.CreatePost(
            feed.CreatePostRequest(user_id=user, body="mine", audience=ALL),
            metadata=bearer(issuer.token(user)),
        )
    out = as_caller(user, "export", "user", user, document)
    of_other = as_caller(user, "export", "user", other)
    by_service = as_caller("mover", "export", "user", user)
    back = as_caller(user, "import", "user", document)
    back_by_service = as_caller("mover", "import", "user", document)

    assert out == (_DONE, "", "")
    assert by_service[1] == document.read_text()
    assert (of_other[0], back[0]) == (1, 1)
    assert "NOT_PERMITTED" in of_other[2]
    assert "NOT_PERMITTED" in back[2]
    assert back_by_service[0] == _DONE
