"""Each write of a distributed database that has another form does what the plain one does."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy
from sqlalchemy import Connection

from feed_service import queries
from feed_service.layouts import DISTRIBUTED, SINGLE, Layout
from feed_service.queries.comments import NO_COMMENT
from feed_service.queries.imported_tags import ImportedTag
from feed_service.queries.photos import NewPhoto
from feed_service.queries.posts import Audience, CommentPolicy, PostRow
from tests.support.pair import Databases

_AUTHOR, _COMMENTER = 1, 2


@pytest.fixture(params=[SINGLE, DISTRIBUTED], ids=lambda layout: layout.name)
def layout(request: pytest.FixtureRequest) -> Layout:
    assert isinstance(request.param, Layout)
    return request.param


@pytest.fixture
def connection(databases: Databases, layout: Layout) -> Iterator[Connection]:
    """A connection to a database of its own, in one transaction.

    It is Citus where there is one; what is said to Citus a single PostgreSQL understands as well.
    """
    new = databases.new if layout is DISTRIBUTED else databases.new_single
    engine = sqlalchemy.create_engine(new("feed"), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connected:
        yield connected


def _post(connection: Connection, layout: Layout, audience: Audience) -> PostRow:
    return layout.insert_post(
        connection,
        author_id=_AUTHOR,
        body="hello",
        audience=audience,
        photos=[NewPhoto("a", 3, 4, "a cat"), NewPhoto("b", 5, 6)],
        attributes={"place": "Zürich"},
        comment_policy=CommentPolicy(),
        totals={"posts": 1},
    )


def test_a_new_post_is_read_as_it_was_returned(connection: Connection, layout: Layout) -> None:
    family, work = (
        queries.tags.insert_tag(connection, owner_user_id=_AUTHOR, name=name, mute=None)
        for name in ("family", "work")
    )

    stored = _post(
        connection, layout, Audience(kind="tags", tag_ids=[family], excluded_tag_ids=[work])
    )

    name = (_AUTHOR, stored.id)
    read = queries.posts.own_post(connection, name=name)
    assert read is not None
    assert read._replace(photos=[tuple(photo) for photo in read.photos]) == stored


def test_only_tags_that_their_owners_have_are_locked(
    connection: Connection, layout: Layout
) -> None:
    tag = queries.tags.insert_tag(connection, owner_user_id=_AUTHOR, name="family", mute=None)

    names = {(_AUTHOR, tag), (_AUTHOR, tag + 1), (_COMMENTER, tag)}

    assert layout.lock_tags(connection, names=names) == {(_AUTHOR, tag)}


def test_only_tags_that_were_imported_for_their_owners_are_locked(
    connection: Connection, layout: Layout
) -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    tags = [
        ImportedTag(
            owner_id=_AUTHOR,
            external_id=external_id,
            name=external_id,
            created_at=moment,
            deleted_at=deleted_at,
            mute=None,
        )
        for external_id, deleted_at in (("family", None), ("gone", moment))
    ]
    queries.imported_tags.insert_tags(connection, tags=tags)
    keys = {(_AUTHOR, "family"), (_AUTHOR, "gone"), (_AUTHOR, "x"), (_COMMENTER, "family")}

    found = layout.lock_imported_tags(connection, keys=keys)

    assert {key: tag.is_deleted for key, tag in found.items()} == {
        (_AUTHOR, "family"): False,
        (_AUTHOR, "gone"): True,
    }


def test_comments_are_counted_off_as_they_are_erased(
    connection: Connection, layout: Layout
) -> None:
    post = (_AUTHOR, _post(connection, layout, Audience(kind="all")).id)
    for _ in range(3):
        queries.comments.insert_comment(connection, post=post, author_id=_COMMENTER, body="hi")

    def shown() -> int:
        read = queries.posts.own_post(connection, name=post)
        assert read is not None
        return read.comment_count

    erased = [layout.hide_comments(connection, user_id=_COMMENTER, limit=2)[0], shown()]
    erased += [layout.hide_comments(connection, user_id=_COMMENTER, limit=2)[0], shown()]

    assert erased == [2, 1, 1, 0]


def test_replies_are_counted_off_with_the_comment_that_is_erased(
    connection: Connection, layout: Layout
) -> None:
    post = (_AUTHOR, _post(connection, layout, Audience(kind="all")).id)

    def insert(author_id: int, parent_id: int = NO_COMMENT) -> int:
        return queries.comments.insert_comment(
            connection, post=post, author_id=author_id, body="hi", parent_id=parent_id
        ).id

    erased, stays = insert(_COMMENTER), insert(_AUTHOR)
    replies = [insert(_AUTHOR, parent_id) for parent_id in (erased, erased, stays)]
    insert(_COMMENTER, stays)

    hidden, others = layout.hide_comments(connection, user_id=_COMMENTER, limit=500)
    assert hidden == 2
    assert others == {(*post, reply): _AUTHOR for reply in replies[:2]}

    read = queries.posts.own_post(connection, name=post)
    assert read is not None
    assert read.comment_count == 2
